"""Accuracy by uniform clips: counted once, over several labels, fused, written and read."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.train_fixtures import micro, render_motion, render_video
from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.errors import DataError, StoreError, TrainingError, UsageError, WeightsError
from vidfeat.evaluation.metrics import Evaluation, topk_accuracy
from vidfeat.evaluation.scores import Scores, fuse_scores, read_scores, write_scores
from vidfeat.training.distributed import World
from vidfeat.training.evaluation import evaluate_network, hits, spread
from vidfeat.training.evaluation_report import (
    evaluate_subject,
    open_subject,
    with_classes,
    write_evaluation_report,
)
from vidfeat.training.feed import Feed
from vidfeat.training.run import train


class Brightness(nn.Module):
    """Scores by the mean of a clip: a network whose answers are known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, -mean, mean * 0], dim=1) * 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    root = tmp_path_factory.mktemp("videos")
    for number in range(7):
        render_video(root / f"{number}.mp4", seed=number, frames=6 + number, size=(16, 22))
    samples = [Sample(f"{number}.mp4", (number % 3,), "test") for number in range(7)]
    samples[2] = replace(samples[2], labels=(2, 0, 1))
    return VideoDataset("rendered", root, ("a", "b", "c"), tuple(samples))


class FakeWorld(World):
    """One process of several whose answers are gathered by hand."""

    def gather(self, value: object) -> list[object]:
        object.__setattr__(self, "answers", value)
        return [value, [(99, np.zeros(3, np.float32), [0], "")]][:1]


def test_processes_share_videos_without_repeating_or_dropping_one(dataset: VideoDataset) -> None:
    network, recipe = Brightness(), micro()
    with Feed(recipe, 0) as feed:
        whole = evaluate_network(network, dataset, recipe, feed)
        for size in (2, 3, 4, 8):
            rows: list[int] = []
            scores: dict[int, np.ndarray] = {}
            for rank in range(min(size, len(dataset))):
                world = FakeWorld(rank=rank, size=size)
                evaluate_network(network, dataset, recipe, feed, world)
                answers = world.answers  # type: ignore[attr-defined]
                rows += [row for row, *_ in answers]
                scores |= {row: score for row, score, *_ in answers}
            assert sorted(rows) == list(range(len(dataset)))
            together = np.stack([scores[row] for row in range(len(dataset))])
            assert np.array_equal(together, whole.scores.scores)
    assert whole.scores.paths == tuple(sample.path for sample in dataset.samples)
    assert whole.scores.label_sets[2] == (2, 0, 1)
    assert np.allclose(whole.scores.scores.sum(axis=1), 1, atol=1e-5)


def test_unreadable_videos_are_named_and_do_not_count(
    dataset: VideoDataset, tmp_path: Path
) -> None:
    broken = replace(dataset, samples=(*dataset.samples, Sample("gone.mp4", (0,), "test")))
    with Feed(micro(), 0) as feed:
        result = evaluate_network(Brightness(), broken, micro(), feed)
        assert len(result.scores) == 7
        assert len(result.failures) == 1 and result.failures[0].startswith("gone.mp4: ")
        assert (result.scores.labels >= 0).sum() == 7
        nothing = replace(dataset, root=tmp_path)
        with pytest.raises(DataError, match="none of 7 videos could be evaluated"):
            evaluate_network(Brightness(), nothing, micro(), feed)


def test_three_crops_make_three_times_the_clips(dataset: VideoDataset) -> None:
    seen: list[int] = []

    class Counting(Brightness):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return super().forward(x)

    for crops in (1, 3):
        seen.clear()
        recipe = micro(f"evaluate.crops={crops}", "evaluate.clips=3", "train.micro_batch=16")
        with Feed(recipe, 0) as feed:
            evaluate_network(Counting(), spread(dataset, 2), recipe, feed)
        assert seen == [3 * crops] * 2


def scores_of(values: list[list[float]], labels: list[int], **more: object) -> Scores:
    array = np.array(values, np.float32)
    names = tuple(f"v{i}.mp4" for i in range(len(values)))
    classes = tuple("abcdef"[: array.shape[1]])
    return Scores(names, array, classes, np.array(labels, np.int64), **more)  # type: ignore[arg-type]


def test_hits_count_the_top_label_and_ties_against_it() -> None:
    scores = scores_of([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], [0, 0, 1])
    assert hits(scores, 1).tolist() == [True, False, False]
    assert hits(scores, 2).tolist() == [True, False, True]
    assert hits(scores, 3).all()
    several = replace(scores, label_sets=((0,), (0, 1), (0, 1)))
    assert hits(several, 1).tolist() == [True, True, True]
    unknown = scores_of([[0.6, 0.4]], [-1])
    assert not hits(unknown, 1).any()


def test_score_files_come_back_and_others_are_refused(tmp_path: Path) -> None:
    scores = scores_of([[0.6, 0.4], [0.3, 0.7]], [0, -1], label_sets=((0, 1), ()))
    path = tmp_path / "scores.h5"
    write_scores(path, replace(scores, source={"model": "x"}))
    read = read_scores(path)
    assert read.paths == scores.paths and read.classes == scores.classes
    assert np.array_equal(read.scores, scores.scores)
    assert read.labels.tolist() == [0, -1]
    assert read.label_sets == scores.label_sets and read.source == {"model": "x"}
    (tmp_path / "text.h5").write_text("text")
    for name, message in (("absent.h5", "no such score file"), ("text.h5", "cannot be read")):
        with pytest.raises(StoreError, match=message):
            read_scores(tmp_path / name)


def test_fusion_matches_videos_by_name_and_weighs_them() -> None:
    first = scores_of([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    second = Scores(
        first.paths[::-1],
        np.array([[0.6, 0.4], [0.0, 1.0]], np.float32),
        first.classes,
        first.labels[::-1].copy(),
    )
    fused = fuse_scores(first, second, 0.6)
    assert np.allclose(fused.scores, [[0.54, 0.46], [0.36, 0.64]])
    with pytest.raises(UsageError, match="from 0 to 1"):
        fuse_scores(first, second, 1.5)
    with pytest.raises(UsageError, match="different videos"):
        fuse_scores(first, scores_of([[0.5, 0.5]], [0]))
    with pytest.raises(UsageError, match="different classes"):
        fuse_scores(first, scores_of([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], [0, 1]))
    with pytest.raises(UsageError, match="different labels"):
        fuse_scores(first, replace(first, labels=first.labels[::-1].copy()))


def test_classes_are_matched_by_name(dataset: VideoDataset) -> None:
    renamed = replace(dataset, classes=("Brush_Hair", "jump", "run"))
    known = ("run", "brush hair", "swim", "jump")
    matched = with_classes(renamed, known, 4)
    assert matched.classes == known
    assert [sample.labels for sample in matched.samples[:3]] == [(1,), (3,), (0, 1, 3)]
    with pytest.raises(UsageError, match="has no class 'run'"):
        with_classes(renamed, ("brush hair", "jump"), 2)
    with pytest.raises(UsageError, match="without names"):
        with_classes(dataset, None, 4)


def test_the_report_s_files(tmp_path: Path) -> None:
    scores = scores_of([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], [0, 0, -1])
    files = write_evaluation_report(tmp_path / "report", scores, {"video@1": 0.5})
    assert all(file.is_file() for file in files)
    rows = list(csv.reader((tmp_path / "report/classes.csv").read_text().splitlines()))
    assert rows[1] == ["a", "2", "1", "0.5000"] and rows[3] == ["c", "0", "0", ""]
    matrix = list(csv.reader((tmp_path / "report/confusion.csv").read_text().splitlines()))
    assert matrix[1] == ["a", "1", "1", "0"]
    assert (tmp_path / "report/confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_commands_evaluate_fuse_and_plot(tmp_path: Path) -> None:
    from vidfeat.cli.evaluate import command as evaluate
    from vidfeat.cli.plot import command as plot

    data = render_motion(tmp_path / "data", train=2, val=1)
    run = tmp_path / "run"
    train(micro("train.epochs=1"), data, run)
    runner = CliRunner()
    options = [str(run), "--data", str(data), "--workers", "0", "--json"]
    first = tmp_path / "rgb.h5"
    done = runner.invoke(
        evaluate,
        [*options, "--scores", str(first), "-o", str(tmp_path / "r")],
        standalone_mode=False,
    )
    assert done.exception is None and done.return_value == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["videos"] == 8 and 0 <= summary["clip@1"] <= 1
    assert read_scores(first).classes == tuple(sorted(read_scores(first).classes))
    fused = runner.invoke(
        evaluate,
        ["--fuse", str(first), str(first), "--weight", "0.6"],
        standalone_mode=False,
    )
    assert fused.exception is None and "video@1" in fused.stdout.splitlines()[-1]
    picture = runner.invoke(plot, [str(run), "-o", str(tmp_path / "c.png")], standalone_mode=False)
    assert picture.exception is None
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UsageError, match="give model"):
        open_subject(str(run / "model.safetensors"))
    (run / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="is not finished"):
        open_subject(str(run))


BROKEN = st.sampled_from([np.nan, np.inf, -np.inf])


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 5)),
        elements=st.floats(0, 1, width=32),
    ),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), BROKEN), max_size=12),
    st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=6, max_size=6),
    st.integers(1, 5),
)
def test_a_score_that_is_no_number_is_never_a_hit(
    values: np.ndarray,
    places: list[tuple[int, int, float]],
    labels: list[set[int]],
    k: int,
) -> None:
    videos, classes = values.shape
    sets = tuple(tuple(sorted({label % classes for label in own})) for own in labels[:videos])
    good = scores_of(values.tolist(), [own[0] for own in sets], label_sets=sets)
    broken = values.copy()
    for row, column, value in places:
        broken[row % videos, column % classes] = value
    bad = replace(good, scores=broken)
    finite = np.isfinite(broken).all(axis=1)
    np.testing.assert_array_equal(hits(bad, k), hits(good, k) & finite)
    truth = good.labels
    assert topk_accuracy(broken.astype(np.float64), truth, k) <= finite.mean()
    if finite.all():
        bad.require_finite("scores")
        return
    for refuse in (
        lambda: bad.require_finite("scores"),
        lambda: fuse_scores(bad, good),
        lambda: fuse_scores(good, bad, 1.0),
        lambda: write_evaluation_report(Path("never"), bad, {}),
    ):
        with pytest.raises(DataError, match="are NaN or infinite"):
            refuse()
    with pytest.raises(ValueError, match="NaN or infinite"):
        Evaluation(broken.astype(np.float64), truth, bad.classes)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_network_whose_outputs_are_no_numbers_is_not_measured(
    dataset: VideoDataset, value: float, place: int
) -> None:
    class Diverged(Brightness):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            logits[-1, place] = value
            return logits

    with Feed(micro(), 0) as feed, pytest.raises(WeightsError, match=r"NaN or infinite for 7 of 7"):
        evaluate_network(Diverged(), dataset, micro(), feed)


def test_the_last_update_is_tested_too(tmp_path: Path) -> None:
    data = render_motion(tmp_path / "data", train=1, val=1)
    recipe = micro(
        "train.optimizer=sgd", "train.lr=1e30", "train.warmup_epochs=0", "train.epochs=1",
        "train.clip_gradient=0", "train.epoch_clips=4", "train.schedule=step",
    )  # fmt: skip
    lines: list[dict[str, object]] = []
    with pytest.raises(TrainingError, match=r"after step 1: .*NaN or infinite.*lower train\.lr"):
        train(recipe, data, tmp_path / "run", report=lines.append)
    assert {line["event"] for line in lines} == {"start", "step"}
    assert not (tmp_path / "run/model.safetensors").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    # the same weights, had they been written, are not measured either
    good = tmp_path / "good"
    train(replace(recipe, train=replace(recipe.train, lr=0.01)), data, good)
    tensors = load_file(good / "model.safetensors")
    with safe_open(good / "model.safetensors", "pt") as file:
        facts = file.metadata()
    tensors["fc.bias"][0] = torch.inf
    save_file(tensors, good / "model.safetensors", facts)
    with pytest.raises(WeightsError, match="have diverged"):
        evaluate_subject(open_subject(str(good), settings=("run.workers=0",)), data)
