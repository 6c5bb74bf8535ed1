"""What no stage touched leaves as the bytes it came in, alone or in a bundle of files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import encode

from .csv_bytes import Sample, bundle_of, by_csv, chunk_of, good, masks, samples

COMMA = Dialect()


def bodies(encoded) -> list[bytes]:
    return [bytes(b) for b in encoded.bodies]


@settings(max_examples=250)
@given(samples())
def test_an_untouched_batch_is_its_good_records_byte_for_byte(sample):
    encoded = encode(decode(chunk_of(sample)))
    assert bodies(encoded) == [b"".join(sample.data[r.start : r.stop] for r in good(sample))]
    assert encoded.counts == (len(good(sample)),)
    assert encoded.nbytes == len(encoded.bodies[0])


def test_a_whole_chunk_leaves_without_a_copy():
    sample = Sample(b"a,b\nc,d", COMMA, 2)
    assert encode(decode(chunk_of(sample))).bodies[0].obj is sample.data


@settings(max_examples=250)
@given(samples(), masks, masks)
def test_filtered_records_are_the_original_bytes_of_those_kept(sample, first, second):
    lines = good(sample)
    batch = decode(chunk_of(sample))
    batch = batch.filter(np.array(first[: len(batch)], np.bool_))
    batch = batch.filter(np.array(second[: len(batch)], np.bool_))
    once = [r for r, kept in zip(lines, first, strict=False) if kept]
    twice = [r for r, kept in zip(once, second, strict=False) if kept]
    assert bodies(encode(batch)) == [b"".join(sample.data[r.start : r.stop] for r in twice)]
    for k, name in enumerate(batch.names):
        assert batch.values(name).to_pylist() == [r.values[k].decode() for r in twice]


@settings(max_examples=250)
@given(st.lists(samples(columns=2), min_size=1, max_size=5), masks, st.booleans())
def test_bundled_files_come_apart_as_each_files_own_bytes(files, mask, filtered):
    dialect = files[0].dialect
    files = [f._replace(dialect=dialect) for f in files]
    batch = decode(bundle_of([f.data for f in files], dialect, 2))
    lines = [[f.data[r.start : r.stop] for r in good(f)] for f in files]
    if filtered:
        batch = batch.filter(np.array(mask[: len(batch)], np.bool_))
        keep = iter(mask)
        lines = [[raw for raw in part if next(keep, False)] for part in lines[:-1]] + [
            [raw for raw in lines[-1] if next(keep, False)]
        ]
    encoded = encode(batch)
    assert bodies(encoded) == [b"".join(part) for part in lines]
    assert list(encoded.counts) == batch.counts() == [len(part) for part in lines]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\r"])
@pytest.mark.parametrize("unclosed", [False, True])
def test_a_file_that_ends_in_the_middle_leaves_its_neighbours_alone(ending, unclosed):
    first = b'1,"x' if unclosed else b'1,"x"' + ending.encode()
    files = [first, b'2,"y"\n3,"z"', b"", b"4,5"]
    batch = decode(bundle_of(files, COMMA, 2))
    assert bodies(encode(batch)) == [b"" if unclosed else first, *files[1:]]
    assert [r.raw for r in batch.rejects] == [first] * unclosed
    assert [s.records for s in batch.segments] == [1, 2, 0, 1]
    assert [s.lines for s in batch.segments] == [1, 2, 0, 1]


@settings(max_examples=300)
@given(samples(), st.sampled_from([",", ";", "\t"]))
def test_another_delimiter_keeps_every_value(sample, delimiter):
    encoded = encode(decode(chunk_of(sample)), delimiter)
    dialect = Dialect(delimiter=delimiter, quote=sample.dialect.quote or '"')
    if delimiter == sample.dialect.delimiter:
        dialect = sample.dialect
    values = [[v.decode() for v in r.values] for r in good(sample)]
    assert by_csv(bytes(encoded.bodies[0]).decode(), dialect) == values
    assert by_csv(encoded.head.decode(), dialect) == [[f"c{i}" for i in range(sample.columns)]]
