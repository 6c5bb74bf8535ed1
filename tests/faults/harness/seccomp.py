"""Stand between a process and the kernel: every call of chosen kinds waits until we have decided about it.

Linux's seccomp user notifications (seccomp_unotify(2)): the victim installs a filter and hands its listener to
us; each matching call of any of its threads then stops before it is begun, in one global order. We let it go on,
answer it with an error or a result of our own, or kill the victim. Compared with `strace -e inject`: calls are
counted over all threads instead of thread by thread, what is counted is decided by path, and a victim that was
forked from a program that has everything imported costs milliseconds. No root is needed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Call", "Decision", "Outcome", "available", "install", "supervise"]

_X86 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "pread64": 17, "pwrite64": 18, "writev": 20, "fsync": 74,
    "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
    "link": 86, "unlink": 87, "symlink": 88, "fchmod": 91, "openat": 257, "mkdirat": 258, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "utimensat": 280, "fallocate": 285, "pwritev": 296,
    "syncfs": 306, "renameat2": 316, "copy_file_range": 326,
}  # fmt: skip
_ARM = {
    "read": 63, "write": 64, "close": 57, "pread64": 67, "pwrite64": 68, "writev": 66, "fsync": 82,
    "fdatasync": 83, "truncate": 45, "ftruncate": 46, "fchmod": 52, "openat": 56, "mkdirat": 34, "unlinkat": 35,
    "renameat": 38, "linkat": 37, "symlinkat": 36, "utimensat": 88, "fallocate": 47, "pwritev": 70, "syncfs": 267,
    "renameat2": 276, "copy_file_range": 285,
}  # fmt: skip
_MACHINES = {"x86_64": (_X86, 317), "aarch64": (_ARM, 277)}
_NUMBERS, _SECCOMP = _MACHINES.get(platform.machine(), ({}, 0))
_NAMES = {number: name for name, number in _NUMBERS.items()}

# Which arguments are descriptors, paths, or a directory's descriptor with a path.
_BY_FD = {"read", "pread64", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "syncfs", "ftruncate",
          "close", "fchmod", "fallocate", "copy_file_range"}  # fmt: skip
_BY_PATH = {"open": (0,), "creat": (0,), "mkdir": (0,), "unlink": (0,), "rmdir": (0,), "truncate": (0,),
            "rename": (0, 1), "link": (0, 1), "symlink": (1,)}  # fmt: skip
_BY_DIRECTORY = {"openat": ((0, 1),), "mkdirat": ((0, 1),), "unlinkat": ((0, 1),), "utimensat": ((0, 1),),
                 "renameat": ((0, 1), (2, 3)), "renameat2": ((0, 1), (2, 3)), "linkat": ((0, 1), (2, 3)),
                 "symlinkat": ((1, 2),)}  # fmt: skip
_AT_FDCWD = 0xFFFFFF9C

_NOTIF, _RESPONSE = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")
_RECV, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to be made: its name, the paths it concerns, and its raw arguments."""

    name: str
    paths: tuple[str, ...]
    arguments: tuple[int, ...]
    thread: int

    @property
    def writes(self) -> bool:
        """Whether an open asks for more than reading."""
        flags = {"open": 1, "openat": 2}.get(self.name)
        return flags is None or bool(self.arguments[flags] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


# None lets the call go on; "kill" ends the victim before it is made; a positive number is the errno it fails
# with; "short" writes less than was asked for; "slow" holds it back for as long as the victim finds anything
# else to do, and tells the one who decided when it may go on at last.
Decision = None | int | str
_QUIET = 50  # milliseconds without a call: whoever could go on without the held one would have


@dataclass
class Outcome:
    """How a victim ended, what it said on standard error, and the call that was disturbed."""

    code: int
    said: str
    hit: Call | None = None


def available() -> bool:
    """Whether this system lets us: Linux 5.19 or newer on a machine whose call numbers we know."""
    if not _NUMBERS or platform.system() != "Linux":
        return False
    release = tuple(int(x) for x in platform.release().split("-")[0].split(".")[:2])
    return release >= (5, 19)


def install(names: set[str]) -> int:
    """In the victim: stop at calls of these names from here on, in all threads to come; the listener."""
    numbers = sorted(_NUMBERS[n] for n in names if n in _NUMBERS)
    code = [(0x20, 0, 0, 0)]  # load the number of the call
    for i, number in enumerate(numbers):
        code.append((0x15, len(numbers) - i, 0, number))  # equal: jump behind the allow
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FC00000)]  # allow; ask the listener
    raw = b"".join(struct.pack("HBBI", *one) for one in code)
    buffer = ctypes.create_string_buffer(raw)
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(buffer))
    if _libc.prctl(38, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    listener = _libc.syscall(_SECCOMP, 1, _NEW_LISTENER | _WAIT_KILLABLE, ctypes.c_char_p(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def supervise(
    victim: Callable[[], int],
    names: set[str],
    decide: Callable[[Call], Decision],
    *,
    patience: float = 60,
    said: str = "/dev/null",
) -> Outcome:
    """Fork, run `victim` under the filter, and decide about each call; its process group is dead on return.

    The caller has one thread only. said: a file for the victim's standard error.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            ours.close()
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 0)
            os.dup2(quiet, 1)
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            listener = install(names)
            socket.send_fds(theirs, [b"x"], [listener])
            os.close(listener)
            theirs.close()
            code = victim()
        finally:
            os._exit(code)
    theirs.close()
    _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    try:
        outcome = _attend(pid, listener, decide, patience)
    finally:
        os.close(listener)
    with open(said, encoding="utf-8", errors="backslashreplace") as file:
        outcome.said = file.read() if said != "/dev/null" else ""
    return outcome


def _attend(pid: int, listener: int, decide: Callable[[Call], Decision], patience: float) -> Outcome:
    outcome = Outcome(0, "")
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(handle, select.POLLIN)
    buffer = bytearray(_NOTIF.size)
    try:
        held: list[tuple[int, Call]] = []
        while True:
            ready = dict(poll.poll(_QUIET if held else patience * 1000))
            if not ready and held:
                number, call = held.pop(0)
                released = getattr(decide, "released", None)
                if released is not None:
                    released(call)
                _send(listener, number)
                continue
            if not ready:
                os.killpg(pid, signal.SIGKILL)
                outcome.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                raise TimeoutError(f"the victim did not end within {patience} s")
            if ready.get(listener, 0) & select.POLLIN:
                buffer[:] = bytes(len(buffer))
                try:
                    fcntl.ioctl(listener, _RECV, buffer)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.EINTR):
                        continue  # the caller was killed meanwhile
                    raise
                _answer(pid, handle, listener, buffer, decide, outcome, held)
            elif handle in ready:
                outcome.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                _end_group(pid)
                return outcome
    finally:
        os.close(handle)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _answer(
    pid: int,
    handle: int,
    listener: int,
    buffer: bytearray,
    decide: Callable[[Call], Decision],
    outcome: Outcome,
    held: list[tuple[int, Call]],
) -> None:
    number, thread, _, call_number, _, _, *arguments = _NOTIF.unpack(buffer)
    name = _NAMES[call_number]
    decision: Decision = None
    call = Call(name, _paths(name, arguments, thread), tuple(arguments), thread)
    if call.paths:
        decision = decide(call)
    if decision == "slow":
        held.append((number, call))
        return
    value, code, flags = 0, 0, _CONTINUE
    if decision is not None:
        outcome.hit = call
    if decision == "kill":
        os.killpg(pid, signal.SIGKILL)
    elif decision == "short":
        value, flags = _write_less(handle, thread, arguments), 0
    elif isinstance(decision, int):
        code, flags = -decision, 0
    _send(listener, number, value, code, flags)


def _send(listener: int, number: int, value: int = 0, code: int = 0, flags: int = _CONTINUE) -> None:
    try:
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(number, value, code, flags))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _paths(name: str, arguments: list[int], thread: int) -> tuple[str, ...]:
    try:
        if name in _BY_FD:
            return (os.readlink(f"/proc/{thread}/fd/{arguments[0]}"),)
        if name in _BY_PATH:
            return tuple(_absolute(thread, _AT_FDCWD, _text(thread, arguments[i])) for i in _BY_PATH[name])
        pairs = _BY_DIRECTORY[name]
        return tuple(_absolute(thread, arguments[d] & 0xFFFFFFFF, _text(thread, arguments[p])) for d, p in pairs)
    except OSError:
        return ()


def _text(thread: int, address: int) -> str:
    """The path at an address of the victim's memory."""
    if not address:
        return ""
    out = b""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        while b"\0" not in out:
            memory.seek(address + len(out))
            out += memory.read(256 - (address + len(out)) % 256)  # never beyond the end of a page
    return os.fsdecode(out[: out.index(b"\0")])


def _absolute(thread: int, directory: int, path: str) -> str:
    if path.startswith("/"):
        return os.path.normpath(path)
    at = "cwd" if directory == _AT_FDCWD else f"fd/{directory}"
    return os.path.normpath(os.path.join(os.readlink(f"/proc/{thread}/{at}"), path))


def _write_less(handle: int, thread: int, arguments: list[int]) -> int:
    """Write some of what the victim wants written, in its place; how much."""
    fd, address, count = arguments[:3]
    few = max(1, min(7, count // 2))
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        data = memory.read(few)
    mine = _libc.syscall(438, handle, fd, 0)  # pidfd_getfd: shares the file's offset
    if mine < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    try:
        return os.write(mine, data)
    finally:
        os.close(mine)
