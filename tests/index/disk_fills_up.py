"""Run on a disk of a chosen size: every change of an index meets a full disk at every page."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.index_fixtures import write_features
from tests.support.small_disk import Disk
from vidfeat.index import VideoIndex, change_index, verify_index

_MOST_TRIES = 400


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock"}


def answers(index: Path) -> list[tuple[str, float]]:
    query = np.random.default_rng(3).standard_normal((2, 32)).astype(np.float32)
    found = VideoIndex(index).search(query, k=5)
    return [(match.video, round(match.score, 4)) for match in found]


def fill(disk: Disk, what: str, change: Callable[[], object], limit: str, step: int) -> int:
    """Do a change with some pages, or files, more each time, until it succeeds."""
    index = disk.folder / "I"
    before = names(disk.folder)
    expected = answers(index) if index.exists() else None
    pages, files = disk.used
    for tried in range(_MOST_TRIES):
        more = tried * step
        if limit == "pages":
            disk.limit(pages=pages + more)
        else:
            disk.limit(files=files + more)
        where = f"{what}, {more} {limit} left"
        try:
            change()
        except OSError as error:
            assert error.errno == errno.ENOSPC, f"{where}: {error!r}"
            assert str(disk.folder) in str(error.filename), f"{where}: {error!r}"
        else:
            disk.limit()
            return tried
        assert names(disk.folder) == before, where
        if expected is not None:
            assert answers(index) == expected, where
    raise AssertionError(f"{what} never succeeds")


def main(disk: Disk, step: int) -> None:
    """Print how many times each change met a full disk."""
    outside = disk.folder.parent
    few = write_features(outside / "few.h5", 30, clips=4)
    many = write_features(outside / "many.h5", 150)
    more = write_features(outside / "more.h5", 30, first_seed=900)
    index = disk.folder / "I"
    met = {}

    def build(features: Path, **options: object) -> Callable[[], object]:
        return lambda: VideoIndex.build(features, index, **options)

    builds = {
        "flat": build(few),
        "hnsw": build(few, kind="hnsw"),
        "ivfsq": build(many, kind="ivfsq"),
        "lists on disk": build(many, kind="ivfsq", max_memory=10_000),
    }
    changes = {
        "--add": lambda: change_index(index, add=[more]),
        "--remove": lambda: change_index(index, remove=["a/v000.mp4"]),
        "--add and --remove": lambda: change_index(index, add=[more], remove=["b/"]),
        "--rebuild": lambda: change_index(index, rebuild=True),
        "--overwrite": build(many, kind="ivfsq", overwrite=True),
    }
    for limit in ("pages", "files"):
        for what, change in (builds | changes).items():
            if what in changes:
                VideoIndex.build(few, index)
            met[f"{what}, {limit}"] = fill(disk, what, change, limit, step)
            assert verify_index(index) == []
            shutil.rmtree(index)
    print(json.dumps(met))
