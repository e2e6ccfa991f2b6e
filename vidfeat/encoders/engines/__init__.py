"""Engines that run a network: torch on a CPU or a GPU, or another runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfeat.encoders.engines.base import Engine, Execution
from vidfeat.errors import UsageError

if TYPE_CHECKING:
    import torch

    from vidfeat.encoders.spec import EncoderSpec
    from vidfeat.models.base import VideoNetwork

ENGINES = ("torch", "openvino")


def make_engine(
    spec: EncoderSpec, network: VideoNetwork, device: torch.device, *, compiled: bool = False
) -> Engine:
    """Put a network on the engine that its spec names.

    Raises:
        UsageError: no such engine, or one that cannot do this precision.
        MissingExtraError: a package for it is not installed.
        ExportError: the engine cannot take this network.
    """
    parts = network, spec.layers, spec.pool, spec.preprocess
    precision = spec.precision
    if spec.engine == "torch" and device.type == "cuda":
        from vidfeat.encoders.engines.cuda_engine import CudaEngine

        execution: Execution = "compile" if compiled else "graph"
        return CudaEngine(*parts, precision=precision, device=device, execution=execution)
    if spec.engine == "torch":
        from vidfeat.encoders.engines.torch_engine import TorchEngine

        return TorchEngine(*parts, precision=precision, device=device, compiled=compiled)
    if spec.engine == "openvino":
        from vidfeat.encoders.engines.openvino_engine import convert_network

        if precision == "int8":
            raise UsageError(
                "precision=int8 needs a quantised network: make it with vidfeat export MODEL "
                "--precision int8 --calibrate VIDEOS -o net/, and give weights=net/"
            )
        if precision != "fp32":
            raise UsageError(f"the openvino engine runs fp32 and int8, not {precision}")
        check_openvino(device.type, compiled=compiled)
        return convert_network(*parts, clip_frames=spec.input_shape[0])
    raise UsageError(
        f"engine must be one of {', '.join(ENGINES)}, not {spec.engine!r}", field="engine"
    )


def check_openvino(device_type: str, *, compiled: bool) -> None:
    """Refuse options that OpenVINO does not support.

    Raises:
        UsageError: a device other than the processor, or torch's compiler.
    """
    if device_type != "cpu":
        raise UsageError("engine=openvino runs on the processor: leave device out", field="device")
    if compiled:
        raise UsageError("compiled=True is for torch: leave it out with engine=openvino")
