"""Files that are not UTF-8: bytes stay, values decode, and what cannot be written is set aside."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect, byte_encodings
from aiopipe.codec.encode import encode, encode_header
from aiopipe.errors import OutputError, UsageError

from .csv_bytes import Sample, by_hand, chunk_of, good

# What Python has of them: every one must keep its promise.
one_byte = sorted(byte_encodings - {"utf-8"})


def known(name: str) -> bool:
    try:
        "".encode(name)
    except LookupError:
        return False
    return True


@pytest.mark.parametrize("encoding", sorted(filter(known, byte_encodings)))
def test_in_an_encoding_worked_on_as_it_is_ascii_bytes_are_ascii(encoding):
    ascii_bytes = bytes(range(128))
    assert ascii_bytes.decode(encoding) == ascii_bytes.decode("ascii")
    for high in range(128, 256):
        text = bytes([high]).decode(encoding, "ignore")
        assert len(text) <= 1 and not (text and text.isascii())
    assert not Dialect(encoding=encoding).transcoded


@pytest.mark.parametrize("name", ["utf-16", "shift-jis", "utf-7", "cp037"])
def test_other_encodings_come_to_the_codec_as_utf8(name):
    dialect = Dialect(encoding=name)
    assert dialect.transcoded
    assert dialect.inner_encoding == "utf-8"


def test_an_encoding_that_python_does_not_know_is_a_usage_error():
    with pytest.raises(UsageError, match="no encoding 'utf-9'"):
        Dialect(encoding="utf-9")


def test_a_byte_order_mark_is_no_part_of_the_encodings_name():
    assert Dialect(encoding="utf-8-sig").encoding == "utf-8"
    assert Dialect(encoding="latin-1").encoding == "iso8859-1"


raw_fields = st.lists(
    st.one_of(st.binary(max_size=4), st.sampled_from([b'"\xe9,"', b'"\xe9""x"', b"a\xe9b"])), max_size=12
)


@settings(max_examples=300)
@given(raw_fields, st.sampled_from(["iso8859-1", "cp1252", "cp437", "iso8859-3", "ascii"]), st.booleans())
def test_bytes_stay_and_values_decode(parts, encoding, whole):
    data = b"".join(p + (b"\n", b",")[i % 2] for i, p in enumerate(parts, 1))
    sample = Sample(data, Dialect(encoding=encoding), 2)
    lines, batch = good(sample), decode(chunk_of(sample))
    assert bytes(encode(batch).bodies[0]) == b"".join(data[r.start : r.stop] for r in lines)
    if not whole:
        lines, batch = lines[1:], batch.filter(np.arange(len(batch)) > 0)
    for k in range(2):
        assert batch.values(f"c{k}").to_pylist() == [r.values[k].decode(encoding) for r in lines]
    assert len(batch.rejects) == len(by_hand(*sample[:2])) - len(good(sample))


def test_a_byte_that_means_nothing_in_the_encoding_is_a_reject():
    batch = decode(chunk_of(Sample(b"a\n\x81\nb\xe9\n", Dialect(encoding="cp1252"), 1)))
    assert batch.values("c0").to_pylist() == ["a", "bé"]
    assert [(r.raw, r.reason) for r in batch.rejects] == [(b"\x81\n", "byte 0x81 is not valid CP1252")]


@settings(max_examples=300)
@given(
    st.lists(st.text(st.sampled_from('aé€日,"\n'), max_size=4), max_size=8),
    st.sampled_from(["iso8859-1", "cp1252", "ascii", "utf-8"]),
)
def test_computed_values_are_written_in_the_files_encoding_or_set_aside(values, encoding):
    data = b"".join(b"k%d,\n" % i for i in range(len(values)))
    sample = Sample(data, Dialect(encoding=encoding), 2)
    encoded = encode(decode(chunk_of(sample)).with_columns({"c1": pa.array(values, pa.string())}))
    fits = [v for v in values if v.encode(encoding, "replace").decode(encoding) == v]
    read = by_hand(bytes(encoded.bodies[0]), sample.dialect)
    assert [r.values[1].decode(encoding) for r in read] == fits
    assert encoded.counts == (len(fits),)
    refused = [i for i, v in enumerate(values) if v not in fits]
    assert [(r.raw, r.stage) for r in encoded.rejects] == [(b"k%d,\n" % i, "write") for i in refused]


def test_a_value_that_cannot_be_written_says_which_character():
    batch = decode(chunk_of(Sample(b"1\n", Dialect(encoding="cp1252"), 1)))
    (reject,) = encode(batch.with_columns({"x": pa.array(["a日"])})).rejects
    assert reject.reason == "x: cp1252 has no character '日'"
    assert reject.hint


def test_a_column_name_that_cannot_be_written_is_an_error_and_no_crash():
    batch = decode(chunk_of(Sample(b"1\n", Dialect(encoding="cp1252"), 1)))
    with pytest.raises(OutputError, match="'日' cannot be written"):
        encode_header(batch.rename({"c0": "日"}))
