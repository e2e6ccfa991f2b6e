"""Class names: what is kept of a last layer, and classes that a mirror exchanges."""

from __future__ import annotations

import io
import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.train_fixtures import micro, render_motion
from vidfeat.datasets import Sample, VideoDataset
from vidfeat.errors import UsageError
from vidfeat.training.class_names import mirrored_pairs, order_of
from vidfeat.training.console import Console
from vidfeat.training.evaluation_report import with_classes
from vidfeat.training.network import build_network, load_init
from vidfeat.training.run import start_notes, train
from vidfeat.weights.load import load_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion(tmp_path_factory.mktemp("motion"), train=1, val=1)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(micro("train.epochs=1"), data, folder)
    return folder


def last_layer(run: Path, classes: list[str]) -> tuple[torch.Tensor, list[str], str]:
    loaded = load_weights(str(run), "r2plus1d_10_w16")
    network = build_network(micro(), len(classes))
    before = network.state_dict()["fc.weight"].clone()
    left, note = load_init(network, loaded, classes)
    after = network.state_dict()["fc.weight"]
    assert torch.equal(before, after) == bool(left)
    return after, left, note


def test_the_last_layer_is_kept_for_the_same_classes_alone(run: Path) -> None:
    loaded = load_weights(str(run), "r2plus1d_10_w16")
    names = list(loaded.class_names or ())
    kept = loaded.state_dict["fc.weight"]
    found, left, note = last_layer(run, names)
    assert torch.equal(found, kept) and not left and not note
    for order in itertools.islice(itertools.permutations(range(len(names))), 1, 400, 57):
        found, left, note = last_layer(run, [names[i] for i in order])
        assert torch.equal(found, kept[list(order)]) and not left
        assert "in another order" in note
    found, left, note = last_layer(run, [name.upper() for name in names])
    assert torch.equal(found, kept) and not left
    for others in (
        [*names[:-1], "else"],
        [f"{name} 2" for name in names],
        names[:-1],
        [*names, "one more"],
    ):
        found, left, note = last_layer(run, others)
        assert left == ["fc.weight", "fc.bias"]
        assert "other classes" in note


def test_weights_without_names_are_taken_at_their_word(run: Path) -> None:
    loaded = replace(load_weights(str(run), "r2plus1d_10_w16"), class_names=None)
    network = build_network(micro(), 8)
    left, note = load_init(network, loaded, [str(i) for i in range(8)])
    assert not left and "does not name its classes" in note
    assert torch.equal(network.state_dict()["fc.weight"], loaded.state_dict["fc.weight"])


def test_a_run_says_that_its_last_layer_starts_anew(run: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    for place, name in enumerate(sorted(path.name for path in (data / "train").iterdir())):
        for part in ("train", "val"):
            shutil.copytree(data / part / name, other / part / f"other {place}")
    lines: list[dict[str, object]] = []
    recipe = micro("train.epochs=1", f"model.init={run}")
    train(recipe, other, tmp_path / "run", report=lines.append)
    start = next(line for line in lines if line["event"] == "start")
    assert start["left_at_random"] == ["fc.weight", "fc.bias"]
    stream = io.StringIO()
    Console(stream)(start)
    assert "note: " in stream.getvalue() and "starts from random weights" in stream.getvalue()


@given(st.permutations(["Apply_Eye Makeup", "archery", "Band Marching"]))
def test_names_are_matched_as_evaluation_matches_them(order: list[str]) -> None:
    names = ["apply eye  makeup", "Archery", "band_marching"]
    places = order_of(names, order)
    assert places is not None
    assert [names[i].split()[0][:4].casefold() for i in places] == [n[:4].casefold() for n in order]
    assert order_of(names, order[:2]) is None
    assert order_of([*names, "archery"], [*order, "x"]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left", "right"),
        ("turn left", "turn right"),
        ("TurnLeft", "TurnRight"),
        ("left_turn", "Right-Turn"),
        ("from left to right", "from right to left"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("turn counter-clockwise", "turn clockwise"),
        ("turn_anti_clockwise", "turn_clockwise"),
        ("turn_l", "turn_r"),
        ("spin cw", "spin ccw"),
        ("lefthanded", "righthanded"),
        ("swipe upleft", "swipe upright"),
        ("leftturn", "rightturn"),
    ],
)
def test_classes_that_a_mirror_exchanges_are_noted(one: str, other: str) -> None:
    expected = [tuple(sorted((one, other)))]
    assert mirrored_pairs([one, other, "jump", "up"]) == expected
    (note,) = start_notes(micro("augment.flip=0.5"), [one, other, "jump"])
    assert "augment.flip" in note and repr(min(one, other)) in note
    assert not start_notes(micro("augment.flip=0"), [one, other])


@pytest.mark.parametrize(
    "classes",
    [
        ("up", "down"),
        ("left", "up"),
        ("bright", "blight"),
        ("upright", "up"),
        ("bright", "left"),
        ("copyright", "x"),
    ],
)
def test_other_classes_are_not(classes: tuple[str, ...]) -> None:
    assert not mirrored_pairs(classes)


def test_a_class_that_may_be_several_of_the_network_is_refused() -> None:
    samples = (Sample("0.mp4", (0,), "val"),)
    network = ("turn left", "turn_left", "Turn (left)", "jump")
    for name, place in (("turn_left", 1), ("Turn (left)", 2), ("JUMP", 3)):
        one = VideoDataset("d", Path(), (name,), samples)
        assert with_classes(one, network, 4).samples[0].labels == (place,)
    with pytest.raises(UsageError, match=r"'Turn_Left' .* may be any of .*left', 'turn_left'"):
        with_classes(VideoDataset("d", Path(), ("Turn_Left",), samples), network, 4)
    with pytest.raises(UsageError, match=r"'jump_', '_jump' of d are the same one"):
        with_classes(VideoDataset("d", Path(), ("jump_", "_jump"), samples), network, 4)
    with pytest.raises(UsageError, match="has no class 'run'"):
        with_classes(VideoDataset("d", Path(), ("run",), samples), network, 4)


def test_folders_as_torchvision_names_them_are_the_published_classes() -> None:
    """torchvision.datasets.Kinetics writes spaces as _ and leaves out ' ( )."""
    from torchvision.models.video import R2Plus1D_18_Weights

    names = R2Plus1D_18_Weights.KINETICS400_V1.meta["categories"]
    folders = [
        name.replace(" ", "_").replace("'", "").replace("(", "").replace(")", "") for name in names
    ]
    assert sum(any(sign in name for sign in "'()") for name in names) >= 10
    assert order_of(names, folders) == list(range(400))
    samples = tuple(Sample(f"{i}.mp4", (i,), "val") for i in range(400))
    dataset = VideoDataset("kinetics400", Path(), tuple(folders), samples)
    renamed = with_classes(dataset, tuple(names), 400)
    assert [sample.labels for sample in renamed.samples] == [(i,) for i in range(400)]
