from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .test_hash_command import aiopipe


def tree(root: Path) -> Path:
    for name in ("same", "edited", "rotten", "moved away", "gone", "sub/deep"):
        path = root / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return root / "t"


def meddle(root: Path) -> None:
    (root / "edited").write_text("this is new")
    old = (root / "rotten").stat()
    (root / "rotten").write_text("this is rotteN")
    os.utime(root / "rotten", ns=(old.st_atime_ns, old.st_mtime_ns))
    (root / "sub" / "moved here").write_text((root / "moved away").read_text())
    (root / "moved away").unlink()
    (root / "gone").unlink()
    (root / "fresh").write_text("fresh")


def audit(*args: str, cwd: Path):
    done = aiopipe("audit", *args, "--format", "jsonl", cwd=cwd)
    return done, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_every_file_gets_its_word_and_the_words_add_up(tmp_path: Path, form: str):
    root = tree(tmp_path)
    aiopipe("hash", "--format", form, "-o", "m", "t", cwd=tmp_path)
    meddle(root)
    done, found = audit("m", "t", "-v", cwd=tmp_path)
    assert sorted((each["status"], each["path"], each.get("was", "")) for each in found) == [
        ("bit rot", "t/rotten", ""),
        ("changed", "t/edited", ""),
        ("missing", "t/gone", ""),
        ("moved", "t/sub/moved here", "t/moved away"),
        ("new", "t/fresh", ""),
        ("ok", "t/same", ""),
        ("ok", "t/sub/deep", ""),
    ]
    assert done.returncode == 1
    assert b"6 files seen: 2 ok, 1 changed, 1 bit rot, 1 moved, 1 new, 1 missing" in done.stderr


def test_without_times_in_the_manifest_rot_is_a_change(tmp_path: Path):
    root = tree(tmp_path)
    aiopipe("hash", "-o", "m", "t", cwd=tmp_path)
    meddle(root)
    _, found = audit("m", "t", cwd=tmp_path)
    assert [each["path"] for each in found if each["status"] == "changed"] == ["t/edited", "t/rotten"]


@pytest.mark.parametrize(
    "options", [(), ("--tag",), ("-z",), ("--format", "csv"), ("-a", "md5,sha1"), ("-a", "blake3")]
)
@pytest.mark.parametrize("where", ["from here", "from the root", "with a dot"])
def test_an_untouched_tree_is_clean_however_it_was_hashed(tmp_path: Path, options, where: str):
    tree(tmp_path)
    if where == "from here":
        aiopipe("hash", *options, "-o", "m", "t", cwd=tmp_path)
    elif where == "from the root":
        aiopipe("hash", *options, "-o", "m", "--base", "t", "t", cwd=tmp_path)
    else:
        aiopipe("hash", *options, "-o", "../m", ".", cwd=tmp_path / "t")
    done, found = audit("m", "t", cwd=tmp_path)
    assert (done.returncode, found) == (0, []), done.stderr


@pytest.mark.parametrize("options", [(), ("--tag",), ("-z",), ("--format", "jsonl"), ("--format", "csv")])
def test_an_updated_manifest_is_that_of_a_new_run(tmp_path: Path, options: tuple[str, ...]):
    root = tree(tmp_path)
    aiopipe("hash", *options, "-o", "m", "t", cwd=tmp_path)
    meddle(root)
    assert aiopipe("audit", "--update", "m", "t", cwd=tmp_path).returncode == 1
    aiopipe("hash", *options, "-o", "fresh run", "t", cwd=tmp_path)
    assert (tmp_path / "m").read_bytes() == (tmp_path / "fresh run").read_bytes()
    assert aiopipe("audit", "m", "t", cwd=tmp_path).returncode == 0


def test_a_manifest_inside_its_tree_is_not_new(tmp_path: Path):
    root = tree(tmp_path)
    aiopipe("hash", "-o", "SUMS", ".", cwd=root)
    assert aiopipe("audit", "SUMS", cwd=root).returncode == 0
    aiopipe("audit", "SUMS", "--update", cwd=root)
    assert aiopipe("audit", "SUMS", cwd=root).returncode == 0


def test_what_is_no_file_any_more_is_counted_and_never_hangs(tmp_path: Path):
    root = tree(tmp_path)
    aiopipe("hash", "-o", "m", "t", cwd=tmp_path)
    (root / "same").unlink()
    os.mkfifo(root / "same")
    done, found = audit("m", "t", cwd=tmp_path)
    assert found == [{"status": "missing", "path": "t/same"}]
    assert b"skipped 1 fifo" in done.stderr


def test_a_line_that_is_not_understood_is_no_clean_audit(tmp_path: Path):
    tree(tmp_path)
    aiopipe("hash", "-o", "m", "t", cwd=tmp_path)
    with open(tmp_path / "m", "ab") as file:
        file.write(b"garbage\n")
    done = aiopipe("audit", "m", "t", cwd=tmp_path)
    assert done.returncode == 1
    assert b"1 line of the manifest not understood" in done.stderr


def test_names_of_any_bytes_are_audited(hostile: Path):
    aiopipe("hash", "-o", "../m", ".", cwd=hostile)
    done = aiopipe("audit", "../m", cwd=hostile)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    (hostile / "new\nline").rename(hostile / "back\\here")
    done = aiopipe("audit", "../m", cwd=hostile)
    assert done.stdout == b"moved       ./new\\nline -> ./back\\\\here\n"


def test_two_manifests_of_different_formats_are_compared_without_reading(tmp_path: Path):
    root = tree(tmp_path)
    aiopipe("hash", "-a", "md5,sha256", "--format", "jsonl", "-o", "old", "t", cwd=tmp_path)
    meddle(root)
    aiopipe("hash", "-o", "new", "t", cwd=tmp_path)
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()
    done = aiopipe("diff", "old", "new", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        b"changed     t/edited",
        b"changed     t/rotten",
        b"new         t/fresh",
        b"moved       t/moved away -> t/sub/moved here",
        b"missing     t/gone",
    ]
    assert done.returncode == 1
    assert b"6 entries against 6: 2 ok, 2 changed, 1 moved, 1 new, 1 missing" in done.stderr


def test_rot_shows_between_manifests_with_times_and_none_in_common_is_said(tmp_path: Path):
    root = tree(tmp_path)
    aiopipe("hash", "--format", "csv", "-o", "old", "t", cwd=tmp_path)
    meddle(root)
    aiopipe("hash", "--format", "jsonl", "-o", "new", "t", cwd=tmp_path)
    aiopipe("hash", "-a", "md5", "-o", "md5", "t", cwd=tmp_path)
    assert b"bit rot     t/rotten\n" in aiopipe("diff", "old", "new", cwd=tmp_path).stdout
    done = aiopipe("diff", "old", "md5", cwd=tmp_path)
    assert done.stdout.count(b"incomparable") == 4
    assert done.returncode == 1
    assert aiopipe("diff", "new", "new", cwd=tmp_path).returncode == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    old=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"), max_size=6),
    new=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"), max_size=6),
)
def test_the_words_always_add_up(tmp_path: Path, old: dict[str, str], new: dict[str, str]):
    from collections import Counter

    from aiopipe.sums.audit import diff
    from aiopipe.sums.parse import open_manifest

    manifests = []
    for name, files in (("old", old), ("new", new)):
        (tmp_path / name).write_text("".join(f"{digit * 64}  {file}\n" for file, digit in sorted(files.items())))
        manifests.append(open_manifest(str(tmp_path / name)))
    counts = Counter(finding.status for finding in diff(*manifests))
    for manifest in manifests:
        manifest.close()
    assert sum(count for word, count in counts.items() if word != "missing") == len(new)
    assert counts["ok"] + counts["changed"] + counts["moved"] + counts["missing"] == len(old)
