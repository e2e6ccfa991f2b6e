"""Evaluating a finished run, or weights, and writing the report files."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidfeat.datasets import DatasetPart, VideoDataset, open_dataset
from vidfeat.datasets.holdout import with_evaluation_part
from vidfeat.errors import UsageError, WeightsError
from vidfeat.evaluation.scores import Scores, write_scores
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import atomic_write, write_json
from vidfeat.system.float32_rules import float32_rules
from vidfeat.training.class_names import plain_name
from vidfeat.training.config import DataConfig, ModelConfig, Recipe
from vidfeat.training.distributed import World, cores_per_process, join
from vidfeat.training.evaluation import NetworkEvaluation, evaluate_network
from vidfeat.training.feed import Feed, workers_of
from vidfeat.training.settings import change
from vidfeat.training.setup import RECIPE_FILE, on_main
from vidfeat.training.toml import read_recipe
from vidfeat.weights.load import LoadedWeights, load_weights


@dataclass(frozen=True)
class Subject:
    """A network to evaluate, and how its clips are made."""

    name: str
    loaded: LoadedWeights
    recipe: Recipe


def open_subject(source: str, model: str | None = None, settings: Sequence[str] = ()) -> Subject:
    """Open a run's folder, a weights file, or published weights by name.

    Args:
        source: a run, a file, or the name of published weights.
        model: the network, if the source does not name it.
        settings: changes to the recipe, such as ``evaluate.clips=10``.

    Raises:
        UsageError: a run that is not finished, a source that needs ``model``, or settings that do
            not exist.
        WeightsError: weights that cannot be read or do not fit.
    """
    subject = _open(source, model)
    return replace(subject, recipe=change(subject.recipe, settings))


def _open(source: str, model: str | None) -> Subject:
    path = Path(source)
    if (path / RECIPE_FILE).is_file():
        if not (path / "model.safetensors").is_file():
            raise UsageError(
                f"{path} is not finished: resume it, or evaluate one of its checkpoints "
                f"({path}/checkpoints/step-*/model.safetensors) and say which network it is"
            )
        recipe = read_recipe(path / RECIPE_FILE)
        return Subject(source, load_weights(source, recipe.model.name), recipe)
    if model is None:
        raise UsageError(
            f"{source} is not a training run: give model, the network of these weights",
            field="model",
        )
    loaded = load_weights(source, model)
    return Subject(source, loaded, _recipe_of(loaded))


def _recipe_of(loaded: LoadedWeights) -> Recipe:
    """A recipe with the clips and the preprocessing that the weights expect."""
    plan, preprocess = loaded.plan, loaded.preprocess
    if plan is None or preprocess is None:
        raise WeightsError(
            f"{loaded.name} does not record how its clips are made: evaluate a training run, or "
            f"published weights"
        )
    if loaded.flow != "farneback":
        raise WeightsError(
            f"{loaded.name} needs TV-L1 flow, but evaluate computes Farneback's: extract and "
            "classify compute the flow that it needs"
        )
    if preprocess.crop[0] != preprocess.crop[1]:
        raise WeightsError(f"{loaded.name} needs a crop that is not square: {preprocess.crop}")
    resize = preprocess.resize
    data = DataConfig(
        modality="flow" if loaded.in_channels == 2 else "rgb",
        frames=plan.frames,
        stride=plan.stride,
        fps="" if plan.fps is None else str(plan.fps),
        scale=(resize,) if isinstance(resize, int) else resize,
        crop=preprocess.crop[0],
        mean=preprocess.mean,
        std=preprocess.std,
    )
    return Recipe(name="evaluation", data=data, model=ModelConfig(name=loaded.model))


def with_classes(dataset: VideoDataset, names: tuple[str, ...] | None, count: int) -> VideoDataset:
    """The dataset with its labels numbered as the network numbers its classes.

    Names are compared without regard to case and with underscores as spaces. A dataset with fewer
    classes is fine, as long as the network knows each of them.

    Raises:
        UsageError: the network lacks a class of the dataset.
    """
    if names is None or tuple(names) == dataset.classes:
        if len(dataset.classes) != count:
            raise UsageError(
                f"the network has {count} classes without names, {dataset.name} has "
                f"{len(dataset.classes)}: they cannot be matched"
            )
        return dataset
    places = _places(names, dataset.classes)
    lacking = [name for name, own in zip(dataset.classes, places, strict=True) if not own]
    if lacking:
        raise UsageError(
            f"the network has no class {lacking[0]!r} ({len(lacking)} of the "
            f"{len(dataset.classes)} classes of {dataset.name} are unknown to it): evaluate on "
            f"the data that it was trained for"
        )
    for name, own in zip(dataset.classes, places, strict=True):
        if len(own) > 1:
            found = ", ".join(repr(names[number]) for number in own)
            raise UsageError(
                f"the class {name!r} of {dataset.name} may be any of the network's {found}: name "
                "it as one of them"
            )
    number = [own[0] for own in places]
    if len(set(number)) < len(number):
        twins = [name for name, own in zip(dataset.classes, number, strict=True)
                 if number.count(own) > 1]  # fmt: skip
        raise UsageError(
            f"the classes {', '.join(map(repr, twins))} of {dataset.name} are the same one to the "
            f"network, {names[number[dataset.classes.index(twins[0])]]!r}: rename or join them"
        )
    samples = tuple(
        replace(sample, labels=tuple(number[label] for label in sample.labels))
        for sample in dataset.samples
    )
    return replace(dataset, classes=tuple(names), samples=samples)


def _places(names: Sequence[str], wanted: Sequence[str]) -> list[list[int]]:
    """The network's candidates for each wanted class: the exact name, or similar ones."""
    exact, plain = {name: number for number, name in enumerate(names)}, defaultdict(list)
    for number, name in enumerate(names):
        plain[plain_name(name)].append(number)
    return [[exact[name]] if name in exact else plain[plain_name(name)] for name in wanted]


def evaluate_subject(
    subject: Subject,
    data: Path,
    *,
    lists: Path | None = None,
    part: DatasetPart | Literal["all"] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    before: Callable[[VideoDataset], None] | None = None,
) -> tuple[NetworkEvaluation, World]:
    """Evaluate on a dataset, in a single process or in all those that torchrun started.

    Args:
        subject: see :func:`open_subject`.
        data: the dataset's folder.
        lists: the folder of its lists, if different.
        part: ``val``, ``test``, ``train`` or ``all``; None: the one that accuracy is reported on.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called with the number of videos done, and the total.
        before: called with the dataset before the first video.

    Raises:
        UsageError: classes that do not match.
        DataError: the data is not laid out as the dataset is, or no video could be read.
        WeightsError: an output of the network is NaN or infinite.
    """
    import torch

    recipe = subject.recipe
    if recipe.data.modality == "flow":
        from vidfeat.video.flow import require_opencv

        require_opencv()
    with join(device) as world:

        def opened() -> VideoDataset:
            config = recipe.data
            whole = open_dataset(
                config.dataset,
                data,
                lists=lists,
                split=config.split,
                holdout=config.holdout,
                min_classes=1 if subject.loaded.class_names else 2,
                frames_fps=config.folder_fps,
            )
            if part is None:  # as in training: only the held-out part is measured
                whole = with_evaluation_part(whole, config.holdout)
            chosen = whole if part == "all" else whole.part(part or whole.evaluation_part)
            return with_classes(chosen, subject.loaded.class_names, subject.loaded.num_classes)

        videos = on_main(world, opened)
        if before is not None and world.is_main:
            before(videos)
        torch.set_num_threads(recipe.run.threads or cores_per_process(world.local_size))
        network = subject.loaded.build().to(world.device)
        exact = float32_rules(tf32=False, device=world.device)
        with exact, Feed(recipe, workers_of(recipe, world.local_size)) as feed:
            result = evaluate_network(network, videos, recipe, feed, world, progress=progress)
        return result.noting(weights=subject.name, recipe=recipe.name), world


def summary_of(scores: Scores) -> dict[str, Any]:
    """video@1 of scores, such as those of two fused networks; video@5 with six classes or more."""
    from vidfeat.training.evaluation import hits, top5_accuracy

    top5 = top5_accuracy(scores)
    return {
        "videos": len(scores),
        "video@1": float(hits(scores, 1).mean()),
        **({} if top5 is None else {"video@5": top5}),
    }


def write_evaluation_report(folder: Path, scores: Scores, summary: dict[str, Any]) -> list[Path]:
    """Write ``summary.json``, ``classes.csv``, ``confusion.csv``, ``confusion.png``, ``scores.h5``.

    Videos without a known label count in none of the tables.

    Raises:
        DataError: scores that are not finite.
    """
    from vidfeat.evaluation.metrics import confusion_matrix
    from vidfeat.evaluation.plots import confusion, figure

    scores.require_finite("the scores to report")
    folder.mkdir(parents=True, exist_ok=True)
    count = len(scores.classes)
    predicted = scores.scores.argmax(axis=1).astype(np.int64)
    # with several labels, the predicted one counts as true if it is among them
    truth = np.array(
        [
            said if said in accepted else true
            for said, accepted, true in zip(
                predicted.tolist(), scores.accepted(), scores.labels.tolist(), strict=True
            )
        ],
        np.int64,
    )
    matrix = confusion_matrix(truth, predicted, count)
    write_json(folder / "summary.json", summary)
    totals = matrix.sum(axis=1)
    with _table(folder / "classes.csv", ["class", "videos", "right", "accuracy"]) as writer:
        for index, name in enumerate(scores.classes):
            total, right = int(totals[index]), int(matrix[index, index])
            writer.writerow([name, total, right, f"{right / total:.4f}" if total else ""])
    with _table(folder / "confusion.csv", ["true \\ predicted", *scores.classes]) as writer:
        for name, row in zip(scores.classes, matrix.tolist(), strict=True):
            writer.writerow([name, *row])
    side = float(np.clip(2.5 + count * 0.25, 4.5, 14))
    with (
        figure(side, side) as (made, axes),
        atomic_write(folder / "confusion.png") as temporary,
    ):
        confusion(axes[0], matrix, scores.classes)
        made.savefig(temporary, format="png", dpi=120)
    write_scores(folder / "scores.h5", scores)
    names = ("summary.json", "classes.csv", "confusion.csv", "confusion.png", "scores.h5")
    return [folder / name for name in names]


@contextmanager
def _table(path: Path, header: list[str]) -> Iterator[Any]:
    """A CSV writer; its file is written completely or not at all."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer
