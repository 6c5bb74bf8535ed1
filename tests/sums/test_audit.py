from __future__ import annotations

import hashlib
import os
import random
import sys
from itertools import islice
from pathlib import Path

import pytest

from aiopipe.sums import HashOptions, Walk, parse
from aiopipe.sums import audit as module
from aiopipe.sums.audit import Audit
from aiopipe.sums.index import Index
from aiopipe.sums.pairs import walk_order
from aiopipe.sums.parse import open_manifest

NAMES = [f"{folder}{number:03}" for folder in ("", "a/", "a-b/", "a/b/", "z/") for number in range(40)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree in which every tenth file is changed, another tenth gone, another new."""
    root = tmp_path / "t"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("3"):
            (root / name).write_text("other" if name.endswith("7") else name)
    return root


def lines(names: list[str], prefix: str) -> list[bytes]:
    """Lines about some of the files as they were, under two algorithms in turn."""
    made = []
    for name in names:
        if name.endswith("5"):
            continue
        digest = hashlib.new("md5" if name.endswith("2") else "sha256", name.encode()).hexdigest()
        tag = "MD5" if name.endswith("2") else "SHA256"
        made.append(f"{tag} ({prefix}{name}) = {digest}\n".encode())
    return made


def audited(root: Path, manifest: Path, prefix: bytes = b"") -> list[tuple[str, bytes]]:
    opened = open_manifest(str(manifest))
    run = Audit(opened, os.fsencode(root), HashOptions(), Walk([os.fsencode(root)]))
    cut = len(os.fsencode(root)) + 1
    try:
        found = [(each.status, each.name[cut:] if each.name.startswith(b"/") else each.name) for each in run]
    finally:
        opened.close()
    assert run.prefix == prefix
    assert sum(run.counts.values()) == len(found)
    return found


def walked(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: walk_order(name.encode()))


@pytest.mark.parametrize("order", ["of a walk", "by name", "reversed", "shuffled", "turned round in the middle"])
@pytest.mark.parametrize("most", [7, 50_000])
def test_findings_do_not_depend_on_the_order_of_the_manifest(
    tmp_path: Path, root: Path, order: str, most: int, monkeypatch
):
    monkeypatch.setattr(module, "Index", lambda: Index(most))
    monkeypatch.setattr(module, "_PROBED", 3)
    if order == "of a walk":
        names = walked(NAMES)
    elif order == "by name":
        names = sorted(NAMES)
    elif order == "reversed":
        names = walked(NAMES)[::-1]
    elif order == "shuffled":
        names = random.Random(1).sample(NAMES, len(NAMES))
    else:
        names = walked(NAMES)
        names = names[100:] + names[:100]
    # Many blocks, so that most of the manifest is unread when the walk begins.
    (tmp_path / "sums").write_bytes(b"".join(lines(names, "./")))
    monkeypatch.setattr(parse, "islice", lambda entries, count: islice(entries, 5))
    wanted = {
        name.encode(): "changed"
        if name.endswith("7")
        else "new"
        if name.endswith("5")
        else "missing"
        if name.endswith("3")
        else "ok"
        for name in NAMES
    }
    found = audited(root, tmp_path / "sums")
    assert {name.removeprefix(b"./"): word for word, name in found} == wanted
    assert len(found) == len(wanted)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_not_missing_as_well_wherever_its_line_stands(tmp_path: Path, root: Path):
    (root / "000").chmod(0)
    names = walked(NAMES)
    (tmp_path / "sums").write_bytes(b"".join(lines(names[1:] + names[:1], "")))
    found = audited(root, tmp_path / "sums")
    assert [word for word, name in found if name == b"000"] == ["unreadable"]


def test_a_difference_is_told_before_the_manifest_is_read_to_its_end(tmp_path: Path, monkeypatch):
    root = tmp_path / "t"
    root.mkdir()
    for number in range(3000):
        (root / f"{number:06}").write_bytes(b"x")
    right, wrong = hashlib.sha256(b"x").hexdigest(), hashlib.sha256(b"y").hexdigest()
    manifest = tmp_path / "sums"
    with open(manifest, "w") as file:
        for number in range(100_000):
            file.write(f"{wrong if number == 7 else right}  t/{number:06}\n")
    opened = open_manifest(str(manifest))
    monkeypatch.chdir(tmp_path)
    run = Audit(opened, b"t", HashOptions(), Walk([b"t"]))
    first = next(each for each in run if each.status != "ok")
    assert (first.status, first.name) == ("changed", b"t/000007")
    assert opened.entries < 20_000
    opened.close()


@pytest.mark.parametrize("seen_from", ["outside", "inside"])
def test_a_directory_in_one_of_its_own_name_is_no_riddle(tmp_path: Path, seen_from: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t" / "t").mkdir(parents=True)
    inner = ["t/a", "t/b", "t/c"]
    for name in inner:
        (tmp_path / "t" / name).write_text(name)
    prefix = "t/" if seen_from == "outside" else ""
    made = [f"{hashlib.md5(name.encode()).hexdigest()}  {prefix}{name}\n" for name in inner]
    (tmp_path / "sums").write_text("".join(made))
    opened = open_manifest("sums")
    run = Audit(opened, b"t", HashOptions(), Walk([b"t"]))
    assert [each.status for each in run] == ["ok"] * 3
    opened.close()
