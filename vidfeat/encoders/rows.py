"""From a network's outputs to the rows of a feature file.

A network takes *inputs*: clips, or single frames. A clip of a plan is one input or several: its
frames, for a frame network, and each of its crops. The outputs for these become one row or several:
time steps and crops may have separate rows.

Shapes: N clips, T frames, V crops, R rows per clip, O length of the network's output for an input,
D length of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.clips import Clip

Aggregate = Literal["mean", "mean_std", "max", "none"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)

# Frames are gathered in blocks of this many bytes.
_GATHERED_BYTES = 32 << 20


@dataclass(frozen=True)
class RowLayout:
    """How outputs become rows. The rows of a clip are ordered by time, then by crop."""

    aggregate: Aggregate | None = None
    """How the frames of a clip become one row; None for clip networks."""
    crops: int = 1
    average_crops: bool = False
    """Whether all crops of a clip share one row."""
    time_steps: int = 1
    """Time steps in the network's output for a clip."""

    @property
    def rows_per_clip(self) -> int:
        """R, the number of rows per clip."""
        return self.time_steps * (1 if self.average_crops else self.crops)

    def of_clips(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows (N R, D) from a clip network's outputs for the crops of N clips (N V, O)."""
        if self.crops == self.time_steps == 1:
            return outputs
        steps_NVSD = outputs.reshape(-1, self.crops, self.time_steps, self._step_width(outputs))
        return self._rows(steps_NVSD.transpose(0, 2, 1, 3))

    def of_frames(
        self, outputs: NDArray[np.float32], frames_NT: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Rows (N R, D) from a frame network's outputs for the crops of frames (F V, O).

        Args:
            outputs: frame by frame, and crop by crop.
            frames_NT: which of the F frames form each clip.
        """
        frames_FVO = outputs.reshape(-1, self.crops, outputs.shape[-1])
        clips, frames = frames_NT.shape
        step = max(1, _GATHERED_BYTES // max(1, frames * frames_FVO[:1].nbytes))
        rows = [
            self._rows(self._joined(frames_FVO[frames_NT[at : at + step]])[:, None])
            for at in range(0, clips, step)
        ]
        if not rows:
            return np.empty((0, self.width_of_frames(outputs.shape[-1])), np.float32)
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def width_of_frames(self, output_width: int) -> int:
        """The row length D for an output length O, for a frame network."""
        return 2 * output_width if self.aggregate == "mean_std" else output_width

    def _joined(self, frames_NTVO: NDArray[np.float32]) -> NDArray[np.float32]:
        """The frames of each clip as one: (N, V, D)."""
        if self.aggregate == "max":
            return np.asarray(frames_NTVO.max(axis=1))
        mean = frames_NTVO.mean(axis=1)
        if self.aggregate != "mean_std":
            return np.asarray(mean)
        # the deviation of these frames, not an estimate for a population
        return np.concatenate([mean, frames_NTVO.std(axis=1)], axis=-1)

    def _rows(self, values_NSVD: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.average_crops:
            values_NSVD = values_NSVD.mean(axis=2, keepdims=True)
        return np.ascontiguousarray(values_NSVD).reshape(-1, values_NSVD.shape[-1])

    def _step_width(self, outputs: NDArray[np.float32]) -> int:
        return int(outputs.shape[-1]) // self.time_steps

    def seconds(self, clip: Clip | PlannedClip) -> list[tuple[float, float]]:
        """Start and end of each of the R rows of a clip."""
        steps: Sequence[tuple[float, float]] = clip.step_seconds
        steps = steps or [(clip.start_seconds, clip.end_seconds)]
        each = self.rows_per_clip // self.time_steps
        return [seconds for seconds in steps for _ in range(each)]
