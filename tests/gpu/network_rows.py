"""Rows about the network alone: accuracy, speed, single layers, and running out of memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checks import Context, Result, skipped
from layer_table import layer_table
from measuring import (
    ceilings,
    centred_error,
    free_memory,
    lived_in,
    name_of,
    preprocess_of,
    random_clips,
    relative_error,
    seconds_of,
)
from network_variants import layer_candidates, nan_stays, whole_networks
from numpy.typing import NDArray
from torch import Tensor

from vidfeat.encoders.engines.batch_network import BatchNetwork
from vidfeat.models import VideoNetwork, VideoResNet
from vidfeat.video.preprocess import Preprocess

ROWS = (
    ("vectors", "fp32 2e-6, tf32 1e-3, fp16 2e-3, bf16 1.5e-2", "network_rows:vectors", 90.0),
    ("network", "3,000 clips/s", "network_rows:network_alone", 60.0),
    ("layers", "reported", "network_rows:layers", 60.0),
    ("memory", "halved, same vectors", "network_rows:memory", 45.0),
    ("others", "reported", "network_rows:others", 90.0),
    ("training-equal", "fp32 1e-3, AMP 5e-2", "training_rows:equal_training", 60.0),
    ("training-speed", "reported", "training_rows:training_speed", 75.0),
    ("training-compiled", "reported", "training_rows:training_compiled", 90.0),
)
LARGEST_ERROR = {"fp32": 2e-6, "tf32": 1e-3, "fp16": 2e-3, "bf16": 1.5e-2}
LEAST_CLIPS_PER_SECOND = 3000.0
SEEDS = range(5)


class _Runner:
    """A network in one precision, as the product runs it; its weights can be swapped."""

    def __init__(
        self,
        network: VideoNetwork,
        preprocess: Preprocess,
        precision: str,
        device: torch.device,
        execution: str = "graph",
    ) -> None:
        self.device = device
        layers = network.layer_names[-1:]
        if device.type == "cuda":
            from vidfeat.encoders.engines.cuda_engine import CudaEngine

            self.engine: Any = CudaEngine(
                network,
                layers,
                ("mean",),
                preprocess,
                precision=precision,  # type: ignore[arg-type]
                device=device,
                execution=execution,  # type: ignore[arg-type]
            )
            self.load_: Callable[[VideoResNet], None] = self.engine.load_
        else:
            dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
            assert isinstance(network, VideoResNet)
            self.engine = BatchNetwork(network, preprocess, dtype=dtype)
            self.load_ = self.engine.load_

    def vectors(self, clips: Tensor) -> Tensor:
        """(N, D) on the CPU."""
        if self.device.type == "cuda":
            return torch.from_numpy(self.engine.embed(clips.numpy()).copy())
        with torch.inference_mode():
            return self.engine(clips)  # type: ignore[no-any-return]

    def seconds(self, clips: Tensor, repeats: int) -> float:
        """Time of a batch that is already on the device."""
        if self.device.type != "cuda":
            return seconds_of(lambda: self.vectors(clips), self.device, repeats)
        on_device = clips.to(self.device)
        self.engine.submit(on_device).result()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for _ in range(3):
            torch.cuda.synchronize(self.device)
            began.record(self.engine._stream)
            pending = [self.engine.submit(on_device) for _ in range(repeats)]
            ended.record(self.engine._stream)
            pending[-1].result()
            times.append(began.elapsed_time(ended) / 1e3 / repeats)
        return statistics.median(times)


def real_clips(folder: Path, count: int, frames: int, preprocess: Preprocess) -> Tensor:
    """The first clip of ``count`` of the archive's files; noise if there are too few."""
    import av

    from vidfeat.video.frame_preprocessor import FramePreprocessor

    found: list[NDArray[np.uint8]] = []
    for file in sorted(folder.glob("*.mp4")):
        resized = FramePreprocessor(preprocess)
        with av.open(str(file)) as container:
            pictures = [resized.frame(frame) for frame in islice(container.decode(video=0), frames)]
        if len(pictures) == frames:
            found.append(np.stack(pictures))
        if len(found) == count:
            return torch.from_numpy(np.stack(found))
    return random_clips(count, frames, preprocess.crop[0])


def vectors(context: Context) -> Result:
    """Compare vectors with fp32 on the CPU, over five networks with weights swapped in place."""
    device, small = torch.device(context.device), context.small
    model, count = ("r2plus1d_10_w16", 4) if small else ("r2plus1d_18", 16)
    frames, side = (8, 48) if small else (16, 112)
    resize = (side * 8 // 7, side * 12 // 8)
    preprocess = Preprocess(resize, (side, side))
    clips = real_clips(context.pack / "clips", count, frames, preprocess)
    precisions = ["fp32", "bf16", "fp16"] if small else list(LARGEST_ERROR)
    networks = [lived_in(model, seed) for seed in SEEDS]
    runners = {p: _Runner(lived_in(model, 0), preprocess, p, device) for p in precisions}
    largest = dict.fromkeys(precisions, 0.0)
    centred = dict.fromkeys(precisions, 0.0)
    for network in networks:
        assert isinstance(network, VideoResNet)
        with torch.inference_mode():
            expected = network.features(preprocess.normalize(clips))[network.layer_names[-1]]
            expected = expected.mean((2, 3, 4))
        for precision, runner in runners.items():
            runner.load_(network)
            found = runner.vectors(clips)
            largest[precision] = max(largest[precision], relative_error(found, expected))
            centred[precision] = max(centred[precision], centred_error(found, expected))
    ok = all(largest[p] <= LARGEST_ERROR[p] for p in precisions)
    figure = ", ".join(f"{p} {largest[p]:.1e}" for p in precisions)
    return {"ok": ok, "figure": figure, "largest": largest, "centred": centred, "clips": count}


def network_alone(context: Context) -> Result:
    """Clips per second in the default precision, as a graph and compiled."""
    device, small = torch.device(context.device), context.small
    model = "r2plus1d_10_w16" if small else "r2plus1d_18"
    batch, frames, side = (2, 4, 32) if small else (64, 16, 112)
    network, preprocess = lived_in(model, 0), preprocess_of(side)
    clips = random_clips(batch, frames, side)
    rates = {}
    for execution in ("graph",) if small else ("graph", "compile"):
        runner = _Runner(network, preprocess, "fp16", device, execution)
        rates[execution] = round(batch / runner.seconds(clips, 3 if small else 20), 1)
        del runner
        free_memory(device)
    best = max(rates.values())
    flops = sum(row.flops for row in layer_table(network, batch, (frames, side, side)))
    top = ceilings(device, small=small)
    share = flops / batch * best / (top["fp16_tflops"] * 1e12)
    return {
        "ok": small or best >= LEAST_CLIPS_PER_SECOND,
        "figure": f"{best:,.0f} clips/s, {share:.0%} of the matrix product's rate",
        "clips_per_second": rates,
        "ceilings": top,
        "card": name_of(device),
    }


def layers(context: Context) -> Result:
    """Each layer alone, in every implementation, as a share of the matrix product's rate."""
    device, small = torch.device(context.device), context.small
    top = ceilings(device, small=small)
    model = "r2plus1d_10_w16" if small else "r2plus1d_18"
    rows = layer_candidates(device, small=small, model=model, rate=top["fp16_tflops"] * 1e12)
    shares = [row["best_share_of_matmul"] for row in rows if "best_share_of_matmul" in row]
    return {
        "ok": True,
        "figure": f"{min(shares):.0%} to {max(shares):.0%} of the matrix product's rate",
        "layers": rows,
        "nan": nan_stays(device),
        "ceilings": top,
    }


def variants(context: Context) -> Result:
    """The alternatives considered for running the network; not one of the rows."""
    rows = whole_networks(torch.device(context.device), small=context.small)
    best = max(rows, key=lambda row: row.get("clips_per_second", 0.0))
    return {"ok": True, "figure": f"{best['name']}: {best['clips_per_second']}", "rows": rows}


def memory(context: Context) -> Result:
    """A batch that does not fit is halved, and gives the same vectors as in parts."""
    device = torch.device(context.device)
    if device.type != "cuda":
        return skipped("a processor's memory is not halved")
    network, preprocess = lived_in("r2plus1d_18", 0), preprocess_of(112)
    clips = random_clips(48, 16, 112)
    expected = _Runner(network, preprocess, "fp16", device).vectors(clips)
    runner = _Runner(network, preprocess, "fp16", device)
    runner.vectors(clips[:2])  # libraries allocate their memory
    total = torch.cuda.get_device_properties(device).total_memory
    # A graph and the run before it need some 2 GB for 48 clips; the weights are already loaded.
    room = torch.cuda.memory_reserved(device) + (1200 << 20)
    torch.cuda.set_per_process_memory_fraction(room / total, device)
    try:
        found = runner.vectors(clips)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    error = relative_error(found, expected)
    largest = runner.engine.largest_batch
    return {
        "ok": largest is not None and largest < len(clips) and error <= LARGEST_ERROR["fp16"],
        "figure": f"batches of {largest}, vectors within {error:.1e}",
        "equal_bits": bool(torch.equal(found, expected)),
        "relative_error": error,
    }


def others(context: Context) -> Result:
    """A deeper network of the paper, and a transformer: clips per second, and share of the rate."""
    device, small = torch.device(context.device), context.small
    if small:
        cases = [("r2plus1d_10_w16", (4, 32, 32), 2, ("graph",))]
    else:
        cases = [
            ("r2plus1d_34", (16, 112, 112), 32, ("graph",)),
            ("r3d_18", (16, 112, 112), 32, ("graph",)),
            ("swin3d_b", (16, 224, 224), 16, ("eager",)),
        ]
    top = ceilings(device, small=small)
    found: dict[str, Any] = {}
    for model, shape, batch, ways in cases:
        network, preprocess = lived_in(model, 0), preprocess_of(shape[1])
        clips = random_clips(batch, shape[0], shape[1])
        flops = _flops(network, shape)
        for execution in ways:
            try:
                runner = _Runner(network, preprocess, "fp16", device, execution)
                rate = batch / runner.seconds(clips, 3 if small else 5)
                share = rate * flops / (top["fp16_tflops"] * 1e12)
                found[f"{model} {execution}"] = {
                    "clips_per_second": round(rate, 1),
                    "share_of_matmul": round(share, 3),
                }
                del runner
            except Exception as error:
                found[f"{model} {execution}"] = {"error": f"{type(error).__name__}: {error}"[:300]}
            free_memory(device)
    rates = [f"{name} {row.get('clips_per_second', 'failed')}" for name, row in found.items()]
    return {
        "ok": all("error" not in row for row in found.values()),
        "figure": ", ".join(rates),
        "networks": found,
        "left_out": "csn_152 and vjepa2_vit_l are not among the networks",
    }


def _flops(network: VideoNetwork, shape: tuple[int, int, int]) -> float:
    from vidfeat.encoders.engines.cost import flops_per_clip

    return flops_per_clip(network, network.layer_names[-1:], (*shape, 3))
