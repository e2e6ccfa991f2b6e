"""``vidfeat info``: what is in a file, in words or as JSON."""

from __future__ import annotations

from typing import Any

import click

from vidfeat.cli.options import HELP_NAMES


@click.command(
    "info",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat info features.h5 --json",
)
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--verify", is_flag=True, help="Index only: check its files against their hashes.")
@click.option("--stream", type=int, metavar="N", help="Video only: which video stream, from 0.")
def command(path: str, as_json: bool, verify: bool, stream: int | None) -> None:
    """Show what is in PATH: a video, a feature file, weights, a head, an index, a training run.

    PATH may be the address of a database that vidfeat push filled.

    PATH may be the word bundled: the card of the network that comes with vidfeat.
    """
    from vidfeat.cli.describe import describe, in_words

    described: dict[str, Any] = describe(path, verify=verify, stream=stream)
    if as_json:
        import json

        click.echo(json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False))
        return
    for line in in_words(described):
        click.echo(line)
