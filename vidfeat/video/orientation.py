"""How a decoded frame is turned and mirrored for display: the eight cases of a display matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError

if TYPE_CHECKING:
    import av

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Orientation:
    """How a decoded frame is turned to stand upright."""

    turns: int = 0
    """Quarter turns counter-clockwise, 0 to 3."""
    mirrored: bool = False
    """Left and right swapped first, before the turn."""

    def __post_init__(self) -> None:
        if self.turns not in (0, 1, 2, 3):
            raise UsageError(f"turns are 0, 1, 2 or 3 quarters, not {self.turns!r}")

    @property
    def swaps_sides(self) -> bool:
        """Whether height and width are swapped."""
        return self.turns % 2 == 1

    def shown(self, height: int, width: int) -> tuple[int, int]:
        """Height and width as shown, from those of the decoded frame."""
        return (width, height) if self.swaps_sides else (height, width)

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a decoded frame upright; the result is a view of the same memory."""
        if self.mirrored:
            frame_HWC = frame_HWC[:, ::-1]
        return np.rot90(frame_HWC, k=self.turns) if self.turns else frame_HWC


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix asks for, as FFmpeg's command line applies it.

    Angles between quarter turns are rounded to the nearest.
    """
    from av.sidedata.sidedata import SideDataContainer

    # frame.side_data would be kept in the frame: a reference cycle, which makes hundreds of decoded
    # frames wait for the garbage collector
    side_data = cast(Any, SideDataContainer)(frame)
    if not len(side_data):  # nearly every frame; a failed look-up raises and catches an error
        return UPRIGHT
    matrix = side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else orientation_of_matrix(bytes(cast(Any, matrix)))


@lru_cache(maxsize=64)
def orientation_of_matrix(data: bytes) -> Orientation:
    """The orientation of a display matrix as FFmpeg stores it: nine native 32-bit numbers.

    A stored pixel (x, y) is shown at (a x + c y, b x + d y).
    """
    if len(data) < _MATRIX.size:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack_from(data)
    if a * d == b * c:  # not invertible: shows nothing, so it is invalid
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        if (a < 0) == (d < 0):
            return Orientation(2 if a < 0 else 0)
        return Orientation(0 if a < 0 else 2, mirrored=True)
    if (b < 0) == (c < 0):
        return Orientation(3 if b < 0 else 1, mirrored=True)
    return Orientation(1 if b < 0 else 3)
