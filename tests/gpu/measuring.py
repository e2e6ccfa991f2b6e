"""Timing and test networks for the checks on a GPU; small sizes run on a CPU too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vidfeat.models import VideoNetwork, build_model
from vidfeat.video.preprocess import Preprocess

Row = dict[str, Any]
"""One measured thing, as JSON: ``name``, ``passed`` (None: only measured), and its figures."""


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Median time of a call, by the device's own clock, after two warm-up calls."""
    for _ in range(2):
        run()
    synchronize(device)
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            run()
            ended.record()
            ended.synchronize()
            times.append(began.elapsed_time(ended) / 1e3)
        else:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def name_of(device: torch.device) -> str:
    """The name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def free_memory(device: torch.device) -> None:
    """Release memory between two measurements."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def lived_in(name: str, seed: int, **options: Any) -> VideoNetwork:
    """A network with random weights whose batch norms are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(name, **options)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return network.eval().requires_grad_(requires_grad=False)


def preprocess_of(side: int) -> Preprocess:
    """Frames of side x side pixels, normalised as Kinetics is."""
    return Preprocess((side, side), (side, side))


def random_clips(count: int, frames: int, side: int, seed: int = 0) -> Tensor:
    """uint8 (N, T, H, W, 3) on the CPU: noise of low and high frequency."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, frames, 8, 8), generator=generator)
    fine = torch.rand((count, 3, frames, side, side), generator=generator)
    mixed = nn.functional.interpolate(coarse, size=(frames, side, side), mode="trilinear")
    pixels = (mixed * 200 + fine * 55).to(torch.uint8)
    return pixels.permute(0, 2, 3, 4, 1).contiguous()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm; NaN and infinity give infinity."""
    if not bool(found.isfinite().all()):
        return float("inf")
    difference = found.double().cpu() - expected.double().cpu()
    return float(difference.norm() / expected.double().norm())


def centred_error(found: Tensor, expected: Tensor) -> float:
    """The same after subtracting the mean over the clips: the error in what distinguishes them."""
    found, expected = found.double().cpu(), expected.double().cpu()
    centred = expected - expected.mean(0, keepdim=True)
    return float((found - found.mean(0, keepdim=True) - centred).norm() / centred.norm())


def ceilings(device: torch.device, *, small: bool) -> Row:
    """Rates of a large matrix product and of a large copy, which all others are compared with."""
    side = 256 if small else 8192
    row: Row = {"name": "ceilings", "device": name_of(device), "passed": None}
    kinds = [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
    for kind, dtype in kinds:
        # Random values: on zeros a card is faster than on real data.
        size = side // 2 if kind == "fp32" else side
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        row[f"{kind}_tflops"] = 2 * size**3 / seconds_of(lambda a=a, b=b: a @ b, device) / 1e12
    source = torch.empty(1 << (20 if small else 31), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of(partial(target.copy_, source), device)
    row["copy_terabytes_per_second"] = 2 * source.numel() / seconds / 1e12
    del source, target
    free_memory(device)
    return row
