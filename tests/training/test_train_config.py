"""Recipes: what they say, how they are changed, written and read; the paper's learning rates."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from vidfeat.datasets import DATASETS
from vidfeat.errors import UsageError
from vidfeat.models import MODEL_NAMES
from vidfeat.training.config import Recipe
from vidfeat.training.recipes import ABLATIONS, RECIPES, get_recipe
from vidfeat.training.schedule import learning_rate
from vidfeat.training.settings import change, differences, recipe_from_dict
from vidfeat.training.toml import read_recipe, recipe_to_toml, write_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_toml(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert recipe.model.name in MODEL_NAMES
    assert recipe.data.dataset in (*DATASETS, "auto")
    assert recipe_from_dict(tomllib.loads(recipe_to_toml(recipe))) == recipe


def test_all_that_the_paper_trained_has_a_recipe() -> None:
    for depth in (18, 34):
        for frames in (8, 16, 32):
            for dataset in ("kinetics", "sports1m", "kinetics_from_sports1m"):
                assert f"{dataset}_r2plus1d_{depth}_{frames}f" in RECIPES
    for family in ABLATIONS:
        for frames in (8, 16):
            recipe = get_recipe(f"kinetics_{family}_18_{frames}f")
            assert (recipe.model.name, recipe.data.frames) == (f"{family}_18", frames)
    assert len(ABLATIONS) == 12
    assert get_recipe("kinetics_r2plus1d_18_8f_then_32f").data.frames == 32
    assert get_recipe("sports1m_flow_r2plus1d_34_32f").in_channels == 2
    assert get_recipe("sports1m_r2plus1d_34_8f").evaluate.clips == 100


# The paper: 0.01 for 32 clips per GPU, a linear warm-up over 10 epochs, divided by 10 every 10.
SCRATCH = [
    *(0.01 * (epoch + 1) / 10 for epoch in range(10)),
    *[0.01] * 10,
    *[0.001] * 10,
    *[0.0001] * 10,
    *[0.00001] * 5,
]
# Sports-1M to Kinetics: 0.001, divided by 10 every 4 epochs, 15 epochs.
FROM_SPORTS = [*[1e-3] * 4, *[1e-4] * 4, *[1e-5] * 4, *[1e-6] * 3]


def paper_rates(name: str) -> list[float] | None:
    if name.startswith(("ucf101", "hmdb51")):
        if "layerwise" in name:  # the schedule of training from scratch, at a tenth of its rate
            return [rate / 10 for rate in SCRATCH]
        base = 0.0002 if name.startswith("hmdb51") else 0.0001
        return [base / 10 ** (epoch // 2) for epoch in range(8)]
    if "from_sports1m" in name or "then" in name:
        return FROM_SPORTS
    return None if name == "tiny" else SCRATCH


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("tiny", "bundled")])
def test_learning_rates_are_the_papers_epoch_by_epoch(name: str) -> None:
    recipe = get_recipe(name)
    expected = paper_rates(name)
    assert expected is not None
    train = recipe.train
    assert train.epochs == len(expected)
    for gpus in (1, 8, 64):  # a rate per GPU in the sources: proportional to the batch
        batch = train.micro_batch * gpus
        steps = train.epoch_clips // batch
        for epoch, rate in enumerate(expected):
            last = learning_rate(train, (epoch + 1) * steps - 1, steps, batch)
            assert last == pytest.approx(rate * gpus, rel=1e-3), (epoch, gpus)
    assert train.epoch_clips in (1_000_000, 100_000, 40_000, 5 * 9_537, 5 * 3_570)


def test_warm_up_rises_in_a_line_and_a_cosine_ends_at_nothing() -> None:
    train = change(
        Recipe(),
        [
            "train.schedule=cosine",
            "train.warmup_epochs=2",
            "train.epochs=10",
            "train.lr=1",
            "train.lr_batch=1",
        ],
    ).train
    rates = [learning_rate(train, step, 5, 1) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert rates[49] < 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_later_cosines_begin_anew_and_leave_the_first_as_it_was() -> None:
    settings = ["train.schedule=cosine", "train.warmup_epochs=2", "train.lr=1", "train.lr_batch=1"]
    short = change(Recipe(), [*settings, "train.epochs=10"]).train
    long = change(Recipe(), [*settings, "train.epochs=30", "train.cosine_cycles=3"]).train
    rates = [learning_rate(long, step, 5, 1) for step in range(151)]
    assert rates[:50] == [learning_rate(short, step, 5, 1) for step in range(50)]
    assert rates[50] == rates[100] == 1.0 and rates[75] == pytest.approx(0.5)
    assert rates[50:100] == rates[100:150] == sorted(rates[50:100], reverse=True)
    assert rates[150] == pytest.approx(0)


def test_settings_are_changed_together_and_by_type() -> None:
    recipe = change(
        get_recipe("tiny"),
        [
            "data.crop=16",
            "data.scale=[16, 22]",
            "train.lr=1",
            "model.name=r3d_18",
            "train.layer_lr.fc=10",
            "train.layer_lr.stem=0",
            "data.fps=15",
            "train.nesterov=true",
        ],
    )
    assert recipe.data.scale == (16, 22)
    assert recipe.train.lr == 1.0 and isinstance(recipe.train.lr, float)
    assert recipe.train.layer_lr == {"fc": 10.0, "stem": 0.0}
    assert recipe.data.fps == "15"
    assert "train.layer_lr" in differences(recipe, get_recipe("tiny"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr=fast", "train.lr is of type float; 'fast' is not"),
        ("train.epochs=2.5", "train.epochs is of type int"),
        ("train.nesterov=1", "train.nesterov is of type bool"),
        ("train.learning_rate=1", "no such setting"),
        ("lr=1", "did you mean train.lr"),
        ("optimizer.lr=1", "no such setting"),
        ("train.lr", "section.key=value"),
        ("train.schedule=linear", "one of step, cosine"),
        ("augment.flip=2", "between 0.0 and 1.0"),
        ("data.crop=500", "data.scale"),
        ("data.fps=fast", "a rate such as 15 or 30000/1001, or native"),
        ("data.mean=[0.1]", "one number for each of 3 channels"),
        ("train.milestones=[4,2]", "must increase"),
        ("train.cosine_cycles=3", "divide train.epochs evenly"),
        ("evaluate.crops=2", "1 or 3"),
        ("train.batch=-1", "below 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        change(get_recipe("tiny"), [setting])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_recipes(tmp_path: Path) -> None:
    recipe = change(get_recipe("tiny"), ["train.layer_lr.fc=3", 'model.init=a "b" \\ c\n'])
    write_recipe(tmp_path / "r.toml", recipe)
    assert read_recipe(tmp_path / "r.toml") == recipe
    (tmp_path / "short.toml").write_text("[train]\nlr = 1\n[data]\nframes = 32\n")
    assert read_recipe(tmp_path / "short.toml").data.frames == 32
    for text, message in (
        ("[train", "not TOML"),
        ("[train]\nrate = 1", "no such setting"),
        ("[nothing]\na = 1", "no such section"),
        ("[train]\nlr = 'x'", "type float"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_recipe(tmp_path / "bad.toml")
    with pytest.raises(UsageError, match="No such file"):
        read_recipe(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="did you mean tiny"):
        get_recipe("tinny")
