"""The learning rate, a pure function of the step: resuming a run needs no state of it."""

from __future__ import annotations

import math

from vidfeat.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, batch: int) -> float:
    """The learning rate of a step.

    ``lr`` scaled by ``batch / lr_batch``; a linear rise over the warm-up, complete with its last
    step; then either a factor of ``gamma`` for each milestone passed, or half a cosine from the
    end of the warm-up to 0 at the end of the run. With ``cosine_cycles`` the run consists of that
    many half cosines, the later ones without a warm-up ("SGDR: Stochastic Gradient Descent with
    Warm Restarts", Loshchilov and Hutter, 2017, with cycles of one length).

    Args:
        config: the recipe's ``train`` section.
        step: from 0.
        steps_per_epoch: optimiser steps of an epoch.
        batch: clips of a step, over all processes.
    """
    base = config.lr * batch / config.lr_batch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return base * (step + 1) / warmup
    if config.schedule == "step":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
        return base * config.gamma**passed
    cycle_steps = config.epochs // config.cosine_cycles * steps_per_epoch
    done = min(step, config.epochs * steps_per_epoch - 1) // cycle_steps * cycle_steps
    start = max(done, warmup)  # of the half cosine that contains the step
    length = max(1, done + cycle_steps - start)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - start) / length)))
