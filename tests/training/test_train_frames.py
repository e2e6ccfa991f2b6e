"""Training and evaluation on folders of frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.frame_folders import write_picture
from tests.support.train_fixtures import micro
from vidfeat.datasets import open_dataset
from vidfeat.datasets.scan import find_broken
from vidfeat.errors import UsageError
from vidfeat.training.evaluation_report import evaluate_subject, open_subject
from vidfeat.training.run import train
from vidfeat.training.settings import change


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frames")
    draw = np.random.default_rng(0)
    for part, count in (("train", 2), ("val", 1)):
        for label in ("dark", "light"):
            for number in range(count):
                level = 40 if label == "dark" else 200
                for index in range(10):
                    pixels = (level + draw.integers(0, 30, (48, 64, 3))).astype(np.uint8)
                    write_picture(root / f"{part}/{label}/v{number}/img_{index + 1}.png", pixels)
    return root


def test_every_layout_takes_folders_of_frames(root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("auto", root, frames_fps=Fraction(12))
    assert dataset.classes == ("dark", "light")
    assert [s.path for s in dataset.part("val").samples] == ["val/dark/v0", "val/light/v0"]
    assert find_broken(dataset, cache=tmp_path / "cache") == []
    lists = tmp_path / "train.txt"
    lists.write_text("light/v1 10 1\ndark/v0 10 0\n")
    listed = open_dataset("list", root / "train", lists=lists, frames_fps=Fraction(12))
    assert [(s.path, s.labels) for s in listed.samples] == [("light/v1", (1,)), ("dark/v0", (0,))]
    table = root / "train/labels.csv"
    table.write_text("path,label\nlight/v1,a\ndark/v0,b\n")
    try:
        assert len(open_dataset("csv", table, frames_fps=Fraction(12))) == 2
    finally:
        table.unlink()


def test_a_run_and_its_evaluation(root: Path, tmp_path: Path) -> None:
    recipe = change(micro("train.epochs=1"), ["data.frames_fps=12"])
    assert train(recipe, root, tmp_path / "run").complete
    result, _ = evaluate_subject(open_subject(str(tmp_path / "run")), root)
    assert len(result.scores) == 2
    assert not result.failures


def test_a_rate_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"data\.frames_fps is a rate such as 12"):
        micro("data.frames_fps=fast")
