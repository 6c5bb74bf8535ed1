from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

HOSTILE = [
    b"plain.txt",
    b"with space",
    b"-dash",
    b"--version",
    b" leading",
    b"trailing ",
    b"*star",
    b"new\nline",
    b"back\\slash",
    b"back\\nslash",
    b"carriage\rreturn",
    b'quote\'d "twice"',
    b"comma,semi;",
    b"(paren) = x",
    b"percent%0A",
    b"#hash",
    b"; comment",
    "\u00e9 NFC".encode(),
    "e\u0301 NFD".encode(),
    "\u65e5\u672c".encode(),
    b".hidden",
    b"0" * 200,
]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A tree with everything that breaks checksum tools; what is no file is there too."""
    if sys.platform == "win32":
        pytest.skip("these names are no names on Windows")
    root = tmp_path / "hostile"
    (root / "sub" / "deeper").mkdir(parents=True)
    base = os.fsencode(root)
    names = list(HOSTILE)
    if sys.platform != "darwin":  # APFS refuses names that are no UTF-8
        names.append(b"bytes\xff\xfe")
    for number, name in enumerate(names):
        for folder in (b"", b"sub/"):
            with open(os.path.join(base, folder, name), "wb") as file:
                file.write(b"%d in %s" % (number, folder))
    (root / "empty").write_bytes(b"")
    with open(root / "sparse", "wb") as file:
        file.truncate(3 * 1024 * 1024 + 7)
    (root / "middle").write_bytes(os.urandom(70_000))
    os.link(root / "middle", root / "sub" / "middle link")
    (root / "sub" / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    (root / "to file").symlink_to("plain.txt")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path is at most 108 bytes
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    return root


def regular_files(root: Path) -> list[bytes]:
    """Every regular file below a root, by the plainest code there is."""
    found = []
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(path)
    return sorted(found)


@pytest.fixture(autouse=True)
def nothing_left_running():
    """Every test ends with no thread of ours left."""
    import threading

    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("aiopipe-hash")]
    assert not left
