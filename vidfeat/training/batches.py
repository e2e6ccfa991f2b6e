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
from vidfeat.training.order import EpochOrder


@dataclass(frozen=True)
class Batch:
    """One process's share of a step."""

    step: int
    clips: Tensor
    """(N, T, H, W, C): uint8 RGB, or half-precision flow."""
    labels: tuple[tuple[int, ...], ...]
    """Of each clip: one, or all that it shows."""
    operations: tuple[tuple[Operation, ...], ...]
    failures: tuple[VideoError, ...] = ()
    """Clips that could not be read: a neighbour took the place of each."""


def training_batches(
    feed: Feed,
    order: EpochOrder,
    dataset: VideoDataset,
    recipe: Recipe,
    steps: range,
    share: tuple[int, int],
) -> Iterator[Batch]:
    """Yield the share ``start, stop`` of each step's batch.

    Raises:
        DataError: of a whole share not one clip could be read.
    """

    def drawn(step: int) -> list[Drawn]:
        epoch = step // order.steps_per_epoch
        return [
            draw_clip(
                draw,
                epoch,
                dataset.samples[draw.sample],
                str(dataset.file(dataset.samples[draw.sample].path)),
                seed=recipe.train.seed,
                data=recipe.data,
                augment=recipe.augment,
            )
            for draw in order.step(step, *share)
        ]

    answers = feed.read((d.file, d.request) for step in steps for d in drawn(step))
    size = share[1] - share[0]
    for step in steps:
        yield _collate(step, drawn(step), [next(answers) for _ in range(size)], recipe)


def _collate(step: int, drawn: Sequence[Drawn], answers: Sequence[Read], recipe: Recipe) -> Batch:
    good = [index for index, answer in enumerate(answers) if answer.clips is not None]
    failures = tuple(answer.error for answer in answers if answer.error is not None)
    if not good:
        raise DataError(
            f"not one of {len(answers)} clips of step {step} could be read: {failures[0]} "
            f"({failures[0].path})"
        )
    sources = [min(good, key=lambda g: (abs(g - index), g)) for index in range(len(answers))]
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
    """Clips as they come from the feed to a tensor of pixels or of flow."""
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
