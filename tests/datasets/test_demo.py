"""The tour, as ``make demo`` runs it: every step in a process of its own, and what it leaves."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from vidfeat.datasets.demo import CLASSES, render_demo


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("tour") / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "vidfeat", "demo", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_every_step_is_shown_and_every_file_is_there(tour: tuple[Path, str]) -> None:
    folder, output = tour
    for command in ("extract", "info", "finetune", "classify", "index", "search", "plot"):
        assert f"$ vidfeat {command} " in output
    ending = output[output.index("Open these:") :]
    for name in ("head/report.html", "timeline.png", "search.html", "map.png"):
        assert str(folder / name) in ending
        assert (folder / name).stat().st_size > 10_000


def test_all_videos_have_features(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    videos = {file.relative_to(folder / "videos") for file in folder.rglob("*.mp4")}
    with h5py.File(folder / "features.h5") as file:
        assert {Path(path) for path in file["videos/path"].asstr()[:]} == videos
        assert len(file["errors/path"]) == 0
        assert (file["videos/count"][:] > 0).all()


def test_every_video_of_a_class_is_labelled(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    with (folder / "videos" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(CLASSES)
    assert all((folder / "videos" / row["path"]).is_file() for row in rows)


def test_the_head_is_far_above_chance(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    results = json.loads((folder / "head" / "results.json").read_text())
    assert results["parts"][0]["video"]["accuracy"]["value"] > 2 / len(CLASSES)


def test_videos_that_are_there_are_kept(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    before = {file: file.stat().st_mtime_ns for file in (folder / "videos").rglob("*.mp4")}
    assert set(render_demo(folder / "videos")) == set(before)
    assert {file: file.stat().st_mtime_ns for file in before} == before
