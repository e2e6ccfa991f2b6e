"""Turns the network's outputs into the rows of a part, and writes them to disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.rows import RowLayout
from vidfeat.store.carried import CarriedAt, CarriedFrames
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import Part, VideoSlice, write_part
from vidfeat.store.records import VectorType, VideoFailure


@dataclass(frozen=True)
class PartsTarget:
    """Destination of parts, and the form of their rows."""

    folder: Path
    dimension: int
    """D, the length of a row."""
    dtype: VectorType
    """Type of the vectors on disk."""
    first_number: int
    """Number of the first part to write."""
    name: str | None = None
    """Name of the parts' files, followed by their places in this run; None takes their numbers."""

    def frame_width(self, rows: RowLayout) -> int:
        """Length of a frame network's output for a frame with all of its crops."""
        return self.dimension // rows.width_of_frames(1) * rows.crops


@dataclass
class OpenPart:
    """A part whose clips are arriving."""

    first_frame: int
    """Number of the first frame that arrives for it."""
    segments: list[VideoSlice] = field(default_factory=list)
    failures: list[VideoFailure] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    inputs: int = 0
    frames_NT: list[list[int]] = field(default_factory=list)
    """For clips whose frames arrive one by one: the numbers of their frames."""
    carried: CarriedAt | None = None
    kept: tuple[int, ...] = ()
    """Numbers of the frames that it carries."""

    def __bool__(self) -> bool:
        return bool(self.segments or self.failures)


class PartWriter:
    """Writes the parts of a run one after the other; for one thread.

    Args:
        target: where they go.
        rows: how the network's outputs become rows.
    """

    def __init__(self, target: PartsTarget, rows: RowLayout) -> None:
        self._target = target
        self._rows = rows
        self._width = target.frame_width(rows)
        self.number = target.first_number
        self.parts = 0
        """Parts written so far."""
        self._kept: dict[int, NDArray[np.float32]] = {}  # frames of earlier parts, by number

    def found(self, outputs: dict[int, NDArray[np.float32]]) -> None:
        """Take frames that an earlier run has encoded, by number."""
        self._kept |= outputs

    def write(self, part: OpenPart, outputs: list[NDArray[np.float32]]) -> None:
        """Write a part, from the network's outputs for its inputs."""
        target, carried = self._target, None
        with np.errstate(over="ignore", invalid="ignore"):  # write_part reports the rows
            if not outputs and not part.frames_NT:
                rows = np.empty((0, target.dimension), np.float32)
            elif self._rows.aggregate is None:
                rows = self._rows.of_clips(np.concatenate(outputs))
            else:
                rows, carried = self._rows_of_frames(part, outputs)
            rows = rows.astype(target.dtype, copy=False)
        seconds = np.array(part.start, np.float64), np.array(part.end, np.float64)
        finished = Part(
            Embeddings(rows, *seconds),
            part.segments,
            part.failures,
            carried,
            None if part.inputs == len(rows) else part.inputs,
        )
        name = None if target.name is None else place_name(target.name, self.parts)
        write_part(target.folder, finished, self.number, name)
        self.number += 1
        self.parts += 1

    def _rows_of_frames(
        self, part: OpenPart, outputs: list[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], CarriedFrames | None]:
        """The rows of clips, from new and kept frames, and the frames to carry over."""
        place_of = {number: place for place, number in enumerate(self._kept)}
        before = [np.stack(list(self._kept.values()))] if self._kept else []
        new = np.concatenate(outputs) if outputs else np.empty((0, self._width), np.float32)
        new = new.reshape(-1, self._width)
        frames_FO = np.concatenate([*before, new])
        offset = len(place_of) - part.first_frame

        def place(number: int) -> int:
            kept = place_of.get(number)
            return number + offset if kept is None else kept

        frames_NT = np.empty((0, 0), np.int64)
        if part.frames_NT:
            frames_NT = np.array([[place(n) for n in numbers] for numbers in part.frames_NT])
        crops = self._rows.crops
        rows = self._rows.of_frames(frames_FO.reshape(len(frames_FO) * crops, -1), frames_NT)
        self._kept = {number: frames_FO[place(number)] for number in part.kept}
        if part.carried is None:
            return rows, None
        held = [frames_FO[place(number)] for number in part.kept]
        kept = np.stack(held) if held else np.empty((0, self._width), np.float32)
        return rows, CarriedFrames(part.carried, kept)


def place_name(name: str, place: int) -> str:
    """Name of a part by its place in a run whose parts have a name."""
    return f"{name}-{place:04d}"
