"""Clips that cannot be read: replaced, named, and the same ones whenever a run is resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.train_fixtures import (
    MICRO,
    finish,
    micro,
    render_video,
    same_weights,
    settings_as_options,
    start_processes,
)
from vidfeat.datasets.scan import find_broken
from vidfeat.errors import DataError
from vidfeat.training.log import read_log
from vidfeat.training.run import train

SETTINGS = (
    "data.scale=[32,44]",  # batch norm wants more than one value for a batch of one clip
    "data.crop=32",
    "train.epochs=1",
    "train.epoch_clips=24",
    "evaluate.clips=1",
    "run.checkpoint_every=5",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos to train on, four of which are no videos, and two to evaluate."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(12):
        part = "train" if number < 10 else "val"
        file = root / part / "ab"[number % 2] / f"{number}.mp4"
        render_video(file, seed=number, frames=6, size=(16, 22))
        if number in (2, 3, 4, 7):
            file.write_bytes(b"not a video")
    return root


def events(folder: Path, name: str) -> list[dict[str, object]]:
    return [line for line in read_log(folder) if line["event"] == name]


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (1, 1), (2, 0)])
def test_a_share_of_which_no_clip_can_be_read_is_replaced(
    data: Path, tmp_path: Path, batch: int, workers: int
) -> None:
    settings = (*SETTINGS, f"train.batch={batch}")
    result = train(micro(*settings, f"run.workers={workers}"), data, tmp_path / "a")
    assert result.complete
    named = {str(line["path"]).rpartition("/")[2] for line in events(tmp_path / "a", "unreadable")}
    assert named == {"2.mp4", "3.mp4", "4.mp4", "7.mp4"}
    for until in (2, 3, 7, 11, None):
        train(micro(*settings), data, tmp_path / "b", resume=True, until=until)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert [line["loss"] for line in events(tmp_path / "a", "step")] == [
        line["loss"] for line in events(tmp_path / "b", "step")
    ]


def test_one_clip_a_process_is_replaced_too(data: Path, tmp_path: Path) -> None:
    settings = (*MICRO, *SETTINGS, "train.batch=2")
    options = ["tiny", "--data", str(data), *settings_as_options(settings)]
    finish(start_processes([*options, "--out", str(tmp_path / "two")], 2))
    assert (tmp_path / "two/model.safetensors").is_file()
    assert any(line.get("unreadable") for line in events(tmp_path / "two", "step"))


def test_a_run_in_which_nothing_can_be_read_ends(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    for file in (copy / "train").rglob("*.mp4"):
        file.write_bytes(b"not a video")
    with pytest.raises(DataError, match="none of 10 clips of step 0 could be read"):
        train(micro(*SETTINGS, "train.batch=1"), copy, tmp_path / "run")


def test_segments_behind_the_end_are_left_out_after_the_scan(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    rows = ["path,label,start_seconds,end_seconds,split"]
    for number in (0, 1, 5, 6, 8, 9):
        path = f"train/{'ab'[number % 2]}/{number}.mp4"
        rows.append(f"{path},{'ab'[number % 2]},0,0.1,{'train' if number < 8 else 'test'}")
        rows += [f"{path},{'ab'[number % 2]},50,52,train"] * (number < 2)
    (copy / "labels.csv").write_text("\n".join(rows) + "\n")
    for until in (3, None):
        train(
            micro(*SETTINGS, "train.batch=1"),
            copy,
            tmp_path / "run",
            resume=True,
            find_broken=lambda dataset: find_broken(dataset, cache=tmp_path / "scan.jsonl"),
            until=until,
        )
    assert not events(tmp_path / "run", "unreadable")
    (start,) = events(tmp_path / "run", "start")
    assert start["train"] == 4
    assert (
        "2 segments start past the end of their video and are left out (the first: "
        "train/a/0.mp4#t=50,52)" in str(start["data"])
    )
