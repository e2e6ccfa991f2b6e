"""What a run starts from if its recipe leaves it open, and how a run is extended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vidfeat.errors import UsageError
from vidfeat.pretrained import bundled
from vidfeat.system.wording import counted
from vidfeat.training.config import RANDOM, Recipe
from vidfeat.training.schedule import learning_rate

FEW_STEPS = 200
"""Optimiser steps below which a run is too short to judge its recipe by."""

LENGTH_SETTINGS = frozenset({"train.epochs", "train.milestones", "train.cosine_cycles"})
"""What may change when a run is extended, as long as no learning rate used so far changes."""


def with_init(recipe: Recipe) -> Recipe:
    """The recipe with the weights that it starts from, if it names none.

    The bundled weights for their own network, if the recipe describes that network: colour frames,
    its own midplanes and epsilon. Random ones for any other.
    """
    model = recipe.model
    if model.init:
        return recipe
    is_bundled = (
        model.name == bundled.MODEL
        and recipe.data.modality == "rgb"
        and model.midplanes == "default"
        and model.bn_eps == 0
        and not model.needs_init
    )
    return replace(recipe, model=replace(model, init=bundled.NAME if is_bundled else RANDOM))


def read_as_stored(recipe: Recipe) -> Recipe:
    """The recipe of a run as it was started: up to version 0.1, an empty init meant random."""
    model = recipe.model
    return recipe if model.init else replace(recipe, model=replace(model, init=RANDOM))


def length_note(total_steps: int, steps_per_epoch: int) -> str:
    """A warning about a run of very few steps; empty for others."""
    if total_steps >= FEW_STEPS:
        return ""
    epochs = -(-FEW_STEPS // steps_per_epoch)
    return (
        f"{counted(total_steps, 'optimiser step is', 'optimiser steps are')} few: accuracy depends "
        f"on chance until about {FEW_STEPS}; train.epochs={epochs} gives "
        f"{epochs * steps_per_epoch:,}"
    )


def extended(stored: Recipe, given: Recipe, folder: Path, *, done: int, per_epoch: int) -> Recipe:
    """The stored recipe with the length of the given one.

    Args:
        stored: the recipe that the run has been trained with.
        given: differs in ``LENGTH_SETTINGS``.
        folder: of the run, for messages.
        done: steps of the newest checkpoint.
        per_epoch: steps of an epoch.

    Raises:
        UsageError: the run is longer already, or its schedule would have had other learning rates
            up to here.
    """
    old, new = stored.train, given.train
    if new.epochs * per_epoch < done:
        raise UsageError(
            f"{folder} has done {done / per_epoch:g} epochs: train.epochs={new.epochs} is fewer"
        )
    for step in _probes(done, per_epoch):
        before, after = (learning_rate(train, step, per_epoch, old.batch) for train in (old, new))
        if before != after:
            break
    else:
        longer = replace(
            old,
            epochs=new.epochs,
            milestones=new.milestones,
            cosine_cycles=new.cosine_cycles,
        )
        return replace(stored, train=longer)
    if old.schedule == "step":
        raise UsageError(
            f"{folder} was trained with a learning rate of {before:g} in epoch "
            f"{step // per_epoch + 1}, and train.milestones={list(new.milestones)} would have made "
            f"it {after:g}: milestones can change only in epochs to come"
        )
    again = new.epochs // old.epochs * old.cosine_cycles
    restart = (
        f"; or let the rate rise again for a second fall with train.cosine_cycles={again}"
        if new.epochs % old.epochs == 0 and again > old.cosine_cycles
        else ""
    )
    last = max(done - 1, 0)
    rates = [learning_rate(train, last, per_epoch, old.batch) for train in (old, new)]
    raise UsageError(
        f"{folder} follows a cosine over {old.epochs} epochs; over {new.epochs} every step so far "
        f"would have had another learning rate (the last one {rates[1]:.2g} in place of "
        f"{rates[0]:.2g}): start another run with init={folder}{restart}",
        field="init",
    )


def _probes(done: int, per_epoch: int) -> Sequence[int]:
    """Past steps that tell two schedules apart: the first, middle and last of each epoch."""
    epochs = range(0, done, per_epoch)
    found = {at for e in epochs for at in (e, e + per_epoch // 2, e + per_epoch - 1) if at < done}
    return sorted(found | ({done - 1} if done else set()))
