"""OpenVINO on a CPU: the same network, compiled for the processor; in fp32 or quantised to int8.

The graph begins with uint8 clips and normalises them itself. Each clip is a separate request, and
clips of a batch run in parallel, by default each on one thread: the maps of one clip fit the cache
better than those of four, and a row does not depend on the other clips.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidfeat.encoders.engines.base import Engine, Precision
from vidfeat.encoders.engines.cost import flops_per_second
from vidfeat.encoders.engines.side_by_side import busy_batch
from vidfeat.encoders.onnx_export import TOLERANCE, EmbeddingAndScores
from vidfeat.encoders.openvino_package import import_openvino
from vidfeat.errors import ExportError, UsageError, WeightsError
from vidfeat.models.base import VideoNetwork
from vidfeat.video.preprocess import Preprocess

EMBEDDING, SCORES = 0, 1  # the outputs of the graph
_SEED = 0


class OpenVinoEngine(Engine):
    """A network under OpenVINO; made by :func:`convert_network` or :func:`read_network`.

    Args:
        model: an ``openvino.Model`` of one clip, uint8 (1, T, H, W, 3), with the outputs embedding
            and scores.
        precision: fp32 or int8: what the model was made for.
        threads: number of threads; None takes as many as torch does (``OMP_NUM_THREADS``).
    """

    name = "openvino"

    def __init__(self, model: Any, *, precision: Precision, threads: int | None = None) -> None:
        self.model = model
        self.precision: Precision = precision
        self.precision_error: float | None = None
        """Relative difference from torch, if measured."""
        self.threads = threads or torch.get_num_threads()
        self.clip_shape = tuple(int(length) for length in model.inputs[0].shape)[1:]
        self._queues: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()

    @property
    def preferred_batch(self) -> int:
        """Clips per batch that keep every thread busy; at least four."""
        return busy_batch(self.threads)

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of the processor."""
        return flops_per_second(torch.device("cpu"))

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3)."""
        return self.run(clips_NTHWC, EMBEDDING)[0]

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax."""
        if len(self.model.outputs) <= SCORES:
            raise UsageError("this network has no classes of its own: train a head and give that")
        return self.run(clips_NTHWC, SCORES)[0]

    def run(self, clips_NTHWC: NDArray[np.uint8], *outputs: int) -> list[NDArray[np.float32]]:
        """The requested outputs, each (N, length), from one pass."""
        if clips_NTHWC.shape[1:] != self.clip_shape:
            raise UsageError(f"clips of {clips_NTHWC.shape[1:]}: expected {self.clip_shape}")
        found = [
            np.empty((len(clips_NTHWC), int(self.model.outputs[output].shape[1])), np.float32)
            for output in outputs
        ]

        def take(request: Any, place: int) -> None:
            for number, values in enumerate(found):
                values[place] = request.get_output_tensor(number).data[0]

        with self._lock:
            queue = self._queue(outputs, len(clips_NTHWC))
            queue.set_callback(take)
            for place, clip in enumerate(clips_NTHWC):
                queue.start_async({0: clip[None]}, place)
            queue.wait_all()
        return found

    def _queue(self, outputs: tuple[int, ...], clips: int) -> Any:
        """A queue of parallel requests: one per clip, but no more than threads."""
        wanted = max(1, min(clips, self.threads))
        queue = self._queues.get(outputs)
        if queue is None or len(queue) < wanted:
            openvino = import_openvino("this network")
            results = self.model.get_results()
            # What only the other output needs is then not computed.
            part = openvino.Model(
                [results[output] for output in outputs], self.model.get_parameters(), "part"
            )
            compiled = openvino.Core().compile_model(
                part,
                "CPU",
                {
                    # Processors with bfloat16 would use it by default.
                    "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": self.threads,
                    "NUM_STREAMS": wanted,
                    # Decode processes share the cores: leave scheduling to the system.
                    "ENABLE_CPU_PINNING": False,
                },
            )
            queue = self._queues[outputs] = openvino.AsyncInferQueue(compiled, wanted)
        return queue


def convert_network(
    network: VideoNetwork,
    layers: Sequence[str],
    pool: Sequence[str],
    preprocess: Preprocess,
    clip_frames: int,
) -> OpenVinoEngine:
    """Convert a network for OpenVINO in fp32, and compare it with torch on one clip.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ExportError: OpenVINO cannot take the network, or its results differ.
    """
    openvino = import_openvino("the engine openvino")
    module = _FromBytes(EmbeddingAndScores(network, layers, pool), preprocess).eval()
    shape = (1, clip_frames, *preprocess.frame_shape)
    generator = torch.Generator().manual_seed(_SEED)
    clip = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    try:
        with torch.no_grad():
            model = openvino.convert_model(torch.export.export(module, (clip,)))
        model.reshape(list(shape))
    except Exception as error:  # the classes depend on OpenVINO's version
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"OpenVINO cannot take this network ({line}): leave engine out", field="engine"
        ) from error
    engine = OpenVinoEngine(model, precision="fp32")
    with torch.no_grad():
        embedding = module(clip)[EMBEDDING].numpy()
    # As many clips as run side by side: this compiles the graph that batches will use.
    clips = np.repeat(clip.numpy(), engine.threads, 0)
    difference = np.abs(engine.embed(clips) - embedding).max()
    engine.precision_error = float(difference / max(np.abs(embedding).max(), 1e-12))
    if not engine.precision_error <= TOLERANCE:
        raise ExportError(
            f"OpenVINO's outputs differ from torch's by {engine.precision_error:.2g} of their "
            f"largest value, more than {TOLERANCE:g}: leave engine out",
            field="engine",
        )
    return engine


def read_network(path: Path, precision: Precision) -> OpenVinoEngine:
    """Open a model file (.xml, with its tensors in a .bin next to it).

    Raises:
        MissingExtraError: OpenVINO is not installed.
        WeightsError: OpenVINO cannot read the file.
    """
    openvino = import_openvino(f"running {path.parent}")
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} cannot be read by OpenVINO: {line}") from None
    return OpenVinoEngine(model, precision=precision)


class _FromBytes(nn.Module):
    """A network with its normalisation: uint8 (N, T, H, W, 3) to its outputs."""

    def __init__(self, module: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.module = module
        self.unrounded = preprocess.resampler == "unrounded"
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(preprocess.mean) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(preprocess.std) * 255))

    def forward(self, clips_NTHWC: Tensor) -> tuple[Tensor, ...]:
        """(N, T, H, W, bytes of a pixel) -> (N, D), and (N, classes) if there are classes."""
        levels = clips_NTHWC.to(torch.float32)
        if self.unrounded:
            levels = levels[..., :3] + levels[..., 3:] / 256
        scaled = levels.sub(self.mean).mul(self.scale)
        return tuple(self.module(scaled.permute(0, 4, 1, 2, 3)))
