"""Training heads on 10,000 videos of ten clips and 512 dimensions, in ten classes.

    python tests/bench/bench_heads.py [--videos 10000] [--folder DIR]

Five folds x five values of C and the final fit, the default of ``vidfeat finetune``: on the mean
vector of each video, and clip by clip, which fits ten times as many rows 26 times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidfeat.datasets.labels import labels_from_folders
from vidfeat.datasets.samples import Samples, collect
from vidfeat.heads.scorers import HeadKind
from vidfeat.heads.selection import HeadOptions, fit
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import RunIdentity, VideoRecord
from vidfeat.store.writer import write_store

DIMENSION = 512
CLASSES = 10
CLIPS = 10


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def write_features(path: Path, videos: int) -> None:
    """Write features of ten overlapping classes: about four of five videos are separable."""
    random = np.random.default_rng(0)
    centres = 0.12 * random.normal(size=(CLASSES, DIMENSION))
    start = np.arange(CLIPS, dtype=np.float64)
    rows = []
    for number in range(videos):
        label = number % CLASSES
        middle = centres[label] + random.normal(size=DIMENSION)
        vectors = middle + 0.5 * random.normal(size=(CLIPS, DIMENSION))
        record = VideoRecord(
            f"class{label}/{number:05d}.mp4", 10.0, 25.0, 320, 240, 250, "packets", 1, 1
        )
        rows.append((record, Embeddings(vectors.astype(np.float32), start, start + 1)))
    write_store(path, RunIdentity({"model": "made up"}, "space", "run", DIMENSION), rows)


def seconds_of(samples: Samples, options: HeadOptions) -> float:
    """How long choosing and fitting takes."""
    begun = time.perf_counter()
    fit(samples, options)
    return time.perf_counter() - begun


def measure(folder: Path, videos: int) -> list[Row]:
    """Write and read the features, and train heads of every kind."""
    file = folder / "features.h5"
    write_features(file, videos)
    begun = time.perf_counter()
    with FeatureStore(file) as store:
        samples = collect(store, labels_from_folders(store.paths))
    samples.pooled()
    rows = [Row("read and pool (s)", time.perf_counter() - begun, "")]
    searched: tuple[HeadKind, ...] = ("linear", "svm", "knn")
    for kind in searched:
        target = "about 60 on two cores" if kind == "linear" else ""
        taken = seconds_of(samples, HeadOptions(kind))
        rows.append(Row(f"{kind}, pooled, 5 folds x 5 values (s)", taken, target))
    taken = seconds_of(samples, HeadOptions(unit="clips"))
    rows.append(Row("linear, clip by clip, 5 folds x 5 values (s)", taken, ""))
    return rows


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run all and return the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="for the feature file; a temporary one if not")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        return measure(Path(name), given.videos)


if __name__ == "__main__":
    for row in main():
        print(f"{row.name:60} {row.figure:10.3f}   {row.target}")
