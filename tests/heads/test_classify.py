"""What is in videos: by a head, by the network, along a time line."""

import json
import os
import signal

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.support.bad_videos import cut_midway
from tests.support.heads_fixtures import (
    embeddings,
    identity,
    names_of,
    three_classes,
    write_features,
)
from tests.support.video_assets import render
from vidfeat.cli.classify import command
from vidfeat.cli.flags import with_flags
from vidfeat.encoders.load import load_encoder
from vidfeat.encoders.reading import VideoRead
from vidfeat.errors import FingerprintError, UsageError, VideoError
from vidfeat.evaluation.scores import read_scores
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.heads.classify import (
    HeadJudge,
    NetworkJudge,
    VideoPrediction,
    classify_clips,
    classify_video,
    finite_clips,
    read_videos,
    time_line_plan,
)
from vidfeat.heads.finetuning import FinetuneOptions, finetune
from vidfeat.heads.head import Head
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.reader import FeatureStore
from vidfeat.video.decode import pool as pool_module
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import Finished
from vidfeat.video.plan_choice import PlanChoice

QUICK = FinetuneOptions(head=HeadOptions(params={"C": 0.1}), report=False)


def run(*arguments):
    """As the installed command: a status, or the error that it turns into one."""
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, texts, standalone_mode=False)


@pytest.fixture
def head_and_features(tmp_path):
    features = three_classes(tmp_path)
    finetune(features, "folders", QUICK, out=tmp_path / "head")
    return tmp_path / "head", features


class Echo:
    """A judge whose rows are scores already."""

    classes = ("a", "b", "c")

    def read(self, path):
        raise VideoError("nothing there", kind="unreadable", path=str(path))

    def scores(self, rows):
        return np.asarray(rows, dtype=np.float64).mean(axis=0)


ROWS = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]])


def test_the_best_classes_come_first():
    found = classify_clips(Echo(), "v.mp4", embeddings(ROWS), top=2)
    assert [p.label for p in found.predictions] == ["a", "b"]
    assert found.predictions[0].score == pytest.approx(0.425)
    assert found.segments == ()
    assert "segments" not in found.to_dict()


def test_a_time_line_takes_the_clips_whose_middle_lies_in_each_segment():
    found = classify_clips(Echo(), "v.mp4", embeddings(ROWS), every_seconds=4.0)
    assert [(s.start_seconds, s.end_seconds) for s in found.segments] == [(0.0, 4.0), (4.0, 8.0)]
    assert found.segments[0].predictions[0].score == pytest.approx(0.8)
    assert found.segments[1].predictions[0].label == "b"


def test_a_segment_without_a_clip_takes_the_nearest():
    found = classify_clips(Echo(), "v.mp4", embeddings(ROWS), every_seconds=0.5)
    assert len(found.segments) == 16
    labels = [segment.predictions[0].label for segment in found.segments]
    assert labels == ["a"] * 8 + ["b"] * 4 + ["c"] * 4
    assert found.segments[-1].end_seconds == 8.0


def test_the_rest_of_a_video_is_a_shorter_segment_and_a_hair_is_none():
    rest = classify_clips(Echo(), "v.mp4", embeddings(ROWS), every_seconds=3.0).segments
    assert [s.end_seconds for s in rest] == [3.0, 6.0, 8.0]
    seconds = np.array([2.0, 4.004])
    hair = Embeddings(ROWS[:2].astype(np.float32), seconds - 2.0, seconds)
    ends = [s.end_seconds for s in classify_clips(Echo(), "v", hair, every_seconds=2.0).segments]
    assert ends == [2.0, 4.004]


def test_a_time_line_lays_a_clip_a_second_unless_told_otherwise():
    assert time_line_plan(PlanChoice(), None) == PlanChoice()
    assert time_line_plan(PlanChoice(), 0.5).hop_seconds == 0.5
    assert time_line_plan(PlanChoice(), 4.0).hop_seconds == 1.0
    assert time_line_plan(PlanChoice(), 2.5).hop_seconds == pytest.approx(2.5 / 3)
    assert time_line_plan(PlanChoice(clips=9), 4.0) == PlanChoice(clips=9)
    with pytest.raises(UsageError, match="every_seconds must be above 0"):
        time_line_plan(PlanChoice(), -1.0)


# ---------------------------------------------------------------- stored features


def test_stored_features_are_judged_as_in_training(head_and_features):
    folder, features = head_and_features
    head = Head.load(folder)
    with FeatureStore(features) as store:
        judge = HeadJudge(head)
        assert judge.check_store(store) is None
        found = [classify_clips(judge, path, clips) for path, clips in store]
    right = [video.path.split("/")[0] == video.predictions[0].label for video in found]
    assert np.mean(right) > 0.9


def test_the_command_on_a_feature_file(head_and_features, tmp_path):
    folder, features = head_and_features
    done = run(features, "--head", folder, "--json", "-k", 2, "--every-seconds", 4)
    videos = json.loads(done.stdout)
    assert done.return_value == 0
    assert len(videos) == 36
    assert set(videos[0]) == {"path", "predictions", "segments"}
    assert set(videos[0]["segments"][0]) == {"start_seconds", "end_seconds", "predictions"}
    assert [set(p) for p in videos[0]["predictions"]] == [{"label", "score"}] * 2
    done = run(features, "--head", folder, "--scores", tmp_path / "s.h5")
    assert "jump/video_00.mp4" in done.stdout
    scores = read_scores(tmp_path / "s.h5")
    assert scores.classes == ("jump", "run", "walk")
    assert scores.scores.shape == (36, 3)
    assert (scores.labels == -1).all()
    np.testing.assert_allclose(scores.scores.sum(axis=1), 1, rtol=1e-6)


def test_features_of_another_encoder_are_refused_and_named(head_and_features, tmp_path):
    folder, _ = head_and_features
    names, classes = names_of(["jump", "run"], 2)
    other = identity(16, space="space-b", model="r3d_18")
    features = write_features(tmp_path / "other.h5", names, classes, of=other)
    done = run(features, "--head", folder)
    assert isinstance(done.exception, FingerprintError)
    assert 'model was "r2plus1d_18", is "r3d_18"' in str(done.exception)


def test_features_of_another_plan_are_a_warning(head_and_features, tmp_path):
    folder, _ = head_and_features
    names, classes = names_of(["jump", "run"], 2)
    other = identity(16, run="run-b", precision="bf16")
    features = write_features(tmp_path / "other.h5", names, classes, of=other)
    done = run(features, "--head", folder)
    assert done.return_value == 0
    assert 'precision was "fp32", is "bf16"' in done.stderr


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("every", [(), ("--every-seconds", 2)])
def test_the_command_draws(head_and_features, tmp_path, suffix, every):
    folder, features = head_and_features
    picture = tmp_path / f"all.{suffix}"
    done = run(features, "--head", folder, "--plot", picture, *every)
    assert done.return_value == 0, done.output
    assert picture.stat().st_size > 5000
    assert "draws the first 12 of 36" in done.stderr


def test_a_feature_file_needs_a_head_and_pictures_a_known_kind(head_and_features):
    folder, features = head_and_features
    done = run(features, "--head", folder, "--plot", "all.gif")
    assert isinstance(done.exception, click.UsageError)
    assert ".png, .svg or .pdf" in str(done.exception)
    done = run(features, "--head", folder, "--model", "r3d_18")
    assert isinstance(done.exception, click.UsageError)
    assert "exclude each other" in str(done.exception)


@pytest.mark.parametrize(
    ("option", "message"),
    [(("--every-seconds", 0), "--every-seconds must be above 0"), (("-k", 0), "--top must be 1")],
)
def test_numbers_that_cannot_be_meant(head_and_features, option, message):
    folder, features = head_and_features
    done = run(features, "--head", folder, *option)
    assert isinstance(done.exception, click.UsageError | UsageError)
    fields = getattr(done.exception, "fields", ())
    assert message in with_flags(str(done.exception), fields, command)


def test_a_head_whose_features_came_from_elsewhere_takes_no_videos(head_and_features):
    folder, _ = head_and_features
    done = run("new.mp4", "--head", folder)
    assert isinstance(done.exception, click.UsageError)
    assert "does not record its encoder's 'layers'" in str(done.exception)


# ---------------------------------------------------------------- video files


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Bright and dark videos of three seconds, eight frames per second."""
    root = tmp_path_factory.mktemp("videos")
    for name, light in (("bright", 1.0), ("dark", 0.2)):
        for number in range(6):
            render(
                root / name / f"{number}.avi",
                range(number, number + 24),
                codec="mpeg4",
                rate=8,
                size=(48, 32),
                stored=lambda picture, light=light: (picture * light).astype(np.uint8),
            )
    return root


@pytest.fixture(scope="module")
def trained(videos, tmp_path_factory):
    """A head on an untrained network of ten layers, and its feature file."""
    folder = tmp_path_factory.mktemp("trained")
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=2), device="cpu")
    extract(videos, folder / "f.h5", encoder, options=ExtractOptions(workers=0))
    finetune(folder / "f.h5", "folders", QUICK, out=folder / "head")
    return folder / "head", folder / "f.h5"


def test_new_videos_by_a_head(videos, trained):
    head, features = trained
    done = run(videos, "--head", head, "--json", "--device", "cpu")
    assert done.return_value == 0, done.output
    found = json.loads(done.stdout)
    assert [video["path"] for video in found] == sorted(str(p) for p in videos.rglob("*.avi"))
    for video in found:
        assert video["predictions"][0]["label"] in video["path"]
    stored = json.loads(run(features, "--head", head, "--json").stdout)
    for one, other in zip(found, stored, strict=True):
        new = {p["label"]: p["score"] for p in one["predictions"]}
        old = {p["label"]: p["score"] for p in other["predictions"]}
        assert new == pytest.approx(old, abs=1e-4)


def test_a_time_line_lays_its_own_clips_without_a_warning(videos, trained):
    head, _ = trained
    arguments = (videos / "dark" / "3.avi", "--head", head, "--device", "cpu")
    done = run(*arguments, "--every-seconds", 1)
    assert done.return_value == 0, done.output
    assert done.stderr == ""
    assert done.stdout.count(" s ") == 3
    # what one asks for oneself is told: it may be a mistake
    told = run(*arguments, "--every-seconds", 1, "--hop-seconds", 0.5).stderr
    assert "another plan" in told and "plan.clips was 2, is null" in told


def test_short_segments_are_told_apart(videos, trained):
    head, _ = trained
    arguments = (videos / "dark" / "3.avi", "--head", head, "--device", "cpu")
    lines = run(*arguments, "--every-seconds", 0.125).stdout.splitlines()
    times = [line.split(" s ")[0].strip() for line in lines if " to " in line]
    assert times[:2] == ["0.00 to 0.12", "0.12 to 0.25"] and len(set(times)) == len(times) == 24
    seconds = json.loads(run(*arguments, "--every-seconds", 0.1, "--json").stdout)[0]["segments"]
    assert [row["start_seconds"] for row in seconds[:4]] == [0, 0.1, 0.2, 0.3]


def test_a_video_that_fails_is_named_and_the_others_are_judged(videos, trained, tmp_path):
    head, _ = trained
    (tmp_path / "broken.mp4").write_bytes(b"not a video at all")
    good = videos / "dark" / "0.avi"
    done = run(tmp_path / "broken.mp4", good, "--head", head, "--json", "--device", "cpu")
    assert done.return_value == 1
    assert "broken.mp4: " in done.stderr
    assert [video["path"] for video in json.loads(done.stdout)] == [str(good)]
    done = run(tmp_path / "none.mp4", "--head", head)
    assert done.return_value == 2
    assert "none.mp4: there is no such file" in done.stderr


def test_decode_processes_change_no_score(videos, trained):
    head, _ = trained
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=2), device="cpu")
    judge = HeadJudge(Head.load(head), encoder)
    paths = sorted(videos.rglob("*.avi"))
    apart = list(read_videos(judge, paths, workers=2))
    inline = list(read_videos(judge, paths, workers=0))
    assert [read.path for read in apart] == [str(path) for path in paths]
    for one, other, path in zip(apart, inline, paths, strict=True):
        assert one.error is None
        np.testing.assert_array_equal(one.clips.vectors, other.clips.vectors)
        np.testing.assert_array_equal(one.clips.vectors, encoder.encode(path).vectors)
        np.testing.assert_array_equal(one.clips.start_seconds, other.clips.start_seconds)


@pytest.mark.parametrize(
    ("stop", "kind"), [(signal.SIGKILL, "ended by SIGKILL"), (signal.SIGSTOP, "given up")]
)
def test_a_decoder_that_dies_or_hangs_costs_one_video(videos, trained, monkeypatch, stop, kind):
    head, _ = trained
    paths = sorted(videos.rglob("*.avi"))[:3]
    run_of_pool = DecodePool.run

    def disturbed(pool, tasks):
        """The process that works on the second video stops as soon as it has begun."""
        for task, event in run_of_pool(pool, tasks):
            yield task, event
            if task.path == str(paths[0]) and isinstance(event, Finished):
                os.kill(pool._children[0].process.pid, stop)

    # Two slots: the process cannot have run ahead to the end of the second video.
    monkeypatch.setattr(DecodePool, "run", disturbed)
    monkeypatch.setattr(pool_module, "BUFFER_BYTES_PER_PROCESS", 1)
    done = run(
        *(*paths, "--head", head, "--json", "--device", "cpu", "--workers", 1),
        *("--video-timeout", 1, "--clips", 8),
    )
    assert done.return_value == 1, done.output
    assert [video["path"] for video in json.loads(done.stdout)] == [str(paths[0]), str(paths[2])]
    assert f"{paths[1]}: " in done.stderr
    assert kind in done.stderr


def test_a_video_that_breaks_midway_is_judged_and_named(videos, trained, tmp_path):
    head, _ = trained
    broken = cut_midway(tmp_path)
    good = videos / "dark" / "0.avi"
    done = run(broken, good, "--head", head, "--json", "--device", "cpu", "--hop-frames", 4)
    assert done.return_value == 1, done.output
    assert f"{broken}: broke" in done.stderr
    assert [video["path"] for video in json.loads(done.stdout)] == [str(broken), str(good)]


def test_the_wrong_encoder_is_refused(trained):
    head, _ = trained
    encoder = load_encoder("r2d_10", "random", seed=1, plan=PlanChoice(frames=4), device="cpu")
    with pytest.raises(FingerprintError, match="weights"):
        HeadJudge(Head.load(head), encoder)


def test_the_networks_own_classes(videos):
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=3), device="cpu")
    judge = NetworkJudge(encoder)
    video = videos / "dark" / "0.avi"
    found = classify_video(judge, video, top=3)
    assert isinstance(found, VideoPrediction)
    assert len(found.predictions) == 3
    assert found.scores.shape == (400,)
    assert found.scores.sum() == pytest.approx(1)
    (read,) = read_videos(judge, [video])
    rows = read.clips
    assert rows is not None
    assert len(rows) == 3
    assert rows.start_seconds[0] == 0
    assert rows.end_seconds[-1] == pytest.approx(3.0)


def test_the_command_by_the_networks_own_classes(videos):
    done = run(
        *(videos / "dark" / "0.avi", "--model", "r2d_10", "--weights", "random"),
        *("--clip-frames", 4, "--clips", 1, "--device", "cpu", "--json"),
    )
    assert done.return_value == 0, done.output
    assert "UNTRAINED" in done.stderr
    assert len(json.loads(done.stdout)[0]["predictions"]) == 5


# ---------------------------------------------------------------- outputs that are no numbers


def test_stored_vectors_that_are_not_finite_are_named_and_the_others_judged(
    head_and_features, tmp_path
):
    head, _ = head_and_features

    def spoil(name, vectors):
        if name.endswith("00.mp4"):
            vectors[1, 3] = np.nan
        elif name.endswith("01.mp4"):
            vectors[:, 0] = np.inf

    names, classes = names_of(("run", "walk", "jump"), 3)
    features = write_features(tmp_path / "bad.h5", names, classes, spoil=spoil)
    scores = tmp_path / "scores.h5"
    done = run(features, "--head", head, "--json", "--scores", scores)
    assert done.return_value == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert sum("1 of 4 clips are NaN or infinite" in line for line in lines) == 3
    assert sum("4 of 4 clips are NaN or infinite" in line for line in lines) == 3
    judged = json.loads(done.stdout)
    assert [video["path"] for video in judged] == sorted(
        name for name in names if not name.endswith("01.mp4")
    )
    assert np.isfinite(read_scores(scores).scores).all()


def test_a_file_of_nothing_but_nan_is_not_classified(head_and_features, tmp_path):
    head, _ = head_and_features
    features = write_features(
        tmp_path / "bad.h5", ["a.mp4"], [0], spoil=lambda _, vectors: vectors.fill(np.nan)
    )
    done = run(features, "--head", head)
    assert done.return_value == 2 and "nan%" not in done.output
    assert "a.mp4: the network's outputs for 4 of 4 clips are NaN or infinite" in done.stderr


def test_scores_that_are_not_finite_are_an_error():
    class Overflowing(Echo):
        def scores(self, rows):
            return super().scores(rows) * np.inf

    with pytest.raises(VideoError, match="scores are NaN or infinite") as caught:
        classify_clips(Overflowing(), "v.mp4", embeddings(ROWS))
    assert caught.value.kind == "not_finite"


def test_a_network_that_answers_nan_is_told(videos, monkeypatch):
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=3), device="cpu")
    judge = NetworkJudge(encoder)
    plain = encoder.engine.predict
    seen = []

    def predict(clips):
        found = plain(clips)
        found[0 if len(seen) == 0 else slice(None)] = np.nan
        seen.append(len(found))
        return found

    monkeypatch.setattr(encoder.engine, "predict", predict)
    paths = sorted(str(path) for path in videos.rglob("*.avi"))[:2]
    first, second = read_videos(judge, paths, workers=0)
    assert first.clips is not None and np.isfinite(first.clips.vectors).all()
    assert f"for 1 of {seen[0]} clips are NaN or infinite" in str(first.error)
    assert second.clips is None and second.error.kind == "not_finite"


def test_a_video_judged_by_some_of_its_clips_is_told_from_python(videos, monkeypatch):
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=3), device="cpu")
    judge = NetworkJudge(encoder)
    plain = encoder.engine.predict

    def predict(clips):
        found = plain(clips)
        found[0] = np.nan
        return found

    monkeypatch.setattr(encoder.engine, "predict", predict)
    video = min(videos.rglob("*.avi"))
    with pytest.warns(UserWarning, match=r"1 of 3 clips are NaN or infinite"):
        found = classify_video(judge, video)
    assert np.isfinite(found.scores).all()


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.floats(-9, 9, width=32),
    ),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf])),
        max_size=8,
    ),
)
def test_rows_that_are_no_numbers_are_left_out_wherever_they_are(rows, places):
    rows = rows.copy()
    for row, column, value in places:
        rows[row % len(rows), column % rows.shape[1]] = value
    good = np.isfinite(rows).all(axis=1)
    start = np.arange(len(rows), dtype=float)
    found = finite_clips(VideoRead("a.mp4", Embeddings(rows, start, start + 1)))
    if good.all():
        assert found.error is None
    else:
        assert found.error.kind == "not_finite"
        assert f"for {(~good).sum()} of {len(good)} clips" in str(found.error)
    if good.any():
        np.testing.assert_array_equal(found.clips.vectors, rows[good])
        np.testing.assert_array_equal(found.clips.start_seconds, start[good])
    else:
        assert found.clips is None
