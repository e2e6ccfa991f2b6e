"""A network recorded for one batch size, replayed without Python."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class CapturedGraph:
    """A function of one batch as a CUDA graph, with its own memory.

    Args:
        run: takes uint8 clips on the device and returns one tensor.
        clips_NTHWC: clips of the shape to record.
        stream: the stream to record on.
    """

    def __init__(
        self, run: Callable[[Tensor], Tensor], clips_NTHWC: Tensor, stream: torch.cuda.Stream
    ) -> None:
        self._clips = clips_NTHWC.clone()
        run(self._clips)  # kernels are compiled and chosen outside of the recording
        self.graph = torch.cuda.CUDAGraph()
        # Other threads copy batches meanwhile: their calls are not part of the graph.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self._vectors = run(self._clips)

    def run(self, clips_NTHWC: Tensor) -> Tensor:
        """Queue a replay on the current stream; the result is the caller's own."""
        self._clips.copy_(clips_NTHWC, non_blocking=True)
        self.graph.replay()
        return self._vectors.clone()
