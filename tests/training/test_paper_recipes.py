"""The paper's recipes as they are printed, and what initial weights decide about a recipe."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from click.testing import CliRunner
from torch import nn

from tests.support.odd_videos import ORIENTATIONS, corner_names, oriented
from vidfeat.cli.train import command
from vidfeat.datasets import Sample
from vidfeat.errors import UsageError, VideoError
from vidfeat.models import count_parameters
from vidfeat.training.clips import cut
from vidfeat.training.evaluation import request_of
from vidfeat.training.network import make_optimizer, parameter_groups, started_from
from vidfeat.training.recipes import RECIPES, get_recipe
from vidfeat.training.settings import change
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.reader import open_video
from vidfeat.video.timeline import Timeline
from vidfeat.weights.load import LoadedWeights

OWN = ("tiny", "bundled")  # not of the paper
PAPER = [name for name in RECIPES if name not in OWN and not name.endswith("_layerwise")]


def printed(name: str) -> str:
    result = CliRunner().invoke(command, [name, "--print"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_recipe_has_the_authors_network_and_momentum(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.model.bn_eps == 0.001
    assert recipe.train.nesterov
    assert (recipe.model.midplanes == "conv") == recipe.model.name.startswith("r2plus1d")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("kinetics_r2plus1d_18_16f", "33,370,839 parameters with 400 classes"),
        ("kinetics_r2plus1d_34_32f", "63,697,175 parameters with 400 classes"),
        ("sports1m_r2plus1d_34_8f", "63,741,806 parameters with 487 classes"),
        ("kinetics_mc3_18_8f", "11,695,440 parameters with 400 classes"),
        ("ucf101_from_sports1m", "63,543,788 parameters with 101 classes"),
        ("kinetics_flow_r2plus1d_34_8f", "63,694,970 parameters with 400 classes"),
    ],
)
def test_the_printed_recipe_is_toml_with_the_exact_parameter_count(name: str, count: str) -> None:
    text = printed(name)
    assert f"\n# {count}\n" in text
    values = tomllib.loads(text)
    assert values["model"]["bn_eps"] == 0.001
    assert values["train"]["nesterov"] is True


def test_the_count_is_of_the_midplanes_that_the_recipe_names() -> None:
    assert count_parameters("r2plus1d_18", midplanes="conv") == 33_370_839
    assert count_parameters("r2plus1d_18") == 31_505_325


def test_layerwise_is_the_authors_pytorch_script() -> None:
    recipe = get_recipe("ucf101_layerwise")
    train, data = recipe.train, recipe.data
    assert (train.epochs, train.milestones, train.warmup_epochs) == (45, (20, 30, 40), 10.0)
    assert (train.micro_batch, train.lr_batch, train.lr, train.weight_decay) == (24, 24, 1e-3, 1e-4)
    assert train.layer_lr == {"stem": 0.0, "fc": 100.0}
    assert (data.fps, data.scale, data.crop) == ("15", (128, 174), 112)
    assert not train.nesterov


WEIGHTS = LoadedWeights(
    "r2plus1d_34", {}, "some", 400, midplanes="conv", bn_eps=1e-3, plan=ClipPlan(32, fps=15)
)


@pytest.mark.parametrize(
    ("settings", "plan", "fps"),
    [
        ((), ClipPlan(32, fps=15), "15"),
        ((), ClipPlan(32, fps=Fraction(15, 2)), "15/2"),
        (("data.fps=25",), ClipPlan(32, fps=15), "25"),
        (("data.fps=native",), ClipPlan(32, fps=15), "native"),
        ((), ClipPlan(32), ""),
        ((), None, ""),
    ],
)
def test_the_rate_follows_the_initial_weights(settings, plan, fps) -> None:
    recipe = change(get_recipe("ucf101_from_kinetics"), settings)
    begun = started_from(recipe, replace(WEIGHTS, plan=plan))
    assert begun.data.fps == fps
    assert begun.data.clip_fps == ("" if fps == "native" else fps)


@pytest.mark.parametrize(
    ("change_weights", "message"),
    [
        ({"bn_eps": 1e-5}, "model.bn_eps=0"),
        ({"midplanes": "block"}, "model.midplanes=default"),
    ],
)
def test_weights_of_another_form_are_refused_and_not_bent(change_weights, message) -> None:
    other = replace(WEIGHTS, **change_weights)
    with pytest.raises(UsageError, match=message):
        started_from(get_recipe("ucf101_from_kinetics"), other)
    open_recipe = change(
        get_recipe("ucf101_from_kinetics"), ["model.bn_eps=0", "model.midplanes=default"]
    )
    begun = started_from(open_recipe, other)
    assert (begun.model.bn_eps, begun.model.midplanes) == (other.bn_eps, other.midplanes)


def test_biases_are_not_decayed_by_the_papers_recipes() -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, 3, bias=False), nn.BatchNorm3d(4), nn.Linear(4, 2))
    for name, decayed in (
        ("kinetics_r2plus1d_18_16f", False),
        ("ucf101_from_kinetics", False),
        ("kinetics_from_sports1m_r2plus1d_34_8f", False),
        ("ucf101_layerwise", True),
        ("tiny", True),
    ):
        train = get_recipe(name).train
        groups = parameter_groups(network, {}, decay_biases=train.decay_biases)
        named = dict(network.named_parameters())
        optimizer = make_optimizer(
            train,
            [[named[name] for name in group.names] for group in groups],
            decays=[group.decays for group in groups],
        )
        decay = {
            name: options["weight_decay"]
            for group, options in zip(groups, optimizer.param_groups, strict=True)
            for name in group.names
        }
        assert decay.keys() == named.keys()
        for parameter, value in decay.items():
            biases = train.weight_decay if decayed else 0.0
            assert value == (biases if parameter.endswith("bias") else train.weight_decay)


@pytest.mark.parametrize("name", ["plain", "clockwise", "transpose"])
def test_vmzs_scaler_is_ffmpegs(name: str, tmp_path: Path) -> None:
    """FFmpeg scales on the way to RGB, before the frame is turned upright."""
    path = oriented(tmp_path, name, (192, 128))
    recipe = change(
        get_recipe("kinetics_r2plus1d_18_16f"),
        ["evaluate.scaler=swscale", "data.scale=[64]", "data.crop=56", "data.frames=1"],
    )
    with open_video(path) as video:
        clip = next(request_of(recipe, Sample("a.mp4", (0,), "val")).read(video))
    assert clip.shape == (1, 56, 56, 3)
    assert corner_names(clip[0]) == ORIENTATIONS[name][1]
    if name == "plain":
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        fast = frame.reformat(96, 64, "rgb24", interpolation=Interpolation.FAST_BILINEAR)
        np.testing.assert_array_equal(clip[0], fast.to_ndarray()[4:60, 20:76])


def test_vmzs_ways_are_options_of_the_evaluation() -> None:
    """Its crop is a column to the left of torchvision's; short videos are left out."""
    sample = Sample("a.mp4", (0,), "val")
    recipe = get_recipe("kinetics_r2plus1d_18_16f")
    request = request_of(recipe, sample)
    vmz = request_of(
        change(recipe, ["evaluate.crop_origin=floor", "evaluate.short=leave_out"]), sample
    )
    boxes = [made.windows[0].box(128, 171) for made in (request, vmz)]
    assert [box[:2] for box in boxes] == [(8, 30), (8, 29)]
    video = SimpleNamespace(timeline=Timeline(9, Fraction(25)))
    with pytest.raises(VideoError) as caught:
        next(vmz.read(video))
    assert caught.value.kind == "too_short"
    frame = np.zeros((128, 171, 3), np.uint8)
    frame[:, 29] = 255
    assert cut(frame, vmz.windows[0])[:, 0].min() == 255
    assert cut(frame, request.windows[0]).max() == 0
