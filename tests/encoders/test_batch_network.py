"""Networks over channels-last images: the numbers of their own forward pass, for every design."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.networks import lived_in
from vidfeat.encoders.engines.batch_convolution import stem_patches
from vidfeat.encoders.engines.batch_network import BatchNetwork, can_run
from vidfeat.errors import UsageError
from vidfeat.models import MODEL_NAMES, build_model, catalog, pool_features
from vidfeat.video.preprocess import Preprocess


def some_clips(frames: int, rows: int, columns: int, count: int = 2) -> torch.Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, frames, rows, columns, 3), np.uint8))


DESIGNS = [
    ("r2plus1d_18", 4, (40, 48)),
    ("r2plus1d_18_paper", 5, (33, 47)),
    ("r2plus1d_10", 1, (32, 32)),
    ("r2plus1d_10_w16", 7, (40, 41)),
    ("r2plus1d_10_w24", 9, (28, 30)),
    ("r2plus1d_152", 3, (24, 25)),
    ("r2plus1d_152_pool", 2, (48, 48)),
    ("r3d_10", 4, (32, 32)),
    ("r3d_152_pool", 2, (33, 32)),
    ("mc3_18", 4, (32, 31)),
    ("mc5_10_w16", 5, (32, 32)),
    ("rmc3_10", 4, (32, 32)),
    ("rmc5_10_w16", 4, (29, 32)),
    ("fr2d_18", 3, (31, 36)),
    ("r2d_10_w16", 16, (32, 32)),
]


@pytest.mark.parametrize(("name", "frames", "crop"), DESIGNS)
def test_every_layer_is_the_networks_own(name: str, frames: int, crop: tuple[int, int]) -> None:
    network = lived_in(name)
    preprocess = Preprocess(resize=(64, 64), crop=crop)
    clips = some_clips(frames, *crop)
    with torch.inference_mode():
        expected = network.features(preprocess.normalize(clips), network.layer_names)
        made = BatchNetwork(network, preprocess)
        found = made.features(clips, network.layer_names)
        scores = made.classify(clips)
    assert list(found) == list(expected)
    for layer, values in expected.items():
        assert found[layer].shape == values.shape
        difference = (found[layer] - values).norm() / values.norm()
        assert difference < 5e-6, (layer, float(difference))
    own = network.classify(pool_features({"layer4": expected["layer4"]}))
    assert (scores - own).norm() / own.norm() < 5e-6


def test_which_networks_it_runs() -> None:
    """All of the paper's, and none of the other families."""
    with torch.device("meta"):
        can = {name for name in MODEL_NAMES if can_run(build_model(name))}
    assert can == {name for name in catalog.DESIGNS if name.partition("_")[0] in catalog.FAMILIES}
    assert not can_run(build_model("r2plus1d_10_w16", in_channels=2))


@pytest.mark.parametrize("pool", [["mean"], ["max"], ["mean", "max"]])
def test_layers_and_pools_in_their_order(pool: list[str]) -> None:
    network, preprocess = lived_in("r2plus1d_10_w16"), Preprocess((40, 40), (40, 40))
    clips, layers = some_clips(4, 40, 40), ["layer3", "stem"]
    with torch.inference_mode():
        expected = pool_features(network.features(preprocess.normalize(clips), layers), pool)
        found = BatchNetwork(network, preprocess, layers, pool)(clips)
    assert found.shape == expected.shape
    assert (found - expected).norm() / expected.norm() < 2e-6


def test_nothing_above_the_highest_layer_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = BatchNetwork(lived_in("r2plus1d_10_w16"), Preprocess((40, 40), (40, 40)))
    block = made.groups["layer3"][0]  # type: ignore[index]
    monkeypatch.setattr(block, "run", lambda *_, **__: pytest.fail("computed"))
    assert list(made.features(some_clips(4, 40, 40), ["layer2", "stem"])) == ["layer2", "stem"]


def test_weights_are_swapped_in_place() -> None:
    preprocess, clips = Preprocess((32, 32), (32, 32)), some_clips(4, 32, 32)
    first, second = lived_in("r2plus1d_10_w16", 1), lived_in("r2plus1d_10_w16", 2)
    made = BatchNetwork(first, preprocess)
    places = {name: value.data_ptr() for name, value in made.state_dict().items()}
    with torch.inference_mode():
        before = made(clips)
        made.load_(second)
        swapped = made(clips)
        assert torch.equal(swapped, BatchNetwork(second, preprocess)(clips))
    assert {name: value.data_ptr() for name, value in made.state_dict().items()} == places
    assert not torch.allclose(before, swapped)


def test_an_r2d_refuses_clips_of_another_length() -> None:
    made = BatchNetwork(lived_in("r2d_10_w16"), Preprocess((32, 32), (32, 32)))
    with pytest.raises(UsageError, match="16 frames, got 8"):
        made(some_clips(8, 32, 32))


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 2)])
def test_patches_hold_the_frame_and_zeros_around_it(size: tuple[int, int]) -> None:
    preprocess, clips = Preprocess((16, 16), size), some_clips(2, *size)
    found = stem_patches(clips, preprocess, torch.float32)
    pixels = preprocess.normalize(clips).transpose(1, 2).flatten(0, 1)
    rows, columns = (-(-length // 2) for length in size)
    assert found.shape == (4, 16, rows + 3, columns + 3)
    back = found[:, :12].unflatten(1, (2, 2, 3)).permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)
    inner = back[:, :, 4 : 4 + size[0], 4 : 4 + size[1]]
    assert torch.equal(inner, pixels)
    back[:, :, 4 : 4 + size[0], 4 : 4 + size[1]] = 0
    assert not back.any()
    assert not found[:, 12:].any()


def test_no_map_is_copied_into_another_form() -> None:
    """Of a (2+1)D network each operation is a convolution or changes numbers: none moves them."""
    made = BatchNetwork(lived_in("r2plus1d_10_w16"), Preprocess((32, 32), (32, 32)))
    clips = some_clips(4, 32, 32)
    with torch.inference_mode():
        patches = made._patches(clips).contiguous(memory_format=torch.channels_last)
        made._patches = lambda _: patches  # type: ignore[method-assign]
        with torch.profiler.profile(record_shapes=True) as profile:
            made(clips)
    copies = [event.input_shapes for event in profile.events() if event.name == "aten::clone"]
    assert len([shapes for shapes in copies if len(shapes[0]) > 1]) <= 3  # where a shortcut skips


ROOT = Path(__file__).resolve().parents[2]


def test_triton_kernels_compute_the_same() -> None:
    """Interpreted, in a process of its own: the variable counts when Triton is imported."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.encoders.batch_network_in_triton"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)], ids=str
)
def test_half_precision_is_merely_rounding(dtype: torch.dtype, most: float) -> None:
    network, preprocess = lived_in("r2plus1d_10_w16"), Preprocess((40, 48), (32, 36))
    clips = some_clips(8, 32, 36)
    with torch.inference_mode():
        found = BatchNetwork(network, preprocess, dtype=dtype)(clips)
        expected = pool_features(network.features(preprocess.normalize(clips)))
    assert found.dtype == torch.float32
    assert (found.double() - expected).norm() / expected.norm() < most
