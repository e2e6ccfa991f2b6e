"""Optical flow with the paper's parameters, as a second stream."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.train_fixtures import micro, render_motion, render_video
from vidfeat.datasets.textures import noise_texture, shifted
from vidfeat.errors import MissingExtraError, UsageError
from vidfeat.video import flow

pytest.importorskip("cv2")


def moving(down: float, right: float, frames: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    texture = noise_texture(rng, 64, 64, roughness=1.2)
    images = [shifted(texture, down * i, right * i) for i in range(frames)]
    return (np.stack(images) * 255).astype(np.uint8)


@pytest.mark.parametrize(("down", "right"), [(0.0, 2.0), (-1.5, 0.0), (1.0, -2.0)])
def test_flow_says_how_far_pixels_moved(down: float, right: float) -> None:
    fields = flow.clip_to_flow(moving(down, right))
    assert fields.shape == (3, 64, 64, 2) and fields.dtype == np.float32
    middle = fields[:, 16:48, 16:48]
    assert np.median(middle[..., 0]) == pytest.approx(right, abs=0.2)
    assert np.median(middle[..., 1]) == pytest.approx(down, abs=0.2)


def test_parameters_are_the_papers() -> None:
    assert pytest.approx(2**-0.5) == flow.PYRAMID_SCALE
    assert (flow.PYRAMID_LEVELS, flow.WINDOW, flow.ITERATIONS) == (5, 10, 2)
    assert (flow.POLYNOMIAL, flow.POLYNOMIAL_SIGMA) == (7, 1.5)
    with pytest.raises(UsageError, match="two frames"):
        flow.clip_to_flow(moving(0, 0, frames=1))


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: object, **more: object) -> object:
        if name == "cv2":
            raise ImportError(name)
        return original(name, *args, **more)  # type: ignore[arg-type]

    flow._opencv.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"vidfeat\[flow\]"):
        flow.require_opencv()
    flow._opencv.cache_clear()


def test_a_network_of_two_channels_trains_on_it(tmp_path: Path) -> None:
    from vidfeat.training.evaluation_report import evaluate_subject, open_subject
    from vidfeat.training.run import train

    data = render_motion(tmp_path / "data", train=2, val=1)
    recipe = micro("data.modality=flow", "train.epochs=1")
    train(recipe, data, tmp_path / "flow")
    train(micro("train.epochs=1"), data, tmp_path / "rgb")
    subject = open_subject(str(tmp_path / "flow"))
    assert subject.loaded.in_channels == 2
    result, _ = evaluate_subject(subject, data)
    assert len(result.scores) == 8
    from vidfeat.evaluation.scores import fuse_scores

    rgb, _ = evaluate_subject(open_subject(str(tmp_path / "rgb")), data)
    fused = fuse_scores(rgb.scores, result.scores, 0.6)
    assert np.allclose(fused.scores, 0.6 * rgb.scores.scores + 0.4 * result.scores.scores)


def test_features_are_extracted_with_it(tmp_path: Path) -> None:
    from vidfeat.encoders.load import load_encoder
    from vidfeat.errors import UsageError
    from vidfeat.training.config import Recipe
    from vidfeat.training.network import build_network, normalize, save_network
    from vidfeat.video.reader import read_frames

    recipe: Recipe = micro("data.modality=flow")
    network = build_network(recipe, 3).eval()
    weights = tmp_path / "flow.safetensors"
    save_network(weights, network.state_dict(), recipe, ("a", "b", "c"), {})
    video = tmp_path / "v.mp4"
    render_video(video, frames=12, size=(16, 22))
    encoder = load_encoder("r2plus1d_10_w16", weights, device="cpu")
    assert encoder.plan.frames == 5  # four fields lie between five frames
    found = encoder.encode(video)
    frames = read_frames(video, range(5))[:, :, 3:19]
    fields = torch.from_numpy(flow.clip_to_flow(frames))[None]
    expected = network.features(normalize(fields, recipe))["layer4"].mean(dim=(2, 3, 4))
    assert np.allclose(found.vectors[0], expected.detach().numpy()[0], atol=1e-4)
    assert encoder.predict_clips(frames[None]).shape == (1, 3)
    with pytest.raises(UsageError, match="too coarse"):
        load_encoder("r2plus1d_10_w16", weights, device="cpu", precision="bf16")
