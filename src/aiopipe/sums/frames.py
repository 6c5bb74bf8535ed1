"""What goes between a run and its worker processes: a 4-byte length and a marshalled value, over pipes.

marshal is the quickest serializer in the standard library for tuples of bytes and numbers, and both ends are
this very interpreter, which is all that it asks for. It takes no named tuples: `plain` makes them tuples.
"""

from __future__ import annotations

import marshal
import os
import select

from aiopipe.sums.model import FileHash, Signature
from aiopipe.sums.runners import Rendered, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Wire", "plain", "receive", "revived", "send"]

_BLOCK = 1 << 18


def plain(value: Any) -> Any:
    """A piece's value as marshal takes it."""
    if value is None:
        return None
    if isinstance(value, Rendered):
        failed = [_plain(each) for each in value.failed]
        return (value.text, value.files, value.size, failed, [_plain(each) for each in value.fresh])
    return [_plain(each) if type(each) is FileHash else each for each in value]


def _plain(result: FileHash) -> list[Any]:
    # A list, which nothing else is: so the other end knows it from the tuple of a brief answer.
    path, status, digests, signature, reason, how = result
    return [path, status, digests, signature and tuple(signature), reason, how]


def revived(value: Any, work: Work) -> Any:
    """The value that `plain` was given."""
    if value is None:
        return None
    if work.style is None:
        return [_revived(each) if type(each) is list else each for each in value]
    text, files, size, failed, fresh = value
    return Rendered(text, files, size, [_revived(each) for each in failed], [_revived(each) for each in fresh])


def _revived(result: list[Any], make: Any = tuple.__new__) -> FileHash:
    path, status, digests, signature, reason, how = result
    if signature is not None:
        signature = make(Signature, signature)
    made: FileHash = make(FileHash, (path, status, digests, signature, reason, how))
    return made


def _frame(value: Any) -> memoryview:
    body = marshal.dumps(value)
    return memoryview(len(body).to_bytes(4, "little") + body)


def send(fd: int, value: Any) -> None:
    """Write one frame; raises OSError where the other end is gone."""
    frame = _frame(value)
    while frame:
        frame = frame[os.write(fd, frame) :]


def receive(fd: int, before: bytearray) -> Any:
    """Read one frame, or None at the end of the stream. `before` keeps what was read of the next one."""
    while True:
        if len(before) >= 4:
            stop = 4 + int.from_bytes(before[:4], "little")
            if len(before) >= stop:
                value = marshal.loads(memoryview(before)[4:stop])
                del before[:stop]
                return value
        block = os.read(fd, _BLOCK)
        if not block:
            return None
        before += block


class Wire:
    """A worker's end. While it waits for its answers to be taken it takes jobs in, or both ends could be stuck.

    One thread does it all: a second one would fight with the hashing for the interpreter lock.
    """

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._before = bytearray()
        os.set_blocking(target, False)
        self._either = select.poll()
        self._either.register(source, select.POLLIN)
        self._either.register(target, select.POLLOUT)
        self._hung = select.poll()
        self._hung.register(source, 0)

    def receive(self) -> Any:
        """The next frame, or None where there will be none."""
        return receive(self._source, self._before)

    def send(self, value: Any) -> None:
        """Write one frame; raises OSError where nobody is left to read it."""
        frame = _frame(value)
        while frame:
            try:
                frame = frame[os.write(self._target, frame) :]
            except BlockingIOError:
                self._wait()

    def _wait(self) -> None:
        for fd, _ in self._either.poll():
            if fd == self._source:
                block = os.read(fd, _BLOCK)
                if not block:
                    raise BrokenPipeError
                self._before += block

    def abandoned(self) -> bool:
        """Whether the other end was closed: what is being hashed is of no use to anyone."""
        return bool(self._hung.poll(0))
