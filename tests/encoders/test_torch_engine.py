"""The torch engine's logic, without a GPU: batches that do not fit, half precision, devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vidfeat.encoders.engines import torch_engine
from vidfeat.encoders.engines.torch_engine import TorchEngine, choose_device
from vidfeat.errors import PrecisionError, UsageError, VidfeatError
from vidfeat.models import build_model
from vidfeat.video.preprocess import Preprocess

SMALL = Preprocess(resize=(32, 43), crop=(28, 28))


def engine(precision: str = "fp32") -> TorchEngine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build_model("r2plus1d_10_w16", 5)
    return TorchEngine(network, ["layer4"], ["mean"], SMALL, precision=precision)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, for which this logic is."""
    monkeypatch.setattr(torch_engine, "factored_pays", lambda network: False)


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 4, 28, 28, 3), np.uint8)


def test_a_batch_that_does_not_fit_is_halved(
    clips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine()
    expected = made.embed(clips)
    sizes: list[int] = []
    run = made._embed

    def crowded(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.cuda.OutOfMemoryError("no room")
        return run(x)

    monkeypatch.setattr(made, "_embed", crowded)
    assert np.allclose(made.embed(clips), expected, rtol=1e-4, atol=1e-5)
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert made.largest_batch == 2
    sizes.clear()
    made.embed(clips)
    assert sizes == [2, 2, 2, 1]  # the size that fits is remembered


def test_one_clip_that_does_not_fit_is_an_error(
    clips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine()

    def full(x: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setattr(made, "_embed", full)
    with pytest.raises(VidfeatError, match="one clip does not fit"):
        made.embed(clips)


def test_half_precision_is_compared_with_fp32(clips: np.ndarray) -> None:
    exact = engine().embed(clips)
    half = engine("bf16")
    vectors = half.embed(clips)
    assert vectors.dtype == np.float32
    assert half.precision_error is not None
    assert 0 < half.precision_error < 0.05
    assert np.linalg.norm(vectors - exact) / np.linalg.norm(exact) < 0.05


def test_wrong_kernels_are_found_out(clips: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """As cuDNN's for the kernel 1x3x3 in bf16 once were."""
    broken = engine("bf16")
    right = broken._embed
    monkeypatch.setattr(broken, "_embed", lambda x: right(x) * 1.2)
    with pytest.raises(PrecisionError, match="precision=fp32"):
        broken.embed(clips)
    nothing = engine("bf16")
    monkeypatch.setattr(nothing, "_embed", lambda x: right(x) * float("nan"))
    with pytest.raises(PrecisionError):
        nothing.embed(clips)


def test_devices_and_precisions_are_checked() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:99", "meta", "mps:7"):
        with pytest.raises(UsageError, match=r"device"):
            choose_device(name)
    with pytest.raises(UsageError, match="int8"):
        engine("int8")


def test_scores_come_before_the_softmax(clips: np.ndarray) -> None:
    scores = engine().predict(clips)
    assert scores.shape == (7, 5)
    assert not np.allclose(scores.sum(axis=1), 1)


def test_two_threads_may_embed_at_once(clips: np.ndarray) -> None:
    """As extract does on a GPU: one comparison with fp32, and the same vectors."""
    alone = engine("bf16").embed(clips)
    shared = engine("bf16")
    checks: list[int] = []
    check = shared._check
    shared._check = lambda some: (checks.append(len(some)), check(some))[1]  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(shared.embed, [clips, clips]))
    assert len(checks) == 1
    assert all(np.allclose(vectors, alone, rtol=1e-3, atol=1e-4) for vectors in both)


def test_clips_go_to_the_device_of_the_network(clips: np.ndarray) -> None:
    """Whatever it is: mps and others run eagerly."""
    network = build_model("r2plus1d_10_w16", 5)
    elsewhere = TorchEngine(network, ["layer4"], ["mean"], SMALL, device=torch.device("meta"))
    assert elsewhere._input(clips, torch.float32).device.type == "meta"
    assert elsewhere._embed(elsewhere._input(clips, torch.float32)).shape == (7, 128)
