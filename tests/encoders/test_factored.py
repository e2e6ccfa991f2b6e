"""(2+1)D networks clip by clip: the numbers of their own forward pass, whatever runs beside."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.support.networks import lived_in
from vidfeat.encoders.engines import factored as subject
from vidfeat.encoders.engines.factored import (
    FactoredNetwork,
    can_factor,
    factored_pays,
    winograd_pays,
)
from vidfeat.encoders.engines.side_by_side import SideBySide, busy_batch
from vidfeat.encoders.engines.torch_engine import TorchEngine
from vidfeat.models import MODEL_NAMES, VideoNetwork, build_model
from vidfeat.models.catalog import DESIGNS
from vidfeat.video.preprocess import Preprocess

needs_winograd = pytest.mark.skipif(
    not winograd_pays(), reason="NNPACK is not in this torch, or not made for this processor"
)
ROOMY = Preprocess(resize=(96, 128), crop=(88, 92))


@pytest.fixture
def threads() -> Iterator[None]:
    """Two threads, as they were afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def engine(network: VideoNetwork | None = None) -> TorchEngine:
    return TorchEngine(
        network or lived_in("r2plus1d_10_w16"), ["layer2", "layer4"], ["mean", "max"], ROOMY
    )


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 6, 88, 92, 3), np.uint8)


@needs_winograd
@pytest.mark.parametrize(
    ("name", "crop", "frames"),
    [
        ("r2plus1d_18", (112, 112), 4),
        ("r2plus1d_18_paper", (97, 115), 5),
        ("r2plus1d_10", (112, 112), 1),
        ("r2plus1d_10_w16", (80, 201), 7),
        ("r2plus1d_10_w24", (28, 30), 9),
        ("r2plus1d_152", (64, 57), 3),
        ("r2plus1d_152_pool", (112, 112), 2),
        ("fr2d_18", (111, 96), 3),
        ("fr2d_10_w16", (112, 112), 2),
    ],
)
def test_every_layer_is_the_networks_own(name: str, crop: tuple[int, int], frames: int) -> None:
    network = lived_in(name)
    clip = torch.randn((3, frames, *crop), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network.features(clip[None], network.layer_names)
        found = FactoredNetwork(network, crop).features(clip, network.layer_names)
    assert list(found) == list(expected)
    for layer, values in expected.items():
        assert found[layer].shape == values.shape
        difference = (found[layer] - values).abs().max() / values.abs().max()
        assert difference < 1e-5, (layer, float(difference))


@needs_winograd
def test_nothing_above_the_highest_layer_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = FactoredNetwork(lived_in("r2plus1d_10_w16"), (88, 92))
    monkeypatch.setattr(made._groups["layer3"][0], "run", lambda images: pytest.fail("computed"))
    clip = torch.zeros(3, 4, 88, 92)
    assert list(made.features(clip, ["layer2", "stem"])) == ["layer2", "stem"]


def test_which_networks_can_be_taken_apart() -> None:
    """The paper's R(2+1)D and f-R2D; PyTorchVideo's R(2+1)D has other blocks."""
    with torch.device("meta"):
        can = {name for name in MODEL_NAMES if can_factor(build_model(name))}
    assert can == {name for name in DESIGNS if name.startswith(("r2plus1d", "fr2d"))}


@needs_winograd
def test_it_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model("r2plus1d_10_w16")
    assert factored_pays(network)
    assert not factored_pays(build_model("r3d_10_w16"))
    assert not TorchEngine(network, [], ["mean"], ROOMY, precision="bf16").clip_by_clip
    assert not TorchEngine(network, [], ["mean"], ROOMY, compiled=True).clip_by_clip
    monkeypatch.setattr(subject, "winograd_pays", lambda: False)
    assert not factored_pays(network)


@pytest.mark.parametrize("fault", ["wrong", "failing", "gone", "absent", "wide", "other"])
def test_a_processor_or_a_torch_without_it(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = subject._winograd

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("NNPACK SpatialConvolution_updateOutput failed")

    if fault == "wrong":
        monkeypatch.setattr(subject, "_winograd", lambda *given: right(*given) * 1.001)
    elif fault == "failing":
        monkeypatch.setattr(subject, "_winograd", failing)
    elif fault == "gone":
        monkeypatch.delattr(torch, "_nnpack_spatial_convolution")
    elif fault == "absent":
        monkeypatch.setattr(torch, "_nnpack_available", lambda: False)
    elif fault == "wide":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    else:
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not winograd_pays.__wrapped__()


@needs_winograd
def test_vectors_and_scores_are_those_of_the_network(clips: np.ndarray, threads: None) -> None:
    made = engine()
    vectors, scores = made.embed(clips), made.predict(clips)
    assert made.clip_by_clip
    assert made.preferred_batch == 4
    made.clip_by_clip = False  # the network's own forward pass
    for found, expected in ((vectors, made.embed(clips)), (scores, made.predict(clips))):
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@needs_winograd
def test_a_row_does_not_depend_on_the_clips_beside_it(clips: np.ndarray, threads: None) -> None:
    made = engine()
    together = made.embed(clips)
    assert np.array_equal(made.embed(clips[3:]), together[3:])
    assert np.array_equal(made.embed(clips[::-1].copy())[::-1], together)
    for _ in range(5):
        assert np.array_equal(made.embed(clips), together)


@needs_winograd
def test_a_single_clip_takes_all_threads(
    clips: np.ndarray, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine()
    expected = made.embed(clips)[:1]
    monkeypatch.setattr(made._factored, "features", lambda *_: pytest.fail("one thread"))
    assert np.abs(made.embed(clips[:1]) - expected).max() < 1e-5 * np.abs(expected).max()


@needs_winograd
def test_two_callers_at_once(clips: np.ndarray, threads: None) -> None:
    made, other = engine(), engine()
    expected = made.embed(clips)
    with ThreadPoolExecutor(3) as callers:
        found = list(callers.map(lambda one: one.embed(clips), [made, other, made]))
    assert all(np.array_equal(vectors, expected) for vectors in found)
    assert torch.get_num_threads() == 2


def test_each_clip_has_one_thread_and_the_caller_its_own(threads: None) -> None:
    beside = SideBySide(3)
    assert beside.map(lambda _: torch.get_num_threads(), range(6)) == [1] * 6
    assert beside.map(lambda clip: clip * 2, [3, 1, 2]) == [6, 2, 4]
    assert beside.map(lambda clip: clip, []) == []
    assert torch.get_num_threads() == 2

    def work(clip: int) -> int:
        if clip == 1:
            raise ValueError("a clip")
        return clip

    with pytest.raises(ValueError, match="a clip"):
        beside.map(work, range(8))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("threads_there", "batch"), [(1, 4), (2, 4), (3, 6), (4, 4), (16, 16)])
def test_batches_keep_every_thread_busy(threads_there: int, batch: int) -> None:
    beside = SideBySide(threads_there)
    assert busy_batch(threads_there) == batch
    assert beside.fills(batch)
    assert beside.fills(1) == (threads_there == 1)
