"""`mask`: the same value, the same token; every other byte as it was; the key nowhere to be seen."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from aiopipe import Collect, Derive, Map, Mask, Read, UsageError, Write
from aiopipe.codec.chunk import decode
from aiopipe.codec.dialect import Dialect
from aiopipe.codec.encode import encode
from aiopipe.stage import Scope
from aiopipe.stages._tokens import token_maker
from tests.codec.csv_bytes import Sample, by_csv, chunk_of, good, samples
from tests.support import failure, rejects, write

SECRET = b"a key that is used in no other place"
KEY = "env:TEST_MASK_KEY"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_MASK_KEY", SECRET.decode())
    monkeypatch.chdir(tmp_path)


def expected(value: bytes, length: int = 32) -> str:
    return hmac.digest(SECRET, value, "sha256").hex()[:length] if value else ""


def ready(*columns: str, secret: bytes = SECRET, **options: object) -> Mask:
    """A stage with its key, as `ready` makes it."""
    stage = Mask(*columns, key=KEY, **options)  # type: ignore[arg-type]
    object.__setattr__(stage, "secret", secret)
    return stage


def masked(text: bytes, *columns: str, **options: object) -> bytes:
    write(Path("in.csv"), text)
    (Read("in.csv") | Mask(*columns, key=KEY, **options) | Write("out.csv")).run_sync()  # type: ignore[arg-type]
    return Path("out.csv").read_bytes()


def end_of(sample: Sample, line: object) -> bytes:
    fields = line.fields  # type: ignore[attr-defined]
    return sample.data[line.start + sum(map(len, fields)) + len(fields) - 1 : line.stop]  # type: ignore[attr-defined]


def without_tokens_in_quotes(sample: Sample) -> Sample:
    return sample._replace(dialect=Dialect(sample.dialect.delimiter))


@settings(max_examples=300, deadline=None)
@given(samples().map(without_tokens_in_quotes))
@example(Sample(b'1,"",3\n"a""b",,\r\n,x,"y\n"', Dialect(), 3))
def test_every_other_field_and_every_line_end_keeps_its_bytes(sample: Sample):
    name = f"c{sample.columns - 1}"
    batch = ready(name).apply(decode(chunk_of(sample)), Scope())
    want = b""
    for line in good(sample):
        last = line.values[-1]
        mine = expected(last).encode() if last else line.fields[-1]
        want += (sample.dialect.delimiter.encode().join([*line.fields[:-1], mine]) or b'""') + end_of(sample, line)
    assert bytes(encode(batch).bodies[0]) == want


def test_tokens_are_hmac_sha256_of_the_value_without_its_quotes():
    out = masked(b'id,mail\n1,"a ""b"", c"\n2,"plain"\n3,plain\n', "mail")
    rows = list(csv.reader(out.decode().splitlines()))
    assert [row[1] for row in rows[1:]] == [expected(b'a "b", c'), expected(b"plain"), expected(b"plain")]


# RFC 4231, test cases 1, 2, 3 and 6 (a key longer than a block).
VECTORS = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("key", "value", "digest"), VECTORS, ids=[str(n) for n in range(len(VECTORS))])
def test_the_keyed_hash_is_that_of_the_rfc(key: bytes, value: bytes, digest: str):
    assert token_maker("hmac-sha256", key, "hex", 64)(value) == digest
    raw = bytes.fromhex(digest)
    assert token_maker("hmac-sha256", key, "base32", 52)(value) == base64.b32encode(raw).decode().rstrip("=")
    url = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert token_maker("hmac-sha256", key, "base64url", 43)(value) == url
    assert token_maker("hmac-sha256", key, "base64url", 10)(value) == url[:10]


def test_blake3_is_its_keyed_mode_and_takes_no_other_length_of_key(monkeypatch: pytest.MonkeyPatch):
    blake3 = pytest.importorskip("blake3").blake3
    key = b"0123456789abcdef0123456789abcdeF"
    monkeypatch.setenv("TEST_MASK_KEY", key.decode())
    out = masked(b"id\nvalue\n", "id", algorithm="blake3", encoding="base32", length=40)
    assert out.split()[1] == base64.b32encode(blake3(b"value", key=key).digest())[:40]
    monkeypatch.setenv("TEST_MASK_KEY", key.decode() + "x")
    error = failure(Read("in.csv") | Mask("id", key=KEY, algorithm="blake3") | Collect())
    assert "33 bytes" in error.message and "32" in error.message


def test_the_same_value_has_the_same_token_in_other_columns_files_dialects_and_encodings(tmp_path: Path):
    write(Path("in/a.csv"), "x,y\né,é\n")
    write(Path("in/b.csv"), 'y,x\nnone,"é"\n')
    report = (Read("in/") | Mask("x", key=KEY) | Collect()).run_sync()
    write(Path("latin.csv"), "x;y\né;1\n".encode("latin-1"))
    report2 = (Read("latin.csv", delimiter=";", encoding="latin-1") | Mask("x", key=KEY) | Collect()).run_sync()
    report3 = (Read("in/a.csv") | Mask("y", key=KEY) | Collect()).run_sync()
    tokens = [row["x"] for row in report.items + report2.items] + [row["y"] for row in report3.items]
    assert tokens == [expected("é".encode())] * 4


def test_an_empty_field_stays_as_it_is_unless_a_token_is_asked_for():
    text = b'a,b\n1,\n2,""\n3,x\n'
    assert masked(text, "b") == b'a,b\n1,\n2,""\n3,' + expected(b"x").encode() + b"\n"
    empty = hmac.digest(SECRET, b"", "sha256").hex()[:32].encode()
    assert masked(text, "b", mask_empty=True).splitlines()[1:3] == [b"1," + empty, b"2," + empty]


def test_a_null_of_derive_is_an_empty_field():
    write(Path("in.csv"), "a,b\n1,x\n2,y\n")
    pipeline = Read("in.csv") | Derive(c="CASE WHEN a = 1 THEN b END") | Mask("c", key=KEY) | Collect()
    assert [row["c"] for row in pipeline.run_sync().items] == [expected(b"x"), ""]


def test_tokens_are_right_where_the_delimiter_is_one_of_their_characters(tmp_path: Path):
    token = expected(b"v")
    letter = next(c for c in token if c.isalpha())
    write(Path("in.csv"), f"x{letter}y\nv{letter}1\n")
    (Read("in.csv", delimiter=letter) | Mask("x", key=KEY) | Write("out.csv")).run_sync()
    [[x, y]] = list(csv.reader(Path("out.csv").read_text().splitlines()[1:], delimiter=letter))
    assert (x, y) == (token, "1")
    error = failure(Read("in.csv", delimiter=letter, quote="none") | Mask("x", key=KEY) | Write("out2.csv"))
    assert "delimiter" in error.message


def test_a_column_that_is_not_there_is_told_with_the_nearest_name():
    write(Path("in.csv"), "email\nx\n")
    assert "email" in str(failure(Read("in.csv") | Mask("emial", key=KEY) | Collect()))


def test_masking_works_in_worker_processes():
    write(Path("unchanged_rows.py"), "def same(row):\n    return row\n")
    write(Path("in.csv"), "a,b\n1,x\n")
    pipeline = Read("in.csv") | Mask("b", key=KEY) | Map("unchanged_rows.py:same", placement="process") | Collect()
    assert pipeline.run_sync(workers=1).items == [{"a": "1", "b": expected(b"x")}]


# The key.


def test_each_run_takes_the_key_that_is_there_then(monkeypatch: pytest.MonkeyPatch):
    write(Path("in.csv"), "a\nx\n")
    pipeline = Read("in.csv") | Mask("a", key=KEY) | Collect()
    first = pipeline.run_sync().items
    monkeypatch.setenv("TEST_MASK_KEY", "another key of many bytes")
    second = pipeline.run_sync().items
    assert first == [{"a": expected(b"x")}] and second != first


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (SECRET, SECRET),
        (SECRET + b"\n", SECRET),
        (SECRET + b"\r\n", SECRET),
        (bytes(range(100, 131)) + b"\n", bytes(range(100, 131)) + b"\n"),  # no text: its last byte is its own
    ],
)
def test_a_key_in_a_file_is_its_bytes_without_the_line_end_of_a_text(data: bytes, key: bytes):
    write(Path("the.key"), data)
    write(Path("in.csv"), "a\nx\n")
    report = (Read("in.csv") | Mask("a", key="file:the.key", length=64) | Collect()).run_sync()
    assert report.items == [{"a": hmac.digest(key, b"x", "sha256").hex()}]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"fifteen bytes!!", "15 bytes"),
        (b"fifteen bytes!!\n", "15 bytes"),
        (b"\0" * 32, "one byte over and over"),
        (bytes(range(256)) * 17, "no key"),
        (None, "No such file"),
    ],
)
def test_a_weak_key_is_refused_before_anything_is_written(key: bytes | None, words: str):
    if key is not None:
        write(Path("the.key"), key)
    write(Path("in.csv"), "a\nx\n")
    error = failure(Read("in.csv") | Mask("a", key="file:the.key") | Write("out/"))
    assert isinstance(error, UsageError) and words in error.message and error.hint
    assert not Path("out").exists()


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TEST_MASK_KEY")
    write(Path("in.csv"), "a\nx\n")
    error = failure(Read("in.csv") | Mask("a", key=KEY) | Collect())
    assert "TEST_MASK_KEY is not set" in error.message
    assert "Mask('a', key='env:TEST_MASK_KEY')" in (Read("in.csv") | Mask("a", key=KEY) | Collect()).explain()


@pytest.mark.parametrize("given", ["hunter2hunter2hunter2", "env:", "FILE:hunter2", b"env:hunter2", 27182818])
def test_a_key_that_was_given_instead_of_named_is_not_repeated(given: object):
    with pytest.raises(UsageError) as caught:
        Mask("a", key=given)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value) and "27182818" not in str(caught.value)
    assert "env:NAME" in str(caught.value)


def test_the_shell_and_a_file_do_not_repeat_it_either(capfd: pytest.CaptureFixture[str]):
    from aiopipe.cli import main

    write(Path("in.csv"), "a\nx\n")
    assert main(["pipe", "read", "in.csv", "then", "mask", "a", "--key", "hunter2", "then", "write", "-"]) == 2
    file = '[[stage]]\nuse="read"\npaths="in.csv"\n[[stage]]\nuse="mask"\ncolumns="a"\nkey="hunter2"\n[[stage]]\n'
    write(Path("p.toml"), file + 'use="write"\nto="-"\n')
    assert main(["run", "p.toml"]) == 2
    assert "hunter2" not in "".join(capfd.readouterr())


def test_the_key_is_in_no_repr_report_reject_explanation_or_error(capfd: pytest.CaptureFixture[str]):
    def careless(row: dict[str, str]) -> dict[str, str]:
        raise ValueError(row["a"])

    write(Path("in.csv"), "a,b\nx,1\ny,2,3\n")
    pipeline = Read("in.csv") | Mask("a", key=KEY) | Map(careless) | Write("out.csv")
    report = pipeline.run_sync(rejects="rejects.csv", report="report.json")
    stage = ready("a")
    shown = [
        repr(stage),
        repr(stage.ready()),
        repr(pipeline),
        pipeline.explain(),
        repr(report),
        Path("report.json").read_text(),
        repr(rejects("rejects.csv")),
        str(failure(pipeline)),
        "".join(capfd.readouterr()),
    ]
    assert SECRET.decode() not in "\n".join(shown)
    assert SECRET in pickle.dumps(stage)  # what a search finds where there is something to find


def test_equal_stages_are_equal_with_and_without_their_key():
    assert Mask("a", key=KEY) == Mask("a", key=KEY).ready()
    assert hash(Mask("a", key=KEY)) == hash(Mask("a", key=KEY).ready())
    assert Mask("a", key=KEY).secret == b""


@pytest.mark.parametrize("options", [{"length": 7}, {"length": 65}, {"encoding": "base32", "length": 53}])
def test_a_length_that_no_token_has_is_refused(options: dict[str, object]):
    with pytest.raises(UsageError, match="length is"):
        Mask("a", key=KEY, **options)  # type: ignore[arg-type]


def test_a_value_is_hashed_once_for_each_batch(monkeypatch: pytest.MonkeyPatch):
    from aiopipe.stages import mask

    calls: list[bytes] = []

    def counted(*_: object) -> object:
        return lambda value: calls.append(value) or hashlib.sha256(value).hexdigest()[:32]

    monkeypatch.setattr(mask, "token_maker", counted)
    sample = Sample(b"1,x\n2,y\n" * 1000, Dialect(), 2)
    batch = ready("c1").apply(decode(chunk_of(sample)), Scope())
    assert sorted(calls) == [b"x", b"y"]
    rows = by_csv(bytes(encode(batch).bodies[0]).decode(), sample.dialect)
    assert rows[-1] == ["2", hashlib.sha256(b"y").hexdigest()[:32]]
