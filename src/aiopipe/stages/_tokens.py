"""Keys and what they make of a value: where a key may come from, and the keyed hash of `mask`.

A key is named (`env:NAME`, `file:PATH`), never given, and no message says what is in it. HMAC is RFC 2104,
BLAKE3's keyed mode is section 2.3 of its paper, the alphabets are those of RFC 4648.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

from aiopipe.errors import UsageError

__all__ = ["ALGORITHMS", "WIDTHS", "key_source", "read_key", "token_maker"]

ALGORITHMS = ("hmac-sha256", "blake3")
WIDTHS = {"hex": 64, "base32": 52, "base64url": 43}
"""How many characters a whole digest of 32 bytes has."""

_LEAST = 16
_MOST = 4096
_BLOCK = 64  # bytes that SHA-256 takes in at a time
_MAKE = "openssl rand -hex 32 makes a good one"

Token = Callable[[bytes], str]


def key_source(key: object) -> tuple[str, str]:
    """The kind and the name in `env:NAME` or `file:PATH`; UsageError, without what was given, for anything else."""
    if isinstance(key, str):
        kind, _, name = key.partition(":")
        if kind in ("env", "file") and name:
            return kind, name
    raise UsageError(
        "the key is named, not given: env:NAME or file:PATH",
        stage="mask",
        hint="put it into an environment variable or a file; what stands on a command line, others can see",
    )


def read_key(key: str, algorithm: str) -> bytes:
    """The bytes of a key; UsageError where there is none, or one that can be guessed.

    A line end behind a key of printable characters is not part of it: editors and `echo` put one there.
    """
    kind, name = key_source(key)
    if kind == "env":
        where = f"the environment variable {name}"
        if name not in os.environ:
            raise UsageError(f"{where} is not set", stage="mask", hint=f'export {name}="$(openssl rand -hex 32)"')
        found = os.fsencode(os.environ[name])
    else:
        where = f"the file {name}"
        try:
            with open(os.path.expanduser(name), "rb") as file:
                found = file.read(_MOST + 1)
        except OSError as error:
            raise UsageError(
                f"{where} cannot be read: {error.strerror}", stage="mask", hint=f"openssl rand -hex 32 > {name}"
            ) from None
        line = found.rstrip(b"\r\n")
        if all(32 <= byte < 127 for byte in line):
            found = line
    _refuse_weak(found, where)
    if algorithm == "blake3" and len(found) != 32:
        raise UsageError(
            f"{where} holds {len(found)} bytes, and blake3 takes a key of 32",
            stage="mask",
            hint="openssl rand -hex 16 makes one, or use hmac-sha256",
        )
    return found


def _refuse_weak(key: bytes, where: str) -> None:
    if not key:
        raise UsageError(f"{where} is empty", stage="mask", hint=_MAKE)
    if len(key) < _LEAST:
        raise UsageError(
            f"{where} holds a key of {len(key)} bytes, and {_LEAST} are the least that is not soon guessed",
            stage="mask",
            hint=_MAKE,
        )
    if len(key) > _MOST:
        raise UsageError(f"{where} holds more than {_MOST} bytes: that is no key", stage="mask", hint=_MAKE)
    if len(set(key)) == 1:
        raise UsageError(f"{where} holds one byte over and over", stage="mask", hint=_MAKE)


def token_maker(algorithm: str, key: bytes, encoding: str, length: int) -> Token:
    """The function from a value's bytes to the first `length` characters of its keyed hash."""
    if algorithm == "blake3":
        digest = _blake3(key)
    elif encoding == "hex":
        return _hmac_hex(key, length)
    else:
        digest = _hmac(key)
    if encoding == "hex":
        return lambda value: digest(value).hex()[:length]
    encode = base64.b32encode if encoding == "base32" else base64.urlsafe_b64encode
    return lambda value: encode(digest(value))[:length].decode("ascii")


def _pads(key: bytes) -> tuple[Any, Any]:
    """SHA-256 fed with the key for the inner and for the outer hash.

    A copy of each for a value, and not hmac.digest: 0.7 us a value and not 1.7 (OpenSSL 3 looks HMAC up by
    its name at each call).
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    return inner, outer


def _hmac_hex(key: bytes, length: int) -> Token:
    inner, outer = _pads(key)

    def token(value: bytes) -> str:
        within, around = inner.copy(), outer.copy()
        within.update(value)
        around.update(within.digest())
        text: str = around.hexdigest()[:length]
        return text

    return token


def _hmac(key: bytes) -> Callable[[bytes], bytes]:
    inner, outer = _pads(key)

    def digest(value: bytes) -> bytes:
        within, around = inner.copy(), outer.copy()
        within.update(value)
        around.update(within.digest())
        made: bytes = around.digest()
        return made

    return digest


def _blake3(key: bytes) -> Callable[[bytes], bytes]:
    from blake3 import blake3

    new: Any = blake3

    def digest(value: bytes) -> bytes:
        made: bytes = new(value, key=key).digest()
        return made

    return digest
