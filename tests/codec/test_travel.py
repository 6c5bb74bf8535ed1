"""Chunks, batches and encoded bytes survive the way to another process and back."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from aiopipe.batch import from_columns, in_columns
from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import encode
from aiopipe.model import FileRef

from .csv_bytes import Sample, bundle_of, chunk_of, masks, samples


def travelled(thing):
    return pickle.loads(pickle.dumps(thing))


@settings(max_examples=100)
@given(samples(columns=2), masks)
def test_what_is_pickled_at_any_point_gives_the_same_output(sample, mask):
    chunk = chunk_of(sample)
    assert travelled(chunk) == chunk
    batch = decode(chunk)
    new = batch.with_columns({"new": pa.array([str(i) for i in range(len(batch))], pa.string())})
    for one in (batch, new, new.filter(np.array(mask[: len(batch)], np.bool_))):
        there = travelled(one)
        here = encode(one)
        assert [bytes(b) for b in encode(there).bodies] == [bytes(b) for b in here.bodies]
        assert there.rejects == one.rejects
        for name in one.names:
            assert there.values(name).equals(one.values(name))


@pytest.mark.parametrize("filtered", [False, True])
def test_views_become_bytes_on_the_way(filtered):
    batch = decode(bundle_of([b"a\nb", b"c\n"], Dialect(), 1))
    encoded = encode(batch.filter(np.array([True, True, False])) if filtered else batch)
    there = travelled(encoded)
    assert [type(b) for b in there.bodies] == [bytes, bytes]
    assert there.bodies == (b"a\nb", b"" if filtered else b"c\n")
    assert (there.segments, there.counts, there.head, there.names) == (
        encoded.segments,
        encoded.counts,
        encoded.head,
        encoded.names,
    )


def test_files_and_their_segments_travel_as_columns():
    segments = bundle_of([b"a\nb", b"c\n", b""], Dialect(), 1).segments
    assert travelled(in_columns(segments)) == in_columns(segments)
    assert from_columns(in_columns(segments)) == segments
    assert from_columns(in_columns(())) == ()


def test_a_file_reference_is_frozen_and_complete_wherever_it_is():
    file = FileRef("in/a.csv", "a.csv", 3, 17)
    assert travelled(file) == file == replace(FileRef("in/a.csv", "a.csv", size=17), index=3)
    assert (FileRef("x", "y"), hash(file)) == (FileRef("x", "y", 0, -1), hash(travelled(file)))
    with pytest.raises(FrozenInstanceError):
        file.size = 4  # type: ignore[misc]


def test_a_pickled_filter_of_a_large_chunk_does_not_carry_computed_columns_it_dropped():
    batch = decode(chunk_of(Sample(b"1\n" * 50_000, Dialect(), 1)))
    batch = batch.with_columns({"new": pa.array(["x" * 100] * 50_000)})
    assert len(pickle.dumps(encode(batch.filter(np.arange(50_000) < 5)))) < 2_000
