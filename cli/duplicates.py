"""``vidfeat duplicates``: copies within an index."""

from __future__ import annotations

from pathlib import Path

import click

_SHOWN = 5


@click.command(
    "duplicates",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat duplicates INDEX --threshold 0.98 --json",
)
@click.argument("index", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    default=0.95,
    show_default=True,
    help="Minimum cosine similarity to count as a copy.",
)
@click.option(
    "--min-share",
    type=float,
    metavar="SHARE",
    help="Minimum share of the shorter video, 0 to 1.  [default: any moving segment; a still one "
    "only from 0.5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print pairs and groups as JSON.")
def command(index: Path, threshold: float, min_share: float | None, as_json: bool) -> None:
    """List pairs and groups of near copies, with the seconds that they share."""
    from vidfeat.index import VideoIndex
    from vidfeat.index.duplicates import find_duplicates
    from vidfeat.system.wording import counted, one_line

    found = find_duplicates(
        VideoIndex(index),
        threshold,
        min_share=min_share,
        report=lambda line: click.echo(line, err=True),
    )
    if found.num_left_out:
        what = "a still segment (black, a title card)" if min_share is None else "too little"
        click.echo(
            f"note: left out {counted(found.num_left_out, 'pair')} of videos "
            f"that share only {what}; --min-share 0 lists them",
            err=True,
        )
    if as_json:
        import json

        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from vidfeat.index.report import clock

    if not found.pairs:
        click.echo(f"no two videos share a segment with a cosine of {threshold:g} or more")
        return
    for pair in found.pairs:
        click.echo(f"{pair.score:.3f}  {'  '.join(map(one_line, pair.videos))}")
        for segment in pair.segments[:_SHOWN]:
            one, two = segment.first, segment.second
            click.echo(
                f"         {clock(one[0])} to {clock(one[1])}  =  {clock(two[0])} to "
                f"{clock(two[1])}   {segment.score:.3f}"
            )
        more = len(pair.segments) - _SHOWN
        if more > 0:
            click.echo(f"         and {counted(more, 'more segment')} (--json lists all)")
    if found.num_cut:
        click.echo(
            f"warning: {counted(found.num_cut, 'clip has', 'clips have')} more near neighbours "
            "than can be listed: pairs are missing, and groups may be split; give a --threshold "
            "nearer to 1",
            err=True,
        )
    pairs, groups = counted(len(found.pairs), "pair"), counted(len(found.groups), "group")
    click.echo(f"\n{pairs}, {groups}:")
    for group in found.groups:
        click.echo(f"{len(group):>4}  {'  '.join(map(one_line, group))}")
