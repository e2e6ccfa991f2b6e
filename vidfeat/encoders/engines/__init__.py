"""What runs a network: torch on a CPU or a GPU, or another runtime on the same network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vidfeat.encoders.engines.base import Engine, Precision
from vidfeat.errors import UsageError

if TYPE_CHECKING:
    import torch

    from vidfeat.models.base import VideoNetwork
    from vidfeat.video.preprocess import Preprocess

ENGINES = ("torch", "openvino")


def make_engine(
    name: str,
    network: VideoNetwork,
    layers: Sequence[str],
    pool: Sequence[str],
    preprocess: Preprocess,
    *,
    precision: Precision,
    device: torch.device,
    clip_frames: int,
    compiled: bool = False,
) -> Engine:
    """Put a network on an engine.

    Raises:
        UsageError: no such engine, or one that cannot do this precision.
        MissingExtraError: a package for it is not installed.
        ExportError: the engine cannot take this network.
    """
    if name == "torch" and device.type == "cuda":
        from vidfeat.encoders.engines.cuda_engine import CudaEngine

        return CudaEngine(
            network,
            layers,
            pool,
            preprocess,
            precision=precision,
            device=device,
            execution="compile" if compiled else "graph",
        )
    if name == "torch":
        from vidfeat.encoders.engines.torch_engine import TorchEngine

        return TorchEngine(
            network,
            layers,
            pool,
            preprocess,
            precision=precision,
            device=device,
            compiled=compiled,
        )
    if name == "openvino":
        from vidfeat.encoders.engines.openvino_engine import convert_network

        if precision == "int8":
            raise UsageError(
                "precision=int8 needs a quantised network: make it with vidfeat export MODEL "
                "--precision int8 --calibrate VIDEOS -o net/, and give weights=net/"
            )
        if precision != "fp32":
            raise UsageError(f"the openvino engine runs fp32 and int8, not {precision}")
        check_openvino(device.type, compiled=compiled)
        return convert_network(network, layers, pool, preprocess, clip_frames)
    raise UsageError(f"engine must be one of {', '.join(ENGINES)}, not {name!r}", field="engine")


def check_openvino(device_type: str, *, compiled: bool) -> None:
    """Refuse what OpenVINO cannot be asked for here.

    Raises:
        UsageError: another device than the processor, or torch's compiler.
    """
    if device_type != "cpu":
        raise UsageError("engine=openvino runs on the processor: leave device out", field="device")
    if compiled:
        raise UsageError("compiled=True is for torch: leave it out with engine=openvino")
