"""``vidfeat search``: segments of videos that are like a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfeat.cli.options import OutputPath
from vidfeat.system.wording import one_line

if TYPE_CHECKING:
    from vidfeat.index import Match, Query


@click.command(
    "search",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Example: vidfeat search INDEX --text "a man jumps over a fence" -k 5',
)
@click.argument("index", metavar="INDEX|ADDRESS")
@click.argument("query", nargs=-1)
@click.option("--text", multiple=True, metavar="PHRASE", help="Search by text; may be repeated.")
@click.option(
    "--together", is_flag=True, help="Combine all queries and phrases into a single query."
)
@click.option(
    "--not",
    "unlike",
    multiple=True,
    metavar="QUERY",
    help="Negative example: results should differ from it; may be repeated.",
)
@click.option(
    "--not-text", multiple=True, metavar="PHRASE", help="Negative phrase; may be repeated."
)
@click.option(
    "--negative-weight",
    type=float,
    default=0.5,
    show_default=True,
    help="Weight of negative examples relative to positive ones.",
)
@click.option("-k", "k", default=10, show_default=True, help="Number of results per query.")
@click.option("--start", type=float, help="Start of the query segment, in seconds.")
@click.option("--end", type=float, help="End of the query segment, in seconds.")
@click.option("--clips", is_flag=True, help="List clips instead of videos.")
@click.option(
    "--per-video", default=1, show_default=True, help="Maximum number of segments per video."
)
@click.option("--exclude-self", is_flag=True, help="Leave out the query's own videos.")
@click.option("--exact", is_flag=True, help="Compare with every vector, without the index.")
@click.option(
    "--normalize-scores", is_flag=True, help="Subtract each query clip's mean score on a sample."
)
@click.option(
    "--rank-by",
    type=click.Choice(["mean", "best"]),
    default="mean",
    show_default=True,
    help="Rank videos by the mean over the query's clips, or by the best clip.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="VIDEO|FOLDER/|PATTERN",
    help="Search only these videos; may be repeated.",
)
@click.option(
    "--only-label",
    "only_labels",
    multiple=True,
    metavar="LABEL",
    help="Search only videos with this label; may be repeated.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Labels for --only-label.  [default: those stored with the index]",
)
@click.option(
    "--between-seconds",
    type=(float, float),
    metavar="FROM UNTIL",
    help="Find only segments between these seconds of a video.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
@click.option(
    "--html",
    "page",
    type=OutputPath(dir_okay=False),
    help="Write an HTML page with pictures.",
)
@click.option("--root", type=click.Path(), help="Where the videos are: a folder or URL.")
@click.option("--weights", metavar="NAME|FILE", help="Where the encoder's weights are.")
@click.option("--model", metavar="FILE.py:FUNCTION", help="Your own network, if it made the index.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1.")
def command(
    index: str,
    query: tuple[str, ...],
    text: tuple[str, ...],
    together: bool,
    unlike: tuple[str, ...],
    not_text: tuple[str, ...],
    negative_weight: float,
    k: int,
    start: float | None,
    end: float | None,
    clips: bool,
    per_video: int,
    exclude_self: bool,
    exact: bool,
    normalize_scores: bool,
    rank_by: str,
    only: tuple[str, ...],
    only_labels: tuple[str, ...],
    labels: Path | None,
    between_seconds: tuple[float, float] | None,
    as_json: bool,
    page: Path | None,
    root: str | None,
    weights: str | None,
    model: str | None,
    device: str,
) -> None:
    """Find videos like QUERY, and the matching segments.

    QUERY is the path of a video in the index, a video file, or a feature file; video.mp4#t=12,15
    takes these seconds of it. Each QUERY and each phrase is a separate query, unless --together
    combines them. INDEX may also be the address of a database that vidfeat push filled:
    lance://PATH, milvus://HOST:PORT/COLLECTION or milvus://FILE.db.
    """
    import warnings

    from vidfeat.index.databases import open_index
    from vidfeat.index.query import QuerySource, make_queries

    if not query and not text:
        raise click.UsageError("give a QUERY, or describe what to look for with --text")
    opened = open_index(index)
    known = None
    if labels is not None:
        from vidfeat.datasets.labels import read_labels

        known = {row.path: row.label for row in read_labels(labels).rows}
    allowed = opened.allowed(only, only_labels, known)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        source = QuerySource(opened, root=root, weights=weights, device=device, model=model)
        # Phrases first: if the index has no text tower, nothing is decoded in vain.
        phrases = [source.of_text(phrase) for phrase in text]
        negative = [source.of_text(phrase) for phrase in not_text]
        queries = [*make_queries(source, query, start, end), *phrases]
        negative = [*make_queries(source, unlike), *negative]
        queries = opened.combined(queries, negative, together=together, weight=negative_weight)
    for warning in caught:
        if warning.category is UserWarning:
            click.echo(f"warning: {warning.message}", err=True)
    matches = opened.search(
        queries,
        k,
        clips=clips,
        per_video=per_video,
        exact=exact,
        normalize_scores=normalize_scores,
        rank_by=rank_by,
        exclude_self=exclude_self,
        allowed=allowed,
        between_seconds=between_seconds,
    )
    if page is not None:
        from vidfeat.index.report import write_search_report

        missing = write_search_report(page, opened, queries, matches, root)
        if missing:
            click.echo(
                f"warning: {missing} of {len(matches)} pictures could not be made; give the folder "
                "of the videos with --root",
                err=True,
            )
    if as_json:
        _print_json(matches, queries)
    else:
        _print_table(matches, queries)
    if page is not None:
        click.echo(f"written to {page}", err=True)


def _print_json(matches: list[Match], queries: list[Query]) -> None:
    import json

    rows = [match.to_dict() for match in matches]
    if len(queries) > 1:
        for row, match in zip(rows, matches, strict=True):
            row["query"] = queries[match.query].name
    click.echo(json.dumps(rows, indent=2))


def _print_table(matches: list[Match], queries: list[Query]) -> None:
    if not matches:
        click.echo("nothing found", err=True)
        return
    for number, query in enumerate(queries):
        if len(queries) > 1:
            click.echo(f"{'' if number == 0 else chr(10)}{one_line(query.name)}")
        _print_answers([match for match in matches if match.query == number])


def _print_answers(matches: list[Match]) -> None:
    from vidfeat.index.report import clock

    click.echo(f"  #   score  {'from':>9} {'to':>9}  video")
    for rank, match in enumerate(matches, start=1):
        click.echo(
            f"{rank:>3}  {match.score:>6.3f}  {clock(match.start_seconds):>9} "
            f"{clock(match.end_seconds):>9}  {one_line(match.video)}"
        )
