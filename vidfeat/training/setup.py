"""Preparing a run from a recipe and a folder of data, to start or to resume it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from vidfeat.datasets import DatasetPart, VideoDataset, open_dataset, synthetic_motion
from vidfeat.datasets.holdout import with_evaluation_part
from vidfeat.errors import UsageError, VidfeatError
from vidfeat.system.files import canonical_json, is_dead_leftover, write_json
from vidfeat.system.wording import counted
from vidfeat.training import checkpoint
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import World, cores_per_process
from vidfeat.training.order import EpochOrder
from vidfeat.training.settings import differences
from vidfeat.training.start import LENGTH_SETTINGS, extended, read_as_stored
from vidfeat.training.toml import read_recipe, write_recipe

T = TypeVar("T")

RECIPE_FILE = "recipe.toml"
DATA_FILE = "data.json"
CHECKPOINTS = "checkpoints"
WEIGHTS_FILE = "model.safetensors"

# sections that may be changed on resuming: they affect no weights
_FREE = ("run", "evaluate")
# filled in at the start; may be left open on resuming
_RESOLVED = (
    "train.batch",
    "train.epoch_clips",
    "model.midplanes",
    "model.bn_eps",
    "model.init",
    "data.fps",
)


@dataclass(frozen=True)
class RunData:
    """The videos of a run."""

    train: VideoDataset
    evaluate: VideoDataset
    digest: str
    """Hash of the training samples in their order, which the order of the steps depends on."""
    left_out: tuple[str, ...] = ()
    """Videos that cannot be read, and segments past the end of one, found before the start."""


def on_main(world: World, work: Callable[[], T]) -> T:
    """Call a function in the main process; all processes return its result or raise its error."""
    outcome: tuple[Any, VidfeatError | None] = (None, None)
    if world.is_main:
        try:
            outcome = (work(), None)
        except VidfeatError as error:
            if world.size == 1:
                raise
            outcome = (None, error)
    value, failure = world.broadcast(outcome)
    if failure is not None:
        raise failure
    result: T = value
    return result


def settle(recipe: Recipe, num_samples: int, world: World) -> Recipe:
    """Fill in what the recipe leaves open: batch, clips of an epoch, threads.

    Raises:
        UsageError: a batch that the processes cannot share evenly.
    """
    train = recipe.train
    batch = train.batch or train.micro_batch * world.size
    threads = recipe.run.threads or _threads(recipe, world)
    settled = replace(
        recipe,
        train=replace(train, batch=batch, epoch_clips=train.epoch_clips or num_samples),
        run=replace(recipe.run, threads=threads),
    )
    check_share(settled, world)
    return settled


def _threads(recipe: Recipe, world: World) -> int:
    """All cores but the one that decodes: torch's threads wait for the slowest of them."""
    cores = cores_per_process(world.local_size)
    return cores if recipe.run.workers == 0 else max(1, cores - 1)


def check_share(recipe: Recipe, world: World) -> None:
    """Check that the processes can share the batch.

    Raises:
        UsageError: they cannot.
    """
    batch = recipe.train.batch
    if batch % world.size:
        raise UsageError(
            f"train.batch {batch} cannot be shared evenly by {world.size} processes: "
            f"set train.batch={batch // world.size * world.size or world.size}"
        )
    if recipe.augment.mixup and (batch // world.size % 2 or recipe.train.micro_batch % 2):
        raise UsageError(
            "augment.mixup mixes clips in pairs: give each process an even share of train.batch, "
            "and an even train.micro_batch"
        )


def stored_places(folder: Path) -> tuple[str | None, str | None]:
    """The folders of data and lists that a run was started with; None if not recorded."""
    file = folder / DATA_FILE
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return known.get("root"), known.get("lists")


def start_run(
    recipe: Recipe,
    folder: Path,
    data: RunData,
    world: World,
    *,
    resume: bool,
    where: Mapping[str, str | None],
) -> Recipe:
    """Make the folder of a run, or check that the existing one can be resumed.

    Args:
        recipe: the one given.
        folder: of the run.
        data: its videos.
        world: this process's rank and group.
        resume: resume the existing run.
        where: ``root`` and ``lists``: the folders of the data, for resuming without naming them.

    Returns:
        The recipe to run: settled, and on a resume the stored one with the sections ``run`` and
        ``evaluate`` of the given one, and its length if that changes no learning rate used so far.

    Raises:
        UsageError: the folder has a run and ``resume`` is off; or the run there has another
            recipe or other data.
    """
    stored_file = folder / RECIPE_FILE
    if stored_file.is_file() and not resume:
        raise UsageError(
            f"{folder} has a training run already: give resume to continue it, or choose another "
            f"folder",
            field="resume",
        )
    if not stored_file.is_file():
        if folder.is_dir() and any(not _of_a_failed_start(path) for path in folder.iterdir()):
            raise UsageError(f"{folder} has files but no training run: choose an empty folder")
        settled = settle(recipe, len(data.train), world)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / DATA_FILE, {**_describe(data), **where})
        write_recipe(stored_file, settled)  # last: it is what makes the folder a run
        return settled
    stored = read_as_stored(read_recipe(stored_file))
    changed = [
        key
        for key in differences(recipe, stored, but=_FREE)
        if not (key in _RESOLVED and _left_open(recipe, key))
    ]
    longer = bool(changed) and LENGTH_SETTINGS.issuperset(changed)
    if changed and not longer:
        raise UsageError(
            f"{folder} was started with other settings of {', '.join(changed)}: leave them as in "
            f"its {RECIPE_FILE}, or start another run with model.init={folder}"
        )
    known = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
    if known["digest"] != data.digest:
        raise UsageError(
            f"the data has changed since {folder} was started: {known['train']:,} training videos "
            f"then, {len(data.train):,} now, or different ones; restore them, or start another run "
            f"with model.init={folder}"
        )
    if any(known.get(name) != place for name, place in where.items()):  # it has moved
        write_json(folder / DATA_FILE, {**known, **where})
    if longer:
        point, _ = resume_point(folder)
        done = 0 if point is None else int(point.name.rpartition("-")[2])
        train = stored.train
        order = EpochOrder(train.seed, len(data.train), train.epoch_clips, train.batch)
        per_epoch = order.steps_per_epoch
        stored = extended(stored, recipe, folder, done=done, per_epoch=per_epoch)
        write_recipe(stored_file, stored)
    threads = recipe.run.threads or stored.run.threads
    going_on = replace(stored, run=replace(recipe.run, threads=threads), evaluate=recipe.evaluate)
    check_share(going_on, world)
    return going_on


def _of_a_failed_start(path: Path) -> bool:
    """Whether a file was left by a run that was killed, or found the disk full, at its start."""
    return path.name == DATA_FILE or is_dead_leftover(path)


def _left_open(recipe: Recipe, key: str) -> bool:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name) in (0, "default", "")


def open_data(
    recipe: Recipe,
    root: Path,
    lists: Path | None,
    folder: Path,
    find_broken: Callable[[VideoDataset], list[str]] | None = None,
) -> RunData:
    """Read the recipe's dataset; videos found broken when the run was started are left out.

    Args:
        recipe: says which dataset and which split.
        root: its folder.
        lists: the folder of its lists, if different.
        folder: of the run; if it has been started, what it left out stays left out.
        find_broken: finds a dataset's videos that cannot be read; None skips this check.

    Raises:
        DataError: the data is not laid out as the dataset is, or a part is empty.
    """
    dataset = open_dataset(
        recipe.data.dataset,
        root,
        lists=lists,
        split=recipe.data.split,
        holdout=recipe.data.holdout,
        frames_fps=recipe.data.folder_fps,
    )
    dataset = with_evaluation_part(dataset, recipe.data.holdout)
    file = folder / DATA_FILE
    if (folder / RECIPE_FILE).is_file():
        broken = json.loads(file.read_text(encoding="utf-8"))["left_out"]
    else:
        rendered = recipe.data.dataset == synthetic_motion.NAME
        broken = find_broken(dataset) if find_broken is not None and not rendered else []
    whole = replace(
        dataset.without(broken), notes=(*dataset.notes, *_left_out_notes(dataset, broken))
    )
    whole = replace(whole, notes=(*whole.notes, *_use_of_parts(whole), *_in_both_parts(whole)))
    whole = replace(whole, notes=(*whole.notes, *untrained_classes(whole)))
    train = whole.part("train")
    identity = [[s.path, s.labels, s.start_seconds, s.end_seconds] for s in train.samples]
    text = canonical_json({"classes": train.classes, "samples": identity, "left_out": broken})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return RunData(train, whole.part(whole.evaluation_part), digest, tuple(broken))


def _left_out_notes(dataset: VideoDataset, left_out: Sequence[str]) -> list[str]:
    """What was left out and why, one line each."""
    paths = {sample.path for sample in dataset.samples}
    videos = [name for name in left_out if name in paths]
    behind = [name for name in left_out if name not in paths]
    notes = []
    if videos:
        told = counted(len(videos), "video cannot be read and is", "videos cannot be read and are")
        notes.append(f"{told} left out (the first: {videos[0]})")
    if behind:
        notes.append(
            counted(
                len(behind),
                "segment starts past the end of its video and is",
                "segments start past the end of their video and are",
            )
            + f" left out (the first: {behind[0]})"
        )
    return notes


def _use_of_parts(dataset: VideoDataset) -> list[str]:
    """A note on what each part is used for, if there is more than one."""
    there = Counter(sample.part for sample in dataset.samples)
    if len(there) < 2:
        return []
    order: tuple[DatasetPart, ...] = ("train", "val", "test", "unused")
    counts = ", ".join(f"{part} {there[part]:,}" for part in order if there[part])
    measured = dataset.evaluation_part
    unseen = "" if measured == "test" or not there["test"] else "; test is not used"
    return [f"parts: {counts}; accuracy is measured on {measured}{unseen}"]


def _in_both_parts(dataset: VideoDataset) -> list[str]:
    """A note on samples that are both trained on and evaluated, as some lists have them."""
    trained = {sample.identity for sample in dataset.samples if sample.part == "train"}
    shared = [
        sample.identity
        for sample in dataset.samples
        if sample.part == dataset.evaluation_part and sample.identity in trained
    ]
    if not shared:
        return []
    told = counted(len(shared), "video is", "videos are")
    return [
        f"warning: {told} in train and in {dataset.evaluation_part} (the first: {shared[0]}): the "
        "accuracy is inflated"
    ]


def untrained_classes(dataset: VideoDataset) -> list[str]:
    """A note on classes that have videos to evaluate and none to train on."""
    counts = {
        part: Counter(label for s in dataset.samples if s.part == part for label in s.labels)
        for part in ("train", dataset.evaluation_part)
    }
    lost = {
        dataset.classes[label]: count
        for label, count in sorted(counts[dataset.evaluation_part].items())
        if not counts["train"][label]
    }
    if not lost:
        return []
    shown = ", ".join(f"{name} ({count} to evaluate)" for name, count in list(lost.items())[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    return [f"no training video of {shown}{more}: they cannot be found"]


def _describe(data: RunData) -> dict[str, Any]:
    return {
        "dataset": data.train.name,
        "classes": list(data.train.classes),
        "train": len(data.train),
        "evaluate": len(data.evaluate),
        "missing": len(data.train.missing),
        "left_out": list(data.left_out),
        "digest": data.digest,
    }


def resume_point(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a run, and why newer ones were skipped."""
    return checkpoint.newest(folder / CHECKPOINTS)
