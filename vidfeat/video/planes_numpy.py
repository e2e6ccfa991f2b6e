"""Planes to pixels with numpy, for the few clips that cannot be sent as planes after all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.plane_tables import PlaneCut, cut_tables
from vidfeat.video.planes import PlaneClip
from vidfeat.video.preprocess import weigh_as_torch
from vidfeat.video.yuv import CHROMA_OFFSET, direct_coefficients, scaled_coefficients


def clip_to_rgb(clip: PlaneClip) -> NDArray[np.uint8]:
    """A clip's planes to uint8 (T, crop height, crop width, 3)."""
    return np.stack([cut_to_rgb(clip.cut, planes_B) for planes_B in clip.planes_TB])


def cut_to_rgb(cut: PlaneCut, planes_B: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame's planes, as ``PlaneCut.copy`` wrote them, to uint8 (crop height, crop width, 3).

    Equal to ``FramePreprocessor.frame`` on every pixel.
    """
    tables = cut_tables(cut)

    def samples(places: NDArray[Any]) -> NDArray[np.int32]:
        values: NDArray[np.int32] = planes_B[places].astype(np.int32)
        if cut.samples.bytes == 2:
            values |= planes_B[places + 1].astype(np.int32) << 8
            values >>= cut.samples.low_bits
        return values

    y = samples(_outer(np.add, tables.luma_down, tables.luma_across))
    pairs = [
        (s, t) for s in range(len(tables.chroma_down)) for t in range(len(tables.chroma_across))
    ]
    places = [_outer(np.add, tables.chroma_down[s], tables.chroma_across[t]) for s, t in pairs]
    u = [samples(place) for place in places]
    v = [samples(place + tables.v_step) for place in places]
    if cut.location is None:
        rgb = _direct(cut, y, u[0], v[0])
    else:
        taps = [_outer(np.multiply, tables.down_taps[s], tables.across_taps[t]) for s, t in pairs]
        rgb = _scaled(cut, y, _interpolated(u, taps), _interpolated(v, taps))
    weights = _outer(np.multiply, tables.down_weights, tables.across_weights).reshape(4, -1)
    levels = [np.rint(weigh_as_torch(channel.reshape(4, -1), weights)) for channel in rgb]
    return np.stack(levels, -1).astype(np.uint8).reshape(*cut.crop, 3)


def _outer(joined: Any, down: NDArray[Any], across: NDArray[Any]) -> NDArray[Any]:
    """(2, h) and (2, w) to (4, h, w): low and high rows, each with low and high columns."""
    found: NDArray[Any] = joined(down[:, None, :, None], across[None, :, None, :])
    return found.reshape(4, down.shape[1], across.shape[1])


def _interpolated(samples: list[NDArray[np.int32]], taps: list[NDArray[Any]]) -> NDArray[np.int32]:
    total = np.full_like(samples[0], 1 << 18)
    for values, weights in zip(samples, taps, strict=True):
        total += values * weights
    found: NDArray[np.int32] = np.minimum(total >> 19, np.int32(255))
    return found


def _direct(
    cut: PlaneCut, y: NDArray[np.int32], u: NDArray[np.int32], v: NDArray[np.int32]
) -> list[NDArray[np.uint8]]:
    c = direct_coefficients(cut.colour)
    luma = (((y << 3) - c.offset) * c.luma) >> 16
    blueness, redness = (u << 3) - CHROMA_OFFSET, (v << 3) - CHROMA_OFFSET
    red = luma + ((redness * c.red_v) >> 16)
    green = luma + ((blueness * c.green_u) >> 16) + ((redness * c.green_v) >> 16)
    blue = luma + ((blueness * c.blue_u) >> 16)
    return [channel.clip(0, 255).astype(np.uint8) for channel in (red, green, blue)]


def _scaled(
    cut: PlaneCut, y: NDArray[np.int32], u: NDArray[np.int32], v: NDArray[np.int32]
) -> list[NDArray[np.uint8]]:
    c = scaled_coefficients(cut.colour)
    luma = ((y << (15 - cut.samples.bits)) + 64) >> 7
    red = c.red_base + c.luma * (luma + ((v * c.red_v) >> 16))
    green = c.green_base + c.luma * (luma + ((u * c.green_u) >> 16) + ((v * c.green_v) >> 16))
    blue = c.blue_base + c.luma * (luma + ((u * c.blue_u) >> 16))
    return [(channel >> 16).clip(0, 255).astype(np.uint8) for channel in (red, green, blue)]
