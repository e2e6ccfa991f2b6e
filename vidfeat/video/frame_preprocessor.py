"""Resizes and crops decoded frames exactly as a network's own preprocessing does."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.frame_parts import FrameParts
from vidfeat.video.orientation import UPRIGHT, orientation_of
from vidfeat.video.preprocess import FAST_COLUMNS, FAST_FORMATS, Gather, Preprocess, rgb0_pixels
from vidfeat.video.resize import make_resizer

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter


class FramePreprocessor:
    """Resizes and crops frames to uint8; holds the one scaler that a process needs.

    It reuses its buffers, so each thread needs its own instance.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._reformatter: VideoReformatter | None = None
        self._parts: FrameParts | None = None
        self._gather = lru_cache(maxsize=8)(partial(_whole_frame, preprocess))
        make = make_resizer if preprocess.crops == 1 else _ManyCrops
        self._resizer = lru_cache(maxsize=4)(partial(make, preprocess))

    def frame(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A decoded frame, turned upright, resized and cropped: uint8 (H, W, 3) RGB.

        With several crops the result is (crops, H, W, 3): see ``Preprocess.crops``. Unrounded
        frames have six bytes per pixel: see ``Preprocess.frame_shape``.
        """
        if not self.preprocess.gathers:
            return self.whole(frame)
        if self._parts is None:
            self._parts = FrameParts(self.preprocess)
        part = self._parts.of(frame)
        return self.whole(frame) if part is None else part.frame(frame)

    def whole(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Like :meth:`frame`, but converts the whole frame to RGB first: works for every frame."""
        orientation = orientation_of(frame)
        if self._reformatter is None:
            from av.video.reformatter import VideoReformatter

            self._reformatter = VideoReformatter()
        if not self.preprocess.gathers:
            return self.rgb(orientation.apply(self._rgb24(frame)))
        gather = self._gather(*orientation.shown(frame.height, frame.width))
        fast = frame.format.name in FAST_FORMATS and (
            orientation == UPRIGHT
            and gather.last_column < frame.width // FAST_COLUMNS * FAST_COLUMNS
        )
        if not fast:
            return self.rgb(orientation.apply(self._rgb24(frame)))
        return gather.apply(rgb0_pixels(self._reformatter, frame))

    def _rgb24(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        assert self._reformatter is not None
        converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        return cast(NDArray[np.uint8], converted.to_ndarray())

    def rgb(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An upright RGB frame (H, W, 3), resized and cropped in the same way."""
        height, width = frame_HWC.shape[:2]
        if not self.preprocess.gathers:
            return self._resizer(height, width).apply(frame_HWC)
        padded = np.zeros((height, width, 4), np.uint8)
        padded[:, :, :3] = frame_HWC
        return self._gather(height, width).apply(padded.view(np.uint32)[:, :, 0])

    def frames(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upright RGB frames (T, H, W, 3) to (T, *frame_shape)."""
        return np.stack([self.rgb(frame) for frame in frames_THWC])


def _whole_frame(preprocess: Preprocess, height: int, width: int) -> Gather:
    return Gather(*preprocess.axes(height, width))


class _ManyCrops:
    """Several crops of a frame, which is resized once."""

    def __init__(self, preprocess: Preprocess, height: int, width: int) -> None:
        resized = preprocess.resized(height, width)
        whole = replace(preprocess, resize=resized, crop=resized, fit="exact", crops=1)
        self._whole = FramePreprocessor(whole)
        self._crop = preprocess.crop
        self._corners = crop_corners(preprocess, *resized)

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) to (crops, *frame_shape)."""
        resized_HWC = self._whole.rgb(frame_HWC)
        rows, columns = self._crop
        parts = []
        for top, left, mirrored in self._corners:
            part = resized_HWC[top : top + rows, left : left + columns]
            parts.append(part[:, ::-1] if mirrored else part)
        return np.stack(parts)


def crop_corners(preprocess: Preprocess, height: int, width: int) -> list[tuple[int, int, bool]]:
    """Top, left, and whether it is mirrored, for each crop of a resized frame.

    Three lie along the long side. Five and ten are in the order of torchvision's ``five_crop`` and
    ``ten_crop``: corners row by row, the centre, then the same of the mirrored frame.
    """
    room = height - preprocess.crop[0], width - preprocess.crop[1]
    floors = preprocess.crop_origin == "floor"
    middle_top, middle_left = (int(space / 2) if floors else round(space / 2.0) for space in room)
    bottom, right = room
    if preprocess.crops == 3 and width >= height:
        return [(middle_top, left, False) for left in (0, middle_left, right)]
    if preprocess.crops == 3:
        return [(top, middle_left, False) for top in (0, middle_top, bottom)]
    five = [(0, 0), (0, right), (bottom, 0), (bottom, right), (middle_top, middle_left)]
    # The mirrored frame is cropped at the same places, which lie on the other side of this one.
    mirrored = [(top, right - left, True) for top, left in five]
    plain = [(top, left, False) for top, left in five]
    return plain if preprocess.crops == 5 else plain + mirrored
