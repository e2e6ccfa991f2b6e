"""The first layer that sees motion: one direction excites a channel more than its opposite."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidfeat.errors import UsageError
from vidfeat.models import build_model
from vidfeat.models.motion_energy import motion_energy_stem
from vidfeat.training.network import build_network, make_optimizer
from vidfeat.training.recipes import get_recipe
from vidfeat.training.settings import change


def drifting(angle: float, speed: float, size: int = 48, frames: int = 8) -> torch.Tensor:
    """A grating that moves along its own normal: (1, 3, T, H, W)."""
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle) + y * np.sin(angle)
    waves = [np.sin(2 * np.pi * 0.24 * (along - speed * t)) for t in range(frames)]
    return torch.from_numpy(np.stack(waves).astype(np.float32))[None, None].repeat(1, 3, 1, 1, 1)


def stem_answers(network: torch.nn.Module, angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel to a motion and to its opposite, batch norm by both together."""
    clips = torch.cat([drifting(angle, speed) for speed in (1.0, -1.0)])
    with torch.no_grad():
        answers = network.train().stem(clips).mean(dim=(2, 3, 4))
    return answers[0], answers[1]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("r2plus1d_10_w16", 10), ("r3d_10_w16", 16), ("mc3_10_w16", 16), ("r2d_10_w16", 16)],
)
@pytest.mark.parametrize("pair", range(4))
@pytest.mark.parametrize("seed", range(3))
def test_a_channel_prefers_one_direction(name: str, channels: int, pair: int, seed: int) -> None:
    torch.manual_seed(seed)
    network = build_model(name, 3, clip_frames=8)
    count = motion_energy_stem(network, noise=0.0)
    assert count == channels
    there, back = stem_answers(network, np.pi * pair / 4)
    preference = (there - back) / (there + back)
    one, other = preference[2 * pair : 2 * pair + 2].tolist()
    assert abs(one) > 0.3 and abs(other) > 0.3
    assert one * other < 0  # each its own direction


def test_a_random_stem_prefers_less() -> None:
    def preference(network: torch.nn.Module) -> float:
        there, back = stem_answers(network, 0.0)
        return float(((there - back) / (there + back)).abs()[:2].mean())

    torch.manual_seed(0)
    network = build_model("r2plus1d_10_w16", 3)
    before = preference(network)
    motion_energy_stem(network)
    assert preference(network) > 2 * before


@pytest.mark.parametrize("name", ["rmc3_10_w16", "fr2d_10_w16"])
def test_stems_of_single_frames_stay(name: str) -> None:
    network = build_model(name, 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert motion_energy_stem(network) == 0
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="the paper's networks"):
        motion_energy_stem(build_model("s3d", 3))
    recipe = change(get_recipe("tiny"), ["model.name=s3d"])
    with pytest.raises(UsageError, match=r"model\.motion_stem with s3d.*motion_stem=false"):
        build_network(recipe, 3)


def test_a_recipe_names_its_optimiser() -> None:
    recipe = change(get_recipe("tiny"), ["train.optimizer=adamw", "train.weight_decay=0.05"])
    made = make_optimizer(recipe.train, [[torch.nn.Parameter(torch.zeros(2))]])
    assert isinstance(made, torch.optim.AdamW)
    assert made.param_groups[0]["weight_decay"] == 0.05
    with pytest.raises(UsageError, match=r"train\.optimizer"):
        change(get_recipe("tiny"), ["train.optimizer=adam2"])
