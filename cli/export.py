"""``vidfeat export``: a network as ONNX, in OpenVINO's format, or quantised to int8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath, comma_list

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice


@click.command(
    "export",
    context_settings=HELP_NAMES,
    epilog="Examples: vidfeat export r2plus1d_18 --weights run/ -o net.onnx; "
    "vidfeat export r2plus1d_18 --precision int8 --calibrate videos/ -o net/",
)
@click.argument("model")
@click.option(
    "--weights", metavar="NAME|FILE|random", help="As for extract.  [default: the network's]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for random weights.")
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    required=True,
    help="A .onnx file, or .xml for OpenVINO; with int8 a folder.",
)
@click.option(
    "--layer", metavar="NAMES", help="Layers of the embedding, comma-separated.  [default: last]"
)
@click.option("--pool", default="mean", show_default=True, help="mean, max or mean,max.")
@click.option(
    "--clip-frames", type=click.IntRange(min=1), help="Frames per clip.  [default: the weights']"
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="int8 writes a folder for extract --weights.",
)
@click.option(
    "--calibrate",
    metavar="VIDEOS",
    multiple=True,
    help="With int8: a folder of your videos, or a file; may be repeated.",
)
@click.option(
    "--calibration-clips", type=int, help="With int8: clips to calibrate on.  [default: 32]"
)
@click.option("--frame-stride", type=int, help="With int8: frame stride of a clip.")
@click.option("--fps", metavar="RATE|native", help="With int8: frame rate to sample at.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def command(
    model: str,
    weights: str | None,
    seed: int,
    output: Path,
    layer: str | None,
    pool: str,
    clip_frames: int | None,
    precision: str,
    calibrate: tuple[str, ...],
    calibration_clips: int | None,
    frame_stride: int | None,
    fps: str | None,
    overwrite: bool,
) -> None:
    """Write MODEL and its weights to a file that runs without torch, checked against torch.

    Input: normalised clips (N, 3, T, H, W). Outputs: the embedding, and the class scores.

    With --precision int8 it is quantised on clips of your own videos, for
    vidfeat extract --weights FOLDER; its deviation from fp32 is measured on other videos.
    """
    of_int8 = (calibrate, calibration_clips, frame_stride, fps)
    layers, pools = comma_list(layer) or [], comma_list(pool) or []
    if weights == "random":
        click.echo("the network is UNTRAINED (random weights)", err=True)
    if precision == "int8":
        if not calibrate:
            raise click.UsageError(
                "--precision int8 needs --calibrate VIDEOS: some of your own videos"
            )
        from vidfeat.encoders.choice import EncoderChoice
        from vidfeat.video.plan_choice import PlanChoice

        plan = PlanChoice(frames=clip_frames, stride=frame_stride, fps=fps)
        choice = EncoderChoice(model, weights, seed, plan, layers or None, pools)
        _quantise(choice, output, calibrate, calibration_clips, overwrite=overwrite)
        return
    if any(value for value in of_int8):
        raise click.UsageError(
            "--calibrate, --calibration-clips, --frame-stride and --fps are for --precision int8"
        )
    from vidfeat.encoders.onnx_export import check_target, export_network
    from vidfeat.weights.load import load_weights

    check_target(output, overwrite=overwrite)
    loaded = load_weights(weights, model, seed, clip_frames=clip_frames)
    report = export_network(
        loaded, output, layers=layers, pool=pools, clip_frames=clip_frames, overwrite=overwrite
    )
    shape = " x ".join(map(str, report.input_shape[1:]))
    click.echo(
        f"{report.path}: clips of {shape}, embedding of {report.dimension}; "
        f"differs from torch by {report.error:.1e} of the largest value"
    )


def _quantise(
    choice: EncoderChoice,
    output: Path,
    calibrate: tuple[str, ...],
    calibration_clips: int | None,
    *,
    overwrite: bool,
) -> None:
    from vidfeat.encoders.int8.quantize import CalibrationOptions, quantise
    from vidfeat.video.listing import list_videos

    net = quantise(
        choice,
        list_videos(calibrate).videos,
        output,
        calibration=CalibrationOptions()
        if calibration_clips is None
        else CalibrationOptions(calibration_clips),
        overwrite=overwrite,
        report=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{output}: embedding of {net.facts['dimension']}; {net.agreement_in_words()}")
    click.echo(f"use it with: vidfeat extract VIDEOS --weights {output} -o features.h5")
