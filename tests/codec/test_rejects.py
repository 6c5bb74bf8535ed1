"""A reject says exactly where its record stood, and has its very bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect
from aiopipe.model import Position

from .csv_bytes import Line, Sample, bundle_of, by_hand, chunk_of, good, masks, samples

COMMA = Dialect()


def line_of(data: bytes, at: int) -> int:
    """The line, from 1, that the byte `at` stands in, counted byte after byte."""
    line = 1
    for i in range(at):
        lone = data[i] == 13 and data[i + 1 : i + 2] != b"\n"
        line += data[i] == 10 or lone
    return line


def places(sample: Sample, n: int, byte: int = 0) -> list[tuple[Line, Position, bytes]]:
    """Every record of file `n` with its position and bytes."""
    return [
        (
            r,
            Position(f"f{n}.csv", line_of(sample.data, r.start), i, byte + r.start),
            sample.data[r.start : r.stop],
        )
        for i, r in enumerate(by_hand(sample.data, sample.dialect), 1)
    ]


@settings(max_examples=250)
@given(samples(), st.integers(0, 1000))
def test_malformed_records_are_found_where_they_stand(sample, byte):
    fine = good(sample)
    batch = decode(chunk_of(sample, byte=byte))
    expected = [(p, raw) for r, p, raw in places(sample, 0, byte) if r not in fine]
    assert [(r.position, r.raw) for r in batch.rejects] == expected
    assert {(r.stage, r.file.path) for r in batch.rejects} <= {("read", "f0.csv")}
    (seen,) = batch.segments
    assert seen.records == len(batch) + len(batch.rejects) == len(by_hand(sample.data, sample.dialect))
    unfinished = sample.data[-1:] not in (b"", b"\n", b"\r")
    assert seen.lines == line_of(sample.data, len(sample.data)) - (not unfinished)


@settings(max_examples=250)
@given(st.lists(samples(columns=2), min_size=2, max_size=4), masks)
def test_in_a_bundle_each_position_counts_from_its_own_file(files, mask):
    files = [f._replace(dialect=files[0].dialect) for f in files]
    batch = decode(bundle_of([f.data for f in files], files[0].dialect, 2))
    every = [p for n, f in enumerate(files) for p in places(f, n, 10 * n)]
    fine = {(n, r.start) for n, f in enumerate(files) for r in good(f)}
    sane = [(int(p.path[1]), r.start) in fine for r, p, _ in every]
    malformed = [(p, raw) for (_, p, raw), ok in zip(every, sane, strict=True) if not ok]
    assert [(r.position, r.raw) for r in batch.rejects] == malformed

    chosen = np.array(mask[: len(batch)], np.bool_)
    rest = batch.filter(~np.roll(chosen, 1))  # positions stay right after a filter
    chosen = chosen[~np.roll(chosen, 1)]
    refused = rest.reject(chosen, "check", lambda i: f"no {i}", "mend it")
    good_places = [(p, raw) for (_, p, raw), ok in zip(every, sane, strict=True) if ok]
    kept = [x for x, drop in zip(good_places, np.roll(mask[: len(batch)], 1), strict=True) if not drop]
    new = refused.rejects[len(malformed) :]
    assert [(r.position, r.raw) for r in new] == [x for x, c in zip(kept, chosen, strict=True) if c]
    assert [r.reason for r in new] == [f"no {i}" for i in np.flatnonzero(chosen)]
    assert len(refused) == len(rest) - int(chosen.sum())


def test_a_file_whose_bytes_were_transcoded_has_no_byte_positions():
    batch = decode(chunk_of(Sample(b"1\n", COMMA, 2), byte=-1))
    assert batch.rejects[0].position == Position("f0.csv", 1, 1, None)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_that_wrote_records_anew_still_rejects_the_original(stage):
    from aiopipe.batch import Batch, Body

    first = decode(chunk_of(Sample(b"1,2\n3,4\n5,6\n", COMMA, 2)))
    other = decode(chunk_of(Sample(b"x,y\nz,w\n", COMMA, 2))).body
    body, places = first.body, [0, 2]
    for _ in range(stage):  # the home of a home as well
        body = Body(
            other.data,
            other.header,
            other.starts,
            other.ends,
            other.stops,
            body.segments,
            np.array([0, 2]),
            homes=[(body, place) for place in places],
        )
        places = [0, 1]
    refused = Batch(body, first.columns).reject(np.array([False, True]), "s", lambda _: "r")
    assert [(r.raw, r.position.record, r.position.line) for r in refused.rejects] == [(b"5,6\n", 3, 3)]


def test_ten_thousand_rejects_of_a_chunk_do_not_each_count_its_lines():
    batch = decode(chunk_of(Sample(b"1,2\n" * 10_000, COMMA, 2)))
    refused = batch.reject(np.ones(10_000, np.bool_), "check", str)
    assert [r.position.line for r in refused.rejects] == list(range(1, 10_001))
