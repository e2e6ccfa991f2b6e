"""Networks by name: ``r2plus1d_18``, ``rmc4_34``, ``swin3d_t`` and so on.

The names of the paper's networks are ``<family>_<layers>``. ``r2plus1d_18`` is torchvision's (its
midplane rule, its batch-norm eps), ``r2plus1d_18_paper`` the paper's, ``r2plus1d_152_pool`` has
the max-pool after the stem; all others are the paper's, with the batch-norm eps of its files.
``_w16`` has a quarter of the channels everywhere: a tenth of the work, for training on a CPU.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, cast

import torch

from vidfeat.errors import UsageError
from vidfeat.models import (
    c3d,
    hara,
    inception3d,
    resnet50,
    slowfast,
    torchvision_video,
    x3d,
)
from vidfeat.models.base import VideoNetwork
from vidfeat.models.resnet3d import BOTTLENECK_DEPTHS, Design, Kind, MidplaneRule, VideoResNet

TORCHVISION_EPS = 1e-5
CAFFE2_EPS = 1e-3  # of every network that the paper's authors published
_TORCHVISION_NAMES = ("r2plus1d_18", "r3d_18", "mc3_18")


def _kinds(family: str) -> tuple[Kind, ...]:
    """2D or 3D, for the stem (group 1) and layer1 .. layer4 (groups 2 .. 5)."""
    if family.startswith("mc"):  # 3D below group x
        return tuple("3d" if group < int(family[2]) else "2d" for group in range(1, 6))
    if family.startswith("rmc"):  # 3D from group x on
        return tuple("3d" if group >= int(family[3]) else "2d" for group in range(1, 6))
    kinds: dict[str, tuple[Kind, ...]] = {
        "r2d": ("whole", "2d", "2d", "2d", "2d"),
        "fr2d": ("2d",) * 5,
        "r3d": ("3d",) * 5,
        "r2plus1d": ("2+1d",) * 5,
    }
    return kinds[family]


FAMILIES = (
    "r2plus1d",
    "r3d",
    *(f"mc{x}" for x in range(2, 6)),
    *(f"rmc{x}" for x in range(2, 6)),
    "r2d",
    "fr2d",
)
CSN: dict[str, Kind] = {"ir_csn": "ir", "ip_csn": "ip"}


def _designs() -> dict[str, Design]:
    designs: dict[str, Design] = {}
    for family in FAMILIES:
        kinds = cast(tuple[Kind, Kind, Kind, Kind, Kind], _kinds(family))
        for depth in (10, 18, 34, 152) if family in ("r2plus1d", "r3d") else (10, 18, 34):
            design = Design(kinds, depth)
            name = f"{family}_{depth}"
            designs[name] = design
            if name == "r2plus1d_18":
                designs[name] = replace(design, midplanes="block")
                designs[f"{name}_paper"] = design
            if depth == 152:
                designs[f"{name}_pool"] = replace(design, stem_pool=True)
    for family, kind in CSN.items():
        for depth in BOTTLENECK_DEPTHS:
            kinds = ("3d", kind, kind, kind, kind)
            designs[f"{family}_{depth}"] = Design(kinds, depth, stem_pool=True)
    for family in FAMILIES:
        for width in (16, 24, 32) if family == "r2plus1d" else (16,):
            designs[f"{family}_10_w{width}"] = replace(designs[f"{family}_10"], width=width)
    return designs


class Family(Protocol):
    """A module that builds networks."""

    NAMES: tuple[str, ...]

    def build(
        self, name: str, *, num_classes: int, clip_frames: int, in_channels: int
    ) -> VideoNetwork:
        """Build one of its networks with random weights."""


DESIGNS = _designs()
FAMILIES_BY_MODULE = cast(
    "tuple[Family, ...]",
    (inception3d, resnet50, slowfast, x3d, hara, c3d, torchvision_video),
)
OTHERS = {name: family for family in FAMILIES_BY_MODULE for name in family.NAMES}
"""The networks that are neither the paper's nor its authors', and the module of each."""
MODEL_NAMES: tuple[str, ...] = (*DESIGNS, *OTHERS)


# For the networks of the PyTorchVideo library, the size that it tests with.
INPUT_SIZES = {
    **dict.fromkeys(("c3d", "resnet3d", "resnet2p1d"), 112),
    **dict.fromkeys(("c2d", "slow", "slowfast", "r2plus1d"), 256),
    "i3d_r50": 256,
    "x3d_xs": 182,
    "x3d_s": 182,
    "x3d_m": 256,
    "x3d_l": 356,
}


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a network that do not depend on its weights.

    Attributes:
        name: as `build_model` takes it.
        parameters: their number with 400 classes, three channels, and ``clip_frames`` frames.
        embedding_size: length of the default layer's vector.
        layer_names: the layers, first to last; the last one is the default.
        layer_widths: channels of each layer.
        clip_frames: T for which parameters were counted; only R2D's count depends on it.
        input_size: side in pixels of the square that the network's published forms take.
    """

    name: str
    parameters: int
    embedding_size: int
    layer_names: tuple[str, ...]
    layer_widths: tuple[int, ...]
    clip_frames: int
    input_size: int


def check_name(name: str) -> str:
    """Return the name; for an unknown one, the error lists similar ones.

    Raises:
        UsageError: no such network.
    """
    if name in MODEL_NAMES:
        return name
    near = difflib.get_close_matches(name, MODEL_NAMES, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"no network {name!r}: {hint}'vidfeat models' lists all")


def default_bn_eps(name: str) -> float:
    """Batch-norm eps of a paper's network: torchvision's for its three, the authors' for others."""
    return TORCHVISION_EPS if name in _TORCHVISION_NAMES else CAFFE2_EPS


def build_model(
    name: str,
    num_classes: int = 400,
    *,
    clip_frames: int = 16,
    in_channels: int = 3,
    midplanes: MidplaneRule | None = None,
    bn_eps: float | None = None,
    stem_pool: bool | None = None,
) -> VideoNetwork:
    """Build a network with random weights.

    Args:
        name: one of ``MODEL_NAMES``.
        num_classes: outputs of the last layer.
        clip_frames: T; R2D is made for one clip length, MViT and C3D for 16, the others take any.
        in_channels: 3 for RGB, 2 for optical flow.
        midplanes: ``block`` (torchvision) or ``conv`` (paper); None takes the name's own.
        bn_eps: None takes the name's own: 1e-5 for torchvision's three, 1e-3 for the others.
        stem_pool: whether there is a max-pool after the stem; None takes the name's own.

    Raises:
        UsageError: an unknown name, a number below one, or an option this network does not have.
    """
    check_name(name)
    for option, value in (
        ("num_classes", num_classes),
        ("clip_frames", clip_frames),
        ("in_channels", in_channels),
    ):
        if value < 1:
            raise UsageError(f"{option} is {value}: give at least 1")
    if name not in DESIGNS:
        if midplanes is not None or bn_eps is not None or stem_pool is not None:
            raise UsageError(
                f"midplanes, bn_eps and stem_pool belong to the paper's networks: {name} has none "
                "of them"
            )
        return OTHERS[name].build(
            name, num_classes=num_classes, clip_frames=clip_frames, in_channels=in_channels
        )
    design = DESIGNS[name]
    if midplanes is not None:
        if design.kinds[0] != "2+1d":
            raise UsageError(f"only R(2+1)D has midplanes: leave the option out for {name}")
        design = replace(design, midplanes=midplanes)
    if stem_pool is not None:
        design = replace(design, stem_pool=stem_pool)
    return VideoResNet(
        design,
        num_classes=num_classes,
        clip_frames=clip_frames,
        in_channels=in_channels,
        bn_eps=default_bn_eps(name) if bn_eps is None else bn_eps,
    )


def count_parameters(name: str, num_classes: int = 400, **options: Any) -> int:
    """Number of trained parameters, without their memory; options as for `build_model`.

    Raises:
        UsageError: as `build_model` does.
    """
    with torch.device("meta"):
        network = build_model(name, num_classes, **options)
    return sum(parameter.numel() for parameter in network.parameters())


def input_size(name: str) -> int:
    """Side in pixels of the square that a network's published form takes."""
    if name in OTHERS:
        return INPUT_SIZES.get(name) or INPUT_SIZES.get(name.partition("_")[0], 224)
    return 224 if name.startswith(tuple(CSN)) else 112


@cache
def model_info(name: str, clip_frames: int = 16) -> ModelInfo:
    """Size and layers of a network, counted on a copy that has shapes and no memory.

    Raises:
        UsageError: an unknown name.
    """
    with torch.device("meta"):
        network = build_model(name, clip_frames=clip_frames)
    return ModelInfo(
        name=name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        embedding_size=network.embedding_size(),
        layer_names=network.layer_names,
        layer_widths=tuple(network.layer_widths.values()),
        clip_frames=clip_frames,
        input_size=input_size(name),
    )
