"""``vidfeat models``: the networks, their sizes, their embeddings and their published weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidfeat.pretrained.networks import NetworkFacts


@click.command(
    "models",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat models --json | jq '.[] | select(.embedding_size == 512) | .name'",
)
@click.option("--json", "as_json", is_flag=True, help="A list of objects, for programs.")
def command(as_json: bool) -> None:
    """List the networks: size, embedding, layers, and the weights that were published for them.

    Parameters are counted with 400 classes, GFLOPs are multiply-adds of one clip.
    """
    from vidfeat.pretrained import entries_of
    from vidfeat.pretrained.networks import network_table

    infos = [*network_table(), _bundled_info()]
    weights = {info.name: [entry.name for entry in entries_of(info.name)] for info in infos}
    if as_json:
        import json

        rows = [_as_json(info, weights[info.name]) for info in infos]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        caption="Parameters with 400 classes; GFLOPs are multiply-adds of a clip of that input. "
        "bundled: comes with vidfeat. vidfeat weights list shows the weights in full.",
    )
    for heading in ("name", "parameters", "GFLOPs", "embedding", "input"):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    table.add_column("layers (--layer)", no_wrap=True)
    table.add_column("published weights (--weights)", overflow="fold")
    for info in infos:
        table.add_row(
            info.name,
            f"{info.parameters / 1e6:.1f} M",
            f"{info.gflops:.1f}",
            str(info.embedding_size),
            f"{info.frames} x {info.input_size}",
            f"{info.layer_names[0]} .. {info.layer_names[-1]}",
            ", ".join(weights[info.name]),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file or a pipe has no edge to wrap at
    console.print(table)


def _as_json(info: NetworkFacts, weights: list[str]) -> dict[str, object]:
    published = info.published
    return {
        "name": info.name,
        "parameters": info.parameters,
        "gflops": info.gflops,
        "embedding_size": info.embedding_size,
        "layers": list(info.layer_names),
        "layer_widths": list(info.layer_widths),
        "frames": info.frames,
        "input_size": info.input_size,
        "published": None
        if published is None
        else {
            "parameters_millions": published.parameters_millions,
            "gflops": published.gflops,
            "input_size": published.input_size or info.input_size,
            "frames": published.frames or info.frames,
        },
        "weights": weights,
    }


def _bundled_info() -> NetworkFacts:
    """The network that comes with vidfeat, by its own name and with its own features."""
    from vidfeat.pretrained import bundled
    from vidfeat.pretrained.networks import network_table

    info = next(one for one in network_table() if one.name == bundled.MODEL)
    widths = dict(zip(info.layer_names, info.layer_widths, strict=True))
    return replace(
        info,
        name=bundled.NAME,
        embedding_size=len(bundled.POOLS) * sum(widths[layer] for layer in bundled.LAYERS),
        frames=bundled.FRAMES,
        input_size=bundled.INPUT_SIZE,
        gflops=bundled.GFLOPS,
    )
