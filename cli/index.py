"""``vidfeat index``: build an index of features for search, add to it, remove from it."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import OutputPath
from vidfeat.system.wording import counted


@click.command(
    "index",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidfeat index features.h5 -o INDEX;  vidfeat index -o INDEX --add new.h5 "
    "--remove old/clip.mp4",
)
@click.argument("features", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output",
    required=True,
    type=OutputPath(),
    metavar="INDEX",
    help="Folder for the index.",
)
@click.option(
    "--kind",
    default="auto",
    show_default=True,
    metavar="auto|flat|hnsw|ivfsq|ivfpq|opq",
    help="Kind of FAISS index; auto chooses by size and memory.",
)
@click.option(
    "--max-memory",
    metavar="SIZE",
    help="Memory limit of the index, such as 4GB.  [default: half of the free memory]",
)
@click.option("--center", is_flag=True, help="Subtract the mean of the features from all vectors.")
@click.option(
    "--whiten",
    is_flag=True,
    help="Also whiten the vectors: helps lightly trained networks to find the same scene again.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors that cannot be compared.")
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
@click.option(
    "--add",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FEATURES",
    help="Add the videos of a feature file to the index, or replace them; may be repeated.",
)
@click.option(
    "--remove",
    multiple=True,
    metavar="VIDEO",
    help="Remove a video, a folder (ending in /) or a pattern (with *); may be repeated.",
)
@click.option(
    "--rebuild", is_flag=True, help="With --add or --remove: rebuild the index in any case."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def command(
    features: Path | None,
    output: Path,
    kind: str,
    max_memory: str | None,
    center: bool,
    whiten: bool,
    skip_bad_rows: bool,
    overwrite: bool,
    add: tuple[Path, ...],
    remove: tuple[str, ...],
    rebuild: bool,
    quiet: bool,
) -> None:
    """Build the search index of a feature file, or change an existing one."""

    def report(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    if features is None:
        if not add and not remove and not rebuild:
            raise click.UsageError("give a feature file to index, or --add or --remove")
        _change(output, add, remove, rebuild, skip_bad_rows, report)
        return
    if add or remove or rebuild:
        raise click.UsageError(
            "--add, --remove and --rebuild change an existing index: leave FEATURES out"
        )
    from vidfeat.index import VideoIndex

    index = VideoIndex.build(
        features,
        output,
        kind=kind,
        max_memory=max_memory,
        center=center,
        whiten=whiten,
        skip_bad_rows=skip_bad_rows,
        overwrite=overwrite,
        report=report,
    )
    videos, clips = counted(index.head.num_videos, "video"), counted(len(index), "clip")
    report(f"{output}: {videos}, {clips}, {index.head.kind}")


def _change(
    output: Path,
    add: tuple[Path, ...],
    remove: tuple[str, ...],
    rebuild: bool,
    skip_bad_rows: bool,
    report: object,
) -> None:
    import warnings

    from vidfeat.index import change_index

    assert callable(report)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        change = change_index(
            output,
            add=add,
            remove=remove,
            rebuild=rebuild,
            skip_bad_rows=skip_bad_rows,
            report=report,
        )
    for warning in caught:
        report(f"warning: {warning.message}")
    for line in change.skipped:
        report(f"left out: {line}")
    report(
        f"{output}: {len(change.added)} added, {len(change.updated)} updated, "
        f"{len(change.unchanged)} unchanged, {len(change.removed)} removed"
        f"{', rebuilt' if change.rebuilt else ''}"
    )
