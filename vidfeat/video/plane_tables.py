"""Where a cut's samples lie: in the decoder's planes, and in the buffer they are copied to.

A corner's place in the buffer is the sum of one number for its row and one for its column, whatever
the orientation, the picked rows and the layout of the planes. So the tables of a :class:`PlaneCut`
are only a few hundred numbers long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.orientation import UPRIGHT, Orientation
from vidfeat.video.preprocess import Axis, Preprocess
from vidfeat.video.yuv import Colour, Taps, across_taps, down_taps

if TYPE_CHECKING:
    import av

# Columns are picked one by one where their range is at least this many times as long: picking
# takes longer than copying the range, but the buffer is that many times smaller.
_PICK_RATIO = 2.5

Places = NDArray[np.int32]


class Samples(NamedTuple):
    """How samples of 4:2:0 lie in memory."""

    bits: int = 8
    """8, or 10 in two bytes, little-endian."""
    interleaved: bool = False
    """Chroma is one plane of alternating U and V, as hardware decoders give it (NV12, P010)."""
    high: bool = False
    """10 bits in the upper bits of 16 (P010)."""

    @property
    def bytes(self) -> int:
        """Bytes per sample."""
        return 1 if self.bits == 8 else 2

    @property
    def low_bits(self) -> int:
        """Unused bits below a sample, to be shifted out."""
        return 16 - self.bits if self.high else 0


PLANAR = Samples()


@dataclass(frozen=True)
class PlaneCut:
    """Which samples of a frame are sent, and how the crop is made from them.

    Equal cuts are interchangeable, so a cut can serve as a key. Only its few fields are pickled;
    tables are made once in each process.
    """

    height: int
    """Height of the decoded frame, before it is turned."""
    width: int
    colour: Colour
    resize: tuple[int, int] | int
    crop: tuple[int, int]
    orientation: Orientation = UPRIGHT
    interlaced: bool = False
    """The frame holds two fields with their own rows of chroma; FFmpeg converts each separately."""
    samples: Samples = PLANAR
    location: int | None = None
    """Location of chroma, if FFmpeg interpolates it (see ``yuv.py``); None if it does not."""

    @property
    def nbytes(self) -> int:
        """Bytes that :meth:`copy` writes for one frame."""
        return cut_tables(self).nbytes

    def from_hardware(self) -> PlaneCut:
        """The cut of the same video's frames as a hardware decoder lays them out (NV12, P010).

        They give the same pixels as FFmpeg's own planes.
        """
        wide = self.samples.bits > 8
        return replace(self, samples=Samples(self.samples.bits, interleaved=True, high=wide))

    def copy(self, frame: av.VideoFrame, out: NDArray[np.uint8]) -> None:
        """Copy a frame's part of the samples.

        Args:
            frame: a frame for which :class:`PlaneCutter` gives this cut.
            out: uint8 (nbytes,), contiguous.
        """
        for plane, block in zip(frame.planes, cut_tables(self).blocks, strict=True):
            block.copy(memoryview(plane), plane.line_size, out)

    def copy_arrays(self, planes: Sequence[NDArray[np.uint8]], out: NDArray[np.uint8]) -> None:
        """Like :meth:`copy`, from one contiguous array (rows, bytes per row) for each plane."""
        for plane, block in zip(planes, cut_tables(self).blocks, strict=True):
            block.copy(plane.data, plane.strides[0], out)


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
    """Offset of the block in the buffer, in bytes."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the buffer."""
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
        # no index is out of range; "wrap" is the fastest of numpy's modes
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


class Corners(NamedTuple):
    """The corners of the crop's pixels in a frame."""

    down: Axis
    """Axis of the crop's rows, in the upright frame."""
    across: Axis
    rows: NDArray[np.intp]
    """Low and high rows of the decoded frame (2, n); n is the crop's width if swapped."""
    columns: NDArray[np.intp]
    swapped: bool
    """The crop's rows are columns of the decoded frame."""


def cut_corners(cut: PlaneCut) -> Corners:
    """Where the corners of a crop lie in the decoded frame.

    This inverts :meth:`Orientation.apply`, which mirrors a frame first and then turns it.
    """
    turns = cut.orientation.turns
    swapped = turns % 2 == 1
    upright = (cut.width, cut.height) if swapped else (cut.height, cut.width)
    down, across = Preprocess(resize=cut.resize, crop=cut.crop).axes(*upright)
    rows, columns = np.stack(down[:2]), np.stack(across[:2])
    if swapped:
        rows, columns = columns, rows
    if turns in (2, 3):
        rows = cut.height - 1 - rows
    if (turns in (1, 2)) != cut.orientation.mirrored:
        columns = cut.width - 1 - columns
    return Corners(down, across, rows, columns, swapped)


@dataclass(frozen=True)
class CutTables:
    """A cut as tables: the blocks to copy, and the places of the corners in the buffer.

    The corner of low or high row ``k`` and low or high column ``l`` of the crop's pixel (i, j) has
    its luma at ``luma_down[k, i] + luma_across[l, j]``. Of its chroma's taps ``s`` and ``t``, U is
    at ``chroma_down[s, k, i] + chroma_across[t, l, j]``, V ``v_step`` bytes later, and the weight
    is ``down_taps[s, k, i] * across_taps[t, l, j]``; chroma that is not interpolated has one tap.
    The corner's own weight is the float32 product ``down_weights[k, i] * across_weights[l, j]``.
    """

    nbytes: int
    blocks: tuple[Block, ...]
    """One for each plane of the frame."""
    v_step: int
    luma_down: Places
    """(2, crop height)"""
    luma_across: Places
    """(2, crop width)"""
    chroma_down: Places
    """(taps, 2, crop height)"""
    chroma_across: Places
    """(taps, 2, crop width)"""
    down_taps: Places
    across_taps: Places
    down_weights: NDArray[np.float32]
    """(2, crop height)"""
    across_weights: NDArray[np.float32]
    """(2, crop width)"""


@lru_cache(maxsize=32)
def cut_tables(cut: PlaneCut) -> CutTables:
    """The tables of a cut; those of recent cuts are cached."""
    corners = cut_corners(cut)
    rows, columns, swapped = corners.rows, corners.columns, corners.swapped
    row_taps, column_taps = chroma_taps(cut)
    chroma_rows, chroma_columns = row_taps.places[:, rows], column_taps.places[:, columns]
    size, interleaved = cut.samples.bytes, cut.samples.interleaved
    luma = _block(rows, columns, size, 0)
    first = _block(chroma_rows, chroma_columns, 2 * size if interleaved else size, luma.end)
    blocks: tuple[Block, ...] = (luma, first)
    if not interleaved:
        blocks = (luma, first, replace(first, offset=first.end))
    # by the decoded frame's rows and columns, then by the upright crop's
    pairs = [
        luma.places(rows, columns),
        first.places(chroma_rows, chroma_columns),
        (row_taps.weights[:, rows], column_taps.weights[:, columns]),
    ]
    if swapped:
        pairs = [(of_columns, of_rows) for of_rows, of_columns in pairs]
    return CutTables(
        blocks[-1].end,
        blocks,
        size if interleaved else first.end - first.offset,
        *pairs[0],
        *pairs[1],
        *pairs[2],
        np.stack(corners.down[2:]),
        np.stack(corners.across[2:]),
    )


def chroma_taps(cut: PlaneCut) -> tuple[Taps, Taps]:
    """Rows and columns of the chroma planes for every row and column of the decoded frame."""
    if cut.location is not None:
        return (
            down_taps(cut.height, cut.location, interlaced=cut.interlaced),
            across_taps(cut.width, cut.location, cut.samples.bits),
        )
    row, column = np.arange(cut.height), np.arange(cut.width)
    # fields alternate row by row, in luma and in chroma
    chroma_row = row // 4 * 2 + row % 2 if cut.interlaced else row // 2
    return (
        Taps(chroma_row[None], np.ones((1, cut.height), np.int32)),
        Taps(column[None] // 2, np.ones((1, cut.width), np.int32)),
    )


def _block(
    rows: NDArray[np.intp], columns: NDArray[np.intp], sample_bytes: int, offset: int
) -> Block:
    picked = np.unique(columns)
    first, num_columns = int(picked[0]), int(picked[-1]) + 1 - int(picked[0])
    if num_columns < _PICK_RATIO * len(picked):
        return Block(np.unique(rows), None, first, num_columns, sample_bytes, offset)
    return Block(np.unique(rows), picked, first, len(picked), sample_bytes, offset)
