"""Join the vectors of several networks: rows of the same video and seconds, side by side.

Each input keeps its order and its own columns: with inputs of D1 and D2 numbers per row, columns 0
to D1 - 1 of the output are the first input's. By default each part is divided by its own length
(L2), so that the cosine of two joined rows is the mean of the cosines of their parts, and no
network outweighs another because its numbers are larger. ``scale="none"`` keeps the numbers as they
are, which is what published RGB and flow pairs of one network expect.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError, UsageError
from vidfeat.store.arrays import gather_rows
from vidfeat.store.matching import MATCHES, Match, SpanReader, Spans, match_rows, spacing
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import RunIdentity, VectorType, VideoFailure
from vidfeat.store.schema import VIDEO_COLUMNS
from vidfeat.store.writer import StoreWriter, writing_store
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import canonical_json
from vidfeat.system.lock import OutputLock
from vidfeat.system.wording import counted

SCALES = ("unit", "none")
# With fewer partners than this share of the sparsest input's rows, the clips were laid differently.
_LEAST_SHARE = 0.5
_SHOWN = 3


@dataclass(frozen=True)
class JoinReport:
    """What a joined file holds, and what was left out.

    Attributes:
        videos: videos in the output.
        clips: rows in the output.
        dimension: numbers of a row.
        warnings: what was left out and what looks wrong, one sentence each.
    """

    videos: int
    clips: int
    dimension: int
    warnings: tuple[str, ...] = ()


def join_stores(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    scale: str = "unit",
    match: str = "span",
    tolerance_seconds: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> JoinReport:
    """Write a feature file whose rows are the rows of all inputs side by side.

    Args:
        inputs: two feature files or more; their order is the order of the columns.
        output: the new file, (N, D1 + D2 + ...).
        scale: ``unit`` divides each part of a row by its length, ``none`` leaves it.
        match: which rows are partners: ``span``, those that cover the same seconds; ``start`` or
            ``centre``, those that start or have their middle at the same second. The joined row
            then covers the seconds of both.
        tolerance_seconds: by how much partners may differ; None for one frame of the video.
        overwrite: replace an existing file.
        progress: see `Progress`.

    Raises:
        StoreError: the clips of the inputs were laid differently, they share no video, or the
            output already exists.
        UsageError: an unknown option, fewer than two inputs, the same input twice, or an output
            that is one of them.
        LockedError: another run is writing the output.
        OSError: writing failed; nothing is changed.
    """
    output = Path(output)
    _check_arguments(inputs, output, scale, match, tolerance_seconds)
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(path)) for path in inputs]
        stack.enter_context(OutputLock(output))
        if output.exists() and not overwrite:
            raise StoreError(
                f"{output} already exists: give overwrite=True to replace it, or choose "
                "another output"
            )
        plan = _Plan(stores, cast(Match, match), tolerance_seconds)
        identity = joined_identity([store.identity for store in stores], scale, match)
        first = stores[0]
        chosen = plan.videos[:, 0]
        table: dict[str, Any] = {
            name: first.videos[name][chosen].tolist()
            for name in VIDEO_COLUMNS
            if name not in ("offset", "count")
        }
        clips = int(plan.counts.sum())
        with writing_store(
            output, identity, table, plan.counts.tolist(), plan.failures()
        ) as writer:
            _write(writer, plan, unit=scale == "unit", total=clips, progress=progress)
        return JoinReport(len(chosen), clips, identity.dimension, tuple(plan.warnings()))


def _check_arguments(
    inputs: Sequence[str | os.PathLike[str]],
    output: Path,
    scale: str,
    match: str,
    tolerance_seconds: float | None,
) -> None:
    if len(inputs) < 2:
        raise UsageError("one feature file cannot be joined: give two or more")
    files = [Path(path).resolve() for path in inputs]
    for number, file in enumerate(files):
        if file in files[:number]:
            raise UsageError(f"{inputs[number]} is given twice: join files of different networks")
    if output.resolve() in files:
        raise UsageError(f"{output} is one of the files to join: choose another output")
    if scale not in SCALES:
        raise UsageError(f"scale is {scale!r}, expected {' or '.join(SCALES)}", field="scale")
    if match not in MATCHES:
        raise UsageError(f"match is {match!r}, expected {', '.join(MATCHES)}", field="match")
    if tolerance_seconds is not None and not 0 <= tolerance_seconds < float("inf"):
        raise UsageError(
            f"tolerance_seconds is {tolerance_seconds:g}, expected 0 or more",
            field="tolerance_seconds",
        )


# ---------------------------------------------------------------------- identity


def joined_identity(parts: Sequence[RunIdentity], scale: str, match: str) -> RunIdentity:
    """The identity of a joined file: the encoders of its parts, and how they were joined.

    Raises:
        StoreError: the inputs are of different shards.
    """
    shards = {part.shards for part in parts} - {""}
    if len(shards) > 1:
        raise StoreError(
            f"the files hold the shards {' and '.join(sorted(shards))}: merge the shards of each "
            "network first"
        )
    about = [
        {
            **part.encoder,
            "dimension": part.dimension,
            "space_fingerprint": part.space_fingerprint,
            "run_fingerprint": part.run_fingerprint,
        }
        for part in parts
    ]
    encoder: dict[str, Any] = {
        name: " + ".join(str(part.encoder.get(name, "?")) for part in parts)
        for name in ("model", "weights")
    }
    for name in ("plan", "precision", "engine"):
        values = {canonical_json(part.encoder.get(name)) for part in parts}
        if len(values) == 1 and parts[0].encoder.get(name) is not None:
            encoder[name] = parts[0].encoder[name]
    licences = dict.fromkeys(str(part["licence"]) for part in about if part.get("licence"))
    if licences:
        encoder["licence"] = " + ".join(licences)
    dimension = sum(part.dimension for part in parts)
    encoder |= {"scale": scale, "match": match, "dimension": dimension, "joined": about}
    space = _fingerprint({"joined": [part.space_fingerprint for part in parts], "scale": scale})
    run = _fingerprint(
        {"space": space, "joined": [part.run_fingerprint for part in parts], "match": match}
    )
    return RunIdentity(
        encoder=encoder,
        space_fingerprint=space,
        run_fingerprint=run,
        dimension=dimension,
        dtype=cast(VectorType, np.result_type(*[part.dtype for part in parts]).name),
        source_root=parts[0].source_root,
        shards=next(iter(shards), ""),
    )


def _fingerprint(values: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def join_vectors(parts: Sequence[NDArray[Any]], *, unit: bool) -> NDArray[np.float32]:
    """Vectors (N, D1), (N, D2), ... side by side, (N, D1 + D2 + ...); zero vectors stay zero."""
    if not unit:
        return np.concatenate([np.asarray(part, np.float32) for part in parts], axis=1)
    scaled = []
    for part in parts:
        wide = np.asarray(part, dtype=np.float32)
        length = np.sqrt(np.einsum("nd,nd->n", wide, wide, dtype=np.float64))
        scaled.append(wide / np.where(length > 0, length, 1.0)[:, None].astype(np.float32))
    return np.concatenate(scaled, axis=1)


# ---------------------------------------------------------------------- which rows


class _Joined(NamedTuple):
    """One video: its rows in each input, (inputs, n), and what each row covers."""

    rows: NDArray[np.int64]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]


class _Plan:
    """The videos that all inputs have, and the matching rows of each."""

    def __init__(
        self, stores: Sequence[FeatureStore], match: Match, tolerance_seconds: float | None
    ) -> None:
        self.stores = stores
        self.match = match
        self.tolerance_seconds = tolerance_seconds
        shared = [path for path in stores[0].paths if all(path in store for store in stores[1:])]
        if not shared:
            raise StoreError(_no_video_in_common(stores))
        self.videos = np.array([[store.index(path) for store in stores] for path in shared])
        """(V, inputs) row of ``/videos`` of each in every input."""
        self.lonely = np.zeros(len(stores), dtype=np.int64)
        """Rows of each input that have no partner."""
        self._example: dict[int, str] = {}
        matched = np.array([len(joined.start_seconds) for joined in self._matched(count=True)])
        self.counts = matched.astype(np.int64)
        self._refuse_other_grids()

    def __iter__(self) -> Iterator[_Joined]:
        return self._matched(count=False)

    def _matched(self, *, count: bool) -> Iterator[_Joined]:
        """Every video in turn; done twice, since the rows of all videos may not fit in memory."""
        readers = [SpanReader(store) for store in self.stores]
        fps = self.stores[0].videos["fps"]
        for videos in self.videos:
            spans = [reader.of(int(row)) for reader, row in zip(readers, videos, strict=True)]
            tolerance = self.tolerance_seconds
            if tolerance is None:
                rate = float(fps[videos[0]])
                tolerance = 1 / rate if rate > 0 else 0.0
            found = match_rows(spans, self.match, tolerance)
            if count:
                self._count(int(videos[0]), spans, found)
            yield _Joined(
                found + np.array([[span.first] for span in spans]),
                np.min([s.start[f] for s, f in zip(spans, found, strict=True)], axis=0),
                np.max([s.end[f] for s, f in zip(spans, found, strict=True)], axis=0),
            )

    def _count(self, video: int, spans: Sequence[Spans], found: NDArray[np.int64]) -> None:
        for number, span in enumerate(spans):
            missing = len(span.start) - found.shape[1]
            self.lonely[number] += missing
            if missing and number not in self._example:
                row = int(np.setdiff1d(np.arange(len(span.start)), found[number])[0])
                self._example[number] = (
                    f"{self.stores[0].paths[video]!r} at {span.start[row]:.3f} to "
                    f"{span.end[row]:.3f} s"
                )

    def _refuse_other_grids(self) -> None:
        rows = self.lonely + self.counts.sum()
        sparsest = int(rows.min())
        if not sparsest or self.counts.sum() >= _LEAST_SHARE * sparsest:
            return
        grids = " and ".join(
            f"{store.path} has {spacing(store, self.videos[:, number])}"
            for number, store in enumerate(self.stores)
        )
        raise StoreError(
            f"the clips do not fit: {self.counts.sum() or 'none'} of {sparsest:,} rows cover the "
            f"same seconds; {grids}. Extract with the same hop, or match rows by their start or "
            "centre (match=start, match=centre)"
        )

    def failures(self) -> list[VideoFailure]:
        """Videos that could not be read in any of the inputs."""
        every = [failure for store in reversed(self.stores) for failure in store.errors]
        return list({failure.path: failure for failure in every}.values())

    def warnings(self) -> list[str]:
        """What was left out, and videos that may have changed between the runs."""
        told = []
        for number, store in enumerate(self.stores):
            only = store.num_videos - len(self.videos)
            if only:
                taken = set(self.videos[:, number].tolist())
                names = [store.paths[row] for row in range(store.num_videos) if row not in taken]
                shown = ", ".join(repr(name) for name in names[:_SHOWN])
                told.append(
                    f"{store.path}: {counted(only, 'video')} left out, not in every file: {shown}"
                    f"{', ...' if only > _SHOWN else ''}"
                )
            if self.lonely[number]:
                told.append(
                    f"{store.path}: {counted(int(self.lonely[number]), 'row')} left out, without a "
                    f"partner: {self._example[number]}"
                )
        first = self.stores[0]
        for number, store in enumerate(self.stores[1:], 1):
            told.extend(
                f"{other.path} and {store.path} are from the same network: one of them is enough"
                for other in self.stores[:number]
                if store.identity.space_fingerprint == other.identity.space_fingerprint
            )
            sizes = first.videos["size_bytes"][self.videos[:, 0]]
            changed = np.flatnonzero(sizes != store.videos["size_bytes"][self.videos[:, number]])
            if len(changed):
                name = first.paths[int(self.videos[changed[0], 0])]
                told.append(
                    f"{counted(len(changed), 'video')} had another size in {store.path} than in "
                    f"{first.path}, such as {name!r}: make sure that the content is the same"
                )
        return told


def _no_video_in_common(stores: Sequence[FeatureStore]) -> str:
    shown = " and ".join(
        f"{store.path} has {store.paths[0]!r}" if store.num_videos else f"{store.path} has none"
        for store in stores
    )
    return (
        f"the files have no video in common: {shown}. Paths are relative to the root of the "
        "videos: extract with the same root"
    )


# ---------------------------------------------------------------------- writing


def _write(
    writer: StoreWriter, plan: _Plan, *, unit: bool, total: int, progress: Progress | None
) -> None:
    step = min(store.block_rows() for store in plan.stores)
    written = 0
    for block in _blocks(iter(plan), step):
        parts = [
            gather_rows(store, rows) for store, rows in zip(plan.stores, block.rows, strict=True)
        ]
        writer.append(join_vectors(parts, unit=unit), block.start_seconds, block.end_seconds)
        written += len(block.start_seconds)
        if progress is not None:
            progress(written, total)


def _blocks(videos: Iterator[_Joined], step: int) -> Iterator[_Joined]:
    """Rows of many short videos together, and of a long one in pieces: ``step`` rows at most."""

    def pieces() -> Iterator[tuple[int, _Joined]]:
        held = 0
        for video in videos:
            count = len(video.start_seconds)
            at = 0
            while at < count:
                take = min(count - at, step - held % step)
                inside = slice(at, at + take)
                yield (
                    held // step,
                    _Joined(
                        video.rows[:, inside],
                        video.start_seconds[inside],
                        video.end_seconds[inside],
                    ),
                )
                held += take
                at += take

    for _, group in groupby(pieces(), key=lambda piece: piece[0]):
        block = [piece for _, piece in group]
        yield _Joined(
            np.concatenate([piece.rows for piece in block], axis=1),
            np.concatenate([piece.start_seconds for piece in block]),
            np.concatenate([piece.end_seconds for piece in block]),
        )
