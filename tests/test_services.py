"""Pipelines inside Django and FastAPI: the examples, run as their readers would run them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import drive

EXAMPLES = Path(__file__).parents[1] / "examples"
ORDERS = "number,amount,placed,paid\n007,1.10,2026-01-02,true\n008,,,false\n009,20,,false\nbad,1,2,3,4\n"


def django(place: Path, *words: str, code: str = "") -> str:
    """What the example's manage.py (or a program beside it) says; its database and rejects lie in `place`."""
    env = {**os.environ, "SHOP_DB": str(place / "shop.sqlite3"), "PYTHONPATH": str(EXAMPLES / "django_shop"),
           "DJANGO_SETTINGS_MODULE": "settings", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}  # fmt: skip
    command = (
        [sys.executable, "-c", code] if code else [sys.executable, str(EXAMPLES / "django_shop/manage.py"), *words]
    )
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "orders.csv").write_text(ORDERS)
    django(tmp_path, "migrate", "--run-syncdb", "--verbosity", "0")
    return tmp_path


def stored(place: Path) -> list[Any]:
    connection = sqlite3.connect(place / "shop.sqlite3")
    try:
        return connection.execute("SELECT number, amount, placed, paid FROM shop_order ORDER BY number").fetchall()
    finally:
        connection.close()


def test_a_management_command_loads_a_file_and_can_be_run_again(shop: Path) -> None:
    expected = [("007", 1.1, "2026-01-02", 1), ("009", 20, None, 0)]
    for _ in range(2):
        said = django(shop, "load_orders", "orders.csv")
        assert said == "2 written, 1 without an amount, 1 set aside\n"
        assert stored(shop) == expected
    assert "5 fields, header has 4" in (shop / "rejects.csv").read_text()


SETUP = """
import asyncio, django; django.setup()
from shop.models import Order
from aiopipe import *
from aiopipe.django import *
"""


def test_a_queryset_becomes_a_file_in_a_running_loop_and_what_is_wrong_is_told(shop: Path) -> None:
    said = django(shop, code=SETUP + """
import threading
from asgiref.sync import sync_to_async
from django.db import connections

async def main():
    many = [{"number": f"{i:05}", "amount": f"{i}.50", "paid": "true" if i % 2 else ""} for i in range(5000)]
    try:
        await (Read(many) | Write(Save(Order))).run()
    except* AiopipeError as group:
        print(*(error.message for error in group.exceptions))
    many = [{**row, "paid": row["paid"] or "false"} for row in many]
    report = await (Read(many) | Write(Save(Order), batch=500)).run()
    print(report.written, await Order.objects.acount())
    paid = Order.objects.filter(paid=True).order_by("number")
    found = Read(rows(paid, "number", "amount", "placed", size=100))
    report = await (found | Filter("amount > 4990") | Write("paid.csv")).run()
    print(report.read, report.written)
    async with Read(rows(Order.objects.all(), size=10)).stream() as found:
        async for row in found:
            print(row["number"])
            break
    for wrong in ({"numbr": "1"}, {"number": "x", "amount": "much"}):
        try:
            await (Read([wrong]) | Write(Save(Order))).run()
        except* AiopipeError as group:
            print(*(str(error).splitlines()[0] for error in group.exceptions))
    print(len(asyncio.all_tasks()), [t.name for t in threading.enumerate() if t.name.startswith("aiopipe")])
    await sync_to_async(connections.close_all)()

asyncio.run(main())
""")  # fmt: skip
    lines = said.splitlines()
    assert "paid" in lines[0] and "must be either True or False" in lines[0]
    assert lines[1:4] == ["5000 5000", "2500 5", "00000"]
    assert "Order has no field 'numbr'" in lines[4] and "amount: 'much'" in lines[5]
    assert lines[6] == "1 []"
    assert (shop / "paid.csv").read_text().splitlines()[:2] == ["number,amount,placed", "04991,4991.50,"]


@pytest.fixture
def upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ORDERS_DB", str(tmp_path / "orders.sqlite3"))
    spec = spec_from_file_location("upload_example", EXAMPLES / "upload.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sent(app: Any, *pieces: bytes) -> httpx.Response:
    """The answer to an upload that comes in pieces."""

    async def body() -> Any:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/orders", content=body())

    return drive(main)


def orders(place: Path) -> list[Any]:
    connection = sqlite3.connect(place / "orders.sqlite3")
    try:
        return connection.execute("SELECT number, amount FROM orders ORDER BY number").fetchall()
    finally:
        connection.close()


def test_an_upload_goes_into_the_database_while_it_arrives(upload: Any, tmp_path: Path) -> None:
    rows = b"".join(b"%05d,%d,x\n" % (i, i % 3) for i in range(20_000))
    answer = sent(upload.app, b"number,amo", b"unt,note\n", *(rows[i : i + 1000] for i in range(0, len(rows), 1000)))
    assert answer.json() == {"read": 20_000, "stored": 13_333}
    assert orders(tmp_path)[:2] == [("00001", 1), ("00002", 2)] and len(orders(tmp_path)) == 13_333


def test_of_an_upload_with_a_fault_nothing_is_stored(upload: Any, tmp_path: Path) -> None:
    sent(upload.app, b"number,amount\nold,1\n")
    answer = sent(upload.app, b"number,amount\n" + b"new,1\n" * 3000, b"new,1,2\n")
    assert (
        answer.status_code == 422 and "<async_generator>:3002 (record 3001, byte 18014)" in answer.json()["detail"][0]
    )
    assert orders(tmp_path) == [("old", 1)]
