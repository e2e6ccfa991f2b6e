"""VMZ's files as their authors describe them: frame rates, optical flow, trainers' checkpoints."""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.caffe2_fixtures import write_caffe2
from tests.support.models_fixtures import make_network
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import WeightsError
from vidfeat.pretrained import ENTRIES, find_entry
from vidfeat.training.evaluation_report import open_subject
from vidfeat.training.network import preprocess_of
from vidfeat.video.flow import FLOW_MEAN, FLOW_STD
from vidfeat.weights import convert
from vidfeat.weights.convert import convert_file
from vidfeat.weights.load import load_weights


def test_frame_rates_are_those_of_the_training_videos() -> None:
    """models.md: 15 a second (issue 55); model_zoo.md: 30; IG-65M alone: mixed (issue 95)."""
    rates = {"models.md": Fraction(15), "model_zoo.md": Fraction(30)}
    for entry in ENTRIES:
        if "caffe2" not in entry.name:
            continue
        expected = rates[entry.source.rsplit("/", 1)[1]]
        alone = entry.trained_on == "IG-65M"
        assert entry.plan.fps == (None if alone else expected), entry.full_name
    assert find_entry("r2plus1d_34/ig65m_kinetics_32f").plan.fps == 30
    assert find_entry("r2plus1d_34/ig65m_32f").plan.fps is None


def test_published_flow_weights_say_how_flow_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find_entry("r2plus1d_34/caffe2_sports1m_kinetics_flow_32f")
    small = replace(entry, model="r2plus1d_10")  # the same, without the minute that 34 layers take
    monkeypatch.setattr(convert, "ENTRIES", (small,))
    network = make_network("r2plus1d_10", num_classes=400, in_channels=2, bn_eps=1e-3)
    source = write_caffe2(tmp_path / entry.filename, network, form="2")
    made = convert_file(source, tmp_path / "flow.safetensors")
    assert made.entry is small
    subject = open_subject(str(made.path), "r2plus1d_10")
    assert subject.recipe.data.modality == "flow"
    preprocess = preprocess_of(subject.recipe)
    assert (preprocess.mean, preprocess.std) == (FLOW_MEAN, FLOW_STD)
    assert (subject.recipe.data.fps, subject.recipe.data.frames) == ("15", 32)
    encoder = load_encoder("r2plus1d_10", str(made.path), precision="fp32", device="cpu")
    assert (encoder.plan.frames, encoder.plan.fps) == (33, 15)  # a field lies between two frames
    renamed = source.rename(tmp_path / "mine.pkl")  # the blobs still tell
    loaded = load_weights(renamed, "r2plus1d_10")
    assert loaded.preprocess is not None
    assert (loaded.preprocess.mean, loaded.preprocess.std) == (FLOW_MEAN, FLOW_STD)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_trainers_checkpoint_with_its_options(tmp_path: Path, zipped: bool) -> None:
    """torchvision's reference script and VMZ's trainer keep an argparse.Namespace under args."""
    network = make_network("mc2_10", num_classes=3)
    options = argparse.Namespace(lr=0.01, data_path=Path("/data"), milestones=[20, 30, 40])
    checkpoint = {
        "model": network.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
        "epoch": 4,
        "best": np.float64(61.5),
        "args": options,
    }
    source = tmp_path / "checkpoint.pth"
    torch.save(checkpoint, source, _use_new_zipfile_serialization=zipped)
    made = convert_file(source, tmp_path / "a.safetensors", "mc2_10")
    for name, value in network.state_dict().items():
        assert torch.equal(made.loaded.state_dict[name], value)


class _Sly(argparse.Namespace):
    def __reduce__(self):
        return eval, ("__import__('os').getcwd()",)


def test_options_that_want_to_run_code_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {}, "args": _Sly()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"refused: it asks for eval"):
        load_weights(tmp_path / "a.pth", "mc2_10")
