"""Networks in 2-D convolutions over one memory: the numbers of their own forward pass."""

from __future__ import annotations

import pytest
import torch

from tests.support.networks import lived_in
from vidfeat.encoders.engines.batch_network import BatchNetwork
from vidfeat.models.base import pool_features
from vidfeat.models.catalog import DESIGNS
from vidfeat.video.preprocess import Preprocess

PREPROCESS = Preprocess(resize=(40, 48), crop=(32, 36))
OURS = [name for name in DESIGNS if "_10" in name or "_152" in name or name.endswith("_18")]


def clips(number: int = 2, frames: int = 8) -> torch.Tensor:
    shape = (number, frames, *PREPROCESS.crop, 3)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).byte()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", OURS)
def test_vectors_are_those_of_the_network(name: str) -> None:
    network = lived_in(name)
    given = clips(frames=network.clip_frames)
    layers, pool = ("layer4",), ("mean",)
    with torch.inference_mode():
        found = BatchNetwork(network, PREPROCESS, layers, pool, torch.float32)(given)
        expected = pool_features(
            network.double().features(PREPROCESS.normalize(given).double(), layers), pool
        )
    assert error(found, expected) < 2e-6


def test_all_layers_and_pools() -> None:
    network = lived_in("r2plus1d_10_w16")
    layers, pool = ("layer3", "stem", "layer1"), ("max", "mean")
    with torch.inference_mode():
        found = BatchNetwork(network, PREPROCESS, layers, pool, torch.float32)(clips())
        expected = pool_features(network.features(PREPROCESS.normalize(clips()), layers), pool)
    assert found.shape == expected.shape
    assert error(found, expected.double()) < 2e-6


def test_weights_are_swapped_in_place() -> None:
    first, second = lived_in("r2plus1d_10_w16"), lived_in("r2plus1d_10_w16", seed=6)
    layers, pool = ("layer4",), ("mean",)
    with torch.inference_mode():
        network = BatchNetwork(first, PREPROCESS, layers, pool, torch.float32)
        places = [tensor.data_ptr() for tensor in network.buffers()]
        network.load_(second)
        assert places == [tensor.data_ptr() for tensor in network.buffers()]
        expected = BatchNetwork(second, PREPROCESS, layers, pool, torch.float32)(clips())
        assert torch.equal(network(clips()), expected)


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)], ids=str
)
def test_half_precision_is_merely_rounding(dtype: torch.dtype, most: float) -> None:
    network = lived_in("r2plus1d_10_w16")
    layers, pool = ("layer4",), ("mean",)
    with torch.inference_mode():
        found = BatchNetwork(network, PREPROCESS, layers, pool, dtype)(clips())
        expected = pool_features(network.features(PREPROCESS.normalize(clips()), layers), pool)
    assert found.dtype == torch.float32
    assert error(found, expected.double()) < most
