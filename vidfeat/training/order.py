"""Which clips a step trains on, and with which random numbers: a function of seed and step only.

Nothing here keeps state. The order of an epoch depends on (seed, epoch); the random numbers of a
clip on (seed, epoch, sample, round), where a round is a pass through the dataset within an epoch.
Hence it does not matter how many processes share a step, how many workers decode it or where a run
was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """Independent streams of random numbers of one seed."""

    ORDER = 1
    CLIP = 2
    LABEL = 3
    MIXUP = 4
    WEIGHTS = 5
    DROPOUT = 6
    SCENE = 7


def generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """Random numbers that depend only on these counters."""
    sequence = np.random.SeedSequence((seed, int(stream), *counters))
    return np.random.Generator(np.random.Philox(sequence))


@dataclass(frozen=True)
class Draw:
    """One clip of an epoch."""

    sample: int
    """Index into the dataset's samples."""
    round: int
    """How often the sample was drawn in this epoch before."""


@dataclass(frozen=True)
class EpochOrder:
    """The order of all epochs of a run."""

    seed: int
    num_samples: int
    epoch_clips: int
    batch: int

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch < 1 or self.epoch_clips < 1:
            raise ValueError(f"an order needs samples, clips and a batch: {self!r}")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; a remainder smaller than a batch is left out."""
        return max(1, self.epoch_clips // self.batch)

    def step(self, step: int, start: int = 0, stop: int | None = None) -> list[Draw]:
        """The draws of a step, or of a share of it.

        Args:
            step: of the whole run, from 0.
            start: where the share of the batch begins, such as that of one process.
            stop: where it ends; None for the end of the batch.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        stop = self.batch if stop is None else stop
        first = within * self.batch
        draws = []
        for position in range(first + start, first + stop):
            round_, index = divmod(position, self.num_samples)
            order = _permutation(self.seed, epoch, round_, self.num_samples)
            draws.append(Draw(int(order[index]), round_))
        return draws


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, round_: int, count: int) -> NDArray[np.int64]:
    return generator(seed, Stream.ORDER, epoch, round_).permutation(count)


def share(batch: int, rank: int, world: int) -> tuple[int, int]:
    """The part of a batch that belongs to one of ``world`` processes: start and stop."""
    size = batch // world
    return rank * size, (rank + 1) * size
