"""What a run starts from, resuming it by its folder alone, and making it longer."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.train_fixtures import micro, render_motion, same_weights, weights_of
from vidfeat.cli.train import command
from vidfeat.errors import UsageError
from vidfeat.training.config import Recipe, TrainConfig
from vidfeat.training.console import Console
from vidfeat.training.log import read_log
from vidfeat.training.recipes import RECIPES, get_recipe
from vidfeat.training.run import train
from vidfeat.training.schedule import learning_rate
from vidfeat.training.settings import change
from vidfeat.training.start import extended, length_note, read_as_stored, with_init
from vidfeat.training.toml import read_recipe, write_recipe

SHORT = ("train.epochs=1", "evaluate.every_epochs=0", "evaluate.clips=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion(tmp_path_factory.mktemp("motion"), train=1, val=1)


@pytest.mark.parametrize(
    ("settings", "init"),
    [
        ((), "bundled"),
        (("model.init=random",), "random"),
        (("model.init=run/",), "run/"),
        (("model.name=r3d_10_w16",), "random"),
        (("data.modality=flow",), "random"),
        (("model.midplanes=conv",), "random"),
        (("model.bn_eps=0.001",), "random"),
    ],
)
def test_the_bundled_weights_are_the_start_of_their_network(
    settings: tuple[str, ...], init: str
) -> None:
    assert with_init(change(get_recipe("tiny"), settings)).model.init == init


def test_no_other_recipe_changes_its_start() -> None:
    starts = {name: with_init(get_recipe(name)).model.init for name in RECIPES}
    assert {name for name, init in starts.items() if init != "random"} == {"tiny"}


def test_runs_of_earlier_versions_started_from_random_weights(tmp_path: Path) -> None:
    stored = replace(get_recipe("tiny"), name="old")
    assert stored.model.init == "" and read_as_stored(stored).model.init == "random"


def test_a_run_says_what_it_starts_from_and_that_it_is_short(data: Path, tmp_path: Path) -> None:
    lines: list[dict[str, object]] = []
    train(micro("model.init=", *SHORT), data, tmp_path / "run", report=lines.append)
    start = next(line for line in lines if line["event"] == "start")
    assert start["init"] == "bundled"
    told = "\n".join(map(str, start["notes"]))
    assert "bundled knows other classes: the last layer starts from random weights" in told
    assert "2 optimiser steps are few" in told and "train.epochs=100 gives 200" in told
    assert read_recipe(tmp_path / "run/recipe.toml").model.init == "bundled"
    assert train(micro("model.init=", *SHORT), data, tmp_path / "run", resume=True).complete


@pytest.mark.parametrize(
    ("total", "each", "epochs"), [(200, 10, None), (199, 10, 20), (80, 4, 50), (1, 1, 200)]
)
def test_too_few_steps_are_a_warning(total: int, each: int, epochs: int | None) -> None:
    note = length_note(total, each)
    assert note == "" if epochs is None else f"train.epochs={epochs} gives" in note


def test_a_run_is_resumed_by_its_folder_alone(data: Path, tmp_path: Path) -> None:
    settings = ("train.lr=0.001", *SHORT, "train.epochs=2")
    train(micro(*settings), data, tmp_path / "whole")
    train(micro(*settings), data, tmp_path / "run", until=3)
    done = CliRunner().invoke(command, ["-o", str(tmp_path / "run"), "--resume"])
    assert done.exit_code == 0, done.output
    assert f"--data {data}" in done.output
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    # the same with its recipe, and no data
    assert train(micro(*settings), None, tmp_path / "run", resume=True).complete
    with pytest.raises(UsageError, match="no training run to resume"):
        train(None, None, tmp_path / "nothing", resume=True)
    refused = CliRunner().invoke(command, ["-o", str(tmp_path / "run")])
    assert refused.exit_code == 2 and "-o RUN --resume" in refused.output


def test_a_run_remembers_where_its_videos_went(data: Path, tmp_path: Path) -> None:
    run, old, new = tmp_path / "run", tmp_path / "old place", tmp_path / "new place"
    old.symlink_to(data)
    train(micro(*SHORT), old, run, until=1)
    old.rename(new)
    with pytest.raises(UsageError, match=r"are no longer at .*old place: give") as e:
        train(None, None, run, resume=True)
    assert e.value.fields == ("data",)
    done = CliRunner().invoke(command, ["-o", str(run), "--resume", "--data", str(new)])
    assert f"evaluate {run} --data '{new}'" in done.output
    assert train(None, None, run, resume=True).complete


def test_counts_of_one_are_singular(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    one = dict.fromkeys(("steps", "batch", "steps_per_epoch", "processes", "threads"), 1)
    facts = {"data": "", "model": "m", "parameters": 0, "init": "random", "device": "cpu"}
    console({"event": "start", **facts, **one})
    for repeated in (0, 1, 2):
        console({"event": "resume", "step": 3, "repeated_steps": repeated})
    told = capsys.readouterr().err
    assert "1 step of 1 clip, 1 per epoch; 1 process on cpu, 1 thread" in told
    assert told.endswith(
        "resumed at step 3\nresumed at step 3; 1 step is repeated\n"
        "resumed at step 3; 2 steps are repeated\n"
    )


def test_a_run_that_does_not_say_its_data_asks_for_it(data: Path, tmp_path: Path) -> None:
    """As those of version 0.1."""
    train(micro(*SHORT), data, tmp_path / "run", until=1)
    file = tmp_path / "run/data.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in known.items() if k not in ("root", "lists")}))
    with pytest.raises(UsageError, match="needs videos: give their folder as data"):
        train(None, None, tmp_path / "run", resume=True)
    assert train(None, data, tmp_path / "run", resume=True).complete


def test_a_finished_run_by_steps_is_made_longer(data: Path, tmp_path: Path) -> None:
    step = ("train.schedule=step", "train.milestones=[1]", *SHORT)
    train(micro(*step, "train.epochs=2"), data, tmp_path / "whole")
    train(micro(*step), data, tmp_path / "run")
    longer = change(read_recipe(tmp_path / "run/recipe.toml"), ["train.epochs=2"])
    assert train(longer, None, tmp_path / "run", resume=True).complete
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    assert read_recipe(tmp_path / "run/recipe.toml").train.epochs == 2
    assert train(None, None, tmp_path / "run", resume=True).step == 4


def test_a_cosine_is_not_made_longer_behind_its_back(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(micro(*SHORT, "train.epochs=2"), data, run)
    before = weights_of(run)
    longer = change(read_recipe(run / "recipe.toml"), ["train.epochs=4"])
    with pytest.raises(UsageError, match="follows a cosine over 2 epochs; over 4 every step") as e:
        train(longer, None, run, resume=True)
    assert f"init={run}" in str(e.value) and "train.cosine_cycles=2" in str(e.value)
    assert read_recipe(run / "recipe.toml").train.epochs == 2
    assert weights_of(run).keys() == before.keys()


@settings(deadline=None)
@given(
    epochs=st.integers(1, 12),
    more=st.integers(1, 12),
    per_epoch=st.integers(1, 7),
    share=st.floats(0, 1),
    milestones=st.lists(st.integers(0, 24), max_size=3).map(sorted),
    schedule=st.sampled_from(["step", "cosine"]),
    cycles=st.sampled_from([1, 2]),
)
def test_longer_runs_never_had_other_rates(
    epochs: int,
    more: int,
    per_epoch: int,
    share: float,
    milestones: list[int],
    schedule: str,
    cycles: int,
) -> None:
    """What is allowed has the same learning rate at every step that is done."""
    old = Recipe(
        train=TrainConfig(
            epochs=epochs, schedule=schedule, batch=4, warmup_epochs=0.4, milestones=(3,)
        )
    )
    train_config = replace(old.train, epochs=epochs + more, milestones=tuple(milestones))
    if cycles == 2:
        train_config = replace(train_config, epochs=2 * epochs, cosine_cycles=2)
    done = round(share * epochs * per_epoch)
    try:
        new = extended(
            old, replace(old, train=train_config), Path("run"), done=done, per_epoch=per_epoch
        )
    except UsageError:
        if schedule == "step":
            assert milestones != [3]
        return
    assert new.train.epochs == train_config.epochs
    for step in range(done):
        rates = [learning_rate(t, step, per_epoch, 4) for t in (old.train, new.train)]
        assert rates[0] == rates[1]


def test_the_recipe_of_rendered_motion_reads_no_videos(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="renders its clips and reads no videos") as error:
        train(get_recipe("bundled"), data, tmp_path / "run")
    assert error.value.fields == ("data",) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [5, 6])
def test_video_at_5_is_shown_from_six_classes_on(
    data: Path, tmp_path: Path, classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for part in ("train", "val"):
            for number, folder in enumerate(sorted((data / part).iterdir())):
                for video in folder.iterdir():
                    # absolute paths outside the table's own folder, too
                    writer.writerow([video.absolute(), f"class {number % classes}", part])
    run = tmp_path / "run"
    train(micro(*SHORT), table, run, report=Console())
    assert ("video@5" in capsys.readouterr().err) == (classes > 5)
    line = next(line for line in read_log(run) if line["event"] == "evaluation")
    assert ("video@5" in line) == (classes > 5)


def test_stored_recipes_keep_random_and_bundled_apart(tmp_path: Path) -> None:
    for init in ("random", "bundled"):
        recipe = change(get_recipe("tiny"), [f"model.init={init}"])
        write_recipe(tmp_path / "recipe.toml", recipe)
        assert read_as_stored(read_recipe(tmp_path / "recipe.toml")).model.init == init
