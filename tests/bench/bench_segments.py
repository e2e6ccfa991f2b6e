"""Degraded segments of indexed videos: does a search find the source, and the time in it?

A hundred segments of one to four seconds, their starts off the grid of the clips, are scaled down
(0.5 to 0.8), made brighter or darker (by 8 to 25 of 255) and written with another codec at a low
bit rate. They come from 300 clips of surveillance cameras (../shared/data/fights, or ``--data``, if
they exist) and from films drawn by formulas. The network is untrained (seeded random weights)
unless weights are given; the index is whitened, and plain for comparison.

Whitening and the rules of alignment were worked out with ``--seed 0``. The default is another seed,
with films, recordings and segments that were not used for that.

    python tests/bench/bench_segments.py [--data FOLDER] [--seed 1] [--model r2d_10]
        [--weights random] [--queries 100] [--work DIR]

With ``--work`` all files are kept there, and a run that was stopped resumes from them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.rendered_videos import KINDS, render
from tests.support.segment_queries import Cut, make_cuts
from vidfeat.encoders.load import load_encoder
from vidfeat.extraction.run import extract
from vidfeat.index import VideoIndex
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.reader import FeatureStore
from vidfeat.video.plan_choice import PlanChoice

Row = tuple[str, str, str]
Source = tuple[str, Path, float]
FIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "fights"
HOP_FRAMES = 8
FILMS = 10


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run; rows of name, figure, target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=FIGHTS if FIGHTS.is_dir() else None,
        help="a folder with labels.csv (path, label, group)",
    )
    parser.add_argument("--model", default="r2d_10")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each film")
    parser.add_argument("--seed", type=int, default=1, help="of films, recordings and segments")
    parser.add_argument("--work", type=Path, help="a folder to work in, and to keep")
    parser.add_argument("--until", choices=["videos", "features", "queries", "end"], default="end")
    parser.add_argument("--misses", action="store_true", help="list the queries that failed")
    options = parser.parse_args(arguments)
    if options.work is not None:
        return _run(options, options.work)
    with tempfile.TemporaryDirectory() as work:
        return _run(options, Path(work))


def _render_all(root: Path, options: argparse.Namespace) -> None:
    wanted = [
        (root / "films" / f"film{number:02d}.mp4", "film", 100 + number, options.seconds)
        for number in range(FILMS)
    ] + [
        (root / kind / f"{kind}{number}.mp4", kind, 1000 * place + number, 8.0)
        for place, kind in enumerate(KINDS)
        for number in range(3)
    ]
    for path, kind, number, seconds in wanted:
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            render(part, kind, 100_000 * options.seed + number, seconds)
            part.replace(path)


def _cut_all(sources: list[Source], options: argparse.Namespace, work: Path) -> list[Cut]:
    done = work / "cuts.json"
    if done.exists():
        rows = json.loads(done.read_text())
        return [Cut(**{**row, "path": work / "cuts" / row["path"]}) for row in rows]
    cuts = make_cuts(sources, options.queries, work / "cuts", seed=options.seed)
    done.write_text(json.dumps([{**asdict(cut), "path": cut.path.name} for cut in cuts]))
    return cuts


def _run(options: argparse.Namespace, work: Path) -> list[Row]:
    root = work / "videos"
    root.mkdir(parents=True, exist_ok=True)
    _render_all(root, options)
    group: dict[str, str] = {}
    if options.data is not None:
        if not (root / "real").exists():
            (root / "real").symlink_to(options.data.resolve(), target_is_directory=True)
        with open(options.data / "labels.csv", newline="", encoding="utf-8") as file:
            group = {f"real/{row['path']}": row["group"] for row in csv.DictReader(file)}
    if options.until == "videos":
        return []
    encoder = load_encoder(options.model, options.weights, plan=PlanChoice(hop_frames=HOP_FRAMES))
    extract([root], work / "features.h5", encoder, root=root)
    if options.until == "features":
        return []
    with FeatureStore(work / "features.h5") as store:
        seconds = dict(zip(store.paths, store.videos["duration_seconds"].tolist(), strict=True))
        num_clips = store.num_clips
    films = [(p, root / p, s) for p, s in seconds.items() if p.startswith("films/")] * 6
    real = [(p, root / p, s) for p, s in seconds.items() if p in group][options.seed % 5 :: 5]
    cuts = _cut_all(films + real, options, work)
    extract([work / "cuts"], work / "queries.h5", encoder)
    if options.until == "queries":
        return []
    with FeatureStore(work / "queries.h5") as store:
        queries = [store.read(cut.path.name) for cut in cuts]
    rows: list[Row] = [
        ("videos, clips", f"{len(seconds)}, {num_clips}", ""),
        ("queries", f"{len(cuts)} of {len(films) // 6} films and {len(real)} recordings", ""),
        ("network", f"{options.model}, {options.weights}", ""),
    ]
    for name, whiten in (("whitened", True), ("plain", False)):
        index = VideoIndex.build(work / "features.h5", work / name, whiten=whiten, overwrite=True)
        rows += _score(index, cuts, queries, group, name, options.misses)
    return rows


def _score(
    index: VideoIndex,
    cuts: list[Cut],
    queries: list[Embeddings],
    group: dict[str, str],
    name: str,
    misses: bool,
) -> list[Row]:
    first = same = second = both = 0
    kinds = {"films": [0, 0], "real": [0, 0]}
    for cut, query in zip(cuts, queries, strict=True):
        found = index.search(query, k=10)
        best = found[0].video
        is_source = best == cut.video
        first += is_source
        same += not is_source and best in group and group[best] == group.get(cut.video)
        own = next((match for match in found if match.video == cut.video), None)
        right = False
        if own is not None:
            off = abs(own.start_seconds - cut.start_seconds)
            right = off <= HOP_FRAMES / cut.fps + 1e-6
        second += right
        both += right and is_source
        counted = kinds[cut.video.split("/")[0]]
        counted[0] += right and is_source
        counted[1] += 1
        if misses and not (right and is_source):
            where = "not found" if own is None else f"at {own.start_seconds:.2f}"
            print(
                f"{name}: {cut.path.name} of {cut.video} at {cut.start_seconds:.2f} for "
                f"{cut.seconds:.2f} s: first {best}, source {where}"
            )
    of = f"of {len(cuts)}"
    return [
        (f"{name}: source first", f"{first} {of}", ">= 95 %"),
        (f"{name}: first another cut of its recording", str(same), "apart"),
        (f"{name}: right second, within a hop", f"{second} {of}", ">= 95 %"),
        (f"{name}: both", f"{both} {of}", ">= 95 %"),
        *(
            (f"{name}: both, {kind}", f"{good} of {every}", "")
            for kind, (good, every) in kinds.items()
            if every
        ),
    ]


if __name__ == "__main__":
    for name, figure, target in main():
        print(f"{name:<44} {figure:<36} {target}")
