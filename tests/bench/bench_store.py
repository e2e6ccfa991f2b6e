"""The feature file against a bulk write with h5py, and how quickly it opens.

    python tests/bench/bench_store.py [--clips 1000000] [--folder DIR]

Ratios within one run; every write ends with an fsync. The candidates alternate, and their medians
are compared, because a disk's speed changes from minute to minute.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from vidfeat.store.embeddings import Embeddings
from vidfeat.store.merge import merge_parts
from vidfeat.store.parts import Part, VideoSlice, open_parts, write_part
from vidfeat.store.records import RunIdentity, VideoRecord
from vidfeat.store.writer import chunk_shape, writing_store

DIMENSION = 512
PART_BYTES = 64 << 20
CLIPS_A_VIDEO = 10


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def record(number: int) -> VideoRecord:
    """The row of a video whose path has a usual length."""
    return VideoRecord(
        f"class {number % 400:03d}/video number {number:07d}.mp4",
        10.0, 29.97, 340, 256, 300, "packets", 1_000_000 + number, 1_700_000_000_000_000_000,
    )  # fmt: skip


def parts_of(clips: int) -> list[tuple[list[VideoSlice], int]]:
    """Parts of at most 64 MB, as slices of videos in the order of paths, with their row counts."""
    records = sorted((record(n) for n in range(clips // CLIPS_A_VIDEO)), key=lambda r: r.path)
    per_part = PART_BYTES // (DIMENSION * 4 + 16) // CLIPS_A_VIDEO
    parts = []
    for start in range(0, len(records), per_part):
        chosen = records[start : start + per_part]
        segments = [
            VideoSlice(r.path, "1", 0, CLIPS_A_VIDEO, complete=True, record=r) for r in chosen
        ]
        parts.append((segments, len(chosen) * CLIPS_A_VIDEO))
    return parts


def bulk_write(path: Path, vectors: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Seconds for the same arrays in three h5py calls and an fsync."""
    began = time.perf_counter()
    with h5py.File(path, "w") as file:
        chunks = chunk_shape(len(vectors), DIMENSION, "float32")
        file.create_dataset("vectors", data=vectors, chunks=chunks)
        file.create_dataset("start_seconds", data=start)
        file.create_dataset("end_seconds", data=end)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def own_write(
    path: Path, vectors: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[float, float]:
    """Seconds for appending synced parts, and for those and the merge."""
    plan = parts_of(len(vectors))
    began = time.perf_counter()
    folder = open_parts(path, RunIdentity({"model": "bench"}, "s", "r", DIMENSION))
    at = 0
    for number, (segments, rows) in enumerate(plan):
        block = slice(at, at + rows)
        embeddings = Embeddings(vectors[block], start[block], end[block])
        write_part(folder, Part(embeddings, segments), number)
        at += rows
    appended = time.perf_counter() - began
    merge_parts(path, folder)
    merged = time.perf_counter() - began
    path.unlink()
    return appended, merged


def write_ratios(folder: Path, clips: int, rounds: int) -> list[Row]:
    """Appending and merging against the bulk write."""
    clips -= clips % CLIPS_A_VIDEO
    # Random numbers, made quickly: one block, repeated with a shift.
    block = np.random.default_rng(0).standard_normal((1 << 16, DIMENSION), dtype=np.float32)
    vectors = np.concatenate([block] * (clips // len(block) + 1))[:clips]
    start = np.arange(clips, dtype=np.float64)
    end = start + 0.5
    bulk, appended, merged = [], [], []
    for _ in range(rounds):
        bulk.append(bulk_write(folder / "bulk.h5", vectors, start, end))
        one, both = own_write(folder / "own.h5", vectors, start, end)
        appended.append(one)
        merged.append(both)
        print(
            f"  bulk {bulk[-1]:.2f} s, parts {appended[-1]:.2f} s, parts and merge "
            f"{merged[-1]:.2f} s",
            file=sys.stderr,
            flush=True,
        )
    whole = statistics.median(bulk)
    return [
        Row("append synced parts / bulk write", whole / statistics.median(appended), ">= 0.5"),
        Row("append and merge / bulk write", whole / statistics.median(merged), ">= 0.3"),
    ]


_OPEN = """
import sys, time
import numpy, h5py
import vidfeat.store.reader, vidfeat.store.checks
began = time.perf_counter()
store = vidfeat.store.FeatureStore(sys.argv[1])
opened = time.perf_counter()
store.read(sys.argv[2])
cold = time.perf_counter()
paths = store.paths[:: max(1, len(store.paths) // 1000)]
mark = time.perf_counter()
for path in paths:
    store.read(path)
warm = (time.perf_counter() - mark) / len(paths)
print(opened - began, cold - began, warm)
"""


def open_figures(folder: Path, clips: int) -> list[Row]:
    """Opening a store in a new process, and reading one video's rows by path."""
    path = folder / "open.h5"
    records = sorted((record(n) for n in range(clips // CLIPS_A_VIDEO)), key=lambda r: r.path)
    counts = [CLIPS_A_VIDEO] * len(records)
    identity = RunIdentity({"model": "bench"}, "s", "r", DIMENSION)
    with writing_store(path, identity, records, counts) as writer:
        block = np.zeros((1 << 14, DIMENSION), dtype=np.float32)
        for at in range(0, sum(counts), len(block)):
            part = block[: min(len(block), sum(counts) - at)]
            seconds = np.arange(len(part), dtype=np.float64)
            writer.append(part, seconds, seconds + 1)
    runs = [
        [
            float(word)
            for word in subprocess.run(
                [sys.executable, "-c", _OPEN, str(path), records[len(records) // 3].path],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
        ]
        for _ in range(5)
    ]
    path.unlink()
    opened, cold, warm = (statistics.median(values) for values in zip(*runs, strict=True))
    name = f"store of {len(records):,} videos"
    return [
        Row(f"{name}: open, ms", opened * 1000, ""),
        Row(f"{name}: open and read one video by path, ms", cold * 1000, "well under 1000"),
        Row(f"{name}: read another video by path, ms", warm * 1000, "about 1"),
    ]


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run all and return the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        rows = write_ratios(folder, given.clips, given.rounds)
        return rows + open_figures(folder, given.clips)


if __name__ == "__main__":
    for row in main():
        print(f"{row.name:60} {row.figure:10.3f}   {row.target}")
