"""Teaching: labels of clips, a head trained on them, and the order of clips to label next.

A label is confirmed when it is on disk. One thread then fits the head and scores every clip;
another one cross-validates later, and gives up if the labels change in the meantime.
"""

from __future__ import annotations

import threading
import time
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.label_rows import group_of
from vidfeat.errors import UsageError
from vidfeat.heads.head import Head
from vidfeat.heads.scorers import Scorer
from vidfeat.heads.teaching import FIRST_STRENGTH, QuickHead
from vidfeat.heads.teaching_quality import Quality, judge_labels
from vidfeat.index import VideoIndex
from vidfeat.web.label_book import Held, LabelBook, Span
from vidfeat.web.teach_clips import ClipTable, Fitted, Order, ordered, rows_judged

_ORDERS_KEPT = 8
# Labels that follow each other quickly are cross-validated together.
_JUDGE_AFTER_SECONDS = 0.2


class TeachSession:
    """The teaching of one index.

    Args:
        index: the index.
        book: its labels.
    """

    def __init__(self, index: VideoIndex, book: LabelBook) -> None:
        self.index = index
        self.book = book
        self.quality: tuple[int, Quality | None] = (-1, None)
        self._changed = threading.Condition()
        self._fitted: Fitted | None = None
        self._strength = FIRST_STRENGTH
        self._names: list[str] = []
        self._threads: list[threading.Thread] = []
        self._ends = False
        self._orders: dict[tuple[object, ...], NDArray[np.int64]] = {}

    @cached_property
    def clips(self) -> ClipTable:
        """The clips, read when they are first needed."""
        return ClipTable(self.index)

    @property
    def revision(self) -> int:
        """The revision of the labels."""
        return self.book.revision

    @property
    def names(self) -> list[str]:
        """Names of the classes by their numbers; a number is never reused for another class."""
        return self._names

    def close(self) -> None:
        """Stop the threads and release the file."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5)
        self.book.close()

    # ------------------------------------------------------------------ labelling

    def label(self, spans: list[Span], name: str | None, author: str) -> int:
        """Label segments, and return the revision on disk; see `LabelBook.change`."""
        if name is None:
            spans = [self._governing(span) for span in spans]
        revision = self.book.change(spans, name, author)
        self._wake()
        return revision

    def undo(self, author: str) -> list[Span]:
        """Undo the author's last change; see `LabelBook.undo`."""
        back = self.book.undo(author)
        self._wake()
        return back

    def look_again(self) -> None:
        """Notice changes of the file by another program."""
        if self.book.refresh():
            self._wake()

    def _governing(self, span: Span) -> Span:
        """The segment that gives a clip its label, which may be longer than the clip."""
        held = [one.span for one in self.book.rows_of(span.path)]
        if span in held:
            return span
        rows = self.index.videos.rows(self.index.videos.row_of[span.path])
        clips = {self.span_of(row) for row in range(rows.start, rows.stop)}
        start, end = span.ends
        around = [one for one in held if one not in clips and one.contains((start + end) / 2000)]
        return min(around, key=_length) if around else span

    def span_of(self, row: int) -> Span:
        """The segment that a clip covers."""
        clips = self.clips
        path = self.index.videos.paths[int(clips.video[row])]
        return Span.of(path, float(clips.start_seconds[row]), float(clips.end_seconds[row]))

    # ------------------------------------------------------------------ the threads

    def _wake(self) -> None:
        with self._changed:
            if not self._threads:
                for work in (self._fit_forever, self._judge_forever):
                    thread = threading.Thread(target=work, daemon=True, name=work.__name__)
                    self._threads.append(thread)
                    thread.start()
            self._changed.notify_all()

    def fitted(self, revision: int = 0, wait_seconds: float = 5.0) -> Fitted:
        """The newest fit: of this revision or a later one if ready in time, otherwise older."""
        end = time.monotonic() + wait_seconds
        self._wake()
        with self._changed:
            while not self._ends:
                found = self._fitted
                enough = found is not None and found.revision >= min(revision, self.revision)
                left = end - time.monotonic()
                if enough or (left <= 0 and found is not None):
                    break
                self._changed.wait(max(left, 0.05))
            if self._fitted is None:
                raise UsageError("the page is being closed")
            return self._fitted

    def _fit_forever(self) -> None:
        head = QuickHead(self.clips.placing)
        while True:
            with self._changed:
                while not self._ends and self._is_fitted():
                    self._changed.wait()
                if self._ends:
                    return
                revision, head.strength = self.revision, self._strength
            made = self._fit(head, revision)
            with self._changed:
                self._fitted = made
                self._orders.clear()
                self._changed.notify_all()

    def _is_fitted(self) -> bool:
        found = self._fitted
        return (
            found is not None
            and found.revision == self.revision
            and (found.strength == self._strength or found.head is None)
        )

    def _fit(self, quick: QuickHead, revision: int) -> Fitted:
        labels, first = self._clip_labels()
        rows = np.flatnonzero((labels >= 0) & self.clips.alive)
        y = labels[rows].astype(np.int64)
        if len(np.unique(y)) < 2:
            return Fitted(revision, labels, first, None, None, quick.strength)
        head = quick.fit(self.clips.engine.take(rows), y)
        scores = self.clips.each(head.scores)
        return Fitted(revision, labels, first, head, scores, quick.strength)

    def _judge_forever(self) -> None:
        done: Fitted | None = None
        while True:
            with self._changed:
                while not self._ends and (self._fitted is None or self._fitted is done):
                    self._changed.wait()
                state = self._settled()
                if self._ends:
                    return
            assert state is not None
            judged = None
            if done is None or done.revision != state.revision:
                judged = self._judge(state)
                with self._changed:
                    # An older result is better than none: it stays until there is a newer one.
                    if judged is not None or self.revision == state.revision:
                        self.quality = (state.revision, judged)
                    if judged is not None:
                        self._strength = judged.strength
                    self._changed.notify_all()
            done = state

    def _settled(self) -> Fitted | None:
        """The newest fit, once no other has followed for a while; the caller holds the lock."""
        state, end = self._fitted, time.monotonic() + _JUDGE_AFTER_SECONDS
        while not self._ends and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)
            if self._fitted is not state:
                state, end = self._fitted, time.monotonic() + _JUDGE_AFTER_SECONDS
        return state

    def _judge(self, state: Fitted) -> Quality | None:
        rows = rows_judged(state, self.clips.alive)
        if len(rows) < 4:
            return None
        placed = self.clips.placing.apply(self.clips.engine.take(rows))
        return judge_labels(
            placed,
            state.labels[rows].astype(np.int64),
            self._groups(rows),
            strength=state.strength,
            goes_on=lambda: self.revision == state.revision and not self._ends,
        )

    def _groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        videos = self.clips.video[rows]
        names: dict[int, str] = {}
        for video in np.unique(videos).tolist():
            path = self.index.videos.paths[video]
            held = self.book.rows_of(path)
            names[video] = group_of(held[0].row) if held else path
        return np.unique([names[int(video)] for video in videos], return_inverse=True)[1]

    # ------------------------------------------------------------------ labels of clips

    def _clip_labels(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The class number of every clip, and the rank of its label among all labels."""
        before = self._fitted
        changed = self.book.videos_changed_since(-1 if before is None else before.revision)
        if before is None or changed is None:
            labels = np.full(len(self.clips), -1, dtype=np.int32)
            first = np.full(len(self.clips), -1, dtype=np.int64)
            changed = self.book.videos()
        else:
            labels, first = before.labels.copy(), before.first.copy()
        for path in changed:
            found = self.index.videos.names.find(path)
            if found is not None:
                rows = self.index.videos.rows(self.index.videos.row_of[found])
                self._label_video(rows, path, labels[rows], first[rows])
        return labels, first

    def _label_video(
        self, rows: slice, path: str, labels: NDArray[np.int32], first: NDArray[np.int64]
    ) -> None:
        """Set the labels of one video's clips, by the same rule as finetune.

        A clip belongs to the segment that contains its middle, the shortest if there are several. A
        segment that equals a clip applies only to that clip, and takes precedence over all others.
        """
        labels[:], first[:] = -1, -1
        start_ms = self.clips.start_seconds[rows] * 1000
        end_ms = self.clips.end_seconds[rows] * 1000
        middle = (start_ms + end_ms) / 2
        own: list[tuple[NDArray[np.bool_], Held]] = []
        for one in sorted(self.book.rows_of(path), key=lambda one: -_length(one.span)):
            low, high = one.span.ends
            exact = (np.rint(start_ms) == low) & (np.rint(end_ms) == high)
            if exact.any():
                own.append((exact, one))
                continue
            meant = (middle >= low) & (middle < high)
            labels[meant], first[meant] = self._number(one.row.label), one.place
        for exact, one in own:
            labels[exact], first[exact] = self._number(one.row.label), one.place

    def _number(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    # ------------------------------------------------------------------ orders

    def order(
        self, state: Fitted, kind: Order, name: str, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Sort clips; see `ordered`.

        Args:
            state: a result of `fitted`.
            kind: which order.
            name: the class, for ``certain``.
            allowed: (videos,) those that pass the filters; None for all.
        """
        filters = None if allowed is None else hash(allowed.tobytes())
        judged = self.quality[0] if kind == "mistakes" else 0
        key = (state.revision, state.strength, judged, kind, name, filters)
        found = self._orders.get(key)
        if found is None:
            clips = self.clips
            shown = clips.alive if allowed is None else clips.alive & allowed[clips.video]
            number = self._names.index(name) if name in self._names else -1
            found = ordered(clips, state, kind, number, shown, self._out_of_fold(state))
            with self._changed:
                if len(self._orders) >= _ORDERS_KEPT:
                    self._orders.clear()
                self._orders[key] = found
        return found

    def _out_of_fold(self, state: Fitted) -> NDArray[np.float64] | None:
        """Out-of-fold score of each labelled clip's own label."""
        revision, judged = self.quality
        if judged is None or revision != state.revision:
            return None
        known = np.full(len(state.labels), np.inf)
        known[rows_judged(state, self.clips.alive)] = judged.own_scores
        return known

    # ------------------------------------------------------------------ the head

    def head(self) -> Head:
        """The current head, which takes the encoder's own vectors.

        Raises:
            UsageError: labels of fewer than two classes.
        """
        state = self.fitted(self.revision)
        if state.head is None:
            raise UsageError("a head needs labels of two classes or more: label some clips first")
        normalisation = self.index.normalisation
        arrays: dict[str, NDArray[np.float32]] = {
            "weights": state.head.weights,
            "bias": state.head.bias,
        }
        if normalisation.mean is not None:
            arrays["mean"] = np.asarray(normalisation.mean, dtype=np.float32)
            arrays["scale"] = np.ones_like(arrays["mean"])
        if normalisation.whitening is not None:
            arrays["whitening"] = np.asarray(normalisation.whitening, dtype=np.float32)
        names = [self._names[number] for number in state.head.classes]
        scorer = Scorer(kind="linear", arrays=arrays, num_classes=len(names), normalize=True)
        about = self.index.head
        counts = dict(self.book.classes)
        training: dict[str, object] = {
            "taught": "on the search page",
            "labels": {name: counts.get(name, 0) for name in names},
            "C": state.strength,
        }
        revision, judged = self.quality
        if judged is not None and revision == state.revision:
            training["cross_validated_accuracy"] = judged.accuracy.to_dict()
        return Head(
            scorer=scorer,
            classes=tuple(names),
            unit="clips",
            encoder=about.encoder,
            space_fingerprint=about.space_fingerprint,
            run_fingerprint=about.run_fingerprint,
            training=training,
        )


def _length(span: Span) -> float:
    start, end = span.ends
    return end - start
