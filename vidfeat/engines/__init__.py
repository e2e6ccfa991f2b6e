"""What runs a network: torch on a CPU or a GPU, or another runtime on the same network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vidfeat.engines.base import Engine, Precision
from vidfeat.errors import UsageError

if TYPE_CHECKING:
    import torch

    from vidfeat.models.base import VideoNetwork
    from vidfeat.preprocess import Preprocess

ENGINES = ("torch",)


def make_engine(
    name: str,
    network: VideoNetwork,
    layers: Sequence[str],
    pool: Sequence[str],
    preprocess: Preprocess,
    *,
    precision: Precision,
    device: torch.device,
    compiled: bool = False,
) -> Engine:
    """Put a network on an engine.

    Raises:
        UsageError: no such engine, or one that cannot do this precision.
    """
    if name == "torch":
        from vidfeat.engines.torch_engine import TorchEngine

        return TorchEngine(
            network,
            layers,
            pool,
            preprocess,
            precision=precision,
            device=device,
            compiled=compiled,
        )
    raise UsageError(f"--engine takes {', '.join(ENGINES)}, not {name!r}")
