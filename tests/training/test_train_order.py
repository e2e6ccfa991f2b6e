"""Data order and augmentation are functions of seed, epoch and sample: no state, no workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.datasets.base import Sample
from vidfeat.training.augment import (
    OPERATIONS,
    Operation,
    apply_operations,
    draw_clip,
    mix,
    mixup_weights,
    smoothed_targets,
)
from vidfeat.training.config import AugmentConfig, DataConfig
from vidfeat.training.order import Draw, EpochOrder, share


@given(
    samples=st.integers(1, 50),
    clips=st.integers(1, 120),
    batch=st.sampled_from([1, 2, 4, 8, 12]),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_rounds_of_permutations(
    samples: int, clips: int, batch: int, seed: int, epoch: int
) -> None:
    order = EpochOrder(seed, samples, clips, batch)
    first = epoch * order.steps_per_epoch
    draws = [d for step in range(order.steps_per_epoch) for d in order.step(first + step)]
    assert len(draws) == order.steps_per_epoch * batch
    for start in range(0, len(draws) - samples + 1, samples):
        assert sorted(d.sample for d in draws[start : start + samples]) == list(range(samples))
    assert len(set(draws)) == len(draws)  # a sample's rounds differ, so its clips do


@given(batch=st.sampled_from([4, 8, 12]), world=st.sampled_from([1, 2, 4]), step=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_shares_of_processes_make_up_the_batch(batch: int, world: int, step: int) -> None:
    order = EpochOrder(7, 33, 1000, batch)
    parts = [order.step(step, *share(batch, rank, world)) for rank in range(world)]
    assert [draw for part in parts for draw in part] == order.step(step)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(d.sample for d in EpochOrder(seed, 40, 40, 40).step(epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


SAMPLE = Sample("a.mp4", (3, 5, 8), start_seconds=1.0, end_seconds=4.0)


def drawn(sample: int = 0, epoch: int = 0, round_: int = 0, seed: int = 0, **augment: object):
    return draw_clip(
        Draw(sample, round_),
        epoch,
        SAMPLE,
        "/data/a.mp4",
        seed=seed,
        data=DataConfig(),
        augment=AugmentConfig(**augment),  # type: ignore[arg-type]
    )


def test_a_clip_is_drawn_from_its_counters_alone() -> None:
    assert drawn(4, 2, 1, 9) == drawn(4, 2, 1, 9)
    others = {drawn(4, 2, 1, 9), drawn(5, 2, 1, 9), drawn(4, 3, 1, 9), drawn(4, 2, 2, 9)}
    assert len({other.request for other in others}) == 4
    request = drawn().request
    assert (request.start_seconds, request.end_seconds) == (1.0, 4.0)


def test_turning_one_augmentation_off_moves_no_other() -> None:
    for sample in range(20):
        full = drawn(sample)
        still = drawn(sample, temporal_jitter=False, flip=0.0)
        assert still.request.start == 0.5
        assert not still.request.window.mirrored
        assert (still.request.window.top, still.request.window.left) == (
            full.request.window.top,
            full.request.window.left,
        )
        assert drawn(sample, randaugment=2).request == full.request


def test_draws_are_spread_as_they_should_be() -> None:
    many = [drawn(sample) for sample in range(600)]
    starts = np.array([d.request.start for d in many])
    assert abs(starts.mean() - 0.5) < 0.05
    assert abs(np.mean([d.request.window.mirrored for d in many]) - 0.5) < 0.07
    counts = {label: sum(d.labels == (label,) for d in many) for label in SAMPLE.labels}
    assert min(counts.values()) > 150  # one label drawn of three
    areas = [drawn(sample, crop="resized").request.window.area for sample in range(300)]
    assert 0.4 <= min(areas) < 0.45 and 0.95 < max(areas) <= 1.0
    names = {o.name for s in range(300) for o in drawn(s, randaugment=2).operations}
    assert names == {name for name, _, _ in OPERATIONS}


@pytest.mark.parametrize("operation", [name for name, _, _ in OPERATIONS])
def test_operations_keep_shape_and_type_and_treat_frames_alike(operation: str) -> None:
    frame = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    clip = frame.expand(4, 3, 16, 16).contiguous()
    largest, signed = next((value, sign) for name, value, sign in OPERATIONS if name == operation)
    for amount in (0.0, largest * 0.3, largest * (-0.3 if signed else 1.0)):
        changed = apply_operations(clip, [Operation(operation, amount)])
        assert changed.shape == clip.shape and changed.dtype == torch.uint8
        assert all(torch.equal(changed[0], other) for other in changed[1:])


def test_mixup_pairs_are_the_same_however_a_batch_is_shared() -> None:
    config = AugmentConfig(mixup=0.4)
    whole = mixup_weights(config, 1, 5, 0, 8)
    halves = torch.cat([mixup_weights(config, 1, 5, 0, 4), mixup_weights(config, 1, 5, 4, 8)])
    assert torch.equal(whole, halves)
    assert torch.equal(whole[0::2], whole[1::2])
    assert not torch.equal(whole, mixup_weights(config, 1, 6, 0, 8))
    clips = torch.arange(8.0).view(8, 1, 1, 1, 1)
    targets = smoothed_targets([(label,) for label in (0, 1, 2, 3, 0, 1, 2, 3)], 4, 0.1)
    assert torch.allclose(targets.sum(dim=1), torch.ones(8))
    mixed, soft = mix(clips, targets, whole)
    assert torch.allclose(mixed.view(-1)[0], whole[0] * 0 + (1 - whole[0]) * 1)
    assert torch.allclose(soft.sum(dim=1), torch.ones(8))
