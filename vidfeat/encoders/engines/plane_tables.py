"""The tables of a :class:`vidfeat.video.plane_tables.PlaneCut` on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from vidfeat.video.plane_tables import PlaneCut, Samples, cut_tables
from vidfeat.video.yuv import (
    DirectCoefficients,
    ScaledCoefficients,
    direct_coefficients,
    scaled_coefficients,
)

HEAD = 12
"""How many numbers precede the places in :attr:`DeviceTables.numbers`."""


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """The tables of one cut on a device (see :class:`vidfeat.video.plane_tables.CutTables`)."""

    crop: tuple[int, int]
    samples: Samples
    scaled: bool
    """Whether chroma is interpolated: two taps instead of one in each direction."""
    coefficients: DirectCoefficients | ScaledCoefficients
    v_step: int
    numbers: torch.Tensor
    """int32, flat: ``v_step`` and the coefficients (HEAD numbers, the rest 0), then luma's and
    chroma's places down and across, then chroma's taps down and across."""
    weights: torch.Tensor
    """float32, flat: down (2, h), across (2, w)."""

    @classmethod
    def of(cls, cut: PlaneCut, device: torch.device) -> DeviceTables:
        """Make the tables on the CPU and copy them; the copy is complete when this returns."""
        tables = cut_tables(cut)
        scaled = cut.location is not None
        coefficients = (scaled_coefficients if scaled else direct_coefficients)(cut.colour)
        head = np.zeros(HEAD, np.int32)
        head[: 1 + len(coefficients)] = (tables.v_step, *coefficients)
        numbers = [
            head,
            tables.luma_down,
            tables.luma_across,
            tables.chroma_down,
            tables.chroma_across,
            tables.down_taps,
            tables.across_taps,
        ]
        weights = [tables.down_weights, tables.across_weights]
        return cls(
            cut.crop,
            cut.samples,
            scaled,
            coefficients,
            tables.v_step,
            torch.from_numpy(np.concatenate([part.reshape(-1) for part in numbers])).to(device),
            torch.from_numpy(np.concatenate([part.reshape(-1) for part in weights])).to(device),
        )

    def corners(self) -> Corners:
        """The places and weights of every corner."""
        height, width = self.crop
        taps = 2 if self.scaled else 1
        sizes = [2 * height, 2 * width, *[2 * taps * height, 2 * taps * width] * 2]
        parts = torch.split(self.numbers[HEAD:], sizes)
        down, across = torch.split(self.weights, sizes[:2])

        def tapped(down: torch.Tensor, across: torch.Tensor, joined: Join) -> list[torch.Tensor]:
            return [
                _outer(of_rows, of_columns, self.crop, joined)
                for of_rows in down.chunk(taps)
                for of_columns in across.chunk(taps)
            ]

        return Corners(
            _outer(parts[0], parts[1], self.crop, torch.add).flatten().long(),
            [places.flatten().long() for places in tapped(parts[2], parts[3], torch.add)],
            tapped(parts[4], parts[5], torch.mul),
            _outer(down, across, self.crop, torch.mul)[..., None].double(),
        )


Join = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Corners(NamedTuple):
    """The four corners of a crop's pixels."""

    luma: torch.Tensor
    """Places, int64 (4 h w,)."""
    chroma: list[torch.Tensor]
    """Places of U for each tap."""
    taps: list[torch.Tensor]
    """Weights of the taps, int32 (4, h, w)."""
    weights: torch.Tensor
    """Weights of the corners: float32 values in float64, (4, h, w, 1)."""


def _outer(
    down: torch.Tensor, across: torch.Tensor, crop: tuple[int, int], joined: Join
) -> torch.Tensor:
    """Join (2 h,) and (2 w,) to (4, h, w): low and high rows, each with low and high columns."""
    height, width = crop
    return joined(down.view(2, 1, height, 1), across.view(1, 2, 1, width)).view(4, height, width)
