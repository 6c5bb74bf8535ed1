from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiopipe.errors import InputError, UsageError
from aiopipe.sums import Found, Problem, Walk, WalkOptions
from aiopipe.sums.globs import matcher

from .conftest import regular_files


def listed(root: Path, **options) -> list[bytes]:
    walk = Walk([os.fsencode(root)], WalkOptions(**options))
    return [run.prefix + name for run in walk if isinstance(run, Found) for name in run.names]


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_every_regular_file_is_found_once_and_the_rest_is_counted(hostile: Path):
    walk = Walk([os.fsencode(hostile)])
    found = [run.prefix + name for run in walk for name in run.names]
    assert sorted(found) == regular_files(hostile)
    assert walk.listed == len(found)
    assert walk.skipped == {"symlink": 3, "fifo": 1, "socket": 1}


def test_the_order_depends_on_the_names_alone(tmp_path: Path):
    tree(tmp_path, "b/2", "b/1", "a/z", "c", "B", "a.txt", "b/x/1")
    base = os.fsencode(tmp_path) + b"/"
    expected = [b"B", b"a.txt", b"c", b"a/z", b"b/1", b"b/2", b"b/x/1"]
    assert listed(tmp_path) == [base + each for each in expected]


def test_followed_symlinks_are_files_and_loops_are_cut(hostile: Path):
    walk = Walk([os.fsencode(hostile)], WalkOptions(symlinks="follow"))
    found = [run.prefix + name for run in walk for name in run.names]
    assert os.fsencode(hostile / "to file") in found
    assert walk.skipped == {"symlink loop": 1, "dangling symlink": 1, "fifo": 1, "socket": 1}


def test_two_links_to_one_directory_are_both_entered_and_mutual_loops_end(tmp_path: Path):
    tree(tmp_path, "real/file")
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("..")
    names = [os.fsdecode(os.path.relpath(path, os.fsencode(tmp_path))) for path in listed(tmp_path, symlinks="follow")]
    assert names == ["one/file", "real/file", "two/file"]


def test_hidden_names_can_be_left_out_and_are_counted(tmp_path: Path):
    tree(tmp_path, ".git/config", ".env", "shown")
    walk = Walk([os.fsencode(tmp_path)], WalkOptions(hidden=False))
    assert [name for run in walk for name in run.names] == [b"shown"]
    assert walk.skipped == {"hidden": 2}


def test_globs_choose_and_an_excluded_directory_is_not_entered(tmp_path: Path):
    tree(tmp_path, "a.py", "a.pyc", "build/x.py", "src/b.py", "src/build/c.py")
    walk = Walk([os.fsencode(tmp_path)], WalkOptions(include=("*.py",), exclude=("/build/",)))
    assert [name for run in walk for name in run.names] == [b"a.py", b"b.py", b"c.py"]
    assert walk.skipped == {"not included": 1, "excluded": 1}


@pytest.mark.parametrize(
    ("pattern", "path", "is_dir", "expected"),
    [
        ("*.txt", "a/b.txt", False, True),
        ("a/*.txt", "a/b.txt", False, True),
        ("a/*.txt", "a/b/c.txt", False, False),
        ("a/**", "a/b/c.txt", False, True),
        ("**/c.txt", "a/b/c.txt", False, True),
        ("**/c.txt", "c.txt", False, True),
        ("a/**/c.txt", "a/c.txt", False, True),
        ("/c.txt", "a/c.txt", False, False),
        ("[a-c].txt", "b.txt", False, True),
        ("[!a-c].txt", "b.txt", False, False),
        ("b?.txt", "b\n.txt", False, True),
        (r"\*.txt", "a.txt", False, False),
        ("tmp/", "x/tmp", True, True),
        ("tmp/", "x/tmp", False, False),
        ("a+b(c).txt", "a+b(c).txt", False, True),
    ],
)
def test_a_glob_means_what_it_means_in_gitignore(pattern: str, path: str, is_dir: bool, expected: bool):
    match = matcher([pattern.encode()])
    assert match is not None
    name = path.rpartition("/")[2]
    assert match(name.encode(), path.encode(), is_dir) is expected


def test_an_empty_glob_is_a_usage_error():
    with pytest.raises(UsageError, match="empty pattern"):
        matcher([b"/"])


def test_a_file_that_was_named_is_taken_as_it_is(hostile: Path):
    runs = list(Walk([os.fsencode(hostile / "to file"), os.fsencode(hostile / "fifo")]))
    assert [name for run in runs for name in run.names] == [
        os.fsencode(hostile / "to file"),
        os.fsencode(hostile / "fifo"),
    ]
    assert runs[0].follow


def test_a_root_that_is_not_there_is_an_error_with_a_next_step(tmp_path: Path):
    with pytest.raises(InputError, match=r"absent: no such file(.|\n)*next: check the spelling"):
        Walk([os.fsencode(tmp_path / "absent")])


def test_the_output_is_left_out_by_name_and_by_inode(tmp_path: Path):
    tree(tmp_path, "SUMS", "sub/SUMS", "data", "redirected")
    status = (tmp_path / "redirected").stat()
    names = listed(
        tmp_path,
        leave_out=frozenset({os.fsencode(tmp_path.resolve() / "SUMS")}),
        leave_out_inodes=frozenset({(status.st_dev, status.st_ino)}),
    )
    assert [os.path.relpath(name, os.fsencode(tmp_path)) for name in names] == [b"data", b"sub/SUMS"]


def test_a_directory_that_vanishes_is_reported_and_the_walk_goes_on(tmp_path: Path):
    tree(tmp_path, "a/1", "b/2", "c/3")
    items = []
    for item in Walk([os.fsencode(tmp_path)]):
        items.append(item)
        if len(items) == 1:
            (tmp_path / "b" / "2").unlink()
            (tmp_path / "b").rmdir()
    assert [type(item) for item in items] == [Found, Problem, Found]
    assert items[1].status == "vanished"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read_is_reported(tmp_path: Path):
    tree(tmp_path, "closed/1", "open/2")
    (tmp_path / "closed").chmod(0)
    items = list(Walk([os.fsencode(tmp_path)]))
    (tmp_path / "closed").chmod(0o700)
    assert [item.status for item in items if isinstance(item, Problem)] == ["unreadable"]


def test_a_directory_with_many_files_comes_in_runs(tmp_path: Path):
    for number in range(2500):
        (tmp_path / f"{number:05}").touch()
    assert [len(run.names) for run in Walk([os.fsencode(tmp_path)])] == [1024, 1024, 452]


def test_what_a_killed_run_left_behind_is_left_out_and_counted(tmp_path: Path):
    for name in (".SUMS.4711.aiopipe-tmp", ".aiopipe-4711-x-0.tmp", ".aiopipe-notes", "aiopipe-tmp", ".tmp", "a"):
        (tmp_path / name).write_bytes(b"x")
    walk = Walk([os.fsencode(tmp_path)])
    names = [name for run in walk for name in run.names]
    assert names == [b".aiopipe-notes", b".tmp", b"a", b"aiopipe-tmp"]
    assert walk.skipped == {"temporary": 2}
    for path in tmp_path.glob(".aiopipe-*"):
        path.unlink()  # the tests' own look for leaks would take them for one
