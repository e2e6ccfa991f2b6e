"""Networks of timm, open_clip and torchvision against those libraries' own code.

Small networks with random tensors, saved as the libraries save them; torchvision has no small one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vidfeat
from tests.support.tiny_networks import Frames
from vidfeat.encoders.load import encoder_from_description
from vidfeat.errors import MissingExtraError, UsageError, WeightsError
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.plan_choice import PlanChoice

BOUND = 1e-3
LENGTH, HOP = 3, 13

ByHand = Callable[[Frames], torch.Tensor]
SEPARATE = ("timm_vit", "timm_conv", "open_clip")


def seed(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05 if parameter.dim() < 2 else 0.0, 0.4)
    return model.eval()


def pictures(transform: Any, frames: Frames) -> torch.Tensor:
    return torch.stack([transform(Image.fromarray(frame)) for frame in frames])


def timm_network(folder: Path, name: str, **options: Any) -> tuple[str, ByHand]:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    net = seed(timm.create_model(name, num_classes=7, **options))
    folder.mkdir()
    save_file(net.state_dict(), folder / "model.safetensors")
    facts = {
        "architecture": name,
        "num_classes": 7,
        "model_args": options,
        "pretrained_cfg": {
            "input_size": [3, 48, 48],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.25],
            "license": "mit",
            "classifier": net.pretrained_cfg["classifier"],
            "first_conv": None,
        },
    }
    (folder / "config.json").write_text(json.dumps(facts))
    from timm.data import create_transform

    transform = create_transform(
        (3, 48, 48),
        interpolation="bicubic",
        crop_pct=0.9,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.25),
    )

    def by_hand(frames: Frames) -> torch.Tensor:
        found = net.forward_features(pictures(transform, frames))
        if found.dim() == 3:
            return found[:, net.num_prefix_tokens :].mean(dim=(0, 1))
        return found.mean(dim=(0, 2, 3))

    return f"timm:{folder}", by_hand


def open_clip_network(folder: Path) -> tuple[str, ByHand]:
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    model_cfg = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "width": 64, "heads": 2, "layers": 1},
    }
    facts = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
    folder.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": {**facts, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    save_file(
        seed(open_clip.CLIP(**model_cfg)).state_dict(), folder / "open_clip_model.safetensors"
    )
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    return f"open_clip:{folder}", lambda frames: model.encode_image(
        pictures(transform, frames)
    ).mean(dim=0)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ByHand]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("networks")
    vit = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 48}
    return {
        "timm_vit": timm_network(folder / "vit", "vit_tiny_patch16_224", **vit),
        "timm_conv": timm_network(folder / "conv", "test_resnet"),
        "open_clip": open_clip_network(folder / "clip"),
    }


def clips_of(videos: tuple[Path, list[Frames]]) -> list[Frames]:
    return [f[at : at + LENGTH] for f in videos[1] for at in range(0, 32 - LENGTH + 1, HOP)]


def load(model: str, weights: str | None = None, **options: Any) -> vidfeat.Encoder:
    plan = PlanChoice(frames=LENGTH, stride=1, fps="native", hop_frames=HOP)
    return vidfeat.load_encoder(model, weights, plan=plan, device="cpu", **options)


def errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    mean = expected.mean(axis=0)
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected - mean, axis=1)


def expected_of(by_hand: ByHand, clips: list[Frames]) -> np.ndarray:
    with torch.inference_mode():
        return np.stack([by_hand(clip).numpy() for clip in clips])


@pytest.mark.parametrize("name", SEPARATE)
def test_extract(
    name: str,
    networks: dict[str, tuple[str, ByHand]],
    videos: tuple[Path, list[Frames]],
    tmp_path: Path,
) -> None:
    model, by_hand = networks[name]
    options = vidfeat.ExtractOptions(workers=0)
    assert not vidfeat.extract(videos[0], tmp_path / "f.h5", load(model), options=options).failures
    with vidfeat.FeatureStore(tmp_path / "f.h5") as store:
        found = np.concatenate([store.read(path).vectors for path in store.paths])
    assert errors(found, expected_of(by_hand, clips_of(videos))).max() <= BOUND


@pytest.mark.parametrize("how", ["antialias", "crop", "bgr"])
@pytest.mark.parametrize("name", SEPARATE)
def test_the_comparison_would_notice(
    name: str,
    how: str,
    networks: dict[str, tuple[str, ByHand]],
    videos: tuple[Path, list[Frames]],
) -> None:
    model, by_hand = networks[name]
    encoder, clips = load(model), clips_of(videos)
    preprocess, wrong = encoder.preprocess, clips
    if how == "antialias":
        preprocess = replace(preprocess, antialias=False, resampler="torch")
    elif how == "bgr":
        wrong = [[np.ascontiguousarray(frame[..., ::-1]) for frame in clip] for clip in clips]
    arrays = [FramePreprocessor(preprocess).frames(np.stack(clip)) for clip in wrong]
    if how == "crop":
        arrays = [np.roll(array, 1, axis=2) for array in arrays]
    found = np.concatenate([encoder.engine.embed(array[None]) for array in arrays])
    assert errors(found, expected_of(by_hand, clips)).max() > 3 * BOUND


@pytest.mark.parametrize("name", SEPARATE)
def test_the_same_encoder_comes_back_from_its_description(
    name: str, networks: dict[str, tuple[str, ByHand]]
) -> None:
    encoder = load(networks[name][0])
    assert encoder.spec.licence in ("mit", "apache-2.0")
    again = encoder_from_description(encoder.describe(), device="cpu")
    assert again.space_fingerprint == encoder.space_fingerprint
    assert load(networks[name][0], "random").space_fingerprint != encoder.space_fingerprint


def test_texts_stand_in_the_same_space(networks: dict[str, tuple[str, ByHand]]) -> None:
    from vidfeat.encoders.choice import EncoderChoice
    from vidfeat.encoders.sources import load_network

    loaded = load_network(EncoderChoice(networks["open_clip"][0]))
    assert loaded.text is not None
    vectors = loaded.text.encode(["a dog", "two people fight"])
    assert vectors.shape == (2, 24)
    assert not np.allclose(vectors[0], vectors[1])


# --- torchvision ---------------------------------------------------------------------------------


def test_torchvision(videos: tuple[Path, list[Frames]], tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision import models

    weights = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    net = models.shufflenet_v2_x0_5()
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    file = tmp_path / "net.safetensors"
    save_file(net.state_dict(), file)
    encoder = load("torchvision:shufflenet_v2_x0_5", str(file))
    net.fc = torch.nn.Identity()
    net.eval()
    clips = clips_of(videos)[::2]
    expected = expected_of(
        lambda frames: net(pictures(weights.transforms(), frames)).mean(dim=0), clips
    )
    prepared = FramePreprocessor(encoder.preprocess)
    arrays = [prepared.frames(np.stack(clip))[None] for clip in clips]
    found = np.concatenate([encoder.engine.embed(array) for array in arrays])
    assert errors(found, expected).max() <= BOUND


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:no_such_network", "has no network"),
        ("torchvision:no_such_network", "has no image network .*list_models"),
        ("torchvision:resnet9", r"it has .*resnet18"),
        ("torchvision:r3d_18", "it is a video network: give r3d_18 without torchvision:"),
        ("torchvision:squeezenet1_0", "no linear layer at its end"),
        ("open_clip:no_such_network/meta", "has no network"),
        ("open_clip:PE-Core-S-16-384/none", "not 'none': give open_clip:PE-Core-S-16-384/meta"),
        ("jax:anything", "no source 'jax'"),
        ("hf:", "needs a name or a folder"),
        ("module:mine", "Encoder.from_module"),
    ],
)
def test_names_that_do_not_exist(model: str, message: str) -> None:
    with pytest.raises((UsageError, WeightsError), match=message) as caught:
        vidfeat.load_encoder(model, "random", device="cpu") if "squeeze" in model else (
            vidfeat.load_encoder(model, device="cpu")
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["timm", "open_clip", "transformers"])
def test_a_missing_package_is_one_line(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, source, None)
    model = {"timm": "dinov3_s", "open_clip": "pe_core_s", "transformers": "vjepa2_l"}[source]
    with pytest.raises(MissingExtraError, match=rf"pip install 'vidfeat\[{source}\]'"):
        vidfeat.load_encoder(model, device="cpu")


@pytest.mark.parametrize("model", ["pe_core_s", "dinov3_s"])
def test_offline_the_message_names_the_repository(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"the repository timm/.* is not in the hub's cache"):
        vidfeat.load_encoder(model, device="cpu")
