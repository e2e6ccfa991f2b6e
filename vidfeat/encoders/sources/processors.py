"""transformers' image and video processors as a :class:`Preprocess`."""

from __future__ import annotations

from typing import Any

from vidfeat.errors import UsageError
from vidfeat.video.preprocess import Interpolation, Preprocess, Resampler

_INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


def preprocess_of(processor: Any, **changes: Any) -> Preprocess:
    """A processor's preprocessing of uint8 frames.

    Args:
        processor: a processor of transformers 5.17 or newer.
        changes: attributes of the processor to override.

    Raises:
        UsageError: the processor does more than resize, crop the centre and normalise.
    """

    def value(name: str) -> Any:
        return changes[name] if name in changes else getattr(processor, name, None)

    name = type(processor).__name__
    if not value("do_resize"):
        raise UsageError(
            f"{name} keeps the size of frames, but a batch needs frames of one size: "
            "give the folder of a network whose processor resizes"
        )
    if value("do_pad"):
        raise UsageError(f"{name} pads frames, which is not supported")
    resize = _resize(name, _plain(value("size")))
    if value("do_center_crop"):
        size = _plain(value("crop_size"))
        crop = (int(size["height"]), int(size["width"]))
    elif isinstance(resize, tuple):
        crop = resize
    else:
        raise UsageError(
            f"{name} keeps each video's own shape, but a batch needs frames of one size: "
            "it would have to resize to a height and a width, or crop the centre"
        )
    resample = int(value("resample") if value("resample") is not None else 2)
    if resample not in _INTERPOLATIONS:
        raise UsageError(f"{name} resizes by Pillow's filter {resample}, which is not supported")
    mean, std = _normalisation(name, value)
    return Preprocess(
        resize,
        crop,
        mean,
        std,
        interpolation=_INTERPOLATIONS[resample],
        antialias=True,
        resampler=_resampler(name),
        crop_origin="floor",
    )


def _plain(size: Any) -> dict[str, int]:
    """A size as a dict of what is set."""
    if size is None:
        return {}
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: value for key, value in dict(size).items() if value is not None}


def _resize(name: str, size: dict[str, int]) -> tuple[int, int] | int:
    if set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    if set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    raise UsageError(f"{name} resizes to {size}: expected a shortest edge, or height and width")


def _resampler(name: str) -> Resampler:
    if name.endswith("Pil"):
        return "pillow"
    return "unrounded" if name.startswith("DINOv3") else "torch"


def _normalisation(name: str, value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation on the scale 0 to 1, whatever scale the processor uses.

    The processor computes (x * factor - shift - mean) / std of levels x, which equals
    (x / 255 - m) / s with m = (mean + shift) / (255 * factor) and s = std / (255 * factor).
    """
    scale = 255.0 * float(value("rescale_factor")) if value("do_rescale") else 255.0
    shift = 1.0 if name.startswith("Vivit") and value("do_rescale") else 0.0
    if value("do_normalize"):
        means, stds = _three(value("image_mean")), _three(value("image_std"))
    else:
        means, stds = (0.0,) * 3, (1.0,) * 3
    if scale == 1.0 and shift == 0.0:  # as published, without further rounding
        return means, stds
    return tuple((mean + shift) / scale for mean in means), tuple(std / scale for std in stds)


def _three(values: Any) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    return tuple(float(value) for value in values)
