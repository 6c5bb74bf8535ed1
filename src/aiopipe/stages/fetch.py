"""`fetch`: columns from an HTTP service, one request a record."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aiopipe.errors import UsageError
from aiopipe.options import option
from aiopipe.policy import Retry, breaker_of, rate_of, retry_of
from aiopipe.stage import Context, Flow, Scope
from aiopipe.stages._attempts import exceptions_named
from aiopipe.stages._calls import CONCURRENCY
from aiopipe.stages._paths import Path, path_of
from aiopipe.stages._template import Template, body_of, is_json, json_template, text_template, url_template
from aiopipe.stages.map import ON_ERROR

__all__ = ["Fetch"]

_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
_SECRET_QUERY = re.compile(r"[?&](api[_-]?key|access[_-]?token|client[_-]?secret|password)=([^&{]+)", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Fetch(Flow):
    """Ask an HTTP service about every record, and put what it answers into columns.

    URL, headers and body may name columns: {user_id} is the field, quoted as a URL needs it; {path:raw} is the
    field as it is; {{ and }} are braces. A body that is JSON has its places inside its strings. Secrets are named
    and never given: {env:NAME} or {file:PATH}; what they hold is shown nowhere.

    --into COLUMN=PATH takes a value from an answer in JSON: $.address.city, $.choices[0].message.content,
    $['a b'], $.items[-1]. Behind a path, ? allows it to be missing. Other paths are status, body and header:NAME.
    All other fields keep their bytes.

    Resets, timeouts, and the statuses 408, 425, 429 and 5xx are tried again, after what Retry-After says. Other
    failures are final: the record is rejected with the status and a piece of the answer. --retries may have on=,
    with names of exceptions and statuses.

    POST and PATCH carry an Idempotency-Key, made of the request and the record's place in its file: the same
    with each attempt and each run. --cache FILE keeps usable answers, so that another run asks only for the
    others; with --max-age, older answers are asked for anew, by ETag or Last-Modified where they had one.

    Needs aiohttp: pip install 'aiopipe-csv[http]'.
    """

    word: ClassVar[str] = "fetch"
    takes: ClassVar[tuple[str, ...]] = ("records", "items")
    example: ClassVar[str] = (
        "aiopipe pipe read sample_data/airlines.csv"
        " then fetch 'https://api.example.com/{carrier}' --into city='$.city' then head 2 then write -"
    )

    url: str = option(positional="one", metavar="URL", help="with {column} where a field belongs")
    into: Any = option((), kind="pairs", metavar="COLUMN=PATH", help="a column, and where in the answer its value is")
    method: Any = option(None, metavar="METHOD", help="GET, POST and so on (default: GET, or POST with a body)")
    headers: Any = option((), kind="pairs", metavar="NAME=TEXT", help="a header of every request")
    body: Any = option(None, kind="policy", convert=body_of, metavar="TEXT", help="what is sent: JSON, or any text")
    concurrency: Any = option(CONCURRENCY, kind="int", help="requests, and connections, at once", result=False)
    ordered: bool = option(True, kind="flag", help="keep the order of the input (no-ordered: batches as they finish)")
    timeout: Any = option(
        30.0, kind="time", metavar="TIME", help="how long one attempt may take, body included", result=False
    )
    retries: Any = option(
        Retry(),
        kind="policy",
        convert=retry_of,
        metavar="N",
        help="how often a failed request is made again: 0, or attempts=4,backoff=1s,on=429,on=503 (default: 3)",
        result=False,
    )
    rate_limit: Any = option(
        None,
        kind="policy",
        convert=rate_of,
        metavar="RATE",
        help="requests begun a time, over the whole stage: 50/s",
        result=False,
    )
    breaker: Any = option(
        None,
        kind="policy",
        convert=breaker_of,
        metavar="N",
        help="after N failures in a row wait, then try one: 5, or failures=5,wait=30s,probes=10",
        result=False,
    )
    on_error: str = option(
        "reject",
        choices=ON_ERROR,
        help="a record whose request failed ends the run, is set aside (with --rejects), or stays as it was",
    )
    cache: Any = option(None, metavar="FILE", help="keep answers there (SQLite), for other runs", result=False)
    max_age: Any = option(
        None, kind="time", metavar="TIME", help="how old a kept answer may be (default: any age will do)", result=False
    )
    max_response: Any = option(
        10_000_000, kind="size", metavar="SIZE", help="bytes that one answer may have (default: 10MB)", result=False
    )
    idempotency_key: str = option(
        "Idempotency-Key", metavar="NAME", help='the header with the key of a POST or PATCH; "" for none', result=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.method or ("GET" if self.body is None else "POST")
        object.__setattr__(self, "method", method.upper())
        if not re.fullmatch(r"[A-Z]+", self.method) or self.method == "CONNECT":
            raise UsageError(f"method is {self.method!r}", stage="fetch", hint="such as GET, POST or PUT")
        if self.concurrency < 1:
            raise UsageError(f"concurrency is {self.concurrency}", stage="fetch", hint="give it 1 or more")
        if self.max_response < 1:
            raise UsageError(f"max_response is {self.max_response}", stage="fetch", hint="such as 10MB")
        if self.max_age is not None and self.cache is None:
            raise UsageError("max_age without cache", stage="fetch", hint="name a file for the answers (--cache FILE)")
        self._check_columns()
        self._check_secrets()
        _ = self.paths, self.parts
        if self.retries is not None:
            exceptions_named([name for name in self.retries.on if not name.isdigit()], "fetch")

    def _check_columns(self) -> None:
        names = [name for name, _ in self.into]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise UsageError(f"into names column {twice[0]!r} twice", stage="fetch", hint="use two names")
        seen = [name.lower() for name, _ in self.headers]
        if again := [n for n in seen if seen.count(n) > 1]:
            raise UsageError(f"header {again[0]!r} stands twice", stage="fetch", hint="give each header once")
        for name, _ in self.headers:
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise UsageError(f"{name!r} is no name of a header", stage="fetch", hint="such as Accept-Language")

    def _check_secrets(self) -> None:
        """Refuse a password where everybody can read it: in a process list, a file, a report."""
        for name, text in self.headers:
            if name.lower() in _SECRET_HEADERS and "{" not in text:
                raise UsageError(
                    f"header {name} holds a secret that everybody can read",
                    stage="fetch",
                    hint=f"name it: {name}=Bearer {{env:API_TOKEN}}",
                )
        if found := _SECRET_QUERY.search(self.url):
            raise UsageError(
                f"{found[1]} in the URL is a secret that everybody can read",
                stage="fetch",
                hint=f"name it: {found[1]}={{env:API_KEY}}",
            )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the values of the new columns are."""
        return tuple(path_of(text, "fetch") for _, text in self.into)

    @property
    def parts(self) -> tuple[Template, dict[str, Template], Template | None]:
        """URL, headers and body as templates."""
        headers = {name: text_template(text, "fetch") for name, text in self.headers}
        body = None
        if self.body is not None:
            body = (json_template if is_json(self.body) else text_template)(self.body, "fetch")
            if is_json(self.body) and not any(n.lower() == "content-type" for n in headers):
                headers["Content-Type"] = text_template("application/json", "fetch")
        if any(p.kind == "json" for p in self.paths) and not any(n.lower() == "accept" for n in headers):
            headers["Accept"] = text_template("application/json", "fetch")
        return url_template(self.url, "fetch"), headers, body

    def narrow(self, scope: Scope) -> Scope:
        """The new columns are text."""
        types, doubts = dict(scope.types), dict(scope.doubts)
        for name, _ in self.into:
            types[name] = "VARCHAR"
            doubts.pop(name, None)
        return replace(scope, types=types, doubts=doubts)

    async def flow(self, parcels: AsyncIterator[Any], scope: Scope, context: Context) -> AsyncIterator[Any]:
        """The parcels with the columns added."""
        from contextlib import aclosing

        from aiopipe.stages._enrich import enriching

        async with enriching(self, context) as work:
            from aiopipe.stages._in_turn import calls_as_told

            async with aclosing(calls_as_told(work, parcels, context)) as made:
                async for parcel in made:
                    yield parcel
