"""``vidfeat plot``: a training run's curves, or a feature file's map, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath


@click.command(
    "plot", context_settings=HELP_NAMES, epilog="Example: vidfeat plot features.h5 -o map.png"
)
@click.argument("source", metavar="RUN|FEATURES", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    help="png, svg or pdf.  [default: RUN/curves.png, or FEATURES with .png]",
)
@click.option(
    "--labels",
    metavar="FILE|folders",
    help="Colour a map by a CSV (path,label).  [default: the folder of each video]",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors with NaN or infinity.")
def command(source: Path, output: Path | None, labels: str | None, skip_bad_rows: bool) -> None:
    """Plot the curves of a training run, or the map of a feature file's clips."""
    if source.is_dir():
        from vidfeat.training.curves import save_curves

        if labels is not None or skip_bad_rows:
            given = "--skip-bad-rows" if labels is None else "--labels"
            raise click.UsageError(f"{given} goes with a feature file, not with a training run")
        target = source / "curves.png" if output is None else output
        save_curves(source, target)
    else:
        from vidfeat.evaluation.feature_map import save_map

        target = source.with_suffix(".png") if output is None else output
        save_map(source, target, labels, skip_bad_rows=skip_bad_rows)
    click.echo(str(target))
