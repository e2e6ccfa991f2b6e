"""Results that steps leave on the device, read for several steps at once: no step waits for them.

On a CPU every step is read immediately. On a GPU loss, accuracy and gradient norm stay there for
some steps, which are then logged together. Everything that keeps or writes weights reads first, so
that a NaN or infinite loss ends a run before it has any effect.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from vidfeat.errors import TrainingError
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import World
from vidfeat.training.evaluation_step import advice
from vidfeat.training.log import RunLog

_ON_A_GPU = 20


@dataclass(frozen=True)
class QueuedStep:
    """A queued step of this process."""

    step: int
    """Counted from one."""
    epoch: int
    learning_rate: float
    began: float
    """By ``time.perf_counter``, after waiting for the batch."""
    waited_seconds: float
    clips: int
    failures: int
    numbers: Tensor
    """(3,) float64 on the device: loss summed over clips, right answers, norm of the gradient."""


class Readings:
    """Steps that are not yet read.

    Args:
        recipe: settled.
        world: this process's rank and group; all processes add and read the same steps.
        log: receives a line for each step.
        total_steps: of the run.
    """

    def __init__(self, recipe: Recipe, world: World, log: RunLog, total_steps: int) -> None:
        own = _ON_A_GPU if world.device.type == "cuda" else 1
        self.every = recipe.run.read_every or own
        self._recipe = recipe
        self._world = world
        self._log = log
        self._total_steps = total_steps
        self._queued: list[QueuedStep] = []

    def add(self, step: QueuedStep) -> None:
        """Record a step."""
        self._queued.append(step)

    @property
    def due(self) -> bool:
        """Whether enough steps are waiting to be read together."""
        return len(self._queued) >= self.every

    def read(self, *, stop: bool) -> bool:
        """Wait for the recorded steps, and log them; all processes call this after the same step.

        Args:
            stop: whether this process was asked to stop.

        Returns:
            Whether any process has.

        Raises:
            TrainingError: the loss of a step is NaN or infinite.
        """
        steps, self._queued = self._queued, []
        if not steps:
            return self._world.sum([float(stop)])[0] > 0
        own = torch.stack([step.numbers for step in steps]).tolist()
        seconds = time.perf_counter() - steps[0].began + steps[0].waited_seconds
        waited = sum(step.waited_seconds for step in steps)
        counts: list[float] = [float(stop)]
        for (loss, correct, _), step in zip(own, steps, strict=True):
            counts += [loss, correct, step.clips, step.failures]
        totals = self._world.sum(counts)
        for place, step in enumerate(steps):
            loss, correct, clips, failures = totals[1 + 4 * place : 5 + 4 * place]
            self._log.write(
                "step",
                step=step.step,
                epoch=step.epoch,
                loss=loss / clips,
                accuracy=correct / clips,
                lr=step.learning_rate,
                gradient_norm=own[place][2],
                clips_per_second=clips * len(steps) / seconds,
                seconds=seconds / len(steps),
                wait_share=waited / seconds,
                steps=self._total_steps,
                **({"unreadable": int(failures)} if failures else {}),
            )
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {step.step:,}: {advice(self._recipe)}"
                )
        return totals[0] > 0
