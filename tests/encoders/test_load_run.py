"""A training run, or a file that vidfeat wrote, says which network it holds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import vidfeat
from vidfeat.errors import StateDictError, UsageError
from vidfeat.models import build_model
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.files import WeightsFacts, save_weights

MODEL = "r2plus1d_10_w16"
PLAN = vidfeat.ClipPlan(4, stride=2, fps=Fraction(10))
INPUT = Preprocess((64, 80), (56, 56))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_weights(
        folder / "model.safetensors",
        build_model(MODEL, 3).state_dict(),
        WeightsFacts(model=MODEL, class_names=["a", "b", "c"], plan=PLAN, preprocess=INPUT),
    )
    return folder


def test_network_plan_and_preprocessing_come_from_the_run(run: Path) -> None:
    load = vidfeat.load_encoder
    given = (
        load(str(run), device="cpu"),
        load(weights=run, device="cpu"),
        load(weights=run / "model.safetensors", device="cpu"),
        load(MODEL, run, device="cpu"),
    )
    for encoder in given:
        assert encoder.spec.model == MODEL
        assert (encoder.plan, encoder.preprocess) == (PLAN, INPUT)
        assert encoder.class_names == ["a", "b", "c"]
    assert len({encoder.run_fingerprint for encoder in given}) == 1


def test_another_network_is_refused(run: Path) -> None:
    with pytest.raises(StateDictError, match=f"give model={MODEL}"):
        vidfeat.load_encoder("r2plus1d_18", run, device="cpu")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished training run"):
        vidfeat.load_encoder(str(tmp_path), device="cpu")
