"""`aiopipe stages`: the reference, made from what the stages declare."""

from __future__ import annotations

import click

from aiopipe.cli.completion import complete_words
from aiopipe.cli.job import import_modules
from aiopipe.errors import UsageError

__all__ = ["stages"]


@click.command(context_settings={"max_content_width": 80})
@click.option("--markdown", is_flag=True, help="as Markdown, for documentation")
@click.option("imports", "--import", multiple=True, metavar="MODULE", help="import MODULE first, for its @stage stages")
@click.argument("name", required=False, metavar="[STAGE]", shell_complete=complete_words)
def stages(name: str | None, markdown: bool, imports: tuple[str, ...]) -> int:
    """List the stages, or show STAGE: what it does, its options, and it in the three doors."""
    from aiopipe.cli.reference import list_text, markdown_list, markdown_stage, stage_text
    from aiopipe.stages import find_stage, words

    import_modules(imports)
    if name is not None:
        stage = find_stage(name)
        click.echo(markdown_stage(stage) if markdown else stage_text(stage))
        return 0
    classes, broken = [], []
    for word in words():
        try:
            classes.append(find_stage(word))
        except UsageError:
            broken.append(word)
    if not markdown:
        click.echo(list_text(classes, broken))
        return 0
    click.echo("\n\n".join([markdown_list(classes), *map(markdown_stage, classes)]))
    return 0
