"""Converts planes to pixels on any torch device, equal to ``FramePreprocessor`` bit for bit.

Conversion and resize are those of ``yuv.py`` and ``preprocess.py``, as tensor
operations: integers for the conversion, and sums in float64 rounded to float32 where torch's
resize on a CPU rounds (a fused multiply-add rounds once). On CUDA one Triton kernel does the same
(:mod:`vidfeat.encoders.engines.planes_triton`) if Triton is available.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from vidfeat.encoders.engines.plane_tables import DeviceTables
from vidfeat.errors import UsageError
from vidfeat.video.plane_tables import PlaneCut
from vidfeat.video.yuv import (
    CHROMA_OFFSET,
    DirectCoefficients,
    ScaledCoefficients,
)

_KEPT_CUTS = 16
# Pixels of frames converted at a time: a few intermediate values of four bytes for each corner.
_CHUNK_PIXELS = 1 << 20


class PlaneConverter:
    """Converts on one device, and keeps the tables of the last cuts there. Thread-safe."""

    def __init__(self, device: torch.device | str, *, triton: bool | None = None) -> None:
        """Nothing is made on the device before the first call.

        Args:
            device: where the planes come in and the pixels go out.
            triton: use the Triton kernel; None takes it on CUDA where Triton can be imported.
        """
        self.device = torch.device(device)
        self._kernel = None
        if triton or (triton is None and self.device.type == "cuda"):
            try:
                from vidfeat.encoders.engines.planes_triton import convert_planes
            except ImportError:
                if triton:
                    raise
            else:
                self._kernel = convert_planes
        self._tables: OrderedDict[PlaneCut, DeviceTables] = OrderedDict()
        self._lock = threading.Lock()

    def convert(
        self, planes: torch.Tensor, cut: PlaneCut, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Convert, resize and crop frames of one cut.

        Args:
            planes: uint8 (F, nbytes) on the device, rows contiguous; what ``PlaneCut.copy`` wrote.
            cut: the cut of all the frames.
            out: uint8 (F, crop height, crop width, 3), contiguous, to write into.

        Returns:
            ``out``, or a new tensor like it. The work is queued on the current stream.

        Raises:
            UsageError: shapes or types that do not fit.
        """
        if planes.dtype != torch.uint8 or planes.dim() != 2 or planes.shape[1] != cut.nbytes:
            raise UsageError(
                f"planes are {planes.dtype} {tuple(planes.shape)}, "
                f"this cut needs uint8 (frames, {cut.nbytes})"
            )
        shape = (planes.shape[0], *cut.crop, 3)
        if out is None:
            out = torch.empty(shape, dtype=torch.uint8, device=self.device)
        elif out.dtype != torch.uint8 or tuple(out.shape) != shape or not out.is_contiguous():
            raise UsageError(
                f"the output is {out.dtype} {tuple(out.shape)}, not contiguous uint8 {shape}"
            )
        if not planes.shape[0]:
            return out
        tables = self._tables_of(cut)
        if self._kernel is not None:
            self._kernel(planes, tables, out)
        else:
            _convert(planes, tables, out)
        return out

    def _tables_of(self, cut: PlaneCut) -> DeviceTables:
        with self._lock:
            tables = self._tables.get(cut)
            if tables is None:
                tables = self._tables[cut] = DeviceTables.of(cut, self.device)
                while len(self._tables) > _KEPT_CUTS:
                    self._tables.popitem(last=False)
            else:
                self._tables.move_to_end(cut)
            return tables


def _convert(planes: torch.Tensor, tables: DeviceTables, out: torch.Tensor) -> None:
    height, width = tables.crop
    corners = tables.corners()
    step = max(1, _CHUNK_PIXELS // (height * width))
    for first in range(0, len(planes), step):
        part = planes[first : first + step]
        shape = (len(part), 4, height, width)

        def samples(
            places: torch.Tensor, part: torch.Tensor = part, shape: tuple[int, ...] = shape
        ) -> torch.Tensor:
            values = part.index_select(1, places).int()
            if tables.samples.bytes == 2:
                values |= part.index_select(1, places + 1).int() << 8
                values >>= tables.samples.low_bits
            return values.view(shape)

        y = samples(corners.luma)
        u = [samples(places) for places in corners.chroma]
        v = [samples(places + tables.v_step) for places in corners.chroma]
        c = tables.coefficients
        if isinstance(c, DirectCoefficients):
            rgb = _direct_to_rgb(y, u[0], v[0], c)
        else:
            rgb = _scaled_to_rgb(
                ((y << (15 - tables.samples.bits)) + 64) >> 7,
                _interpolated(u, corners.taps),
                _interpolated(v, corners.taps),
                c,
            )
        # As torch's resize on a CPU does: the second corner's product is rounded, then each other
        # product is added to it in one rounding. In float64 a product is exact.
        products = rgb.double() * corners.weights
        total = products[:, 1].float()
        for corner in (0, 2, 3):
            total = (products[:, corner] + total.double()).float()
        out[first : first + step] = total.round_().to(torch.uint8)


def _interpolated(samples: list[torch.Tensor], taps: list[torch.Tensor]) -> torch.Tensor:
    """Chroma from its four taps, rounded to 8 bits."""
    total = samples[0] * taps[0]
    for values, weights in zip(samples[1:], taps[1:], strict=True):
        total += values * weights
    return ((total + (1 << 18)) >> 19).clamp_(max=255)


def _direct_to_rgb(
    y: torch.Tensor, u: torch.Tensor, v: torch.Tensor, c: DirectCoefficients
) -> torch.Tensor:
    """:func:`vidfeat.video.yuv.direct_to_rgb` for int32 tensors, to int32 (..., 3)."""
    luma = (((y << 3) - c.offset) * c.luma) >> 16
    u = (u << 3) - CHROMA_OFFSET
    v = (v << 3) - CHROMA_OFFSET
    red = luma + ((v * c.red_v) >> 16)
    green = luma + ((u * c.green_u) >> 16) + ((v * c.green_v) >> 16)
    blue = luma + ((u * c.blue_u) >> 16)
    return torch.stack([red, green, blue], -1).clamp_(0, 255)


def _scaled_to_rgb(
    y: torch.Tensor, u: torch.Tensor, v: torch.Tensor, c: ScaledCoefficients
) -> torch.Tensor:
    """The second half of :func:`vidfeat.video.yuv.scaled_to_rgb`, for samples of 8 bits."""
    red = c.red_base + c.luma * (y + ((v * c.red_v) >> 16))
    green = c.green_base + c.luma * (y + ((u * c.green_u) >> 16) + ((v * c.green_v) >> 16))
    blue = c.blue_base + c.luma * (y + ((u * c.blue_u) >> 16))
    return (torch.stack([red, green, blue], -1) >> 16).clamp_(0, 255)
