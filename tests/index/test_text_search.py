"""Search by text: scores as the library that a network is from gives them, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vidfeat
from tests.support.index_fixtures import write_features
from tests.support.short_videos import write_short_videos
from tests.support.text_networks import NETWORKS, Frames, TextNetwork
from vidfeat.cli import cli
from vidfeat.encoders.phrases import has_text
from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import DataError, FingerprintError, UsageError
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.index.text_query import takes_text
from vidfeat.video.plan_choice import PlanChoice

pytest.importorskip("transformers")
pytest.importorskip("open_clip")

PHRASES = ("a man jumps over a fence", "Two people fight", "rain")
HOP = 9


@pytest.fixture(scope="module")
def videos(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Frames]]:
    folder = tmp_path_factory.mktemp("short")
    made = write_short_videos(shared_data / "videos", folder)
    return folder, {f"{Path(name).stem}.mp4": frames for name, frames in made.items()}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextNetwork]:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("networks")
    return {name: make(place / name) for name, make in NETWORKS.items()}


@pytest.fixture(scope="module")
def indexes(
    networks: dict[str, TextNetwork],
    videos: tuple[Path, dict[str, Frames]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    place, made = tmp_path_factory.mktemp("indexes"), {}
    for name, network in networks.items():
        plan = PlanChoice(frames=network.frames, stride=1, fps="native", hop_frames=HOP)
        encoder = vidfeat.load_encoder(network.model, plan=plan, device="cpu")
        vidfeat.extract(
            videos[0], place / f"{name}.h5", encoder, options=vidfeat.ExtractOptions(workers=0)
        )
        VideoIndex.build(place / f"{name}.h5", place / name)
        made[name] = place / name
    return made


def expected(
    network: TextNetwork, videos: dict[str, Frames], phrases: Sequence[str]
) -> dict[str, np.ndarray]:
    """Cosines (clips, phrases) of each video by the library's own code."""
    starts = range(0, 32 - network.frames + 1, HOP)
    return {
        path: np.stack(
            [network.by_hand(frames[at : at + network.frames], phrases) for at in starts]
        )
        for path, frames in videos.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_library(
    name: str,
    networks: dict[str, TextNetwork],
    indexes: dict[str, Path],
    videos: tuple[Path, dict[str, Frames]],
) -> None:
    index, by_hand = VideoIndex(indexes[name]), expected(networks[name], videos[1], PHRASES)
    assert takes_text(index)
    for number, phrase in enumerate(PHRASES):
        found = {match.video: match for match in index.search(index.text_query(phrase), k=2)}
        for path, cosines in by_hand.items():
            best = int(cosines[:, number].argmax())
            assert found[path].score == pytest.approx(cosines[best, number], abs=1e-4)
            assert found[path].start_seconds == pytest.approx(best * HOP / 25, abs=1e-6)
    assert index._texts is not None
    assert index._texts.scale == pytest.approx(networks[name].scale, rel=1e-5)


def test_the_encoder_embeds_phrases_too(
    networks: dict[str, TextNetwork], indexes: dict[str, Path]
) -> None:
    encoder = vidfeat.load_encoder(networks["clip"].model, device="cpu")
    vectors = encoder.encode_text(["rain", "  a   man jumps over a fence "])
    assert vectors.shape == (2, 24)
    index = VideoIndex(indexes["clip"])
    stored = index.text_query(PHRASES[0]).vectors[0]
    np.testing.assert_allclose(vectors[1] / np.linalg.norm(vectors[1]), stored, atol=1e-6)
    with pytest.raises(UsageError, match="one string"):
        encoder.encode_text("rain")
    with pytest.raises(UsageError, match="a phrase is empty"):
        encoder.encode_text(["rain", " "])
    assert encoder.encode_text([]).shape == (0, 24)


# --- what has no texts ---------------------------------------------------------------------------


def test_networks_with_a_text_tower_are_named(tmp_path: Path) -> None:
    index = VideoIndex.build(write_features(tmp_path / "f.h5", 3), tmp_path / "INDEX")
    assert not takes_text(index)
    with pytest.raises(UsageError) as caught:
        index.text_query("a dog")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("r2plus1d_18 has no text tower", "pe_core_s", "siglip2_b", "open_clip:", "X-CLIP"):
        assert part in message
    with pytest.raises(UsageError, match="has no text tower"):
        vidfeat.load_encoder("r2plus1d_10_w16", "random").encode_text(["a dog"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": ["cls"]}, "are not its projection"),
        ({"pool": ["projection", "cls"]}, "are not its projection"),
        ({"aggregate": "max"}, "not joined by their mean"),
        ({"aggregate": "mean_std"}, "not joined by their mean"),
    ],
)
def test_vectors_beside_the_space_of_texts(
    options: dict[str, object], message: str, networks: dict[str, TextNetwork]
) -> None:
    encoder = vidfeat.load_encoder(networks["clip"].model, device="cpu", **options)
    assert not has_text(encoder.describe())
    with pytest.raises(UsageError, match=message):
        encoder.encode_text(["rain"])


@pytest.mark.parametrize("option", ["center", "whiten"])
def test_a_centred_index_is_refused(option: str, indexes: dict[str, Path], tmp_path: Path) -> None:
    features = indexes["clip"].with_suffix(".h5")
    index = VideoIndex.build(features, tmp_path / "INDEX", **{option: True})
    assert not takes_text(index)
    with pytest.raises(UsageError, match="no longer in the space of texts"):
        index.text_query("rain")


def test_another_text_tower_is_refused(
    networks: dict[str, TextNetwork], indexes: dict[str, Path]
) -> None:
    index = VideoIndex(indexes["clip"])
    description = index.head.encoder
    elsewhere = networks["siglip2"].model.removeprefix("hf:")
    texts = TextEncoder(description, index.space_fingerprint, weights=elsewhere)
    with pytest.raises(FingerprintError, match="differ"):
        texts.encode(["a new phrase"])
    other = VideoIndex(indexes["siglip2"])
    with pytest.raises(FingerprintError, match="another encoder"):
        index.text_query("rain", TextEncoder(other.head.encoder, other.space_fingerprint))
    with pytest.raises(FingerprintError, match="describes an encoder of space"):
        TextEncoder({**description, "weights_sha256": "0"}, index.space_fingerprint)


def test_a_network_saved_without_its_tokenizer(
    networks: dict[str, TextNetwork], indexes: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    shutil.copytree(networks["clip"].model.removeprefix("hf:"), folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    index = VideoIndex(indexes["clip"])
    texts = TextEncoder(index.head.encoder, index.space_fingerprint, weights=folder)
    with pytest.raises(UsageError, match="without its tokenizer"):
        texts.encode(["rain"])


# --- the cache -----------------------------------------------------------------------------------


class CountingTower:
    """Counts what it is asked."""

    scale = 50.0

    def __init__(self, dimension: int = 24) -> None:
        self.dimension = dimension
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        seeds = [sum(map(ord, text)) for text in texts]
        rows = [np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds]
        return np.asarray(rows, dtype=np.float32)


def test_phrases_are_encoded_once(indexes: dict[str, Path], tmp_path: Path) -> None:
    head = VideoIndex(indexes["clip"]).head
    towers = [CountingTower(), CountingTower(), CountingTower()]
    texts = [
        TextEncoder(head.encoder, head.space_fingerprint, tower=tower, cache=tmp_path / "texts")
        for tower in towers
    ]
    first = texts[0].encode(["b", "a", "b"])
    assert towers[0].asked == ["b", "a"]
    np.testing.assert_array_equal(texts[1].encode(["a", "b"]), first[[1, 0]])
    assert texts[1].scale == texts[0].scale == 50.0
    assert not towers[1].asked
    # What is damaged or cut counts as absent, and is made again.
    for number, file in enumerate(sorted((tmp_path / "texts").iterdir())):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if number % 2 else data[:-40] + bytes(40))
    np.testing.assert_array_equal(texts[2].encode(["a", "b"]), first[[1, 0]])
    assert sorted(towers[2].asked) == ["a", "b"]
    assert not [file for file in (tmp_path / "texts").iterdir() if ".writing-" in file.name]


def test_a_known_phrase_loads_no_network(indexes: dict[str, Path]) -> None:
    index = VideoIndex(indexes["clip"])
    wanted = index.search(index.text_query("rain"), 1)[0]
    code = """
import sys
from vidfeat.index import VideoIndex
index = VideoIndex(sys.argv[1])
match = index.search(index.text_query("rain"), 1)[0]
assert "torch" not in sys.modules and "transformers" not in sys.modules
print(match.video, round(match.score, 5))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, indexes["clip"]], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [wanted.video, str(round(wanted.score, 5))], done.stderr


def test_a_folder_that_changed_is_another_text_tower(
    networks: dict[str, TextNetwork], indexes: dict[str, Path], tmp_path: Path
) -> None:
    """The fingerprint covers the tensors of the clips alone."""
    folder = tmp_path / "network"
    shutil.copytree(networks["clip"].model.removeprefix("hf:"), folder)
    head = VideoIndex(indexes["clip"]).head

    def encode() -> np.ndarray:
        texts = TextEncoder(
            head.encoder, head.space_fingerprint, weights=folder, cache=tmp_path / "texts"
        )
        return texts.encode(["rain"])

    before = encode()
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["text_projection.weight"] *= -1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(encode(), -before, rtol=1e-4)


def test_a_cache_that_cannot_be_written(indexes: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("a file stands here")
    head = VideoIndex(indexes["clip"]).head
    tower = CountingTower()
    texts = TextEncoder(head.encoder, head.space_fingerprint, tower=tower, cache=tmp_path / "texts")
    assert texts.encode(["a"]).shape == (1, 24)
    assert texts.encode(["a"]).shape == (1, 24)


def test_damaged_towers(indexes: dict[str, Path], tmp_path: Path) -> None:
    head = VideoIndex(indexes["clip"]).head

    class Broken(CountingTower):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return super().encode(texts) * np.nan

    for tower, message in ((Broken(), "NaN"), (CountingTower(16), r"shape \(1, 16\)")):
        texts = TextEncoder(
            head.encoder, head.space_fingerprint, tower=tower, cache=tmp_path / "texts"
        )
        with pytest.raises(DataError, match=message):
            texts.encode(["a"])


# --- the command line ----------------------------------------------------------------------------


def run(*words: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.output if status else done.stdout


def test_search_by_text(
    indexes: dict[str, Path],
    networks: dict[str, TextNetwork],
    videos: tuple[Path, dict[str, Frames]],
    tmp_path: Path,
) -> None:
    index, page = indexes["clip"], tmp_path / "page.html"
    words = ["search", index, "--text", PHRASES[0], "--text", PHRASES[1], "--json"]
    rows = json.loads(run(*words, "--html", page))
    by_hand = expected(networks["clip"], videos[1], PHRASES)
    assert [row["query"] for row in rows] == [PHRASES[0]] * 2 + [PHRASES[1]] * 2
    for row in rows:
        best = by_hand[row["video"]][:, PHRASES.index(row["query"])].max()
        assert row["score"] == pytest.approx(best, abs=1e-4)
    text = page.read_text()
    assert text.count("<section>") == 2
    assert text.count("<q>") == 2
    first = text.index(f"<q>{PHRASES[0]}</q>")
    assert first < text.index("<ol>") < text.index(f"<q>{PHRASES[1]}</q>")
    table = run("search", index, "--text", "rain", "--not-text", "sun", "-k", 1)
    assert len(table.splitlines()) == 2
    assert "--text" in run("search", index, status=2)


def test_a_phrase_beside_a_clip(indexes: dict[str, Path]) -> None:
    """Both spread alike over the index, so that neither decides alone."""
    index = VideoIndex(indexes["clip"])
    source = QuerySource(index)
    phrase, clip = source.of_text("rain"), index.query(index.paths[0], 0, 0.2)
    (both,) = index.combined([phrase, clip], together=True)
    background = index.searcher.background
    spreads = [(background @ one.vectors.mean(axis=0)).std() for one in (phrase, clip)]
    direction = clip.vectors.mean(axis=0) / np.linalg.norm(clip.vectors.mean(axis=0))
    spreads[1] = (background @ direction).std()
    wanted = (phrase.vectors[0] * spreads[1] / spreads[0] + direction) / 2
    np.testing.assert_allclose(both.vectors[0] * both.scale, wanted, atol=1e-5)
    assert replace(both).video_ids == [0]
