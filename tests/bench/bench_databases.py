"""Clips in LanceDB and milvus-lite: recall, query time compared with FAISS, changes, memory.

The vectors are made like those of bench_index, from features of ../shared/data/fights with 256
numbers per clip, and queries are clips of videos that are not stored. ``vidfeat push`` runs in a
separate process, whose peak memory is reported. The FAISS index is the one that ``vidfeat index``
chooses for that many clips.

    python tests/bench/bench_databases.py [MEASURED.h5] [--lance 1000000] [--milvus 100000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_index import CLIPS, Maker, Row, matched, measure, per_query, write_features
from numpy.typing import NDArray

from vidfeat.index import VideoIndex
from vidfeat.index.databases import open_index
from vidfeat.store.reader import Embeddings, FeatureStore

CHANGED = 100  # videos that are added, and deleted


def timed(*words: object) -> tuple[float, float]:
    """Seconds and peak memory in GB of a vidfeat command."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "vidfeat", *map(str, words)], stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            raise RuntimeError(f"vidfeat {words[0]}: {said.read()[-500:].decode()}")
    return time.perf_counter() - began, usage.ru_maxrss / 1e6


def compared(
    name: str, address: str, count: int, maker: Maker, measured: FeatureStore, work: Path
) -> list[Row]:
    """Measure one database; its rows of the table."""
    features, more = work / f"{name}.h5", work / f"{name}-more.h5"
    write_features(maker, measured, features, count)
    write_features(maker, measured, more, CHANGED * CLIPS, first=count // CLIPS)
    index = VideoIndex.build(features, work / f"{name}.index")
    pushed, memory = timed("push", features, address)
    stored = open_index(address)
    queries = index.normalisation.apply(
        maker.videos(60, np.random.default_rng(3))[::2][:300], str, ""
    )
    engine, theirs = index.searcher.engine, stored.searcher.engine
    truth = engine.nearest(queries, 10, exact=True)[1]
    found = theirs.nearest(queries, 10)[1]
    # both number the rows in the same way: one feature file, pushed once
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)])
    faiss_ms = per_query(lambda query: engine.nearest(query, 10), queries)
    ours_ms = per_query(lambda query: theirs.nearest(query, 10), queries)

    def whole(query: NDArray[np.float32]) -> None:
        stored.search(Embeddings(query, np.zeros(1), np.ones(1)), k=10)

    whole_ms = per_query(whole, queries)
    allowed = np.arange(len(stored.videos)) % 100 == 0  # one video in a hundred
    filtered_ms = per_query(
        lambda query: stored.search(
            Embeddings(query, np.zeros(1), np.ones(1)), k=10, allowed=allowed
        ),
        queries[:20],
    )
    head = stored.head
    stored.database.close()
    added, _ = timed("push", more, address)
    after = open_index(address)
    if len(after.videos.row_of) != count // CLIPS + CHANGED:
        raise RuntimeError("the added videos are not there")
    after.database.close()
    deleted, _ = timed("push", address, "--remove", f"v{count // CLIPS:07d}.mp4")
    place = Path(address.split("://", 1)[1])
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    return [
        (f"{name}: clips of {head.dimension} numbers", f"{count:,}", ""),
        (f"{name}: index of the vectors", f"{head.factory} {head.search}", ""),
        (f"{name}: recall@10, held-out queries", f"{recall:.3f}", ">= 0.95"),
        (f"{name}: recall@10 as the database says", f"{head.recall['at_10']:.3f}", ""),
        (f"{name}: one query of the database", f"{ours_ms:.1f} ms", ""),
        (f"FAISS for comparison ({index.head.kind})", f"{faiss_ms:.2f} ms", ""),
        (f"{name}: a whole search", f"{whole_ms:.1f} ms", ""),
        (f"{name}: a search of 1 % of the videos", f"{filtered_ms:.1f} ms", ""),
        (f"{name}: vidfeat push, indexed", f"{pushed:.0f} s", ""),
        (f"{name}: its peak memory", f"{memory:.2f} GB", ""),
        (f"{name}: {CHANGED} videos more", f"{added:.1f} s", ""),
        (f"{name}: one video deleted", f"{deleted:.1f} s", ""),
        (f"{name}: on disk", f"{size:.0f} MB", ""),
    ]


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run; rows of name, figure, target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, nargs="?")
    parser.add_argument("--lance", type=int, default=1_000_000, help="Clips; 0 leaves it out.")
    parser.add_argument("--milvus", type=int, default=100_000, help="Clips; 0 leaves it out.")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args(arguments)
    work = options.work or Path(tempfile.mkdtemp(prefix="vidfeat-databases-"))
    work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        source = options.measured or measure(work / "measured.h5", pool="mean")
        with FeatureStore(source) as measured:
            maker, _ = matched(measured)
            for name, address, count in (
                ("LanceDB", f"lance://{work}/lance", options.lance),
                ("milvus-lite", f"milvus://{work}/milvus.db", options.milvus),
            ):
                if count:
                    rows += compared(name, address, count, maker, measured, work)
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return rows


if __name__ == "__main__":
    for row in main():
        print(f"{row[0]:<44} {row[1]:<44} {row[2]}")
