"""The network that comes with vidfeat: there at once, named everywhere, and what its card says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.video_assets import render, x264
from vidfeat.cli.describe import describe
from vidfeat.encoders.load import encoder_from_description, load_encoder
from vidfeat.errors import UsageError
from vidfeat.pretrained import bundled
from vidfeat.training.recipes import get_recipe
from vidfeat.weights.load import load_weights


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    return render(path, range(40), gop=10, options=x264())


def vidfeat(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidfeat", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_folder_is_extracted_without_any_download(video: Path, tmp_path: Path) -> None:
    features = tmp_path / "features.h5"
    done = vidfeat("extract", video.parent, "-o", features, "--model", "bundled")
    assert done.returncode == 0, done.stderr
    assert "small bundled network" in done.stdout and "--model r2plus1d_18" in done.stdout
    described = describe(features)
    assert described["encoder"]["weights"] == "bundled"
    assert described["dimension"] == load_encoder("bundled").dimension


def test_a_description_makes_the_same_encoder_again(video: Path) -> None:
    encoder = load_encoder("bundled")
    assert encoder.spec.layers == bundled.LAYERS and encoder.spec.pool == bundled.POOLS
    again = encoder_from_description(json.loads(json.dumps(encoder.describe())))
    assert again.space_fingerprint == encoder.space_fingerprint
    assert again.encode(video).vectors.shape == (len(encoder.encode(video)), encoder.dimension)


def test_layers_and_pools_can_be_chosen() -> None:
    encoder = load_encoder("bundled", layers=["layer3", "layer4"], pool=["mean"])
    assert encoder.spec.layers == ("layer3", "layer4") and encoder.dimension == 64 + 128


def test_other_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="weights of its own"):
        load_encoder("bundled", "random")


def test_its_weights_have_the_recipe_s_form() -> None:
    recipe = get_recipe("bundled")
    loaded = load_weights(None, "bundled")
    assert loaded.model == recipe.model.name and loaded.name == "bundled"
    assert loaded.plan is not None and loaded.plan.frames == recipe.data.frames
    assert loaded.preprocess is not None
    assert loaded.preprocess.crop == (bundled.INPUT_SIZE, bundled.INPUT_SIZE)
    assert recipe.data.crop == bundled.INPUT_SIZE


def test_it_is_small_and_has_a_card() -> None:
    assert bundled.WEIGHTS_FILE.stat().st_size <= 6_000_000
    card = bundled.card()
    assert {"trained_on", "input", "training", "good_for", "not_good_for", "figures"} <= set(card)
    shown = vidfeat("info", "bundled")
    assert shown.returncode == 0 and "trained_on" in shown.stdout
    described = json.loads(vidfeat("info", "bundled", "--json").stdout)
    assert described["sha256_of_tensors"] == card["sha256_of_tensors"]


def test_models_name_it() -> None:
    rows = json.loads(vidfeat("models", "--json").stdout)
    own = next(row for row in rows if row["name"] == "bundled")
    assert own["embedding_size"] == load_encoder("bundled").dimension
