"""Tune the search settings of an index to a recall@10 against exact search.

Queries are stored vectors; results from a query's own video do not count, since any index finds its
neighbours in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.index.engine import TUNED_NEIGHBOURS, SearchEngine

RECALL_TARGET = 0.97
_QUERIES = 200
_SEED = 4321


@dataclass(frozen=True)
class Tuned:
    """Settings and the recall that they reach."""

    search: dict[str, int]
    recall: dict[str, Any]


def tune(
    engine: SearchEngine,
    video_of: NDArray[np.int32],
    *,
    target: float = RECALL_TARGET,
    queries: int = _QUERIES,
) -> Tuned:
    """Find the cheapest settings whose recall@10 on a sample reaches the target.

    Args:
        engine: the index, with any settings.
        video_of: (N,) the video of each row.
        target: recall@10 to reach; if no settings do, the best ones are used.
        queries: size of the sample.
    """
    sample = sample_rows(engine.num_base, queries)
    vectors = engine.take(sample)
    truth = _exact(engine, vectors, video_of, sample)
    kind = engine.head.kind
    if kind == "flat":
        return Tuned({}, _as_recall(1.0, len(sample)))
    lists = 1 << 30
    if kind != "hnsw":
        import faiss

        lists = int(faiss.extract_index_ivf(engine.faiss_index).nlist)
    best: tuple[float, dict[str, int]] = (-1.0, {})
    for settings in _ladder(kind, engine.num_base, lists):
        reached = _recall(engine, vectors, video_of, sample, truth, settings)
        if reached > best[0] + 1e-9:
            best = (reached, settings)
        if reached >= target:
            break
    reached, settings = best
    # Fewer candidates need fewer reads of the vectors: use the fewest that keep the recall.
    for candidates in (200, 300, 500):
        if candidates >= settings.get("candidates", 0):
            break
        fewer = {**settings, "candidates": candidates}
        value = _recall(engine, vectors, video_of, sample, truth, fewer)
        if value >= min(target, reached):
            return Tuned(fewer, _as_recall(value, len(sample)))
    return Tuned(settings, _as_recall(reached, len(sample)))


def sample_rows(num_rows: int, count: int) -> NDArray[np.int64]:
    """A seeded sample of rows, in ascending order."""
    if count >= num_rows:
        return np.arange(num_rows, dtype=np.int64)
    chosen = np.random.default_rng(_SEED).choice(num_rows, count, replace=False)
    return np.sort(chosen).astype(np.int64)


def _as_recall(value: float, queries: int) -> dict[str, Any]:
    return {
        "at_10": round(value, 4),
        "queries": queries,
        "measured_on": "stored clips, their own videos left out, against exact search",
    }


def _ladder(kind: str, num_rows: int, lists: int) -> list[dict[str, int]]:
    if kind == "hnsw":
        return [{"ef_search": size} for size in (32, 64, 128, 256, 512, 1024)]
    candidates = min(1000, num_rows)
    probes = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
    steps = [{"nprobe": number, "candidates": candidates} for number in probes if number < lists]
    if lists <= 1024:
        steps.append({"nprobe": lists, "candidates": candidates})
        steps.append({"nprobe": lists, "candidates": min(4 * candidates, num_rows)})
    else:
        steps.append({"nprobe": 1024, "candidates": min(4 * candidates, num_rows)})
    return steps


def _exact(
    engine: SearchEngine,
    vectors: NDArray[np.float32],
    video_of: NDArray[np.int32],
    sample: NDArray[np.int64],
) -> list[set[int]]:
    """The true neighbours of each query in other videos."""
    own = video_of[sample]
    best = np.full((len(sample), 0), -np.inf, dtype=np.float32)
    rows = np.full((len(sample), 0), -1, dtype=np.int64)
    block = 65_536
    for low in range(0, engine.num_base, block):
        part = np.asarray(engine.vectors[low : low + block], dtype=np.float32)
        scores = vectors @ part.T
        scores[video_of[low : low + len(part)][None, :] == own[:, None]] = -np.inf
        count = min(TUNED_NEIGHBOURS, scores.shape[1])
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        best = np.concatenate([best, np.take_along_axis(scores, found, axis=1)], axis=1)
        rows = np.concatenate([rows, found + low], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :TUNED_NEIGHBOURS]
        best = np.take_along_axis(best, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
    return [set(line[values > -np.inf].tolist()) for line, values in zip(rows, best, strict=True)]


def _recall(
    engine: SearchEngine,
    vectors: NDArray[np.float32],
    video_of: NDArray[np.int32],
    sample: NDArray[np.int64],
    truth: list[set[int]],
    settings: dict[str, int],
) -> float:
    found = true = 0
    for number, own in enumerate(video_of[sample].tolist()):
        # As in a search: rows of the query's own video cannot be found.
        _, rows = engine.nearest(
            vectors[number : number + 1],
            TUNED_NEIGHBOURS,
            keep=video_of[: engine.num_rows] != own,
            search=settings,
            compare_few=False,
        )
        found += len(truth[number] & set(rows[0][rows[0] >= 0].tolist()))
        true += len(truth[number])
    return found / true if true else 1.0
