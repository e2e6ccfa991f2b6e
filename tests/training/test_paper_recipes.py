"""The paper's recipes as they are printed, and what initial weights decide about a recipe."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from vidfeat.cli.train import command
from vidfeat.datasets import Sample
from vidfeat.errors import UsageError, VideoError
from vidfeat.models import count_parameters
from vidfeat.training.clips import cut
from vidfeat.training.evaluation import request_of
from vidfeat.training.network import started_from
from vidfeat.training.recipes import RECIPES, get_recipe
from vidfeat.training.settings import change
from vidfeat.video.clip_plan import ClipPlan
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
