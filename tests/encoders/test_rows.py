"""Rows of time steps and of crops: in the feature file, and through all that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import vidfeat
from tests.support.odd_videos import scene, write_video
from vidfeat.cli import cli
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import encoder_from_description, load_encoder
from vidfeat.encoders.rows import RowLayout
from vidfeat.encoders.sources import code_trust
from vidfeat.errors import StoppedError, UsageError
from vidfeat.extraction import steps as steps_module
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.extraction.stopping import Stop
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.preprocess import Preprocess

INLINE = ExtractOptions(workers=0)
SMALL = Preprocess(16, (16, 16), antialias=True, resampler="pillow")
PLAN = vidfeat.ClipPlan(8, hop_frames=8)


class Clips(nn.Module):
    """A map of four time steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Conv3d(3, 5, (2, 8, 8), (2, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def encoder_of(**options: Any) -> Encoder:
    return vidfeat.Encoder.from_module(
        Clips(), input=SMALL, plan=PLAN, device="cpu", batch_size=4, **options
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("videos")
    for number, count in enumerate((24, 8, 40)):
        write_video(folder / f"{number}.mp4", scene(count, seed=number), rate=10)
    return folder


def stored(videos: Path, output: Path, encoder: Encoder) -> vidfeat.FeatureStore:
    extract(videos, output, encoder, options=INLINE)
    return vidfeat.FeatureStore(output)


def test_time_steps_are_rows_with_their_own_seconds(videos: Path, tmp_path: Path) -> None:
    with (
        stored(videos, tmp_path / "mean.h5", encoder_of()) as whole,
        stored(videos, tmp_path / "time.h5", encoder_of(pool=["time"])) as steps,
    ):
        assert (steps.num_clips, steps.dimension) == (4 * whole.num_clips, 5)
        for path in whole.paths:
            one, four = whole.read(path), steps.read(path)
            assert np.allclose(four.vectors.reshape(-1, 4, 5).mean(axis=1), one.vectors, atol=1e-6)
            assert np.allclose(np.diff(four.start_seconds), 0.2)
            assert np.allclose(four.end_seconds - four.start_seconds, 0.2)
            assert np.allclose(four.start_seconds[::4], one.start_seconds)
            assert np.allclose(four.end_seconds[3::4], one.end_seconds)
        assert steps.encoder["time_steps"] == 4
        assert steps.space_fingerprint != whole.space_fingerprint


def test_time_and_crops_together_in_order(videos: Path, tmp_path: Path) -> None:
    path = videos / "0.mp4"
    alone = [encoder_of(pool=["time"], crops=3, average_crops=average) for average in (False, True)]
    rows, mean = (encoder.encode(path) for encoder in alone)
    centre = encoder_of(pool=["time"]).encode(path)
    each = rows.vectors.reshape(-1, 3, 5)
    assert np.allclose(each[:, 1], centre.vectors, atol=1e-6)
    assert np.allclose(each.mean(axis=1), mean.vectors, atol=1e-6)
    assert not np.allclose(each[:, 0], each[:, 1], atol=1e-4)
    assert np.array_equal(rows.start_seconds.reshape(-1, 3)[:, 2], centre.start_seconds)
    for encoder, expected in zip(alone, (rows, mean), strict=True):
        name = f"{encoder.spec.average_crops}.h5"
        with stored(videos, tmp_path / name, encoder) as store:
            assert np.allclose(store.read(path.name).vectors, expected.vectors, atol=1e-6)
            assert store.encoder["preprocess"]["crops"] == 3
            assert store.encoder.get("average_crops", False) == encoder.spec.average_crops


def test_crops_are_part_of_the_run_and_not_of_the_space() -> None:
    one, three, mean = encoder_of(), encoder_of(crops=3), encoder_of(crops=3, average_crops=True)
    assert len({encoder.run_fingerprint for encoder in (one, three, mean)}) == 3
    assert len({encoder.space_fingerprint for encoder in (one, three, mean)}) == 1
    with pytest.raises(UsageError, match="average_crops averages over crops"):
        encoder_of(average_crops=True)


class StopAfter(Stop):
    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def asked(self) -> bool:
        self.looks -= 1
        if self.looks <= 0:
            self.ask()
        return super().asked


def test_a_run_goes_on_behind_the_last_whole_clip(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "part_inputs", lambda *_: 12)  # of three crops, four clips
    encoder = encoder_of(pool=["time"], crops=3)
    with stored(videos, tmp_path / "whole.h5", encoder) as whole:
        expected = whole.read_vectors(slice(0, whole.num_clips))
    for looks in (3, 9):
        output = tmp_path / f"{looks}.h5"
        with pytest.raises(StoppedError):
            extract(videos, output, encoder, options=INLINE, stop=StopAfter(looks))
        report = extract(videos, output, encoder, options=INLINE)
        assert report.clips_lost == 0
        assert 0 < report.clips_encoded < 9
        with vidfeat.FeatureStore(output) as store:
            found = store.read_vectors(slice(0, store.num_clips))
        assert np.array_equal(found, expected)


def test_networks_of_vidfeat_keep_their_time_steps() -> None:
    encoder = load_encoder(
        "r2plus1d_10_w16",
        "random",
        plan=PlanChoice(frames=8),
        layers=["layer2"],
        pool=["time"],
        device="cpu",
    )
    assert encoder.spec.time_steps == 4
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 112, 112, 3), np.uint8)
    steps = encoder.encode_clips(clips).reshape(2, 4, -1)
    again = encoder_from_description(encoder.describe(), device="cpu")
    assert again.spec == encoder.spec
    mean = load_encoder(
        "r2plus1d_10_w16", "random", plan=PlanChoice(frames=8), layers=["layer2"], device="cpu"
    ).encode_clips(clips)
    assert np.allclose(steps.mean(axis=1), mean, rtol=1e-4, atol=1e-5)


def test_pooling_over_time_that_cannot_be_meant() -> None:
    class Vectors(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3, 4))

    make = vidfeat.Encoder.from_module
    with pytest.raises(UsageError, match="one vector for the whole clip"):
        make(Vectors(), input=SMALL, plan=PLAN, pool=["time"], device="cpu")
    with pytest.raises(UsageError, match="cannot be combined"):
        encoder_of(pool=["mean", "time"])
    with pytest.raises(UsageError, match="give aggregate none"):
        make(nn.Flatten(), input=SMALL, plan=PLAN, modality="frame", pool=["time"], device="cpu")


def test_every_reader_takes_them(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head, an index, an export and a search with a new video, on rows of steps and crops."""
    monkeypatch.setattr(code_trust, "record_file", lambda: tmp_path / "own_networks.json")
    file, output, labels = tmp_path / "net.py", tmp_path / "f.h5", tmp_path / "labels.csv"
    file.write_text(
        "import torch, vidfeat\n"
        "def build():\n"
        "    torch.manual_seed(1)\n"
        "    net = torch.nn.Conv3d(3, 5, (2, 8, 8), (2, 8, 8))\n"
        "    frames = vidfeat.Preprocess(16, (16, 16), antialias=True, resampler='pillow')\n"
        "    plan = vidfeat.ClipPlan(8, hop_frames=8)\n"
        "    return vidfeat.Encoder.from_module(net, input=frames, plan=plan)\n"
    )
    labels.write_text("path,label\n0.mp4,a\n1.mp4,b\n2.mp4,b\n")

    def run(*arguments: str | Path) -> str:
        told = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert told.exit_code == 0, told.output
        return told.output

    model = ["--model", f"{file}:build", "--pool", "time", "--crops", "3", "--device", "cpu"]
    run("extract", videos, "-o", output, *model, "--workers", "0")
    assert "4 time steps, each of 3 crops" in run("info", output)
    with vidfeat.FeatureStore(output) as store:
        assert store.num_clips == 9 * 4 * 3
    run("export-features", output, "--npy-per-video", tmp_path / "npy")
    assert np.load(tmp_path / "npy" / "0.npy").shape == (3 * 4 * 3, 5)
    run(
        "finetune",
        output,
        "--labels",
        labels,
        "-o",
        tmp_path / "head",
        "--test-share",
        "0",
        "--param",
        "C=0.1",
    )
    told = run("classify", "--head", tmp_path / "head", videos / "0.mp4", "--workers", "0")
    assert "0.mp4" in told
    run("index", output, "-o", tmp_path / "index")
    told = run("search", tmp_path / "index", videos / "0.mp4", "--device", "cpu")
    assert "0.mp4" in told


@pytest.mark.parametrize("aggregate", ["mean", "mean_std", "max"])
def test_a_layout_says_what_its_rows_are(aggregate: Any) -> None:
    rng = np.random.default_rng(0)
    frames_TVO = rng.normal(size=(6, 3, 4)).astype(np.float32)
    index = np.array([[0, 2, 4], [1, 3, 5]])
    layout = RowLayout(aggregate, crops=3)
    rows = layout.of_frames(frames_TVO.reshape(-1, 4), index).reshape(2, 3, -1)
    how = {"mean": np.mean, "max": np.max}.get(aggregate, np.mean)
    picked = frames_TVO[index]  # clips, frames, crops
    expected = how(picked, axis=1)
    if aggregate == "mean_std":
        expected = np.concatenate([expected, picked.std(axis=1)], axis=-1)
    assert np.allclose(rows, expected, atol=1e-6)
    assert layout.of_frames(frames_TVO.reshape(-1, 4)[:0], index[:0]).shape == (
        0,
        layout.width_of_frames(4),
    )
