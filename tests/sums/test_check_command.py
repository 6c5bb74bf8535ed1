from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import regular_files
from .test_hash_command import aiopipe, native


def sums(root: Path, *options: str) -> bytes:
    done = aiopipe("hash", *options, ".", cwd=root)
    assert done.returncode == 0
    return done.stdout


def small(root: Path) -> None:
    for name in ("a", "b", "c"):
        (root / name).write_text(name)


@pytest.mark.parametrize("tool", ["sha256sum", "md5sum", "sha512sum", "b2sum"])
@pytest.mark.parametrize("options", [(), ("--tag",), ("-z",)])
def test_we_check_what_coreutils_writes_of_a_hostile_tree(hostile: Path, tool: str, options: tuple[str, ...]):
    names = [b"./" + os.path.relpath(path, os.fsencode(hostile)) for path in regular_files(hostile)]
    theirs = subprocess.run([*native(tool), *options, *names], cwd=hostile, capture_output=True, check=True)
    done = aiopipe("check", *(("-a", "blake2b") if tool == "b2sum" else ()), "-", cwd=hostile, input=theirs.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK\n") == len(names)


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "gnu"),
        ("--format", "bsd", "-a", "sha256,md5"),
        ("-z",),
        ("--format", "jsonl", "-a", "sha1,crc32"),
        ("--format", "csv", "-a", "sha3_256,blake2s"),
        ("-a", "blake3"),
        ("-a", "xxh128"),
        ("-a", "xxh3"),
        ("-a", "sha3_512"),
        ("-a", "crc32c"),
    ],
)
def test_we_check_what_we_write_and_find_out_the_algorithm(hostile: Path, options: tuple[str, ...]):
    manifest = sums(hostile, *options)
    (hostile / "plain.txt").write_bytes(b"other")
    (hostile / "empty").unlink()
    done = aiopipe("check", "--quiet", "-", cwd=hostile, input=manifest)
    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {b"./plain.txt: FAILED", b"./empty: FAILED open or read"}
    assert b"1 did NOT match, 1 missing" in done.stderr


def test_the_result_lines_are_those_of_sha256sum(hostile: Path):
    manifest = sums(hostile)
    (hostile / "plain.txt").write_bytes(b"other")
    (hostile / "new\nline").unlink()
    theirs = subprocess.run(native("sha256sum", "-c"), cwd=hostile, input=manifest, capture_output=True)
    ours = aiopipe("check", "-", cwd=hostile, input=manifest)
    assert ours.stdout == theirs.stdout
    assert ours.returncode == theirs.returncode == 1


D = b"d41d8cd98f00b204e9800998ecf8427e"
EMPTY, GONE, WRONG, BAD = (D + b"  empty\n", D + b"  gone\n", D[::-1] + b"  empty\n", b"garbage\n")


@pytest.mark.parametrize("flags", [(), ("--strict",), ("--ignore-missing",), ("--strict", "--ignore-missing")])
@pytest.mark.parametrize("lines", [EMPTY, GONE, WRONG, BAD, EMPTY + BAD, EMPTY + GONE, GONE + BAD, b""])
def test_the_exit_code_is_that_of_md5sum(tmp_path: Path, lines: bytes, flags: tuple[str, ...]):
    (tmp_path / "empty").touch()
    theirs = subprocess.run(native("md5sum", "-c", *flags), cwd=tmp_path, input=lines, capture_output=True)
    ours = aiopipe("check", "-a", "md5", *flags, "-", cwd=tmp_path, input=lines)
    assert ours.returncode == theirs.returncode
    assert ours.stdout == theirs.stdout


def test_status_prints_nothing_and_warn_names_the_line(tmp_path: Path):
    (tmp_path / "empty").touch()
    (tmp_path / "SUMS").write_bytes(EMPTY + BAD + WRONG)
    done = aiopipe("check", "--status", "--warn", "SUMS", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = aiopipe("check", "--warn", "SUMS", cwd=tmp_path)
    assert b"aiopipe: SUMS: 2: improperly formatted checksum line" in done.stderr
    assert b"aiopipe: SUMS: 1 ok, 1 did NOT match, 1 improperly formatted line" in done.stderr


def test_names_are_looked_for_below_the_base(tmp_path: Path):
    (tmp_path / "in").mkdir()
    small(tmp_path / "in")
    (tmp_path / "SUMS").write_bytes(sums(tmp_path / "in"))
    assert aiopipe("check", "--quiet", "--base", "in", "SUMS", cwd=tmp_path).returncode == 0
    assert aiopipe("check", "--quiet", "SUMS", cwd=tmp_path).returncode == 1


def test_several_manifests_are_all_checked_and_a_missing_one_is_said(tmp_path: Path):
    small(tmp_path)
    (tmp_path / "one").write_bytes(sums(tmp_path, "-a", "md5"))
    (tmp_path / "two").write_bytes(sums(tmp_path, "-a", "sha1", "--include", "b"))
    done = aiopipe("check", "one", "absent", "two", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count(b": OK\n") == 4
    assert b"absent: No such file or directory" in done.stderr


def test_a_file_without_checksums_is_told_what_to_name(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello\n")
    done = aiopipe("check", "notes.txt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines() == [
        b"aiopipe: notes.txt: no properly formatted checksum lines found",
        b"  next: name a manifest, such as SHA256SUMS, that aiopipe hash or sha256sum has written",
    ]


def test_a_listed_fifo_or_directory_fails_and_never_hangs(hostile: Path):
    done = aiopipe("check", "-", cwd=hostile, input=D + b"  fifo\n" + D + b"  sub\n" + D + b"  empty\n")
    assert done.returncode == 1
    assert done.stdout == b"fifo: FAILED open or read\nsub: FAILED open or read\nempty: OK\n"


def test_a_symlink_that_is_listed_is_followed(hostile: Path):
    manifest = subprocess.run(native("md5sum", "to file"), cwd=hostile, capture_output=True, check=True).stdout
    assert aiopipe("check", "--quiet", "-", cwd=hostile, input=manifest).returncode == 0


def test_the_name_of_a_manifest_tells_its_algorithm(tmp_path: Path):
    small(tmp_path)
    (tmp_path / "SHA3-256SUMS").write_bytes(sums(tmp_path, "-a", "sha3-256"))
    (tmp_path / "a").write_text("changed")
    (tmp_path / "b").unlink()
    (tmp_path / "c").unlink()
    done = aiopipe("check", "--ignore-missing", "SHA3-256SUMS", cwd=tmp_path)
    assert done.stdout == b"./a: FAILED\n"


def test_a_file_rewritten_during_the_check_is_a_failure_with_its_reason(tmp_path: Path):
    import threading

    (tmp_path / "f").write_bytes(b"\0" * 2_000_000)
    manifest = sums(tmp_path)
    over = threading.Event()

    def write() -> None:
        with (tmp_path / "f").open("r+b") as file:
            while not over.is_set():
                file.seek(0)
                file.write(b"\1" * 2_000_000)
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = aiopipe("check", "-", cwd=tmp_path, input=manifest)
    finally:
        over.set()
        thread.join()
    assert done.returncode == 1


def test_many_files_under_two_algorithms_are_checked(tmp_path: Path):
    for number in range(1500):
        (tmp_path / f"{number:04}").write_bytes(b"%d" % number)
    first = sums(tmp_path, "--include", "0*")
    second = sums(tmp_path, "--include", "1*", "-a", "md5")
    done = aiopipe("check", "--quiet", "-", cwd=tmp_path, input=first + second)
    assert done.returncode == 0, done.stderr


def test_what_is_not_as_expected_is_told_at_every_size_and_by_every_backend(tmp_path: Path):
    """Small files are only compared with what is expected of them; the others go the way of `hash`."""
    sizes = [0, 1, 100, 16_384, 16_385, 200_000, 9_000_000]
    for number, size in enumerate(sizes):
        for kind in ("good", "bad"):
            (tmp_path / f"{kind} {number}").write_bytes(os.urandom(size))
    os.link(tmp_path / "good 2", tmp_path / "good link")
    assert aiopipe("hash", "-a", "md5,sha256", "-o", "../sums", ".", cwd=tmp_path).returncode == 0
    for number in range(len(sizes)):
        with open(tmp_path / f"bad {number}", "r+b") as file:
            file.write(b"!")
    for backend in ("threads", "processes"):
        done = aiopipe("check", "--backend", backend, "../sums", cwd=tmp_path)
        told = dict(line.decode().rsplit(": ", 1) for line in done.stdout.splitlines())
        assert {name.split()[0].removeprefix("./"): word for name, word in told.items()} == {
            "good": "OK",
            "bad": "FAILED",
        }
        assert len(told) == 2 * len(sizes) + 1


def test_a_pipe_in_a_manifest_is_told_and_nothing_is_taken_from_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    keep = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(keep, b"for others")
        (tmp_path / "sums").write_bytes(b"0" * 64 + b"  pipe\n")
        done = aiopipe("check", "sums", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"pipe: FAILED open or read\n")
        assert b"it is a FIFO" in done.stderr
        assert os.read(keep, 100) == b"for others"
    finally:
        os.close(keep)
