"""Packing frames into the memory of a clip: as pixels, or as the decoder's planes.

A frame is taken once, when it is decoded, and packed into every clip that shares it. Pixels are
resized and cropped here. Planes are copied as they are, and converted to pixels at their
destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.plane_tables import PlaneCut
from vidfeat.video.planes import ClipFrames, PlaneClip, PlaneCutter
from vidfeat.video.planes_numpy import cut_to_rgb
from vidfeat.video.preprocess import Preprocess

if TYPE_CHECKING:
    import av

Taken = TypeVar("Taken")

# Of a frame, per pixel of the crop: four corners with a luma and two chroma samples each, and some
# columns between them. Frames that need more are sent as pixels.
PLANE_BYTES_PER_PIXEL = 20


class Packer(Protocol[Taken]):
    """Takes decoded frames, and packs what it took into clips."""

    def take(self, frame: av.VideoFrame) -> Taken:
        """What clips need of a frame."""
        ...

    def pack(self, taken: Sequence[Taken], out: NDArray[np.uint8]) -> ClipFrames:
        """Put a clip together in ``out``, uint8 (bytes,); the result is a view of it."""
        ...

    def drop(self, taken: Taken) -> None:
        """Release what was taken; called when no later clip needs it."""
        ...


class PixelPacker:
    """Clips as uint8 (T, H, W, 3), or (crops, T, H, W, 3), ready for the network."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocessor = FramePreprocessor(preprocess)

    def take(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The frame resized and cropped: uint8 (H, W, 3), or (crops, H, W, 3)."""
        return self._preprocessor.frame(frame)

    def pack(self, taken: Sequence[NDArray[np.uint8]], out: NDArray[np.uint8]) -> ClipFrames:
        """Copy the frames of a clip."""
        return _pack_pixels(taken, out)

    def drop(self, taken: NDArray[np.uint8]) -> None:
        """Does nothing: nothing is kept."""


def _pack_pixels(taken: Sequence[NDArray[np.uint8]], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    frame_shape = taken[0].shape
    if len(frame_shape) == 3:
        shape = (len(taken), *frame_shape)
        clip_THWC = out[: int(np.prod(shape))].reshape(shape)
        for slot, frame in enumerate(taken):
            clip_THWC[slot] = frame
        return clip_THWC
    crops, *one = frame_shape
    shape = (crops, len(taken), *one)
    clip_VTHWC = out[: int(np.prod(shape))].reshape(shape)
    for slot, crops_VHWC in enumerate(taken):
        clip_VTHWC[:, slot] = crops_VHWC
    return clip_VTHWC


class PlanePacker:
    """Clips as planes wherever those give the same pixels, otherwise as pixels.

    A clip whose frames differ in size, format or colour is converted here, to the same pixels.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._cutter = PlaneCutter(preprocess)
        self._preprocessor = FramePreprocessor(preprocess)
        self._most_bytes = PLANE_BYTES_PER_PIXEL * preprocess.crop[0] * preprocess.crop[1]
        # The system would zero buffers of this size each time: they are reused instead.
        self._spare: dict[int, list[NDArray[np.uint8]]] = {}
        self._like: av.VideoFrame | None = None
        self._hardware: PlaneCut | None = None

    def take(
        self, frame: av.VideoFrame | tuple[PlaneCut | None, NDArray[np.uint8]]
    ) -> tuple[PlaneCut | None, NDArray[np.uint8]]:
        """The part of the planes that matters; or pixels, without a cut.

        The result of :meth:`take_picture` is returned as it is.
        """
        if isinstance(frame, tuple):
            return frame
        cut = self._cutter.cut(frame)
        if cut is None or cut.nbytes > self._most_bytes:
            return None, self._preprocessor.frame(frame)
        buffer = self._buffer(cut.nbytes)
        cut.copy(frame, buffer)
        return cut, buffer

    def take_picture(
        self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8], like: av.VideoFrame
    ) -> tuple[PlaneCut, NDArray[np.uint8]] | None:
        """What clips need of a picture that a GPU decoded; None if planes cannot be used.

        Args:
            luma: rows of bytes of a frame that differs from ``like`` only in its samples.
            chroma: rows of bytes, U and V alternating.
            like: a frame of the same video, decoded by FFmpeg.
        """
        if self._like is not like:
            cut = self._cutter.cut(like)
            self._like = like
            self._hardware = None if cut is None else cut.from_hardware()
        cut = self._hardware
        if cut is None or cut.nbytes > self._most_bytes:
            return None
        buffer = self._buffer(cut.nbytes)
        cut.copy_arrays((luma, chroma), buffer)
        return cut, buffer

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        spare = self._spare.setdefault(size, [])
        return spare.pop() if spare else np.empty(size, np.uint8)

    def pack(
        self,
        taken: Sequence[tuple[PlaneCut | None, NDArray[np.uint8]]],
        out: NDArray[np.uint8],
    ) -> ClipFrames:
        """Copy the planes of a clip, or its pixels."""
        cut = taken[0][0]
        if cut is None or any(other != cut for other, _ in taken[1:]):
            return _pack_pixels(
                [data if own is None else cut_to_rgb(own, data) for own, data in taken], out
            )
        planes_TB = out[: len(taken) * cut.nbytes].reshape(len(taken), cut.nbytes)
        for slot, (_, data) in enumerate(taken):
            planes_TB[slot] = data
        return PlaneClip(cut, planes_TB)

    def drop(self, taken: tuple[PlaneCut | None, NDArray[np.uint8]]) -> None:
        """Keep the buffer for another frame."""
        cut, buffer = taken
        if cut is not None:
            self._spare.setdefault(cut.nbytes, []).append(buffer)
