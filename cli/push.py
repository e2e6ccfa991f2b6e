"""``vidfeat push``: features into a vector database, for collections beyond one machine."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES


@click.command(
    "push",
    context_settings=HELP_NAMES,
    epilog="Examples: vidfeat push features.h5 lance://vectors;  vidfeat push features.h5 "
    "milvus://host:19530/clips;  vidfeat push lance://vectors --remove old/",
)
@click.argument("given", nargs=-1, required=True, metavar="[FEATURES] ADDRESS")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Labels to store with the clips, for filters.",
)
@click.option(
    "--remove",
    multiple=True,
    metavar="VIDEO",
    help="Remove a video, a folder (ending in /) or a pattern (with *); may be repeated.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors that cannot be compared.")
@click.option("--overwrite", is_flag=True, help="Start again, even if there is data.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def command(
    given: tuple[str, ...],
    labels: Path | None,
    remove: tuple[str, ...],
    skip_bad_rows: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Bring the database at ADDRESS to the state of FEATURES, video by video.

    ADDRESS is lance://PATH (LanceDB: a folder, or s3://... after lance://),
    milvus://HOST:PORT/COLLECTION, or milvus://FILE.db (milvus-lite). New videos are added, changed
    ones replaced, others left as they are; search and serve take the same address.
    """
    if len(given) > 2 or (len(given) == 1 and not remove):
        raise click.UsageError("give a feature file and an address, or --remove and an address")
    from vidfeat.index.databases.push import push

    features, address = (Path(given[0]) if len(given) == 2 else None), given[-1]

    def report(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    known = None
    if labels is not None:
        from vidfeat.datasets.labels import read_labels

        known = {row.path: row.label for row in read_labels(labels).rows}
    change = push(
        features,
        address,
        remove=remove,
        labels=known,
        overwrite=overwrite,
        skip_bad_rows=skip_bad_rows,
        report=report,
    )
    for line in change.skipped:
        report(f"left out: {line}")
    report(
        f"{address}: {len(change.added)} added, {len(change.updated)} updated, "
        f"{len(change.unchanged)} unchanged, {len(change.removed)} removed"
    )
