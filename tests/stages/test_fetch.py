"""`fetch` against a server that misbehaves: what is asked, what comes of it, and that nobody sees a secret."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from aiopipe import Breaker, Collect, Fetch, From, Read, RequestError, Retry, UsageError, Write
from aiopipe.errors import InputError
from aiopipe.pipefile import dumps
from aiopipe.stages._calls import PlainError
from aiopipe.stages._http import retry_after
from aiopipe.stages._paths import Wanted, path_of
from tests.hostile import HANG, RESET, Asked, Reply, Server, error, ok
from tests.support import drive, failure, rejects, write

QUICK = Retry(attempts=3, backoff=0.001, max_backoff=0.002)
CSV = 'id,name\n1,"a"\n"2",b c/d?\n3,ü&=\n'


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "in.csv", CSV)


def user(asked: Asked) -> Reply:
    return ok({"id": int(asked.name), "address": {"city": f"city {asked.name}"}, "tags": ["x", None]})


def only(name: str, *replies: Reply) -> Any:
    """A script: these replies for one record, one after the other and then the last again; good ones for others."""

    def script(asked: Asked) -> Reply:
        return replies[min(asked.nth, len(replies) - 1)] if asked.name == name else user(asked)

    return script


def fetch(server: Server, **options: Any) -> Fetch:
    given: dict[str, Any] = {"into": {"city": "$.address.city"}, "retries": QUICK, **options}
    return Fetch(server.url + given.pop("path", "/users/{id}"), **given)


# --- records in, columns out


def test_columns_are_added_and_all_other_bytes_stay(path: str, tmp_path: Path) -> None:
    with Server(user) as server:
        into = {"city": "$.address.city", "tags": "$.tags", "id": "$.id", "status": "status"}
        report = (Read(path) | fetch(server, into=into) | Write(f"{tmp_path}/out.csv")).run_sync()
    assert (tmp_path / "out.csv").read_text() == (
        'id,name,city,tags,status\n1,"a",city 1,"[""x"",null]",200\n2,b c/d?,city 2,"[""x"",null]",200\n'
        '3,ü&=,city 3,"[""x"",null]",200\n'
    )
    assert report.balanced and report.stages[2].counts == {"asked": 3}


def test_fields_are_quoted_as_a_url_needs_it_unless_told_otherwise(path: str) -> None:
    with Server(lambda asked: ok(1)) as server:
        (Read(path) | fetch(server, path="/a b/{name}/{{x}}?q={name:raw}&r=ä", into={}) | Collect()).run_sync()
        assert server.paths() == [
            "/a%20b/a/%7Bx%7D?q=a&r=%C3%A4",
            "/a%20b/b%20c%2Fd%3F/%7Bx%7D?q=b%20c/d?&r=%C3%A4",
            "/a%20b/%C3%BC%26%3D/%7Bx%7D?q=%C3%BC&=&r=%C3%A4",
        ]


def test_a_body_that_is_json_has_its_places_inside_its_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", 'text,n\n"say ""hi"" {x} \\",7\n"new\nline",\n')
    body = {"messages": [{"role": "user", "content": "In French: {text}"}], "n": "{n:json}", "b": "{{}}", "k": 1.5}
    with Server(lambda asked: ok({"said": json.loads(asked.body)})) as server:
        stage = fetch(server, path="/", body=body, into={"m": "$.said.messages[0].content", "n": "$.said.n"})
        assert stage.method == "POST"
        rows = (Read(path) | stage | Collect()).run_sync().items
        assert [r["m"] for r in rows] == ['In French: say "hi" {x} \\', "In French: new\nline"]
        assert [r["n"] for r in rows] == ["7", ""]
        assert json.loads(server.asked[0].body)["b"] == "{}"
        assert server.asked[0].headers["content-type"] == "application/json"


def test_answers_that_come_out_of_order_leave_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(100)))

    def script(asked: Asked) -> Reply:
        return Reply(200, b'{"address": {"city": "%s"}}' % asked.name.encode(), wait=0.001 * (-asked.number % 17))

    with Server(script) as server:
        rows = (Read(path) | fetch(server, concurrency=20) | Collect()).run_sync().items
        assert [(r["id"], r["city"]) for r in rows] == [(str(i), str(i)) for i in range(100)]
        assert 1 < server.peak <= 20


def test_files_without_records_get_the_columns_and_ask_nothing(tmp_path: Path) -> None:
    write(tmp_path / "in/empty.csv", "id\n")
    write(tmp_path / "in/void.csv", "")
    with Server(user) as server:
        (Read(tmp_path / "in") | fetch(server) | Write(f"{tmp_path}/out/")).run_sync()
        assert server.asked == []
    assert (tmp_path / "out/empty.csv").read_text() == "id,city\n"
    assert (tmp_path / "out/void.csv").read_text() == ""


def test_rows_from_a_program_are_enriched_as_well() -> None:
    with Server(only("2", error(404))) as server:
        rows = [{"id": 1, "x": None}, {"id": "2", "x": 3}]
        report = (From(rows) | fetch(server, on_error="keep") | Collect()).run_sync()
        assert report.items == [{"id": 1, "x": None, "city": "city 1"}, {"id": "2", "x": 3}]
        assert "HTTP 404" in str(failure(From(rows) | fetch(server) | Collect()))
        for wrong in ([{"x": 1}], [7]):
            assert isinstance(failure(From(wrong) | fetch(server) | Collect()), UsageError)


def test_a_column_that_is_not_there_is_named_before_anything_is_asked(path: str) -> None:
    with Server(user) as server:
        found = failure(Read(path) | fetch(server, path="/{nam}") | Collect())
        assert "no column 'nam'" in str(found) and "did you mean name?" in str(found)
        assert server.asked == []


# --- failures

TRANSIENT = {
    "reset": RESET,
    "truncated": Reply(200, b'{"address": {"ci', how="truncated"),
    "429": error(429, "slow down"),
    "408": error(408),
    "500": error(500, "oops"),
    "503": error(503),
}
PERMANENT = {
    "404": (error(404, '{"error": "no such user"}'), 'HTTP 404 Said: {"error": "no such user"}'),
    "401": (error(401), "HTTP 401 Said"),
    "501": (error(501), "HTTP 501 Said"),
    "no JSON": (Reply(200, b"<html>come in</html>"), "the answer is no JSON"),
    "half JSON": (Reply(200, b'{"address": {"ci', how="close"), "the answer is no JSON"),
    "nothing": (Reply(200), "the answer is no JSON (Expecting value: line 1 column 1 (char 0)): it is empty"),
    "no such path": (ok({"address": {"town": "x"}}), "the answer has no $.address.city (there are town)"),
    "deep": (Reply(200, b"[" * 100_000), "the answer is no JSON"),
    "surrogate": (Reply(200, b'{"address": {"city": "\\ud800"}}'), "lone surrogate"),
    "304": (error(304), "HTTP 304, which was not asked for"),
    "redirected away": (Reply(302, headers={"Location": "ftp://x/"}), "redirected from http to ftp"),
    "redirected in circles": (Reply(302, headers={"Location": "/users/2"}), "redirected more than 5 times"),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_may_pass_is_tried_again(name: str, path: str) -> None:
    with Server(only("2", TRANSIENT[name], TRANSIENT[name], user_2())) as server:
        report = (Read(path) | fetch(server) | Collect()).run_sync()
        assert [r["city"] for r in report.items] == ["city 1", "city 2", "city 3"]
        assert report.retried == 2
        assert Counter(a.name for a in server.asked) == {"1": 1, "2": 3, "3": 1}


def user_2() -> Reply:
    return ok({"address": {"city": "city 2"}})


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_does_not_pass_is_rejected_after_the_last_attempt(name: str, path: str, tmp_path: Path) -> None:
    with Server(only("2", TRANSIENT[name])) as server:
        report = (Read(path) | fetch(server) | Collect()).run_sync(rejects=str(tmp_path / "bad.csv"))
        assert [r["id"] for r in report.items] == ["1", "3"]
        assert report.balanced and Counter(a.name for a in server.asked)["2"] == 3
    [row] = rejects(tmp_path / "bad.csv")
    assert (row["raw"], row["stage"], row["record"]) == (b'"2",b c/d?\n', "fetch", "2")
    assert name in row["reason"] if name.isdigit() else "Error" in row["reason"]


@pytest.mark.parametrize("name", PERMANENT)
def test_what_will_not_pass_is_asked_once_and_told(name: str, path: str, tmp_path: Path) -> None:
    reply, reason = PERMANENT[name]
    with Server(only("2", reply)) as server:
        report = (Read(path) | fetch(server) | Collect()).run_sync(rejects=str(tmp_path / "bad.csv"))
        assert [r["id"] for r in report.items] == ["1", "3"]
        assert report.retried == 0
        [row] = rejects(tmp_path / "bad.csv")
        assert reason in row["reason"]
        found = failure(Read(path) | fetch(server) | Collect())
        assert isinstance(found, RequestError)
        assert str(found).startswith(f"{path}:3 (record 2, byte 14): fetch: ")


@pytest.mark.parametrize("reply", [HANG, Reply(200, b'{"address": {"city": 1}}' + b" " * 9999, how="loris")])
def test_an_attempt_that_takes_too_long_is_given_up_and_made_again(reply: Reply, path: str) -> None:
    with Server(only("2", reply, user_2())) as server:
        report = (Read(path) | fetch(server, timeout=0.15) | Collect()).run_sync()
        assert [r["city"] for r in report.items] == ["city 1", "city 2", "city 3"]
        assert report.retried == 1
    with Server(only("2", reply)) as server:
        found = failure(Read(path) | fetch(server, timeout=0.05, retries=1) | Collect())
        assert "no answer within 0.05 s" in str(found)


def test_nobody_there_is_told_with_the_address(path: str) -> None:
    found = failure(Read(path) | Fetch("http://127.0.0.1:9/{id}", retries=0) | Collect())
    assert "127.0.0.1:9" in str(found)


def test_statuses_and_exceptions_worth_another_attempt_can_be_named(path: str, tmp_path: Path) -> None:
    for on, made in ((["500"], 1), (["404", "500"], 3), (["aiohttp:ClientError"], 1)):
        with Server(only("2", error(404))) as server:
            stage = fetch(server, retries=Retry(attempts=3, backoff=0.001, on=on))
            (Read(path) | stage | Collect()).run_sync(rejects=str(tmp_path / "bad.csv"))
            assert Counter(a.name for a in server.asked)["2"] == made
    with Server(only("2", RESET)) as server:
        stage = fetch(server, retries=Retry(attempts=3, backoff=0.001, on="aiohttp:ClientError"))
        (Read(path) | stage | Collect()).run_sync(rejects=str(tmp_path / "bad.csv"))
        assert Counter(a.name for a in server.asked)["2"] == 3


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [retry_after(h) for h in (None, "7", " 0 ", "soon", "-3", "1.5")] == [None, 7, 0, None, None, None]
    later = retry_after(formatdate(time.time() + 20, usegmt=True))
    assert later is not None and 18 <= later <= 21
    assert retry_after(formatdate(time.time() - 99, usegmt=True)) == 0
    assert retry_after("Fri, 99 Foo 2026 00:00:00 GMT") is None


def test_a_service_that_asks_to_wait_is_left_alone_by_all_calls(tmp_path: Path) -> None:
    """By the server's clock: between its 429 and the second after, only what was under way arrives."""
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(8)))
    times: list[float] = []

    def script(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return error(429, Retry_After="1") if asked.number == 2 else user(asked)

    with Server(script) as server:
        report = (Read(path) | fetch(server, concurrency=2) | Collect()).run_sync()
    assert len(report.items) == 8 and report.retried == 1
    assert sum(t - times[2] < 0.95 for t in times[3:]) <= 1


def test_who_asks_to_wait_for_an_hour_is_not_asked_again(path: str) -> None:
    with Server(only("2", error(503, Retry_After="3600"))) as server:
        assert "HTTP 503" in str(failure(Read(path) | fetch(server) | Collect()))
        assert Counter(a.name for a in server.asked)["2"] == 1


def test_bursts_of_500_break_the_circuit_and_lose_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(200)))

    def script(asked: Asked) -> Reply:
        return error(500) if asked.number % 60 < 12 else user(asked)

    with Server(script) as server:
        stage = fetch(
            server,
            concurrency=8,
            breaker=Breaker(failures=5, wait=0.01, probes=50),
            retries=Retry(attempts=50, backoff=0.001, max_backoff=0.002),
        )
        report = (Read(path) | stage | Collect()).run_sync()
    assert [r["city"] for r in report.items] == [f"city {i}" for i in range(200)]
    assert len(server.asked) == 200 + report.retried


# --- size


def test_an_answer_that_is_too_large_is_refused_before_it_is_read(path: str) -> None:
    huge = Reply(200, b'"' + b"x" * 10_000_000 + b'"')
    for reply in (huge, Reply(200, huge.body, how="chunked"), Reply(200, huge.body, how="close")):
        with Server(only("2", reply)) as server:
            found = failure(Read(path) | fetch(server) | Collect())
            assert "(--max-response)" in str(found) and "10,000,000" in str(found)
    with Server(only("2", huge)) as server:
        rows = (Read(path) | fetch(server, into={"x": "body"}, max_response="11MB") | Collect()).run_sync().items
        assert len(rows[1]["x"]) == 10_000_002


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(path: str) -> None:
    packed = Reply(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"})
    with Server(only("2", packed)) as server:
        found = failure(Read(path) | fetch(server, max_response="1MB", retries=0) | Collect())
        assert isinstance(found, RequestError)


def test_large_answers_are_read_by_few_at_a_time(tmp_path: Path) -> None:
    """32 of 6 MB each with 8 MB for the run: beyond the buffers of the connections (1 MB each) few are in hand."""
    import tracemalloc

    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(32)))
    large = Reply(200, b'{"address": {"city": "c"}, "pad": "' + b"x" * 6_000_000 + b'"}', how="chunked")
    with Server(lambda asked: large) as server:
        stage = fetch(server, concurrency=32, max_response="7MB")
        tracemalloc.start()
        report = (Read(path) | stage | Collect()).run_sync(memory="8MB")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(report.items) == 32
    assert peak < 32 * 6_000_000 / 2


def test_of_a_long_refusal_only_a_piece_is_told(path: str) -> None:
    with Server(only("2", error(400, "no\n" * 500_000))) as server:
        assert len(str(failure(Read(path) | fetch(server) | Collect()))) < 600


# --- redirects


def test_redirects_are_followed_and_secrets_go_to_no_other_host(path: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("TOKEN", "tops3cret")

    with Server(user) as other, Server(lambda a: user(a)) as server:

        def script(asked: Asked) -> Reply:
            if asked.path.startswith("/old"):
                return Reply(307, headers={"Location": f"../../users/{asked.name}"})
            if asked.path.startswith("/away"):
                return Reply(302, headers={"Location": f"{other.url}/users/{asked.name}"})
            return user(asked)

        server.script = script
        for place in ("/old/x/{id}", "/away/{id}"):
            rows = (Read(path) | fetch(server, path=place) | Collect()).run_sync().items
            assert [r["city"] for r in rows] == ["city 1", "city 2", "city 3"]
        assert len(other.asked) == 3
        secret = {"Authorization": "Bearer {env:TOKEN}"}
        assert (Read(path) | fetch(server, path="/old/x/{id}", headers=secret) | Collect()).run_sync().written == 3
        found = failure(Read(path) | fetch(server, path="/away/{id}", headers=secret) | Collect())
        assert "must not get the secrets" in str(found)
        assert len(other.asked) == 3 and "tops3cret" not in str(found)


def test_a_post_that_is_redirected_keeps_or_loses_its_body_as_the_status_says(path: str) -> None:
    for status, method, body in ((307, "POST", b"x"), (308, "POST", b"x"), (303, "GET", b""), (302, "GET", b"")):

        def script(asked: Asked, status: int = status) -> Reply:
            if asked.path.startswith("/old"):
                return Reply(status, headers={"Location": f"/users/{asked.name}"})
            return user(asked)

        with Server(script) as server:
            (Read(path) | fetch(server, path="/old/{id}", body="x") | Collect()).run_sync()
            assert {(a.method, a.body) for a in server.asked if a.path.startswith("/users")} == {(method, body)}


# --- idempotency


def keys(server: Server) -> dict[tuple[str, int], set[str]]:
    """The keys that each body came with, by its place among the equal ones."""
    found: dict[str, list[str]] = {}
    for asked in server.asked:
        key = asked.headers["idempotency-key"]
        if key not in found.setdefault(asked.body.decode(), []):
            found[asked.body.decode()].append(key)
    return {(body, i): {key} for body, many in found.items() for i, key in enumerate(many)}


@pytest.mark.parametrize("block", [1 << 20, 30])
def test_a_record_has_one_key_however_often_it_is_sent_and_no_two_records_share_one(tmp_path: Path, block: int) -> None:
    """Two records are the same: they are two orders. Retries and other runs, with other blocks, repeat their keys."""
    path = write(tmp_path / "in.csv", "id\n1\n2\n2\n3\n" + "7\n" * 20)

    def script(asked: Asked) -> Reply:
        return error(500) if asked.number % 3 == 0 else ok({})

    with Server(script) as server:
        stage = fetch(
            server, path="/orders", body='{"item": "{id}"}', into={}, retries=Retry(attempts=9, backoff=0.001)
        )
        pipeline = Read(path, block=block) | stage | Collect()
        pipeline.run_sync()
        first = keys(server)
        assert {body: n + 1 for body, n in first} == {
            '{"item":"1"}': 1, '{"item":"2"}': 2, '{"item":"3"}': 1, '{"item":"7"}': 20,
        }  # fmt: skip
        (Read(path) | stage | Collect()).run_sync()
        again = {a.headers["idempotency-key"] for a in server.asked}
        assert again == set().union(*first.values())


def test_only_methods_that_are_not_idempotent_have_a_key(path: str) -> None:
    for method, header, sent in (
        ("GET", "Idempotency-Key", False), ("PUT", "Idempotency-Key", False), ("PATCH", "X-Key", True),
        ("POST", "", False),
    ):  # fmt: skip
        with Server(user) as server:
            (Read(path) | fetch(server, method=method, idempotency_key=header) | Collect()).run_sync()
            assert all((header.lower() in a.headers) is sent for a in server.asked) or not header


# --- the cache


def test_another_run_asks_only_for_what_failed(path: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "answers/cache.db")
    with Server(only("2", error(500))) as server:
        stage = fetch(server, cache=cache, retries=0)
        for _ in range(2):
            assert "HTTP 500" in str(failure(Read(path) | stage | Collect()))
        assert Counter(a.name for a in server.asked) == {"1": 1, "2": 2, "3": 1}
        server.script = user
        report = (Read(path) | stage | Collect()).run_sync()
        assert [r["city"] for r in report.items] == ["city 1", "city 2", "city 3"]
        assert report.stages[2].counts == {"asked": 1, "cached": 2}
        (Read(path) | fetch(server, cache=cache, into={"c": "$.address.city"}) | Collect()).run_sync()
        assert Counter(a.name for a in server.asked) == {"1": 2, "2": 4, "3": 2}


def test_posts_are_remembered_record_by_record(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id\n1\n1\n")
    with Server(lambda asked: ok({"n": asked.number})) as server:
        stage = fetch(server, path="/", body="{id}", into={"n": "$.n"}, cache=str(tmp_path / "c.db"), concurrency=1)
        for _ in range(2):
            assert [r["n"] for r in (Read(path) | stage | Collect()).run_sync().items] == ["0", "1"]
        assert len(server.asked) == 2


def test_old_answers_are_asked_for_anew_with_their_tag_or_date(path: str, tmp_path: Path) -> None:
    date = "Tue, 24 Nov 2026 01:02:03 GMT"

    def script(asked: Asked) -> Reply:
        have = asked.headers.get("if-none-match"), asked.headers.get("if-modified-since")
        if asked.nth == 0:
            tag = {"1": {"ETag": '"t1"'}, "2": {"Last-Modified": date}}.get(asked.name, {})
            return Reply(200, user(asked).body, tag)
        wanted = {"1": ('"t1"', None), "2": (None, date)}
        return error(304) if have == wanted.get(asked.name) else ok({"address": {"city": "new"}})

    with Server(script) as server:
        stage = fetch(server, cache=str(tmp_path / "c.db"), max_age="1ms")
        assert (Read(path) | stage | Collect()).run_sync().written == 3
        time.sleep(0.01)
        report = (Read(path) | stage | Collect()).run_sync()
        assert [r["city"] for r in report.items] == ["city 1", "city 2", "new"]
        assert report.stages[2].counts == {"asked": 3, "unchanged": 2}


def test_answers_outlive_a_run_that_was_cancelled(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "id\n" + "".join(f"{i}\n" for i in range(10)))
    with Server(lambda asked: HANG if asked.name == "9" else user(asked)) as server:
        stage = fetch(server, cache=str(tmp_path / "c.db"))

        async def main() -> None:
            running = asyncio.create_task((Read(path) | stage | Collect()).run())
            while len(server.asked) < 10:  # noqa: ASYNC110 - they are asked of another thread
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            running.cancel()
            await asyncio.wait([running])

        drive(main)
        server.script = user
        assert (Read(path) | stage | Collect()).run_sync().written == 10
        assert Counter(a.name for a in server.asked) == {**{str(i): 1 for i in range(9)}, "9": 2}


def test_a_file_that_is_no_cache_is_refused_and_stays(path: str, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as base:
        base.execute("CREATE TABLE t (x)")
    base.close()
    for name in ("in.csv", "other.db"):
        before = (tmp_path / name).read_bytes()
        found = failure(Read(path) | Fetch("http://127.0.0.1:9/", cache=str(tmp_path / name)) | Collect())
        assert isinstance(found, InputError) and "no cache of answers" in str(found)
        assert (tmp_path / name).read_bytes() == before


# --- secrets


def test_a_secret_reaches_the_service_and_nobody_else(path: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The service repeats it in its refusals; it is in no error, report, reject, plan, file or cache."""
    monkeypatch.setenv("TOKEN", "tops3cret/1")
    (tmp_path / "key").write_text("an0ther\n")

    def script(asked: Asked) -> Reply:
        seen = asked.headers["authorization"] + asked.path
        return user(asked) if asked.name != "2" else error(403, f"not with {seen} tops3cret/1")

    with Server(script) as server:
        stage = fetch(
            server,
            path=f"/users/{{id}}?key={{file:{tmp_path}/key}}",
            headers={"Authorization": "Bearer {env:TOKEN}"},
            cache=str(tmp_path / "c.db"),
        )
        pipeline = Read(path) | stage | Write(f"{tmp_path}/out.csv")
        report = pipeline.run_sync(rejects=str(tmp_path / "bad.csv"), report=str(tmp_path / "report.json"))
        assert server.asked[0].headers["authorization"] == "Bearer tops3cret/1"
        assert server.asked[0].path == "/users/1?key=an0ther"
        texts = [repr(pipeline), pipeline.explain(), dumps(pipeline), str(failure(pipeline)), str(report)]
        texts += [p.read_bytes().decode(errors="replace") for p in tmp_path.iterdir() if p.name != "key"]
    assert not any(s in text for text in texts for s in ("tops3cret", "tops3cret%2F1", "an0ther"))
    assert sum("***" in text for text in texts) >= 2


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": "Bearer abc"}},
        {"headers": {"X-API-Key": "abc"}},
        {"url": "https://user:pass@host/{id}"},
        {"url": "https://host/{id}?api_key=abc"},
    ],
)
def test_a_secret_that_everybody_could_read_is_refused_without_repeating_it(options: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Fetch(**{"url": "http://host/", **options})
    assert "abc" not in str(caught.value) and "pass@" not in str(caught.value)
    assert "{env:" in str(caught.value)


def test_a_secret_that_is_not_there_is_named_before_anything_is_asked(path: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with Server(user) as server:
        for name in ("env:TOKEN", "env:EMPTY", "file:/no/such/file"):
            found = failure(Read(path) | fetch(server, headers={"X-Token": f"{{{name}}}"}) | Collect())
            assert isinstance(found, UsageError) and name.partition(":")[2] in str(found)
        assert server.asked == []


def test_a_field_cannot_smuggle_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", 'id\n"1\r\nX-Evil: yes"\n')
    with Server(user) as server:
        assert isinstance(failure(Read(path) | fetch(server, headers={"X-Id": "{id}"}) | Collect()), RequestError)
        assert server.asked == []


# --- on_error


def test_records_that_are_kept_keep_their_bytes_and_get_nothing(path: str, tmp_path: Path) -> None:
    with Server(only("2", error(404))) as server:
        stage = fetch(server, on_error="keep", into={"city": "$.address.city", "id": "$.id"})
        report = (Read(path) | stage | Write(f"{tmp_path}/out.csv")).run_sync()
    assert (tmp_path / "out.csv").read_text() == 'id,name,city\n1,"a",city 1\n"2",b c/d?,\n3,ü&=,city 3\n'
    assert (report.kept, report.rejected, report.written) == (1, 0, 3)


def test_stop_ends_the_run_although_there_is_a_rejects_file(path: str, tmp_path: Path) -> None:
    with Server(only("2", error(404))) as server:
        found = failure(Read(path) | fetch(server, on_error="stop") | Collect(), rejects=str(tmp_path / "bad.csv"))
        assert isinstance(found, RequestError) and found.position is not None and found.position.record == 2


# --- the paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", '{"a":{"b c":[1,{"d":"x"}]},"n":1.10,"t":true,"z":null}'),
        ("$.a['b c'][0]", "1"), ('$["a"]["b c"][-1].d', "x"), ("$.n", "1.10"), ("$.t", "true"), ("$.z", ""),
        ("$.a['b c']", '[1,{"d":"x"}]'), ("$.missing?", ""), ("$.a.x.y?", ""), ("$.n[0]?", ""), ("status", "201"),
        ("header:etag", "e"), ("header:none", ""),
    ],
)  # fmt: skip
def test_a_path_finds_one_value_and_numbers_stay_as_they_were_written(path: str, found: str) -> None:
    text = '{"a": {"b c": [1, {"d": "x"}]}, "n": 1.10, "t": true, "z": null}'
    [value] = Wanted((path_of(path, "fetch"),)).texts(text, 201, {"etag": "e"})
    assert value == (found.replace("1.10", "1.1") if path == "$" else found)


@pytest.mark.parametrize("path", ["", "a.b", "$.", "$..a", "$.a[*]", "$.a[?@.b]", "$[1:2]", "$.a b", "header:", "$.a["])
def test_a_path_to_several_values_or_to_none_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="no path"):
        Fetch("http://host/", into={"x": path})


@pytest.mark.parametrize("path", ["$.missing", "$.a.x", "$.a[0]", "$.l[2]", "$.l.x", "$.l[-3]", "$.n.x"])
def test_a_value_that_is_missing_is_a_fault_unless_it_may_be(path: str) -> None:
    text = '{"a": {}, "l": [1, 2], "n": "text"}'
    with pytest.raises(PlainError):
        Wanted((path_of(path, "fetch"),)).texts(text, 200, {})
    assert Wanted((path_of(path + "?", "fetch"),)).texts(text, 200, {}) == ("",)


# --- what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://host/"}, {"url": "host/{id}"}, {"url": "http://host/{"}, {"url": "http://host/{}"},
        {"method": "GE T"}, {"method": "CONNECT"}, {"concurrency": 0}, {"max_age": "1h"}, {"retries": Retry(on="Nope")},
        {"into": [("a", "$.a"), ("a", "$.b")]}, {"headers": {"a b": "x"}}, {"headers": {"A": "1", "a": "2"}},
        {"rate_limit": "fast"}, {"max_response": 0}, {"body": 7}, {"on_error": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(options: Any) -> None:
    with pytest.raises(UsageError):
        Fetch(**{"url": "http://host/", **options})


def test_without_aiohttp_the_command_that_installs_it_is_told(path: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    found = failure(Read(path) | Fetch("http://127.0.0.1:9/") | Collect())
    assert isinstance(found, UsageError)
    assert "pip install 'aiopipe-csv[http]'" in str(found)
    assert "fetch" in (Read(path) | Fetch("http://host/") | Write("-")).explain()


def test_a_body_is_the_same_as_text_and_as_a_table() -> None:
    one = Fetch("http://host/", body={"a": ["{x}", 1]})
    assert one == Fetch("http://host/", body='{ "a": ["{x}",   1] }') and hash(one)
    assert one.body == '{"a":["{x}",1]}'


# --- what is left behind


def test_connections_are_closed_when_a_run_ends_however_it_ends(path: str) -> None:
    with Server(user) as server:
        assert (Read(path) | fetch(server) | Collect()).run_sync().written == 3
        server.script = lambda asked: error(404)
        failure(Read(path) | fetch(server) | Collect())
        until = time.monotonic() + 5
        while server.open and time.monotonic() < until:
            time.sleep(0.01)
        assert server.open == 0


def test_a_chain_with_fetch_is_a_value() -> None:
    stage = Fetch("http://host/{id}", into={"a": "$.a"}, retries=0)
    assert stage == Fetch("http://host/{id}", into=["a=$.a"], method="get", retries="0")
