"""A network as one file that needs no torch: ONNX, or OpenVINO's format.

The exported network takes normalised clips ``clips`` (N, 3, T, H, W) float32, any N, and returns
``embedding`` (N, D) and ``scores`` (N, classes) before the softmax. Before it is renamed into
place, the file is run once on the same clips as torch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidfeat.encoders.openvino_package import import_openvino
from vidfeat.errors import ExportError, MissingExtraError, UsageError
from vidfeat.models import VideoNetwork, pool_features
from vidfeat.system.files import sync_file
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.weights.load import LoadedWeights

OUTPUTS = ("embedding", "scores")
TOLERANCE = 1e-3  # for the largest difference, as a share of the largest value
ONNX_OPSET = 18
_SEED = 0


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how close it is to torch."""

    path: Path
    input_shape: tuple[int, ...]
    """N, C, T, H, W of the clips it was checked on; N is free."""
    dimension: int
    error: float
    """Largest difference of an output from torch's, relative to the largest value."""


class EmbeddingAndScores(nn.Module):
    """Embedding and scores from one pass."""

    def __init__(self, network: VideoNetwork, layers: Sequence[str], pool: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layers = network.check_layers(layers)
        self.pool = network.check_pools(pool)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """(N, C, T, H, W) -> (N, D), (N, classes); only the first for a network without classes."""
        if not self.network.has_classes:
            return (self.network.embed(clips, self.layers, self.pool),)
        last = self.network.layer_names[-1]
        wanted = dict.fromkeys((*self.layers, last))
        maps = self.network.features(clips, tuple(wanted))
        embedding = pool_features({name: maps[name] for name in self.layers}, self.pool)
        return embedding, self.network.classify(pool_features({last: maps[last]}))


def export_network(
    loaded: LoadedWeights,
    target: Path,
    *,
    layers: Sequence[str] = (),
    pool: Sequence[str] = ("mean",),
    clip_frames: int | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a network with its weights, checked against torch.

    Args:
        loaded: the weights.
        target: a file named .onnx, or .xml for OpenVINO (its tensors go to a .bin next to it).
        layers: layers of the embedding; empty takes the last.
        pool: poolings of the embedding.
        clip_frames: T; None takes that of the weights' plan, or 16.
        size: H and W; None takes the crop of the weights' preprocessing, or 112 x 112.
        overwrite: replace a target that exists.

    Raises:
        UsageError: an unknown suffix, or a target that exists.
        MissingExtraError: the packages for this format are not installed.
        ExportError: the export failed, or its results differ from torch's.
    """
    check_target(target, overwrite=overwrite)
    plan = loaded.plan or ClipPlan()
    crop = size or (loaded.preprocess.crop if loaded.preprocess is not None else (112, 112))
    shape = (2, loaded.in_channels, clip_frames or loaded.clip_frames or plan.frames, *crop)
    module = EmbeddingAndScores(loaded.build(), layers, pool).eval()
    clips = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
    with torch.no_grad():
        expected = [output.numpy() for output in module(clips)]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-") as folder:
        written = Path(folder) / target.name
        write = _write_onnx if target.suffix == ".onnx" else _write_openvino
        outputs = write(module, clips, written, _facts(loaded, module))
        error = max(_difference(*pair) for pair in zip(outputs, expected, strict=True))
        if not error <= TOLERANCE:
            raise ExportError(
                f"{target} was not written: its outputs differ from torch's by {error:.2g} of "
                f"their largest value, more than {TOLERANCE:g}"
            )
        for file in sorted(Path(folder).iterdir()):  # .bin before .xml, which refers to it
            sync_file(file)
            file.replace(target.parent / file.name)
    return ExportReport(target, shape, expected[0].shape[1], error)


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Refuse an invalid target before the work begins, as `export_network` does.

    Raises:
        UsageError: an unknown suffix, no such folder, or a target that exists.
        MissingExtraError: the packages for this format are not installed.
    """
    if target.suffix not in (".onnx", ".xml"):
        raise UsageError(
            f"{target} names no known format: it must end in .onnx, or in .xml for OpenVINO"
        )
    if not target.parent.is_dir():
        raise UsageError(f"no folder {target.parent} to write {target.name} into: make it first")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: give overwrite=True, or another name")
    _need_packages(target.suffix)


def _need_packages(suffix: str) -> None:
    extra = "openvino" if suffix == ".xml" else "onnx"
    packages = ["openvino"] if suffix == ".xml" else ["onnx", "onnxscript", "onnxruntime"]
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(extra, package, f"exporting to {suffix}")


def _facts(loaded: LoadedWeights, module: EmbeddingAndScores) -> dict[str, str]:
    """Metadata for users of the file, as text by name."""
    facts: dict[str, Any] = {
        "model": loaded.model,
        "weights": loaded.name,
        "weights_sha256": loaded.backbone_sha256,
        "layers": module.layers,
        "pool": module.pool,
        "preprocess": None if loaded.preprocess is None else loaded.preprocess.to_dict(),
        "plan": None if loaded.plan is None else loaded.plan.to_dict(),
        "class_names": loaded.class_names,
    }
    return {
        f"vidfeat.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in facts.items()
        if value is not None
    }


def _traced(module: EmbeddingAndScores, clips: Tensor) -> torch.export.ExportedProgram:
    """The graph of the module for any number of clips."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(module, (clips,), dynamic_shapes=({0: batch},))


def _write_onnx(
    module: EmbeddingAndScores, clips: Tensor, path: Path, facts: dict[str, str]
) -> list[NDArray[np.float32]]:
    import onnxruntime

    try:
        with torch.no_grad(), open(os.devnull, "w") as null, redirect_stdout(null):
            program = torch.onnx.export(
                _traced(module, clips),
                dynamo=True,
                input_names=["clips"],
                output_names=list(OUTPUTS),
                opset_version=ONNX_OPSET,
                verbose=False,
            )
            assert program is not None
            for name, value in facts.items():
                program.model.metadata_props[name] = value
            program.save(path, external_data=False)
    except Exception as error:  # torch wraps errors in its own classes
        raise ExportError(f"torch.onnx cannot export this network: {_line(error)}") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(list(OUTPUTS), {"clips": clips.numpy()}))


def _write_openvino(
    module: EmbeddingAndScores, clips: Tensor, path: Path, facts: dict[str, str]
) -> list[NDArray[np.float32]]:
    openvino = import_openvino("exporting to .xml")
    try:
        with torch.no_grad():
            model = openvino.convert_model(_traced(module, clips))
        model.inputs[0].get_tensor().set_names({"clips"})
        for output, name in zip(model.outputs, OUTPUTS, strict=True):
            output.get_tensor().set_names({name})
        for name, value in facts.items():
            model.set_rt_info(value, name.split("."))
        openvino.save_model(model, path, compress_to_fp16=False)
        # Processors with bfloat16 would use it by default, and the file would not be tested.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", precision)
        result = compiled({"clips": clips.numpy()})
    except Exception as error:  # the classes depend on OpenVINO's version
        raise ExportError(f"OpenVINO cannot take this network: {_line(error)}") from error
    return [np.asarray(result[name]) for name in OUTPUTS]


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
