"""Write the parts of the documentation that come from the stages' declarations; `make docs` calls it.

It fills README.md between its two markers and writes docs/stages.md. A test fails while either is out of date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from aiopipe.options import Option, options_of
from aiopipe.stage import Sink, Source, Stage
from aiopipe.stages import TABLE, find_stage

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- stages: written by `make docs` -->"
END = "<!-- end of stages -->"


def main() -> None:
    """Write both files."""
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "stages.md").write_text(reference(), encoding="utf-8")


def with_table(readme: str) -> str:
    """The README with the stage table as the declarations have it now."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def table() -> str:
    """One line a stage: word, class, kind, first sentence."""
    lines = ["| in the shell and in files | in Python | what it does |", "|---|---|---|"]
    for word in TABLE:
        stage = find_stage(word)
        link = f"[`{word}`](docs/stages.md#{word})"
        lines.append(f"| {link} | `{stage.__name__}` | {kind(stage)}: {sentence(stage)} |")
    return "\n".join(lines) + "\n"


def kind(stage: type[Stage]) -> str:
    """Where a stage stands in a pipeline."""
    return "source" if issubclass(stage, Source) else "sink" if issubclass(stage, Sink) else "transform"


def sentence(stage: type[Stage]) -> str:
    """The first sentence of a stage's help."""
    first = inspect.getdoc(stage) or ""
    return re.split(r"(?<=\.)\s", first.split("\n\n")[0].replace("\n", " "))[0]


def reference() -> str:
    """docs/stages.md: every stage with its help, options and example."""
    parts = [
        "# The stages\n\nWritten by `make docs` from the stages' own declarations; `aiopipe stages NAME` and\n"
        "`aiopipe pipe NAME --help` say the same. Every example here runs in the tests.\n"
    ]
    parts += [entry(word, find_stage(word)) for word in TABLE]
    return "\n".join(parts)


def entry(word: str, stage: type[Stage]) -> str:
    """One stage."""
    words = (inspect.getdoc(stage) or "").replace("*", "\\*")  # a glob is no emphasis
    text = f"## {word}\n\n`{stage.__name__}` in Python; a {kind(stage)}.\n\n{words}\n"
    options = options_of(stage)
    if options:
        text += "\n| shell | Python and file | what it is |\n|---|---|---|\n"
        text += "".join(row(o) for o in options)
    return text + (f"\n```sh\n{stage.example}\n```\n" if stage.example else "")


def row(option: Option) -> str:
    """One line of the table of options."""
    metavar = (option.metavar or option.key.upper()).replace("|", "\\|")
    if option.argument:
        shell = metavar + (" ..." if option.positional == "many" else "")
    else:
        short = f"-{option.short}, " if option.short else ""
        shell = short + option.flag + ("" if option.kind == "flag" else f" {'|'.join(option.choices) or metavar}")
    shell = shell.replace("|", "\\|")
    words = option.help.replace("|", "\\|")
    return f"| `{shell}` | `{option.key}`{', required' if option.required else ''} | {words} |\n"


if __name__ == "__main__":
    main()
