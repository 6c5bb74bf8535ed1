"""Headers: what cannot be one is named for what it is, with what to do next."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest

from aiopipe import Collect, Read, Select
from aiopipe.errors import AiopipeError


def message_of(pipeline) -> str:
    with pytest.RaisesGroup(AiopipeError, flatten_subgroups=True) as caught:
        pipeline.run_sync()
    return str(caught.value.exceptions[0])


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")], ids=["gz", "bz2", "xz"]
)
@pytest.mark.parametrize("size", [1, 200_000])
def test_a_compressed_file_is_called_that(tmp_path, pack, name, size):
    path = tmp_path / "a.csv"
    path.write_bytes(pack(b"a,b\n" + b"1,2\n" * size))
    message = message_of(Read(path) | Collect())
    assert f"a.csv:1: read: the file is compressed ({name})" in message
    assert "zcat" in message


def test_a_wrong_delimiter_is_suspected_when_there_is_one_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id;name\n1;x\n")
    assert "is the delimiter ';'? (--delimiter)" in message_of(Read(path) | Select("name") | Collect())


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_leaves_as_utf_16_in_its_own_byte_order(tmp_path, order):
    from aiopipe import Filter, Write

    text = "\ufeffid,näme\r\n1,ü\r\n2,ß\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode(order))
    (Read(tmp_path / "a.csv", encoding="utf-16") | Filter("id = 2") | Write(tmp_path / "b.csv")).run_sync()
    assert (tmp_path / "b.csv").read_bytes() == "\ufeffid,näme\r\n2,ß\r\n".encode(order)
