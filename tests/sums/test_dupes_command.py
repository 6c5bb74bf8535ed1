from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from aiopipe.sums import HashOptions, Walk
from aiopipe.sums.dedupe import act, plan
from aiopipe.sums.dupes import HEAD, Duplicates

from .test_hash_command import aiopipe

LONG = b"x" * HEAD


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Duplicates of every kind, beside files that only look like some."""
    root = tmp_path / "t"
    (root / "sub").mkdir(parents=True)
    for name, data in {
        "a": b"same",
        "sub/b": b"same",
        "sub/c": b"same",
        "d": b"diff",
        "e": b"other",
        "long 1": LONG + b"tail 1",
        "long 2": LONG + b"tail 2",
        "sub/long 1": LONG + b"tail 1",
        "alone": b"nothing like it",
        "exact": LONG,
        "sub/exact": LONG,
        "empty": b"",
        "sub/empty": b"",
    }.items():
        (root / name).write_bytes(data)
    os.link(root / "a", root / "link to a")
    os.link(root / "alone", root / "link to alone")
    (root / "symlink").symlink_to("a")
    os.mkfifo(root / "fifo")
    for number, name in enumerate(("sub/b", "a", "sub/c")):
        os.utime(root / name, ns=(0, 10**18 + number))
    return root


def groups(root: Path, **options) -> list[list[list[str]]]:
    search = Duplicates(Walk([os.fsencode(root)]), HashOptions(("sha256",)), **options)
    found = [
        [[os.path.relpath(os.fsdecode(name), root) for name in copy.names] for copy in group.copies] for group in search
    ]
    assert search.failed == []
    return found


EXPECTED = [
    [["a", "link to a"], ["sub/b"], ["sub/c"]],
    [["exact"], ["sub/exact"]],
    [["long 1"], ["sub/long 1"]],
]


@pytest.fixture(params=["memory", "disk"])
def kept_in(request, monkeypatch) -> str:
    """Where files wait to be told apart: as many as fit in memory, or all but two on the disk."""
    if request.param == "disk":
        for name in ("_MOST_WHOLE", "_MOST_HEADS", "_MOST_SIZES"):
            monkeypatch.setattr(f"aiopipe.sums.dupes.{name}", 2)
    return request.param


@pytest.fixture(params=["compared", "hashed", "many of a size"])
def told_apart_by(request, monkeypatch) -> str:
    """How: files that were changed a moment ago are hashed, others compared, unless very many have one size."""
    if request.param != "hashed":
        monkeypatch.setattr("aiopipe.sums.twins.RECENT_NS", -(10**12))
    if request.param == "many of a size":
        monkeypatch.setattr("aiopipe.sums.dupes.MOST_FILES", 3)
    return request.param


def test_groups_are_the_files_with_the_same_bytes_and_links_are_one_file(
    copies: Path, kept_in: str, told_apart_by: str
):
    assert groups(copies) == EXPECTED
    assert groups(copies, min_size=0) == [*EXPECTED[:1], [["empty"], ["sub/empty"]], *EXPECTED[1:]]
    assert groups(copies, min_size=5) == EXPECTED[1:]


def test_a_tree_without_duplicates_has_none(tmp_path: Path):
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"%02d" % number)
    assert groups(tmp_path) == []


def test_a_file_that_cannot_be_read_is_told_and_hides_no_duplicates(copies: Path, told_apart_by: str, monkeypatch):
    real = os.open

    def refuse(path, flags, *more, **options):
        if isinstance(path, bytes) and path.endswith(b"/d"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    search = Duplicates(Walk([os.fsencode(copies)]), HashOptions(("sha256",)))
    assert [len(group.copies) for group in search] == [3, 2, 2]
    assert [(result.path[-2:], result.status) for result in search.failed] == [(b"/d", "unreadable")]


def test_a_digest_is_told_where_it_is_asked_for_however_files_were_told_apart(copies: Path, told_apart_by: str):
    search = Duplicates(Walk([os.fsencode(copies)]), HashOptions(("md5",)), digests=True)
    assert [group.digest for group in search] == [
        hashlib.md5(data).hexdigest() for data in (b"same", LONG, LONG + b"tail 1")
    ]


def test_a_link_that_was_named_is_followed_at_every_step(copies: Path, told_apart_by: str):
    (copies.parent / "named").symlink_to("t/long 1")
    os.unlink(copies / "sub/long 1")
    (copies / "another").write_bytes(LONG + b"tail 1")
    search = Duplicates(Walk([os.fsencode(copies.parent / "named"), os.fsencode(copies)]), HashOptions(("sha256",)))
    found = [[[os.path.basename(name) for name in copy.names] for copy in group.copies] for group in search]
    assert found[0] == [[b"named", b"long 1"], [b"another"]]
    assert search.failed == []


def test_every_format_tells_the_same(copies: Path):
    text = aiopipe("dupes", "t", cwd=copies.parent)
    assert text.stdout == (b"t/a\nt/link to a\nt/sub/b\nt/sub/c\n\nt/exact\nt/sub/exact\n\nt/long 1\nt/sub/long 1\n\n")
    assert text.returncode == 0
    assert b"4 duplicates in 3 groups" in text.stderr
    assert b"skipped 1 fifo, 1 symlink" in text.stderr
    zero = aiopipe("dupes", "-z", "t", cwd=copies.parent).stdout
    assert zero == text.stdout.replace(b"\n", b"\0")
    records = [
        json.loads(line) for line in aiopipe("dupes", "--format", "jsonl", "t", cwd=copies.parent).stdout.splitlines()
    ]
    assert [[[name["path"] for name in copy] for copy in each["files"]] for each in records] == [
        [[f"t/{name}" for name in copy] for copy in group] for group in EXPECTED
    ]
    rows = list(
        csv.DictReader(io.StringIO(aiopipe("dupes", "--format", "csv", "t", cwd=copies.parent).stdout.decode()))
    )
    assert [(row["group"], row["kind"]) for row in rows[:4]] == [
        ("1", "first"),
        ("1", "link"),
        ("1", "duplicate"),
        ("1", "duplicate"),
    ]


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("action", ["hardlink", "reflink", "delete"])
def test_without_apply_nothing_changes(copies: Path, action: str):
    before = snapshot(copies)
    done = aiopipe("dupes", "--action", action, "t", cwd=copies.parent)
    assert done.returncode == 0
    assert done.stdout.count(b"would " + action.encode()) == 5
    assert b"nothing was changed: add --apply" in done.stderr
    assert snapshot(copies) == before


@pytest.mark.parametrize(("keep", "stays"), [("oldest", "sub/b"), ("newest", "sub/c"), ("shortest", "a")])
def test_delete_keeps_one_copy_by_the_rule_and_every_content(copies: Path, keep: str, stays: str):
    before = snapshot(copies)
    done = aiopipe("dupes", "--action", "delete", "--keep", keep, "--apply", "t", cwd=copies.parent)
    assert done.returncode == 0, done.stderr
    after = snapshot(copies)
    assert {data for _, data in after.values()} == {data for _, data in before.values()}
    left = {name for name, (_, data) in after.items() if data == b"same"}
    assert left == ({"a", "link to a"} if stays == "a" else {stays})
    assert groups(copies) == []


def test_hardlink_leaves_every_name_and_one_inode(copies: Path):
    before = snapshot(copies)
    done = aiopipe("dupes", "--action", "hardlink", "--apply", "t", cwd=copies.parent)
    assert done.returncode == 0, done.stderr
    after = snapshot(copies)
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert len({after[name][0] for name in ("a", "link to a", "sub/b", "sub/c")}) == 1
    assert groups(copies) == []
    assert not [name for name in after if "aiopipe-tmp" in name]


def test_reflink_makes_clones_or_says_that_it_cannot_and_changes_nothing(copies: Path):
    before = snapshot(copies)
    done = aiopipe("dupes", "--action", "reflink", "--apply", "t", cwd=copies.parent)
    after = snapshot(copies)
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    if done.returncode:
        assert b"no reflinks" in done.stderr
        assert after == before


def steps(root: Path, action: str):
    search = Duplicates(Walk([os.fsencode(root)]), HashOptions(("sha256",)))
    return [step for group in search for step in plan(group, action, "oldest")]


@pytest.mark.parametrize("action", ["delete", "hardlink"])
@pytest.mark.parametrize("meddling", ["edited", "replaced", "became a symlink", "keeper edited", "keeper gone"])
def test_a_file_that_changed_since_it_was_hashed_is_left_alone(copies: Path, action: str, meddling: str):
    step = next(step for step in steps(copies, action) if step.name.endswith(b"/sub/c"))
    name, keep = Path(os.fsdecode(step.name)), Path(os.fsdecode(step.keep))
    if meddling == "edited":
        name.write_bytes(b"SAME")
    elif meddling == "replaced":
        (copies / "new").write_bytes(b"same")
        (copies / "new").replace(name)
    elif meddling == "became a symlink":
        name.unlink()
        name.symlink_to(copies / "d")
    elif meddling == "keeper edited":
        keep.write_bytes(b"SAME")
    else:
        keep.unlink()
    before = snapshot(copies)
    with pytest.raises(OSError, match=r"changed|loop|symbolic|No such"):
        act(step)
    assert snapshot(copies) == before


def test_equal_digests_are_not_believed(copies: Path):
    """Two files that a broken algorithm could not tell apart are compared, and left alone."""
    step = next(step for step in steps(copies, "delete") if step.name.endswith(b"/sub/c"))
    status = (copies / "d").stat()
    lying = step.copy.signature._replace(size=4, mtime_ns=status.st_mtime_ns, ino=status.st_ino)
    forged = step._replace(name=os.fsencode(copies / "d"), copy=step.copy.__class__((b"d",), lying))
    with pytest.raises(OSError, match="bytes differ"):
        act(forged)
    assert (copies / "d").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--apply",), b"--apply without an --action"),
        (("--action", "delete", "--symlinks", "follow"), b"two of its names"),
        (("-z", "--format", "csv"), b"-z has a meaning for text alone"),
    ],
)
def test_usage_errors_exit_2(copies: Path, args: tuple[str, ...], message: bytes):
    done = aiopipe("dupes", *args, "t", cwd=copies.parent)
    assert (done.returncode, message in done.stderr) == (2, True)


def test_one_path_named_twice_is_no_duplicate_of_itself(copies: Path):
    once = aiopipe("dupes", "t", cwd=copies.parent).stdout
    assert aiopipe("dupes", "t", "t", cwd=copies.parent).stdout == once
    assert aiopipe("dupes", "t/sub", "t", "t/sub/b", cwd=copies.parent).stdout == once


def test_names_of_any_bytes_are_told(hostile: Path):
    subprocess.run(["cp", "new\nline", "copy"], cwd=hostile, check=True)
    done = aiopipe("dupes", ".", cwd=hostile)
    assert b"./copy\n./new\\nline\n\n" in done.stdout
