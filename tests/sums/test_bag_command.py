from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from aiopipe.errors import OutputError
from aiopipe.sums import HashOptions
from aiopipe.sums import bag as bags

from .test_hash_command import aiopipe

FILES = {
    "letter.txt": b"Dear",
    "sub/deep/photo.jpg": b"\xff\xd8" * 1000,
    "empty": b"",
    "data/inner": b"a directory called data",
    "new\nline": b"n",
    "carriage\rreturn": b"r",
    " leading": b"l",
    "caf\u00e9": b"c",
}


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "letters" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "letters" / name).write_bytes(data)
    return tmp_path / "letters"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def validate(root: Path, *options: str):
    done = aiopipe("bag", "validate", *options, root.name, cwd=root.parent)
    return done.returncode, done.stdout.decode().splitlines()


def test_a_directory_becomes_a_bag_and_the_bag_is_valid(letters: Path):
    done = aiopipe(
        "bag", "create", "-a", "md5,sha256", "--info", "Contact-Name=Ada = Co", "letters", cwd=letters.parent
    )
    assert done.returncode == 0, done.stderr
    assert contents(letters / "data") == FILES
    assert (letters / "bagit.txt").read_text() == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    assert f"Payload-Oxum: {sum(map(len, FILES.values()))}.8\n" in (letters / "bag-info.txt").read_text()
    assert "Contact-Name: Ada = Co\n" in (letters / "bag-info.txt").read_text()
    assert (letters / "manifest-md5.txt").read_bytes().count(b"\n") == len(FILES)
    assert sorted(os.listdir(letters)) == [
        "bag-info.txt",
        "bagit.txt",
        "data",
        "manifest-md5.txt",
        "manifest-sha256.txt",
        "tagmanifest-md5.txt",
        "tagmanifest-sha256.txt",
    ]
    assert validate(letters) == (0, [])
    assert validate(letters, "--fast") == (0, [])


@pytest.mark.system
def test_the_bagit_package_finds_it_valid_and_we_find_theirs_valid(letters: Path):
    theirs = letters.parent / "theirs"
    shutil.copytree(letters, theirs)
    aiopipe("bag", "create", "-a", "sha256,sha512", "letters", cwd=letters.parent)
    run = [sys.executable, "-m", "bagit"]
    assert subprocess.run([*run, "--validate", str(letters)], capture_output=True).returncode == 0
    subprocess.run([*run, "--sha256", str(theirs)], capture_output=True, check=True)
    assert validate(theirs) == (0, [])


def damaged(root: Path, what: str) -> None:
    if what == "changed":
        (root / "data" / "letter.txt").write_bytes(b"dear")
    elif what == "missing":
        (root / "data" / "letter.txt").unlink()
    elif what == "extra":
        (root / "data" / "extra").write_bytes(b"")
    elif what == "tag":
        with (root / "bag-info.txt").open("a") as file:
            file.write("More: yes\n")
    elif what == "manifest":
        with (root / "manifest-sha512.txt").open("a") as file:
            file.write("garbage\n")
    elif what == "unsafe":
        with (root / "manifest-sha512.txt").open("a") as file:
            file.write("0" * 128 + "  data/../../secret\n")
    elif what == "fifo":
        os.mkfifo(root / "data" / "fifo")
    elif what == "declaration":
        (root / "bagit.txt").write_text("BagIt-Version: one\n")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("changed", "'data/letter.txt': its sha512 is"),
        ("missing", "'data/letter.txt': is in a manifest and not in the bag"),
        ("extra", "'data/extra': is in the bag and in no manifest"),
        ("tag", "'bag-info.txt': its sha512 is"),
        ("manifest", "manifest-sha512.txt:9: the line is not understood"),
        ("unsafe", "manifest-sha512.txt:9: 'data/../../secret' leads out of the bag"),
        ("fifo", "data: 1 fifo, which no bag can hold"),
        ("declaration", "bagit.txt: its two lines are not those"),
    ],
)
def test_everything_that_is_wrong_is_said(letters: Path, what: str, expected: str):
    aiopipe("bag", "create", "letters", cwd=letters.parent)
    damaged(letters, what)
    code, lines = validate(letters)
    assert code == 1
    assert any(expected in line for line in lines), lines


def test_a_fast_look_sees_sizes_and_names_and_reads_no_payload(letters: Path):
    aiopipe("bag", "create", "letters", cwd=letters.parent)
    (letters / "data" / "letter.txt").write_bytes(b"dear")
    assert validate(letters, "--fast")[0] == 0
    (letters / "data" / "letter.txt").write_bytes(b"longer")
    assert any(
        "Payload-Oxum says 2031 bytes in 8 files, there are 2033 in 8" in line
        for line in validate(letters, "--fast")[1]
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS takes both names for one")
def test_a_name_in_another_normalisation_is_found(letters: Path):
    aiopipe("bag", "create", "letters", cwd=letters.parent)
    (letters / "data" / "caf\u00e9").rename(letters / "data" / unicodedata.normalize("NFD", "caf\u00e9"))
    assert validate(letters) == (0, [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"bad\xff", b"is not UTF-8"),
        (b"trailing ", b"ends in white space"),
        ("cafe\u0301".encode(), b"Unicode normalisation alone"),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="APFS refuses such names")
def test_a_name_that_does_not_fit_is_said_before_anything_moves(letters: Path, name: bytes, message: bytes):
    with open(os.path.join(os.fsencode(letters), name), "wb"):
        pass
    before = contents(letters)
    done = aiopipe("bag", "create", "letters", cwd=letters.parent)
    assert (done.returncode, message in done.stderr) == (1, True)
    assert contents(letters) == before


def test_what_is_no_file_is_said_before_anything_moves(letters: Path):
    (letters / "link").symlink_to("letter.txt")
    os.mkfifo(letters / "fifo")
    before = contents(letters)
    done = aiopipe("bag", "create", "letters", cwd=letters.parent)
    assert (done.returncode, b"there is more here: 1 fifo, 1 symlink" in done.stderr) == (1, True)
    assert contents(letters) == before


def test_a_bag_is_not_bagged_again_and_what_is_no_bag_is_said(letters: Path):
    assert aiopipe("bag", "validate", "letters", cwd=letters.parent).returncode == 1
    aiopipe("bag", "create", "letters", cwd=letters.parent)
    done = aiopipe("bag", "create", "letters", cwd=letters.parent)
    assert (done.returncode, b"is a bag already" in done.stderr) == (2, True)
    done = aiopipe("bag", "create", "--info", "novalue", "letters", cwd=letters.parent)
    assert (done.returncode, b"has no =" in done.stderr) == (2, True)


class CrashError(BaseException):
    """As if the process had been killed."""


@pytest.mark.parametrize("moment", range(1, 14))
def test_a_run_killed_at_any_rename_is_undone_or_finished_by_the_next(letters: Path, monkeypatch, moment: int):
    real, count = os.rename, 0

    def rename(source: bytes, target: bytes) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise CrashError
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    options = HashOptions(("sha256",))
    try:
        bags.create(os.fsencode(letters), options)
        assert count < moment
    except CrashError:
        monkeypatch.setattr(os, "rename", real)
        done = aiopipe("bag", "create", "-a", "sha256", "letters", cwd=letters.parent)
        # Either it was undone and done again, or the run found it finished by its recovery.
        assert done.returncode == 0 or b"is a bag already" in done.stderr
    assert contents(letters / "data") == FILES
    assert validate(letters) == (0, [])
    assert not (letters / ".aiopipe-bag-tmp").exists()


def test_an_error_while_moving_undoes_everything(letters: Path, monkeypatch):
    real, count = os.rename, 0

    def rename(source: bytes, target: bytes) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OutputError, match="No space left"):
        bags.create(os.fsencode(letters), HashOptions(("sha256",)))
    assert contents(letters) == FILES
