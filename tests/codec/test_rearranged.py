"""Raw fields that are selected, moved or renamed keep their bytes; computed ones read back as meant."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import encode, encode_header, encode_json
from aiopipe.errors import OutputError, UnknownNameError

from .csv_bytes import Line, Sample, by_csv, by_hand, chunk_of, from_pool, good, samples

COMMA = Dialect()
computed = [
    None,
    "",
    "7",
    "a,b",
    "a;b",
    "a|b\t",
    'a"',
    '"',
    '""',
    "a\nb",
    "\r",
    "\r\n",
    "é日𝄞",
    " x",
    "'",
    "\\",
]
texts = st.text(st.sampled_from("ab,;|\t\"'\r\n é日𝄞"), max_size=6)


def end_of(sample: Sample, line: Line) -> bytes:
    """A record's own line end."""
    return sample.data[line.start + sum(map(len, line.fields)) + len(line.fields) - 1 : line.stop]


def written(value: str, dialect: Dialect) -> bytes:
    q = dialect.quote
    if any(c in value for c in (dialect.delimiter, q, "\r", "\n")):
        value = q + value.replace(q, q * 2) + q
    return value.encode()


def quoting(sample: Sample) -> Sample:
    return sample._replace(dialect=Dialect(sample.dialect.delimiter))


@settings(max_examples=250)
@given(samples().map(quoting), st.permutations(range(4)), st.integers(1, 4), st.booleans())
def test_selected_and_reordered_fields_keep_their_bytes_and_records_their_line_ends(sample, order, count, filtered):
    order = [k for k in order if k < sample.columns][:count]
    lines, batch = good(sample), decode(chunk_of(sample))
    if filtered:
        lines, batch = lines[::2], batch.filter(np.arange(len(batch)) % 2 == 0)
    expected = b""
    for line in lines:
        record = sample.dialect.delimiter.encode().join(line.fields[k] for k in order)
        expected += (record if order == [*range(sample.columns)] else record or b'""') + end_of(sample, line)
    encoded = encode(batch.select([f"c{k}" for k in order]))
    assert bytes(encoded.bodies[0]) == expected
    assert encoded.head == sample.dialect.delimiter.join(f"c{k}" for k in order).encode() + b"\n"


@settings(max_examples=250)
@given(samples().map(quoting), from_pool(computed), st.booleans())
@example(Sample(b"1,2\n3,4\r\n5,6", COMMA, 2), [None, "", 'a"'] * 20, False)
def test_a_derived_column_reads_back_equal_behind_the_untouched_record(sample, values, replacing):
    lines, batch = good(sample), decode(chunk_of(sample))
    values = [*values, *[None] * len(lines)][: len(lines)]
    name = "c0" if replacing else "new"
    batch = batch.with_columns({name: pa.array(values, pa.string())})
    expected, rows = b"", []
    for line, value in zip(lines, values, strict=True):
        mine = written(value or "", sample.dialect)
        fields = [mine, *line.fields[1:]] if replacing else [*line.fields, mine]
        expected += (sample.dialect.delimiter.encode().join(fields) or b'""') + end_of(sample, line)
        rows.append([value or "", *texts_of(line)[1:]] if replacing else [*texts_of(line), value or ""])
    body = bytes(encode(batch).bodies[0])
    assert body == expected
    assert by_csv(body.decode(), sample.dialect) == rows


def texts_of(line: Line) -> list[str]:
    return [v.decode() for v in line.values]


@settings(max_examples=300)
@given(samples(), texts)
def test_whatever_is_written_without_quotes_reads_back_or_is_rejected(sample, value):
    sample = sample._replace(dialect=Dialect(sample.dialect.delimiter, ""))
    batch = decode(chunk_of(sample))
    count = len(batch)
    batch = batch.with_columns({"c0": pa.array([value] * count, pa.string())})
    encoded = encode(batch.select(["c0"]))
    read = by_hand(bytes(encoded.bodies[0]), sample.dialect)
    assert [r.values for r in read] == [[value.encode()]] * len(encoded)
    new = encoded.rejects[len(batch.rejects) :]
    assert len(encoded) + len(new) == count
    assert all(r.stage == "write" and r.raw for r in new)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_an_empty_value_alone_in_its_record_is_quoted(end):
    data = b"1,2\n,3\n" + b"," + end
    encoded = encode(decode(chunk_of(Sample(data, COMMA, 2))).select(["c0"]))
    assert bytes(encoded.bodies[0]) == b'1\n""\n""' + end


def test_a_column_may_stand_twice():
    batch = decode(chunk_of(Sample(b'"1",2\r\n3,4', COMMA, 2)))
    assert bytes(encode(batch.select(["c0", "c1", "c0"])).bodies[0]) == b'"1",2,"1"\r\n3,4,3'
    assert bytes(encode(batch.select(["c1", "c1"])).bodies[0]) == b"2,2\r\n4,4"


def test_a_stage_that_knows_how_fields_were_written_is_believed():
    from dataclasses import replace

    batch = decode(chunk_of(Sample(b'"1",2\n3,4\n', COMMA, 2)))
    batch = batch.with_columns({"c0": pa.array(["1", "x"])})
    columns = (batch.columns[0]._replace(written=pa.array([b'"1"', b"x"], pa.binary())), batch.columns[1])
    batch = replace(batch, columns=columns)
    assert bytes(encode(batch).bodies[0]) == b'"1",2\nx,4\n'
    assert bytes(encode(batch.filter(np.array([True, False]))).bodies[0]) == b'"1",2\n'


def test_a_header_keeps_its_bytes_for_columns_that_kept_their_name():
    from dataclasses import replace

    chunk = chunk_of(Sample(b"1,2,3\n", COMMA, 3))
    names = ("a", "b", "c d")
    head = chunk.header._replace(names=names, raw=(b'"a"', b"b", b'"c d"'), bom=b"\xef\xbb\xbf", newline=b"\r\n")
    batch = decode(replace(chunk, header=head))
    assert encode_header(batch) == b'\xef\xbb\xbf"a",b,"c d"\r\n'
    assert encode_header(batch.select(["c d", "a"])) == b'\xef\xbb\xbf"c d","a"\r\n'
    assert encode_header(batch.rename({"b": 'x,"y'})) == b'\xef\xbb\xbf"a","x,""y","c d"\r\n'
    new = batch.with_columns({"a": pa.array(["x"]), "z": pa.array(["y"])})
    assert encode_header(new) == b'\xef\xbb\xbf"a",b,"c d",z\r\n'
    assert encode_header(batch.select(["b"]).rename({"b": ""})) == b'\xef\xbb\xbf""\r\n'
    assert encode(batch, "\t").head == b"\xef\xbb\xbfa\tb\tc d\r\n"
    assert encode_header(decode(replace(chunk, header=head._replace(present=False)))) == b"\xef\xbb\xbf"


def test_a_name_that_the_file_cannot_hold_is_an_error_that_says_so():
    batch = decode(chunk_of(Sample(b"1\n", Dialect(quote=""), 1)))
    with pytest.raises(OutputError, match="'a,b' cannot be written"):
        encode_header(batch.rename({"c0": "a,b"}))


def test_columns_that_are_not_there_or_stand_twice_are_told():
    batch = decode(chunk_of(Sample(b"1,2\n", COMMA, 2)))
    with pytest.raises(UnknownNameError, match="did you mean c1"):
        batch.select(["c1"]).column("c11")
    twice = batch.rename({"c1": "c0"})
    with pytest.raises(UnknownNameError, match="stands 2 times"):
        twice.values("c0")
    assert bytes(encode(twice).bodies[0]) == b"1,2\n"
    assert bytes(encode(twice, ";").bodies[0]) == b"1;2\n"


def test_json_lines_hold_every_value_as_a_string():
    encoded = encode_json(decode(chunk_of(Sample('007,"a ""b"""\n,é\n'.encode(), COMMA, 2))))
    assert encoded.bodies[0].decode() == '{"c0": "007", "c1": "a \\"b\\""}\n{"c0": "", "c1": "é"}\n'
    assert (encoded.counts, encoded.head) == ((2,), b"")
