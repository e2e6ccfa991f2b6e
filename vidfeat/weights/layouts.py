"""Published PyTorch files whose tensors have names other than ours.

Each layout is recognised by the name of one tensor, and turns its names into ours. Nothing else is
changed, except a linear layer that was published as a convolution.

- TSP: a backbone below ``features.``, and one or two linear layers.
- pytorch-i3d: Inception's modules by name.
- PyTorchVideo: numbered ``blocks`` of stem, groups and head.
- 3D-ResNets-PyTorch: a convolution and a batch norm side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vidfeat.models import hara, inception3d, resnet50, slowfast, x3d

CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "module")
_DDP = "module."


@dataclass(frozen=True)
class Layout:
    """A published way to name tensors.

    Attributes:
        description: whose layout it is.
        marks: names that only such files have; one of them identifies it.
        rename: returns our name of a tensor, None for one that is not used.
        networks: which of our networks are published in it.
        bn_eps: eps of batch norm, for networks published with one other than ours.
    """

    description: str
    marks: tuple[str, ...]
    rename: Callable[[str], str | None]
    networks: tuple[str, ...]
    bn_eps: Mapping[str, float] = field(default_factory=dict)


def _tsp(name: str) -> str | None:
    if name.startswith("features."):
        return name.removeprefix("features.")
    head, _, tensor = name.partition(".")
    # fc1 classifies actions; fc2 separates action from background, given a whole video's vector too
    return f"fc.{tensor}" if head in ("fc", "fc1") else None


_I3D_UNIT = {"conv3d": "0", "bn": "1"}


def _i3d(name: str) -> str | None:
    first, *path = name.split(".")
    path = [_I3D_UNIT.get(part, part) for part in path]
    if first == "logits":
        return f"fc.{path[-1]}"
    if first == "Conv3d_1a_7x7":
        return ".".join(("stem", *path))
    found = re.fullmatch(r"(?:Conv3d|Mixed)_(\d)\w+", first)
    return ".".join((f"stage{found[1]}", first, *path)) if found else name


_BLOCK = {
    "branch1_conv": "downsample.0",
    "branch1_norm": "downsample.1",
    "branch2.conv_a": "conv1.0",
    "branch2.norm_a": "conv1.1",
    "branch2.conv_b": "conv2.0",
    "branch2.conv_b.conv_t": "conv2.0.0",
    "branch2.conv_b.norm": "conv2.0.1",
    "branch2.conv_b.conv_xy": "conv2.0.3",
    "branch2.norm_b": "conv2.1",
    "branch2.norm_b.0": "conv2.1",  # X3D: batch norm, then the weights of the channels
    "branch2.norm_b.1.block.0": "conv2.2.weigh.0",
    "branch2.norm_b.1.block.2": "conv2.2.weigh.2",
    "branch2.conv_c": "conv3.0",
    "branch2.norm_c": "conv3.1",
}
_STEM = {
    "conv": "stem.0",
    "norm": "stem.1",
}
_X3D = {
    "0.conv.conv_t": "stem.0",  # so named, though it is the one over space
    "0.conv.conv_xy": "stem.1",
    "0.norm": "stem.2",
    "5.pool.pre_conv": "conv5.0",
    "5.pool.pre_norm": "conv5.1",
    "5.pool.post_conv": "lin5.1",
}
_FUSION = {"conv_fast_to_slow": "0", "norm": "1"}


def _pytorchvideo(first_group: int) -> Callable[[str], str | None]:
    """A renaming for groups that are the blocks 1 to 4, or 1, 3, 4, 5 with a pool in between."""

    def rename(name: str) -> str | None:
        module, _, tensor = name.removeprefix("blocks.").rpartition(".")
        number, _, rest = module.partition(".")
        if rest == "proj":
            return f"fc.{tensor}"
        if module in _X3D and first_group == 0:
            return f"{_X3D[module]}.{tensor}"
        index = int(number)
        if first_group == 2 and index > 1:
            index -= 1
        side = ""
        found = re.match(r"multipathway_(blocks\.(\d)|fusion)\.(.*)", rest)
        if found and found[1] == "fusion":
            return f"fuse.{index}.{_FUSION[found[3]]}.{tensor}"
        if found:
            side, rest = ("slow.", "fast.")[int(found[2])], found[3]
        if index == 0:
            return f"{side}{_STEM[rest]}.{tensor}"
        found = re.fullmatch(r"res_blocks\.(\d+)\.(.*)", rest)
        if found is None:
            return name
        return f"{side}layer{index}.{found[1]}.{_BLOCK.get(found[2], found[2])}.{tensor}"

    return rename


def _hara(name: str) -> str | None:
    module, _, tensor = name.rpartition(".")
    *place, part = module.split(".")
    found = re.fullmatch(r"(conv|bn)(\d)(_s|_t)?", part)
    if found is None:
        return name
    kind, number, half = found.groups()
    norm = kind == "bn"
    if not place:  # the stem
        at = {"_s": 0, None: 0, "_t": 3}[half] + norm
        return f"stem.{at}.{tensor}"
    inside = {"_s": f"0.{int(norm)}", "_t": "1" if norm else "0.3", None: str(int(norm))}[half]
    return ".".join((*place, f"conv{number}", inside, tensor))


LAYOUTS = (
    Layout(
        "a network of TSP",
        ("features.stem.0.weight",),
        _tsp,
        ("r2plus1d_34", "r2plus1d_18", "r3d_18"),
    ),
    Layout("I3D of pytorch-i3d", ("Conv3d_1a_7x7.conv3d.weight",), _i3d, inception3d.NAMES),
    Layout(
        "X3D of PyTorchVideo",
        ("blocks.0.conv.conv_t.weight",),
        _pytorchvideo(0),
        ("x3d_m", "x3d_s", "x3d_xs", "x3d_l"),
    ),
    Layout(
        "SlowFast of PyTorchVideo",
        ("blocks.0.multipathway_blocks.0.conv.weight",),
        _pytorchvideo(1),
        slowfast.NAMES,
    ),
    Layout(
        "C2D or I3D of PyTorchVideo",
        ("blocks.6.proj.weight",),
        _pytorchvideo(2),
        ("c2d_r50", "i3d_r50"),
    ),
    Layout(
        "a network of PyTorchVideo",
        ("blocks.5.proj.weight",),
        _pytorchvideo(1),
        ("slow_r50", "r2plus1d_r50", "ir_csn_101"),
        {"ir_csn_101": resnet50.BN_EPS},
    ),
    Layout("a 3D ResNet of Hara", ("layer1.0.bn1.weight",), _hara, hara.NAMES),
    Layout("a (2+1)D ResNet of Hara", ("conv1_s.weight",), _hara, hara.NAMES),
)
assert set(LAYOUTS[2].networks) == set(x3d.NAMES)


@dataclass(frozen=True)
class Understood:
    """Tensors under our names, and the facts of their layout."""

    tensors: dict[str, Tensor]
    layout: Layout


def checkpoint_key(content: Mapping[str, Any]) -> str | None:
    """The key under which a training checkpoint keeps its tensors; None if it is not one."""
    for key in CHECKPOINT_KEYS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and inner and all(torch.is_tensor(v) for v in inner.values()):
            return key
    return None


def unwrap(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a state dict, taken from a training checkpoint and without DDP's prefix."""
    key = checkpoint_key(content)
    if key is not None:
        content = content[key]
    if content and all(str(name).startswith(_DDP) for name in content):
        content = {str(name).removeprefix(_DDP): value for name, value in content.items()}
    return dict(content)


def understand(content: Mapping[str, Any]) -> Understood | None:
    """The tensors under our names, if a published layout is recognised; else None."""
    inner = unwrap(content)
    for layout in LAYOUTS:
        mark = next((name for name in layout.marks if name in inner), None)
        if mark is None or not isinstance(inner[mark], Tensor):
            continue
        if layout.rename is _hara and not _is_3d(inner):
            continue  # a ResNet for images has the same names
        tensors: dict[str, Tensor] = {}
        for name, value in inner.items():
            ours = layout.rename(str(name))
            if ours is None:
                continue
            if ours == "fc.weight" and isinstance(value, Tensor) and value.dim() == 5:
                value = value.flatten(1)
            tensors[ours] = value
        return Understood(tensors, layout)
    return None


def _is_3d(tensors: Mapping[str, Any]) -> bool:
    stem = tensors.get("conv1.weight", tensors.get("conv1_s.weight"))
    return isinstance(stem, Tensor) and stem.dim() == 5
