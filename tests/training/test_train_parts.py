"""Training and evaluation agree on the parts of a dataset, whatever its folders say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.train_fixtures import micro, render_motion, render_video
from vidfeat.datasets import open_dataset
from vidfeat.errors import DataError, UsageError
from vidfeat.training.evaluation_report import evaluate_subject, open_subject
from vidfeat.training.run import train
from vidfeat.training.setup import open_data

QUICK = ("train.epochs=1", "train.epoch_clips=4", "evaluate.clips=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with ten videos each."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(20):
        render_video(
            root / "ab"[number % 2] / f"{number}.mp4", seed=number, frames=6, size=(16, 22)
        )
    return root


def moved(data: Path, target: Path, layout: str) -> Path:
    """The classes of a folder below, or above, the folder of a part."""
    for label in "ab":
        shutil.copytree(data / label, target / layout.format(label=label))
    return target


@pytest.mark.parametrize("layout", ["train/{label}", "{label}/training"])
def test_a_training_part_alone_is_held_out_from_and_evaluated_alike(
    data: Path, tmp_path: Path, layout: str
) -> None:
    root = moved(data, tmp_path / "data", layout)
    lines: list[dict[str, object]] = []
    run = tmp_path / "run"
    train(micro(*QUICK), root, run, report=lines.append)
    start = next(line for line in lines if line["event"] == "start")
    assert (start["train"], start["evaluate"]) == (16, 4)
    evaluation = next(line for line in lines if line["event"] == "evaluation")
    subject = open_subject(str(run), settings=("run.workers=0",))
    result, _ = evaluate_subject(subject, root)
    assert len(result.scores) == 4 and result.video_accuracy == evaluation["video@1"]
    whole, _ = evaluate_subject(subject, root, part="train")
    assert len(whole.scores) == 20
    with pytest.raises(DataError, match="no videos in its part 'test'"):
        evaluate_subject(subject, root, part="test")


@pytest.mark.parametrize("part", ["test", "testing", "val", "valid"])
def test_other_parts_alone_are_measured_whole_and_never_trained_on(
    data: Path, tmp_path: Path, part: str
) -> None:
    root = moved(data, tmp_path / "data", f"{part}/{{label}}")
    with pytest.raises(DataError, match="no videos in its part 'train'"):
        train(micro(*QUICK), root, tmp_path / "none")
    train(micro(*QUICK), data, tmp_path / "run")
    subject = open_subject(str(tmp_path / "run"), settings=("run.workers=0",))
    result, _ = evaluate_subject(subject, root)
    assert len(result.scores) == 20


@pytest.mark.parametrize("layout", ["b", "test/b", "b/test", "table"])
def test_one_class_alone_can_be_measured(data: Path, tmp_path: Path, layout: str) -> None:
    train(micro(*QUICK), data, tmp_path / "run")
    root = tmp_path / "alone"
    shutil.copytree(data / "b", root / ("b" if layout == "table" else layout))
    if layout == "table":
        rows = [f"b/{path.name},b,test" for path in (root / "b").iterdir()]
        (root / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    subject = open_subject(str(tmp_path / "run"), settings=("run.workers=0",))
    result, _ = evaluate_subject(subject, root)
    # without parts the same videos are measured as beside the other class: none was trained on
    trained = {s.path for s in open_dataset("folder", data).part("train").samples}
    assert len(result.scores) == (2 if layout == "b" else 10)
    assert layout != "b" or trained.isdisjoint(result.scores.paths)
    assert {result.scores.classes[label] for label in result.scores.labels} == {"b"}
    everything, _ = evaluate_subject(subject, root, part="all")
    assert len(everything.scores) == 10
    with pytest.raises(DataError, match="expected"):  # but no network learns from it
        train(micro(*QUICK), root, tmp_path / "none")


@pytest.mark.parametrize("groups", ["a,b", "g,g"])
def test_groups_that_leave_nothing_to_hold_out_are_told(data: Path, groups: str) -> None:
    first, second = groups.split(",")
    group_of = {"a": first, "b": second}
    rows = [
        f"{path.relative_to(data)},{path.parent.name},{group_of[path.parent.name]}"
        for path in data.rglob("*.mp4")
    ]
    file = data / f"{first}.csv"
    file.write_text("\n".join(["path,label,group", *rows]) + "\n")
    message = "each class has only one group; add videos of a second group to some class"
    with pytest.raises(DataError, match=message):
        train(micro(*QUICK), file, data / "none")


def test_one_class_that_the_network_does_not_know_is_refused(data: Path, tmp_path: Path) -> None:
    train(micro(*QUICK), data, tmp_path / "run")
    shutil.copytree(data / "b", tmp_path / "alone/test/c")
    subject = open_subject(str(tmp_path / "run"), settings=("run.workers=0",))
    with pytest.raises(UsageError, match="the network has no class 'c'"):
        evaluate_subject(subject, tmp_path / "alone")


def test_a_class_without_a_training_video_is_named(tmp_path: Path) -> None:
    root = render_motion(tmp_path / "data", train=1, val=1)
    shutil.rmtree(root / "train/rise")
    notes = open_data(micro(), root, None, tmp_path / "run").train.notes
    assert "no training video of rise (1 to evaluate): they cannot be found" in notes
    (parts,) = [note for note in notes if note.startswith("parts: train ")]
    assert "accuracy is measured on" in parts
