"""``vidfeat weights``: the published weights, their download, and the conversion of other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfeat.cli.options import OutputPath
from vidfeat.system.wording import counted

if TYPE_CHECKING:
    from vidfeat.pretrained import WeightsEntry

_HELP = {"help_option_names": ["-h", "--help"]}


@click.group("weights", context_settings=_HELP)
def command() -> None:
    """List, download and convert trained weights."""


@command.command("list", epilog="Example: vidfeat weights list --model r2plus1d_34")
@click.option("--model", metavar="NAME", help="Only the weights of this network.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
def list_command(model: str | None, as_json: bool) -> None:
    """Show names, sizes, accuracies, licences, and what is already cached."""
    from vidfeat.pretrained import ENTRIES, entries_of

    if model is not None:
        from vidfeat.models import check_name

        check_name(model)
    entries = ENTRIES if model is None else entries_of(model)
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
    else:
        _print_table(entries)


def _as_json(entry: WeightsEntry) -> dict[str, object]:
    from vidfeat.system.download import find_cached

    cached = find_cached(entry.filename)
    accuracy = entry.accuracy
    return {
        "name": entry.name,
        "model": entry.model,
        "url": entry.url,
        "sha256": entry.sha256,
        "megabytes": entry.megabytes,
        "trained_on": entry.trained_on,
        "classes": entry.num_classes,
        "channels": entry.in_channels,
        "plan": entry.plan.space_dict(),
        "preprocess": None if entry.preprocess is None else entry.preprocess.to_dict(),
        "top1": None if accuracy is None else accuracy.top1,
        "top5": None if accuracy is None else accuracy.top5,
        "protocol": None if accuracy is None else accuracy.protocol,
        "licence": entry.licence,
        "source": entry.source,
        "cached": None if cached is None else str(cached),
    }


def _print_table(entries: tuple[WeightsEntry, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from vidfeat.system.download import cache_folder, find_cached

    table = Table(box=SIMPLE_HEAD)
    table.add_column("--model", no_wrap=True)
    table.add_column("--weights", no_wrap=True)
    table.add_column("clips", no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column("top-1", justify="right")
    table.add_column("top-5", justify="right")
    table.add_column("trained on")
    table.add_column("licence")
    table.add_column("cached", no_wrap=True)
    for entry in entries:
        accuracy = entry.accuracy
        rate = "native" if entry.plan.fps is None else f"{float(entry.plan.fps):g} fps"
        table.add_row(
            entry.model,
            entry.name,
            f"{entry.plan.frames} at {rate}",
            str(entry.megabytes),
            "" if accuracy is None else f"{accuracy.top1:.1f}",
            "" if accuracy is None else f"{accuracy.top5:.1f}",
            entry.trained_on,
            entry.licence.partition(" (")[0],
            "yes" if find_cached(entry.filename) else "",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # do not wrap in a file or a pipe
    console.print(table)
    console.print(
        "Accuracy in per cent on Kinetics-400's validation videos, by the protocol that --json "
        f"shows. The cache is {cache_folder()}; set VIDFEAT_CACHE to move it.",
        soft_wrap=True,
    )


@command.command("download", epilog="Example: vidfeat weights download r2plus1d_18/kinetics400")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--model", metavar="NAME", help="The network, if the name is not unique.")
def download_command(names: tuple[str, ...], model: str | None) -> None:
    """Fetch weights into the cache, check them, and print their paths.

    NAME is the name of weights, MODEL/NAME, or the name of a network for its default.
    """
    from vidfeat.pretrained import default_entry, find_entry
    from vidfeat.system.download import fetch
    from vidfeat.weights.load import source_of

    entries = [
        (default_entry(name) if model is None else None) or find_entry(name, model)
        for name in names
    ]
    for entry in entries:
        click.echo(str(fetch(source_of(entry))))


@command.command(
    "convert", epilog="Example: vidfeat weights convert r2.5d_d18_l16.pkl -o r2plus1d.safetensors"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=OutputPath(), required=True, help="Safetensors to write.")
@click.option("--model", metavar="NAME", help="The network, if the tensors leave it open.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def convert_command(file: Path, output: Path, model: str | None, overwrite: bool) -> None:
    """Convert a Caffe2 pickle of the paper's authors, or unwrap a torch training checkpoint.

    Network, depth, channels and classes are read off the tensors. These do not show a max-pool
    after the stem (--model r2plus1d_152_pool), nor tell R2D on three frames from MC2
    (--model r2d_18).
    """
    from vidfeat.weights.convert import convert_file

    made = convert_file(file, output, model, overwrite=overwrite)
    loaded = made.loaded
    click.echo(
        f"{output}: {loaded.model}, {counted(loaded.num_classes, 'class', 'classes')}, "
        f"{counted(loaded.in_channels, 'channel')}"
        + (f", midplanes by {loaded.midplanes}" if loaded.midplanes else "")
        + (f", clips of {loaded.plan.frames} frames" if loaded.plan else "")
    )
    if made.entry is not None:
        click.echo(f"clip plan, preprocessing and classes as published for {made.entry.full_name}")
    elif loaded.plan is None:
        click.echo(
            "the tensors do not show the length and rate of clips: give --clip-frames and --fps"
        )
