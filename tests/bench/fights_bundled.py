"""The network trained on rendered motion, tested on half of the recordings of real fights.

    python tests/bench/fights_bundled.py ../shared/data/fights --run RUN [--half development]

Frozen features, a linear head, five folds by recording, five times with other folds. The
recordings are split once and for all by the SHA-256 of their names: those whose first digit is even
are for development, where designs are chosen; the others are only for the final figure.

Rows for comparison: an untrained network of the same kind, and frame differences.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fights_table import difference_samples, judge

from vidfeat import extract, load_encoder
from vidfeat.datasets.labels import Labels, read_labels
from vidfeat.datasets.samples import Samples, collect
from vidfeat.extraction.options import ExtractOptions
from vidfeat.store.reader import FeatureStore
from vidfeat.training.network import build_network, save_network
from vidfeat.training.recipes import get_recipe
from vidfeat.training.run import save_snapshot
from vidfeat.video.plan_choice import PlanChoice

LAYERS = ("layer2", "layer3", "layer4")
POOLS = ("mean", "max")


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def half_of(labels: Labels, half: str) -> Labels:
    """The recordings of one half: ``development`` or ``final``."""
    wanted = 0 if half == "development" else 1
    rows = tuple(
        row
        for row in labels.rows
        if int(hashlib.sha256(row.group.encode()).hexdigest()[0], 16) % 2 == wanted
    )
    return replace(labels, rows=rows, source=f"{labels.source} ({half} half)")


def untrained(target: Path) -> Path:
    """Write random weights with the clips of the recipe."""
    recipe = get_recipe("bundled")
    save_network(target, build_network(recipe, 2).state_dict(), recipe, ("a", "b"), {})
    return target


def features(folder: Path, labels: Labels, weights: Path, model: str, plan: PlanChoice) -> Samples:
    """All layers and pools of the network, joined."""
    encoder = load_encoder(model, weights, plan=plan, layers=LAYERS, pool=POOLS)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "features.h5"
        videos = [folder / row.path for row in labels.rows]
        extract(videos, file, encoder, root=folder, options=ExtractOptions(workers=1))
        with FeatureStore(file) as store:
            return collect(store, labels)


def choices(samples: Samples, model: str) -> dict[str, Samples]:
    """The features that each choice of ``--layer`` and ``--pool`` would select."""
    from vidfeat.models import model_info

    info = model_info(model)
    width = dict(zip(info.layer_names, info.layer_widths, strict=True))
    place, columns = 0, {}
    for layer in LAYERS:
        for pool in POOLS:
            columns[layer, pool] = list(range(place, place + width[layer]))
            place += width[layer]
    taken = {
        "layer4, mean": [("layer4", "mean")],
        "layer4, mean and max": [("layer4", pool) for pool in POOLS],
        "layer3 and 4, mean": [(layer, "mean") for layer in LAYERS[1:]],
        "layer2 to 4, mean": [(layer, "mean") for layer in LAYERS],
        "layer2 to 4, mean and max": [(layer, pool) for layer in LAYERS for pool in POOLS],
    }
    return {
        name: replace(samples, vectors=samples.vectors[:, [c for k in keys for c in columns[k]]])
        for name, keys in taken.items()
    }


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("development", "final"), default="development")
    parser.add_argument("--run", type=Path, help="a run, finished or not")
    parser.add_argument("--weights", type=Path, help="a weights file")
    parser.add_argument("--model", default="r2plus1d_10_w16")
    parser.add_argument("--no-untrained", action="store_true")
    parser.add_argument("--fps", help="another rate of the clips")
    options = parser.parse_args(arguments)
    labels = half_of(read_labels(options.folder / "labels.csv"), options.half)
    plan = PlanChoice(fps=options.fps)
    rows = []

    def add(name: str, samples: Samples, target: str) -> None:
        found = judge(samples, "linear")
        rows.append(Row(name, found.interval.value, target))
        print(f"{name:48s} {found.interval}  folds ±{100 * found.spread:.1f}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        subjects = {}
        if not options.no_untrained:
            add("frame differences, 8 x 8", difference_samples(options.folder, labels), "")
            subjects["untrained"] = untrained(Path(temporary) / "untrained.safetensors")
        if options.run:
            file = Path(temporary) / "trained.safetensors"
            step = save_snapshot(options.run, file)
            subjects[f"step {step}"] = file
        if options.weights:
            subjects[options.weights.name] = options.weights
        for name, file in subjects.items():
            samples = features(options.folder, labels, file, options.model, plan)
            for choice, chosen in choices(samples, options.model).items():
                target = "" if name == "untrained" else "at least 75 % (final half)"
                add(f"{name}: {choice}", chosen, target)
    return rows


if __name__ == "__main__":
    main()
