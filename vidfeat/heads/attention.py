"""Attention over the rows of a sample: what the attentive head computes, and how it is trained.

A few learned queries look at a sample's rows, each through two keys: one for what a row contains,
one for its position in time. The row gives each query a value of its own, the values are averaged
by attention, and a linear layer scores the classes. It is the multi-query cross-attention of
Efficient Probing (arXiv 2506.10178) with time positions: without them, attention is blind to order.

Shapes: S samples, L rows of a sample, D length of a row, Q queries, V numbers that a query takes, F
time features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MOST_STEPS = 64
"""Most rows of a sample that attention looks at; with more, neighbours are averaged."""
TIME_WAVES = 4
# Samples scored at a time.
_SCORED = 256
# How sharply a query looks at its own segment of time before training.
_SHARPNESS = 4.0


@dataclass(frozen=True)
class Sequences:
    """Rows of samples, each sample's in the order of time.

    Attributes:
        rows: (N, D).
        first: int64 (S + 1,), where each sample's rows begin.
    """

    rows: Floats
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first) - 1

    @classmethod
    def of_single_rows(cls, rows: Floats) -> Sequences:
        """Each row a sample of its own."""
        return cls(rows, np.arange(len(rows) + 1, dtype=np.int64))

    def shortened(self) -> Sequences:
        """The samples with at most `MOST_STEPS` rows: of longer ones, the means of segments."""
        counts = np.diff(self.first)
        if len(counts) == 0 or counts.max() <= MOST_STEPS:
            return self
        starts = [
            begin + np.arange(min(count, MOST_STEPS)) * count // min(count, MOST_STEPS)
            for begin, count in zip(self.first[:-1], counts, strict=True)
        ]
        edges = np.concatenate(starts)
        total = np.add.reduceat(self.rows, edges, axis=0, dtype=np.float64)
        size = np.diff(np.append(edges, self.first[-1]))
        first = np.concatenate([[0], np.cumsum(np.minimum(counts, MOST_STEPS))])
        return Sequences((total / size[:, None]).astype(self.rows.dtype), first.astype(np.int64))

    def packed(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Row indexes of the chosen samples, padded to (S, L), and which of them are real."""
        counts = (self.first[1:] - self.first[:-1])[chosen]
        steps = np.arange(int(counts.max(initial=1)))
        there = steps < counts[:, None]
        return np.where(there, self.first[chosen][:, None] + steps, 0), there


def time_features(there: NDArray[np.bool_]) -> Floats:
    """Position of each row in its sample: sines and cosines, float32 (S, L, F)."""
    counts = there.sum(axis=1, keepdims=True)
    place = np.arange(there.shape[1]) / np.maximum(counts - 1, 1)
    place = np.where(counts == 1, 0.5, place)
    angles = np.pi * place[..., None] * np.arange(1, TIME_WAVES + 1)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def attentive_logits(arrays: Mapping[str, NDArray[Any]], sequences: Sequences) -> Floats:
    """Class scores (S, C) of samples, before the softmax.

    Args:
        arrays: ``keys`` (D, Q), ``time_keys`` (F, Q), ``values`` (D, Q V), ``weights`` (C, Q V)
            and ``bias`` (C,).
        sequences: standardised as in training.
    """
    short = sequences.shortened()
    rows = short.rows
    keys, values = rows @ arrays["keys"], rows @ arrays["values"]
    queries = keys.shape[1]
    found = []
    for at in range(0, len(short), _SCORED):
        index, there = short.packed(np.arange(at, min(at + _SCORED, len(short))))
        scores_SLQ = keys[index] + time_features(there) @ arrays["time_keys"]
        scores_SLQ = np.where(there[..., None], scores_SLQ, -np.inf)
        weights_SLQ = np.exp(scores_SLQ - scores_SLQ.max(axis=1, keepdims=True))
        weights_SLQ /= weights_SLQ.sum(axis=1, keepdims=True)
        values_SLQV = values[index].reshape(*index.shape, queries, -1)
        pooled_SQV = np.einsum("slq,slqv->sqv", weights_SLQ, values_SLQV)
        found.append(pooled_SQV.reshape(len(index), -1) @ arrays["weights"].T + arrays["bias"])
    if not found:
        return np.empty((0, len(arrays["bias"])), np.float32)
    return np.concatenate(found)


@dataclass(frozen=True)
class AttentionSettings:
    """How attention is trained.

    Attributes:
        queries: Q.
        width: V.
        alpha: strength of the L2 penalty on values and weights.
        epochs: passes over the samples.
        learning_rate: of Adam, falling to zero along a cosine.
        batch_size: samples at a time.
        seed: of the initial tensors and the order of the samples.
    """

    queries: int = 8
    width: int = 8
    alpha: float = 0.1
    epochs: int = 60
    learning_rate: float = 0.003
    batch_size: int = 32
    seed: int = 0


def train_attention(
    sequences: Sequences, y: NDArray[np.int64], classes: int, settings: AttentionSettings
) -> dict[str, NDArray[np.float32]]:
    """Train the arrays of :func:`attentive_logits`, on the CPU with torch.

    Args:
        sequences: standardised.
        y: int64 (S,), from 0 to ``classes`` - 1.
        classes: C.
        settings: how to train.
    """
    import torch
    from torch.nn import functional as F

    short = sequences.shortened()
    rows = torch.from_numpy(np.ascontiguousarray(short.rows, np.float32))
    tensors = _first_tensors(rows.shape[1], classes, settings)
    optimizer = torch.optim.Adam(tensors.values(), settings.learning_rate)
    order = np.random.default_rng(settings.seed)
    batches = -(-len(short) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * batches)
    queries = settings.queries
    targets = torch.from_numpy(y)
    for _ in range(settings.epochs):
        for chosen in np.array_split(order.permutation(len(short)), batches):
            index, there = short.packed(chosen)
            taken = rows[torch.from_numpy(index)]
            scores = taken @ tensors["keys"]
            scores = scores + torch.from_numpy(time_features(there)) @ tensors["time_keys"]
            scores = scores.masked_fill(~torch.from_numpy(there)[..., None], float("-inf"))
            weights = scores.softmax(dim=1)
            values = (taken @ tensors["values"]).unflatten(-1, (queries, -1))
            pooled = torch.einsum("slq,slqv->sqv", weights, values).flatten(1)
            logits = pooled @ tensors["weights"].T + tensors["bias"]
            penalty = tensors["values"].square().sum() + tensors["weights"].square().sum()
            loss = F.cross_entropy(logits, targets[chosen]) + settings.alpha / 2 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def _first_tensors(dimension: int, classes: int, settings: AttentionSettings) -> Any:
    """Initial tensors: the first query sees all times alike, the others one segment each."""
    import torch

    generator = torch.Generator().manual_seed(settings.seed)
    queries, width = settings.queries, settings.queries * settings.width
    time_keys = torch.zeros(2 * TIME_WAVES, queries)
    if queries > 1:
        centres = torch.linspace(0, torch.pi, queries - 1)
        time_keys[0, 1:] = _SHARPNESS * centres.cos()
        time_keys[TIME_WAVES, 1:] = _SHARPNESS * centres.sin()
    tensors = {
        "keys": torch.zeros(dimension, queries),
        "time_keys": time_keys,
        "values": torch.randn(dimension, width, generator=generator) / dimension**0.5,
        "weights": torch.zeros(classes, width),
        "bias": torch.zeros(classes),
    }
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}
