"""Run by test_batch_network.py with TRITON_INTERPRET=1: Triton's kernels on a processor."""

from __future__ import annotations

import torch

from tests.encoders.test_batch_network import some_clips
from tests.support.networks import lived_in
from vidfeat.encoders.engines.batch_network import BatchNetwork
from vidfeat.video.preprocess import Preprocess


def check(name: str, frames: int, crop: tuple[int, int], how: str | None) -> None:
    """Compare all layers with the network's own, in fp16."""
    network, preprocess = lived_in(name), Preprocess((64, 64), crop)
    clips = some_clips(frames, *crop)
    plain = BatchNetwork(network, preprocess)
    chosen = {}
    if how is not None:
        chosen = {c.name: how for c in plain.convolutions if c.shape.over_space}
    with torch.inference_mode():
        expected = network.features(preprocess.normalize(clips), network.layer_names)
        made = BatchNetwork(network, preprocess, dtype=torch.float16, fused=True, chosen=chosen)
        found = made.features(clips, network.layer_names)
        for layer, values in expected.items():
            difference = float((found[layer].float() - values).norm() / values.norm())
            assert difference < 2e-3, (name, how, layer, difference)
        # NaN is not lost on the way: half precision that overflows is found out at the end
        stem = made.stem.layers[0]
        stem.weight[0].fill_(float("inf"))
        assert not made(clips).isfinite().any(), name


check("r2plus1d_10_w16", 4, (17, 20), None)
check("r2plus1d_10_w16", 3, (16, 16), "library")
check("mc3_10_w16", 4, (16, 16), None)
check("fr2d_10_w16", 2, (16, 16), "library")
