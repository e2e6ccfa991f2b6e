"""``vidfeat plot``: the curves of a training run as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath


@click.command(
    "plot", context_settings=HELP_NAMES, epilog="Example: vidfeat plot run/ -o curves.png"
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=OutputPath(), help="png, svg or pdf.  [default: RUN/curves.png]"
)
def command(run: Path, output: Path | None) -> None:
    """Draw loss, accuracy and learning rate of a run, finished or not."""
    from vidfeat.train.curves import save_curves

    target = run / "curves.png" if output is None else output
    save_curves(run, target)
    click.echo(str(target))
