"""Other networks' preprocessing against the code that their makers use, to the last grey level."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from tests.support.video_fixtures import asset, has_encoder, reference  # noqa: F401
from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.decode.tasks import ClipSource
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.packing import PixelPacker
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCH = Preprocess((60, 90), (56, 80), *IMAGENET, antialias=True, resampler="torch")
# torch resizes uint8 bilinearly in integers where the processor has these; elsewhere in floats.
INTEGERS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
SIZES = [(240, 320), (360, 640), (64, 64), (17, 23), (61, 1000), (500, 31), (60, 90), (1080, 1440)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_and_white(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Where bicubic filters leave the range."""
    return (noise(height, width, seed) // 128 * 255).astype(np.uint8)


def ours(preprocess: Preprocess, frame_HWC: np.ndarray) -> np.ndarray:
    return FramePreprocessor(preprocess).rgb(frame_HWC)


def by_torch(preprocess: Preprocess, frame_HWC: np.ndarray) -> np.ndarray:
    """torchvision v2 on a uint8 frame, then its own crop."""
    frame = functional.resize(
        torch.from_numpy(frame_HWC).permute(2, 0, 1),
        list(preprocess.resize),  # type: ignore[arg-type]
        interpolation=InterpolationMode(preprocess.interpolation),
        antialias=preprocess.antialias,
    )
    return functional.center_crop(frame, list(preprocess.crop)).permute(1, 2, 0).numpy()


def as_seen(preprocess: Preprocess, frame_HWC: np.ndarray) -> np.ndarray:
    """The network's own input (3, H, W), float32."""
    clip = torch.from_numpy(ours(preprocess, frame_HWC))[None, None]
    return preprocess.normalize(clip)[0, :, 0].numpy()


# --- torch's uint8 -------------------------------------------------------------------------------


@pytest.mark.skipif(not INTEGERS, reason="this processor's torch resizes in floats")
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_torch(height: int, width: int, interpolation: str, antialias: bool) -> None:
    preprocess = replace(TORCH, interpolation=interpolation, antialias=antialias)
    for make in (noise, black_and_white):
        frame = make(height, width)
        assert np.array_equal(ours(preprocess, frame), by_torch(preprocess, frame))


@pytest.mark.skipif(not INTEGERS, reason="this processor's torch resizes in floats")
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    resize=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    antialias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_torch_of_any_size(
    size: tuple[int, int],
    resize: tuple[int, int],
    interpolation: str,
    antialias: bool,
    seed: int,
) -> None:
    preprocess = replace(
        TORCH, resize=resize, crop=(8, 8), interpolation=interpolation, antialias=antialias
    )
    frame = noise(*size, seed)
    assert np.array_equal(ours(preprocess, frame), by_torch(preprocess, frame))


def test_where_torch_resizes_in_floats_a_level_is_the_most_that_differs() -> None:
    """On a GPU, and on processors without AVX2, torch rounds once, at the end."""
    frame = noise(240, 320)
    preprocess = replace(TORCH, crop=(60, 90))
    floats = functional.resize(
        torch.from_numpy(frame).permute(2, 0, 1).float(), [60, 90], antialias=True
    )
    off = np.abs(floats.round().permute(1, 2, 0).numpy() - ours(preprocess, frame))
    assert off.max() <= 1
    assert 0.001 < (off > 0).mean() < 0.2


def test_unrounded_frames_are_within_a_512th_of_a_level() -> None:
    preprocess = replace(TORCH, resampler="unrounded")
    frame = noise(241, 323)
    floats = functional.resize(
        torch.from_numpy(frame).permute(2, 0, 1).float() / 255, [60, 90], antialias=True
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    expected = (functional.center_crop(floats, [56, 80]) - mean) / std
    off = np.abs(as_seen(preprocess, frame) - expected.numpy()).max()
    assert off * 255 * 0.224 < 1 / 512 + 1e-3
    assert ours(preprocess, frame).shape == (56, 80, 6) == preprocess.frame_shape


# --- Pillow's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 181), (40, 50), (61, 333)])
def test_open_clip(mode: str, interpolation: str, height: int, width: int) -> None:
    transform = pytest.importorskip("open_clip.transform")
    theirs = transform.image_transform(
        64, is_train=False, resize_mode=mode, interpolation=interpolation, fill_color=7
    )
    preprocess = Preprocess(
        64 if mode == "shortest" else (64, 64),
        (64, 64),
        theirs.transforms[-1].mean,
        theirs.transforms[-1].std,
        interpolation=interpolation,  # type: ignore[arg-type]
        antialias=True,
        resampler="pillow",
        fit="contain" if mode == "longest" else "exact",
        fill=(7, 7, 7),
    )
    frame = noise(height, width)
    expected = theirs(Image.fromarray(frame)).numpy()
    assert np.abs(as_seen(preprocess, frame) - expected).max() < 1e-6


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("mode", "size", "fit"),
    [
        ("center", (64, 64), None),
        ("center", (48, 64), "cover"),
        ("squash", (48, 64), "exact"),
        ("border", (64, 64), "contain"),
    ],
)
def test_timm(mode: str, size: tuple[int, int], fit: str | None, interpolation: str) -> None:
    factory = pytest.importorskip("timm.data.transforms_factory")
    theirs = factory.transforms_imagenet_eval(
        size, crop_pct=0.9, crop_mode=mode, interpolation=interpolation
    )
    scaled = tuple(int(side / 0.9) for side in size)
    preprocess = Preprocess(
        scaled[0] if fit is None else scaled,  # type: ignore[arg-type]
        size,
        *IMAGENET,
        interpolation=interpolation,  # type: ignore[arg-type]
        antialias=True,
        resampler="pillow",
        fit=fit or "exact",  # type: ignore[arg-type]
        fill=tuple(round(255 * value) for value in IMAGENET[0]),
    )
    for height, width in [(240, 320), (320, 181), (40, 50)]:
        frame = noise(height, width)
        expected = theirs(Image.fromarray(frame)).numpy()
        assert np.abs(as_seen(preprocess, frame) - expected).max() < 1e-6


# --- the comparisons would notice ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"antialias": False},
        {"interpolation": "bicubic"},
        {"resampler": "pillow"},
        {"resize": (61, 90)},
    ],
)
def test_another_resize_would_be_seen(change: dict[str, object]) -> None:
    frame = noise(241, 323)
    assert not np.array_equal(
        ours(TORCH, frame),
        ours(replace(TORCH, **change), frame),  # type: ignore[arg-type]
    )


def test_half_a_pixel_goes_where_the_description_says() -> None:
    whole = replace(TORCH, resize=(57, 83), crop=(57, 83))
    frame = noise(120, 160)
    plain = ours(whole, frame)
    # 57 - 54 and 83 - 80 leave 1.5 pixels on each side
    for origin, first in (("round", 2), ("floor", 1)):
        part = ours(replace(whole, crop=(54, 80), crop_origin=origin), frame)  # type: ignore[arg-type]
        assert np.array_equal(part, plain[first : first + 54, first : first + 80])


# --- from decoded frames -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h264", "rotated_90", "odd_size_444", "ten_bit_420"])
def test_decoded_frames(
    name: str,
    asset: Callable[[str], Path],  # noqa: F811
    reference: Callable,  # noqa: F811
) -> None:
    preprocess = replace(TORCH, resize=(40, 50), crop=(40, 48))
    with open_video(asset(name)) as video:
        found = [FramePreprocessor(preprocess).frame(frame) for _, frame in video.frames([9])]
    assert np.array_equal(found[0], ours(preprocess, reference(name).upright[9]))


def test_a_gpu_gets_pixels() -> None:
    """Its planes are of no use where every pixel of the frame counts."""
    plain = ClipSource(ClipPlan(4), Preprocess(), planes=True)
    source = ClipSource(ClipPlan(4), TORCH, planes=True)
    assert isinstance(source.packer(), PixelPacker)
    assert source.clip_bytes == 4 * 56 * 80 * 3
    assert not isinstance(plain.packer(), PixelPacker)


# --- the description -----------------------------------------------------------------------------


def test_old_descriptions_stay_as_they_are() -> None:
    """They are hashed into fingerprints."""
    assert json.dumps(Preprocess(256, (224, 224), *IMAGENET).to_dict()) == (
        '{"resize": 256, "crop": [224, 224], "mean": [0.485, 0.456, 0.406], '
        '"std": [0.229, 0.224, 0.225], "interpolation": "bilinear", "antialias": false}'
    )


@pytest.mark.parametrize(
    "preprocess",
    [
        TORCH,
        replace(TORCH, interpolation="bicubic", crop_origin="floor"),
        replace(TORCH, resampler="pillow", fit="contain", crop=(70, 95), fill=(1, 2, 3)),
    ],
)
def test_new_descriptions_survive_json(preprocess: Preprocess) -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    "options",
    [
        {"interpolation": "nearest"},
        {"resampler": "opencv"},
        {"resampler": "float32"},
        {"resampler": "pillow", "antialias": False},
        {"interpolation": "lanczos"},
        {"fit": "cover", "resize": 90},
        {"fit": "cover", "crop": (61, 90)},
        {"fill": (0, 0)},
        {"fill": (0, 0, 256)},
    ],
)
def test_impossible_descriptions(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(TORCH, **options)  # type: ignore[arg-type]
