"""Vectors that are NaN or infinite: left out, named, and never a feature file of nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.video_assets import render, x264
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import DataError, NothingDoneError
from vidfeat.extraction import steps as steps_module
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.store.reader import FeatureStore
from vidfeat.video.plan_choice import PlanChoice

OPTIONS = ExtractOptions(workers=0)


@pytest.fixture
def encoder() -> Encoder:
    return load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, count in enumerate((40, 9, 23, 30)):
        render(folder / f"v{number}.mp4", range(count), gop=12, options=x264())
    return folder


def spoil(encoder: Encoder, chosen: Callable[[int], bool], value: float = np.nan) -> None:
    """Make the network answer clips, numbered as they come, with something that is no number."""
    plain = encoder.engine.embed
    seen = 0

    def embed(clips: Any) -> Any:
        nonlocal seen
        vectors = plain(clips)
        for row in range(len(vectors)):
            if clips[row].any() and chosen(seen):
                vectors[row, (seen * 7) % vectors.shape[1]] = value
            seen += bool(clips[row].any())
        return vectors

    encoder.engine.embed = embed  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clips_per_part", [4, 8, 1000])
def test_bad_rows_are_left_out_and_named(
    encoder: Encoder,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    clips_per_part: int,
) -> None:
    extract(videos, tmp_path / "good.h5", encoder, options=OPTIONS)
    with FeatureStore(tmp_path / "good.h5") as good:
        counts = good.videos["count"].tolist()
        expected = good.read_rows(slice(0, None))
    ends = np.cumsum(counts).tolist()
    spoilt = {1, 2, 5, *range(ends[0], ends[1]), ends[3] - 1}
    monkeypatch.setattr(steps_module, "part_inputs", lambda *_: clips_per_part)
    spoil(encoder, lambda clip: clip in spoilt, value)
    told: list[str] = []
    report = extract(
        videos,
        tmp_path / "bad.h5",
        encoder,
        options=OPTIONS,
        on_failure=lambda failure: told.append(failure.path),
    )
    with FeatureStore(tmp_path / "bad.h5") as bad:
        kept = [row for row in range(ends[-1]) if row not in spoilt]
        found = bad.read_rows(slice(0, None))
        np.testing.assert_array_equal(found.vectors, expected.vectors[kept])
        np.testing.assert_array_equal(found.start_seconds, expected.start_seconds[kept])
        assert bad.paths == ["v0.mp4", "v2.mp4", "v3.mp4"]
        assert bad.videos["count"].tolist() == [counts[0] - 3, counts[2], counts[3] - 1]
        errors = {failure.path: failure for failure in bad.errors}
    assert list(errors) == told == ["v0.mp4", "v1.mp4", "v3.mp4"]
    assert {failure.kind for failure in errors.values()} == {"not_finite"}
    assert f"of 3 of {counts[0]} clips are NaN or infinite" in errors["v0.mp4"].message
    assert len(report.failures) == 3
    # a rerun reads nothing, says the same, and fails again
    again = extract(videos, tmp_path / "bad.h5", encoder, options=OPTIONS)
    assert [failure.path for failure in again.failures] == told
    assert again.videos_reused == 3


def test_a_file_of_nothing_but_nan_is_not_written(
    encoder: Encoder, videos: Path, tmp_path: Path
) -> None:
    spoil(encoder, lambda _: True)
    with pytest.raises(NothingDoneError, match=r"all 4 videos failed.*NaN or infinite"):
        extract(videos, tmp_path / "bad.h5", encoder, options=OPTIONS)
    assert not list(tmp_path.iterdir())


def test_the_command_ends_with_one(
    encoder: Encoder, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidfeat.cli import extract as cli_extract

    spoil(encoder, lambda clip: clip == 3)
    monkeypatch.setattr(cli_extract, "make_encoder", lambda *_, **__: encoder)
    done = CliRunner().invoke(
        cli_extract.command,
        [str(videos), "-o", str(tmp_path / "f.h5"), "--workers", "0"],
        standalone_mode=False,
    )
    assert done.exception is None and done.return_value == 1, done.output
    assert done.output.count("NaN or infinite") == 1


def test_float16_that_overflows_is_told(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    spoil(encoder, lambda clip: clip == 3, 1e6)
    options = ExtractOptions(workers=0, dtype="float16")
    report = extract(videos, tmp_path / "f.h5", encoder, options=options)
    assert [failure.kind for failure in report.failures] == ["not_finite"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_encode_raises_and_names_the_clip(encoder: Encoder, videos: Path, value: float) -> None:
    whole = encoder.encode(videos / "v0.mp4")
    spoil(encoder, lambda clip: clip == 3, value)
    with pytest.raises(DataError, match=r"NaN or infinite.*precision='fp32'") as caught:
        encoder.encode(videos / "v0.mp4")
    assert f"from {whole.start_seconds[3]:.3f} to" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_clips_that_are_encoded_directly_are_looked_at_too(encoder: Encoder, value: float) -> None:
    clips = np.random.default_rng(0).integers(1, 255, (6, *encoder.spec.clip_shape), np.uint8)
    good = encoder.encode_clips(clips)
    scores = encoder.predict_clips(clips)
    spoil(encoder, lambda clip: clip in (2, 5), value)
    with pytest.raises(DataError, match=r"vectors of 2 of 6 clips \(the first: number 2\).*fp32"):
        encoder.encode_clips(clips)
    plain = encoder.engine.predict
    encoder.engine.predict = lambda part: plain(part) * np.float32(value)  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"scores of 6 of 6 clips.*NaN or infinite"):
        encoder.predict_clips(clips)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(encoder.predict_clips(clips, require_finite=False)).any()
    assert np.isfinite(scores).all() and np.isfinite(good).all()
    assert len(encoder.encode_clips(clips[:0])) == 0
