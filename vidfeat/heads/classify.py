"""Classify videos with a trained head or with the network's own classes, also over time.

::

    judge = HeadJudge(Head.load("head/"))
    found = classify_video(judge, "video.mp4", every_seconds=2.0)
    found.predictions[0].label, found.segments[3].predictions[0].label
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.reading import ClipNetwork, VideoRead
from vidfeat.encoders.reading import read_videos as read_rows
from vidfeat.errors import UsageError, VideoError
from vidfeat.heads.head import Head
from vidfeat.heads.scorers import softmax
from vidfeat.store.embeddings import Embeddings
from vidfeat.system.urls import shown_path
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS
from vidfeat.video.decode.tasks import ClipSource, VideoTask

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.store.reader import FeatureStore
    from vidfeat.video.plan_choice import PlanChoice

CLIPS_PER_SECOND_OF_TIME_LINE = 1.0


@dataclass(frozen=True)
class Prediction:
    """A class and its score, 0 to 1."""

    label: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"label": self.label, "score": self.score}


@dataclass(frozen=True)
class ScoredSegment:
    """A segment of a video and its classes, best first; ``scores`` (C,) are of all classes."""

    start_seconds: float
    end_seconds: float
    predictions: tuple[Prediction, ...]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)


@dataclass(frozen=True)
class VideoPrediction:
    """The classes of a video.

    Attributes:
        path: the video.
        predictions: the best classes, best first.
        segments: of the timeline; empty if none was requested.
        scores: (C,) of all classes.
        classes: their names, in that order.
    """

    path: str
    predictions: tuple[Prediction, ...]
    segments: tuple[ScoredSegment, ...] = ()
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``segments`` only with a timeline."""
        values: dict[str, Any] = {
            "path": self.path,
            "predictions": [prediction.to_dict() for prediction in self.predictions],
        }
        if self.segments:
            values["segments"] = [
                {
                    "start_seconds": round(segment.start_seconds, 6),
                    "end_seconds": round(segment.end_seconds, 6),
                    "predictions": [prediction.to_dict() for prediction in segment.predictions],
                }
                for segment in self.segments
            ]
        return values


class Judge(Protocol):
    """Turns a video's clips into class scores."""

    @property
    def classes(self) -> Sequence[str]:
        """Names, in the order of the scores."""

    @property
    def encoder(self) -> Encoder | None:
        """Determines which clips are read; None if only stored features are classified."""

    @property
    def reader(self) -> ClipNetwork:
        """The network that computes the rows of clips for ``scores``."""

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Class scores (C,) of some clips of one video together."""


class HeadJudge:
    """A trained head and, for video files, the encoder whose vectors it takes.

    Args:
        head: the head.
        encoder: for video files; None if only stored features are classified.
        time_line: the encoder's clips were laid by `time_line_plan`: no warning about that.

    Raises:
        FingerprintError: the encoder's vectors are of another space.
    """

    def __init__(
        self, head: Head, encoder: Encoder | None = None, *, time_line: bool = False
    ) -> None:
        self.head = head
        self.encoder = encoder
        self.warning: str | None = None
        if encoder is not None:
            self.warning = head.check_encoder(
                encoder.describe(),
                encoder.space_fingerprint,
                encoder.run_fingerprint,
                name="the encoder",
                any_layout=time_line,
            )

    @property
    def classes(self) -> Sequence[str]:
        """The head's classes."""
        return self.head.classes

    def check_store(self, store: FeatureStore) -> str | None:
        """Check that stored features fit the head; returns a warning if plan or precision differ.

        Raises:
            FingerprintError: they are of another space.
        """
        return self.head.check_encoder(
            store.encoder,
            store.space_fingerprint,
            store.run_fingerprint,
            name=os.fspath(store.path),
        )

    @property
    def reader(self) -> ClipNetwork:
        """The network that computes the vectors of clips.

        Raises:
            UsageError: there is no encoder.
        """
        if self.encoder is None:
            raise UsageError("video files need an encoder: give one to HeadJudge")
        return self.encoder.reader

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Class scores (C,) of clip vectors (N, D)."""
        return self.head.scores(rows)


class NetworkJudge:
    """The network's own classes: the mean over clips of the softmax of its logits."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._classes = tuple(encoder.class_names or ())

    @property
    def classes(self) -> Sequence[str]:
        """Class names of the weights; numbers if they have none."""
        return self._classes

    @property
    def reader(self) -> ClipNetwork:
        """The network that computes the logits of clips, one row per clip."""
        spec = self.encoder.spec
        batch_size = max(1, self.encoder.batch_size // spec.inputs_per_clip)
        return ClipNetwork(self._logits, ClipSource(spec.plan, spec.preprocess), batch_size)

    def _logits(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self.encoder.predict_clips(clips_NTHWC, require_finite=False)
        if not self._classes:
            self._classes = tuple(f"class {i}" for i in range(logits.shape[1]))
        return logits

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Class scores (C,) of clip logits (N, C)."""
        return np.asarray(softmax(np.asarray(rows, dtype=np.float64)).mean(axis=0))


def time_line_plan(plan: PlanChoice, every_seconds: float | None) -> PlanChoice:
    """Lay about one clip per second if a timeline is requested without a hop or clip count.

    Raises:
        UsageError: ``every_seconds`` is not above 0.
    """
    from dataclasses import replace

    _check_every(every_seconds)
    if every_seconds is None:
        return plan
    if plan.hop_frames or plan.hop_seconds or plan.clips:
        return plan
    clips = math.ceil(every_seconds * CLIPS_PER_SECOND_OF_TIME_LINE)
    return replace(plan, hop_seconds=every_seconds / clips, tail=plan.tail or "flush")


def _check_every(seconds: float | None) -> None:
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"every_seconds must be above 0, not {seconds:g}", field="every_seconds")


def read_videos(
    judge: Judge,
    paths: Iterable[str | os.PathLike[str]],
    *,
    workers: int = 1,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Iterator[VideoRead]:
    """Decode videos and compute the rows of their clips, video after video, in the order given.

    Separate processes decode: a file that crashes its decoder, or hangs it, costs only itself.

    Args:
        judge: a head with an encoder, or a network.
        paths: the files.
        workers: decode processes; 0 decodes in this process, which then has no such protection.
        timeout_seconds: seconds without progress after which a video is given up.

    Raises:
        UsageError: the judge has no encoder.
    """
    yield from map(
        finite_clips,
        read_rows(
            judge.reader,
            [VideoTask(os.fspath(path)) for path in paths],
            workers=workers,
            timeout_seconds=timeout_seconds,
        ),
    )


def finite_clips(read: VideoRead) -> VideoRead:
    """The same video without clips whose rows are NaN or infinite; its error says how many."""
    if read.clips is None:
        return read
    good = np.asarray(np.isfinite(read.clips.vectors).all(axis=1))
    if good.all():
        return read
    before = f"{read.error}; " if read.error is not None else ""
    error = VideoError(
        f"{before}the network's outputs for {int((~good).sum())} of {len(good)} clips are NaN or "
        "infinite: its weights are damaged, or the precision does not suffice",
        kind="not_finite",
        path=shown_path(read.path),
    )
    clips = read.clips
    kept = Embeddings(clips.vectors[good], clips.start_seconds[good], clips.end_seconds[good])
    return VideoRead(read.path, kept if len(kept) else None, error)


def classify_video(
    judge: Judge,
    path: str | os.PathLike[str],
    *,
    top: int = 5,
    every_seconds: float | None = None,
) -> VideoPrediction:
    """Classify one video file.

    A file that breaks midway is classified by the clips before the break; clips whose rows are NaN
    or infinite are left out: both with a warning.

    Args:
        judge: a head or a network.
        path: the file.
        top: how many classes to name.
        every_seconds: also name them for each segment of this many seconds.

    Raises:
        VideoError: the file cannot be read.
    """
    (read,) = read_videos(judge, [path])
    if read.clips is None:
        assert read.error is not None
        raise read.error
    if read.error is not None:
        warnings.warn(f"{os.fspath(path)}: {read.error}", stacklevel=2)
    return classify_clips(judge, os.fspath(path), read.clips, top=top, every_seconds=every_seconds)


def classify_clips(
    judge: Judge,
    path: str,
    clips: Embeddings,
    *,
    top: int = 5,
    every_seconds: float | None = None,
) -> VideoPrediction:
    """Classify a video whose clips are already encoded; see `classify_video`.

    Raises:
        VideoError: kind ``not_finite``: its scores are NaN or infinite.
    """
    if top < 1:
        raise UsageError(f"top must be 1 or more, not {top}", field="top")
    _check_every(every_seconds)
    scores = judge.scores(clips.vectors)
    if not np.isfinite(scores).all():
        raise VideoError(
            "its scores are NaN or infinite: its vectors are damaged, or far larger than those the "
            "head was trained on",
            kind="not_finite",
            path=path,
        )
    segments: list[ScoredSegment] = []
    if every_seconds is not None:
        segments = _segments(judge, clips, top, every_seconds)
    best = _best(judge, scores, top)
    return VideoPrediction(path, best, tuple(segments), scores, tuple(judge.classes))


def _segments(
    judge: Judge, clips: Embeddings, top: int, every_seconds: float
) -> list[ScoredSegment]:
    """Segments of equal length from 0 to the last clip's end.

    A remainder shorter than half of one belongs to the segment before it. A clip belongs to the
    segment that contains its middle; a segment without one takes the clip whose middle is nearest
    to its own.
    """
    middle = (clips.start_seconds + clips.end_seconds) / 2
    end = float(clips.end_seconds.max())
    # 60 s at 29.97 frames per second are 60.06 s: such a remainder is not a segment of its own
    count = max(1, math.floor(end / every_seconds + 0.5))
    place = np.minimum((middle / every_seconds).astype(np.int64), count - 1)
    segments = []
    for number in range(count):
        start = number * every_seconds
        stop = end if number == count - 1 else start + every_seconds
        inside = np.flatnonzero(place == number)
        if not len(inside):
            inside = np.array([np.abs(middle - (start + stop) / 2).argmin()])
        scores = judge.scores(clips.vectors[inside])
        segments.append(ScoredSegment(start, stop, _best(judge, scores, top), scores))
    return segments


def _best(judge: Judge, scores: NDArray[np.float64], top: int) -> tuple[Prediction, ...]:
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(Prediction(judge.classes[int(i)], float(scores[i])) for i in order)
