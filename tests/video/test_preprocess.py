"""Preprocessing against torchvision's own presets: the same numbers, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import video as networks
from torchvision.transforms import functional

from tests.support.video_assets import GOOD, reference_frames
from tests.support.video_fixtures import FIGHTS, REAL_VIDEOS, asset, has_encoder, reference  # noqa: F401
from vidfeat.errors import UsageError
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video, to_rgb

Make = Callable[[str], Path]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESETS = {
    "r2plus1d_18": (networks.R2Plus1D_18_Weights.KINETICS400_V1, Preprocess()),
    "s3d": (networks.S3D_Weights.KINETICS400_V1, Preprocess((256, 256), (224, 224))),
    "mvit_v1_b": (
        networks.MViT_V1_B_Weights.KINETICS400_V1,
        Preprocess(256, (224, 224), (0.45,) * 3, (0.225,) * 3),
    ),
    "swin3d_t": (networks.Swin3D_T_Weights.KINETICS400_V1, Preprocess(256, (224, 224), *IMAGENET)),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def by_torchvision(name: str, frames_THWC: np.ndarray) -> torch.Tensor:
    """float32 (C, T, H, W)"""
    return PRESETS[name][0].transforms()(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2))


def by_vidfeat(preprocess: Preprocess, frames_THWC: np.ndarray) -> torch.Tensor:
    cropped = FramePreprocessor(preprocess).frames(frames_THWC)
    assert cropped.dtype == np.uint8
    assert cropped.shape == (len(frames_THWC), *preprocess.crop, 3)
    return preprocess.normalize(torch.from_numpy(cropped)[None])[0]


def grey_levels(values: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    shape = (3, 1, 1, 1)
    return (
        (values * torch.tensor(preprocess.std).view(shape))
        + torch.tensor(preprocess.mean).view(shape)
    ) * 255


# torch rounds by the kernels of the processor it finds: with AVX2 and later our numbers are its own
# to the last bit, elsewhere a value at a tie may be one grey level off.
# Its threads share out the values, and at the borders of their shares its vector kernels round like
# other processors: one thread has no such borders.
EXACT = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def assert_close(preprocess: Preprocess, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to the last bit, or, on other processors, to a grey level in a few of the values."""
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    if torch.equal(ours, theirs):
        return
    off = (grey_levels(ours, preprocess) - grey_levels(theirs, preprocess)).abs()
    share, most = (off > 0.5).float().mean().item(), off.max().item()
    seen = f"{share:.2e} of the values differ, by up to {most:.2f} grey levels"
    assert not EXACT, seen
    assert most < 1.01, seen
    assert share < 0.02, seen


def assert_equal(name: str, frames_THWC: np.ndarray) -> None:
    preprocess = PRESETS[name][1]
    assert_close(preprocess, by_vidfeat(preprocess, frames_THWC), by_torchvision(name, frames_THWC))


def noise(height: int, width: int, count: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# --- equal to the presets ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("height", "width"),
    [
        *[(240, 320), (240, 560), (256, 340), (360, 480), (720, 1280)],
        *[(64, 96), (63, 97), (120, 160), (1, 1), (2, 3), (16, 1000), (1000, 16)],  # upscaling
        *[(128, 171), (256, 342), (384, 513), (512, 512), (256, 256), (112, 112)],  # ties
        *[(127, 170), (129, 172), (255, 257), (719, 1281)],
    ],
)
def test_noise_of_many_sizes(name: str, height: int, width: int) -> None:
    if "resize" in PRESETS[name][1].to_dict() and isinstance(PRESETS[name][1].resize, int):
        ratio = max(height, width) / min(height, width)
        if ratio > 20:
            pytest.skip("the short side's rule would give a frame of 256 x 16000")
    assert_equal(name, noise(height, width))


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["noise", "extremes", "steps"]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_noise_of_any_size(height: int, width: int, seed: int, kind: str) -> None:
    frames = noise(height, width, seed=seed)
    if kind == "extremes":  # the sums at the ends of the range
        frames = (frames // 128 * 255).astype(np.uint8)
    elif kind == "steps":  # neighbours that differ by one: every tie there is
        frames = (frames // 128 + 100).astype(np.uint8)
    assert_equal("r2plus1d_18", frames)


@pytest.mark.parametrize("name", ["r2plus1d_18", "mvit_v1_b"])
@pytest.mark.parametrize("file", [*REAL_VIDEOS, *FIGHTS])
def test_real_frames(name: str, file: str, shared_data: Path) -> None:
    path = shared_data / ("fights" if "/" in file else "videos") / file
    preprocess = PRESETS[name][1]
    with open_video(path) as video:
        middle = video.info.num_frames // 2
        frames = [frame for _, frame in video.frames([middle, middle + 1])]
        ours = np.stack([FramePreprocessor(preprocess).frame(frame) for frame in frames])
        upright = np.stack([to_rgb(frame) for frame in frames])
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        decoded = [
            frame.to_ndarray(format="rgb24")
            for i, frame in enumerate(container.decode(stream))
            if i in (middle, middle + 1)
        ]
    assert np.array_equal(upright, np.stack(decoded))
    theirs = by_torchvision(name, np.stack(decoded))
    assert_close(preprocess, preprocess.normalize(torch.from_numpy(ours)[None])[0], theirs)


@pytest.mark.parametrize("name", GOOD)
def test_frames_of_every_asset(name: str, asset: Make) -> None:  # noqa: F811
    """From the decoder's own pixel format, turned or not, wide or odd."""
    plain = reference_frames(asset(name)).upright
    with open_video(asset(name)) as video:
        positions = sorted({0, len(plain) // 2, len(plain) - 1})
        preprocessor = FramePreprocessor(Preprocess())
        ours = np.stack([preprocessor.frame(frame) for _, frame in video.frames(positions)])
    frames = np.stack([plain[position] for position in positions])
    theirs = by_torchvision("r2plus1d_18", frames)
    assert_close(Preprocess(), Preprocess().normalize(torch.from_numpy(ours)[None])[0], theirs)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "gray"])
def test_every_width_of_a_pixel_format(pix_fmt: str) -> None:
    """Conversions to RGB treat the last columns apart: each remainder, none may show."""
    preprocessor = FramePreprocessor(Preprocess())
    for width in (*range(96, 114), 170, 171, 172, 339, 340, 341, 342, 343, 345, 351, 426):
        for height in (64, 65):
            source = av.VideoFrame.from_ndarray(noise(height, width, seed=width)[0], format="rgb24")
            frame = source.reformat(format=pix_fmt)
            rgb = frame.to_ndarray(format="rgb24")
            assert np.array_equal(preprocessor.frame(frame), preprocessor.rgb(rgb)), (width, height)


def test_one_preprocessor_for_many_kinds_of_video(asset: Make, reference: Callable) -> None:  # noqa: F811
    preprocessor = FramePreprocessor(Preprocess())
    names = ["h264", "full_range", "rotated_90", "odd_size_444", "grey", "h264_rgb", "ten_bit_420"]
    for _ in range(2):
        for name in names:
            with open_video(asset(name)) as video:
                ours = [preprocessor.frame(frame) for _, frame in video.frames([9])]
            expected = preprocessor.rgb(reference(name).upright[9])
            assert np.array_equal(ours[0], expected), name


# --- the comparisons would notice ----------------------------------------------------------------


def test_antialiasing_would_be_seen() -> None:
    frames = noise(240, 320)
    wrong = functional.center_crop(
        functional.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [128, 171], antialias=True),
        [112, 112],
    )
    ours = torch.from_numpy(FramePreprocessor(Preprocess()).frames(frames)).permute(0, 3, 1, 2)
    assert (wrong.int() - ours.int()).abs().float().mean() > 5


def test_blue_for_red_and_a_kept_aspect_ratio_would_be_seen() -> None:
    frames = noise(240, 320)
    theirs = by_torchvision("r2plus1d_18", frames)
    assert not torch.equal(by_vidfeat(Preprocess(), frames[..., ::-1].copy()), theirs)
    assert not torch.equal(by_vidfeat(Preprocess(resize=128), frames), theirs)


# --- the description -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_description_survives_json(name: str) -> None:
    preprocess = PRESETS[name][1]
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


def test_two_channels_for_flow() -> None:
    preprocess = Preprocess(mean=(0.5, 0.25), std=(0.5, 0.25))
    clips = torch.tensor([[0, 255]], dtype=torch.uint8).expand(1, 2, 112, 112, 2)
    normal = preprocess.normalize(clips)
    assert normal.shape == (1, 2, 2, 112, 112)
    assert torch.equal(normal[0, :, 0, 0, 0], torch.tensor([-1.0, 3.0]))


def test_normalize_leaves_its_input_alone() -> None:
    clips = torch.randint(0, 256, (1, 2, 112, 112, 3), dtype=torch.uint8)
    before = clips.clone()
    Preprocess().normalize(clips)
    assert torch.equal(clips, before)


@pytest.mark.parametrize(
    "options",
    [
        {"crop": (129, 112)},
        {"crop": (0, 112)},
        {"resize": 100},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": (0.5,)},
    ],
)
def test_impossible_descriptions(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Preprocess(**options)  # type: ignore[arg-type]
