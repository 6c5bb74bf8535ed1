"""What a CSV looks like, and which encodings can be worked on as they are."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from aiopipe.errors import UsageError

__all__ = ["Dialect", "boms", "byte_encodings"]

# In these encodings every byte below 0x80 is the ASCII character and nothing else: delimiters, quotes and
# line ends can be found without decoding, so untouched fields keep their very bytes. Anything else (UTF-16,
# Shift-JIS, ...) is transcoded to UTF-8 on the way in and back on the way out.
byte_encodings = frozenset(
    ["utf-8", "ascii", "cp437", "cp850", "cp866", "koi8-r", "koi8-u", "mac-roman", "iso8859-1"]
    + [f"iso8859-{n}" for n in range(2, 17)]
    + [f"cp125{n}" for n in range(9)]
)

boms = {"utf-8": codecs.BOM_UTF8}


def canonical(encoding: str) -> str:
    """Python's own name of `encoding`; UsageError when there is none."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(
            f"no encoding {encoding!r}", hint="one of Python's, such as utf-8, cp1252, latin-1, utf-16"
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the records of a file are written (RFC 4180 where nothing else is said).

    delimiter and quote are one ASCII character each; quote may be empty. max_record: bytes, the longest
    record that is looked for, so that an unclosed quote cannot swallow the memory.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    number_duplicates: bool = False
    max_record: int = 64 << 20

    def __post_init__(self) -> None:
        named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
        object.__setattr__(self, "delimiter", named.get(self.delimiter, self.delimiter))
        object.__setattr__(self, "quote", {"none": ""}.get(self.quote, self.quote))
        object.__setattr__(self, "encoding", canonical(self.encoding))
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in "\r\n\0":
            raise UsageError(
                f"delimiter {self.delimiter!r} is not one ASCII character",
                hint="such as ',' ';' '|' or the word tab",
            )
        if len(self.quote) > 1 or not self.quote.isascii() or (self.quote and self.quote in "\r\n\0"):
            raise UsageError(f"quote {self.quote!r} is not one ASCII character", hint="such as '\"' or the word none")
        if self.quote == self.delimiter:
            raise UsageError("delimiter and quote are the same character", hint="change one of them")
        if not 16 <= self.max_record <= 1 << 30:
            raise UsageError("max_record is not between 16 bytes and 1 GiB", hint="the default is 64MB")

    @property
    def d(self) -> int:
        """The delimiter's byte."""
        return ord(self.delimiter)

    @property
    def q(self) -> int:
        """The quote's byte, or -1 when nothing is quoted."""
        return ord(self.quote) if self.quote else -1

    @property
    def transcoded(self) -> bool:
        """True when the bytes must become UTF-8 before fields can be found."""
        return self.encoding not in byte_encodings

    @property
    def inner_encoding(self) -> str:
        """The encoding of the bytes that the codec sees."""
        return "utf-8" if self.transcoded else self.encoding
