"""Classes by their names, as the network's own library scores them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vidfeat
from tests.support.index_fixtures import write_features
from tests.support.short_videos import write_short_videos
from tests.support.text_networks import Frames, TextNetwork, clip
from vidfeat.cli import cli
from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import DataError, UsageError
from vidfeat.heads.zero_shot import TEMPLATES, check_templates, prompt_head, read_prompts
from vidfeat.video.plan_choice import PlanChoice

pytest.importorskip("transformers")

LABELS = ("dribbling a ball", "waving", "fencing")
HOP = 9


@pytest.fixture(scope="module")
def videos(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Frames]]:
    folder = tmp_path_factory.mktemp("short")
    made = write_short_videos(shared_data / "videos", folder)
    return folder, {f"{Path(name).stem}.mp4": frames for name, frames in made.items()}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TextNetwork:
    torch.set_num_threads(1)
    return clip(tmp_path_factory.mktemp("network") / "clip")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in LABELS))
    return path


def run(*words: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.output if status else done.stdout


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()


PLAN = ("--clip-frames", 1, "--hop-frames", HOP, "--fps", "native")


def test_one_clip_gets_the_probabilities_of_the_library(
    network: TextNetwork, videos: tuple[Path, dict[str, Frames]], labels: Path
) -> None:
    """Each segment of the time line holds one clip, of one frame."""
    words = [videos[0], "--prompts", labels, "--model", network.model, *PLAN, "--workers", 0]
    words += ["--template", "{}", "--every-seconds", HOP / 25, "-k", 3, "--json"]
    found = json.loads(run("classify", *words))
    checked = 0
    for video in found:
        frames = videos[1][Path(video["path"]).name]
        for segment in video["segments"]:
            if segment["end_seconds"] - segment["start_seconds"] > 1.01 * HOP / 25:
                continue  # a short rest belongs to the segment before it: two clips
            number = round(segment["start_seconds"] * 25 / HOP)
            checked += 1
            wanted = softmax(
                network.scale * network.by_hand([frames[min(number * HOP, 31)]], LABELS)
            )
            scores = {one["label"]: one["score"] for one in segment["predictions"]}
            np.testing.assert_allclose([scores[label] for label in LABELS], wanted, atol=1e-4)
    assert checked >= 2 * len(found)


def test_stored_features_templates_and_outputs(
    network: TextNetwork, videos: tuple[Path, dict[str, Frames]], labels: Path, tmp_path: Path
) -> None:
    plan = PlanChoice(frames=1, fps="native", hop_frames=HOP)
    encoder = vidfeat.load_encoder(network.model, plan=plan, device="cpu")
    features = tmp_path / "f.h5"
    vidfeat.extract(videos[0], features, encoder, options=vidfeat.ExtractOptions(workers=0))
    templates = ["a video of {}.", "{} in the rain"]
    words = [features, "--prompts", labels, "--scores", tmp_path / "s.h5", "-k", 3, "--json"]
    words += [word for template in templates for word in ("--template", template)]
    found = json.loads(run("classify", *words))
    assert (tmp_path / "s.h5").is_file()
    store = vidfeat.FeatureStore(features)
    for video in found:
        mean = store.read(video["path"]).vectors.mean(axis=0, dtype=np.float64)
        mean /= np.linalg.norm(mean)
        classes = []
        for label in LABELS:
            rows = encoder.encode_text([one.replace("{}", label) for one in templates])
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            classes.append(rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)))
        wanted = softmax(network.scale * np.array(classes) @ mean)
        scores = {one["label"]: one["score"] for one in video["predictions"]}
        np.testing.assert_allclose([scores[label] for label in LABELS], wanted, atol=1e-4)
    table = run("classify", features, "--prompts", labels, "--every-seconds", 0.5)
    assert " to " in table
    texts = TextEncoder(store.encoder, store.space_fingerprint)
    head = prompt_head(LABELS, texts, run_fingerprint=store.run_fingerprint)
    head.save(tmp_path / "head")
    again = vidfeat.Head.load(tmp_path / "head")
    assert again.training["templates"] == list(TEMPLATES)
    vectors = store.read(found[0]["path"]).vectors
    np.testing.assert_allclose(again.scores(vectors), head.scores(vectors))
    store.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names 0 classes"),
        ("dog\n\n", "names 1 class"),
        ("dog\ncat\ndog\n", "line 3: 'dog' is already in line 1"),
        ("path,label\na.mp4,dog\n", "a table of labelled videos"),
    ],
)
def test_lists_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / "labels.txt")


def test_lists_as_editors_write_them(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(
        b"\xef\xbb\xbf jumping  rope \r\n\r\nd\xc3\xa9j\xc3\xa0\r\n"
    )
    assert read_prompts(tmp_path / "labels.txt") == ("jumping rope", "déjà")
    assert check_templates([]) == TEMPLATES
    with pytest.raises(UsageError, match="has 0 places"):
        check_templates(["a video"])


def test_what_cannot_be_classified_so(labels: Path, tmp_path: Path) -> None:
    plain = write_features(tmp_path / "plain.h5", 2)

    def refused(*words: object) -> str:
        done = CliRunner().invoke(cli, ["classify", *(str(word) for word in words)])
        assert done.exit_code != 0
        return f"{done.output} {done.exception}"

    message = refused(plain, "--prompts", labels)
    assert "r2plus1d_18 has no text tower" in message
    assert "pe_core_s" in message
    assert "exclude each other" in refused(plain, "--prompts", labels, "--head", "h")
    assert "goes with --prompts" in refused(plain, "--template", "{}", "--head", "h")
    assert "has 2 places" in refused(plain, "--prompts", labels, "--template", "{} {}")
    assert "--prompts" in refused(plain)
