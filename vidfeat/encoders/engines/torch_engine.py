"""torch on a CPU, and on any device other than CUDA's (``cuda_engine.py``).

Half precision is compared with fp32 on the first batch: libraries have been wrong for exactly the
kernels of R(2+1)D. A batch that does not fit into memory is halved, and the size is remembered.

On a CPU, networks of 2D and (2+1)D groups run clip by clip, several in parallel, if that is faster:
see ``factored.py``. A batch of few clips on many threads goes through the network's own forward
pass, with all threads on each clip; the two agree to 2e-6 of the largest value.

On other devices (Apple's mps, xpu) a network runs as it is, with no guarantee of speed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidfeat.encoders.engines.base import Engine, Precision
from vidfeat.encoders.engines.cost import flops_per_second
from vidfeat.encoders.engines.factored import FactoredNetwork, factored_pays
from vidfeat.encoders.engines.halving import run_in_parts
from vidfeat.encoders.engines.side_by_side import SideBySide, busy_batch
from vidfeat.errors import PrecisionError, UsageError
from vidfeat.models.base import VideoNetwork, pool_features
from vidfeat.models.resnet3d import VideoResNet
from vidfeat.system.memory import clips_that_fit, keep_large_blocks
from vidfeat.video.preprocess import Preprocess

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Rounding alone gives some 1e-3 (fp16) to 1e-2 (bf16) over the depth of these networks.
_LARGEST_ERROR = {"fp16": 2e-2, "bf16": 5e-2}
_CHECK_CLIPS = 2


def choose_device(device: str) -> torch.device:
    """The device that a name stands for.

    Raises:
        UsageError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f"no device {device!r}: give device=auto, cpu, cuda or cuda:1") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device can be used here: take device=cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"no device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if chosen.type not in ("cpu", "cuda"):
        _try_device(chosen)
    return chosen


def _try_device(device: torch.device) -> None:
    """Check that a device can compute something.

    Raises:
        UsageError: it cannot.
    """
    try:
        works = float(torch.ones(2, device=device).sum()) == 2
    except (RuntimeError, NotImplementedError, AssertionError, ImportError):
        works = False
    if not works:
        raise UsageError(f"no device {str(device)!r} can be used here: device=cpu works anywhere")


_NO_MEMORY = "can't allocate memory"


def _halved_to(size: int, most: int) -> int:
    """A size, halved until it is ``most`` or less."""
    while size > max(1, most):
        size = (size + 1) // 2
    return size


class TorchEngine(Engine):
    """A network under torch.

    Args:
        network: in fp32 on the CPU; it is put into evaluation mode.
        layers: layers to embed with; none means the network's default.
        pool: how their maps become vectors.
        preprocess: the normalisation.
        precision: fp32, fp16 or bf16.
        device: where to run.
        compiled: run it through ``torch.compile``.
    """

    name = "torch"

    def __init__(
        self,
        network: VideoNetwork,
        layers: Sequence[str],
        pool: Sequence[str],
        preprocess: Preprocess,
        *,
        precision: Precision = "fp32",
        device: torch.device | None = None,
        compiled: bool = False,
    ) -> None:
        if precision not in _DTYPES:
            raise UsageError(f"the torch engine runs fp32, fp16 and bf16, not {precision}")
        self.device = device or torch.device("cpu")
        self.device_type = self.device.type
        self.precision = precision
        self.precision_error: float | None = None
        """Relative error against fp32 on the first clips; None before that, and for fp32."""
        self.largest_batch: int | None = None
        """The largest batch that fits into memory; None until one does not fit."""
        self._layers = tuple(layers)
        self._pool = tuple(pool)
        self._preprocess = preprocess
        self._dtype = _DTYPES[precision]
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._reference: VideoNetwork | None = None
        if precision != "fp32":
            self._reference = copy.deepcopy(self._network).to(self.device)
            self._network = self._network.to(self._dtype)
        self._checking = threading.Lock()
        self._network = self._network.to(self.device)
        on_cpu = self.device.type == "cpu"
        if on_cpu:
            keep_large_blocks()
        self.clip_by_clip = (
            on_cpu and precision == "fp32" and not compiled and factored_pays(self._network)
        )
        """Whether clips run side by side, each on one thread of the processor."""
        self._side_by_side = SideBySide()
        self._embed: Callable[[Tensor], Tensor] = self._embed_eagerly
        if compiled:
            self._embed = torch.compile(self._embed_eagerly)

    @property
    def preferred_batch(self) -> int | None:
        """Clips per batch that keep a processor busy; None if it matters little."""
        return busy_batch(self._side_by_side.threads) if self.clip_by_clip else None

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of its device."""
        return flops_per_second(self.device)

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3).

        Raises:
            PrecisionError: half precision is wrong on this device.
        """
        if self.clip_by_clip and self._side_by_side.fills(len(clips_NTHWC)):
            return self._run_clip_by_clip(self._embed_clip, clips_NTHWC)
        with torch.inference_mode():
            with self._checking:
                if self._reference is not None:
                    self._check(clips_NTHWC[:_CHECK_CLIPS])
            return self._halving(clips_NTHWC, self._embed)

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax."""
        if self.clip_by_clip and self._side_by_side.fills(len(clips_NTHWC)):
            return self._run_clip_by_clip(self._predict_clip, clips_NTHWC)
        with torch.inference_mode():
            return self._halving(clips_NTHWC, self._network)

    # -- one batch -----------------------------------------------------------------------------

    def _embed_eagerly(self, x: Tensor) -> Tensor:
        return self._network.embed(x, self._layers, self._pool)

    @cached_property
    def _factored(self) -> FactoredNetwork:
        """Created for the first full batch: it takes half a second, and single clips need none."""
        return FactoredNetwork(cast("VideoResNet", self._network), self._preprocess.crop)

    def _run_clip_by_clip(
        self, work: Callable[[NDArray[np.uint8]], Tensor], clips_NTHWC: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        with self._checking:
            _ = self._factored  # made here, and not by several threads at once
        rows: NDArray[np.float32] = torch.cat(self._side_by_side.map(work, clips_NTHWC)).numpy()
        return rows

    def _embed_clip(self, clip_THWC: NDArray[np.uint8]) -> Tensor:
        return pool_features(self._features_of_clip(clip_THWC, self._layers), self._pool)

    def _predict_clip(self, clip_THWC: NDArray[np.uint8]) -> Tensor:
        return self._network.classify(pool_features(self._features_of_clip(clip_THWC, ())))

    def _features_of_clip(
        self, clip_THWC: NDArray[np.uint8], layers: Sequence[str]
    ) -> dict[str, Tensor]:
        (clip_CTHW,) = self._preprocess.normalize(torch.from_numpy(clip_THWC)[None])
        return self._factored.features(clip_CTHW, layers)

    def _input(self, clips_NTHWC: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
        clips = torch.from_numpy(clips_NTHWC).to(self.device)
        return self._preprocess.normalize(clips).to(dtype).contiguous()

    def _halving(
        self, clips_NTHWC: NDArray[np.uint8], run: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        """Run a batch, in parts if necessary; the order of the clips is kept."""
        size = min(len(clips_NTHWC), self.largest_batch or len(clips_NTHWC))
        if self.device.type == "cpu" and size:
            size = _halved_to(size, clips_that_fit(clips_NTHWC[0].size))
        vectors, fitted = run_in_parts(
            len(clips_NTHWC), size, lambda part: self._try(clips_NTHWC[part], run), self.device
        )
        if fitted < size:
            self.largest_batch = fitted
        return np.concatenate(vectors) if len(vectors) != 1 else vectors[0]

    def _try(
        self, clips_NTHWC: NDArray[np.uint8], run: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32] | None:
        """The result of a batch; None if memory is insufficient."""
        try:
            result: NDArray[np.float32] = (
                run(self._input(clips_NTHWC, self._dtype)).float().cpu().numpy()
            )
            return result
        except torch.OutOfMemoryError:
            pass
        except (RuntimeError, MemoryError) as error:  # torch has no separate class for this on CPUs
            if not isinstance(error, MemoryError) and _NO_MEMORY not in str(error):
                raise
        return None

    def _check(self, clips_NTHWC: NDArray[np.uint8]) -> None:
        """Compare half precision with fp32 on a few clips; raise if more than rounding differs."""
        reference = self._reference
        assert reference is not None
        x = self._input(clips_NTHWC, torch.float32)
        exact = reference.embed(x, self._layers, self._pool)
        half = self._embed(x.to(self._dtype)).float()
        error = float((half - exact).norm() / exact.norm())
        self.precision_error = error
        if not error <= _LARGEST_ERROR[self.precision]:
            raise PrecisionError(
                f"{self.precision} differs from fp32 by {error:.1%} on the first clips on "
                f"{self.device}, more than rounding explains (a faulty kernel, or values out of "
                f"range): take precision=fp32"
            )
        self._reference = None
