"""Read CSV files as chunks of whole records: big files block by block, small ones many to a chunk."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiofiles.threadpool import wrap

from aiopipe.batch import Header, Segment
from aiopipe.codec.chunk import Chunk
from aiopipe.codec.cut import Cutter
from aiopipe.codec.dialect import Dialect
from aiopipe.errors import ChangedError, InputError, RecordError
from aiopipe.model import FileRef, Position
from aiopipe.storage.headers import has_record, read_header
from aiopipe.storage.opening import Input, at, open_regular, trouble, unchanged, uncut
from aiopipe.storage.settle import settled
from aiopipe.storage.small import small_files
from aiopipe.storage.stretches import Parted, Stretch, Stretches, Trail, parted
from aiopipe.storage.version import Version, Watched

if TYPE_CHECKING:
    from aiopipe.stage import Context, Units
    from aiopipe.storage.groups import Group

__all__ = ["BLOCK", "lost", "read_chunks"]

# 4 MiB: with smaller blocks threads spend their time trading the GIL (1 MiB: 1.8 s for 500 MB where 4 MiB take 1.1),
# larger ones only cost memory. The index looks at a tile of a block at a time, so that it stays in a core's cache.
BLOCK = 4 << 20
# Blocks that fit the memory setting: some ten of them are read, computed on or written at any time, with what is made
# of them, and the allocator leaves gaps of nearly half as much between them.
_IN_FLIGHT = 40
_LEAST_BLOCK = 64 << 10
# Nobody holds a stretch but the worker that computes on it: so it may be larger, and there are fewer to see to.
_WIDER = 2
_EACH = 10  # a worker's share of the memory setting to its stretch
SMALL = 128 << 10  # files up to this size travel together,
GROUP = 256  # at most this many to a chunk
_STRETCHES = 16  # of a large file, whose boundaries are looked for together


async def read_chunks(
    inputs: Iterable[Input], context: Context, block: int = BLOCK
) -> AsyncIterator[Chunk | Group | Stretch]:
    """The chunks of all inputs, or groups of small ones and stretches of large ones, file after file.

    Ends at a block's end when the context is stopping.

    InputError for what cannot be read; RecordError for a header or record that cannot be found.
    """
    wide = min(_WIDER * block, max(context.memory // (_EACH * max(context.workers, 2)), _LEAST_BLOCK))
    block = min(block, max(context.memory // _IN_FLIGHT, _LEAST_BLOCK))
    units = _units(inputs, block)
    again: deque[Input] = deque()  # files that changed while they were read, for another attempt behind all others
    # Off the loop: finding the next file may list and sort a directory of a hundred thousand.
    while (unit := await settled(context.io(next, units, None))) is not None:
        if context.stopping:
            context.found.cut = True
            return
        if isinstance(unit, list) and context.found.groups is not None:
            yield context.found.groups.begin(unit)
            continue
        chunks = _small_ones(unit, context) if isinstance(unit, list) else _one_file(unit, context, block, again, wide)
        async with aclosing(chunks) as entered:
            async for chunk in entered:
                yield chunk
    if context.found.stretches is not None and context.found.failures.rereads:
        await context.found.stretches.settled()
        again.extend(context.found.stretches.again)
    while again and not context.stopping:
        async with aclosing(_one_file(again.popleft(), context, block, again)) as entered:
            async for chunk in entered:
                yield chunk
    context.found.cut |= bool(again)


def _units(inputs: Iterable[Input], block: int) -> Iterator[Input | list[Input]]:
    """What is read in one go: a large file, or several small ones."""
    small = min(SMALL, block)
    group: list[Input] = []
    weight = 0
    for item in inputs:
        size = item.file.size
        if 0 <= size <= small and not item.dialect.transcoded:
            group.append(item)
            weight += size
            if len(group) >= GROUP or weight >= block:
                yield group
                group, weight = [], 0
            continue
        if group:
            yield group
            group, weight = [], 0
        yield item
    if group:
        yield group


async def _one_file(
    item: Input, context: Context, block: int, again: deque[Input], wide: int = 0
) -> AsyncGenerator[Chunk | Stretch, None]:
    """One file; where it fails and the run goes on, its end comes all the same, for those who wait for it.

    again: gets the file where it changed meanwhile and may be read once more. wide: bytes of a stretch; 0 for none.
    """
    failures, last, cut_off = context.found.failures, None, False
    stretches = context.found.stretches
    if stretches is not None and wide and item.file.size >= 0:
        try:
            whole = await _parted(item, context, wide)
        except (InputError, RecordError) as error:
            failures.add([item.file], error)
            return
        if whole is not None:
            async with aclosing(_stretches(item, whole, stretches, context)) as each:
                async for stretch in each:
                    yield stretch
            return
    async with aclosing(_large_file(item, context, block)) as chunks:
        try:
            async for last in chunks:
                yield last
                cut_off = item.file.index in failures and not last.segments[0].last
                if cut_off:
                    break  # some stage has given it up
        except (InputError, RecordError) as error:
            await lost(item, error, context, again)
            cut_off = True
    if cut_off and last is not None:
        segment = last.segments[0]
        yield replace(last, segments=(segment._replace(part=segment.part + 1, last=True),)).emptied()


async def lost(item: Input, error: InputError | RecordError, context: Context, again: deque[Input]) -> None:
    """A file cannot be used as it is: it goes to `again`, for another attempt, or is given up; raises where that ends
    the run.
    """
    failures, units = context.found.failures, context.found.units
    if isinstance(error, ChangedError) and (following := failures.again(item.file)) is not None:
        again.append(Input(following, item.dialect))
        if units is not None:
            await settled(context.io(units.again, item.file, following))
    else:
        failures.add([item.file], error)


async def _parted(item: Input, context: Context, block: int) -> Parted | None:
    """A file that can be read in stretches, opened; None for others, and one that is gone on with in its middle."""
    units = context.found.units
    if units is not None and units.ranges is not None and units.ranges.resumed(item.file) is not None:
        return None
    return await settled(context.io(parted, item, block, units), lambda found: found.close() if found else None)


async def _stretches(
    item: Input, whole: Parted, stretches: Stretches, context: Context
) -> AsyncGenerator[Stretch, None]:
    """The stretches of a file, as long as it is wanted."""
    trail = Trail(whole.checksum, whole.byte)
    stretches.begin(item.file, trail)
    try:
        while some := await settled(context.io(whole.some, _STRETCHES)):
            for stretch in some:
                if trail.over or item.file.index in context.found.failures:
                    return
                if context.stopping:
                    context.found.cut = True
                    return
                stretches.leave()
                yield stretch
    finally:
        await settled(context.io(whole.close))


async def _small_ones(group: list[Input], context: Context) -> AsyncGenerator[Chunk, None]:
    chunks, error = await context.io(small_files, group, context.found.failures, context.found.units)
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


async def _blocks(item: Input, context: Context, block: int, opened: list[Version]) -> AsyncGenerator[bytes, None]:
    """The bytes of one input; a regular file is watched for changes, a stream is read until it ends.

    opened: gets the signature of a regular file.
    """
    file = item.file
    if file.size < 0:
        from aiopipe.storage.streams import stream_blocks

        async with aclosing(stream_blocks(file.path, context, block)) as stream:
            async for data in stream:
                yield data
        return
    try:
        fd, before = await settled(context.io(open_regular, file), lambda opened: os.close(opened[0]))
    except OSError as error:
        raise trouble(file, error) from None
    opened.append(Version.of(before))
    units = context.found.units
    try:
        raw, count = _raw(fd, file, before, units)
        with raw:
            handle = wrap(raw, executor=getattr(context, "files", None))
            # The next block is read while this one is cut: one after the other would be the slowest of all stages.
            coming = asyncio.ensure_future(handle.read(block))
            try:
                while data := await settled(coming):
                    count += len(data)
                    coming = asyncio.ensure_future(handle.read(block))
                    yield data
                    if context.stopping and count != before.st_size:
                        context.found.cut = True
                        return
            finally:
                with contextlib.suppress(OSError):
                    await settled(coming)  # nobody closes the file under it
            unchanged(file, before, os.fstat(fd), count)
    except OSError as error:  # of a read, or of the close
        raise trouble(file, error) from None


def _raw(fd: int, file: FileRef, before: os.stat_result, units: Units | None) -> tuple[io.FileIO, int]:
    """The file to be read from where an earlier run got to, and how many bytes that is in; takes the descriptor."""
    try:
        checksum = units.reading(file, before) if units is not None else None
        if checksum is None:
            return io.FileIO(fd, "rb"), 0
        if checksum.count:
            os.lseek(fd, checksum.count, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return Watched(fd, checksum), checksum.count


def _header_of(item: Input, block: int) -> tuple[Header, int]:
    """The header of a file that is not read from its beginning, and how many lines come before its records."""
    data = b""
    try:
        fd, _ = open_regular(item.file)
        try:
            while more := os.read(fd, block):
                data += more
                if has_record(data, item.dialect):
                    break
        finally:
            os.close(fd)
    except OSError as error:
        raise trouble(item.file, error) from None
    header, _, lines = read_header(data, item.dialect)
    return header, lines


async def _large_file(item: Input, context: Context, block: int) -> AsyncGenerator[Chunk, None]:
    """One file, or stream, as chunks."""
    file, dialect = item.file, item.dialect
    cutter = Cutter(dialect)
    header: Header | None = None
    decoder: Any = None
    outer = ""
    part, byte, head_lines, waiting = 0, 0, 0, b""
    # One chunk is held back, so that the last one can be marked. Not of a stream: somebody may wait for what it
    # brought; its last mark goes on a chunk without records.
    held: Chunk | None = None
    ended = False
    ranges = context.found.units.ranges if context.found.units is not None else None
    resumed = ranges.begin(file) if ranges is not None else None
    if resumed is not None:
        part, byte = resumed.reached.part, resumed.reached.byte
        header, head_lines = await settled(context.io(_header_of, item, block))
    opened: list[Version] = []
    source = _blocks(item, context, block, opened)
    try:
        while not ended:
            data = await anext(source, b"")
            ended = not data
            if ended and context.found.cut:
                break
            if dialect.transcoded:
                if decoder is None:
                    outer = _outer_encoding(dialect.encoding, data)
                    decoder = codecs.getincrementaldecoder(outer)()
                data = _transcode(decoder, data, ended, item)
            if header is None:
                waiting += data
                whole = ended or has_record(waiting, dialect)
                if len(waiting) > dialect.max_record and not whole:
                    raise RecordError("the header is longer than the limit", hint="is this a CSV file?")
                if not whole:
                    continue
                header, start, head_lines = read_header(waiting, dialect)
                byte, data, waiting = start, waiting[start:], b""
                if outer:
                    header, byte = header._replace(transcode=outer), -1
            if ended:
                chunk = (cutter.feed(data) if data else b"") + cutter.finish()
            elif cutter.is_quick(data):
                chunk = cutter.feed(data)
            else:
                chunk = await context.io(cutter.feed, data)  # computing has a queue
            if not chunk and not ended:
                continue
            if not chunk and held is not None:
                held = replace(held, segments=(held.segments[0]._replace(last=True),))
                break
            if held is not None:
                yield held
            segment = Segment(file, part, ended, 0, byte, head_lines=head_lines if part == 0 else 0)
            origin = (file.path, opened[0]) if byte >= 0 and opened else None
            held = Chunk(chunk, header, dialect, (segment,), origin)
            if file.size < 0 and not ended:
                yield held
                held = None
            part += 1
            byte = byte + len(chunk) if byte >= 0 else -1
            if ranges is not None:
                ranges.cut(file, part, byte)
        if held is not None:
            yield held
    except (RecordError, InputError) as error:
        if held is not None:
            yield held  # what stands before the fault comes first
        if not isinstance(error, RecordError):
            raise
        if header is None or error.position is not None:
            raise at(error, file) from None
        raise uncut(error, file, part, head_lines, byte) from None
    finally:
        await source.aclose()


def _outer_encoding(encoding: str, data: bytes) -> str:
    """UTF-16 and UTF-32 with their byte order: the mark is then an ordinary character that is kept."""
    if encoding in ("utf-16", "utf-32"):
        big = data.startswith(codecs.BOM_UTF16_BE if encoding == "utf-16" else codecs.BOM_UTF32_BE)
        return encoding + ("-be" if big else "-le")
    return encoding


def _transcode(decoder: Any, data: bytes, ended: bool, item: Input) -> bytes:
    try:
        text: str = decoder.decode(data, ended)
        return text.encode()
    except UnicodeError as error:
        raise RecordError(
            f"the file is not {item.dialect.encoding}: {error}",
            position=Position(item.file.path),
            hint="say --encoding with what it is",
        ) from None


def chunks_of(data: bytes, dialect: Dialect, name: str = "data", block: int = BLOCK) -> Iterator[Chunk]:
    """The chunks of a CSV held in memory: what tests and the sample use, without a loop."""
    file = FileRef(name, name, 0, len(data))
    header, start, head_lines = read_header(data, dialect)
    cutter, part, byte = Cutter(dialect), 0, start
    blocks = [data[i : i + block] for i in range(start, len(data), block)] or [b""]
    for i, piece in enumerate(blocks):
        last = i == len(blocks) - 1
        chunk = cutter.feed(piece) + (cutter.finish() if last else b"")
        if chunk or last:
            yield Chunk(
                chunk, header, dialect, (Segment(file, part, last, 0, byte, head_lines=head_lines if part == 0 else 0),)
            )
            part += 1
            byte += len(chunk)


def sample_of(file: FileRef, dialect: Dialect, records: int, wanted: frozenset[str]) -> dict[str, list[str]]:
    """The wanted columns' values in the first records of a file; see values_of."""
    # Most samples are small: what is read beyond them is decoded for nothing, 5 ms a file for a MiB.
    for size in (BLOCK >> 5, BLOCK >> 3, BLOCK >> 1, BLOCK):
        try:
            fd, status = open_regular(file)
            try:
                data = os.read(fd, min(status.st_size, size))
            finally:
                os.close(fd)
        except OSError as error:
            raise trouble(file, error) from None
        whole = len(data) == status.st_size
        values, count = values_of(data, file, dialect, records, wanted, whole=whole)
        if whole or count == records:
            break
    return values


def values_of(
    data: bytes, file: FileRef, dialect: Dialect, records: int, wanted: frozenset[str], *, whole: bool
) -> tuple[dict[str, list[str]], int]:
    """Every column of the beginning (or all) of a file, the wanted ones with the values of its first records.

    Also how many records these are. wanted: names in lower case. Malformed records are passed over.
    """
    if dialect.transcoded:
        decoder = codecs.getincrementaldecoder(dialect.encoding)("replace")
        data = decoder.decode(data, whole).encode()
    if not whole and not has_record(data, dialect):
        return {}, 0
    try:
        header, start, _ = read_header(data, dialect)
        body = data[start:]
        if not whole:
            body = Cutter(dialect).feed(body)
    except RecordError as error:
        raise at(error, file) from None
    from aiopipe.codec.chunk import decode

    batch = decode(Chunk(body, header, dialect, (Segment(file, 0, True, 0, start),)))
    if len(batch) > records:
        import numpy as np

        batch = batch.filter(np.arange(len(batch)) < records)
    unique = [c.name for c in batch.columns if batch.names.count(c.name) == 1]
    values = {n: batch.values(n).to_pylist() if n.lower() in wanted else [] for n in unique}
    return values, len(batch)
