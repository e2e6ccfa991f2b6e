"""Stretches of indexed videos made worse: does a search find the source, and the second?

A hundred stretches of one to four seconds, their starts off the grid of the clips, made smaller
(0.5 to 0.8), brighter or darker (by 8 to 25 of 255) and written with another codec and few bits,
out of 300 clips of surveillance cameras (where they are there) and films drawn by formulas. The
network is untrained (seeded random weights), as no weights can be had here; the index is whitened.

    python tests/bench/bench_stretches.py [--data FOLDER] [--model r2d_10] [--queries 100]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rendered_videos import KINDS, render
from stretch_queries import make_cuts

from vidfeat.extract import extract
from vidfeat.index import VideoIndex
from vidfeat.load import load_encoder
from vidfeat.plan_choice import PlanChoice
from vidfeat.store import FeatureStore

Row = tuple[str, str, str]
HOP_FRAMES = 8
FILMS = 10


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run; rows of name, figure, target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder with labels.csv (path, label, group)")
    parser.add_argument("--model", default="r2d_10")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each film")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        return _run(options, Path(work))


def _run(options: argparse.Namespace, work: Path) -> list[Row]:
    root = work / "videos"
    for number in range(FILMS):
        render(root / "films" / f"film{number:02d}.mp4", "film", 100 + number, options.seconds)
    for place, kind in enumerate(KINDS):
        for number in range(3):
            render(root / kind / f"{kind}{number}.mp4", kind, 1000 * place + number, 8.0)
    group: dict[str, str] = {}
    if options.data is not None:
        (root / "real").symlink_to(options.data.resolve(), target_is_directory=True)
        with open(options.data / "labels.csv", newline="", encoding="utf-8") as file:
            group = {f"real/{row['path']}": row["group"] for row in csv.DictReader(file)}
    encoder = load_encoder(options.model, "random", plan=PlanChoice(hop_frames=HOP_FRAMES))
    extract([root], work / "features.h5", encoder, root=root)
    with FeatureStore(work / "features.h5") as store:
        seconds = dict(zip(store.paths, store.videos["duration_seconds"].tolist(), strict=True))
    films = [(p, root / p, s) for p, s in seconds.items() if p.startswith("films/")] * 6
    real = [(p, root / p, s) for p, s in seconds.items() if p in group][::5]
    cuts = make_cuts(films + real, options.queries, work / "cuts")
    queries = [encoder.encode(cut.path) for cut in cuts]
    rows: list[Row] = [
        ("videos, clips", f"{len(seconds)}, {store.num_clips}", ""),
        ("queries", f"{len(cuts)} of {len(films) // 6} films and {len(real)} recordings", ""),
    ]
    for name, whiten in (("whitened", True), ("plain", False)):
        index = VideoIndex.build(work / "features.h5", work / name, whiten=whiten)
        first = same = second = both = 0
        for cut, query in zip(cuts, queries, strict=True):
            found = index.search(query, k=10)
            best = found[0].video
            is_source = best == cut.video
            first += is_source
            same += not is_source and best in group and group[best] == group.get(cut.video)
            own = next((match for match in found if match.video == cut.video), None)
            if own is not None:
                off = abs(own.start_seconds - cut.start_seconds)
                right = off <= HOP_FRAMES / cut.fps + 1e-6
                second += right
                both += right and is_source
        rows += [
            (f"{name}: source first", f"{first} of {len(cuts)}", ">= 95 %"),
            (f"{name}: first another cut of its recording", str(same), "apart"),
            (f"{name}: right second, within a hop", f"{second} of {len(cuts)}", ">= 95 %"),
            (f"{name}: both", f"{both} of {len(cuts)}", ">= 95 %"),
        ]
    return rows


if __name__ == "__main__":
    for name, figure, target in main():
        print(f"{name:<44} {figure:<36} {target}")
