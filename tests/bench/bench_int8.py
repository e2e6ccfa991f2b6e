"""torch as vidfeat runs it, and OpenVINO, against eager torch: speed, and what int8 costs.

    python tests/bench/bench_int8.py [--calibrate 30] [--held-out 64] [--rounds 3]

``r2plus1d_18`` with seeded random weights, one clip per video of ../shared/data/fights; no
recording has clips in both calibration and measurement. The engines take turns on the same batches,
and medians are compared.
"""

from __future__ import annotations

import argparse
import csv
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.int8.quantize import (
    CalibrationOptions,
    agreement,
    quantise,
    sample_clips,
)
from vidfeat.encoders.load import load_encoder
from vidfeat.video.listing import ListedVideo, list_videos

FIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "fights"
MODEL = "r2plus1d_18"
BATCH = 4
SEED = 0


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float | str
    target: str


def parted() -> tuple[list[ListedVideo], list[ListedVideo]]:
    """The videos in two halves, each recording entirely in one of them."""
    with (FIGHTS / "labels.csv").open(newline="") as file:
        group = {row["path"]: row["group"] for row in csv.DictReader(file)}
    names = sorted(set(group.values()))
    random.Random(SEED).shuffle(names)
    first = set(names[: len(names) // 2])
    halves: tuple[list[ListedVideo], list[ListedVideo]] = ([], [])
    for video in list_videos([FIGHTS]).videos:
        if video.identity in group:
            halves[group[video.identity] not in first].append(video)
    return halves


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a call."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def eagerly(encoder: Encoder) -> None:
    """Make the encoder run the network's own forward pass, as a script would."""
    encoder.engine.clip_by_clip = False  # type: ignore[attr-defined]


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def speeds(encoders: dict[str, Encoder], clips: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Median seconds per batch of each engine: (wall clock, CPU)."""
    for encoder in encoders.values():
        encoder.engine.embed(clips)  # compiles
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encoder in encoders.items():
            found[name].append(seconds(lambda encoder=encoder: encoder.engine.embed(clips)))
    return {
        name: np.array([statistics.median(column) for column in zip(*times, strict=True)])
        for name, times in found.items()
    }


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure; the rows of the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calibrate", type=int, default=30)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if not FIGHTS.is_dir():
        return [Row("int8 (no ../shared/data/fights)", "skipped", "")]
    mine, others = parted()
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net"
        took, _ = seconds(
            lambda: quantise(
                EncoderChoice(MODEL, "random", SEED),
                mine,
                net,
                calibration=CalibrationOptions(options.calibrate, 0),
            )
        )
        encoders = {
            "eager": load_encoder(MODEL, "random", seed=SEED, batch_size=BATCH, device="cpu"),
            "torch": load_encoder(MODEL, "random", seed=SEED, batch_size=BATCH, device="cpu"),
            "fp32": load_encoder(MODEL, "random", seed=SEED, batch_size=BATCH, engine="openvino"),
            "int8": load_encoder(weights=net, batch_size=BATCH),
        }
        torch = encoders["torch"]
        eagerly(encoders["eager"])
        wanted = CalibrationOptions(options.held_out, 0)
        clips = sample_clips(others, torch.plan, torch.preprocess, wanted).calibration
        times = speeds(encoders, clips[:BATCH], options.rounds)
        exact, int8 = (encoders[name].encode_clips(clips) for name in ("fp32", "int8"))
        few = encoders["eager"].encode_clips(clips[: 2 * BATCH])
        torch_error = largest_difference(torch.encode_clips(clips[: len(few)]), few)
        openvino_error = largest_difference(exact[: len(few)], few)
    found = agreement(exact, int8)
    torch_faster, fp32_faster, int8_faster = (
        times["eager"] / times[name] for name in ("torch", "fp32", "int8")
    )
    return [
        Row("torch as vidfeat runs it against eager, network alone, wall", torch_faster[0], ""),
        Row("  the same, CPU seconds", torch_faster[1], ""),
        Row("  largest difference, relative", f"{torch_error:.1e}", "<= 1e-5"),
        Row("OpenVINO fp32 against eager torch, network alone, wall clock", fp32_faster[0], ">= 1"),
        Row("  the same, CPU seconds", fp32_faster[1], ""),
        Row("int8 against eager torch, network alone, wall clock", int8_faster[0], ">= 2.5"),
        Row("  the same, CPU seconds", int8_faster[1], ""),
        Row("OpenVINO fp32: largest difference, relative", f"{openvino_error:.1e}", "<= 1e-4"),
        Row(f"int8, {found.clips} clips: cosine to fp32, least", found.cosine_min, ">= 0.95"),
        Row("  on average", found.cosine_mean, ">= 0.99"),
        Row("  same nearest neighbour", found.same_nearest, ">= 0.90"),
        Row(f"seconds to quantise on {options.calibrate} clips, once", took, ""),
    ]


if __name__ == "__main__":
    for row in main():
        shown = f"{row.figure:.3f}" if isinstance(row.figure, float) else row.figure
        print(f"{row.name:<72} {shown:>10}   {row.target}")
