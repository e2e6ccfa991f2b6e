"""The description of an encoder: what was recorded before it was a value of its own still holds."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_choice
from vidfeat.encoders.spec import EncoderSpec
from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice

# Written by version 0.2 before `EncoderSpec`: descriptions with both fingerprints.
RECORDED: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).with_name("recorded_encoders.json").read_text(encoding="utf-8")
)
LOADED = {
    "bundled": EncoderChoice("bundled"),
    "bundled dense": EncoderChoice(
        "bundled",
        plan=PlanChoice(hop_seconds=0.5, fps="15", tail="flush"),
        layers=["layer4"],
        pool=["mean"],
    ),
    "bundled clips": EncoderChoice(
        "bundled", plan=PlanChoice(clips=10, frames=8, stride=2, stream=1), pool=["mean", "max"]
    ),
    "r3d_18 random": EncoderChoice(
        "r3d_18",
        "random",
        seed=3,
        plan=ClipPlan(8, 2, Fraction(30000, 1001), hop_frames=4, short="loop"),
        layers=["layer3", "layer4"],
    ),
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_choice(EncoderChoice("bundled", device="cpu"))


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_description_keeps_its_fingerprints(name: str) -> None:
    recorded = RECORDED[name]
    described = dict(recorded["describe"])
    spec = EncoderSpec.from_description(described)
    assert spec.space_fingerprint == recorded["space_fingerprint"]
    assert spec.run_fingerprint == recorded["run_fingerprint"]
    assert spec.run_fingerprint_with("ab" * 32) == recorded["with_segments"]
    assert spec.describe() == {k: v for k, v in described.items() if k != "device"}
    assert EncoderSpec.from_description(spec.describe()) == spec


@pytest.mark.parametrize("name", LOADED)
def test_a_loaded_encoder_is_described_as_before(name: str) -> None:
    encoder = load_choice(replace(LOADED[name], device="cpu"))
    assert json.loads(json.dumps(encoder.describe())) == RECORDED[name]["describe"]
    assert encoder.space_fingerprint == RECORDED[name]["space_fingerprint"]
    assert encoder.run_fingerprint == RECORDED[name]["run_fingerprint"]


def test_equality_is_that_of_runs(encoder: Encoder) -> None:
    spec = encoder.spec
    same = replace(spec, weights_file="/elsewhere", licence="MIT", notes=("a note",))
    assert same == spec and hash(same) == hash(spec)
    for change in (
        {"precision": "bf16"},
        {"engine": "openvino"},
        {"plan": replace(spec.plan, clips=3)},
        {"network_sha256": "1"},
    ):
        other = replace(spec, **change)
        assert other != spec and other.space_fingerprint == spec.space_fingerprint
    for change in (
        {"weights_sha256": "1"},
        {"pool": ("mean",)},
        {"plan": replace(spec.plan, stride=3)},
        {"modality": "frame", "aggregate": "mean"},
    ):
        other = replace(spec, **change)
        assert other != spec and other.space_fingerprint != spec.space_fingerprint
    assert spec != "a spec"


def test_an_aggregator_is_for_networks_of_frames(encoder: Encoder) -> None:
    frame = replace(encoder.spec, modality="frame", aggregate="max")
    assert frame.input_shape == (1, *encoder.spec.input_shape[1:])
    assert frame.describe()["aggregate"] == "max" and frame.describe()["modality"] == "frame"
    assert EncoderSpec.from_description(frame.describe()) == frame
    with pytest.raises(UsageError, match="aggregate"):
        replace(encoder.spec, aggregate="mean")
    with pytest.raises(UsageError, match="aggregate"):
        replace(encoder.spec, modality="frame")


def test_a_recipe_loads_the_same_encoder_in_another_process(encoder: Encoder) -> None:
    recipe = pickle.loads(pickle.dumps(encoder.recipe))
    assert load_choice(replace(recipe, device="cpu")).spec == encoder.spec


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "nowhere:thing"}, "no source 'nowhere'"),
        ({"precision": "fp8"}, "fp32"),
        ({"batch_size": 0}, "at least 1"),
        ({"aggregate": "median"}, "mean_std"),
    ],
)
def test_a_choice_that_is_invalid_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_choice(EncoderChoice(**values))
