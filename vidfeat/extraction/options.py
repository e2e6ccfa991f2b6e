"""Options of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from vidfeat.errors import UsageError
from vidfeat.store.records import VectorType
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS
from vidfeat.video.reader import Limits


@dataclass(frozen=True)
class ExtractOptions:
    """How a run does its work; none of these options changes what a vector is.

    ``dtype="float16"`` rounds the stored values.
    """

    workers: int | None = None
    """Decode processes; None takes one for each processor, 0 decodes in this process."""
    buffer_bytes: int | None = None
    """Memory for clips decoded ahead, over all processes; None takes 32 MB per process."""
    video_timeout: float = DEFAULT_TIMEOUT_SECONDS
    """Seconds without progress after which a video is given up."""
    limits: Limits = field(default_factory=Limits)
    dtype: VectorType = "float32"
    """Type of the vectors in the file."""
    shard: tuple[int, int] | None = None
    """(k, n): only the k-th of n shards of the videos, counted from 1."""
    cards: tuple[int, ...] = ()
    """Numbers of cards whose video decoders (NVDEC) work alongside the processors."""
    processes_per_card: int = 6
    """Processes that feed a card's decoders; each takes part of a processor."""
    retry_errors: bool = False
    """Retry unchanged files that failed before."""
    overwrite: bool = False
    """Start again, even if the output exists."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers must be 0 or more, not {self.workers}", field="workers")
        if self.buffer_bytes is not None and self.buffer_bytes < 1:
            raise UsageError("buffer_bytes must be above 0", field="buffer_bytes")
        if not self.video_timeout > 0:
            raise UsageError(
                f"video_timeout must be above 0, not {self.video_timeout}", field="video_timeout"
            )
        if self.processes_per_card < 1:
            raise UsageError(
                f"processes_per_card must be 1 or more, not {self.processes_per_card}",
                field="processes_per_card",
            )
        if self.cards and self.num_workers == 0:
            raise UsageError(
                "a card's decoders work alongside decode processes: workers must be 1 or more",
                field="workers",
            )

    @property
    def num_workers(self) -> int:
        """Decode processes of this run."""
        return default_workers() if self.workers is None else self.workers


def default_workers() -> int:
    """One decode process for each processor that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
