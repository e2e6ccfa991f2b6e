"""The batches of a run's steps, as one process sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidfeat.datasets.base import VideoDataset
from vidfeat.errors import DataError, VideoError
from vidfeat.training.augment import Drawn, Operation, apply_operations, draw_clip
from vidfeat.training.clips import unpack_flow
from vidfeat.training.config import Recipe
from vidfeat.training.feed import Feed, Read
from vidfeat.training.order import Draw, EpochOrder

MOST_REPLACEMENTS = 64  # samples tried in place of one before a run gives up


@dataclass(frozen=True)
class Batch:
    """One process's share of a step."""

    step: int
    clips: Tensor
    """(N, T, H, W, C): uint8 RGB, or half-precision flow."""
    labels: tuple[tuple[int, ...], ...]
    """Labels of each clip: one, or all that it shows."""
    operations: tuple[tuple[Operation, ...], ...]
    failures: tuple[VideoError, ...] = ()
    """Clips that could not be read, each replaced by another."""


def training_batches(
    feed: Feed,
    order: EpochOrder,
    dataset: VideoDataset,
    recipe: Recipe,
    steps: range,
    share: tuple[int, int],
) -> Iterator[Batch]:
    """Yield the share ``start, stop`` of each step's batch.

    A clip that cannot be read is replaced by its neighbour; if no clip of the share can be read,
    samples of the following steps replace them. Both depend only on the step, so that a resumed run
    makes the same batches.

    Raises:
        DataError: no clip could be read, neither of the share nor of its replacements.
    """

    def clip(draw: Draw, step: int) -> Drawn:
        sample = dataset.samples[draw.sample]
        return draw_clip(
            draw,
            step // order.steps_per_epoch,
            sample,
            str(dataset.file(sample.path)),
            seed=recipe.train.seed,
            data=recipe.data,
            augment=recipe.augment,
        )

    def drawn(step: int) -> list[Drawn]:
        return [clip(draw, step) for draw in order.step(step, *share)]

    def others(step: int) -> Iterator[tuple[Drawn, Read]]:
        """Yield replacements for a step: samples of the following steps, each once."""
        seen = {draw.sample for draw in order.step(step, *share)}
        most = len(seen) + MOST_REPLACEMENTS * (share[1] - share[0])
        for later in range(step + 1, step + 1 + MOST_REPLACEMENTS):
            for draw in order.step(later, *share):
                if draw.sample not in seen and len(seen) < most:
                    seen.add(draw.sample)
                    own = clip(draw, step)
                    yield own, feed.read_one((own.file, own.request))

    answers = feed.read((d.file, d.request) for step in steps for d in drawn(step))
    size = share[1] - share[0]
    for step in steps:
        clips, reads = drawn(step), [next(answers) for _ in range(size)]
        if all(read.clips is None for read in reads):
            replacements = others(step)
            found = 0
            while found < size and (other := next(replacements, None)) is not None:
                found += other[1].clips is not None
                clips.append(other[0])
                reads.append(other[1])
        yield _collate(step, clips, reads, size, recipe)


def _collate(
    step: int, drawn: Sequence[Drawn], answers: Sequence[Read], size: int, recipe: Recipe
) -> Batch:
    """The ``size`` clips of a step; answers beyond these are replacements."""
    good = [index for index, answer in enumerate(answers) if answer.clips is not None]
    failures = tuple(answer.error for answer in answers if answer.error is not None)
    if not good:
        raise DataError(
            f"none of {len(answers)} clips of step {step} could be read: {failures[0]} "
            f"({failures[0].path})"
        )
    if good[0] < size:
        sources = [min(good, key=lambda g: (abs(g - index), g)) for index in range(size)]
    else:
        sources = [good[index % len(good)] for index in range(size)]
    arrays = []
    for source in sources:
        clips = answers[source].clips
        assert clips is not None
        arrays.append(clips[0])
    return Batch(
        step,
        to_tensor(np.stack(arrays), recipe),
        tuple(drawn[source].labels for source in sources),
        tuple(drawn[source].operations for source in sources),
        failures,
    )


def to_tensor(clips: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Convert clips from the feed to a tensor of pixels or of flow."""
    flow = recipe.data.modality == "flow"
    return torch.from_numpy(unpack_flow(clips) if flow else clips)


def augment_pixels(clips: Tensor, operations: Sequence[Sequence[Operation]]) -> Tensor:
    """Apply each clip's RandAugment operations: uint8 (N, T, H, W, 3) in and out."""
    if not any(operations):
        return clips
    changed = [
        apply_operations(clip.permute(0, 3, 1, 2), own).permute(0, 2, 3, 1)
        for clip, own in zip(clips, operations, strict=True)
    ]
    return torch.stack(changed)
