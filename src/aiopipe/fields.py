"""From a field's bytes to its value and back: quotes, and encodings in which one byte is one character."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import EMPTY, Mask, Offsets, as_text, byte_array, byte_scalar, holds_any, mask_to_numpy, text_scalar

if TYPE_CHECKING:
    from aiopipe.batch import Header

__all__ = ["decoded", "quoted", "unquote_one", "unquoted", "unwritable"]


def unquoted(raw: Any, quote: bytes) -> Any:
    """Field values without their quotes: `"a ""b"" c"` becomes `a "b" c` (RFC 4180 section 2.7)."""
    opened = pc.starts_with(raw, quote)
    if not pc.any(opened).as_py():
        return raw
    inner = pc.binary_slice(raw, 1, -1)
    if not pc.any(pc.match_substring(inner, quote)).as_py() and pc.all(opened).as_py():
        return inner
    # Nothing between the first byte and the last but doubled quotes: all else is taken one by one.
    odd = pc.or_(
        pc.match_substring(pc.replace_substring(inner, quote * 2, b""), quote),
        pc.or_(pc.invert(pc.ends_with(raw, quote)), pc.equal(raw, byte_scalar(quote))),
    )
    result = pc.if_else(opened, pc.replace_substring(inner, quote * 2, quote), raw)
    odd = np.flatnonzero(mask_to_numpy(pc.and_(opened, odd)))
    if len(odd) == 0:
        return result
    values = result.to_pylist()
    for i in odd.tolist():
        values[i] = unquote_one(raw[i].as_py(), quote)
    return byte_array(values)


def unquote_one(raw: bytes, quote: bytes) -> bytes:
    """One field's value by the rules of Python's csv module: text after a closing quote is kept as it is."""
    if not raw.startswith(quote):
        return raw
    out = bytearray()
    at = 1
    while True:
        end = raw.find(quote, at)
        if end < 0:
            return bytes(out + raw[at:])
        out += raw[at:end]
        if raw[end + 1 : end + 2] != quote:
            return bytes(out + raw[end + 1 :])
        out += quote
        at = end + 2


def decoded(raw: Any, encoding: str) -> Any:
    """Field values as Arrow strings. Their bytes were checked when the chunk was indexed.

    UTF-8 is only looked at otherwise. In the other encodings one byte is one character, so all values become
    UTF-8 in one go, and each one's new place is the sum of the lengths before it.
    """
    if encoding == "utf-8" or len(raw) == 0:
        return as_text(raw)
    _, offset_buffer, data = raw.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(raw) + 1, raw.offset * 4)
    old = np.frombuffer(data if data is not None else b"", np.uint8)[offsets[0] : offsets[-1]]
    places = np.zeros(len(old) + 1, np.int32)
    np.cumsum(_lengths(encoding)[old], out=places[1:])
    text = pa.py_buffer(str(old.data, encoding, "replace").encode())
    return pa.Array.from_buffers(pa.string(), len(raw), [None, pa.py_buffer(places[offsets - offsets[0]]), text])


@lru_cache(maxsize=32)
def _lengths(encoding: str) -> Offsets:
    return np.array([len(bytes([i]).decode(encoding, "replace").encode()) for i in range(256)], np.int32)


def unwritable(values: Any, header: Header) -> Mask | None:
    """Which values cannot stand in such a file: a character it has no byte for, or a delimiter and no quotes.

    None when all can, which for UTF-8 with quotes costs nothing to know.
    """
    bad = np.zeros(len(values), np.bool_)
    if not header.quote:
        bad |= mask_to_numpy(pc.match_substring_regex(values, _special(header)))
    if header.encoding != "utf-8" and not _ascii(values):
        bad |= np.array([bool(v and missing(v, header.encoding)) for v in values.to_pylist()], np.bool_)
    return bad if bad.any() else None


def _ascii(values: Any) -> bool:
    return pc.all(pc.string_is_ascii(values)).as_py() is not False  # of no values at all it is None


def missing(text: str, encoding: str) -> str:
    """The first character of `text` that `encoding` does not have, or ""."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        return text[error.start]
    return ""


def quoted(values: Any, header: Header) -> Any:
    """Computed values as they are written: quoted where delimiter, quote or line end stand in them.

    NULL is an empty field. An empty value that is a record's only field is quoted by the encoder, which has
    also set aside what is `unwritable`.
    """
    if values.null_count:
        values = pc.fill_null(values, EMPTY)
    if header.quote and holds_any(values, header.delimiter + header.quote + b"\r\n"):
        needs = pc.match_substring_regex(values, _special(header))
        if pc.any(needs).as_py():
            quote = header.quote.decode()
            mark, doubled = text_scalar(quote), pc.replace_substring(values, quote, quote * 2)
            values = pc.if_else(needs, pc.binary_join_element_wise(mark, doubled, mark, EMPTY), values)
    if header.encoding == "utf-8" or _ascii(values):
        return values.view(pa.binary())
    return byte_array([v.encode(header.encoding) for v in values.to_pylist()])


def _special(header: Header) -> str:
    special = (header.delimiter + header.quote).decode()
    return "[" + "".join(f"\\x{{{ord(c):x}}}" for c in special) + "\r\n]"
