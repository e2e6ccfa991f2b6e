"""``vidfeat duplicates``: copies within an index."""

from __future__ import annotations

from pathlib import Path

import click


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
    help="Least cosine of two clips that are called copies.",
)
@click.option("--json", "as_json", is_flag=True, help="Pairs and groups, for programs.")
def command(index: Path, threshold: float, as_json: bool) -> None:
    """List pairs and groups of near copies, with the seconds that they share."""
    from vidfeat.index import VideoIndex
    from vidfeat.index.duplicates import find_duplicates

    found = find_duplicates(
        VideoIndex(index), threshold, report=lambda line: click.echo(line, err=True)
    )
    if as_json:
        import json

        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from vidfeat.index.report import clock

    if not found.pairs:
        click.echo(f"no two videos have clips with a cosine of {threshold:g} or more")
        return
    for pair in found.pairs:
        click.echo(f"{pair.score:.3f}  {pair.videos[0]}  {pair.videos[1]}")
        for stretch in pair.stretches[:5]:
            one, two = stretch.first, stretch.second
            click.echo(
                f"         {clock(one[0])} to {clock(one[1])}  =  {clock(two[0])} to "
                f"{clock(two[1])}   {stretch.score:.3f}"
            )
        if len(pair.stretches) > 5:
            click.echo(f"         and {len(pair.stretches) - 5} more stretches (--json lists all)")
    if found.num_cut:
        click.echo(
            f"warning: {found.num_cut} clips have more near neighbours than can be listed: pairs "
            "are missing, and groups may fall apart; give a --threshold nearer to 1",
            err=True,
        )
    click.echo(f"\n{len(found.pairs)} pairs, {len(found.groups)} groups:")
    for group in found.groups:
        click.echo(f"{len(group):>4}  {'  '.join(group)}")
