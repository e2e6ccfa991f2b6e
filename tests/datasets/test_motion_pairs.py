"""Rendered motion: the frames of a pair are the same, only their order differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidfeat.datasets import open_dataset
from vidfeat.datasets.motion_pairs import CLASSES, PAIRS, render_scene, write_motion_pairs
from vidfeat.video.reader import read_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion")
    write_motion_pairs(folder, train=2, val=1, frames=10, size=(32, 42))
    return folder


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_has_the_same_decoded_frames_in_reverse(folder: Path, pair: str) -> None:
    forwards, backwards = PAIRS[pair]
    for part, count in (("train", 2), ("val", 1)):
        for index in range(count):
            name = f"{index:04d}.mp4"
            first = read_frames(folder / part / forwards / name, range(10))
            second = read_frames(folder / part / backwards / name, range(10))
            assert np.array_equal(first, second[::-1])
            assert not np.array_equal(first[0], first[-1])


@pytest.mark.parametrize("pair", PAIRS)
def test_scenes_come_from_their_seed_and_move(pair: str) -> None:
    first = render_scene(pair, np.random.default_rng(3))
    assert np.array_equal(first, render_scene(pair, np.random.default_rng(3)))
    assert not np.array_equal(first, render_scene(pair, np.random.default_rng(4)))
    assert first.shape == (16, 48, 64, 3) and first.dtype == np.uint8
    steps = np.abs(np.diff(first.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0


def test_it_is_a_dataset_and_is_written_once(folder: Path) -> None:
    dataset = open_dataset("auto", folder)
    assert dataset.classes == CLASSES and len(dataset.classes) == 8
    assert len(dataset.part("train")) == 16 and len(dataset.part("val")) == 8
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    (folder / "val/rise/0000.mp4").unlink()
    write_motion_pairs(folder, train=2, val=1, frames=10, size=(32, 42))
    kept = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert len(kept) == len(stamps) - 2  # both of a pair are written together
