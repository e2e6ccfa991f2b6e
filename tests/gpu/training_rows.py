"""Rows about training: the same numbers as on a CPU, and clips per second."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checks import Context, Result, skipped
from measuring import free_memory, synchronize
from safetensors.torch import load_file

from vidfeat.datasets.motion_pairs import write_motion_pairs
from vidfeat.training.batches import Batch
from vidfeat.training.config import Recipe
from vidfeat.training.device_batches import DeviceBatch, sent_ahead
from vidfeat.training.distributed import World
from vidfeat.training.log import RunLog
from vidfeat.training.loop import Trainer
from vidfeat.training.network import build_network
from vidfeat.training.recipes import get_recipe
from vidfeat.training.run import train
from vidfeat.training.settings import change
from vidfeat.training.setup import open_data, settle

STEPS = 20
LARGEST_ERROR = {"fp32": 1e-3, "tf32": 5e-2, "bf16": 5e-2, "fp16": 5e-2}
BATCH = 32


def equal_training(context: Context) -> Result:
    """Compare twenty steps on the device with fp32 on the CPU: losses and weights."""
    steps = 2 if context.small else STEPS
    data = context.scratch / "motion"
    write_motion_pairs(data, train=2 if context.small else 8, val=1, frames=16, size=(72, 96))
    settings = [
        *("model.name=r2plus1d_10_w16", "data.dataset=auto", "data.frames=8", "data.stride=1"),
        *("data.scale=[72,96]", "data.crop=64", "train.batch=8", "train.micro_batch=8"),
        *("train.epochs=4", "train.epoch_clips=0", "train.milestones=[]", "train.warmup_epochs=0"),
        *("evaluate.every_epochs=0", "run.tensorboard=false", "run.scan=false", "run.threads=2"),
        *(("data.crop=32", "data.frames=4") if context.small else ()),
    ]

    def run(precision: str, device: str) -> tuple[Any, dict[str, torch.Tensor]]:
        folder = context.scratch / f"train-{device}-{precision}"
        shutil.rmtree(folder, ignore_errors=True)
        base = get_recipe("kinetics_r2plus1d_18_16f")
        recipe = change(base, [*settings, f"train.precision={precision}"])
        train(recipe, data, folder, device=device, until=steps)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses = np.array([line["loss"] for line in lines if line["event"] == "step"])
        newest = max((folder / "checkpoints").glob("*/model.safetensors"))  # names are in order
        return losses, load_file(newest)

    exact, weights = run("fp32", "cpu")
    found: dict[str, Any] = {}
    for precision in ("bf16",) if context.small else LARGEST_ERROR:
        losses, own = run(precision, context.device)
        names = [name for name, value in weights.items() if value.is_floating_point()]
        apart = sum(float((own[n] - weights[n]).double().square().sum()) for n in names) ** 0.5
        norm = sum(float(weights[n].double().square().sum()) for n in names) ** 0.5
        found[precision] = {
            "losses": float(np.linalg.norm(losses - exact) / np.linalg.norm(exact)),
            "weights": apart / norm,
        }
    ok = all(max(row.values()) <= LARGEST_ERROR[p] for p, row in found.items())
    parts = [f"{p} {row['losses']:.1e}/{row['weights']:.1e}" for p, row in found.items()]
    return {"ok": ok, "figure": "losses/weights: " + ", ".join(parts), "errors": found}


def training_speed(context: Context) -> Result:
    """Time a step alone in each precision, and one fed by decoding the archive's clips."""
    data, base = _labelled(context), _recipe(context)
    cases = ["bf16"] if context.small else ["bf16", "fp16", "tf32"]
    alone = {case: _alone(context, base, case, data) for case in cases}
    steps = 3 if context.small else 60
    fed = _fed(context, change(base, ["train.precision=bf16"]), data, steps)
    share = fed["clips_per_second"] / alone["bf16"]["clips_per_second"]
    return {
        "ok": True,
        "figure": (
            f"alone {alone['bf16']['clips_per_second']:.0f} clips/s, fed "
            f"{fed['clips_per_second']:.0f} ({share:.0%}), waiting {fed['wait_share']:.0%}"
        ),
        "alone": alone,
        "fed": fed,
    }


def training_compiled(context: Context) -> Result:
    """Time a step alone with torch.compile, which first takes a minute."""
    if context.small:
        return skipped("a processor compiles for minutes")
    data, base = _labelled(context), _recipe(context)
    found = _alone(context, base, "bf16 compiled", data)
    figure = f"{found['clips_per_second']:.0f} clips/s, first step {found['first_seconds']:.0f} s"
    return {"ok": True, "figure": figure, "compiled": found}


def _recipe(context: Context) -> Recipe:
    small = context.small
    return change(
        get_recipe("kinetics_r2plus1d_18_16f"),
        [
            f"model.name={'r2plus1d_10_w16' if small else 'r2plus1d_18'}",
            *("data.dataset=auto", "train.epochs=1", "train.epoch_clips=100000"),
            *("train.milestones=[]", "train.warmup_epochs=0", "run.checkpoint_every=100000"),
            *("evaluate.every_epochs=0", "run.tensorboard=false", "run.scan=false"),
            f"train.batch={4 if small else BATCH}",
            *(("data.frames=4", "data.crop=32", "data.scale=[36,48]") if small else ()),
        ],
    )


def _labelled(context: Context) -> Path:
    """The clips as two classes; rendered ones if there are none."""
    folder = context.scratch / "labelled"
    files = sorted(context.files.glob("*.mp4"))
    if not files:
        write_motion_pairs(folder, train=4, val=1, frames=24, size=(72, 96))
        return folder
    for number, file in enumerate(files):
        target = folder / ("one", "other")[number % 2] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(file)
    return folder


def _alone(context: Context, base: Recipe, case: str, data: Path) -> dict[str, float]:
    precision, _, compiled = case.partition(" ")
    settings = [f"train.precision={precision}", f"train.compile={str(bool(compiled)).lower()}"]
    settings += ["train.channels_last=true"] if precision == "tf32" else []
    device = torch.device(context.device)
    world = World(device=device, local_size=1)
    folder = context.scratch / "alone"
    opened = open_data(change(base, settings), data, None, folder)
    recipe = settle(change(base, settings), len(opened.train), world)
    network = build_network(recipe, len(opened.train.classes))
    trainer = Trainer(recipe, network, opened, folder, world, RunLog(None, None, tensorboard=False))
    size, side = recipe.train.batch, recipe.data.crop
    clips = torch.randint(0, 256, (size, recipe.data.frames, side, side, 3)).byte()
    batch = Batch(0, clips, tuple((n % 2,) for n in range(size)), ((),) * size)
    sent: DeviceBatch = next(sent_ahead([batch], device, len(opened.train.classes)))
    network.train()

    def step() -> None:
        with trainer._float32():
            sent.arrive()
            trainer._train(sent, (0, size))

    began = time.perf_counter()
    step()
    synchronize(device)
    first = time.perf_counter() - began
    for _ in range(2):
        step()
    synchronize(device)
    count = 2 if context.small else 20
    began = time.perf_counter()
    for _ in range(count):
        step()
    queued = time.perf_counter() - began
    synchronize(device)
    seconds = (time.perf_counter() - began) / count
    free_memory(device)
    return {
        "clips_per_second": round(size / seconds, 1),
        "first_seconds": round(first, 2),
        # far below 1 as long as no step waits for the device
        "queued_share": round(queued / count / seconds, 3),
    }


def _fed(context: Context, recipe: Recipe, data: Path, steps: int) -> dict[str, float]:
    folder = context.scratch / "fed"
    shutil.rmtree(folder, ignore_errors=True)
    train(recipe, data, folder, device=context.device, until=steps)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["event"] == "step"]
    late = own[len(own) // 3 :]  # processes and kernels have started
    seconds = sum(line["seconds"] for line in late)
    return {
        "clips_per_second": round(len(late) * recipe.train.batch / seconds, 1),
        "wait_share": round(sum(x["wait_share"] * x["seconds"] for x in late) / seconds, 3),
        "steps": len(own),
    }
