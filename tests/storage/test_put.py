"""Whole files put beside their targets and shown together: complete under their names, or not there at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from blake3 import blake3

from aiopipe.errors import OutputError
from aiopipe.storage.put import discard, made, put, show
from aiopipe.storage.version import Version
from aiopipe.storage.write import new_names
from tests.support import tree, write

LARGE = os.urandom(100_000)  # more than is joined before it is written
FILES = {"a.csv": [b"h\n", b"1\n"], "sub/b.csv": [b"", LARGE, b"end"], "sub/deeper/c.csv": [b""], "d.csv": []}


def files(root: Path) -> list[tuple[str, list[bytes]]]:
    return [(str(root / name), pieces) for name, pieces in FILES.items()]


@pytest.mark.parametrize("hashed", [True, False])
def test_nothing_has_its_name_before_it_is_shown_and_then_all_is_there(tmp_path: Path, hashed: bool) -> None:
    puts = pickle.loads(pickle.dumps(put(files(tmp_path), hashed=hashed)))  # from a worker process, too
    assert [name for name in tree(tmp_path) if ".aiopipe-" not in name] == []
    looked: list[int] = []
    show(puts, lambda: looked.append(len([n for n in tree(tmp_path) if ".aiopipe-" not in n])))
    whole = {name: b"".join(pieces) for name, pieces in FILES.items()}
    assert tree(tmp_path) == whole
    assert looked == [0]
    assert puts.sizes == [len(data) for data in whole.values()]
    if hashed:
        assert [m.blake3 for m in made(puts)] == [blake3(data).digest() for data in whole.values()]
        assert [m.version for m in made(puts)] == [Version.of(os.stat(tmp_path / name)) for name in whole]
    else:
        assert puts.blake3 == []


def test_some_of_them_can_be_shown_and_the_others_removed(tmp_path: Path) -> None:
    puts = put(files(tmp_path), hashed=True)
    show(puts.only([0, 3]))
    assert [m.target for m in made(puts.only([0, 3]))] == [str(tmp_path / "a.csv"), str(tmp_path / "d.csv")]
    discard(puts.paths[1:3])
    assert tree(tmp_path) == {"a.csv": b"h\n1\n", "d.csv": b""}


def test_they_are_called_what_somebody_said(tmp_path: Path) -> None:
    names = new_names(4)
    puts = put(files(tmp_path), names=names)
    assert [os.path.basename(path) for path in puts.paths] == names
    discard(puts.paths)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("at", ["a.csv", "sub/b.csv", "d.csv"])
def test_where_one_cannot_be_put_none_is_left(tmp_path: Path, at: str) -> None:
    write(tmp_path / at / "inside", "a directory stands where the file should go")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="Is a directory"):
        put(files(tmp_path))
    assert tree(tmp_path) == before


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "old")
    (tmp_path / "a.csv").chmod(0o640)
    show(put(files(tmp_path)))
    assert (tmp_path / "a.csv").read_bytes() == b"h\n1\n"
    if os.name == "posix":
        assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640


def test_without_a_directory_in_its_path_a_file_stands_in_this_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    show(put([("x.csv", [b"1\n"])]))
    assert tree(tmp_path) == {"x.csv": b"1\n"}
