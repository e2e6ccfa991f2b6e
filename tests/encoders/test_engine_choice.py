"""Which engine a job of many clips takes where nobody has said."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.video_assets import render, x264
from vidfeat.cli import cli
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.factored import winograd_pays
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import UsageError
from vidfeat.extraction import engine_choice
from vidfeat.extraction.engine_choice import clips_at_least, engine_begun, with_quickest_engine
from vidfeat.extraction.run import extract
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice

MODEL = "r3d_10_w16"  # which torch does not run clip by clip
PLAN = PlanChoice(frames=4)
MANY = 1 << 40

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL, "random", plan=PLAN, device="cpu")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for i in range(3):
        render(folder / f"{i}.mp4", range(20), gop=12, options=x264())
    return folder


def test_clips_are_counted_low(encoder: Encoder, videos: Path) -> None:
    listing = list_videos([videos])
    assert clips_at_least(listing, encoder) == 3
    ten = load_encoder(MODEL, "random", plan=PlanChoice(frames=4, clips=10), device="cpu")
    assert clips_at_least(listing, ten) == 30


@needs_openvino
def test_many_clips_take_openvino(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice.platform, "machine", lambda: "x86_64")
    assert with_quickest_engine(encoder, 10) is encoder
    quick = with_quickest_engine(encoder, MANY)
    assert quick.engine.name == "openvino"
    assert quick.space_fingerprint == encoder.space_fingerprint
    monkeypatch.setattr(engine_choice.platform, "machine", lambda: "riscv64")
    assert with_quickest_engine(encoder, MANY) is encoder


@needs_openvino
@pytest.mark.skipif(not winograd_pays(), reason="no quicker way under torch on this processor")
def test_what_torch_runs_clip_by_clip_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice.platform, "machine", lambda: "x86_64")
    quick = load_encoder("r2plus1d_10_w16", "random", plan=PLAN, device="cpu")
    assert with_quickest_engine(quick, MANY) is quick


def test_without_openvino_torch_stays(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice.importlib.util, "find_spec", lambda name: None)
    assert with_quickest_engine(encoder, MANY) is encoder


def test_what_openvino_cannot_run_stays(encoder: Encoder) -> None:
    compiled = load_encoder(MODEL, "random", plan=PLAN, device="cpu", compiled=True)
    assert with_quickest_engine(compiled, MANY) is compiled
    half = load_encoder(MODEL, "random", plan=PLAN, device="cpu", precision="bf16")
    assert with_quickest_engine(half, MANY) is half


@needs_openvino
def test_an_output_goes_on_with_its_engine(
    encoder: Encoder, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice.platform, "machine", lambda: "x86_64")
    output = tmp_path / "f.h5"
    assert engine_begun(output) is None
    extract(videos, output, encoder)
    assert engine_begun(output) == "torch"
    assert with_quickest_engine(encoder, MANY, output) is encoder
    other = tmp_path / "o.h5"
    extract(videos, other, with_quickest_engine(encoder, MANY, other))
    assert engine_begun(other) == "openvino"
    assert with_quickest_engine(encoder, 1, other).engine.name == "openvino"


@needs_openvino
def test_the_command_takes_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "PAYS_FROM_SECONDS", 0.0)
    monkeypatch.setattr(engine_choice.platform, "machine", lambda: "x86_64")
    command = ("extract", videos, "--model", MODEL, "--weights", "random", "--clip-frames", "4")
    for output, engine, more in (
        ("a.h5", "openvino", ()),
        ("b.h5", "torch", ("--engine", "torch")),
        ("b.h5", "torch", ()),
        ("b.h5", "openvino", ("--overwrite",)),
    ):
        arguments = [*command, *more, "-o", tmp_path / output]
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        assert engine_begun(tmp_path / output) == engine, (output, more)


@pytest.mark.parametrize(
    ("begun", "asked", "on_gpu", "expected"),
    [
        ({}, None, True, (None, None)),
        ({}, "bf16", True, ("bf16", None)),
        ({"precision": "fp16", "engine": "torch", "device": "cuda"}, None, True, ("fp16", None)),
        ({"precision": "fp32", "engine": "torch", "device": "cpu"}, None, True, ("fp32", None)),
        ({"precision": "fp32", "engine": "torch"}, None, False, ("fp32", None)),
        ({"precision": "fp32", "engine": "torch"}, "tf32", True, ("tf32", "fp32")),
        ({"precision": "fp32", "engine": "torch"}, None, True, None),
        ({"precision": "fp32", "engine": "torch"}, "fp32", True, None),
        ({"precision": "int8", "engine": "openvino"}, None, True, ("int8", None)),
    ],
)
def test_an_output_keeps_its_precision(
    monkeypatch: pytest.MonkeyPatch,
    begun: dict[str, str],
    asked: str | None,
    on_gpu: bool,
    expected: tuple[str | None, str | None] | None,
) -> None:
    monkeypatch.setattr(engine_choice, "described", lambda output: begun)
    if expected is None:
        with pytest.raises(UsageError, match=r"TF32.*precision tf32"):
            engine_choice.precision_begun("f.h5", asked, on_gpu=on_gpu)  # type: ignore[arg-type]
        return
    assert engine_choice.precision_begun("f.h5", asked, on_gpu=on_gpu) == expected  # type: ignore[arg-type]
