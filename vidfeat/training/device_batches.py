"""Batches sent to the training device while the previous step is computed.

On a GPU a thread copies each batch into pinned memory and from there to the GPU on a separate
stream, so that neither steps nor copies wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vidfeat.training.batches import Batch


@dataclass(frozen=True)
class DeviceBatch:
    """A batch whose clips and labels are on the device, or on their way."""

    batch: Batch
    clips: Tensor
    """As ``Batch.clips``."""
    labels: Tensor
    """(N,): the first label of each clip."""
    accepted: Tensor
    """(N, classes): whether a class is among the labels of a clip."""
    sent: torch.cuda.Event | None = None

    def arrive(self) -> None:
        """Make the current stream, but not the calling thread, wait for the copies."""
        if self.sent is None:
            return
        stream = torch.cuda.current_stream(self.clips.device)
        stream.wait_event(self.sent)
        for tensor in (self.clips, self.labels, self.accepted):
            tensor.record_stream(stream)


def sent_ahead(
    batches: Iterable[Batch], device: torch.device, num_classes: int
) -> Iterator[DeviceBatch]:
    """Yield batches sent to a device; to be iterated over in a separate thread."""
    copies = None
    if device.type == "cuda":
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        labels = torch.tensor([own[0] for own in batch.labels])
        accepted = torch.zeros(len(batch.labels), num_classes, dtype=torch.bool)
        for row, own in enumerate(batch.labels):
            accepted[row, list(own)] = True
        if copies is None:
            yield DeviceBatch(batch, batch.clips, labels, accepted)
            continue
        with torch.cuda.stream(copies):
            clips = to_device(batch.clips, device)
            labels, accepted = to_device(labels, device), to_device(accepted, device)
            sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
            sent.record(copies)
        yield DeviceBatch(batch, clips, labels, accepted, sent)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device without waiting for the copy."""
    if device.type != "cuda":
        return tensor.to(device)
    # torch reuses the pinned block only once the copy is done.
    return tensor.pin_memory().to(device, non_blocking=True)
