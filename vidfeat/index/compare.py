"""Exact comparison of queries with vectors, a block of rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def compare_all(
    queries: NDArray[np.float32],
    vectors: NDArray[Any],
    count: int,
    keep: NDArray[np.bool_] | None,
    block: int = 65_536,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The exact nearest rows, by comparing with every allowed vector."""
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), 0), -1, dtype=np.int64)
    allowed = None if keep is None else np.flatnonzero(keep)
    for start in range(0, len(vectors) if allowed is None else len(allowed), block):
        if allowed is None:
            part = vectors[start : start + block]
            numbers = np.arange(start, start + len(part))
        else:
            numbers = allowed[start : start + block]
            first, last = int(numbers[0]), int(numbers[-1])
            whole = last - first + 1 == len(numbers)
            part = vectors[first : last + 1] if whole else vectors[numbers]
        scores = queries @ np.asarray(part, dtype=np.float32).T
        lines = np.broadcast_to(numbers, scores.shape)
        if scores.shape[1] > count:
            chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            scores = np.take_along_axis(scores, chosen, axis=1)
            lines = np.take_along_axis(lines, chosen, axis=1)
        best = np.concatenate([best, scores], axis=1)
        rows = np.concatenate([rows, lines], axis=1)
        best, rows = in_order(best, rows, count)
    return best, rows


def padded(
    scores: NDArray[np.float32], rows: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pad each line of scores and rows to a width, with rows of -1."""
    missing = width - scores.shape[1]
    if missing <= 0:
        return scores, rows
    wide = ((0, 0), (0, missing))
    return (
        np.pad(scores, wide, constant_values=-np.inf),
        np.pad(rows, wide, constant_values=-1),
    )


def in_order(
    scores: NDArray[np.float32], rows: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best ``count`` of each line of scores and rows, best first."""
    if scores.shape[1] > 4 * count:
        chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        scores = np.take_along_axis(scores, chosen, axis=1)
        rows = np.take_along_axis(rows, chosen, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
