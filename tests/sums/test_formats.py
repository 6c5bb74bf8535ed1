from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopipe.errors import InputError
from aiopipe.sums import FileHash, Signature
from aiopipe.sums.algorithms import algorithm
from aiopipe.sums.formats import Style, header, renderer
from aiopipe.sums.parse import open_manifest

# A name is any bytes but NUL; the hostile ones more often than chance would have it.
NAMES = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"\\")) | st.lists(
    st.sampled_from(
        [
            b"\\",
            b"\n",
            b"\r",
            b"n",
            b"r",
            b" ",
            b"*",
            b"(",
            b")",
            b" = ",
            b",",
            b'"',
            b"%",
            b"\xff",
            b"#",
            b";",
        ]
    ),
    min_size=1,
    max_size=8,
).map(b"".join)


def written(results: list[FileHash], style: Style, algorithms: tuple[str, ...]) -> bytes:
    write = renderer(style, algorithms)
    lines = [write(result) for result in results]
    assert None not in lines
    return header(style, algorithms) + b"".join(line for line in lines if line is not None)


def read(data: bytes, form: str | None = None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest")
        path.write_bytes(data)
        manifest = open_manifest(str(path), form=form)
        try:
            return manifest, list(manifest)
        finally:
            manifest.close()


def result(name: bytes, algorithms: tuple[str, ...]) -> FileHash:
    digests = tuple(algorithm(each).once(name) for each in algorithms)
    return FileHash(name, "ok", digests, Signature(len(name), 1_700_000_000_123_456_789, 0, 1, 1))


@pytest.mark.parametrize(
    ("style", "algorithms"),
    [
        (Style("gnu"), ("sha256",)),
        (Style("gnu", zero=True), ("md5",)),
        (Style("bsd"), ("sha256",)),
        (Style("bsd", zero=True), ("sha1",)),
        (Style("bsd"), ("sha3_256", "blake2b-128", "md5")),
        (Style("jsonl"), ("sha256", "xxh128")),
        (Style("csv"), ("sha256", "blake3")),
    ],
)
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_any_name_comes_back_from_any_format_that_holds_all_names(style, algorithms, names):
    results = [result(name, algorithms) for name in names]
    manifest, entries = read(written(results, style, algorithms))
    assert manifest.bad_lines == 0
    assert [entry.name for entry in entries] == names
    assert [entry.digests for entry in entries] == [each.digests for each in results]
    if style.format != "gnu":
        assert [entry.algorithms for entry in entries] == [algorithms] * len(names)
    if style.format in ("jsonl", "csv"):
        assert [(entry.size, entry.mtime_ns) for entry in entries] == [
            (len(name), 1_700_000_000_123_456_789) for name in names
        ]


@given(name=NAMES)
def test_a_bag_manifest_holds_any_name_that_does_not_end_in_a_line_end(name: bytes):
    [entry] = read(written([result(name, ("md5",))], Style("bagit"), ("md5",)), "bagit")[1]
    # Leading blanks are lost: the RFC lets a manifest separate with any number of them.
    assert entry.name == name.lstrip(b" \t*") or name[:1] in (b" ", b"\t", b"*")


@given(name=NAMES)
def test_a_name_that_hashdeep_and_sfv_hold_comes_back_and_the_rest_is_refused(name: bytes):
    for form, algorithms in (("hashdeep", ("md5", "sha256")), ("sfv", ("crc32",))):
        write = renderer(Style(form), algorithms)
        line = write(result(name, algorithms))
        if b"\n" in name or b"\r" in name:
            assert line is None
        elif line is not None and name == name.rstrip() and not (form == "sfv" and name[:1] in (b"#", b";")):
            _, [entry] = read(header(Style(form), algorithms) + line, form)
            assert (entry.name, entry.algorithms) == (name, algorithms)


@given(data=st.binary(max_size=300))
def test_no_bytes_at_all_break_the_reader(data: bytes):
    manifest, entries = read(data)
    assert manifest.entries == len(entries)


D = b"d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("line", "name", "algorithms"),
    [
        (D + b"  a", b"a", ()),
        (D + b" *a", b"a", ()),
        (D + b"   a", b" a", ()),
        (D + b" a", b"a", ()),
        (b"  " + D + b"  a", b"a", ()),
        (D.upper() + b"  a", b"a", ()),
        (b"\\" + D + b"  a\\nb\\\\c\\r", b"a\nb\\c\r", ()),
        (D + b"  a\\nb", b"a\\nb", ()),
        (b"MD5 (a) = " + D, b"a", ("md5",)),
        (b"MD5(a)= " + D, b"a", ("md5",)),
        (b"MD5 (a) = b) = " + D, b"a) = b", ("md5",)),
        (b"\\MD5 (a\\nb) = " + D, b"a\nb", ("md5",)),
        (b"BLAKE2b-128 (a) = " + D, b"a", ("blake2b-128",)),
        (b"SHA2-256(a)= " + D + D, b"a", ("sha256",)),
        (b"SHA512/256 (a) = " + D + D, b"a", ("sha512_256",)),
        (b"XXH3_" + D[:16] + b"  a", b"a", ("xxh3",)),
        (D + b"  a\r", b"a", ()),
    ],
)
def test_a_line_is_read_as_its_writer_meant_it(line: bytes, name: bytes, algorithms: tuple[str, ...]):
    [entry] = read(line + b"\n")[1]
    assert (entry.name, entry.algorithms) == (name, algorithms)


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        D,
        D + b" ",
        D[:-1] + b"  a",
        D + b"x  a",
        b"\\" + D + b"  a\\xb",
        b"\\" + D + b"  a\\",
        b"SHA256 (a) = " + D,
        b"NOPE (a) = " + D,
        b'{"path": "a"}',
    ],
)
def test_a_line_that_is_none_is_counted_with_its_number(line: bytes):
    data = D + b"  first\n# a comment\n\n" + line + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m")
        path.write_bytes(data)
        manifest = open_manifest(str(path))
        numbers: list[int] = []
        manifest.on_bad = numbers.append
        assert [entry.name for entry in manifest] == [b"first"]
        manifest.close()
    assert numbers == [4]


def test_a_manifest_from_windows_and_one_with_a_byte_order_mark_are_read():
    _, entries = read(b"\xef\xbb\xbf" + D + b" *a\r\n" + D + b" *b\r\n")
    assert [entry.name for entry in entries] == [b"a", b"b"]


def test_sfv_and_hashdeep_are_known_by_their_look():
    manifest, entries = read(b"; made by hand\nwith space.bin DEADBEEF\n")
    assert (manifest.format, entries[0].name, entries[0].digests) == ("sfv", b"with space.bin", ("deadbeef",))
    manifest, entries = read(b"%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n## x\n0," + D + b",a,b\nbroken\n")
    assert (manifest.format, entries[0].name, entries[0].size) == ("hashdeep", b"a,b", 0)
    assert manifest.bad_lines == 1


def test_lines_about_one_file_are_one_entry_and_a_repeated_line_is_two():
    _, entries = read(b"MD5 (a) = %s\nSHA256 (a) = %s\nMD5 (a) = %s\n" % (D, D + D, D))
    assert [entry.algorithms for entry in entries] == [("md5", "sha256"), ("md5",)]


def test_broken_json_and_csv_are_counted_and_the_rest_is_read():
    manifest, entries = read(b'{"path":"a","md5":"%s"}\n{"path":\n[1]\n{"path_b64":"/w==","md5":"%s"}\n' % (D, D))
    assert ([entry.name for entry in entries], manifest.bad_lines) == ([b"a", b"\xff"], 2)
    manifest, entries = read(b"path,md5\r\na,%s\r\nb\r\nc,zz\r\n\xff,%s\r\n" % (D, D))
    assert ([entry.name for entry in entries], manifest.bad_lines) == ([b"a", b"\xff"], 2)


def test_a_manifest_that_is_not_there_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match="No such file"):
        open_manifest(str(tmp_path / "absent"))
