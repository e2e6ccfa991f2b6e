"""TF32 on and off for a while: the process's own settings come back, whatever they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from vidfeat.system.float32_rules import float32_rules

CUDA = torch.device("cuda")  # the switches are there without a GPU, too


def newer() -> tuple[Any, ...]:
    """The settings in their newer form, which can always be read."""
    backends = torch.backends
    return (
        backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        backends.cudnn.rnn.fp32_precision,  # type: ignore[attr-defined]
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.benchmark,
    )


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("own", ["defaults", "older on", "older off", "newer, apart", "benchmark"])
def test_settings_hold_inside_and_come_back(own: str, *, tf32: bool) -> None:
    backends = torch.backends
    if own.startswith("older"):
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = own == "older on"
    elif own == "newer, apart":
        backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        backends.cuda.matmul.fp32_precision = "tf32"
    elif own == "benchmark":
        backends.cudnn.benchmark = True
    before = newer()
    with float32_rules(tf32=tf32, device=CUDA):
        expected = "tf32" if tf32 else "ieee"
        assert newer()[0] == newer()[2] == expected
        assert not backends.cudnn.benchmark
        # torch's own code reads the older form: it must be readable, and say the same
        assert backends.cudnn.allow_tf32 is tf32 or own == "newer, apart"
        assert backends.cuda.matmul.allow_tf32 is tf32
        with float32_rules(tf32=not tf32, device=CUDA):
            assert newer()[2] != expected
        assert newer()[2] == expected
    assert newer() == before


def test_they_come_back_after_an_error() -> None:
    before = newer()
    with pytest.raises(ValueError, match="inside"), float32_rules(tf32=False, device=CUDA):
        raise ValueError("inside")
    assert newer() == before


def test_a_processor_has_no_such_settings() -> None:
    before = newer()
    with float32_rules(tf32=True, device=torch.device("cpu")):
        assert newer() == before
