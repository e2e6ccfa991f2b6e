"""The clips of an index for teaching, and the orders in which the page shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.heads.teaching import (
    LinearScores,
    Placing,
    by_turns,
    label_gains,
    likeness,
    over_neighbours,
    spread_order,
    uncertainty,
)
from vidfeat.heads.teaching_quality import newest
from vidfeat.index import VideoIndex

Order = Literal["uncertain", "certain", "mistakes", "labelled"]
ORDERS: tuple[Order, ...] = ("uncertain", "certain", "mistakes", "labelled")
_SAMPLE_ROWS = 20_000
_MOST_COPY_BYTES = 1 << 30
_BLOCK_ROWS = 65_536
_SEED = 5
# A head with fewer labels has seen too little of the collection to know where it is uncertain.
_FIRST_LABELS = 20
# Until then, so many clips compete, by what a label on them would teach about so many others.
_CANDIDATES = 4000
_TARGETS = 200


@dataclass(frozen=True)
class Fitted:
    """The head fitted to one revision of the labels, and its scores of all clips.

    Attributes:
        revision: of the labels.
        labels: (N,) number of each clip's class, -1 for none.
        first: (N,) rank in time of each clip's label, -1 for none; earlier labels are smaller.
        head: None while there are labels of fewer than two classes.
        scores: float32 (N, C) in the order of ``head.classes``; None without a head.
        strength: regularisation parameter C of the fit.
    """

    revision: int
    labels: NDArray[np.int32] = field(repr=False)
    first: NDArray[np.int64] = field(repr=False)
    head: LinearScores | None
    scores: NDArray[np.float32] | None = field(repr=False)
    strength: float


class ClipTable:
    """The clips of an index, with access to their vectors and the normalisation of these."""

    def __init__(self, index: VideoIndex) -> None:
        searcher = index.searcher
        self.engine = searcher.engine
        self.num_videos = len(index.videos)
        clips = searcher.clips
        self.video: NDArray[np.int64] = clips["video"].astype(np.int64)
        self.start_seconds: NDArray[np.float64] = np.ascontiguousarray(clips["start_seconds"])
        self.end_seconds: NDArray[np.float64] = np.ascontiguousarray(clips["end_seconds"])
        alive = searcher.alive_rows
        self.alive = np.ones(len(clips), dtype=bool) if alive is None else np.array(alive)

    def __len__(self) -> int:
        return len(self.video)

    @cached_property
    def _whole(self) -> NDArray[np.float32] | None:
        """All vectors in one array, if they are in one already or take little memory."""
        engine = self.engine
        if not len(engine.tail) and engine.vectors.dtype == np.float32:
            return engine.vectors
        if 4 * len(self) * engine.head.dimension > _MOST_COPY_BYTES:
            return None
        return engine.take(np.arange(len(self)))

    @cached_property
    def placing(self) -> Placing:
        """The normalisation by mean and spread of a seeded sample."""
        rows = np.flatnonzero(self.alive)
        if len(rows) > _SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng(_SEED).choice(rows, _SAMPLE_ROWS, replace=False))
        return Placing.of(self.engine.take(rows))

    @cached_property
    def shuffled(self) -> NDArray[np.int64]:
        """The clips in a seeded random order."""
        return np.random.default_rng(_SEED).permutation(np.flatnonzero(self.alive))

    @cached_property
    def spread(self) -> NDArray[np.int64]:
        """The order of clips while there is no head."""
        rows = self.shuffled
        few = rows[:_SAMPLE_ROWS]
        return np.concatenate([few[spread_order(self.engine.take(few))], rows[_SAMPLE_ROWS:]])

    def each(
        self, function: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Apply a function to the vectors of all clips, a block at a time."""
        whole = self._whole
        blocks = []
        for low in range(0, len(self), _BLOCK_ROWS):
            rows = np.arange(low, min(low + _BLOCK_ROWS, len(self)))
            block = self.engine.take(rows) if whole is None else whole[low : low + _BLOCK_ROWS]
            blocks.append(function(block))
        return np.concatenate(blocks)


def rows_judged(state: Fitted, alive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The labelled clips that are cross-validated, in the order of their labels."""
    rows = np.flatnonzero((state.labels >= 0) & alive)
    rows = rows[np.argsort(state.first[rows], kind="stable")]
    return rows[newest(len(rows))]


def ordered(
    clips: ClipTable,
    state: Fitted,
    kind: Order,
    number: int,
    shown: NDArray[np.bool_],
    own_scores: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Sort clips for the page.

    Args:
        clips: all clips.
        state: labels and scores.
        kind: ``uncertain``: clips that the head is least sure of, alternating between videos, and
            before these, while there are few labels, those that teach most about all clips;
            ``certain``: those that most likely show a class; ``mistakes``: labelled ones that heads
            trained without them assign to another class; ``labelled``: the newest first.
        number: of the class, for ``certain``; -1 for none.
        shown: (N,) clips that pass the filters.
        own_scores: (N,) out-of-fold score of each labelled clip's own label, if known.
    """
    if kind in ("mistakes", "labelled"):
        rows = np.flatnonzero((state.labels >= 0) & shown)
        keys = -state.first[rows].astype(np.float64)
        if kind == "mistakes":
            keys = _own_scores(state, rows) if own_scores is None else own_scores[rows]
        return rows[np.argsort(keys, kind="stable")]
    free = np.flatnonzero((state.labels < 0) & shown)
    if kind == "certain" and number >= 0:
        of_class = _class_scores(clips, state, number)
        if of_class is not None:
            return free[np.argsort(-of_class[free], kind="stable")]
    if state.scores is None:
        spread = clips.spread
        return spread[(state.labels[spread] < 0) & shown[spread]]
    turns = np.bincount(clips.video[state.labels >= 0], minlength=clips.num_videos)
    order = over_neighbours(uncertainty(state.scores), clips.video)
    rows = free[by_turns(order[free], clips.video[free], turns)]
    known = np.flatnonzero((state.labels >= 0) & clips.alive)
    if len(known) >= _FIRST_LABELS:
        return rows
    first = _most_taught(clips, state, shown, known, turns)
    return np.concatenate([first, rows[~np.isin(rows, first)]])


def _most_taught(
    clips: ClipTable,
    state: Fitted,
    shown: NDArray[np.bool_],
    known: NDArray[np.int64],
    turns: NDArray[np.int64],
) -> NDArray[np.int64]:
    """A sample of the unlabelled clips, those first whose labels would teach most."""
    assert state.scores is not None
    every = clips.shuffled
    rows = every[(state.labels[every] < 0) & shown[every]][:_CANDIDATES]
    placed, known_placed, targets = (
        clips.placing.apply(clips.engine.take(taken)) for taken in (rows, known, every[:_TARGETS])
    )
    gains = label_gains(
        placed, state.scores[rows], known_placed, state.scores[known], targets, state.strength
    )
    return rows[by_turns(gains, clips.video[rows], turns)]


def _class_scores(clips: ClipTable, state: Fitted, number: int) -> NDArray[np.float32] | None:
    if state.scores is not None and state.head is not None:
        at = np.flatnonzero(state.head.classes == number)
        return state.scores[:, at[0]] if len(at) else None
    rows = np.flatnonzero(state.labels == number)
    if not len(rows):
        return None
    # The mean is subtracted: what all clips share says nothing about a class.
    mean = clips.placing.mean.astype(np.float32)
    examples = clips.engine.take(rows) - mean
    return clips.each(lambda block: likeness(block - mean, examples))


def _own_scores(state: Fitted, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    if state.scores is None or state.head is None:
        return np.zeros(len(rows))
    column = np.searchsorted(state.head.classes, state.labels[rows])
    return state.scores[rows, column].astype(np.float64)
