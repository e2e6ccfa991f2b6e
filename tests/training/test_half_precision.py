"""Half precision: compared with fp32 before the first step; wrong layers named, no bit moved."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.train_fixtures import micro, render_motion, same_weights, weights_of
from vidfeat.errors import TrainingError
from vidfeat.training import half_precision
from vidfeat.training import run as run_module
from vidfeat.training.console import Console
from vidfeat.training.half_precision import (
    HalfStep,
    PrecisionCheck,
    compare_with_fp32,
    faulty_convolutions,
    run_in_fp32,
)
from vidfeat.training.log import read_log
from vidfeat.training.network import build_network
from vidfeat.training.run import train

BF16 = ("train.precision=bf16", "train.epochs=1")
FAULTY = "layer3.0.conv1.0.0"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion(tmp_path_factory.mktemp("motion"))


def break_in_bf16(module: nn.Module, value: float) -> None:
    """A layer whose backward pass in bf16, and in nothing else, is wrong."""

    def wrong(_: nn.Module, given: Any, wanted: Any) -> Any:
        if wanted[0].dtype is not torch.bfloat16:
            return None
        return tuple(None if g is None else torch.full_like(g, value) for g in given)

    module.register_full_backward_hook(wrong)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Has all networks built from now on break in a layer."""

    def change(name: str, value: float) -> None:
        def build(*arguments: Any) -> nn.Module:
            network = build_network(*arguments)
            break_in_bf16(network.get_submodule(name), value)
            return network

        monkeypatch.setattr(run_module, "build_network", build)

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_a_convolution_that_bf16_computes_wrongly_runs_in_fp32(
    data: Path, tmp_path: Path, breaking: Callable[[str, float], None], value: float
) -> None:
    breaking(FAULTY, value)
    lines: list[dict[str, Any]] = []
    result = train(micro(*BF16), data, tmp_path / "a", report=lines.append)
    assert result.complete
    assert all(tensor.isfinite().all() for tensor in weights_of(tmp_path / "a").values())
    (line,) = [line for line in lines if line["event"] == "precision"]
    assert FAULTY in line["fp32_layers"]
    stream = io.StringIO()
    Console(stream)(line)
    assert "bf16 is computed wrongly here for" in stream.getvalue()
    # resumed, the same layers run in fp32: the bits are the same
    for until in (3, 5, None):
        train(micro(*BF16), data, tmp_path / "b", resume=True, until=until)
    assert same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("name", ["fc", "layer4.0"])
def test_what_no_convolution_explains_ends_the_run_and_is_named(
    data: Path, tmp_path: Path, breaking: Callable[[str, float], None], name: str
) -> None:
    breaking(name, math.nan)
    with pytest.raises(TrainingError) as caught:
        train(micro(*BF16), data, tmp_path / "run")
    message = str(caught.value)
    assert "bf16 does not compute this network as fp32 does" in message
    assert "stem." in message and "not the learning rate" in message
    assert "train.precision=fp32" in message
    assert not list(tmp_path.glob("run/checkpoints/*"))
    assert not [line for line in read_log(tmp_path / "run") if line["event"] == "step"]


def test_a_network_that_no_precision_can_compute_is_no_fault_of_bf16(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: Any) -> nn.Module:
        network = build_network(*arguments)
        network.fc.register_full_backward_hook(
            lambda _, given, __: tuple(g if g is None else g * math.nan for g in given)
        )
        return network

    monkeypatch.setattr(run_module, "build_network", build)
    with pytest.raises(TrainingError, match=r"lower train\.lr.*train\.precision=fp32"):
        train(micro(*BF16), data, tmp_path / "run")


@pytest.mark.parametrize("more", [(), ("augment.mixup=0.3", "train.micro_batch=2")])
def test_the_comparison_moves_no_bit_of_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    found: list[str] = []

    def remembered(*arguments: Any) -> list[str]:
        found.extend(faulty_convolutions(*arguments))
        return found

    monkeypatch.setattr(half_precision, "faulty_convolutions", remembered)
    train(micro(*BF16, *more), data, tmp_path / "checked")

    def unchecked(network: nn.Module, *_: Any, **__: Any) -> list[str]:
        run_in_fp32(network, found, "cpu")
        return found

    monkeypatch.setattr("vidfeat.training.loop.check_first_step", unchecked)
    train(micro(*BF16, *more), data, tmp_path / "unchecked")
    assert same_weights(tmp_path / "checked", tmp_path / "unchecked")


def test_fp32_is_not_compared_with_itself(data: Path, tmp_path: Path) -> None:
    train(micro("train.epochs=1"), data, tmp_path / "run")
    assert not [line for line in read_log(tmp_path / "run") if line["event"] == "precision"]


@contextmanager
def bf16() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def test_dropout_and_running_statistics_are_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(2, 8, 3), nn.BatchNorm3d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, labels = torch.randn(4, 2, 4, 4, 4), torch.tensor([0, 1, 2, 0])

    def loss_of(clips: int, forward: Any, context: Any) -> torch.Tensor:
        with context:
            logits = forward(x[:clips])
        return nn.functional.cross_entropy(logits.float(), labels[:clips])

    check = compare_with_fp32(network, HalfStep(loss_of, bf16, 4))
    assert check is not None and not check.problem
    assert check.gradient_error < 0.1  # with dropout the two would differ by far more
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network[2].training


def test_memory_that_does_not_suffice_for_fp32_takes_fewer_clips() -> None:
    network = nn.Linear(4, 3)
    x, labels = torch.randn(8, 4), torch.arange(8) % 3

    def loss_of(clips: int, forward: Any, context: Any) -> torch.Tensor:
        if clips > 2:
            raise torch.OutOfMemoryError("too much")
        with context:
            return nn.functional.cross_entropy(forward(x[:clips]).float(), labels[:clips])

    check = compare_with_fp32(network, HalfStep(loss_of, bf16, 8))
    assert check is not None and check.clips == 2


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (PrecisionCheck(4, 1.0, 1.01, 0.4, ()), ""),
        (PrecisionCheck(4, 1.0, 1.5, 0.4, ()), "the loss is 1, and 1.5 in fp32"),
        (PrecisionCheck(4, math.nan, 1.5, 0.4, ()), "the loss is nan"),
        (PrecisionCheck(4, 1.0, 1.0, math.nan, ("a", "b", "c", "d")), "a, b, c and 1 more are NaN"),
    ],
)
def test_what_rounding_does_not_explain(check: PrecisionCheck, words: str) -> None:
    assert words in check.problem and bool(words) == bool(check.problem)
