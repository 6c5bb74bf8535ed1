"""Against the tools of other packages; run by `make test-system`, which fails where one is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import regular_files
from .test_hash_command import aiopipe

pytestmark = pytest.mark.system

# Each writes lines of its own for these names, which it could not read back itself.
LINE_ENDS = (b"\n", b"\r")


def native(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        pytest.fail(f"this test needs {command[0]}: install it (apt: b3sum xxhash openssl hashdeep)")
    return list(command)


def names(root: Path, keep) -> list[bytes]:
    relative = [b"./" + os.path.relpath(path, os.fsencode(root)) for path in regular_files(root)]
    return [name for name in relative if keep(name)]


def plain(name: bytes) -> bool:
    return not any(end in name for end in LINE_ENDS)


def text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("command", "algorithm", "keep"),
    [
        (("b3sum",), "blake3", text),
        (("xxhsum", "-q", "-H1"), "xxh64", plain),
        (("xxhsum", "-q", "-H2"), "xxh128", plain),
    ],
)
def test_the_digests_and_lines_are_theirs(hostile: Path, command: tuple[str, ...], algorithm: str, keep):
    wanted = names(hostile, lambda name: keep(name) and plain(name) and b"\\" not in name)
    theirs = subprocess.run([*native(*command), *wanted], cwd=hostile, capture_output=True, check=True)
    ours = aiopipe("hash", "-a", algorithm, "--files-from", "-", "-0", cwd=hostile, input=b"\0".join(wanted))
    assert ours.stdout == theirs.stdout


@pytest.mark.parametrize(
    ("command", "options", "keep"),
    [
        (("b3sum",), (), text),
        (("xxhsum", "-q", "-H1"), (), plain),
        (("xxhsum", "-q", "-H2"), (), plain),
        (("xxhsum", "-q", "-H3"), (), plain),
        (("openssl", "dgst", "-sha256"), (), plain),
        (("openssl", "dgst", "-sha3-256", "-r"), ("-a", "sha3-256"), plain),
        (("hashdeep", "-b", "-c", "md5,sha256"), (), None),
    ],
)
def test_we_check_what_they_write(hostile: Path, command: tuple[str, ...], options: tuple[str, ...], keep):
    wanted = names(hostile, lambda name: (keep or plain)(name) and b"/sub/" not in name and b"./sub" not in name)
    theirs = subprocess.run([*native(*command), *wanted], cwd=hostile, capture_output=True, check=True)
    done = aiopipe("check", "--quiet", *options, "-", cwd=hostile, input=theirs.stdout)
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.parametrize(("command", "algorithm"), [(("b3sum", "-c"), "blake3"), (("xxhsum", "-c"), "xxh128")])
def test_they_check_what_we_write(hostile: Path, command: tuple[str, ...], algorithm: str):
    wanted = names(hostile, lambda name: text(name) and plain(name) and b"\\" not in name)
    ours = aiopipe("hash", "-a", algorithm, "--files-from", "-", "-0", cwd=hostile, input=b"\0".join(wanted))
    done = subprocess.run([*native(*command), "-"], cwd=hostile, input=ours.stdout, capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_a_sparse_file_of_5_gib_has_the_digest_of_its_zeros(tmp_path: Path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(5 * 1024**3)
    ours = aiopipe("hash", "-a", "blake3", "sparse", cwd=tmp_path)
    theirs = subprocess.run([*native("b3sum"), "sparse"], cwd=tmp_path, capture_output=True, check=True)
    assert ours.stdout == theirs.stdout
