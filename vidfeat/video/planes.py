"""The part of a decoded frame that the network's input depends on, as bytes to send.

Only the rows and columns of a frame that the crop's gather touches matter (see
``preprocess.py``). A decode process copies just those samples of the decoder's planes into
one flat buffer. Conversion to RGB, resize and crop happen where the buffer arrives, and give the
same pixels as :meth:`FramePreprocessor.frame`. A :class:`PlaneCut` says what is copied, and where
each pixel of the crop finds its four corners in the buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.orientation import orientation_of
from vidfeat.video.plane_tables import PLANAR, PlaneCut, Samples
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.yuv import ChromaProbe, colour_of, direct_rule_holds

if TYPE_CHECKING:
    import av

# FFmpeg's scaler uses other filters for smaller frames.
_SMALLEST_SCALED = 16
_UNLOCATED = 0
_KEPT_KINDS = 64
_SAMPLES = {
    "yuv420p": PLANAR,
    "yuvj420p": PLANAR,
    "nv12": Samples(interleaved=True),
    "yuv420p10le": Samples(10),
    "p010le": Samples(10, interleaved=True, high=True),
}


@dataclass(frozen=True, eq=False)
class PlaneClip:
    """The planes of a clip's frames, all of one cut."""

    cut: PlaneCut
    planes_TB: NDArray[np.uint8]
    """(frames, ``cut.nbytes``)"""

    def copy(self) -> PlaneClip:
        """A copy in its own memory."""
        return PlaneClip(self.cut, self.planes_TB.copy())


ClipFrames = NDArray[np.uint8] | PlaneClip
"""A clip's frames in transit: uint8 (T, H, W, 3), or planes that are converted on a device."""


class PlaneCutter:
    """Finds the cuts of decoded frames, of any number of videos. Not thread-safe.

    PyAV does not report where a frame's chroma lies. Where it matters (10 bits, odd heights) it is
    determined frame by frame (:class:`vidfeat.video.yuv.ChromaProbe`).
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._known: dict[tuple[object, ...], PlaneCut | None] = {}
        self._probe: ChromaProbe | None = None

    def cut(self, frame: av.VideoFrame) -> PlaneCut | None:
        """The cut for a decoded frame, or None if only ``FramePreprocessor`` is exact.

        It is None if the preprocessing needs every pixel, for pixel formats other than 4:2:0 of 8
        and 10 bits, for colour spaces that FFmpeg does not convert, if it converts by none of the
        rules of ``yuv.py``, and for frames stored upside down.
        """
        if not self.preprocess.gathers:
            return None
        key = (
            frame.format.name,
            frame.height,
            frame.width,
            orientation_of(frame),
            frame.interlaced_frame,
            frame.colorspace,
            frame.color_range,
        )
        if key not in self._known:
            if len(self._known) >= _KEPT_KINDS:
                self._known.clear()
            self._known[key] = self._by_tags(frame)
        cut = self._known[key]
        if cut is None or any(plane.line_size <= 0 for plane in frame.planes):
            return None
        if cut.location is None:
            return cut
        if self._probe is None:
            self._probe = ChromaProbe()
        location = self._probe.location(frame, cut.colour, cut.samples.bits)
        return None if location is None else _located(cut, location)

    def _by_tags(self, frame: av.VideoFrame) -> PlaneCut | None:
        """The cut for a frame's tags, its chroma location not yet known."""
        samples, colour = _SAMPLES.get(frame.format.name), colour_of(frame)
        if samples is None or colour is None:
            return None
        field_height = frame.height
        if frame.interlaced_frame:
            if frame.height % 4:
                return None  # the fields' rows of chroma do not come out even
            field_height //= 2
        interpolated = samples != PLANAR or field_height % 2 == 1
        if interpolated:
            if frame.width % 2 or min(field_height, frame.width) < _SMALLEST_SCALED:
                return None
        elif not direct_rule_holds(frame.format.name, colour):
            return None
        return PlaneCut(
            frame.height,
            frame.width,
            colour,
            self.preprocess.resize,
            self.preprocess.crop,
            orientation_of(frame),
            frame.interlaced_frame,
            samples,
            _UNLOCATED if interpolated else None,
        )


@lru_cache(maxsize=64)
def _located(cut: PlaneCut, location: int) -> PlaneCut:
    return replace(cut, location=location)
