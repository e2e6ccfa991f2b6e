"""Random draws for a clip, and augmentations of pixels in the training process.

Cropping and mirroring are part of the request to a decode process (``clips.py``); their random
numbers are drawn here. RandAugment and mixup work on tensors, on whatever device holds them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidfeat.datasets import synthetic_motion
from vidfeat.datasets.base import Sample
from vidfeat.datasets.synthetic_motion import SceneRequest
from vidfeat.training.clips import ClipRequest, Window
from vidfeat.training.config import AugmentConfig, DataConfig
from vidfeat.training.order import Draw, Stream, generator

# RandAugment's operations ("RandAugment: Practical automated data augmentation", 2019) with their
# largest magnitudes; translations are relative to the side of the crop (50 of 112 pixels).
OPERATIONS: tuple[tuple[str, float, bool], ...] = (
    ("identity", 0.0, False),
    ("shear_x", 0.3, True),
    ("shear_y", 0.3, True),
    ("translate_x", 50.0 / 112, True),
    ("translate_y", 50.0 / 112, True),
    ("rotate", 30.0, True),
    ("brightness", 0.9, True),
    ("saturation", 0.9, True),
    ("contrast", 0.9, True),
    ("sharpness", 0.9, True),
    ("posterize", 4.0, False),
    ("solarize", 256.0, False),
    ("autocontrast", 0.0, False),
    ("equalize", 0.0, False),
)
MAX_MAGNITUDE = 30.0


@dataclass(frozen=True)
class Operation:
    """One drawn RandAugment operation and its strength."""

    name: str
    amount: float


@dataclass(frozen=True)
class Drawn:
    """All random draws for one clip of a step."""

    file: str
    request: ClipRequest | SceneRequest
    labels: tuple[int, ...]
    """The labels that count: see ``DataConfig.labels``."""
    operations: tuple[Operation, ...] = ()


def draw_clip(
    draw: Draw,
    epoch: int,
    sample: Sample,
    file: str,
    *,
    seed: int,
    data: DataConfig,
    augment: AugmentConfig,
) -> Drawn:
    """Draw the clip of a sample: where it starts, what is cut out, which of its labels counts.

    The numbers depend only on (seed, epoch, sample, round), and each has its place in the stream
    whether or not it is used, so that turning off one augmentation does not change the others.
    """
    numbers = generator(seed, Stream.CLIP, epoch, draw.sample, draw.round).random(12)
    start, top, left, area, aspect, flip, which = (float(x) for x in numbers[:7])
    labels = sample.labels
    if data.labels == "draw":
        labels = (labels[int(which * len(labels))],)
    operations = _draw_operations(draw, epoch, seed, augment) if augment.randaugment else ()
    if data.dataset == synthetic_motion.NAME:
        looks = (seed, int(Stream.SCENE), epoch, draw.round)
        scene = synthetic_motion.training_request(sample.path, looks, data.frames, data.crop)
        return Drawn(file, scene, labels, operations)
    low, high = augment.area
    narrow, wide = (math.log(x) for x in augment.aspect)
    resized = augment.crop == "resized"
    centred = augment.crop == "center"
    window = Window(
        scale=data.scale,
        crop=data.crop,
        top=0.5 if centred else top,
        left=0.5 if centred else left,
        area=low + (high - low) * area if resized else 0.0,
        aspect=math.exp(narrow + (wide - narrow) * aspect) if resized else 1.0,
        mirrored=flip < augment.flip,
    )
    request = ClipRequest(
        frames=data.frames,
        stride=data.stride,
        fps=data.clip_fps,
        start=start if augment.temporal_jitter else 0.5,
        window=window,
        flow=data.modality == "flow",
        start_seconds=sample.start_seconds,
        end_seconds=sample.end_seconds,
    )
    return Drawn(file, request, labels, operations)


def _draw_operations(
    draw: Draw, epoch: int, seed: int, augment: AugmentConfig
) -> tuple[Operation, ...]:
    numbers = generator(seed, Stream.CLIP, epoch, draw.sample, draw.round, 1)
    strength = augment.randaugment_magnitude / MAX_MAGNITUDE
    chosen = []
    for pick, sign in numbers.random((augment.randaugment, 2)):
        name, largest, signed = OPERATIONS[int(pick * len(OPERATIONS))]
        chosen.append(Operation(name, strength * largest * (-1 if signed and sign < 0.5 else 1)))
    return tuple(chosen)


def apply_operations(clip_TCHW: Tensor, operations: Sequence[Operation]) -> Tensor:
    """Apply RandAugment's operations to all frames of a uint8 clip (T, 3, H, W) alike."""
    from torchvision.transforms.v2 import functional as change

    bilinear = change.InterpolationMode.BILINEAR
    side = clip_TCHW.shape[-1]
    for operation in operations:
        amount = operation.amount
        if operation.name in ("shear_x", "shear_y"):
            shear = [math.degrees(math.atan(amount)), 0.0]
            shear = shear if operation.name == "shear_x" else shear[::-1]
            clip_TCHW = change.affine(clip_TCHW, 0.0, [0, 0], 1.0, shear, interpolation=bilinear)
        elif operation.name in ("translate_x", "translate_y"):
            shift = [int(amount * side), 0]
            shift = shift if operation.name == "translate_x" else shift[::-1]
            clip_TCHW = change.affine(clip_TCHW, 0.0, shift, 1.0, [0.0, 0.0])
        elif operation.name == "rotate":
            clip_TCHW = change.rotate(clip_TCHW, amount, interpolation=bilinear)
        elif operation.name == "posterize":
            clip_TCHW = change.posterize(clip_TCHW, 8 - round(amount))
        elif operation.name == "solarize":
            clip_TCHW = change.solarize(clip_TCHW, 255.0 - min(amount, 255.0))
        elif operation.name == "brightness":
            clip_TCHW = change.adjust_brightness(clip_TCHW, 1 + amount)
        elif operation.name == "saturation":
            clip_TCHW = change.adjust_saturation(clip_TCHW, 1 + amount)
        elif operation.name == "contrast":
            clip_TCHW = change.adjust_contrast(clip_TCHW, 1 + amount)
        elif operation.name == "sharpness":
            clip_TCHW = change.adjust_sharpness(clip_TCHW, 1 + amount)
        elif operation.name == "autocontrast":
            clip_TCHW = change.autocontrast(clip_TCHW)
        elif operation.name == "equalize":
            clip_TCHW = change.equalize(clip_TCHW)
    return clip_TCHW


def mixup_weights(config: AugmentConfig, seed: int, step: int, start: int, stop: int) -> Tensor:
    """Mixup weights of a share of a batch: each clip's own weight; its partner gets the rest.

    Positions 2k and 2k + 1 of a batch are partners and share a weight, drawn for (seed, step, k).
    Partners are in the same process as long as each process has an even share.
    """
    pairs = range(start // 2, (stop + 1) // 2)
    drawn = {
        pair: generator(seed, Stream.MIXUP, step, pair).beta(config.mixup, config.mixup)
        for pair in pairs
    }
    return torch.tensor([drawn[i // 2] for i in range(start, stop)], dtype=torch.float32)


def mix(clips: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each clip and its target with its partner's; the first dimension must be even."""
    partner = torch.arange(len(clips), device=clips.device) ^ 1
    own = weights.to(clips.device).view(-1, *([1] * (clips.dim() - 1)))
    rows = weights.to(targets.device).view(-1, 1)
    return (
        own * clips + (1 - own) * clips[partner],
        rows * targets + (1 - rows) * targets[partner],
    )


def smoothed_targets(labels: Sequence[Sequence[int]], num_classes: int, smoothing: float) -> Tensor:
    """Targets (N, classes): 1 - smoothing shared by the labels, the rest spread over all classes.

    With labels in G groups, cross-entropy is the mean of the cross-entropies within the groups plus
    a term that makes each group's scores add up to 1 / G: one softmax learns several tasks.
    """
    targets = torch.zeros(len(labels), num_classes)
    for row, own in enumerate(labels):
        targets[row, list(own)] = (1 - smoothing) / len(own)
    return targets + smoothing / num_classes
