"""The encoded frames in a part that belong to clips ending in a later part.

A frame network gives a vector per frame, and overlapping clips share them. A part ends after a
fixed number of frames, even within a clip. Frames that later clips need are carried over in it, so
that a resumed run makes the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CarriedAt:
    """Which frames of which video a part carries over."""

    path: str
    attempt: str
    next_clip: int
    """Number of the video's first row that is in no part."""
    next_frame: int
    """Number of the first of its frames that is not encoded yet."""
    positions: tuple[int, ...]
    """Positions in the video of the carried frames, ascending."""
    width: int
    """Numbers per frame."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers of all carried frames."""
        return 4 * len(self.positions) * self.width

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**vars(self), "positions": list(self.positions)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CarriedAt:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: invalid numbers.
        """
        found = cls(
            path=str(values["path"]),
            attempt=str(values["attempt"]),
            next_clip=int(values["next_clip"]),
            next_frame=int(values["next_frame"]),
            positions=tuple(int(position) for position in values["positions"]),
            width=int(values["width"]),
        )
        if min(found.next_clip, found.next_frame, found.width) < 0:
            raise ValueError("a negative number of carried frames")
        return found


@dataclass(frozen=True)
class CarriedFrames:
    """Carried frames with the network's outputs for them."""

    at: CarriedAt
    outputs: NDArray[np.float32]
    """(frames, width)."""
