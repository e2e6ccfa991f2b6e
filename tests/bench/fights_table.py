"""Heads on 300 clips of surveillance cameras, fight or not, cross-validated by recording.

    python tests/bench/fights_table.py ../shared/data/fights [--features NAME=FILE ...]

Rows are features, columns are heads. Every recording is classified by heads that have not seen it:
five folds by group, repeated five times with other folds; hyper-parameters are chosen inside each
training part, again by group. The interval is a bootstrap over whole recordings.

Two kinds of features need no training at all: the mean absolute difference of successive frames on
a grid of 8 x 8 cells, and an untrained network with seeded random weights (given as a feature file,
which ``vidfeat extract FOLDER -o FILE --weights random --clips 2`` makes).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.labels import Labels, read_labels
from vidfeat.datasets.samples import Samples, collect
from vidfeat.heads.cross_validation import CrossValidation, cross_validate
from vidfeat.heads.scorers import HEAD_KINDS, HeadKind
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.reader import FeatureStore
from vidfeat.video.reader import open_video, to_rgb

GRID = 8
SMALL_HEIGHT = 120  # large frames are subsampled to about this many lines
FOLDS = 5
REPEATS = 5
INNER_FOLDS = 4
# An MLP is fitted hundreds of times here: three penalties and few epochs are enough.
PARAMS: dict[HeadKind, dict[str, object]] = {"mlp": {"alpha": (10.0, 1.0, 0.1), "epochs": 60}}


def frame_differences(path: Path) -> NDArray[np.float32]:
    """Mean absolute difference of successive grey frames, (64,), on a grid of 8 x 8 cells."""
    total, count = np.zeros((GRID, GRID)), 0
    before: NDArray[np.float32] | None = None
    with open_video(path) as video:
        for _, frame in video.frames(range(video.info.num_frames)):
            picture = to_rgb(frame)
            step = max(1, picture.shape[0] // SMALL_HEIGHT)
            grey = picture[::step, ::step].mean(axis=2, dtype=np.float32)
            height, width = (side // GRID * GRID for side in grey.shape)
            grey = grey[:height, :width]
            if before is not None:
                cells = np.abs(grey - before).reshape(GRID, height // GRID, GRID, width // GRID)
                total += cells.mean(axis=(1, 3))
                count += 1
            before = grey
    return (total / max(count, 1)).astype(np.float32).ravel()


def difference_samples(folder: Path, labels: Labels) -> Samples:
    """One vector per video: its frame differences."""
    vectors = np.stack([frame_differences(folder / row.path) for row in labels.rows])
    count = len(labels)
    index = {label: i for i, label in enumerate(labels.classes)}
    return Samples(
        vectors=vectors,
        first=np.arange(count + 1, dtype=np.int64),
        store_rows=np.arange(count, dtype=np.int64),
        start_seconds=np.zeros(count),
        end_seconds=np.ones(count),
        rows=labels.rows,
        classes=labels.classes,
        y=np.array([index[row.label] for row in labels.rows]),
        has_groups=True,
    )


def judge(samples: Samples, kind: HeadKind) -> CrossValidation:
    """Cross-validate with five folds by group, five times."""
    options = HeadOptions(kind, params=PARAMS.get(kind, {}), folds=INNER_FOLDS, calibrate=False)
    return cross_validate(samples, options, folds=FOLDS, repeats=REPEATS)


def main(folder: Path, features: dict[str, Path]) -> None:
    """Print the table."""
    labels = read_labels(folder / "labels.csv")
    rows: dict[str, Samples] = {}
    for name, file in features.items():
        with FeatureStore(file) as store:
            rows[name] = collect(store, labels)
    rows["frame differences, 8 x 8"] = difference_samples(folder, labels)
    print(f"{'features':28s}" + "".join(f"{kind:>28s}" for kind in HEAD_KINDS))
    for name, samples in rows.items():
        begun = time.perf_counter()
        cells = []
        for kind in HEAD_KINDS:
            found = judge(samples, kind)
            cells.append(f"{found.interval} ±{100 * found.spread:.1f}")
        took = time.perf_counter() - begun
        line = "".join(f"{cell:>28s}" for cell in cells)
        print(f"{name:28s}{line}  {took:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--features", action="append", default=[], metavar="NAME=FILE")
    given = parser.parse_args()
    pairs = (text.partition("=") for text in given.features)
    main(given.folder, {name: Path(file) for name, _, file in pairs})
