"""Which networks see motion: the tiny recipe on classes that differ only in the order of frames.

    python tests/bench/bench_motion.py [--networks r2plus1d,fr2d] [--folder DIR] [--picture FILE]

Classes come in time-reversed pairs (``vidfeat.datasets.motion_pairs``). *Accuracy* is video@1 over
all eight classes; *within pairs* compares only the scores of the two classes of a video's own pair:
a network that cannot tell forwards from backwards gets one half.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidfeat.datasets.motion_pairs import PAIRS, write_motion_pairs
from vidfeat.evaluation.scores import Scores
from vidfeat.training.console import Console
from vidfeat.training.evaluation_report import evaluate_subject, open_subject
from vidfeat.training.recipes import get_recipe
from vidfeat.training.run import train
from vidfeat.training.settings import change

NETWORKS = {
    "r2plus1d": "R(2+1)D",
    "r3d": "R3D",
    "mc3": "MC3",
    "rmc3": "rMC3",
    "r2d": "R2D",
    "fr2d": "f-R2D",
}
TARGETS = {"r2plus1d": "at least 95 %", "fr2d": "within pairs: 50 %"}


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def within_pairs(scores: Scores) -> float:
    """Share of videos whose class scores above the other class of its pair; ties count half."""
    index = {name: number for number, name in enumerate(scores.classes)}
    partner = {}
    for first, second in PAIRS.values():
        partner[index[first]], partner[index[second]] = index[second], index[first]
    rows = np.arange(len(scores))
    own = scores.scores[rows, scores.labels]
    other = scores.scores[rows, [partner[label] for label in scores.labels.tolist()]]
    return float(np.mean((own > other) + 0.5 * (own == other)))


def draw(table: Sequence[tuple[str, float, float]], target: Path) -> None:
    """Draw bars of both figures for each network."""
    from vidfeat.evaluation.plots import ACCENT, MUTED, PALETTE, figure

    with figure(7.0, 3.2) as (made, axes):
        place = np.arange(len(table))
        axes[0].bar(place - 0.2, [row[1] for row in table], 0.38, color=ACCENT, label="8 classes")
        axes[0].bar(
            place + 0.2, [row[2] for row in table], 0.38, color=PALETTE[1], label="within pairs"
        )
        axes[0].axhline(0.5, color=MUTED, linewidth=0.8, linestyle="--")
        axes[0].set_xticks(place, [row[0] for row in table])
        axes[0].set_ylim(0, 1)
        axes[0].set_ylabel("accuracy of videos")
        axes[0].legend(frameon=False, loc="upper right")
        made.savefig(target, dpi=120)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Train the networks, print the table, return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--folder", type=Path, help="where videos and runs are kept")
    parser.add_argument("--picture", type=Path, help="draw the table")
    parser.add_argument("--train", type=int, default=80, help="videos per class")
    parser.add_argument("--val", type=int, default=20)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    table: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data = folder / "motion"
        write_motion_pairs(data, train=options.train, val=options.val)
        for name in options.networks.split(","):
            recipe = change(
                get_recipe("tiny"),
                [
                    f"model.name={name}_10_w16",
                    "model.init=random",  # like all others: only R(2+1)D has trained weights
                    "evaluate.every_epochs=0",
                    "run.tensorboard=false",
                    *options.settings,
                ],
            )
            run = folder / name
            done = train(recipe, data, run, resume=True, report=Console())
            if not done.complete:
                raise SystemExit(f"stopped at step {done.step}: the same command resumes")
            result, _ = evaluate_subject(open_subject(str(run)), data)
            pairs = within_pairs(result.scores)
            table.append((NETWORKS[name], result.video_accuracy, pairs))
            target = TARGETS.get(name, "as it comes")
            rows.append(Row(f"{NETWORKS[name]} video@1", result.video_accuracy, target))
            rows.append(Row(f"{NETWORKS[name]} within pairs", pairs, target))
        if options.picture is not None:
            draw(table, options.picture)
    print("| network | 8 classes | within pairs |\n|---|---|---|")
    for title, accuracy, pairs in table:
        print(f"| {title} | {accuracy:.1%} | {pairs:.1%} |")
    return rows


if __name__ == "__main__":
    main()
