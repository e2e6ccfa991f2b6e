"""One query from several examples: positive and negative clips, videos and phrases.

Each example counts as one direction, the mean of its clips. The score of a clip is its mean cosine
with the examples, minus a weight times its mean cosine with the negative ones; as cosines are
linear in the query, that is the product with a single vector (Rocchio's formula). A single positive
example keeps its clips, so that the matching segment is found as without negatives.

Cosines with a phrase differ less from video to video than cosines with a clip do. If a query has
both, phrases are scaled so that both have the same spread over a sample of the index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, UsageError
from vidfeat.index.match import Query

NEGATIVE_WEIGHT = 0.5


def combine(
    positive: Sequence[Query],
    negative: Sequence[Query],
    background: NDArray[np.float32],
    negative_weight: float = NEGATIVE_WEIGHT,
) -> Query:
    """Combine several examples into one query.

    Args:
        positive: examples of what to find, normalised by the index.
        negative: examples of what the results should not resemble, normalised too.
        background: (B, D) a sample of the index.
        negative_weight: weight of the negative examples, relative to the positive ones.

    Raises:
        UsageError: no positive example, or a weight below 0.
        DataError: the examples cancel each other.
    """
    if not positive:
        raise UsageError("there are only negative examples: give a positive one too")
    if not (np.isfinite(negative_weight) and negative_weight >= 0):
        raise UsageError(
            f"negative_weight is {negative_weight:g}, expected 0 or more", field="negative_weight"
        )
    if len(positive) == 1 and not negative:
        return positive[0]
    weights = _weights([*positive, *negative], background)
    away = np.zeros(positive[0].vectors.shape[1], dtype=np.float64)
    if negative:
        away = negative_weight * np.mean(
            [w * _direction(q) for w, q in zip(weights[len(positive) :], negative, strict=True)],
            axis=0,
        )
    if len(positive) == 1:
        one = positive[0]
        rows, start, end = weights[0] * one.vectors - away, one.start_seconds, one.end_seconds
    else:
        towards = [w * _direction(q) for w, q in zip(weights, positive, strict=False)]
        rows = (np.mean(towards, axis=0) - away)[None]
        start = end = np.zeros(1)
    lengths = np.linalg.norm(rows, axis=1)
    if not (lengths > 1e-4).all():
        raise DataError(
            "the positive and negative examples cancel each other: leave one of them out, or lower "
            "negative_weight",
            field="negative_weight",
        )
    scale = float(lengths.mean())
    return Query(
        vectors=(rows / scale).astype(np.float32),
        start_seconds=start,
        end_seconds=end,
        name=_name(positive, negative),
        normalised=True,
        scale=scale,
        positive=tuple(positive),
        negative=tuple(negative),
    )


def _direction(query: Query) -> NDArray[np.float64]:
    mean = query.vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise DataError(f"the clips of {query.name} cancel each other: take a segment of it")
    return np.asarray(mean / length)


def _weights(examples: Sequence[Query], background: NDArray[np.float32]) -> list[float]:
    """1 for clips; for phrases mixed with clips, the ratio of the spreads of their cosines."""
    is_phrase = [bool(example.text) for example in examples]
    if all(is_phrase) or not any(is_phrase) or len(background) < 2:
        return [1.0] * len(examples)
    spread = [float((background @ _direction(example)).std()) for example in examples]
    phrases = np.mean([s for s, phrase in zip(spread, is_phrase, strict=True) if phrase])
    clips = np.mean([s for s, phrase in zip(spread, is_phrase, strict=True) if not phrase])
    ratio = float(clips / phrases) if phrases > 1e-9 else 1.0
    return [ratio if phrase else 1.0 for phrase in is_phrase]


def _name(positive: Sequence[Query], negative: Sequence[Query]) -> str:
    shown = _listed([query.name for query in positive])
    return f"{shown}, not {_listed([query.name for query in negative])}" if negative else shown


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
