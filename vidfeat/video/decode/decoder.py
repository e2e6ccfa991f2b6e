"""The one choice between decode processes and decoding in the calling process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS, DecodePool, PoolStats
from vidfeat.video.decode.tasks import ClipSource, Event, VideoTask
from vidfeat.video.remote import Traffic


class InlineDecoder:
    """Decodes in the calling process, with the interface of :class:`DecodePool`."""

    def __init__(self, source: ClipSource) -> None:
        self.stats = PoolStats()
        self._source = source

    def __enter__(self) -> InlineDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: nothing was started."""

    def run(self, tasks: Iterable[VideoTask]) -> Iterator[tuple[VideoTask, Event]]:
        """The events of all tasks, in order: see :meth:`DecodePool.run`."""
        before = Traffic.bytes_fetched
        for event in decode_inline(self._source, tasks):
            self.stats.bytes_fetched = Traffic.bytes_fetched - before
            yield event


Decoder = DecodePool | InlineDecoder


def make_decoder(
    source: ClipSource,
    workers: int,
    *,
    cards: Sequence[int] = (),
    buffer_bytes: int | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    pin: Callable[[NDArray[np.uint8]], Callable[[], None]] | None = None,
) -> Decoder:
    """The decoder for the videos of a run; use it as a context manager.

    Args:
        source: plan, preprocessing and limits of the run.
        workers: number of decode processes; 0 decodes in this process, where nothing protects the
            caller from a decoder that crashes or hangs, and the other arguments have no effect.
        cards: this and the following arguments are those of :class:`DecodePool`.
        buffer_bytes: memory for clips decoded ahead.
        timeout_seconds: a process that is silent for this long is given up.
        pin: prepares the memory of a process for copies to a device.
    """
    if workers == 0:
        return InlineDecoder(source)
    return DecodePool(
        source,
        workers,
        cards=cards,
        buffer_bytes=buffer_bytes,
        timeout_seconds=timeout_seconds,
        pin=pin,
    )
