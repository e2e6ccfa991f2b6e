"""From frames to a network's input, exactly as the network's authors prepare it.

torchvision's presets for videos resize whole frames (bilinear, without antialiasing, in float,
rounded back to uint8), crop the centre and normalise. Only the crop of a resized frame is ever
used, and each of its pixels depends on four pixels of the source: those four are gathered and
weighted, and nothing else is computed. Other networks resize frames in other ways: see
``resize.py``. All of it is numpy and Pillow: decode processes need no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError

if TYPE_CHECKING:
    import av
    import torch
    from av.video.reformatter import VideoReformatter


# Formats whose conversion to four bytes per pixel was found equal, byte by byte, to the three-byte
# one (FFmpeg converts both by the same tables); the others are converted to three bytes.
FAST_FORMATS = frozenset({"yuv420p", "yuvj420p"})
# FFmpeg's three-byte conversion treats the columns after the last multiple of eight differently.
FAST_COLUMNS = 8

# float32 sums of products up to 255 are off by less than 1e-4: closer to a tie than that, the order
# of roundings decides the grey level. A sum is near a tie where adding a little less than a half
# and a little more than a half give different whole numbers.
_BELOW_HALF = np.float32(0.5 - 1e-4)
_AROUND_HALF = np.float32(2e-4)

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)


CROPS = (1, 3, 5, 10)
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Resampler = Literal["float32", "torch", "pillow", "unrounded"]
Fit = Literal["exact", "cover", "contain"]
CropOrigin = Literal["round", "floor"]


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop and normalisation of a network's input."""

    resize: tuple[int, int] | int = (128, 171)
    """(height, width), or the length of the short side."""
    crop: tuple[int, int] = (112, 112)
    """(height, width) of the centre crop."""
    mean: tuple[float, ...] = KINETICS_MEAN
    """Mean of each channel, on the scale 0 to 1."""
    std: tuple[float, ...] = KINETICS_STD
    interpolation: Interpolation = "bilinear"
    antialias: bool = False
    """Average over all source pixels where the frame shrinks."""
    resampler: Resampler = "float32"
    """Whose arithmetic is used: ``float32`` is torch's on floats, rounded to a grey level at the
    end, as in torchvision's presets for videos; ``torch`` is torch's for uint8 frames on the CPU
    (transformers, torchvision v2); ``pillow`` is Pillow's (open_clip, timm); ``unrounded`` is
    torch's on floats, kept to 1/256 of a grey level (DINOv3)."""
    fit: Fit = "exact"
    """How to meet a (height, width): exactly, or with the aspect ratio kept: ``cover`` gives at
    least that size, ``contain`` at most, padded to the crop."""
    crop_origin: CropOrigin = "round"
    """What happens to half a pixel: torchvision rounds, transformers rounds down."""
    fill: tuple[int, ...] = (0, 0, 0)
    """RGB of the padding."""
    crops: int = 1
    """Crops per frame: 1 is the centre; 3 lie along the long side; 5 are the corners and the
    centre; 10 are these and the same of the mirrored frame. Networks that differ only in this are
    comparable."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0.0) <= 0:
            raise UsageError(f"mean and std need one value per channel, std above 0: {self!r}")
        smallest = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        too_small = smallest[0] < self.crop[0] or smallest[1] < self.crop[1]
        if min(*self.crop, *smallest) < 1 or (too_small and self.fit != "contain"):
            raise UsageError(f"a crop of {self.crop} does not fit into frames of {self.resize}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} takes {', '.join(known)}, not {getattr(self, name)!r}")
        self._check_combination()
        self._check_crops()

    def _check_combination(self) -> None:
        if self.resampler == "float32" and (
            self.antialias
            or (self.interpolation, self.fit, self.crop_origin) != ("bilinear", "exact", "round")
        ):
            raise UsageError(
                "the float32 resampler is bilinear, without antialiasing, with fit='exact' and "
                "crop_origin='round' only: give resampler='torch', 'pillow' or 'unrounded'"
            )
        if self.resampler == "pillow" and not self.antialias:
            raise UsageError("Pillow always antialiases: give antialias=True, or resampler='torch'")
        if self.interpolation == "lanczos" and self.resampler != "pillow":
            raise UsageError("lanczos is Pillow's: give resampler='pillow'")
        if self.fit != "exact" and isinstance(self.resize, int):
            raise UsageError(f"fit={self.fit!r} needs resize=(height, width), not {self.resize}")
        if len(self.fill) != 3 or not all(0 <= level <= 255 for level in self.fill):
            raise UsageError(f"fill takes three grey levels from 0 to 255, not {self.fill}")

    def _check_crops(self) -> None:
        if self.crops not in CROPS:
            known = ", ".join(map(str, CROPS))
            raise UsageError(f"crops takes {known}, not {self.crops}", field="crops")
        if self.crops > 1 and (self.fit == "contain" or self.resize == self.crop):
            raise UsageError(
                f"crops {self.crops} would all be the same: this network is given whole frames, "
                f"resized to {self.crop[0]} x {self.crop[1]}",
                field="crops",
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; those that earlier versions lack only if not the default."""
        values: dict[str, Any] = {
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "crop": list(self.crop),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "antialias": self.antialias,
        }
        for name in _LATER:
            value = getattr(self, name)
            if value != getattr(Preprocess, name):
                values[name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of :meth:`to_dict`."""
        resize = values["resize"]
        later: dict[str, Any] = {
            name: tuple(values[name]) if isinstance(values[name], list) else values[name]
            for name in _LATER
            if name in values
        }
        return cls(
            resize=resize if isinstance(resize, int) else (int(resize[0]), int(resize[1])),
            crop=(int(values["crop"][0]), int(values["crop"][1])),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            interpolation=values.get("interpolation", "bilinear"),
            antialias=values.get("antialias", False),
            **later,
        )

    @property
    def gathers(self) -> bool:
        """Whether four source pixels make a pixel: then planes suffice (see ``planes.py``)."""
        return self.resampler == "float32" and self.crops == 1

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, bytes per pixel) of frames on their way to :meth:`normalize`.

        Three bytes are RGB. Pixels of ``unrounded`` frames have six: RGB, then its 256ths.
        """
        return (*self.crop, 6 if self.resampler == "unrounded" else 3)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame after the resize.

        A short side follows torchvision's rule; ``cover`` and ``contain`` round as timm and
        open_clip do.
        """
        if isinstance(self.resize, tuple):
            if self.fit == "exact":
                return self.resize
            choose = min if self.fit == "cover" else max
            ratio = choose(height / self.resize[0], width / self.resize[1])
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """The rows and the columns of an upright frame that the crop's pixels are made of."""
        resized = self.resized(height, width)
        return _axis(height, resized[0], self.crop[0]), _axis(width, resized[1], self.crop[1])

    def normalize(self, clips_NTHWC: torch.Tensor) -> torch.Tensor:
        """uint8 clips (N, T, H, W, C) to float32 (N, C, T, H, W), on the device they are on.

        The operations are those of torchvision's preset, in its order, so that the values are the
        same.
        """
        import torch

        levels = clips_NTHWC.to(torch.float32)
        if self.resampler == "unrounded":
            levels = levels[..., :3] + levels[..., 3:] / 256
        scaled = levels.div_(255)
        kept = scaled.is_cuda and not torch.compiler.is_compiling()
        constant = _kept_on_device if kept else _on_device
        mean, std = constant(self.mean, scaled.device), constant(self.std, scaled.device)
        return scaled.sub_(mean).div_(std).permute(0, 4, 1, 2, 3)


_CHOICES = {
    "interpolation": get_args(Interpolation),
    "resampler": get_args(Resampler),
    "fit": get_args(Fit),
    "crop_origin": get_args(CropOrigin),
}
_LATER = ("resampler", "fit", "crop_origin", "fill", "crops")


def clip_shape(preprocess: Preprocess, frames: int) -> tuple[int, ...]:
    """(T, H, W, bytes per pixel) of clips; (crops, T, H, W, ...) with several crops."""
    one = (frames, *preprocess.frame_shape)
    return one if preprocess.crops == 1 else (preprocess.crops, *one)


def _on_device(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32, device=device)


@lru_cache(maxsize=64)
def _kept_on_device(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Like :func:`_on_device`, but sent only once: a transfer waits for all queued GPU work."""
    import torch

    with torch.inference_mode(mode=False):
        return _on_device(values, device)


def rgb0_pixels(reformatter: VideoReformatter, frame: av.VideoFrame) -> NDArray[np.uint32]:
    """A frame of a fast format as pixels of four bytes, (H, W or more); the fourth is unused."""
    plane = reformatter.reformat(frame, format="rgb0", threads=1).planes[0]
    return np.frombuffer(memoryview(plane), np.uint32).reshape(plane.height, plane.line_size // 4)


class Axis(NamedTuple):
    """Where the crop's rows or columns come from, along one axis."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: NDArray[np.float32]
    high_weight: NDArray[np.float32]


class Gather:
    """The four source pixels of every pixel of the crop, and their weights, for one frame size.

    It reuses its buffers, so only one thread at a time may use it.
    """

    def __init__(self, down: Axis, across: Axis, *, swapped: bool = False) -> None:
        """Where the crop's rows (``down``) and columns lie in the pixels given to :meth:`apply`.

        Args:
            down: axis of the crop's rows.
            across: axis of its columns.
            swapped: the crop's rows lie in columns, and its columns in rows.
        """
        self.shape = (len(down.low), len(across.low))
        self.last_column = int(across.high.max())
        self._down = np.stack([down.low, down.low, down.high, down.high])
        self._across = np.stack([across.low, across.high, across.low, across.high])
        self._swapped = swapped
        # Products of the axes' weights, one for each of the four bytes of a pixel: a broadcast over
        # an axis of four would make numpy's inner loop four long. Rows of pixels are rows of bytes.
        corners = [np.outer(h, w) for h in down[2:] for w in across[2:]]
        self._weights = np.repeat(np.stack(corners), 4, axis=-1)
        self._total, self._product = np.empty((2, *self._weights.shape[1:]), np.float32)
        self._lower, self._upper = np.empty((2, self.shape[0], 4 * self.shape[1]), np.uint8)
        self._source = np.empty((4, *self.shape), np.uint32)
        self._index: NDArray[np.intp] | None = None
        self._pitch = -1

    def apply(self, pixels: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Gather and weigh: (H, W) pixels of four bytes to uint8 (crop height, crop width, 3)."""
        pitch = pixels.shape[1]
        if self._index is None or pitch != self._pitch:
            steps = (1, pitch) if self._swapped else (pitch, 1)
            down, across = self._down[:, :, None] * steps[0], self._across[:, None, :] * steps[1]
            self._index = down + across
            self._pitch = pitch
        # no index is out of range; "wrap" is the fastest of numpy's modes
        np.take(pixels.reshape(-1), self._index, out=self._source, mode="wrap")
        corners = self._source.view(np.uint8)
        # one corner at a time stays in the core's cache
        total = self._weigh(corners, 0, self._total)
        for number in (1, 2, 3):
            total += self._weigh(corners, number, self._product)
        lower, upper = self._lower, self._upper
        total += _BELOW_HALF
        np.copyto(lower, total, casting="unsafe")
        total += _AROUND_HALF
        np.copyto(upper, total, casting="unsafe")
        ties = np.flatnonzero(lower != upper)
        if ties.size:
            four = corners.reshape(4, -1).take(ties, axis=1)
            weights = self._weights.reshape(4, -1).take(ties, axis=1)
            lower.reshape(-1)[ties] = np.rint(weigh_as_torch(four, weights)).astype(np.uint8)
        # without the fourth byte; channel by channel, since a row of three is a short inner loop
        levels = np.empty((*self.shape, 3), np.uint8)
        for channel in range(3):
            levels[:, :, channel] = lower[:, channel::4]
        return levels

    def _weigh(
        self, corners: NDArray[np.uint8], number: int, out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """One corner of all pixels times its weights: converted first, which is faster in numpy."""
        np.copyto(out, corners[number])
        out *= self._weights[number]
        return out


def weigh_as_torch(corners: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh four corners (4, n) with torch's roundings: each product is fused with its sum.

    A fused multiply-add rounds once; in float64 the product is exact, and one rounding remains.
    """
    products = np.multiply(corners, weights, dtype=np.float64)
    total: NDArray[np.float32] = products[1].astype(np.float32)
    for corner in (0, 2, 3):
        total = (products[corner] + total).astype(np.float32)
    return total


def _axis(size: int, resized: int, crop: int) -> Axis:
    """Source indexes and weights along one axis, for the crop's part of the resized one.

    torch's arithmetic (half-pixel centres, in float32, the product and the difference in one
    rounding) is repeated step by step: at a tie the last bit decides the grey level.
    """
    offset = round((resized - crop) / 2.0)  # as torchvision's center_crop rounds
    scale = np.float32(size) / np.float32(resized)
    centres = np.arange(offset, offset + crop, dtype=np.float32) + np.float32(0.5)
    source = (centres.astype(np.float64) * np.float64(scale) - 0.5).astype(np.float32)
    source = np.maximum(source, np.float32(0))
    low = np.minimum(source.astype(np.intp), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = np.clip(source - low.astype(np.float32), np.float32(0), np.float32(1))
    return Axis(low, high, np.float32(1) - weight, weight)
