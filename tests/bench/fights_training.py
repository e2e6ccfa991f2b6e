"""The tiny recipe on recordings of fights: from the bundled weights, and from random ones.

    vidfeat prepare ../shared/data/fights -o fights/ --short-side 96    # once, for quick decoding
    python tests/bench/fights_training.py fights/

Five folds by recording: each video is classified by a network that has not seen its recording. The
interval is a bootstrap over whole recordings.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

from vidfeat.datasets.labels import LabelRow, read_labels
from vidfeat.evaluation.metrics import bootstrap_interval
from vidfeat.training.evaluation import hits
from vidfeat.training.evaluation_report import evaluate_subject, open_subject
from vidfeat.training.recipes import get_recipe
from vidfeat.training.run import train
from vidfeat.training.settings import change

FOLDS = 5


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def write_fold(file: Path, folder: Path, rows: Sequence[LabelRow], test: set[int]) -> None:
    """Write a labels.csv whose split column holds out the fold."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split", "group"])
        for number, row in enumerate(rows):
            part = "test" if number in test else "train"
            writer.writerow([folder.resolve() / row.path, row.label, part, row.group])


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Train, print the table, return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--inits", default="bundled,random")
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the five are done")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of the training")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args(arguments)
    labels = read_labels(options.folder / "labels.csv")
    y = np.array([row.label for row in labels.rows])
    names = np.array([row.group for row in labels.rows])
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=options.seed)
    folds = [test for _, test in splitter.split(y, y, names)][: options.folds]
    table = []
    for init in options.inits.split(","):
        right: dict[str, float] = {}
        begun = time.perf_counter()
        for number, test in enumerate(folds):
            with tempfile.TemporaryDirectory() as temporary:
                file, run = Path(temporary) / "labels.csv", Path(temporary) / "run"
                write_fold(file, options.folder, labels.rows, set(test.tolist()))
                recipe = change(
                    get_recipe("tiny"),
                    [
                        *(f"model.init={init}", f"train.seed={options.seed}"),
                        *("evaluate.every_epochs=0", "run.tensorboard=false", "run.scan=false"),
                        *options.settings,
                    ],
                )
                train(recipe, file, run)
                result, _ = evaluate_subject(open_subject(str(run)), file)
            found = zip(result.scores.paths, hits(result.scores, 1).tolist(), strict=True)
            right |= {Path(path).name: float(hit) for path, hit in found}
            print(f"{init}: fold {number + 1} {result.video_accuracy:.1%}", flush=True)
        tested = [row for row in labels.rows if Path(row.path).name in right]
        groups = np.unique([row.group for row in tested], return_inverse=True)[1]
        correct = np.array([right[Path(row.path).name] for row in tested])
        interval = bootstrap_interval(correct, groups.astype(np.int64), method="recordings")
        print(f"{init}: {interval}, {time.perf_counter() - begun:.0f} s", flush=True)
        table.append(Row(f"tiny on fights/ from {init}", interval.value, "as it comes"))
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
