"""``vidfeat demo``: the tour, from a folder of videos to answers, with the real commands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES
from vidfeat.system.children import child_environment, python_module

# The network that comes with vidfeat: no download, and fast.
_NETWORK = ["--model", "bundled"]


@click.command("demo", context_settings=HELP_NAMES, epilog="Example: vidfeat demo demo/")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="demo")
def command(folder: Path) -> int:
    """Render a few videos into FOLDER and run the whole tour on them."""
    from vidfeat.datasets.demo import NUM_VIDEOS, render_demo

    videos, features = folder / "videos", folder / "features.h5"
    title = f"Rendering videos of moving figures into {videos}"
    with click.progressbar(length=NUM_VIDEOS, label=title) as bar:
        made = render_demo(videos, progress=lambda: bar.update(1))
    click.echo(f"{len(made)} videos: 5 actions, and 3 longer videos of several actions\n")
    query = videos / "fall" / "fall-1.mp4"
    steps: list[tuple[str, list[str]]] = [
        (
            "Every clip of every video becomes a vector:",
            ["extract", str(videos), "-o", str(features), *_NETWORK],
        ),
        ("What is in the file:", ["info", str(features)]),
        (
            "A classifier on the vectors, with a report:",
            [
                *("finetune", str(features), "--labels", str(videos / "labels.csv")),
                *("--head", "linear", "-o", str(folder / "head"), "--overwrite"),
            ],
        ),
        (
            "It labels a video over time:",
            [
                *("classify", str(videos / "long" / "long-1.mp4"), "--head", str(folder / "head")),
                *("--every-seconds", "2", "--plot", str(folder / "timeline.png")),
            ],
        ),
        ("An index for search:", ["index", str(features), "-o", str(folder / "index")]),
        (
            "Show me videos like this one:",
            [
                *("search", str(folder / "index"), str(query), "-k", "5"),
                *("--html", str(folder / "search.html")),
            ],
        ),
        (
            "A map of all clips:",
            [
                *("plot", str(features), "--labels", str(videos / "labels.csv")),
                *("-o", str(folder / "map.png")),
            ],
        ),
    ]
    for title, arguments in steps:
        click.secho(title, bold=True)
        click.echo(f"$ vidfeat {shlex.join(arguments)}")
        status = _run(arguments)
        click.echo()
        if status != 0:
            raise click.ClickException(f"this step ended with status {status}")
    click.secho("Open these:", bold=True)
    for name, shows in (
        ("head/report.html", "how good the classifier is, and where it fails"),
        ("timeline.png", "what happens when, in a longer video"),
        ("search.html", "the videos that were found, with pictures"),
        ("map.png", "every clip, near similar ones"),
    ):
        click.echo(f"  {folder / name!s:28s} {shows}")
    click.echo(f"  or the search page: vidfeat serve {shlex.quote(str(folder / 'index'))}")
    click.echo("      (needs the web extra: pip install 'vidfeat[web]')")
    return 0


def _run(arguments: list[str]) -> int:
    """One command in a process of its own, as a user runs it."""
    sys.stdout.flush()
    return subprocess.run(
        [*python_module("vidfeat"), *arguments], env=child_environment(), check=False
    ).returncode
