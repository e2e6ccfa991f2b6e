"""Facts about every network without building it: a table, read without torch.

``networks.json`` is written by ``tests/bench/network_table.py``; a test builds the networks anew
and compares. GFLOPs are multiply-adds of one clip through all layers but the last, in 10^9.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """The size of a network by its authors' own count."""

    parameters_millions: float | None
    gflops: float | None
    input_size: int | None = None
    """Side of the square that the GFLOPs are for, if it is not the network's usual input."""
    frames: int | None = None
    counting: str = ""
    """Whose counting method was used: see the comment below."""


@dataclass(frozen=True)
class NetworkFacts:
    """A network's size and layers."""

    name: str
    parameters: int
    """With 400 classes and three channels."""
    embedding_size: int
    layer_names: tuple[str, ...]
    layer_widths: tuple[int, ...]
    frames: int
    """Frames of the clips that parameters and GFLOPs are for."""
    input_size: int
    """Side in pixels of the square input of its published weights."""
    gflops: float
    published: Published | None = None

    @property
    def published_clip(self) -> tuple[int, int]:
        """Frames and side in pixels of the clip that the published GFLOPs are for."""
        said = self.published or Published(None, None)
        return said.frames or self.frames, said.input_size or self.input_size


@cache
def network_table() -> tuple[NetworkFacts, ...]:
    """All networks, in the order in which they are listed."""
    file = Path(__file__).with_name("networks.json")
    rows = json.loads(file.read_text(encoding="utf-8"))
    return tuple(
        NetworkFacts(
            name=name,
            parameters=row["parameters"],
            embedding_size=row["embedding_size"],
            layer_names=tuple(row["layers"]),
            layer_widths=tuple(row["layers"].values()),
            frames=row["frames"],
            input_size=row["input_size"],
            gflops=row["gflops"],
            published=PUBLISHED.get(name),
        )
        for name, row in rows.items()
    )


# VMZ's models.md and model_zoo.md: parameters without batch norm's, GFLOPs of 128 x 128 pixels
# (CSN's of 256 x 256). torchvision's are in its metadata. PyTorchVideo's model zoo counts, in all
# rows but Slow 8x8 and SlowFast 8x8, five operations for each value that passes a batch norm.
_VMZ: dict[str, tuple[float, float]] = {
    "r2plus1d_18_paper": (33.3, 41.5), "r3d_18": (33.4, 40.7), "r2d_18": (11.5, 2.2),
    "fr2d_18": (11.4, 27.6), "mc2_18": (11.4, 28.5), "mc3_18": (11.7, 43.3),
    "mc4_18": (12.7, 40.0), "mc5_18": (16.8, 39.9), "rmc2_18": (33.3, 39.8),
    "rmc3_18": (33.0, 25.0), "rmc4_18": (32.0, 29.1), "rmc5_18": (27.9, 30.8),
}  # fmt: skip
_PYTORCHVIDEO: dict[str, tuple[float, float]] = {
    "c2d_r50": (24.33, 25.89), "i3d_r50": (28.04, 37.53),
    "slow_r50": (32.45, 54.52), "r2plus1d_r50": (28.11, 76.45), "slowfast_r50": (34.57, 65.71),
    "slowfast_r50_4x16": (34.48, 36.69), "slowfast_r101": (62.83, 127.20),
    "slowfast_r101_16x8": (53.77, 215.61), "x3d_xs": (3.79, 0.91), "x3d_s": (3.79, 2.96),
    "x3d_m": (3.79, 6.72), "x3d_l": (6.15, 26.64),
}  # fmt: skip
PUBLISHED = {
    **{name: Published(*row, 112, counting="vmz") for name, row in _VMZ.items()},
    "r2plus1d_18": Published(31.505325, 40.519),
    "r2plus1d_34": Published(63.6, 199.0, 128, 32, "vmz"),
    "r2plus1d_152": Published(118.0, 329.1, 128, 32, "vmz"),
    "ir_csn_152": Published(29.6, 96.7, 256, counting="vmz"),
    "ip_csn_152": Published(32.8, 108.8, 256, counting="vmz"),
    "c3d": Published(64.9, 38.5, counting="vmz"),
    "ir_csn_101": Published(22.21, 75.62, 256, counting="pytorchvideo"),
    **{name: Published(*row, counting="pytorchvideo") for name, row in _PYTORCHVIDEO.items()},
}
