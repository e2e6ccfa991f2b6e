"""A network on a CUDA device.

Batches arrive as uint8 on the device (``device_batches.py``), or are sent there. Any thread may
queue work on the one stream, and waits only for its own vectors. Networks of the R(2+1)D paper run
as a CUDA graph of a :class:`BatchNetwork`: with cuDNN's kernels, or, if asked, with kernels in
Triton. Others run eagerly, or through torch.compile.

Half precision is compared with fp32 on the first clips. fp32 never uses TF32, which is a separate
precision. A batch whose vectors are not all finite is computed again in fp32.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidfeat.encoders.engines.base import Engine, Execution, Precision
from vidfeat.encoders.engines.batch_network import BatchNetwork, can_run, triton_runs_on
from vidfeat.encoders.engines.cost import flops_per_second
from vidfeat.encoders.engines.cuda_graph import CapturedGraph
from vidfeat.encoders.engines.halving import run_in_parts
from vidfeat.errors import PrecisionError, UsageError
from vidfeat.models.base import TIME, VideoNetwork
from vidfeat.models.resnet3d import VideoResNet
from vidfeat.system.compiled_code import keep_compiled_code
from vidfeat.system.float32_rules import float32_rules
from vidfeat.video.preprocess import Preprocess

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# Rounding alone gives some 5e-4 (fp16, tf32) to 5e-3 (bf16) over the depth of these networks.
_LARGEST_ERROR = {"tf32": 1e-2, "fp16": 2e-2, "bf16": 5e-2}
_CHECK_CLIPS = 2


class PlainNetwork(nn.Module):
    """Any network with its normalisation: uint8 clips (N, T, H, W, 3) to vectors (N, D)."""

    def __init__(
        self,
        network: VideoNetwork,
        preprocess: Preprocess,
        layers: Sequence[str],
        pool: Sequence[str],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(dtype)
        self.preprocess, self.layers, self.pool = preprocess, tuple(layers), tuple(pool)
        self.dtype = dtype

    def forward(self, clips_NTHWC: Tensor) -> Tensor:
        """Vectors (N, D), float32."""
        x = self.preprocess.normalize(clips_NTHWC).to(self.dtype).contiguous()
        return self.network.embed(x, self.layers, self.pool).float()


class Pending:
    """Vectors on their way back from the device."""

    def __init__(
        self, rows: Tensor, done: torch.cuda.Event, again: Callable[[], NDArray[np.float32]]
    ) -> None:
        self._rows, self._done, self._again = rows, done, again

    def result(self) -> NDArray[np.float32]:
        """Vectors (N, D). Rows that are not finite even in fp32 stay as they are."""
        self._done.synchronize()
        vectors: NDArray[np.float32] = self._rows.numpy()
        return vectors if np.isfinite(vectors).all() else self._again()


class CudaEngine(Engine):
    """A network on one CUDA device.

    Args:
        network: in fp32 on the CPU; it is put into evaluation mode.
        layers: layers to embed with, as checked names.
        pool: how their maps become vectors.
        preprocess: the normalisation.
        precision: fp32, tf32, fp16 or bf16.
        device: where to run.
        execution: ``graph`` replays a CUDA graph of cuDNN's kernels; ``compile`` replays one with
            kernels compiled for it, in Triton. For networks without a batched form, ``graph`` means
            ``eager``, and ``compile`` means torch.compile.
    """

    name = "torch"
    device_type = "cuda"
    takes_planes = True
    batches_at_once = 2

    def __init__(
        self,
        network: VideoNetwork,
        layers: Sequence[str],
        pool: Sequence[str],
        preprocess: Preprocess,
        *,
        precision: Precision,
        device: torch.device,
        execution: Execution = "graph",
    ) -> None:
        if precision not in DTYPES:
            raise UsageError(f"precision on a GPU is {', '.join(DTYPES)}, not {precision}")
        self.device = torch.device("cuda", device.index or 0)
        self.precision = precision
        self.execution = execution
        self.precision_error: float | None = None
        self.largest_batch: int | None = None
        self.batches_recomputed = 0
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._layers = network.check_layers(layers)
        self._pool = tuple(pool)
        self._preprocess = preprocess
        keep_compiled_code()
        self._lock = threading.Lock()
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._graphs: dict[int, CapturedGraph] = {}
        self._exact: PlainNetwork | None = None
        self._checked = precision == "fp32"

    @cached_property
    def _run(self) -> BatchNetwork | PlainNetwork:
        """Created for the first batch, when its execution is known."""
        return self._made(DTYPES[self.precision])

    @cached_property
    def _compiled(self) -> Callable[[Tensor], Tensor]:
        compiled: Callable[[Tensor], Tensor] = torch.compile(self._run, dynamic=False)
        return compiled

    def _made(self, dtype: torch.dtype) -> BatchNetwork | PlainNetwork:
        if can_run(self._network) and TIME not in self._pool:
            made: BatchNetwork | PlainNetwork = BatchNetwork(
                cast("VideoResNet", self._network),
                self._preprocess,
                self._layers,
                self._pool,
                dtype,
                fused=self.execution == "compile" and triton_runs_on(self.device),
            )
        else:
            made = PlainNetwork(self._network, self._preprocess, self._layers, self._pool, dtype)
        return made.eval().to(self.device)

    def load_(self, network: VideoResNet) -> None:
        """Copy the weights of another network of the same design in place, for measurements."""
        with self._queueing(self.precision):
            self._network, self._exact = network.eval(), None
            self._checked = self.precision == "fp32"
            assert isinstance(self._run, BatchNetwork)
            self._run.load_(network)

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of its device."""
        return flops_per_second(self.device)

    # -- batches -------------------------------------------------------------------------------

    def submit(self, clips_NTHWC: Tensor, after: torch.cuda.Event | None = None) -> Pending:
        """Queue a batch: uint8 (B, T, H, W, 3) on the device, complete once ``after`` is done.

        The batch must not change until the result is available.

        Raises:
            PrecisionError: the first clips differ from fp32 by more than rounding.
        """
        with self._queueing(self.precision):
            if after is not None:
                self._stream.wait_event(after)
            vectors = self._halving(clips_NTHWC)
            if not self._checked:
                self._check(clips_NTHWC[:_CHECK_CLIPS], vectors[:_CHECK_CLIPS])
            rows = torch.empty(vectors.shape, dtype=torch.float32, pin_memory=True)
            rows.copy_(vectors, non_blocking=True)
            # a waiting thread leaves its core to the decode processes
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(self._stream)
        return Pending(rows, done, lambda: self._in_fp32(clips_NTHWC))

    def warm_up(self, shape: tuple[int, int, int, int, int]) -> None:
        """Prepare what the first batch of a shape would wait for: kernels, graph, compilation."""
        with self._queueing(self.precision):
            self._halving(torch.zeros(shape, dtype=torch.uint8, device=self.device))

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3)."""
        clips = torch.from_numpy(clips_NTHWC).to(self.device)
        sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        sent.record(torch.cuda.current_stream(self.device))
        return self.submit(clips, sent).result()

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax."""
        with self._queueing(self.precision):
            clips = torch.from_numpy(clips_NTHWC).to(self.device)
            if isinstance(self._run, BatchNetwork):
                return self._run.classify(clips).cpu().numpy()
            x = self._run.preprocess.normalize(clips).to(self._run.dtype).contiguous()
            return self._run.network(x).float().cpu().numpy()  # type: ignore[no-any-return]

    def _halving(self, clips_NTHWC: Tensor) -> Tensor:
        """Run a batch, in parts if necessary; the order of the clips is kept."""
        size = min(len(clips_NTHWC), self.largest_batch or len(clips_NTHWC))
        parts, fitted = run_in_parts(
            len(clips_NTHWC), size, lambda part: self._try(clips_NTHWC[part]), self.device
        )
        if fitted < size:
            self.largest_batch = fitted
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _try(self, clips_NTHWC: Tensor) -> Tensor | None:
        """The vectors of a batch; None if memory is insufficient."""
        try:
            if self.execution != "eager" and isinstance(self._run, BatchNetwork):
                return self._replayed(clips_NTHWC)
            if self.execution == "compile":
                return self._compiled(clips_NTHWC)
            found: Tensor = self._run(clips_NTHWC)
            return found
        except torch.cuda.OutOfMemoryError:
            pass
        # Outside of the except block: its traceback keeps the tensors of the failed batch alive.
        self._graphs.clear()
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        return None

    def _replayed(self, clips_NTHWC: Tensor) -> Tensor:
        number = len(clips_NTHWC)
        graph = self._graphs.get(number)
        if graph is None:
            if len(self._graphs) >= 2:  # each holds the maps of its batch
                return self._run(clips_NTHWC)  # type: ignore[no-any-return]
            graph = self._graphs[number] = CapturedGraph(self._run, clips_NTHWC, self._stream)
        return graph.run(clips_NTHWC)

    def _check(self, clips_NTHWC: Tensor, found: Tensor) -> None:
        """Compare a few vectors with fp32; raise if the difference is not merely rounding."""
        with float32_rules(tf32=False, device=self.device):
            exact = self._reference()(clips_NTHWC)
        self.precision_error = float((found - exact).norm() / exact.norm())
        if not self.precision_error <= _LARGEST_ERROR[self.precision]:
            raise PrecisionError(
                f"{self.precision} differs from fp32 by {self.precision_error:.1%} on the first "
                f"clips on {self.device}, more than rounding explains (a faulty kernel, or values "
                "out of range): take precision fp32"
            )
        self._checked = True
        self._exact = None

    def _reference(self) -> PlainNetwork:
        """The network's own forward pass in fp32: it shares no kernel with what it checks."""
        if self._exact is None:
            made = PlainNetwork(
                self._network, self._preprocess, self._layers, self._pool, torch.float32
            )
            self._exact = made.eval().to(self.device)
        return self._exact

    def _in_fp32(self, clips_NTHWC: Tensor) -> NDArray[np.float32]:
        """Recompute a batch that was not finite, in fp32."""
        with self._queueing("fp32"):
            self.batches_recomputed += 1
            network = self._reference()
            rows = [network(clips_NTHWC[at : at + 8]) for at in range(0, len(clips_NTHWC), 8)]
            found: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
            return found

    @contextmanager
    def _queueing(self, precision: str) -> Iterator[None]:
        """One thread at a time queues work on the engine's stream."""
        with (
            self._lock,
            torch.inference_mode(),
            torch.cuda.device(self.device),
            torch.cuda.stream(self._stream),
            float32_rules(tf32=precision == "tf32", device=self.device),
        ):
            yield
