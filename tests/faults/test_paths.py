"""Paths that are missing, unreadable, or would make a run eat its own input."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from aiopipe import Collect, Filter, InputError, OutputError, Read, UsageError, Write
from tests.support import drive, failure, tree, write

CSV = b"id,v\n1,2\n"


def test_a_missing_path_is_named_and_no_output_touched(tmp_path):
    write(tmp_path / "out.csv", "old")
    for pipeline in (Read(tmp_path / "no.csv"), Read(tmp_path / "no.csv") | Filter("a = 1")):
        error = failure(pipeline | Write(f"{tmp_path}/out.csv"))
        assert isinstance(error, InputError)
        assert f"{tmp_path}/no.csv: no such file" in str(error)
        assert error.hint
    assert tree(tmp_path) == {"out.csv": b"old"}


def test_a_glob_or_directory_that_holds_nothing_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no file matches" in str(failure(Read(tmp_path / "*.csv") | Collect()))
    assert "quote a glob" in str(failure(Read(tmp_path / "*.csv") | Collect()))
    assert "no file like *.csv or *.tsv in" in str(failure(Read(tmp_path / "empty") | Collect()))


def test_an_unreadable_file_is_named_with_what_the_system_says(tmp_path, monkeypatch):
    """Files before it are done, it and what follows are not."""
    for name in "abc":
        write(tmp_path / f"in/{name}.csv", CSV)
    write(tmp_path / "out/b.csv", "old")
    real = os.open

    def refuse(path, *rest, **named):
        if str(path).endswith("in/b.csv"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    error = failure(Read(tmp_path / "in") | Write(f"{tmp_path}/out/"))
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{tmp_path}/in/b.csv: read: Permission denied")
    assert "permissions" in str(error)
    assert tree(tmp_path / "out") == {"a.csv": CSV, "b.csv": b"old"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_modes_are_respected_when_we_are_not_root():
    """A file, and a directory, that may not be read; in a process that has become nobody."""
    code = """if True:
        import os, sys
        from aiopipe import Collect, InputError, Read
        root = sys.argv[1]
        assert (Read(f"{root}/good.csv") | Collect()).run_sync().written == 1  # everything is imported now
        os.setuid(65534)
        for path in (f"{root}/bad.csv", f"{root}/shut"):
            try:
                (Read(path) | Collect()).run_sync()
            except* InputError as group:
                print(group.exceptions[0])
    """
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for name in ("good.csv", "bad.csv", "shut/a.csv"):
            write(Path(root) / name, CSV)
        os.chmod(f"{root}/bad.csv", 0)
        os.chmod(f"{root}/shut", 0)
        done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, timeout=60)
    said = [line for line in done.stdout.splitlines() if "next:" not in line]
    assert said == [f"{root}/bad.csv: read: Permission denied", f"read: {root}/shut: Permission denied"], done.stderr


def test_a_directory_where_a_file_should_go_is_refused(tmp_path):
    """An existing directory is mirrored into; one that appears after the check is still no file."""
    path = write(tmp_path / "in.csv", CSV)
    (tmp_path / "taken/in.csv").mkdir(parents=True)
    error = failure(Read(path) | Write(f"{tmp_path}/taken/"))
    assert isinstance(error, OutputError)
    assert "a directory stands where the file should go" in str(error)
    write(tmp_path / "file", "x")
    error = failure(Read(path) | Write(f"{tmp_path}/file/"))
    assert isinstance(error, OutputError)


def test_an_output_that_is_its_own_input_is_refused_in_every_spelling(tmp_path, monkeypatch):
    write(tmp_path / "in/b.csv", CSV)
    write(tmp_path / "in/sub/b.csv", CSV)
    os.symlink(tmp_path / "in", tmp_path / "alias")
    monkeypatch.chdir(tmp_path)
    same = [
        (Read("in/b.csv"), "in/b.csv"),
        (Read("in/b.csv"), f"{tmp_path}/in/../in/b.csv"),
        (Read("in/b.csv"), "alias/b.csv"),
        (Read("in/b.csv"), "in/"),
        (Read("in/b*.csv"), "in/"),
        (Read("in"), "in"),
        (Read("in"), "in/new/"),
        (Read("in"), "alias/new/"),
        (Read("in/**/b*.csv"), "in/new/"),
        (Read("in/[bc].csv"), "in/"),
        (Read("in"), "in/all.csv"),
        (Read("in/*.csv"), "in/all.csv"),
    ]
    before = tree(tmp_path)
    for source, to in same:
        error = failure(source | Write(to))
        assert isinstance(error, UsageError), (source, to)
        assert "input" in str(error)
    assert tree(tmp_path) == before
    for source, to in [(Read("in/*.csv"), "in/new/"), (Read("in/b.csv"), "in/c.csv"), (Read("in"), "in/all.txt")]:
        assert (source | Write(to)).run_sync().written


def test_two_inputs_that_would_become_one_output_are_an_error(tmp_path):
    for name in ("1/x.csv", "2/x.csv", "3/y.csv", "3/y.tsv"):
        write(tmp_path / name, CSV.replace(b",", b"\t") if name.endswith("tsv") else CSV)
    error = failure(Read([tmp_path / "1", tmp_path / "2"]) | Write(f"{tmp_path}/out/"))
    assert isinstance(error, OutputError)
    assert f"{tmp_path}/1/x.csv and {tmp_path}/2/x.csv would both become {tmp_path}/out/x.csv" in str(error)
    error = failure(Read(tmp_path / "3") | Write(f"{tmp_path}/out/", format="jsonl"))
    assert "y.csv and" in str(error)


def test_a_fifo_in_a_directory_is_passed_over_and_told(tmp_path):
    """Opening it would wait for ever for somebody to write to it."""
    write(tmp_path / "in/a.csv", CSV)
    os.mkfifo(tmp_path / "in/b.csv")
    os.symlink(tmp_path / "gone", tmp_path / "in/c.csv")
    report = (Read(tmp_path / "in") | Filter("id = 1") | Collect()).run_sync()
    assert report.written == 1
    assert report.files == 1
    passed = dict(report.skipped)
    assert passed == {
        f"{tmp_path}/in/b.csv": "no regular file",
        f"{tmp_path}/in/c.csv": "No such file or directory",
    }
    assert "2 entries passed over" in str(report)


def test_symbolic_links_to_directories_are_followed_when_asked_and_loops_cut(tmp_path):
    write(tmp_path / "in/a.csv", CSV)
    write(tmp_path / "else/b.csv", CSV)
    os.symlink(tmp_path / "in", tmp_path / "in/loop")
    os.symlink(tmp_path / "else", tmp_path / "in/other")
    assert (Read(tmp_path / "in") | Collect()).run_sync().files == 1
    report = (Read(tmp_path / "in", follow=True) | Collect()).run_sync()
    assert report.files == 2
    assert report.skipped == [(f"{tmp_path}/in/loop", "a symbolic link that leads back to a directory above it")]


def test_a_fifo_named_by_the_user_is_read_as_a_stream(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def feed():
        with open(tmp_path / "pipe", "wb") as file:
            for i in range(1000):
                file.write(b"id,v\n" if i == 0 else b"%d,x\n" % i)

    writer = threading.Thread(target=feed)
    writer.start()
    report = (Read(tmp_path / "pipe", block=64) | Collect()).run_sync()
    writer.join()
    assert [r["id"] for r in report.items] == [str(i) for i in range(1, 1000)]


def test_a_run_that_waits_for_a_silent_fifo_can_be_cancelled(tmp_path):
    """With no writer at all, and with one that says nothing."""
    import asyncio

    os.mkfifo(tmp_path / "pipe")

    async def main():
        running = asyncio.create_task((Read(tmp_path / "pipe") | Collect()).run())
        await asyncio.sleep(0.15)
        running.cancel()
        await asyncio.wait([running], timeout=5)
        assert running.cancelled()

    drive(main)
    keep = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        drive(main)
    finally:
        os.close(keep)


def changing(path, change):
    """A filter whose condition is a plain read, with `change` called once the first block is out."""
    from tests.engine.pieces import Gather

    done = []

    async def each(parcel):
        if not done:
            done.append(True)
            change()

    return Read(path, block=1000) | Gather(each)


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path):
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 50_000)

    def grow():
        with open(path, "ab") as file:
            file.write(b"2\n")

    error = failure(changing(path, grow))
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{path}: read: changed while it was read (100003 bytes, then 100005)")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 50_000)
    assert "changed while it was read" in str(failure(changing(path, lambda: os.truncate(path, 60_001))))


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(tmp_path):
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 50_000)
    other = write(tmp_path / "other", "id\n" + "2\n" * 50_000)
    assert "was replaced or removed" in str(failure(changing(path, lambda: os.replace(other, path))))


def test_a_file_that_is_written_to_in_place_is_an_error(tmp_path):
    path = write(tmp_path / "in.csv", "id\n" + "1\n" * 50_000)

    def scribble():
        with open(path, "r+b") as file:
            file.seek(5)
            file.write(b"9")

    assert "was written to while it was read" in str(failure(changing(path, scribble)))


def test_a_fifo_that_took_a_files_place_is_an_error_and_no_hang(tmp_path, monkeypatch):
    from aiopipe.storage import find

    path = write(tmp_path / "in/a.csv", CSV)
    real = find.Finder._size

    def then_swap(self, full, entry):
        found = real(self, full, entry)
        os.unlink(path)
        os.mkfifo(path)
        return found

    monkeypatch.setattr(find.Finder, "_size", then_swap)
    assert "no regular file any more" in str(failure(Read(tmp_path / "in") | Collect()))
