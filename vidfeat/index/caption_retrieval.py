"""Retrieval with captions by MSR-VTT's protocol, in both directions.

A video is represented by the mean of its clips' unit vectors, which is compared with captions by
cosine. From text to video, each caption retrieves its video among all captioned videos. From video
to text, each video retrieves its captions among all, and its best one counts. R@k is the share of
queries whose rank is k or better; the median and the mean rank are reported too. Ties count against
the right answer, so that vectors that cannot tell videos apart gain nothing (Xu et al., CVPR 2016;
the split 1k-A is from Yu et al., ECCV 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.captions import Captions, match_videos
from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import DataError
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Progress

RANKS = (1, 5, 10)
_BLOCK = 64
_QUERIES = 512


@dataclass(frozen=True)
class Direction:
    """One direction of the protocol.

    Attributes:
        recall: k to R@k, as fractions.
        median_rank: median rank over the queries; 1 is the best.
        mean_rank: mean rank over the queries.
        num_queries: number of queries.
    """

    recall: dict[int, float]
    median_rank: float
    mean_rank: float
    num_queries: int

    def to_dict(self) -> dict[str, Any]:
        """The scores, for JSON."""
        return {
            "recall": {str(k): value for k, value in self.recall.items()},
            "median_rank": self.median_rank,
            "mean_rank": self.mean_rank,
            "queries": self.num_queries,
        }


@dataclass(frozen=True)
class CaptionScores:
    """The results of a run of the protocol.

    Attributes:
        text_to_video: captions that retrieve their video.
        video_to_text: videos that retrieve their captions.
        variant: description of what was done, to be printed with the figures.
        missing: captioned videos without features.
        notes: departures from the protocol, one sentence each.
    """

    text_to_video: Direction
    video_to_text: Direction
    variant: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The scores, for JSON."""
        return {
            "text_to_video": self.text_to_video.to_dict(),
            "video_to_text": self.video_to_text.to_dict(),
            "variant": self.variant,
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def evaluate_captions(
    store: FeatureStore,
    captions: Captions,
    texts: TextEncoder,
    *,
    skip_bad_rows: bool = False,
    progress: Progress | None = None,
) -> CaptionScores:
    """Run the protocol.

    Args:
        store: features of the videos; those without a caption do not count.
        captions: one or more for each video.
        texts: the text tower of the encoder that made the features.
        skip_bad_rows: leave out clips whose vectors are not finite; otherwise they are an error.
        progress: called with the number of captions encoded so far, and the total.

    Raises:
        DataError: no captioned video has features, or vectors cannot be compared.
        FingerprintError: the text tower is another encoder's.
    """
    paths = match_videos(captions, store.paths)
    gallery: list[NDArray[np.float64]] = []
    place: dict[int, int] = {}
    missing: list[str] = []
    counts: list[int] = []
    for number, path in enumerate(paths):
        vectors = None if path is None else np.asarray(store.read(path).vectors, np.float64)
        if vectors is not None:
            vectors = _good(vectors, str(path), skip_bad_rows)
        if vectors is None or not len(vectors):
            missing.append(captions.videos[number])
            continue
        place[number] = len(gallery)
        gallery.append(_unit(_unit(vectors, str(path)).mean(axis=0)[None], str(path))[0])
        counts.append(len(vectors))
    if not gallery:
        raise DataError(
            f"{captions.source}: none of its {len(paths)} videos is in {store.path}, which has "
            f"paths such as {next(iter(store.paths), '')!r}"
        )
    kept = [n for n, video in enumerate(captions.video_of) if video in place]
    owner = np.array([place[captions.video_of[n]] for n in kept])
    queries = _encode(texts, [captions.texts[n] for n in kept], progress)
    scores = queries @ np.stack(gallery).T
    to_video, to_text = ranks(scores, owner)
    per_video = np.bincount(owner, minlength=len(gallery))
    several = "one caption" if per_video.max() == 1 else f"1 to {per_video.max()} captions"
    if per_video.min() == per_video.max() > 1:
        several = f"{per_video.max()} captions"
    clips = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    return CaptionScores(
        text_to_video=_summary(to_video),
        video_to_text=_summary(to_text),
        variant=(
            f"{captions.source}: {len(gallery)} videos of {clips} clips, unit vectors averaged, "
            f"{several} each, cosine; a video's best caption counts"
        ),
        missing=tuple(missing),
        notes=_notes(missing, len(store.paths) - len(gallery)),
    )


def ranks(
    scores: NDArray[np.float64], owner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks, from 1, of each caption's video (N,) and of each video's best own caption (V,).

    Args:
        scores: (N, V) of captions with videos.
        owner: (N,) the video of each caption; every video has one.
    """
    num_captions, num_videos = scores.shape
    to_video = np.empty(num_captions, np.int64)
    for low in range(0, num_captions, _QUERIES):
        part = scores[low : low + _QUERIES]
        own = part[np.arange(len(part)), owner[low : low + _QUERIES]]
        to_video[low : low + _QUERIES] = (part >= own[:, None]).sum(axis=1)
    best = np.full(num_videos, -np.inf)
    np.maximum.at(best, owner, scores[np.arange(num_captions), owner])
    better = (scores >= best[None]).sum(axis=0)
    own_ties = np.bincount(
        owner, weights=scores[np.arange(num_captions), owner] >= best[owner], minlength=num_videos
    ).astype(np.int64)
    return to_video, better - own_ties + 1


def _summary(found: NDArray[np.int64]) -> Direction:
    return Direction(
        recall={k: float((found <= k).mean()) for k in RANKS},
        median_rank=float(np.median(found)),
        mean_rank=float(found.mean()),
        num_queries=len(found),
    )


def _encode(
    texts: TextEncoder, phrases: Sequence[str], progress: Progress | None
) -> NDArray[np.float64]:
    parts = []
    for low in range(0, len(phrases), _BLOCK):
        vectors = texts.encode(phrases[low : low + _BLOCK], keep=False)
        parts.append(_unit(vectors.astype(np.float64), "a caption"))
        if progress is not None:
            progress(min(low + _BLOCK, len(phrases)), len(phrases))
    return np.concatenate(parts)


def _good(vectors: NDArray[np.float64], path: str, skip: bool) -> NDArray[np.float64]:
    good = np.isfinite(vectors).all(axis=1)
    if good.all() or skip:
        return vectors[good]
    raise DataError(
        f"{path} has a vector that is not finite: extract it again, or leave such clips out",
        field="skip_bad_rows",
    )


def _unit(vectors: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (length > 0).all():
        raise DataError(f"a vector of {name} is zero: extract it again")
    return np.asarray(vectors / length)


def _notes(missing: Sequence[str], others: int) -> tuple[str, ...]:
    notes = []
    if missing:
        notes.append(f"{len(missing)} captioned videos have no features and are not counted")
    if others:
        notes.append(f"{others} videos without a caption are not in the gallery")
    return tuple(notes)
