"""``vidfeat export``: a network as ONNX, or in OpenVINO's format."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "export",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat export r2plus1d_18 --weights run/ -o net.onnx",
)
@click.argument("model")
@click.option("--weights", metavar="NAME|FILE|random", help="As for extract; else the default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A file named .onnx, or .xml for OpenVINO.",
)
@click.option("--layer", default="", metavar="NAMES", help="Of the embedding, with commas.")
@click.option("--pool", default="mean", show_default=True, help="mean, max or mean,max.")
@click.option("--clip-frames", type=click.IntRange(min=1), help="Else those of the weights.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
def command(
    model: str,
    weights: str | None,
    seed: int,
    output: Path,
    layer: str,
    pool: str,
    clip_frames: int | None,
    overwrite: bool,
) -> None:
    """Write MODEL with its weights as a file that needs no torch, checked against torch.

    Input: normalised clips (N, 3, T, H, W). Outputs: the embedding, and the class scores.
    """
    from vidfeat.export import check_target, export_network
    from vidfeat.weights import load_weights

    check_target(output, overwrite=overwrite)
    if weights == "random":
        click.echo("the network is UNTRAINED (--weights random)", err=True)
    loaded = load_weights(weights, model, seed, clip_frames=clip_frames)
    report = export_network(
        loaded,
        output,
        layers=tuple(filter(None, layer.split(","))),
        pool=tuple(filter(None, pool.split(","))),
        clip_frames=clip_frames,
        overwrite=overwrite,
    )
    shape = " x ".join(map(str, report.input_shape[1:]))
    click.echo(
        f"{report.path}: clips of {shape}, embedding of {report.dimension}; "
        f"differs from torch by {report.error:.1e} of the largest value"
    )
