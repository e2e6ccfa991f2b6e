"""`vidfeat extract` with networks of transformers against their own processors and models.

Each network is a small one with random tensors, saved in the published format. Their vectors are
nearly parallel, so the mean over all clips is subtracted before they are compared.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import vidfeat
from tests.support.tiny_networks import CASES, Frames
from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.int8.quantize import CalibrationOptions, quantise
from vidfeat.encoders.load import encoder_from_description
from vidfeat.encoders.sources import hf
from vidfeat.errors import FingerprintError, UsageError, WeightsError
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice

pytest.importorskip("transformers")

BOUND = 1e-3
HOP = 9


@dataclass
class Job:
    """A family's network, its clips, and what its own code makes of them."""

    folder: Path
    model: Any
    processor: Any
    clips: list[Frames]
    expected: np.ndarray

    @cached_property
    def encoder(self) -> vidfeat.Encoder:
        return load(self)


@pytest.fixture(scope="module")
def jobs(
    videos: tuple[Path, list[Frames]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Job]:
    torch.set_num_threads(1)
    made: dict[str, Job] = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        model, processor = case.save(folder)
        length = case.clip_frames or 5
        starts = range(0, 32 - length + 1, HOP)
        clips = [frames[at : at + length] for frames in videos[1] for at in starts]
        with torch.inference_mode():
            vectors = [case.by_hand(model, processor, clip)[0].numpy() for clip in clips]
        made[name] = Job(folder, model, processor, clips, np.stack(vectors))
    return made


def load(job: Job, **options: Any) -> vidfeat.Encoder:
    plan = PlanChoice(frames=len(job.clips[0]), stride=1, fps="native", hop_frames=HOP)
    return vidfeat.load_encoder(f"hf:{job.folder}", plan=plan, device="cpu", **options)


def errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative error of each clip after the mean over all clips is subtracted."""
    mean = expected.mean(axis=0)
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected - mean, axis=1)


@pytest.mark.parametrize("name", CASES)
def test_extract(
    name: str, jobs: dict[str, Job], videos: tuple[Path, list[Frames]], tmp_path: Path
) -> None:
    job, output = jobs[name], tmp_path / "features.h5"
    options = vidfeat.ExtractOptions(workers=0)
    report = vidfeat.extract(videos[0], output, job.encoder, options=options)
    assert not report.failures
    with vidfeat.FeatureStore(output) as store:
        found = np.concatenate([store.read(path).vectors for path in store.paths])
    assert found.shape == job.expected.shape
    assert errors(found, job.expected).max() <= BOUND


@pytest.mark.parametrize("how", ["antialias", "crop", "bgr", "order"])
@pytest.mark.parametrize("name", CASES)
def test_the_comparison_would_notice(name: str, how: str, jobs: dict[str, Job]) -> None:
    """The same clips through the encoder, with one thing wrong in each."""
    if how == "order" and CASES[name].clip_frames is None:
        pytest.skip("the mean over frames is blind to their order")
    job = jobs[name]
    encoder = job.encoder
    wrong, preprocess = job.clips, encoder.preprocess
    if how == "antialias":
        preprocess = replace(preprocess, antialias=False)
    elif how == "bgr":
        wrong = [[np.ascontiguousarray(frame[..., ::-1]) for frame in clip] for clip in wrong]
    elif how == "order":
        wrong = [[clip[1], clip[0], *clip[2:]] for clip in wrong]
    prepared = FramePreprocessor(preprocess)
    arrays = [prepared.frames(np.stack(clip)) for clip in wrong]
    if how == "crop":
        arrays = [np.roll(array, 1, axis=2) for array in arrays]
    run = encoder.engine.embed
    found = np.concatenate([run(array[None]) for array in arrays])
    assert errors(found, job.expected).max() > 3 * BOUND


# --- what else comes with them -------------------------------------------------------------------


def test_the_plan_and_the_licence_come_from_the_repository(
    jobs: dict[str, Job], tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    shutil.copytree(jobs["videomae"].folder, folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ntags: [video]\n---\n# text\n")
    encoder = vidfeat.load_encoder(f"hf:{folder}", device="cpu")
    assert (encoder.plan.frames, encoder.plan.stride) == (4, 4)
    assert encoder.spec.licence == "cc-by-nc-4.0"
    assert encoder.describe()["licence"] == "cc-by-nc-4.0"
    assert any("forbids commercial use" in note for note in encoder.spec.notes)


@pytest.mark.parametrize(
    ("kind", "frames", "labels", "stride"),
    [
        ("timesformer", 8, 400, 32),
        ("timesformer", 16, 600, 16),
        ("timesformer", 96, 400, 4),
        ("timesformer", 12, 400, None),
        ("timesformer", 8, 174, None),  # Something-Something: spread over the whole video
        ("videomae", 16, 400, 4),
        ("videomae", 16, 174, None),
        ("vivit", 32, 400, 2),
    ],
)
def test_strides_are_those_of_the_authors(
    kind: str, frames: int, labels: int, stride: int | None
) -> None:
    config = SimpleNamespace(num_frames=frames, num_labels=labels)
    repo: Any = SimpleNamespace(name="some/network")
    plan, notes = hf._plan(hf.FAMILIES[kind], config, EncoderChoice(), repo)
    assert (plan.frames, plan.stride) == (frames, stride or 1)
    assert bool(notes) == (stride is None)


def test_the_same_encoder_comes_back_from_its_description(jobs: dict[str, Job]) -> None:
    encoder = load(jobs["clip"])
    again = encoder_from_description(encoder.describe(), device="cpu")
    assert again.space_fingerprint == encoder.space_fingerprint
    moved = {**encoder.describe(), "weights_file": str(jobs["siglip"].folder)}
    with pytest.raises(FingerprintError, match="differ"):
        encoder_from_description(moved, device="cpu")


def test_other_tensors_have_another_fingerprint(jobs: dict[str, Job]) -> None:
    folder = jobs["clip"].folder
    trained, untrained = load(jobs["clip"]), vidfeat.load_encoder(f"hf:{folder}", "random")
    assert trained.spec.weights_sha256 != untrained.spec.weights_sha256
    assert any("UNTRAINED" in note for note in untrained.spec.notes)
    again = vidfeat.load_encoder(f"hf:{folder}", "random")
    assert again.spec.weights_sha256 == untrained.spec.weights_sha256


def test_own_poolings_and_the_mean_of_tokens(jobs: dict[str, Job]) -> None:
    job = jobs["clip"]
    joined = load(job, pool=["mean", "cls", "projection"])
    assert joined.dimension == 32 + 32 + 24
    with pytest.raises(UsageError, match="mean, max, projection, cls"):
        load(job, pool=["attention"])


def edited(job: Job, folder: Path, **changes: Any) -> Path:
    """A copy of a repository with another configuration."""
    shutil.copytree(job.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "is a network of the kind 'bert'"),
        ({"model_type": "siglip2"}, "NaFlex"),
        ({"hidden_size": 48}, "do not fit its configuration"),
        ({"num_hidden_layers": 3}, "lacks .* tensors of VideoMAEModel"),
    ],
)
def test_repositories_that_do_not_fit(
    change: dict[str, Any], message: str, jobs: dict[str, Job], tmp_path: Path
) -> None:
    folder = edited(jobs["videomae"], tmp_path / "network", **change)
    with pytest.raises((UsageError, WeightsError), match=message):
        vidfeat.load_encoder(f"hf:{folder}", device="cpu")


def test_pickles_are_not_read(jobs: dict[str, Job], tmp_path: Path) -> None:
    folder = tmp_path / "network"
    shutil.copytree(jobs["videomae"].folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"only pytorch_model\.bin"):
        vidfeat.load_encoder(f"hf:{folder}", device="cpu")


@pytest.mark.parametrize("file", ["config.json", "video_preprocessor_config.json"])
def test_a_missing_file_is_named(file: str, jobs: dict[str, Job], tmp_path: Path) -> None:
    folder = tmp_path / "network"
    shutil.copytree(jobs["videomae"].folder, folder)
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=file.removeprefix("video_")):
        vidfeat.load_encoder(f"hf:{folder}", device="cpu")


def test_offline_the_message_names_repository_files_and_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        vidfeat.load_encoder("vjepa2_l", device="cpu")
    for part in ("facebook/vjepa2-vitl-fpc64-256", "config.json", "safetensors", "hf:FOLDER"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_clip_length_that_the_network_cannot_take(jobs: dict[str, Job]) -> None:
    with pytest.raises(UsageError, match="takes clips of 4 frames, not 8"):
        vidfeat.load_encoder(f"hf:{jobs['videomae'].folder}", plan=PlanChoice(frames=8))
    assert load(jobs["vjepa2"]).plan.frames == 4


def test_an_older_transformers_is_named(
    jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers, "__version__", "5.3.0")
    with pytest.raises(UsageError, match=r"needs transformers 5\.17 or newer, not 5\.3\.0"):
        vidfeat.load_encoder(f"hf:{jobs['clip'].folder}", device="cpu")


# --- other engines -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_openvino(name: str, jobs: dict[str, Job]) -> None:
    pytest.importorskip("openvino")
    job = jobs[name]
    encoder = load(job, engine="openvino")
    prepared = FramePreprocessor(encoder.preprocess)
    arrays = np.stack([prepared.frames(np.stack(clip)) for clip in job.clips])
    assert errors(encoder.encode_clips(arrays), job.expected).max() <= BOUND
    with pytest.raises(UsageError, match="no classes of its own"):
        encoder.predict_clips(arrays)
    with pytest.raises(UsageError, match="no classes of its own"):
        load(job).predict_clips(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videomae", "clip"])
def test_int8(
    name: str, jobs: dict[str, Job], videos: tuple[Path, list[Frames]], tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    job = jobs[name]
    choice = EncoderChoice(f"hf:{job.folder}", plan=PlanChoice(stride=1, hop_frames=HOP))
    listing = list_videos([videos[0]])
    quantise(choice, listing.videos, tmp_path / "net", calibration=CalibrationOptions(clips=4))
    encoder = vidfeat.load_encoder(weights=tmp_path / "net")
    assert (encoder.spec.precision, encoder.spec.model) == ("int8", f"hf:{job.folder}")
    assert encoder.space_fingerprint == load(job).space_fingerprint
    prepared = FramePreprocessor(encoder.preprocess)
    arrays = np.stack([prepared.frames(np.stack(clip)) for clip in job.clips])
    assert errors(encoder.encode_clips(arrays), job.expected).mean() < 0.2
