"""Leases: how the videos of a run are divided over the machines of a cluster, and reassigned.

A lease is a series of consecutive videos, or one long film, for one actor. When an actor is lost,
its lease goes to another; a lease that repeatedly loses its actors is split until the video that
causes it is isolated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vidfeat.extraction.resume import Todo

_LEASE_BYTES = 256 << 20  # of videos: about half a minute of one GPU, at common rates
_LEASES_PER_ACTOR = 4  # at least, so that all end at about the same time
_LEAST_BYTES = 64 << 10  # cost of opening a file, however short
_DEATHS_TOGETHER = 2  # then the videos of a lease are leased one by one
_DEATHS_ALONE = 3
_MOST_ROUNDS = 20  # of a lease whose nodes vanish, which is not its fault
# Parts of a later round must have higher numbers than earlier ones of the same videos.
_NUMBERS_PER_ROUND = 1_000_000


@dataclass(frozen=True)
class Lease:
    """Videos assigned to one actor."""

    todo: tuple[Todo, ...]
    deaths: int = 0
    """Actors that were lost over it, on machines that still exist."""
    round: int = 0
    """How often it, or the lease it comes from, was handed out before."""

    @property
    def name(self) -> str:
        """Name of its parts, from its files and first clips: doing a lease twice is harmless."""
        text = "\n".join(
            f"{item.video.identity}\t{item.video.size_bytes}\t{item.video.mtime_ns}"
            f"\t{item.task.first_clip}\t{item.tries}"
            for item in self.todo
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def weight(self) -> int:
        """Work in it, in bytes of video."""
        return sum(_weight(item) for item in self.todo)

    def first_number(self, of_run: int) -> int:
        """Number of its first part, in a run whose parts begin at ``of_run``."""
        return of_run + self.round * _NUMBERS_PER_ROUND


def cut_leases(todo: Sequence[Todo], actors: int) -> list[Lease]:
    """Divide videos over actors: consecutive ones together, a long film alone, longest first.

    Args:
        todo: the videos, in the order of the run.
        actors: how many there are to work on them.
    """
    weights = [_weight(item) for item in todo]
    target = min(_LEASE_BYTES, sum(weights) // (_LEASES_PER_ACTOR * max(1, actors)))
    leases: list[Lease] = []
    together: list[Todo] = []
    gathered = 0
    for item, weight in zip(todo, weights, strict=True):
        if together and gathered + weight > target:
            leases.append(Lease(tuple(together)))
            together, gathered = [], 0
        together.append(item)
        gathered += weight
    if together:
        leases.append(Lease(tuple(together)))
    return sorted(leases, key=lambda lease: lease.weight, reverse=True)


def after_loss(lease: Lease, *, node_is_gone: bool) -> list[Lease]:
    """The leases that replace one whose actor was lost; none to give up on it.

    Args:
        lease: the lease whose actor was lost.
        node_is_gone: the whole machine was lost, for which the videos are hardly to blame.
    """
    lease = replace(lease, round=lease.round + 1)
    if node_is_gone and lease.round <= _MOST_ROUNDS:
        return [lease]
    lease = replace(lease, deaths=lease.deaths + 1)
    if len(lease.todo) > 1:
        if lease.deaths < _DEATHS_TOGETHER:
            return [lease]
        return [replace(lease, todo=(item,)) for item in lease.todo]
    return [lease] if lease.deaths < _DEATHS_ALONE else []


def _weight(item: Todo) -> int:
    return max(item.video.size_bytes, _LEAST_BYTES)
