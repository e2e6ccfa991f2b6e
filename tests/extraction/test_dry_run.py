"""A dry run measures quick networks on a warm batch, and slow ones without a long wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vidfeat.extraction import dry_run
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.decode.tasks import ClipSource
from vidfeat.video.preprocess import Preprocess

SOURCE = ClipSource(ClipPlan(2), Preprocess((8, 8), (8, 8)))


@pytest.mark.parametrize(
    ("clip_seconds", "start_seconds", "batches"),
    [
        (0.001, 5.0, [16, 16]),  # quick: the start is left out
        (2.0, 3.0, [5]),  # slow: a smaller batch, and once
        (90.0, 0.0, [1]),
    ],
)
def test_speed(
    clip_seconds: float, start_seconds: float, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = [0.0], []

    def embed(clips_NTHWC: np.ndarray) -> None:
        now[0] += clip_seconds * len(clips_NTHWC) + (0.0 if seen else start_seconds)
        seen.append(len(clips_NTHWC))

    monkeypatch.setattr(dry_run.time, "monotonic", lambda: now[0])
    encoder: Any = SimpleNamespace(
        engine=SimpleNamespace(embed=embed),
        batch_size=16,
        spec=SimpleNamespace(flops_per_input=clip_seconds * 1e9, input_shape=(2, 8, 8, 3)),
        flops_per_second=1e9,
    )
    rate = dry_run._inputs_per_second(encoder)
    assert seen == batches
    share = start_seconds / (clip_seconds * batches[-1]) if len(batches) == 1 else 0.0
    assert rate == pytest.approx(1 / clip_seconds / (1 + share))
