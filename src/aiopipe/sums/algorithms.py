"""The algorithms by name: hashlib's, BLAKE3, xxHash, CRC-32 and CRC-32C, each as one small record.

Names are hashlib's (`sha256`, `sha3_256`, `blake2b`), with a length in bits after a dash where the algorithm
has one (`blake2b-128`). What is not in the standard library is imported when it is first asked for.

Sources: FIPS 180-4 (SHA-2), FIPS 202 (SHA-3), RFC 1321 (MD5), RFC 7693 (BLAKE2), RFC 3720 (CRC-32C).
"""

from __future__ import annotations

import functools
import importlib
import zlib
from collections.abc import Callable

from aiopipe.errors import UnknownNameError, UsageError, nearest
from aiopipe.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Hasher(Protocol):
        """What every algorithm gives: fed bytes, it says a digest in hexadecimal."""

        def update(self, data: Any, /) -> Any:
            """Take in more bytes."""

        def hexdigest(self) -> str:
            """The digest of all bytes so far, lower case."""


__all__ = ["Algorithm", "algorithm", "known_algorithms", "of_length", "of_tag"]


class Algorithm(NamedTuple):
    """One algorithm: its name, its tag in BSD-style lines, its digest's length in hexadecimal digits.

    `new` makes a hasher; `once` is the digest of one bytes-like object (quicker for small files);
    `wide`, where there is one, makes a hasher that uses every core (for a large file alone).
    """

    name: str
    tag: str
    width: int
    new: Callable[[], Hasher]
    once: Callable[[Any], str]
    wide: Callable[[], Hasher] | None = None


_TAGS = {
    "md5": "MD5",
    "sha1": "SHA1",
    "sha224": "SHA224",
    "sha256": "SHA256",
    "sha384": "SHA384",
    "sha512": "SHA512",
    "sha512_224": "SHA512/224",
    "sha512_256": "SHA512/256",
    "sha3_224": "SHA3-224",
    "sha3_256": "SHA3-256",
    "sha3_384": "SHA3-384",
    "sha3_512": "SHA3-512",
    "blake2b": "BLAKE2b",
    "blake2s": "BLAKE2s",
    "ripemd160": "RMD160",
    "sm3": "SM3",
    "blake3": "BLAKE3",
    "xxh32": "XXH32",
    "xxh64": "XXH64",
    "xxh3": "XXH3",
    "xxh128": "XXH128",
    "crc32": "CRC32",
    "crc32c": "CRC32C",
}

_OPTIONAL = frozenset({"ripemd160", "sm3", "sha512_224", "sha512_256"})  # OpenSSL may have been built without these

_ALIASES = {
    "b3": "blake3",
    "xxh3_64": "xxh3",
    "xxh3_128": "xxh128",
    "b2": "blake2b",
    "rmd160": "ripemd160",
    "sha512_t256": "sha512_256",
}

# Which algorithms write a digest of so many hexadecimal digits, the likeliest first.
_BY_WIDTH = {
    8: ("crc32", "crc32c", "xxh32"),
    16: ("xxh64", "xxh3"),
    32: ("md5", "xxh128"),
    40: ("sha1", "ripemd160"),
    56: ("sha224", "sha3_224"),
    64: ("sha256", "blake3", "sha3_256", "blake2s", "sm3"),
    96: ("sha384", "sha3_384"),
    128: ("sha512", "blake2b", "sha3_512"),
}


def known_algorithms() -> list[str]:
    """Every name that `algorithm` takes, whether or not its wheel is installed."""
    return [name for name in _TAGS if _known(name)]


def _known(name: str) -> bool:
    if name not in _OPTIONAL:
        return name in _TAGS
    import hashlib

    return name in hashlib.algorithms_available


def of_length(width: int) -> tuple[str, ...]:
    """The algorithms whose digest has `width` hexadecimal digits, the likeliest first.

    >>> of_length(32)
    ('md5', 'xxh128')
    """
    return _BY_WIDTH.get(width, ())


def of_tag(tag: str) -> str | None:
    """The name behind a tag of a BSD-style line, or None.

    >>> of_tag("SHA256"), of_tag("BLAKE2b-128"), of_tag("nonsense")
    ('sha256', 'blake2b-128', None)
    """
    base, dash, bits = tag.partition("-")
    if base.upper() in ("BLAKE2B", "BLAKE2S") and dash:
        return f"{base.lower()}-{bits}" if bits.isdecimal() else None
    return next((name for name, known in _TAGS.items() if known.upper() == tag.upper()), None)


def canonical(name: str) -> str:
    """The one spelling of an algorithm's name: `SHA-256`, `sha3-256` and `b3` are understood.

    >>> canonical("SHA-256"), canonical("sha3-256"), canonical("BLAKE2b-128"), canonical("b3")
    ('sha256', 'sha3_256', 'blake2b-128', 'blake3')
    """
    low = name.strip().lower()
    if low in _TAGS:
        return low
    base, dash, bits = low.partition("-")
    if base in ("blake2b", "blake2s") and dash and bits.isdecimal():
        return low
    under = low.replace("-", "_")
    if under in _TAGS:
        return under
    plain = under.replace("sha_", "sha")
    return _ALIASES.get(plain, plain)


@functools.cache
def algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises UnknownNameError for a name nobody knows, UsageError where its wheel is not installed or the
    length is out of its range.

    >>> algorithm("sha256").once(b"")[:8]
    'e3b0c442'
    """
    wanted = canonical(name)
    base, _, bits = wanted.partition("-")
    if not _known(base):
        raise UnknownNameError(f"no algorithm {name!r}", hint=nearest(wanted, known_algorithms()))
    if base in ("blake2b", "blake2s"):
        return _blake2(base, bits)
    if base == "blake3":
        return _blake3()
    if base.startswith("xxh"):
        return _xxhash(base)
    if base == "crc32":
        return _crc(base, zlib.crc32)
    if base == "crc32c":
        return _crc(base, _crc32c())
    return _hashlib(base)


def _hashlib(name: str) -> Algorithm:
    import hashlib  # OpenSSL takes 4 ms to load, and BLAKE3 and xxHash do without

    # The named constructors skip the look-up by name: 0.5 us less for every small file.
    maker = getattr(hashlib, name, None) or functools.partial(hashlib.new, name)
    try:
        width = maker(usedforsecurity=False).digest_size * 2
    except ValueError as error:
        raise UsageError(f"this Python's OpenSSL refuses {name}: {error}", hint="choose sha256") from error
    if name in ("md5", "sha1"):  # a FIPS build refuses these unless told that no secret depends on them
        maker = functools.partial(maker, usedforsecurity=False)

    def once(data: Any) -> str:
        digest: str = maker(data).hexdigest()
        return digest

    return Algorithm(name, _TAGS[name], width, maker, once)


def _blake2(base: str, bits: str) -> Algorithm:
    import hashlib

    kind: Any = getattr(hashlib, base)
    longest = kind.MAX_DIGEST_SIZE * 8
    length = int(bits or longest)
    if length % 8 or not 8 <= length <= longest:
        raise UsageError(f"{base}-{bits}: the length is a multiple of 8 from 8 to {longest} bits")
    new = functools.partial(kind, digest_size=length // 8)
    suffix = f"-{length}" if length != longest else ""

    def once(data: Any) -> str:
        digest: str = new(data).hexdigest()
        return digest

    return Algorithm(base + suffix, _TAGS[base] + suffix, length // 4, new, once)


def _optional_module(name: str, need: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{need} needs the package {name}", hint="pip install 'aiopipe-csv[hashes]', or choose sha256"
        ) from error


def _blake3() -> Algorithm:
    module = _optional_module("blake3", "blake3")
    new: Any = module.blake3

    def once(data: Any) -> str:
        digest: str = new(data).hexdigest()
        return digest

    return Algorithm("blake3", "BLAKE3", 64, new, once, functools.partial(new, max_threads=new.AUTO))


def _xxhash(name: str) -> Algorithm:
    module = _optional_module("xxhash", name)
    prefix = {"xxh3": "xxh3_64", "xxh128": "xxh3_128"}.get(name, name)
    new: Any = getattr(module, prefix)
    return Algorithm(name, _TAGS[name], new().digest_size * 2, new, getattr(module, prefix + "_hexdigest"))


def _crc32c() -> Callable[[Any, int], int]:
    """CRC-32C from whichever of its two wheels is here."""
    try:
        ours: Any = importlib.import_module("crc32c")
    except ImportError:
        google = _optional_module("google_crc32c", "crc32c")

        def extend(data: Any, value: int) -> int:
            # This wheel takes nothing but bytes.
            result: int = google.extend(value, bytes(data))
            return result

        return extend

    def update(data: Any, value: int) -> int:
        result: int = ours.crc32c(data, value)
        return result

    return update


def _crc(name: str, function: Callable[[Any, int], int]) -> Algorithm:
    class Crc:
        def __init__(self) -> None:
            self.value = 0

        def update(self, data: Any, /) -> None:
            self.value = function(data, self.value)

        def hexdigest(self) -> str:
            return f"{self.value:08x}"

    return Algorithm(name, _TAGS[name], 8, Crc, lambda data: f"{function(data, 0):08x}")
