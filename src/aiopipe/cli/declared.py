"""Commands declared as data, which run without click where their arguments are plain.

To import click takes 35 ms, a tenth of what BLAKE3 needs for a gigabyte. So the commands that are often over in less
than a second declare their options as records: `Command.parse` understands what is typed every day, and what it does
not understand (`--help`, a spelling mistake, a value that is none) is left to the click command made of the same
records, which explains it. A test holds the two to the same answers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import click

__all__ = ["Argument", "Command", "Option"]


class Argument:
    """A positional argument: `many` takes all that are left; without `required` there may be none."""

    def __init__(self, name: str, *, many: bool = False, required: bool = True, default: str | None = None) -> None:
        self.name, self.many, self.default = name, many, default
        self.required = required and default is None

    def as_click(self) -> click.Argument:
        """The same for click."""
        import click

        more: dict[str, Any] = {} if self.default is None else {"default": self.default}
        return click.Argument(
            [self.name], nargs=-1 if self.many else 1, required=self.required, type=click.Path(), **more
        )


class Option:
    """An option: `names` are its spellings, `--on/--off` for a pair of flags, and at last its argument's name if it
    is none of these. One of `flag`, `choices`, `least` (a number from there on), or text with a `metavar`."""

    def __init__(
        self,
        *names: str,
        help: str,
        default: Any = None,
        metavar: str | None = None,
        flag: bool = False,
        many: bool = False,
        choices: Sequence[str] = (),
        least: int | None = None,
        shown: bool = False,
    ) -> None:
        self.names, self.help, self.metavar = names, help, metavar
        self.flag, self.many, self.choices, self.least, self.shown = flag, many, tuple(choices), least, shown
        self.default = default
        spelt = [name for name in names if name.startswith("-")]
        longest = max((name.partition("/")[0] for name in spelt), key=len).lstrip("-").replace("-", "_")
        self.name = next((name for name in names if not name.startswith("-")), longest)
        # What each spelling stands for: a value follows (None), or it is one.
        self.spellings: dict[str, bool | None] = {}
        for name in spelt:
            on, slash, off = name.partition("/")
            self.spellings[on] = True if flag else None
            if slash:
                self.spellings[off] = False

    def start(self) -> Any:
        """Its value where it is not given."""
        if self.many:
            return ()
        return False if self.flag and self.default is None and "/" not in self.names[-1] else self.default

    def value(self, text: str) -> Any:
        """Its value as typed; raises ValueError where that is none."""
        if self.least is not None:
            number = int(text)
            if number < self.least:
                raise ValueError(text)
            return number
        if self.choices and text not in self.choices:
            raise ValueError(text)
        return text

    def as_click(self) -> click.Option:
        """The same for click."""
        import click

        more: dict[str, Any] = {"help": self.help, "metavar": self.metavar, "show_default": self.shown}
        if self.flag:
            more["is_flag"] = True
        if self.many:
            more["multiple"] = True
        elif self.default is not None or (self.flag and "/" in self.names[-1]):
            more["default"] = self.default
        if self.choices:
            more["type"] = click.Choice(self.choices)
        elif self.least is not None:
            more["type"] = click.IntRange(self.least)
        return click.Option(list(self.names), **more)


class Command:
    """A command: `function` gets its arguments by name.

    Of `groups`, name -> (named tuple, options), the function gets each as one object. The function's docstring is the
    help.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., int],
        params: Sequence[Argument | Option],
        groups: dict[str, tuple[Any, Sequence[Option]]] | None = None,
        last: Sequence[Option] = (),
    ) -> None:
        self.name, self.function, self._groups = name, function, groups or {}
        self.params = [*params, *(option for _, options in self._groups.values() for option in options), *last]

    def run(self, **given: Any) -> int:
        """Call the function with what was given."""
        grouped = {
            name: kind(*[given.pop(option.name) for option in options])
            for name, (kind, options) in self._groups.items()
        }
        return self.function(**grouped, **given)

    def parse(self, words: Sequence[str]) -> dict[str, Any] | None:
        """What `run` is to be given, or None where click has to look at it."""
        by_spelling = {each: param for param in self.params if isinstance(param, Option) for each in param.spellings}
        given: dict[str, Any] = {}
        left = list(reversed(words))
        plain: list[str] = []
        while left:
            word = left.pop()
            if word == "--":
                plain += reversed(left)
                break
            if word[:1] != "-" or word == "-":
                plain.append(word)
                continue
            if word[:2] != "--":
                if len(word) > 2:  # -zv, -j4: the rest is a value, or more flags
                    option = by_spelling.get(word[:2])
                    if option is None or (option.flag and word[2] == "-"):
                        return None
                    left.append("-" + word[2:] if option.flag else word[2:])
                    word = word[:2]
            elif "=" in word:
                word, _, value = word.partition("=")
                left.append(value)
                if word in by_spelling and by_spelling[word].flag:
                    return None
            option = by_spelling.get(word)
            if option is None:
                return None
            found: Any = option.spellings[word]
            if found is None:
                if not left:
                    return None
                try:
                    found = option.value(left.pop())
                except ValueError:
                    return None
            given[option.name] = (*given.get(option.name, ()), found) if option.many else found
        return self._completed(given, plain)

    def _completed(self, given: dict[str, Any], plain: list[str]) -> dict[str, Any] | None:
        """The same with positional arguments and defaults, or None where there are too few or too many."""
        plain.reverse()
        for param in self.params:
            if isinstance(param, Option):
                given.setdefault(param.name, param.start())
            elif param.many:
                given[param.name] = tuple(reversed(plain))
                if param.required and not plain:
                    return None
                plain = []
            elif plain or not param.required:
                given[param.name] = plain.pop() if plain else param.default
            else:
                return None
        return None if plain else given

    def as_click(self) -> click.Command:
        """The same for click."""
        import inspect

        import click

        params: list[click.Parameter] = [param.as_click() for param in self.params]
        help_text = inspect.getdoc(self.function)
        return click.Command(self.name, params=params, callback=self.run, help=help_text)
