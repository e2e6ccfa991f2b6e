"""``vidfeat export-features``: features as arrays, as parquet, or in another tool's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath, layout_names

if TYPE_CHECKING:
    from vidfeat.store.pca import PCA


@click.command(
    "export-features",
    context_settings=HELP_NAMES,
    epilog="Examples: vidfeat export-features features.h5 --npy-per-video npy/;  "
    "vidfeat export-features features.h5 --layout actionformer -o feats/",
)
@click.argument("features", type=click.Path(path_type=Path))
@click.option(
    "--npy-per-video",
    "folder",
    type=OutputPath(),
    metavar="DIR",
    help="One file (clips, dimensions) per video, and index.csv with the seconds.",
)
@click.option(
    "--parquet",
    "table",
    type=OutputPath(),
    metavar="FILE",
    help="One table: clip_id, path, start_seconds, end_seconds, vector.",
)
@click.option(
    "--rows-per-file",
    type=int,
    metavar="N",
    help="With --parquet: write a folder of files with N rows each.",
)
@click.option(
    "--layout",
    type=click.Choice(layout_names()),
    help="Write arrays to --output in the layout that a published tool reads.",
)
@click.option("-o", "--output", type=OutputPath(), metavar="DIR", help="Folder for --layout.")
@click.option("--keep-extensions", is_flag=True, help="Name files a.mp4.npy, not a.npy.")
@click.option(
    "--keep-folders/--no-keep-folders",
    default=None,
    help="With --layout: name files class/a.npy, or a.npy.  [default: as the tool looks them up]",
)
@click.option(
    "--feature-name", metavar="NAME", help="With --layout soccernet: NAME of the files 1_NAME.npy."
)
@click.option(
    "--pca",
    type=(click.Choice(["fit", "apply"]), click.Path(path_type=Path)),
    metavar="fit|apply FILE",
    help="Project rows onto principal components: fit them on these rows and write them to FILE, "
    "or read them from it.",
)
@click.option(
    "--pca-dimensions",
    type=int,
    metavar="K",
    help="With --pca fit: number of components.  [default: 512, or all if fewer]",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def command(
    features: Path,
    folder: Path | None,
    table: Path | None,
    rows_per_file: int | None,
    layout: str | None,
    output: Path | None,
    keep_extensions: bool,
    keep_folders: bool | None,
    feature_name: str | None,
    pca: tuple[str, Path] | None,
    pca_dimensions: int | None,
    overwrite: bool,
) -> None:
    """Write FEATURES for other tools: numpy, parquet, or the layout that a tool reads."""
    if folder is None and table is None and layout is None:
        raise click.UsageError(
            "give --npy-per-video DIR, --parquet FILE or --layout NAME -o DIR; several may be given"
        )
    if (layout is None) != (output is None):
        raise click.UsageError("--layout NAME and -o DIR go together")
    if rows_per_file is not None and table is None:
        raise click.UsageError("--rows-per-file goes with --parquet")
    if layout is None and (keep_folders is not None or feature_name is not None):
        raise click.UsageError("--keep-folders and --feature-name go with --layout")
    projection = _pca(features, pca, pca_dimensions)
    if folder is not None:
        from vidfeat.store.export import export_npy

        videos = export_npy(
            features, folder, keep_extensions=keep_extensions, pca=projection, overwrite=overwrite
        )
        click.echo(f"{folder}: {videos:,} npy files, index.csv and index.json")
    if table is not None:
        from vidfeat.store.parquet import export_parquet

        clips = export_parquet(
            features, table, rows_per_file=rows_per_file, pca=projection, overwrite=overwrite
        )
        click.echo(f"{table}: {clips:,} rows")
    if layout is not None and output is not None:
        from vidfeat.store.layout_export import LayoutOptions, export_layout

        report = export_layout(
            features,
            output,
            layout,
            LayoutOptions(keep_extensions, keep_folders, feature_name),
            pca=projection,
            overwrite=overwrite,
        )
        for line in report.warnings:
            click.echo(f"warning: {line}", err=True)
        click.echo(f"{output}: {report.videos:,} videos, {report.rows:,} rows, for {layout}")


def _pca(features: Path, asked: tuple[str, Path] | None, dimensions: int | None) -> PCA | None:
    """The requested projection: fitted and written, or read."""
    if asked is None or asked[0] == "apply":
        if dimensions is not None:
            raise click.UsageError("--pca-dimensions goes with --pca fit FILE")
        if asked is None:
            return None
        from vidfeat.store.pca import load_pca

        return load_pca(asked[1])
    from vidfeat.store.pca import fit_pca
    from vidfeat.store.reader import FeatureStore

    with FeatureStore(features) as store:
        found = fit_pca(store, dimensions or min(512, store.dimension))
    found.save(asked[1])
    click.echo(
        f"{asked[1]}: {found.dimension} components, {found.share:.1%} of the variance", err=True
    )
    return found
