"""Planes to pixels with numpy, for the few clips that cannot travel as planes after all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.planes import PlaneClip, PlaneCut, cut_tables
from vidfeat.video.preprocess import weigh_as_torch
from vidfeat.video.yuv import direct_to_rgb


def cut_to_rgb(cut: PlaneCut, planes_B: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame's planes, as ``PlaneCut.copy`` wrote them, to uint8 (crop height, crop width, 3).

    Equal to ``FramePreprocessor.frame`` on every pixel.
    """
    tables = cut_tables(cut)
    luma = _corners(tables.luma_rows, tables.luma_columns)
    chroma = _corners(tables.chroma_rows, tables.chroma_columns)
    weights = np.stack([np.outer(h, w) for h in tables.row_weights for w in tables.column_weights])
    rgb = direct_to_rgb(
        planes_B[luma], planes_B[chroma], planes_B[chroma + tables.v_step], cut.colour
    )
    flat = weights.reshape(4, -1)
    levels = [np.rint(weigh_as_torch(rgb[..., c].reshape(4, -1), flat)) for c in range(3)]
    return np.stack(levels, -1).astype(np.uint8).reshape(*cut.crop, 3)


def _corners(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """(2, h) and (2, w) places to (4, h, w): low and high rows, of each low and high columns."""
    joined = rows[:, None, :, None] + columns[None, :, None, :]
    return joined.reshape(4, rows.shape[1], columns.shape[1])


def clip_to_rgb(clip: PlaneClip) -> NDArray[np.uint8]:
    """A clip's planes to uint8 (T, crop height, crop width, 3)."""
    return np.stack([cut_to_rgb(clip.cut, planes_B) for planes_B in clip.planes_TB])
