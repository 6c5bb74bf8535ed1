"""`mask`: values replaced by tokens that only the holder of the key could make."""

from __future__ import annotations

import copy
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa

from aiopipe import kernels as pc
from aiopipe.arrays import EMPTY, text_array
from aiopipe.batch import Column
from aiopipe.errors import UsageError
from aiopipe.fields import quoted, unwritable
from aiopipe.options import option, strings
from aiopipe.stage import Scope, Stage
from aiopipe.stages._columns import NamesColumns
from aiopipe.stages._tokens import ALGORITHMS, WIDTHS, Token, key_source, read_key, token_maker

__all__ = ["Mask"]

_LEAST = 8
_LENGTH = 32  # in hex 128 bits: of a billion values no two are likely to meet


@dataclass(frozen=True, repr=False, init=False)
class Mask(NamesColumns):
    """Replace the values of COLUMNS by a keyed hash: the same value and key give the same token, in any file.

    KEY is env:NAME or file:PATH; at least 16 bytes, and better 32 random ones. Without it nobody can tell which
    value a token stands for, or try values out. Equal values get equal tokens in all columns, so that files can
    still be joined; who must not be able to do that uses one key for each. Values are compared byte for byte as
    UTF-8, without quotes. An empty field stays empty. All other fields keep their bytes, and so does the header.
    """

    word: ClassVar[str] = "mask"
    portable: ClassVar[bool] = True
    example: ClassVar[str] = (
        "aiopipe pipe read 'sample_data/flights/*.csv' then mask tailnum --key file:examples/mask.key --length 16 "
        "then head 2 then write -"
    )

    key: Any = option(metavar="SOURCE", help="env:NAME or file:PATH, where the key is")
    algorithm: str = option("hmac-sha256", choices=ALGORITHMS, help="the keyed hash; blake3 takes a key of 32 bytes")
    encoding: str = option("hex", choices=tuple(WIDTHS), help="how tokens are written (RFC 4648)")
    length: int = option(_LENGTH, kind="int", help="characters of a token; with few of them, values may share one")
    mask_empty: bool = option(False, kind="flag", help="give empty fields a token as well")
    # What `ready` puts here is in no repr, comparison, report or message.
    secret: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __init__(
        self,
        *columns: str | Iterable[str],
        key: str,
        algorithm: str = "hmac-sha256",
        encoding: str = "hex",
        length: int = _LENGTH,
        mask_empty: bool = False,
    ) -> None:
        key_source(key)  # first of all: other checks would show what was given
        options = {
            "key": key, "algorithm": algorithm, "encoding": encoding, "length": length, "mask_empty": mask_empty,
        }  # fmt: skip
        for name, value in options.items():
            object.__setattr__(self, name, value)
        super().__init__(*columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        most = WIDTHS[self.encoding]
        if not _LEAST <= self.length <= most:
            raise UsageError(
                f"length is {self.length}",
                stage="mask",
                hint=f"in {self.encoding} a token has {_LEAST} to {most} characters",
            )

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Stage:
        """From named options."""
        rest = dict(options)
        return cls(*strings(rest.pop("columns", ())), **rest)

    def ready(self) -> Mask:
        """The stage with its key. UsageError where there is none, or a weak one."""
        made = copy.copy(self)
        object.__setattr__(made, "secret", read_key(self.key, self.algorithm))
        token_maker(self.algorithm, made.secret, self.encoding, self.length)  # a missing wheel is said now
        return made

    def fingerprint(self) -> Mapping[str, str]:
        """Another key gives other tokens; the key itself cannot be told from this."""
        return {"key behind it": hmac.digest(self.secret, b"aiopipe fingerprint", "sha256").hex()[:16]}

    def narrow(self, scope: Scope) -> Scope:
        """Tokens are text, whatever the values were."""
        self._known(scope)
        types = {name: "VARCHAR" if name in self.columns else kind for name, kind in scope.types.items()}
        doubts = {name: doubt for name, doubt in scope.doubts.items() if name not in self.columns}
        return replace(scope, types=types, doubts=doubts)

    def apply(self, batch: Any, scope: Scope) -> Any:
        """The batch with tokens in these columns."""
        token = token_maker(self.algorithm, self.secret, self.encoding, self.length)
        for name in self.columns:
            old = batch.column(name)
            new = self._masked(batch, old, token)
            batch = replace(batch, columns=tuple(new if column is old else column for column in batch.columns))
        return batch

    def _masked(self, batch: Any, old: Column, token: Token) -> Column:
        values = batch.text(old)
        if values.null_count:
            values = pc.fill_null(values, EMPTY)
        distinct = pc.dictionary_encode(values)  # a value that comes often is hashed once
        plain = distinct.dictionary.view(pa.binary()).to_pylist()
        tokens = text_array([token(value) if value or self.mask_empty else "" for value in plain])
        made = tokens.take(distinct.indices)
        header = batch.body.header
        if self.mask_empty or unwritable(made, header) is not None:
            return Column(old.name, -1, made)
        # An empty field was not touched: where it was written as "", it still is.
        written = pc.if_else(pc.equal(values, EMPTY), batch.raw(old), quoted(made, header))
        return Column(old.name, -1, made, written)
