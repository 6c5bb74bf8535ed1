"""`aiopipe bag create` and `aiopipe bag validate`: BagIt, RFC 8493."""

from __future__ import annotations

import os

import click

from aiopipe.cli import sums_options as shared
from aiopipe.cli.declared import Argument, Command, Option
from aiopipe.errors import EXIT_DONE, EXIT_FAILED, UsageError


@click.group("bag")
def bag() -> None:
    """Make a bag of a directory (RFC 8493, BagIt 1.0), or validate one."""


def _create(
    directory: str,
    algorithms: tuple[str, ...],
    info: tuple[str, ...],
    lanes: shared.Lanes,
) -> int:
    """Turn DIRECTORY into a bag, where it is: what is in it moves to DIRECTORY/data.

    Every name is checked and every file hashed before anything moves. Run it again after a crash.

    \b
    aiopipe bag create --info 'Source-Organization=The Museum' letters
    """
    from aiopipe.sums.bag import create as make

    facts: dict[str, str] = {}
    for each in info:
        key, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"--info {each!r} has no =", hint="write --info Key=value")
        facts[key] = value
    options, bar = lanes.hashing(shared.algorithm_names(algorithms, ("sha512",))), lanes.bar()
    with shared.terminable():
        try:
            files, size = make(os.fsencode(directory), options, facts, tick=bar.tick)
        finally:
            bar.clear()
    shared.say(f"aiopipe: {directory}: a bag of {shared.plural(files, 'file')}, {shared.human(size)}")
    return EXIT_DONE


def _validate(directories: tuple[str, ...], fast: bool, lanes: shared.Lanes) -> int:
    """Say everything that is wrong with the bags in DIRECTORIES. Exits 0 when nothing is, else 1.

    \b
    aiopipe bag validate letters
    """
    from aiopipe.sums.bagcheck import BagCheck

    options = lanes.hashing()
    good = True
    with shared.terminable():
        for directory in directories:
            bar = lanes.bar()
            check = BagCheck(os.fsencode(directory), options, fast, bar.tick)
            problems = 0
            try:
                for problem in check:
                    problems += 1
                    bar.clear()
                    click.echo(f"{directory}: {problem}")
            finally:
                bar.clear()
            good &= not problems
            state = shared.plural(problems, "problem") if problems else "complete" if fast else "valid"
            seen = f"{shared.plural(check.files, 'file')}, {shared.human(check.size)}"
            shared.say(f"aiopipe: {directory}: {state}; {seen}")
    return EXIT_DONE if good else EXIT_FAILED


_COMMANDS = (
    Command(
        "create",
        _create,
        [
            Argument("directory"),
            shared.algorithms("A manifest for each. [default: sha512]"),
            Option("--info", many=True, metavar="KEY=VALUE", help="A line of bag-info.txt; may be repeated."),
        ],
        {"lanes": shared.LANES},
    ),
    Command(
        "validate",
        _validate,
        [
            Argument("directories", many=True),
            Option("--fast", flag=True, help="Read no payload: only what should be there, how many files and bytes."),
        ],
        {"lanes": shared.LANES},
    ),
)
for command in _COMMANDS:
    bag.add_command(command.as_click())
