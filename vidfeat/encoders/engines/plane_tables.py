"""The tables of a :class:`vidfeat.video.planes.PlaneCut` on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vidfeat.video.planes import PlaneCut, cut_tables
from vidfeat.video.yuv import Coefficients, coefficients


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """The tables of one cut on a device (see :class:`CutTables`)."""

    crop: tuple[int, int]
    head: tuple[int, ...]
    """``v_step`` and the coefficients, in their order."""
    places: torch.Tensor
    """int32, flat: the head, luma rows (2, h), luma columns (2, w), chroma's rows and columns."""
    weights: torch.Tensor
    """float32, flat: of rows (2, h), of columns (2, w)."""
    coefficients: Coefficients

    @classmethod
    def of(cls, cut: PlaneCut, device: torch.device) -> DeviceTables:
        """Made on the CPU and copied; the copy is done when this returns."""
        tables = cut_tables(cut)
        head = (tables.v_step, *coefficients(cut.colour))
        places = [
            np.array(head, np.int32),
            tables.luma_rows,
            tables.luma_columns,
            tables.chroma_rows,
            tables.chroma_columns,
        ]
        weights = [tables.row_weights, tables.column_weights]
        return cls(
            cut.crop,
            head,
            torch.from_numpy(np.concatenate([part.reshape(-1) for part in places])).to(device),
            torch.from_numpy(np.concatenate([part.reshape(-1) for part in weights])).to(device),
            coefficients(cut.colour),
        )

    def corners(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Luma's and U's places, int64 (4 h w,), and weights, float32 (4, h, w, 1)."""
        height, width = self.crop
        sizes = [2 * height, 2 * width]
        parts = torch.split(self.places[len(self.head) :], sizes * 2)
        luma = _outer(parts[0], parts[1], self.crop, torch.add)
        chroma = _outer(parts[2], parts[3], self.crop, torch.add)
        row_weights, column_weights = torch.split(self.weights, sizes)
        weights = _outer(row_weights, column_weights, self.crop, torch.mul)
        return luma.flatten().long(), chroma.flatten().long(), weights[..., None]


def _outer(
    rows: torch.Tensor,
    columns: torch.Tensor,
    crop: tuple[int, int],
    operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """(2 h,) and (2 w,) to (4, h, w): low and high rows, of each low and high columns."""
    height, width = crop
    joined = operation(rows.view(2, 1, height, 1), columns.view(1, 2, 1, width))
    return joined.reshape(4, height, width)
