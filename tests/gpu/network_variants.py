"""Ways to run one network on a GPU, timed side by side: the source of the engine's constants.

    python tests/gpu/network_variants.py OUT.jsonl

Every choice that is a constant in ``batch_convolution.how_to_run`` and ``triton_convolutions`` is
measured here, layer by layer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import (
    Row,
    ceilings,
    free_memory,
    lived_in,
    preprocess_of,
    random_clips,
    relative_error,
    seconds_of,
    synchronize,
)
from torch import Tensor
from torch.nn import functional as F

from vidfeat.encoders.engines.batch_convolution import Convolution, over_lines
from vidfeat.encoders.engines.batch_network import BatchNetwork, triton_runs_on
from vidfeat.encoders.engines.cuda_graph import CapturedGraph
from vidfeat.system.float32_rules import float32_rules

SIZES = {False: (64, 16, 112), True: (2, 4, 32)}
"""Clips, frames, side; by ``small``."""


def whole_networks(device: torch.device, *, small: bool, model: str = "r2plus1d_18") -> list[Row]:
    """Clips per second of the network alone: with different fusions, as a graph and compiled."""
    batch, frames, side = SIZES[small]
    network, preprocess = lived_in(model, 0), preprocess_of(side)
    clips = random_clips(batch, frames, side)
    with torch.inference_mode():
        expected = network.features(preprocess.normalize(clips[:2]))
        reference = next(iter(expected.values())).mean((2, 3, 4))
    on_device = clips.to(device)
    half = torch.float16
    plain = BatchNetwork(network, preprocess)
    space = {c.name: "library" for c in plain.convolutions if c.shape.over_space}
    library = {c.name: "library" for c in plain.convolutions}
    gemm = {c.name: "triton" for c in plain.convolutions if c.shape.over_time}
    fused = triton_runs_on(device)
    best: dict[str, Any] = {"dtype": half, "fused": fused}
    full: dict[str, Any] = {"dtype": torch.float32, "fused": fused}
    variants: list[tuple[str, dict[str, Any], str]] = [
        ("fused", best, "graph"),
        ("fused", best, "eager"),
        ("fused, cudnn.benchmark", best, "benchmark"),
        ("fused, no walk over time", {**best, "chosen": gemm}, "graph"),
        ("fused, space by the library", {**best, "chosen": space}, "graph"),
        ("library, one pass after each", {**best, "chosen": library}, "graph"),
        ("fused bf16", {**best, "dtype": torch.bfloat16}, "graph"),
        ("tf32", full, "tf32"),
        ("fp32", full, "graph"),
        ("plain", {"dtype": half}, "graph"),
        ("plain", {"dtype": half}, "compile"),
    ]
    if not fused:
        variants = variants[:1]
    rows = []
    for name, options, how in variants:
        began = time.perf_counter()
        row: Row = {"name": f"{model} {name} {how}", "passed": None}
        try:
            made = BatchNetwork(network, preprocess, **options).to(device)
            run, first = prepared(made, on_device, how, device)
            row["first_seconds"] = round(time.perf_counter() - began, 2)
            row["relative_error"] = relative_error(first[:2], reference)
            seconds = seconds_of(run, device, 3 if small else 10)
            row["clips_per_second"] = round(batch / seconds, 1)
            row["milliseconds"] = round(seconds * 1e3, 3)
            del made, run, first
        except Exception as error:  # a variant that fails is a result, and the others still run
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        free_memory(device)
        rows.append(row)
    return rows


@torch.inference_mode()
def prepared(
    made: BatchNetwork, clips: Tensor, how: str, device: torch.device
) -> tuple[Callable[[], object], Tensor]:
    """A call that runs the network once on these clips, and its output."""

    def ruled(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            with torch.inference_mode(), float32_rules(tf32=how == "tf32", device=device):
                torch.backends.cudnn.benchmark = how == "benchmark"
                return run(x)

        return call

    run = ruled(torch.compile(made) if how == "compile" else made)
    if how == "eager" or device.type != "cuda":
        return (lambda: run(clips)), run(clips).clone()
    if how == "benchmark":
        run(clips)  # autotune before the graph is recorded
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    graph = CapturedGraph(run, clips, stream)
    first = graph.run(clips)
    synchronize(device)
    return graph.graph.replay, first


# -- layer by layer --------------------------------------------------------------------------------


def layer_candidates(
    device: torch.device, *, small: bool, model: str = "r2plus1d_18", rate: float = 7.6e14
) -> list[Row]:
    """Each convolution alone, in every implementation, as a share of ``rate``.

    Args:
        device: a CUDA device; on another one only the library runs.
        small: small shapes.
        model: of the paper.
        rate: floating-point operations per second of a matrix product.
    """
    batch, frames, side = SIZES[small]
    network, preprocess = lived_in(model, 0), preprocess_of(side)
    half = torch.float16 if device.type == "cuda" else torch.float32
    made = BatchNetwork(network, preprocess, dtype=half).to(device)
    true = dict(network.named_modules())
    rows: list[Row] = []
    seen: dict[tuple[Any, ...], str] = {}
    for layer, images, count, last in _walked(made, random_clips(batch, frames, side).to(device)):
        key = (layer.shape, tuple(images.shape), count, last)
        if key in seen:
            rows.append({"name": layer.name, "as": seen[key], "passed": None})
            continue
        seen[key] = layer.name
        one = true[layer.name]
        found = layer.run(images, count)
        positions = found.numel() / layer.shape.outputs
        flops = 2.0 * positions * one.weight[0].numel() * one.out_channels
        moved = images.numel() + found.numel() * (2 if last else 1) + layer.weight.numel()
        row: Row = {
            "name": layer.name,
            "passed": None,
            "kernel": layer.shape.kernel,
            "images": tuple(images.shape),
            "outputs": layer.shape.outputs,
            "gflops": round(flops / 1e9, 2),
            "megabytes": round(moved * images.element_size() / 1e6, 1),
            "milliseconds": {},
        }
        residual = torch.randn_like(found) if last else None
        for name, run in _candidates(layer, images, count, residual, device):
            try:
                row["milliseconds"][name] = round(seconds_of(run, device, 7) * 1e3, 4)
            except Exception as error:
                row["milliseconds"][name] = f"{type(error).__name__}: {error}"[:120]
        times = [value for value in row["milliseconds"].values() if isinstance(value, float)]
        row["best_share_of_matmul"] = round(flops / (min(times) / 1e3) / rate, 3)
        rows.append(row)
        del residual, found
        free_memory(device)
    return rows


@torch.inference_mode()
def _walked(made: BatchNetwork, clips: Tensor) -> Iterator[tuple[Convolution, Tensor, int, bool]]:
    """Each convolution with its inputs: images, frames, and whether there is a residual."""
    images, count = made._patches(clips), clips.shape[1]
    chains = [made.stem, *(block for blocks in made.groups.values() for block in blocks)]
    for chain in chains:
        shortcut = images
        start = count
        layers = list(chain.layers)
        for layer in layers:
            yield layer, images, count, layer is layers[-1] and chain is not made.stem
            images, count = layer.run(images, count), layer.frames_out(count)
        del shortcut, start


def _candidates(
    layer: Convolution, images: Tensor, frames: int, residual: Tensor | None, device: torch.device
) -> Iterator[tuple[str, Callable[[], object]]]:
    shape = layer.shape
    yield "library, no bias", _ruled(lambda: layer._library(images, frames, None), device)
    if device.type != "cuda":
        return
    from vidfeat.encoders.engines import triton_convolutions as kernels

    bias = torch.randn(shape.outputs, device=images.device)
    library = lambda: layer._library(images, frames, None)  # noqa: E731
    yield "library, cudnn.benchmark", _ruled(library, device, benchmark=True)
    yield (
        "library and finish",
        _ruled(lambda: kernels.finish_(library(), bias, residual), device),
    )
    if shape.over_space and residual is None:
        half_bias = bias.to(images.dtype)
        stride, padding = list(shape.stride[1:]), list(layer.padding[1:])
        yield (
            "cudnn_convolution_relu",
            _ruled(
                lambda: torch.cudnn_convolution_relu(
                    images, layer.weight, half_bias, stride, padding, [1, 1], 1
                ),
                device,
            ),
        )
    if shape.kernel[0] > 1 and not shape.over_time:
        return
    tiles = kernels.tiles_of_convolution(shape.inputs, shape.outputs)
    flat = layer.weight
    unfinished = torch.randn(shape.inputs, device=images.device) if shape.over_time else None
    seen = over_lines(images, frames) if shape.over_time else images
    kernel = (3, 1) if shape.over_time else shape.kernel[1:]
    stride = (shape.stride[0], 1) if shape.over_time else shape.stride[1:]
    padding = (1, 0) if shape.over_time else layer.padding[1:]
    others = {
        "": tiles,
        " 4 warps": replace(tiles, warps=4, stages=4),
        " 256": replace(tiles, positions=256, warps=8),
        " 64": replace(tiles, positions=64, warps=4, stages=4),
        " step 32": replace(tiles, inputs=32, stages=5),
    }
    if residual is not None and shape.over_time:
        residual = over_lines(residual, layer.frames_out(frames))
    for name, own in others.items():
        if own.inputs > max(16, shape.inputs):
            continue
        packed = kernels.Packed(
            kernels.pack_convolution(flat, own),
            kernels.pack_bias(bias, own),
            own,
            shape.outputs,
            kernel,
            stride,
            padding,
        )
        yield (
            f"triton{name}",
            _ruled(
                lambda packed=packed: kernels.convolution(
                    seen, packed, unfinished=unfinished, residual=residual
                ),
                device,
            ),
        )
    if shape.over_time and shape.stride[0] == 1 and shape.inputs <= kernels.WALKS_UP_TO:
        base = kernels.tiles_over_time(shape.inputs, shape.outputs)
        walks = {"": base, " 128": replace(base, positions=128, warps=8)}
        images_residual = None
        if residual is not None:
            count, channels, time_, _ = residual.shape
            images_residual = residual.permute(0, 2, 3, 1).reshape(
                count * time_, *images.shape[2:], channels
            )
            images_residual = images_residual.permute(0, 3, 1, 2)
        for name, own in walks.items():
            packed = kernels.Packed(
                kernels.pack_over_time(flat, own),
                kernels.pack_bias(bias, own),
                own,
                shape.outputs,
            )
            yield (
                f"walk{name}",
                _ruled(
                    lambda packed=packed: kernels.over_time(
                        images,
                        frames,
                        packed,
                        unfinished=unfinished,
                        residual=images_residual,
                    ),
                    device,
                ),
            )


def _ruled(
    run: Callable[[], object], device: torch.device, *, benchmark: bool = False
) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode(), float32_rules(tf32=False, device=device):
            torch.backends.cudnn.benchmark = benchmark
            return run()

    return call


# -- NaN must not disappear in a kernel ------------------------------------------------------------


def nan_stays(device: torch.device) -> list[Row]:
    """Whether NaN in a map comes out as NaN: a ReLU that makes it zero would hide an overflow."""
    rows = []
    images = torch.randn(4, 64, 16, 16, device=device).half()
    images = images.contiguous(memory_format=torch.channels_last)
    images[0, 3, 5, 5] = float("nan")
    weight = torch.randn(144, 64, 3, 3, device=device).half() * 0.05
    weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(144, device=device)
    ways: dict[str, Callable[[], Tensor]] = {
        "conv2d and relu": lambda: F.relu(F.conv2d(images, weight, bias.half(), padding=1)),
    }
    if device.type == "cuda":
        from vidfeat.encoders.engines import triton_convolutions as kernels

        tiles = kernels.tiles_of_convolution(64, 144)
        packed = kernels.Packed(
            kernels.pack_convolution(weight, tiles),
            kernels.pack_bias(bias, tiles),
            tiles,
            outputs=144,
            kernel=(3, 3),
            padding=(1, 1),
        )
        ways |= {
            "cudnn_convolution_relu": lambda: torch.cudnn_convolution_relu(
                images, weight, bias.half(), [1, 1], [1, 1], [1, 1], 1
            ),
            "conv2d and finish": lambda: kernels.finish_(F.conv2d(images, weight, padding=1), bias),
            "triton": lambda: kernels.convolution(images, packed),
        }
    for name, run in ways.items():
        try:
            stays = bool(run()[0, :, 4:7, 4:7].isnan().all())
            rows.append({"name": f"NaN stays: {name}", "passed": None, "stays": stays})
        except Exception as error:
            rows.append({"name": f"NaN stays: {name}", "passed": None, "error": str(error)[:200]})
    return rows


def main(out: str, small: bool | None = None) -> list[Row]:
    """Run everything above and write a line of JSON for each measurement."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_small = device.type == "cpu" if small is None else small
    rows: list[Row] = []
    with Path(out).open("a", encoding="utf-8") as lines:
        began = time.perf_counter()

        def say(found: list[Row]) -> None:
            for row in found:
                row["at_second"] = round(time.perf_counter() - began, 1)
                text = json.dumps(row)
                lines.write(text + "\n")
                lines.flush()
                print(text, flush=True)
                rows.append(row)

        say([ceilings(device, small=is_small)])
        rate = rows[0]["fp16_tflops"] * 1e12
        say(nan_stays(device))
        say(whole_networks(device, small=is_small))
        say(layer_candidates(device, small=is_small, rate=rate))
    return rows


if __name__ == "__main__":
    main(sys.argv[1])
