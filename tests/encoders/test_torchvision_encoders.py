"""torchvision's video networks as encoders against torchvision's own models, on real videos.

By hand: PyAV's sequential decode, the first 16 frames of each video, the preset of the network's
published weights, torchvision's network, and what goes into its classifier. The weights are seeded,
so the vectors are nearly parallel: the mean over the clips is subtracted before they are compared.
"""

import av
import numpy as np
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from tests.support.models_fixtures import randomise
from vidfeat.encoders.load import load_encoder
from vidfeat.pretrained import default_entry
from vidfeat.video.clip_plan import ClipPlan

BOUND = 1e-3
FRAMES = 16
NAMES = (
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
)


def first_frames(path) -> torch.Tensor:
    """uint8 (T, 3, H, W)."""
    with av.open(str(path), metadata_errors="replace") as container:
        frames = container.decode(video=0)
        clip = [next(frames).to_ndarray(format="rgb24") for _ in range(FRAMES)]
    return torch.from_numpy(np.stack(clip)).permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_features_before_the_classifier(name, shared_data, tmp_path):
    torch.manual_seed(3)
    theirs = randomise(get_model(name)) if "_18" in name else get_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    caught = []
    classifier = {"s3d": "classifier"}.get(name, "fc" if "_18" in name else "head")
    theirs.get_submodule(classifier).register_forward_pre_hook(
        lambda _module, inputs: caught.append(inputs[0])
    )
    preset = get_model_weights(name).DEFAULT.transforms()
    videos = sorted((shared_data / "videos").iterdir())
    with torch.inference_mode():
        for video in videos:
            theirs(preset(first_frames(video))[None])
    expected = np.stack([v[0].reshape(v.shape[1], -1).mean(1).numpy() for v in caught])
    encoder = load_encoder(
        name,
        tmp_path / "weights.pt",
        plan=ClipPlan(frames=FRAMES, hop_frames=100_000),
        device="cpu",
    )
    assert encoder.preprocess == default_entry(name).preprocess
    found = np.stack([encoder.encode(video).vectors[0] for video in videos])
    mean = expected.mean(0)
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected - mean, axis=1)
    print(f"\n{name}: worst relative error {errors.max():.2e} over {len(videos)} clips")
    assert errors.max() <= BOUND
    # The bound is no empty one: channels in the wrong order move a vector by far more.
    with torch.inference_mode():
        other = encoder.encode_clips(
            encoder_frames(encoder, first_frames(videos[0]).flip(1))[None]
        )[0]
    assert np.linalg.norm(other - expected[0]) / np.linalg.norm(expected[0] - mean) > 10 * BOUND


def encoder_frames(encoder, frames_TCHW):
    from vidfeat.video.frame_preprocessor import FramePreprocessor

    frames = frames_TCHW.permute(0, 2, 3, 1).contiguous().numpy()
    return FramePreprocessor(encoder.preprocess).frames(frames)
