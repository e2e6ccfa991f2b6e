"""``vidfeat export-features``: features as npy files or as a parquet table."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath


@click.command(
    "export-features",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat export-features features.h5 --npy-per-video npy/",
)
@click.argument("features", type=click.Path(path_type=Path))
@click.option(
    "--npy-per-video",
    "folder",
    type=OutputPath(),
    metavar="DIR",
    help="A file (clips, dimensions) a video, and index.csv with the seconds.",
)
@click.option(
    "--parquet",
    "table",
    type=OutputPath(),
    metavar="FILE",
    help="One table: path, start_seconds, end_seconds, vector.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def command(features: Path, folder: Path | None, table: Path | None, overwrite: bool) -> None:
    """Write FEATURES for tools that read numpy or parquet."""
    if folder is None and table is None:
        raise click.UsageError("give --npy-per-video DIR, --parquet FILE, or both")
    from vidfeat.store.export import export_npy, export_parquet

    if folder is not None:
        videos = export_npy(features, folder, overwrite=overwrite)
        click.echo(f"{folder}: {videos:,} npy files, index.csv and index.json")
    if table is not None:
        clips = export_parquet(features, table, overwrite=overwrite)
        click.echo(f"{table}: {clips:,} rows")
