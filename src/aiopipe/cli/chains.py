"""A command line as a tree of segments: split at `then`, and at the brackets of branches and inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from aiopipe.errors import UsageError
from aiopipe.tuples import NamedTuple

__all__ = ["Segment", "every_segment", "segment_in_hand", "segments"]

_ESCAPED = {"\\then": "then", "\\[": "[", "\\]": "]"}
_EMPTY = "such as: tee [ head 5 then write - ] [ write out/ ]"


class Segment(NamedTuple):
    """The words between two `then`.

    word: of the stage. name: the same, with its place in the chain where it stands twice. args: its other words,
    but for those in brackets. groups: what stands in brackets, each with the number of the words before it.
    """

    word: str
    args: tuple[str, ...]
    name: str
    groups: tuple[tuple[int, tuple[Segment, ...]], ...] = ()


class _Part:
    """A segment while its words are read."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.groups: list[tuple[int, list[_Part]]] = []

    def every(self) -> Iterator[_Part]:
        yield self
        for _, chain in self.groups:
            for part in chain:
                yield from part.every()


def segments(tokens: Sequence[str]) -> list[Segment]:
    """Split at `then` and at brackets; a column or file of such a name is written `\\then`, `\\[` or `\\]`.

    UsageError for an empty segment, and for a bracket without its other half.
    """
    if not tokens:
        raise UsageError("no stages", hint="such as: aiopipe pipe read 'in/*.csv' then head 5 then write -")
    rest = iter(tokens)
    chain = _chain(rest, inside=False)
    parts = [p for part in chain for p in part.every()]
    seen = Counter(p.words[0] for p in parts)
    numbers = {id(p): i for i, p in enumerate(parts, 1)}

    def made(part: _Part) -> Segment:
        word = part.words[0]
        name = word if seen[word] == 1 else f"{word}#{numbers[id(part)]}"
        groups = tuple((at - 1, tuple(map(made, chain))) for at, chain in part.groups)
        return Segment(word, tuple(part.words[1:]), name, groups)

    return [made(part) for part in chain]


def _chain(rest: Iterator[str], *, inside: bool) -> list[_Part]:
    """The segments up to the bracket that closes them, or to the end."""
    parts = [_Part()]
    closed = False
    for token in rest:
        if token == "]":
            if not inside:
                raise UsageError("a ] without its [", hint="a column or file of that name is written \\]")
            closed = True
            break
        if token == "then":
            parts.append(_Part())
        elif token == "[":
            if not parts[-1].words:
                raise UsageError("a [ where a stage should be", hint=_EMPTY)
            parts[-1].groups.append((len(parts[-1].words), _chain(rest, inside=True)))
        else:
            parts[-1].words.append(_ESCAPED.get(token, token))
    if inside and not closed:
        raise UsageError("a [ is never closed", hint="put ] behind the last stage in brackets, with blanks around it")
    _refuse_empty(parts, inside)
    return parts


def _refuse_empty(parts: Sequence[_Part], inside: bool) -> None:
    if inside and len(parts) == 1 and not parts[0].words:
        raise UsageError("there is nothing between [ and ]", hint=_EMPTY)
    for i, part in enumerate(parts):
        if not part.words:
            where = "at the end" if i == len(parts) - 1 else "at the beginning" if i == 0 else "twice in a row"
            raise UsageError(f"`then` stands {where}", hint="it joins two stages: read FILE then write -")


def every_segment(chain: Sequence[Segment]) -> Iterator[Segment]:
    """The segments with those in brackets."""
    for segment in chain:
        yield segment
        for _, group in segment.groups:
            yield from every_segment(group)


def segment_in_hand(tokens: Sequence[str]) -> Sequence[str]:
    """The words of the segment that the next word would belong to; for completion."""
    start, outer = 0, [0]
    for i, token in enumerate(tokens):
        if token == "then":
            start = i + 1
        elif token == "[":
            outer.append(start)
            start = i + 1
        elif token == "]" and len(outer) > 1:
            start = outer.pop()
    return tokens[start:]
