"""Rendered scenes: the same for the same numbers, balanced, and no appearance in their labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.motion_test_scenes import MOTIONS, render, write_scenes
from vidfeat.datasets import open_dataset
from vidfeat.datasets.synthetic_motion import (
    CLASSES,
    GROUPS,
    evaluation_request,
    plan_of,
    render_clip,
    training_request,
)
from vidfeat.datasets.synthetic_motion.actions import ACTION_POSES
from vidfeat.datasets.synthetic_motion.dataset import scene_of
from vidfeat.datasets.synthetic_motion.meetings import MEETING_ROLES
from vidfeat.datasets.synthetic_motion.skeleton import Pose, joints
from vidfeat.datasets.synthetic_motion.stage import draw_camera, frame_seconds
from vidfeat.datasets.synthetic_motion.vocabulary import ACTIONS, MEETINGS, ScenePlan
from vidfeat.errors import UsageError
from vidfeat.training.augment import smoothed_targets
from vidfeat.training.feed import Feed
from vidfeat.training.recipes import get_recipe
from vidfeat.training.run import save_snapshot, train
from vidfeat.training.settings import change
from vidfeat.weights.load import load_weights


def test_a_clip_depends_on_its_numbers_alone() -> None:
    plan = plan_of((0, 17))
    clip = render_clip(plan, (0, 17, 5))
    assert clip.shape == (8, 64, 64, 3) and clip.dtype == np.uint8
    np.testing.assert_array_equal(clip, render_clip(plan, (0, 17, 5)))
    other = render_clip(plan, (0, 17, 6))
    assert np.abs(clip.astype(float) - other).mean() > 5
    assert render_clip(plan, (1,), frames=16, size=80).shape == (16, 80, 80, 3)


@pytest.mark.parametrize("group", ["mover", "pair", "action", "meeting", "camera"])
def test_every_class_renders_and_moves(group: str) -> None:
    field = {"mover": "movers", "pair": "pairs", "action": "actions", "meeting": "meetings"}
    for name in GROUPS[group]:
        plan = ScenePlan(name if group == "camera" else "still", "steady", "normal")
        if group != "camera":
            plan = ScenePlan("still", "steady", "normal", **{field[group]: (name,)})
        assert CLASSES.index(f"{group}/{name}") in plan.labels
        changes = []
        for number in range(4):
            clip = render_clip(plan, (number,)).astype(np.float32)
            changes.append(np.abs(np.diff(clip, axis=0)).mean())
        assert np.isfinite(changes).all()
        if name not in ("still", "stand", "talk"):
            assert max(changes) > 0.5, name


def test_all_that_the_vocabulary_names_is_there() -> None:
    assert set(ACTION_POSES) == set(ACTIONS) and set(MEETING_ROLES) == set(MEETINGS)
    assert len(set(CLASSES)) == len(CLASSES)


def test_dataset_needs_no_videos() -> None:
    dataset = open_dataset("synthetic_motion", "nowhere")
    assert dataset.classes == CLASSES
    train_part, val = dataset.part("train"), dataset.part("val")
    assert len(train_part) == 16_384 and len(val) == 256
    for sample in (train_part.samples[3], val.samples[9]):
        assert sample.labels == plan_of(scene_of(sample.path)).labels
    counts = Counter(label for sample in train_part.samples for label in sample.labels)
    assert set(counts) == set(range(len(CLASSES)))
    assert min(counts.values()) > 100
    for group, members in GROUPS.items():
        if group in ("camera", "pace", "count"):  # one of them is the usual case
            continue
        shares = [counts[CLASSES.index(f"{group}/{name}")] for name in members]
        assert max(shares) < 12 * min(shares), group


def test_showings_differ_in_training_and_never_in_evaluation() -> None:
    first, second = (training_request("train/00004", (0, 7, n, 0), 8, 32) for n in (0, 1))
    assert not np.array_equal(next(first.make()), next(second.make()))
    again = [list(evaluation_request("val/00004", 2, 8, 32).make()) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert not np.array_equal(again[0][0], again[0][1])


def test_looks_say_nothing_about_the_motion() -> None:
    """A linear head on mean colours stays at chance for labels that are motion alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    rng = np.random.default_rng(0)
    for group, names in (
        ("camera", ("pan_left", "zoom_in", "shake", "still")),
        ("mover", ("left", "spin_right", "grow", "tremble")),
        ("action", ("walk", "wave", "punch", "dance")),
        ("meeting", ("talk", "pass", "greet", "fight")),
    ):
        field = {"mover": "movers", "action": "actions", "meeting": "meetings"}.get(group)
        colours, labels = [], []
        for number in range(200):
            name = names[number % len(names)]
            numbers = (int(rng.integers(2**31)),)
            if field is None:
                plan = ScenePlan(name, "steady", "normal", movers=("still",))
            else:
                plan = ScenePlan("still", "steady", "normal", **{field: (name,)})
            clip = render_clip(plan, numbers, frames=4, size=32) / 255
            colours.append([*clip.mean(axis=(0, 1, 2)), *clip.std(axis=(0, 1, 2))])
            labels.append(name)
        head = LogisticRegression(max_iter=500)
        accuracy = cross_val_score(head, np.array(colours), labels, cv=4).mean()
        assert accuracy < 0.25 + 0.12, group  # four classes; 0.12 is four standard errors


def test_pace_is_relative_to_the_clip_itself() -> None:
    def steps(pace: str, tempo: str) -> np.ndarray:
        many = [
            np.diff(frame_seconds(np.random.default_rng(n), 8, pace, tempo)) for n in range(200)
        ]
        return np.mean(many, axis=0)

    steady, faster, slower = (steps(pace, "normal") for pace in ("steady", "faster", "slower"))
    assert steady.max() < 1.15 * steady.min()
    assert faster[-1] > 2 * faster[0] and slower[0] > 2 * slower[-1]
    # the whole length is that of the steady one: how long it lasts does not tell
    for bent in (faster, slower):
        assert bent.sum() == pytest.approx(steady.sum(), rel=0.1)
    ratios = [steps(pace, "quick") / steps(pace, "slow") for pace in ("steady", "faster")]
    for ratio in ratios:  # the tempo scales a pace and does not bend it
        assert ratio.max() < 1.25 * ratio.min()
    assert steps("return", "normal").sum() < 0.3 * steady.sum()
    assert steps("pause", "normal").min() < 0.3 * steady.mean()


def test_a_camera_keeps_what_it_looks_at_in_step_with_the_ground() -> None:
    seconds = np.arange(8) / 10
    for kind in GROUPS["camera"]:
        camera = draw_camera(np.random.default_rng(3), kind, seconds)
        x, y = camera.view(np.zeros(8) + 0.2, np.zeros(8) - 0.1)
        moved = np.hypot(np.ptp(x), np.ptp(y))
        assert moved > 0.02 or kind == "still", kind
    pan = draw_camera(np.random.default_rng(3), "pan_right", seconds)
    assert np.all(np.diff(pan.view(np.zeros(8), np.zeros(8))[0]) < 0)


def test_figures_stand_on_the_ground_and_keep_their_bones() -> None:
    rng, seconds = np.random.default_rng(5), np.arange(30) / 10
    for name, action in ACTION_POSES.items():
        points = joints(action(seconds, rng), len(seconds))
        assert points.shape == (30, 15, 3) and np.isfinite(points).all()
        assert points[..., 2].min() >= 0, name
        assert points[..., 2].max() < 1.7, name
    upright = joints(Pose(), 1)[0]
    assert upright[:, 2].max() == pytest.approx(0.94, abs=0.02)
    bent = joints(Pose(knee_l=1.5, knee_r=1.5, hip_l=0.8, hip_r=0.8), 1)[0]
    assert bent[:, 2].max() < upright[:, 2].max() - 0.1


def test_targets_of_several_labels_share_the_mass() -> None:
    targets = smoothed_targets([(0, 2), (1,)], 4, 0.0).numpy()
    np.testing.assert_allclose(targets, [[0.5, 0, 0.5, 0], [0, 1, 0, 0]])
    smooth = smoothed_targets([(0, 2)], 4, 0.2).numpy()
    np.testing.assert_allclose(smooth, [[0.45, 0.05, 0.45, 0.05]])


SMALL = (
    "data.frames=4",
    "data.scale=[16]",
    "data.crop=16",
    "train.epochs=3",
    "train.cosine_cycles=1",
    "train.epoch_clips=8",
    "train.batch=4",
    "train.micro_batch=4",
    "train.precision=fp32",
    "evaluate.every_epochs=0",
    "run.tensorboard=false",
)


def test_workers_render_what_this_process_renders() -> None:
    recipe = change(get_recipe("bundled"), SMALL)
    wanted = [(f"val/{n:05d}", evaluation_request(f"val/{n:05d}", 2, 4, 16)) for n in range(3)]
    with Feed(recipe, 0) as feed:
        here = [read.clips for read in feed.read(wanted)]
    with Feed(recipe, 1) as feed:
        there = [read.clips for read in feed.read(wanted)]
    assert len(here) == 3 and here[0] is not None and here[0].shape == (2, 4, 16, 16, 3)
    np.testing.assert_array_equal(here, there)


def test_a_run_goes_on_to_the_bit_and_gives_its_weights_on_the_way(tmp_path: Path) -> None:
    recipe = change(get_recipe("bundled"), [*SMALL, "run.workers=0"])
    assert not train(recipe, None, tmp_path / "whole", until=4).complete
    train(recipe, None, tmp_path / "parts", until=3)
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    assert save_snapshot(tmp_path / "parts", files[0]) == 3
    train(recipe, None, tmp_path / "parts", resume=True, until=4)
    assert [save_snapshot(tmp_path / run, file) for run, file in
            zip(("whole", "parts"), files[1:], strict=True)] == [4, 4]  # fmt: skip
    early, whole, parts = (load_weights(file, recipe.model.name) for file in files)
    assert whole.backbone_sha256 == parts.backbone_sha256 != early.backbone_sha256
    assert early.class_names == CLASSES and early.plan == whole.plan
    assert early.preprocess is not None and early.preprocess.crop == (16, 16)


def test_a_recipe_with_videos_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder as data"):
        train(get_recipe("tiny"), None, tmp_path / "run")


def test_exam_scenes_are_their_own(tmp_path: Path) -> None:
    source = Path(__file__).parents[1].joinpath("support", "motion_test_scenes.py").read_text()
    assert "from vidfeat" not in source and "import vidfeat" not in source
    np.testing.assert_array_equal(render("spin", 4), render("spin", 4))
    table = write_scenes(tmp_path, videos=1)
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + len(MOTIONS) and lines[0] == "path,label,split"
    assert all((tmp_path / line.split(",")[0]).is_file() for line in lines[1:])
