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
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
def command(as_json: bool) -> None:
    """List the networks: size, embedding, layers, and published weights.

    Parameters are counted with 400 classes, GFLOPs are multiply-adds of one clip. Below the table:
    networks of other libraries under short names, and which sources are installed.
    """
    from vidfeat.encoders.sources.recommended import RECOMMENDED
    from vidfeat.pretrained import entries_of
    from vidfeat.pretrained.networks import network_table

    infos = [*network_table(), _bundled_info()]
    weights = {info.name: [entry.name for entry in entries_of(info.name)] for info in infos}
    if as_json:
        import json

        rows = [_as_json(info, weights[info.name]) for info in infos]
        others = [
            {
                "name": entry.name,
                "model": entry.model,
                "embedding_size": entry.dimension,
                "input_size": entry.size,
                "clip_frames": entry.frames,
                "licence": entry.licence,
                "reason": entry.reason,
                "installed": _is_installed(entry.extra),
            }
            for entry in RECOMMENDED
        ]
        click.echo(json.dumps([*rows, *others], indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        caption="Parameters with 400 classes; GFLOPs are multiply-adds of a clip of that input. "
        "published: parameters, GFLOPs and their input by the authors' own count; docs/weights.md "
        "explains the differences. vidfeat weights list shows the weights in full.",
    )
    for heading in ("name", "parameters", "GFLOPs", "embedding", "input", "published"):
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
            _published(info),
            f"{info.layer_names[0]} .. {info.layer_names[-1]}",
            ", ".join(weights[info.name]),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # do not wrap in a file or a pipe
    console.print(table)
    click.echo("From other libraries: embedding, frames of a clip x side in pixels, licence")
    for entry in RECOMMENDED:
        frames = f"{entry.frames} frames" if entry.frames > 1 else "frame by frame"
        click.echo(f"  {entry.name:<14}{entry.dimension}, {frames} x {entry.size}, {entry.licence}")
        click.echo(f"{'':16}{entry.model}")
        click.echo(f"{'':16}{entry.reason}")
    click.echo("Any other network of these sources, by its name there or as a folder:")
    for prefix, extra, what in _SOURCES:
        state = "installed" if _is_installed(extra) else f"pip install 'vidfeat[{extra}]'"
        click.echo(f"  {prefix}: {what} ({state})")
    click.echo("  FILE.py:FUNCTION: your own, see docs/encoders.md")


# prefix, extra that installs its library, networks
_SOURCES = (
    ("hf", "transformers", "V-JEPA 2, VideoPrism, VideoMAE, TimeSformer, ViViT, X-CLIP, PE video, "
     "DINOv2 and v3, CLIP, SigLIP"),
    ("open_clip", "open_clip", "PE-Core, MobileCLIP, SigLIP 2, CLIP, with their text towers"),
    ("timm", "timm", "image networks"),
    ("torchvision", "", "image networks"),
)  # fmt: skip
_PACKAGES = {"transformers": "transformers", "open_clip": "open_clip", "timm": "timm"}


def _is_installed(extra: str) -> bool:
    from importlib.util import find_spec

    return extra not in _PACKAGES or find_spec(_PACKAGES[extra]) is not None


def _published(info: NetworkFacts) -> str:
    """The authors' figures: parameters, GFLOPs, and the input that these are for."""
    said = info.published
    if said is None:
        return ""
    frames, size = info.published_clip
    words = []
    if said.parameters_millions is not None:
        words.append(f"{said.parameters_millions:.4g} M")
    if said.gflops is not None:
        words.append(f"{said.gflops:.4g} ({frames} x {size})")
    return ", ".join(words)


def _as_json(info: NetworkFacts, weights: list[str]) -> dict[str, object]:
    published = info.published
    frames, size = info.published_clip
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
            "input_size": size,
            "frames": frames,
        },
        "weights": weights,
    }


def _bundled_info() -> NetworkFacts:
    """The network that comes with vidfeat, under its own name and with its own features."""
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
