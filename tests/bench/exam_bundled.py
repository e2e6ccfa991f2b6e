"""The network trained on rendered motion, tested on rendered motions of another kind.

    python tests/bench/exam_bundled.py [--weights FILE | --run RUN] [--folder DIR]

Eight classes from ``tests/support/motion_test_scenes.py``, which shares nothing with the training
scenes; frozen features, heads trained on two thirds of the videos and tested on the rest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fights_bundled import Row, choices, features, untrained

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.motion_test_scenes import write_scenes
from vidfeat.datasets.labels import read_labels
from vidfeat.heads.protocols import train_and_test
from vidfeat.heads.selection import HeadOptions
from vidfeat.training.run import save_snapshot
from vidfeat.video.plan_choice import PlanChoice

TARGETS = {"linear": "at least 95 %", "knn": "at least 90 %"}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run, finished or not")
    parser.add_argument("--weights", type=Path, help="a weights file")
    parser.add_argument("--model", default="r2plus1d_10_w16")
    parser.add_argument("--folder", type=Path, help="where the videos are kept")
    parser.add_argument("--videos", type=int, default=60, help="a class")
    parser.add_argument("--no-untrained", action="store_true")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "exam"
        labels = read_labels(write_scenes(folder, videos=options.videos))
        subjects = {}
        if not options.no_untrained:
            subjects["untrained"] = untrained(Path(temporary) / "untrained.safetensors")
        if options.run:
            file = Path(temporary) / "trained.safetensors"
            step = save_snapshot(options.run, file)
            subjects[f"step {step}"] = file
        if options.weights:
            subjects[options.weights.name] = options.weights
        for name, file in subjects.items():
            samples = features(folder, labels, file, options.model, PlanChoice())
            for choice, chosen in choices(samples, options.model).items():
                for kind in ("linear", "knn"):
                    head = HeadOptions(kind, calibrate=False)
                    found = train_and_test(chosen, chosen.part("train"), chosen.part("test"), head)
                    assert found.evaluation is not None
                    accuracy = float(found.evaluation.correct.mean())
                    target = "" if name == "untrained" else TARGETS[kind]
                    rows.append(Row(f"{name}: {choice}, {kind}", accuracy, target))
                    print(f"{rows[-1].name:52s} {accuracy:.1%}", flush=True)
    return rows


if __name__ == "__main__":
    main()
