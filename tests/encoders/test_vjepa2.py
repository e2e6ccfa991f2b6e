"""V-JEPA 2 ViT-L by its shapes alone: what a clip costs, and batches within the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidfeat
from tests.support.odd_videos import scene, write_video
from vidfeat.encoders.engines.cost import flops_per_clip, steps_per_clip
from vidfeat.extraction.dry_run import dry_run
from vidfeat.extraction.options import ExtractOptions
from vidfeat.system import memory
from vidfeat.video.listing import list_videos
from vidfeat.video.preprocess import Preprocess

pytest.importorskip("transformers")


def network(**changes: Any) -> Any:
    from transformers import VJEPA2Config, VJEPA2Model

    from vidfeat.encoders.sources.hf_networks import VJEPA2

    config = VJEPA2Config(**changes)
    return VJEPA2(VJEPA2Model(config), config).eval()


@pytest.mark.parametrize(
    ("frames", "gmac"), [(16, 828), pytest.param(64, 5785, marks=pytest.mark.slow)]
)
def test_the_published_size_and_cost(frames: int, gmac: float) -> None:
    with torch.device("meta"):
        large = network(
            crop_size=256, hidden_size=1024, num_attention_heads=16, num_hidden_layers=24
        )
    assert sum(p.numel() for p in large.parameters()) == pytest.approx(304e6, rel=0.01)
    shape = (frames, 256, 256, 3)
    found = flops_per_clip(large, large.layer_names, shape)
    assert found / 2e9 == pytest.approx(gmac, rel=1e-3)
    assert steps_per_clip(large, large.layer_names, shape) == frames // 2


def test_batches_obey_the_memory_and_the_dry_run_tells_the_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slim = network(
        crop_size=32,
        frames_per_clip=4,
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=2,
        pred_num_hidden_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
    )
    encoder = vidfeat.Encoder.from_module(
        slim,
        input=Preprocess(32, (32, 32), antialias=True, resampler="torch"),
        plan=vidfeat.ClipPlan(4),
        device="cpu",
        batch_size=8,
    )
    sizes: list[int] = []
    held = encoder.engine._network  # type: ignore[attr-defined]
    embed = held.embed
    monkeypatch.setattr(held, "embed", lambda x, *rest: sizes.append(len(x)) or embed(x, *rest))
    clips = np.random.default_rng(0).integers(0, 256, (8, 4, 32, 32, 3), np.uint8)
    whole = encoder.encode_clips(clips)
    assert sizes == [8]
    sizes.clear()
    clip_bytes = clips[0].size * 4 * memory._MAPS_PER_INPUT
    monkeypatch.setattr(memory, "available_bytes", lambda: int(3.5 * clip_bytes / 0.9))
    halved = encoder.encode_clips(clips)
    assert max(sizes) <= 3
    assert sum(sizes) == 8
    assert np.allclose(halved, whole, atol=1e-5)

    write_video(tmp_path / "v.mp4", scene(12), rate=10)
    told = dry_run(list_videos([tmp_path]), encoder, options=ExtractOptions(workers=0))
    assert told.clips == 3
    assert told.gflops_per_clip == pytest.approx(encoder.spec.flops_per_input / 1e9)
    assert told.seconds >= told.clips / told.clips_per_second * 0.99
