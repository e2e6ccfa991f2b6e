"""``vidfeat merge``: the feature files of shards into one."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath
from vidfeat.system.wording import counted


@click.command(
    "merge",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat merge shard-*.h5 -o features.h5",
)
@click.argument(
    "parts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PART..."
)
@click.option("-o", "--output", required=True, type=OutputPath(), help="The merged feature file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--allow-missing", is_flag=True, help="Merge even if shards are missing.")
def command(parts: tuple[Path, ...], output: Path, overwrite: bool, allow_missing: bool) -> None:
    """Merge the feature files of all shards of one run (extract --shard K/N)."""
    from vidfeat.store.merge import merge_stores

    report = merge_stores(parts, output, overwrite=overwrite, allow_missing=allow_missing)
    click.echo(
        f"{output}: {counted(report.videos, 'video')}, {counted(report.clips, 'clip')} and "
        f"{counted(report.failures, 'error')} of {counted(len(parts), 'shard')}"
    )
