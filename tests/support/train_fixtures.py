"""What the training tests share: rendered videos, a recipe of milliseconds, processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from vidfeat.datasets.motion_pairs import write_motion_pairs, write_video
from vidfeat.datasets.textures import noise_texture, shifted
from vidfeat.training.config import Recipe
from vidfeat.training.recipes import get_recipe
from vidfeat.training.settings import change

MICRO = (
    "model.init=random",
    "data.frames=4",
    "data.stride=1",
    "data.scale=[16,22]",
    "data.crop=16",
    "train.batch=4",
    "train.micro_batch=4",
    "train.epochs=2",
    "train.channels_last=false",
    "train.warmup_epochs=0.5",
    "run.threads=1",
    "run.workers=0",
    "run.tensorboard=false",
    "run.scan=false",
    "run.checkpoint_every=3",
    "evaluate.clips=2",
)


def micro(*settings: str, recipe: str = "tiny") -> Recipe:
    """A recipe whose steps take milliseconds: 4 frames of 16 x 16."""
    return change(get_recipe(recipe), (*MICRO, *settings))


def render_motion(folder: Path, *, train: int = 4, val: int = 2) -> Path:
    """Eight classes of motion, 8 frames of 16 x 22."""
    write_motion_pairs(folder, train=train, val=val, frames=8, size=(16, 22))
    return folder


def render_video(path: Path, *, seed: int = 0, frames: int = 12, size: tuple[int, int] = (32, 48)):
    """A texture that drifts."""
    import numpy as np

    rng = np.random.default_rng(seed)
    texture = noise_texture(rng, *size)
    drift = rng.uniform(-2, 2, 2)
    images = [shifted(texture, *(drift * i)) for i in range(frames)]
    write_video(path, (np.stack(images) * 255).astype(np.uint8))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a finished run, or of a checkpoint."""
    return load_file(folder / "model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    """Whether two runs ended with the same bits."""
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def start_processes(
    arguments: Sequence[str], count: int, module: str = "vidfeat.training"
) -> list[subprocess.Popen[str]]:
    """Start the processes of one run as torchrun does, without its overhead."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        if count > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            )
        )
    return processes


def finish(processes: Sequence[subprocess.Popen[str]], timeout: float = 300) -> list[str]:
    """Wait for processes to end well; their output."""
    outputs = []
    for process in processes:
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, output
        outputs.append(output)
    return outputs


def settings_as_options(recipe_settings: Sequence[str]) -> list[str]:
    """``--set`` options."""
    return [part for setting in recipe_settings for part in ("--set", setting)]
