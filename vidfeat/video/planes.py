"""The part of a decoded frame that the network's input depends on, as bytes to ship.

Of a frame only the rows and columns that the crop's gather touches matter (see
:mod:`vidfeat.preprocess`). A decode process copies just those samples of the decoder's planes into
one flat buffer; conversion to RGB, resize and crop happen where the buffer arrives, and give every
pixel as :meth:`FramePreprocessor.frame` gives it. What is copied, and where each pixel of the crop
finds its four corners in the buffer, is a :class:`PlaneCut`.

A corner's place in the buffer is a sum of one number for its row and one for its column, whatever
the orientation, the picked rows and the layout of the planes: so the tables are a few hundred
numbers long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.video.preprocess import Preprocess, axis_gather
from vidfeat.video.yuv import Colour, colour_of, direct_rule_holds

if TYPE_CHECKING:
    import av

# Columns are picked one by one where their range is at least this many times as long: picking
# takes longer than copying whole rows, and the buffer is so many times smaller.
_PICK_RATIO = 2.5
Places = NDArray[np.int32]

_PLANAR = frozenset({"yuv420p", "yuvj420p"})


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


UPRIGHT = Orientation()


@dataclass(frozen=True)
class PlaneCut:
    """Which samples of a frame are shipped, and how the crop is made of them.

    Equal cuts are interchangeable: use it as a key. Pickled, it is its few fields; tables are made
    once in each process.
    """

    height: int
    """Of the decoded frame, before it is turned."""
    width: int
    colour: Colour
    resize: tuple[int, int] | int
    crop: tuple[int, int]
    orientation: Orientation = UPRIGHT
    interlaced: bool = False
    """The frame holds two fields, each with its own rows of chroma; FFmpeg converts each alone."""
    interleaved: bool = False
    """Chroma is one plane of alternating U and V (NV12), as hardware decoders give it."""

    @property
    def nbytes(self) -> int:
        """Bytes that :meth:`copy` writes for one frame."""
        return cut_tables(self).nbytes

    def copy(self, frame: av.VideoFrame, out: NDArray[np.uint8]) -> None:
        """Copy a frame's part of the samples.

        Args:
            frame: a frame for which :func:`plane_cut` gives this cut.
            out: uint8 (nbytes,), contiguous.
        """
        for plane, block in zip(frame.planes, cut_tables(self).blocks, strict=True):
            block.copy(memoryview(plane), plane.line_size, out)

    def copy_arrays(self, planes: Sequence[NDArray[np.uint8]], out: NDArray[np.uint8]) -> None:
        """The same from arrays (rows, bytes of a row), each contiguous, one for each plane."""
        for plane, block in zip(planes, cut_tables(self).blocks, strict=True):
            block.copy(plane.data, plane.strides[0], out)


@dataclass(frozen=True, eq=False)
class PlaneClip:
    """The planes of a clip's frames, all of one cut."""

    cut: PlaneCut
    planes_TB: NDArray[np.uint8]
    """(frames, ``cut.nbytes``)"""

    def copy(self) -> PlaneClip:
        """The same in memory of its own."""
        return PlaneClip(self.cut, self.planes_TB.copy())


ClipFrames = NDArray[np.uint8] | PlaneClip
"""A clip's frames on their way: uint8 (T, H, W, 3), or planes that become that on a device."""


def plane_cut(frame: av.VideoFrame, preprocess: Preprocess) -> PlaneCut | None:
    """The cut for a decoded frame, or None where only ``FramePreprocessor`` is exact.

    None is given for other pixel formats than 8-bit 4:2:0, for odd heights of a frame or of its
    fields (FFmpeg interpolates their chroma), for colour spaces that FFmpeg does not convert, and
    where this FFmpeg converts by another rule than ours.
    """
    turns = frame.rotation % 360 // 90
    return _cut_of(
        frame.format.name,
        frame.height,
        frame.width,
        Orientation(turns),
        frame.interlaced_frame,
        colour_of(frame),
        preprocess,
    )


@lru_cache(maxsize=64)
def _cut_of(
    pixel_format: str,
    height: int,
    width: int,
    orientation: Orientation,
    interlaced: bool,
    colour: Colour | None,
    preprocess: Preprocess,
) -> PlaneCut | None:
    if pixel_format not in _PLANAR or colour is None or height % (4 if interlaced else 2):
        return None
    if not direct_rule_holds(pixel_format, colour):
        return None
    return PlaneCut(
        height, width, colour, preprocess.resize, preprocess.crop, orientation, interlaced
    )


@dataclass(frozen=True, eq=False)
class Block:
    """The samples of one plane to copy: chosen rows, and a range of columns or chosen ones."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp] | None
    """Chosen columns, or None for a range."""
    first_column: int
    num_columns: int
    sample_bytes: int
    offset: int
    """Of the block in the buffer, in bytes."""

    @property
    def row_bytes(self) -> int:
        """Of a row in the buffer."""
        return self.num_columns * self.sample_bytes

    @property
    def end(self) -> int:
        """Offset of what follows the block."""
        return self.offset + len(self.rows) * self.row_bytes

    def copy(self, plane: memoryview, pitch: int, out: NDArray[np.uint8]) -> None:
        """Copy the samples out of a plane whose rows are ``pitch`` bytes apart."""
        target = out[self.offset : self.end]
        if self.columns is None:
            # A row is one element of many bytes: numpy copies each with one memcpy.
            row = np.dtype((np.void, self.row_bytes))
            start = self.first_column * self.sample_bytes
            lines = np.ndarray(int(self.rows[-1]) + 1, row, plane, start, (pitch,))
            target.view(row)[:] = lines[self.rows]
            return
        sample = np.dtype(f"u{self.sample_bytes}")
        # no index is out of range; of numpy's ways to make sure, this one takes the least time
        np.take(
            np.frombuffer(plane, sample),
            _sample_index(self, pitch),
            out=target.view(sample),
            mode="wrap",
        )

    def places(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[Places, Places]:
        """Offsets in the buffer of rows of the plane, and what to add to them for columns."""
        slots = columns - self.first_column
        if self.columns is not None:
            slots = np.searchsorted(self.columns, columns)
        row_places = self.offset + np.searchsorted(self.rows, rows) * self.row_bytes
        return row_places.astype(np.int32), (slots * self.sample_bytes).astype(np.int32)


@lru_cache(maxsize=64)
def _sample_index(block: Block, pitch: int) -> NDArray[np.intp]:
    assert block.columns is not None
    if pitch % block.sample_bytes:
        raise ValueError(f"rows {pitch} bytes apart cannot hold samples of {block.sample_bytes}")
    return (block.rows[:, None] * (pitch // block.sample_bytes) + block.columns).reshape(-1)


@dataclass(frozen=True)
class CutTables:
    """A cut worked out: the blocks to copy, and the places of the corners in the buffer.

    The corner of low or high row ``k`` and low or high column ``l`` of the crop's pixel (i, j) has
    its luma at ``luma_rows[k, i] + luma_columns[l, j]``, U at ``chroma_rows[k, i] +
    chroma_columns[l, j]`` and V ``v_step`` bytes behind U. Its weight is the float32 product
    ``row_weights[k, i] * column_weights[l, j]``.
    """

    nbytes: int
    blocks: tuple[Block, ...]
    """One for each plane of the frame."""
    luma_rows: Places
    """(2, crop height)"""
    luma_columns: Places
    """(2, crop width)"""
    chroma_rows: Places
    chroma_columns: Places
    v_step: int
    row_weights: NDArray[np.float32]
    """(2, crop height)"""
    column_weights: NDArray[np.float32]
    """(2, crop width)"""


@lru_cache(maxsize=32)
def cut_tables(cut: PlaneCut) -> CutTables:
    """The tables of a cut; the last cuts' are kept."""
    turns = cut.orientation.turns
    swapped = turns % 2 == 1
    upright = (cut.width, cut.height) if swapped else (cut.height, cut.width)
    resized = Preprocess(resize=cut.resize, crop=cut.crop).resized(*upright)
    down, across = (axis_gather(*sizes) for sizes in zip(upright, resized, cut.crop, strict=True))
    # Where the corners' upright rows and columns lie in the decoded frame; np.rot90 turns what a
    # mirror has swapped before.
    rows, columns = np.stack(down[:2]), np.stack(across[:2])
    if swapped:
        rows, columns = columns, rows
    if turns in (2, 3):
        rows = cut.height - 1 - rows
    if (turns in (1, 2)) != cut.orientation.mirrored:
        columns = cut.width - 1 - columns

    luma = _block(rows, columns, 1, 0)
    chroma_rows, chroma_columns = rows // 2, columns // 2
    if cut.interlaced:  # fields alternate row by row, in luma and in chroma
        chroma_rows = rows // 4 * 2 + rows % 2
    first = _block(chroma_rows, chroma_columns, 2 if cut.interleaved else 1, luma.end)
    blocks: tuple[Block, ...] = (luma, first)
    v_step = 1
    if not cut.interleaved:
        blocks = (luma, first, replace(first, offset=first.end))
        v_step = first.end - first.offset
    luma_places = luma.places(rows, columns)
    chroma_places = first.places(chroma_rows, chroma_columns)
    if swapped:
        luma_places, chroma_places = luma_places[::-1], chroma_places[::-1]
    return CutTables(
        blocks[-1].end,
        blocks,
        *luma_places,
        *chroma_places,
        v_step,
        np.stack(down[2:]),
        np.stack(across[2:]),
    )


def _block(
    rows: NDArray[np.intp], columns: NDArray[np.intp], sample_bytes: int, offset: int
) -> Block:
    picked = np.unique(columns)
    first, num_columns = int(picked[0]), int(picked[-1]) + 1 - int(picked[0])
    if num_columns < _PICK_RATIO * len(picked):
        return Block(np.unique(rows), None, first, num_columns, sample_bytes, offset)
    return Block(np.unique(rows), picked, first, len(picked), sample_bytes, offset)
