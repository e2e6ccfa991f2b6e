"""Search time: without a filter against another checkout, and with a filter of 1 % of the rows.

    python tests/bench/bench_search_filter.py [--before CHECKOUT] [--pairs 15] [--videos 20000]

Generated vectors in clusters, five clips of 256 numbers for each video. Every figure is the median
ratio of pairs that alternate within this run; each search leaves out the query's own video, as the
page does. ``--before`` is a checkout that ``make test`` has set up; its searches run in a separate
process over the same index, which this checkout built. Its ratios are given in wall-clock and in
CPU time: on a shared machine the latter is steadier.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
KINDS = ("flat", "hnsw", "ivfsq", "ivfpq", "opq")
CLIPS, DIMENSION, QUERIES = 5, 256, 40

# What both checkouts run: for each line read, it prints wall and CPU seconds for all queries.
CHILD = """
import json, sys, time
from vidfeat.index import VideoIndex
index = VideoIndex(sys.argv[1])
names = json.loads(sys.argv[2])
queries = [index.query(name, 0.0, 0.9) for name in names]
for _ in range(2):
    [index.search(query, k=10, exclude_self=True) for query in queries]
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    for query in queries:
        index.search(query, k=10, exclude_self=True)
    print(time.perf_counter() - began[0], time.process_time() - began[1], flush=True)
"""
Row = tuple[str, float, str]


def write_features(path: Path, videos: int) -> None:
    """Write features of videos around 200 centres."""
    from tests.support.index_fixtures import embeddings, identity, record
    from vidfeat.store.writer import write_store

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, DIMENSION))

    def rows() -> object:
        for number in range(videos):
            centre = centres[number % 200] + 0.5 * rng.standard_normal(DIMENSION)
            vectors = centre + 0.4 * rng.standard_normal((CLIPS, DIMENSION))
            yield (
                record(f"{number % 100:02}/v{number:06}.mp4", CLIPS),
                embeddings(vectors.astype(np.float32)),
            )

    write_store(path, identity(DIMENSION), list(rows()))  # type: ignore[call-overload]


class Child:
    """A process that searches on request."""

    def __init__(self, checkout: Path, index: Path, names: list[str]) -> None:
        python = checkout / ".venv" / "bin" / "python"
        self.process = subprocess.Popen(
            [python if python.exists() else sys.executable, "-c", CHILD, index, json.dumps(names)],
            cwd=index.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{checkout} cannot search {index}")

    def seconds(self) -> list[float]:
        """Wall-clock and CPU seconds of one round over the queries."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        return [float(part) for part in self.process.stdout.readline().split()]

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def against(before: Path, index: Path, names: list[str], pairs: int) -> list[float]:
    """Median ratios of this checkout's time to another's, without a filter: clock, CPU."""
    children = [Child(before, index, names), Child(ROOT, index, names)]
    ratios = []
    for pair in range(pairs):
        order = children if pair % 2 else children[::-1]
        took = {child: child.seconds() for child in order}
        pair_of = zip(took[children[1]], took[children[0]], strict=True)
        ratios.append([after / before for after, before in pair_of])
    for child in children:
        child.close()
    return [statistics.median(column) for column in zip(*ratios, strict=True)]


def with_filter(path: Path, names: list[str], pairs: int) -> float:
    """Median ratio of the time with a filter of 1 % of the rows to that without."""
    from vidfeat.index import VideoIndex

    index = VideoIndex(path)
    queries = [index.query(name, 0.0, 0.9) for name in names]
    folder = np.array([name.startswith("07/") for name in index.videos.paths])

    def seconds(allowed: object) -> float:
        began = time.perf_counter()
        for query in queries:
            index.search(query, k=10, exclude_self=True, allowed=allowed)  # type: ignore[arg-type]
        return time.perf_counter() - began

    seconds(None), seconds(folder)
    return statistics.median(seconds(folder) / seconds(None) for _ in range(pairs))


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure all kinds of index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--keep", type=Path, help="folder for the indexes, built once")
    given = parser.parse_args(arguments)
    from vidfeat.index import VideoIndex

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        if not (folder / "f.h5").is_file():
            write_features(folder / "f.h5", given.videos)
        for kind in given.kinds.split(","):
            if not (folder / kind).is_dir():
                VideoIndex.build(folder / "f.h5", folder / kind, kind=kind)
            index = VideoIndex(folder / kind)
            rng = np.random.default_rng(1)
            names = rng.choice(index.paths, QUERIES, replace=False).tolist()
            if given.before:
                clock, cpu = against(given.before.resolve(), folder / kind, names, given.pairs)
                what = f"{kind}: search without a filter, after / before"
                rows += [(what, clock, "<= 1.05"), (f"{what}, CPU time", cpu, "<= 1.05")]
            ratio = with_filter(folder / kind, names, given.pairs)
            rows.append((f"{kind}: with a filter of 1 % / without", ratio, "<= 2"))
            print(*rows[-3:], sep="\n", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(f"{row[0]:60} {row[1]:8.3f}   {row[2]}")
