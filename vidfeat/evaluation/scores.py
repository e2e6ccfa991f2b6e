"""Score files: a network's predictions for each video of a dataset, for fusion and analysis.

An HDF5 file with ``/scores`` (V, classes), ``/videos/path``, ``/labels`` (V,; -1 if unknown) and
``/classes``; the root attributes ``format = "vidfeat-scores"``, ``format_version`` and ``source``
(JSON: network, weights, protocol). Scores are probabilities averaged over clips.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError, UsageError
from vidfeat.system.files import atomic_write, canonical_json

FORMAT = "vidfeat-scores"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Scores:
    """Class scores of videos; all fields have the videos in the same order."""

    paths: tuple[str, ...]
    """Identity of each video: its path relative to the dataset's root."""
    scores: NDArray[np.float32]
    """(V, classes): probabilities, the mean over a video's clips."""
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """(V,): the true class, -1 if unknown; the first if there are several."""
    label_sets: tuple[tuple[int, ...], ...] = ()
    """All labels of each video, if a dataset has several; empty: only ``labels``."""
    source: dict[str, Any] = field(default_factory=dict)
    """Their origin: network, weights, protocol."""

    def __post_init__(self) -> None:
        expected = (len(self.paths), len(self.classes))
        if self.scores.shape != expected or self.labels.shape != expected[:1]:
            raise ValueError(
                f"scores {self.scores.shape} and labels {self.labels.shape} for {expected[0]} "
                f"videos and {expected[1]} classes"
            )
        if self.label_sets and len(self.label_sets) != len(self.paths):
            raise ValueError(f"{len(self.label_sets)} label sets for {len(self.paths)} videos")
        if len(set(self.paths)) != len(self.paths):
            raise ValueError("a video occurs twice among the scores")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Scores({len(self)} videos, {len(self.classes)} classes)"

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(V,): whether all scores of a video are finite; others are never right."""
        return np.asarray(np.isfinite(self.scores).all(axis=1))

    def require_finite(self, name: str) -> None:
        """Refuse scores that cannot be evaluated.

        Args:
            name: of the scores, for the message.

        Raises:
            DataError: a video has a score that is NaN or infinite.
        """
        bad = np.flatnonzero(~self.finite)
        if len(bad):
            raise DataError(
                f"{name}: the scores of {len(bad)} of {len(self)} videos are NaN or infinite (the "
                f"first: {self.paths[bad[0]]}): the network that made them has diverged, or ran in "
                "too low a precision"
            )

    def accepted(self) -> tuple[frozenset[int], ...]:
        """For each video, the classes that count as a hit."""
        if self.label_sets:
            return tuple(frozenset(labels) for labels in self.label_sets)
        return tuple(frozenset({int(label)}) for label in self.labels)


def write_scores(path: Path, scores: Scores) -> None:
    """Write a score file, completely or not at all."""
    import h5py

    text = h5py.string_dtype()
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["source"] = canonical_json(scores.source)
        file["scores"] = scores.scores
        file["labels"] = scores.labels
        file.create_dataset("videos/path", data=list(scores.paths), dtype=text)
        file.create_dataset("classes", data=list(scores.classes), dtype=text)
        if scores.label_sets:
            offsets = np.cumsum([0, *(len(labels) for labels in scores.label_sets)])
            file["label_sets/offset"] = offsets.astype(np.int64)
            flat = [label for labels in scores.label_sets for label in labels]
            file["label_sets/label"] = np.asarray(flat, np.int64)


def read_scores(path: Path) -> Scores:
    """Read a score file.

    Raises:
        StoreError: no such file, another format, a newer version of it, or a file in use.
    """
    from vidfeat.system.hdf5_reading import in_use_reason, open_hdf5

    if not path.is_file():
        raise StoreError(f"{path}: no such score file; vidfeat evaluate writes one")
    try:
        with open_hdf5(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise StoreError(f"{path} is HDF5 but not a score file of vidfeat evaluate")
            if int(file.attrs["format_version"]) > FORMAT_VERSION:
                raise StoreError(f"{path} is of a newer version: upgrade vidfeat to read it")
            label_sets: tuple[tuple[int, ...], ...] = ()
            if "label_sets" in file:
                offsets = file["label_sets/offset"][:]
                flat = file["label_sets/label"][:]
                pairs = pairwise(offsets)
                label_sets = tuple(tuple(int(x) for x in flat[a:b]) for a, b in pairs)
            return Scores(
                paths=tuple(file["videos/path"].asstr()[:]),
                scores=file["scores"][:].astype(np.float32),
                classes=tuple(file["classes"].asstr()[:]),
                labels=file["labels"][:].astype(np.int64),
                label_sets=label_sets,
                source=json.loads(file.attrs["source"]),
            )
    except (OSError, KeyError, ValueError) as error:
        reason = in_use_reason(error)
        if reason:
            raise StoreError(f"{path} {reason}") from error
        raise StoreError(f"{path} cannot be read as a score file: {error}") from error


def fuse_scores(first: Scores, second: Scores, weight: float = 0.5) -> Scores:
    """The weighted mean of two networks' scores: ``weight`` for the first, the rest for the second.

    The paper's two-stream fusion is the plain mean; its authors' script weights RGB with 0.6.

    Raises:
        UsageError: a weight outside 0 to 1, or scores of different videos or classes.
        DataError: scores that are not finite.
    """
    if not 0 <= weight <= 1:
        raise UsageError(
            f"weight is the share of the first file, from 0 to 1, not {weight}", field="weight"
        )
    for name, scores in (("the first file", first), ("the second file", second)):
        scores.require_finite(name)
    if first.classes != second.classes:
        raise UsageError(
            f"the score files have different classes ({len(first.classes)} and "
            f"{len(second.classes)}, from {first.classes[0]!r} and {second.classes[0]!r}): they "
            "cannot be fused"
        )
    rows = {path: row for row, path in enumerate(second.paths)}
    lacking = [path for path in first.paths if path not in rows]
    if lacking or len(rows) != len(first.paths):
        only = lacking[0] if lacking else next(iter(set(second.paths) - set(first.paths)))
        raise UsageError(
            f"the score files cover different videos ({len(first)} and {len(second)}; {only} is in "
            f"only one of them): evaluate both networks on the same part of the same data"
        )
    order = [rows[path] for path in first.paths]
    if not np.array_equal(first.labels, second.labels[order]):
        raise UsageError("the score files have different labels for the same videos")
    mixed = weight * first.scores + (1 - weight) * second.scores[order]
    source = {"fused": [first.source, second.source], "weight": weight}
    return Scores(
        first.paths,
        mixed.astype(np.float32),
        first.classes,
        first.labels,
        first.label_sets,
        source,
    )
