"""``vidfeat join``: the features of several networks side by side."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath


@click.command(
    "join",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat join slowfast.h5 clip.h5 -o joined.h5",
)
@click.argument(
    "features", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FEATURES..."
)
@click.option("-o", "--output", required=True, type=OutputPath(), help="The joined feature file.")
@click.option(
    "--scale",
    type=click.Choice(["unit", "none"]),
    default="unit",
    show_default=True,
    help="Divide each network's part of a row by its length, or keep the numbers.",
)
@click.option(
    "--match",
    type=click.Choice(["span", "start", "centre"]),
    default="span",
    show_default=True,
    help="Match rows that cover the same seconds, start together, or share a centre.",
)
@click.option(
    "--tolerance-seconds",
    type=float,
    help="Largest allowed difference of these seconds.  [default: one frame]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def command(
    features: tuple[Path, ...],
    output: Path,
    scale: str,
    match: str,
    tolerance_seconds: float | None,
    overwrite: bool,
) -> None:
    """Join the FEATURES of several networks: rows of the same video and seconds, side by side.

    The output is a feature file like any other, with as many numbers per row as all inputs
    together.
    """
    from vidfeat.store.join import join_stores

    report = join_stores(
        features,
        output,
        scale=scale,
        match=match,
        tolerance_seconds=tolerance_seconds,
        overwrite=overwrite,
    )
    for line in report.warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo(
        f"{output}: {report.videos:,} videos, {report.clips:,} clips of {report.dimension:,} "
        "dimensions"
    )
