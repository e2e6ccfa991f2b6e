"""``train``: start or resume a run, from a recipe and a folder of data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidfeat.datasets import VideoDataset, synthetic_motion
from vidfeat.errors import UsageError
from vidfeat.system.wording import counted
from vidfeat.training import setup
from vidfeat.training.checkpoint import read_checkpoint
from vidfeat.training.class_names import mirrored_pairs
from vidfeat.training.config import RANDOM, Recipe
from vidfeat.training.distributed import World, join
from vidfeat.training.log import LogReport, RunLog, trim_log
from vidfeat.training.loop import Trainer
from vidfeat.training.network import build_network, load_init, save_network, started_from
from vidfeat.training.setup import RunData
from vidfeat.training.start import length_note, read_as_stored, with_init
from vidfeat.training.toml import read_recipe
from vidfeat.weights.load import load_weights


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    folder: Path
    step: int
    total_steps: int
    complete: bool
    """All steps are done and ``model.safetensors`` is written."""
    best: dict[str, Any]
    """Step and video@1 of the best evaluation; empty if there was none."""
    is_main: bool = True
    """Whether this is the process that writes the files."""


def train(
    recipe: Recipe | None,
    data: str | Path | None,
    out: str | Path,
    *,
    lists: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    report: LogReport | None = None,
    find_broken: Callable[[VideoDataset], list[str]] | None = None,
    until: int | None = None,
) -> RunResult:
    """Train a network, or resume a run.

    Under torchrun, all processes call this with the same arguments.

    Args:
        recipe: what to train and how; None with ``resume`` for the run's own.
        data: the dataset's folder; None for a dataset that is rendered, and with ``resume`` for
            the folder that the run was started with.
        out: the folder of the run.
        lists: the folder of the dataset's lists, if different.
        resume: continue from the newest checkpoint of ``out``, if there is one. A recipe of more
            epochs makes the run longer, where its schedule allows it.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: called in the main process with each line of the log.
        find_broken: finds the videos that cannot be read; None skips this check.
        until: stop at this step (with a checkpoint), as if the run had been interrupted.

    Raises:
        UsageError: settings that do not go together, or a run in ``out`` that cannot be resumed.
        DataError: the data is not laid out as the recipe's dataset is.
        TrainingError: the loss is NaN or infinite.
    """
    folder = Path(out)
    with join(device) as world:
        resume = resume or world.restarts > 0
        if recipe is None:
            if not resume:
                raise UsageError("give a recipe to train by", field="recipe")
            recipe = stored_recipe(folder)
        if resume:
            known_data, known_lists = setup.stored_places(folder)
            if data is None and known_data is not None and not Path(known_data).exists():
                raise UsageError(
                    f"the videos of {folder} are no longer at {known_data}: give their folder as "
                    "data",
                    field="data",
                )
            data, lists = data or known_data, lists or known_lists
        _check(recipe, data, folder)
        chosen = recipe
        where = {
            "root": None if data is None else str(Path(data).absolute()),
            "lists": None if lists is None else str(Path(lists).absolute()),
        }

        def open_data() -> RunData:
            root, lists_folder = Path(data or ""), None if lists is None else Path(lists)
            return setup.open_data(chosen, root, lists_folder, folder, find_broken)

        opened = setup.on_main(world, open_data)
        how = _Start(folder, where, resume, until)
        return _train(chosen, opened, how, world, report)


@dataclass(frozen=True)
class _Start:
    """How a run begins and where it stops."""

    folder: Path
    where: Mapping[str, str | None]
    resume: bool
    until: int | None


def stored_recipe(folder: Path) -> Recipe:
    """The recipe of a run that is to be resumed.

    Raises:
        UsageError: there is no run.
    """
    if not (folder / setup.RECIPE_FILE).is_file():
        raise UsageError(
            f"{folder} has no training run to resume: check the folder, or name a recipe to "
            "start one"
        )
    return read_as_stored(read_recipe(folder / setup.RECIPE_FILE))


def _check(recipe: Recipe, data: str | Path | None, folder: Path) -> None:
    """Check what can be checked before the data is read."""
    if data is not None and recipe.data.dataset == synthetic_motion.NAME:
        raise UsageError(
            f"the recipe {recipe.name} renders its clips and reads no videos: leave data out, or "
            "train on your videos, from the bundled weights, with the recipe tiny",
            field="data",
        )
    if data is None and recipe.data.dataset != synthetic_motion.NAME:
        raise UsageError(
            f"the recipe {recipe.name} needs videos: give their folder as data", field="data"
        )
    if recipe.model.needs_init and not recipe.model.init and not (folder / "recipe.toml").is_file():
        raise UsageError(
            f"the recipe {recipe.name} starts from trained weights: set model.init to a name, a "
            "file or a run"
        )
    if recipe.data.modality == "flow":
        from vidfeat.video.flow import require_opencv

        require_opencv()


def _train(
    recipe: Recipe,
    data: RunData,
    how: _Start,
    world: World,
    report: LogReport | None,
) -> RunResult:
    folder = how.folder
    fresh = not (folder / setup.RECIPE_FILE).is_file()
    fresh = world.broadcast(fresh)
    loaded = None
    if fresh:
        recipe = with_init(recipe)
    if fresh and recipe.model.init != RANDOM:
        loaded = load_weights(recipe.model.init, recipe.model.name)
        recipe = started_from(recipe, loaded)

    def start() -> Recipe:
        return setup.start_run(recipe, folder, data, world, resume=how.resume, where=how.where)

    settled = setup.on_main(world, start)
    point, passed_over = setup.on_main(world, lambda: setup.resume_point(folder))
    torch.set_num_threads(settled.run.threads)
    classes = data.train.classes
    network = build_network(settled, len(classes))
    left: list[str] = []
    notes = start_notes(settled, classes)
    if point is None and settled.model.init != RANDOM:
        loaded = loaded or load_weights(settled.model.init, settled.model.name)
        left, note = load_init(network, loaded, classes)
        notes += [note] if note else []
    repeated = 0
    if world.is_main:
        saved_step = 0 if point is None else int(point.name.rpartition("-")[2])
        repeated = trim_log(folder, saved_step)
    log = RunLog(folder if world.is_main else None, report, tensorboard=settled.run.tensorboard)
    try:
        trainer = Trainer(settled, network, data, folder, world, log)
        if point is not None:
            trainer.restore(read_checkpoint(point))
            log.write(
                "resume",
                step=trainer.step,
                repeated_steps=repeated,
                passed_over=passed_over,
                processes=world.size,
            )
        elif not fresh:
            log.write("resume", step=0, repeated_steps=repeated, processes=world.size)
        if trainer.step == 0:
            few = length_note(trainer.total_steps, trainer.order.steps_per_epoch)
            notes += [few] if few else []
            log.write("start", step=0, **_facts(trainer, data, left), notes=notes)
        complete = trainer.run(how.until)
        if how.until is not None and not complete and trainer.saved_step != trainer.step:
            trainer.save()
        if complete:
            _finish(trainer, classes)
        log.write("end" if complete else "pause", step=trainer.step, best=trainer.best)
    finally:
        log.close()
    return RunResult(
        folder, trainer.step, trainer.total_steps, complete, trainer.best, world.is_main
    )


def start_notes(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """Notes about a recipe and the classes it is trained for."""
    rendered = recipe.data.dataset == synthetic_motion.NAME  # scenes are not mirrored
    pairs = mirrored_pairs(classes) if recipe.augment.flip > 0 and not rendered else []
    if not pairs:
        return []
    one, other = pairs[0]
    more = f" and {counted(len(pairs) - 1, 'more pair')}" if len(pairs) > 1 else ""
    return [
        f"clips are mirrored with probability {recipe.augment.flip:g} (augment.flip), which turns "
        f"{one!r} into {other!r}{more}: set augment.flip=0 unless the classes look different"
    ]


def _facts(trainer: Trainer, data: RunData, left: list[str]) -> dict[str, Any]:
    parameters = sum(p.numel() for p in trainer.network.parameters())
    return {
        "recipe": trainer.recipe.name,
        "data": data.train.summary(),
        "train": len(data.train),
        "evaluate": len(data.evaluate),
        "classes": len(data.train.classes),
        "model": trainer.recipe.model.name,
        "init": trainer.recipe.model.init,
        "parameters": parameters,
        "left_at_random": left,
        "batch": trainer.recipe.train.batch,
        "processes": trainer.world.size,
        "threads": trainer.recipe.run.threads,
        "device": str(trainer.world.device),
        "steps": trainer.total_steps,
        "steps_per_epoch": trainer.order.steps_per_epoch,
    }


def _finish(trainer: Trainer, classes: tuple[str, ...]) -> None:
    """Write the weights (the averaged ones, if weights are averaged) as one file."""
    if not trainer.world.is_main:
        return
    average = trainer.average
    state = trainer.network.state_dict() if average is None else average.state
    target = trainer.folder / setup.WEIGHTS_FILE
    _write(
        target, state, trainer.recipe, classes, trainer.data.train.name, trainer.step, trainer.best
    )


def save_snapshot(run: str | Path, target: str | Path) -> int:
    """Write the weights of a run in progress, in the form of its final weights.

    Args:
        run: its folder; the newest checkpoint is used.
        target: the safetensors file.

    Returns:
        The step of the checkpoint.

    Raises:
        UsageError: no run, or none with a checkpoint yet.
    """
    folder = Path(run)
    point, _ = setup.resume_point(folder)
    if point is None:
        raise UsageError(f"{folder} has no checkpoint of a training run")
    saved = read_checkpoint(point)
    recipe = read_recipe(folder / setup.RECIPE_FILE)
    facts = json.loads((folder / setup.DATA_FILE).read_text(encoding="utf-8"))
    state = saved.model if saved.average is None else saved.average
    best = dict(saved.facts.get("best", {}))
    classes = tuple(facts["classes"])
    _write(Path(target), state, recipe, classes, facts["dataset"], saved.step, best)
    return saved.step


def _write(
    target: Path,
    state: Mapping[str, Tensor],
    recipe: Recipe,
    classes: tuple[str, ...],
    dataset: str,
    step: int,
    best: Mapping[str, Any],
) -> None:
    training = {
        "recipe": recipe.name,
        "dataset": dataset,
        "steps": step,
        "seed": recipe.train.seed,
        "best": dict(best),
    }
    save_network(target, state, recipe, classes, training)
