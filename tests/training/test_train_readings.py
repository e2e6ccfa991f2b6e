"""Numbers that are read for several steps at once: the same lines, and nothing kept of bad weights.

As on a GPU, which need not wait for each step's loss.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.train_fixtures import micro, render_motion, same_weights
from vidfeat.errors import TrainingError, UsageError
from vidfeat.training import loop
from vidfeat.training.run import train

VARYING = ("seconds", "clips_per_second", "wait_share", "time")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion(tmp_path_factory.mktemp("motion"))


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in VARYING} for line in found]


def of_event(folder: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["event"] == event]


@pytest.mark.parametrize("every", [2, 5, 1000])
def test_lines_and_weights_do_not_depend_on_when_they_are_read(
    data: Path, tmp_path: Path, every: int
) -> None:
    settings = ("augment.mixup=0.2", "train.micro_batch=2", "train.clip_gradient=1.0")
    train(micro(*settings), data, tmp_path / "each")
    train(micro(*settings, f"run.read_every={every}"), data, tmp_path / "later")
    assert of_event(tmp_path / "later", "step") == of_event(tmp_path / "each", "step")
    assert of_event(tmp_path / "later", "evaluation") == of_event(tmp_path / "each", "evaluation")
    assert same_weights(tmp_path / "each", tmp_path / "later")


def test_each_step_is_read_before_its_checkpoint(data: Path, tmp_path: Path) -> None:
    train(micro("run.read_every=1000"), data, tmp_path)
    seen = 0
    for line in lines(tmp_path):
        if line["event"] == "step":
            seen = line["step"]
        elif line["event"] in ("checkpoint", "evaluation"):
            assert seen == line["step"]


def test_a_loss_that_is_no_number_ends_a_run_before_anything_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = loop.Trainer._train
    broken_from = 5  # of which the checkpoint at step 6 would be the first

    def broken(self: loop.Trainer, *arguments: Any) -> torch.Tensor:
        numbers = train_step(self, *arguments)
        return numbers * float("nan") if self.step + 1 >= broken_from else numbers

    monkeypatch.setattr(loop.Trainer, "_train", broken)
    with pytest.raises(TrainingError, match="the loss is nan at step 5:"):
        train(micro("run.read_every=1000"), data, tmp_path)
    assert [line["step"] for line in of_event(tmp_path, "checkpoint")] == [3]
    assert [line["step"] for line in of_event(tmp_path, "step")] == [1, 2, 3, 4, 5]


WARNED = """
import os, signal, sys
from pathlib import Path
from tests.support.train_fixtures import micro
from vidfeat.training import loop
from vidfeat.training.run import train

train_step = loop.Trainer._train

def warned(self, *arguments):
    if self.step == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return train_step(self, *arguments)

loop.Trainer._train = warned
result = train(micro("run.read_every=1000"), Path(sys.argv[1]), Path(sys.argv[2]))
print(result.complete, result.step)
"""


def test_a_warning_of_the_scheduler_is_answered_at_once(data: Path, tmp_path: Path) -> None:
    """In a fresh process: other tests' libraries have their own handlers of SIGTERM."""
    done = subprocess.run(
        [sys.executable, "-c", WARNED, data, tmp_path],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False 2"
    assert [line["step"] for line in of_event(tmp_path, "checkpoint")] == [2]


def test_tf32_is_refused_on_a_cpu(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.precision=tf32 needs a GPU"):
        train(micro("train.precision=tf32"), data, tmp_path, device="cpu")
