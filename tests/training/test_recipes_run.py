"""Every named recipe trains: two steps, a checkpoint, a resume, an evaluation.

The videos are rendered stand-ins in each dataset's published layout. The quick test shrinks the
network and the clip; the slow one keeps both as they are, with a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.train_fixtures import render_motion, render_video
from vidfeat.datasets.synthetic_motion import NAME
from vidfeat.errors import UsageError
from vidfeat.models import build_model
from vidfeat.training.config import Recipe
from vidfeat.training.log import read_log
from vidfeat.training.recipes import RECIPES, get_recipe
from vidfeat.training.run import train
from vidfeat.training.settings import change
from vidfeat.weights.files import WeightsFacts, save_weights

FRAMES = 40


def render(path: Path, seed: int) -> None:
    render_video(path, seed=seed, frames=FRAMES, size=(64, 86))


def kinetics(root: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split"
    for part, split in (("train", "train"), ("val", "validate")):
        rows = [header]
        for number, label in enumerate(("air drumming", "zumba")):
            identity = f"{split[:3]}_{number:07d}"
            rows.append(f"{label},{identity},{number},{number + 10},{split}")
            name = f"{identity}_{number:06d}_{number + 10:06d}.mp4"
            render(root / part / label.replace(" ", "_") / name, number)
        (root / f"{part}.csv").write_text("\n".join(rows) + "\n")


def sports1m(root: Path) -> None:
    (root / "original").mkdir(parents=True)
    (root / "original/labels.txt").write_text("boomerang\nboxing\nbowling\n")
    for part in ("train", "test"):
        lines = []
        for number, labels in enumerate(("0", "1,2")):
            identity = f"{part[:2]}-_{number:08d}"
            lines.append(f"https://www.youtube.com/watch?v={identity} {labels}")
            render(root / "videos" / f"{identity}.mp4", number)
        (root / f"original/{part}_partition.txt").write_text("\n".join(lines) + "\n")


def ucf101(root: Path) -> None:
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    names = ("Archery", "HandstandPushups")
    (lists / "classInd.txt").write_text("".join(f"{i} {n}\r\n" for i, n in enumerate(names, 1)))
    train_, test_ = [], []
    for number, name in enumerate(names, 1):
        written = name.replace("Handstand", "HandStand")
        for group, lines in ((8, train_), (1, test_)):
            lines.append(f"{name}/v_{written}_g{group:02d}_c01.avi")
            render(root / "UCF-101" / name / f"v_{written}_g{group:02d}_c01.mp4", number)
        train_[-1] += f" {number}"
    for split in (1, 2, 3):
        (lists / f"trainlist0{split}.txt").write_text("\r\n".join(train_))
        (lists / f"testlist0{split}.txt").write_text("\r\n".join(test_))


def hmdb51(root: Path) -> None:
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for number, name in enumerate(("brush_hair", "wave")):
        files = [f"movie_{name}_u_cm_np1_fr_med_{use}.avi" for use in (1, 2)]
        for use, file in enumerate(files, 1):
            render((root / name / file).with_suffix(".mp4"), 2 * number + use)
        for split in (1, 2, 3):
            text = "".join(f"{file} {use} \n" for use, file in enumerate(files, 1))
            (lists / f"{name}_test_split{split}.txt").write_text(text)


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "kinetics400": kinetics,
    "sports1m": sports1m,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "auto": lambda root: render_motion(root, train=1, val=1),
    "synthetic_motion": lambda root: root.mkdir(),  # needs no videos
}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {}
    for name, make in LAYOUTS.items():
        roots[name] = tmp_path_factory.mktemp(name) / "data"
        make(roots[name])
    return roots


def initial_weights(recipe: Recipe, folder: Path) -> Path:
    """Untrained weights of the recipe's network, for another number of classes."""
    path = folder / "init.safetensors"
    network = build_model(
        recipe.model.name, 7, in_channels=recipe.in_channels, clip_frames=recipe.data.frames
    )
    save_weights(path, network.state_dict(), WeightsFacts(model=recipe.model.name))
    return path


def data_of(recipe: Recipe, stand_ins: dict[str, Path]) -> Path | None:
    """The data of a recipe; None where its clips are rendered."""
    return None if recipe.data.dataset == NAME else stand_ins[recipe.data.dataset]


def run_two_steps(recipe: Recipe, data: Path | None, folder: Path) -> None:
    out = folder / "run"
    recipe = change(
        recipe,
        [
            "train.epochs=2",
            "train.epoch_clips=1",
            "train.batch=1",
            "evaluate.clips=1",
            "evaluate.every_epochs=0",
            "run.workers=0",
            "run.tensorboard=false",
        ],
    )
    if recipe.model.needs_init:
        with pytest.raises(UsageError, match="starts from trained weights"):
            train(recipe, data, out)
        recipe = change(recipe, [f"model.init={initial_weights(recipe, folder)}"])
    assert train(recipe, data, out, until=1).step == 1
    result = train(recipe, data, out, resume=True)
    assert result.complete and result.step == 2
    lines = list(read_log(out))
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    assert len(losses) == 2 and all(loss is not None and loss > 0 for loss in losses)
    assert next(line["videos"] for line in lines if line["event"] == "evaluation") >= 2
    assert (out / "model.safetensors").is_file()


SAMPLES = [
    "kinetics_r2plus1d_18_16f",
    "kinetics_r2d_18_8f",
    "sports1m_r2plus1d_34_8f",
    "kinetics_flow_from_sports1m_r2plus1d_34_8f",
    "ucf101_from_kinetics",
    "hmdb51_layerwise",
    "tiny",
    "bundled",
]


@pytest.mark.parametrize("name", SAMPLES)
def test_recipes_run_small(name: str, stand_ins: dict[str, Path], tmp_path: Path) -> None:
    recipe = get_recipe(name)
    family = recipe.model.name.split("_")[0]
    small = change(
        recipe,
        [f"model.name={family}_10_w16", "data.frames=4", "data.scale=[24,32]", "data.crop=24"],
    )
    run_two_steps(small, data_of(recipe, stand_ins), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_at_its_full_size(
    name: str, stand_ins: dict[str, Path], tmp_path: Path
) -> None:
    recipe = get_recipe(name)
    run_two_steps(recipe, data_of(recipe, stand_ins), tmp_path)
    for file in tmp_path.rglob("*.safetensors"):
        file.unlink()  # half a gigabyte a recipe
    for file in tmp_path.rglob("optimizer.pt"):
        file.unlink()
