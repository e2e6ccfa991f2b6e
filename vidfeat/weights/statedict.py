"""What a state dict reveals: its hash, its network, and why it does not fit another.

A state dict maps tensor names to tensors; torchvision's names are used here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from vidfeat.errors import StateDictError
from vidfeat.models import c3d, hara, inception3d, resnet50, slowfast, torchvision_video, x3d
from vidfeat.models.catalog import DESIGNS, MODEL_NAMES, OTHERS, build_model
from vidfeat.models.resnet3d import BLOCKS
from vidfeat.weights.layouts import checkpoint_key, understand

CLASSIFIERS = ("fc.", "head.", "classifier.")  # the last layer's tensors, network by network
_UNCOUNTED = "num_batches_tracked"  # a counter of training steps that no output depends on

Shapes = Mapping[str, tuple[int, ...]]


def tensor_hash(state_dict: Mapping[str, Tensor], exclude: Iterable[str] = ()) -> str:
    """SHA-256 of names, types, shapes and values, the same whichever file they come from.

    Args:
        state_dict: tensors by name; their order does not count, nor do the counters of batch norm.
        exclude: prefixes of names to leave out, such as `CLASSIFIERS` for embeddings.
    """
    digest = hashlib.sha256()
    prefixes = tuple(exclude)
    for name in sorted(state_dict):
        if name.endswith(_UNCOUNTED) or name.startswith(prefixes):
            continue
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class TensorFacts:
    """Facts about one network, from the shapes of its tensors."""

    num_classes: int
    in_channels: int
    midplanes: Literal["block", "conv"] | None
    clip_frames: int | None
    """Clip length of R2D, whose stem is as long as the clip; None for the others."""


def read_facts(state_dict: Mapping[str, Tensor], model: str) -> TensorFacts:
    """Read class count, channels, midplane rule and R2D's clip length from a network's tensors.

    Whatever is not found keeps the network's own value; `check_fit` reports what is missing.
    """
    state_dict = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
    classes = [
        tensor.shape[0]
        for name, tensor in state_dict.items()
        if name.startswith(CLASSIFIERS) and name.endswith("bias") and tensor.dim() == 1
    ]
    stem = state_dict.get("stem.0.weight", state_dict.get("slow.stem.0.weight"))
    in_channels = stem.shape[1] if stem is not None and stem.dim() == 5 else 3
    design = DESIGNS.get(model)
    midplanes = None
    if design is not None and design.kinds[0] == "2+1d":
        midplanes = design.midplanes
        if not design.bottleneck:
            parts = [state_dict.get(f"layer2.0.conv{n}.0.0.weight") for n in (1, 2)]
            if parts[0] is not None and parts[1] is not None:
                midplanes = "block" if parts[0].shape[0] == parts[1].shape[0] else "conv"
    whole = design is not None and design.kinds[0] == "whole"
    return TensorFacts(
        num_classes=classes[0] if classes else 400,
        in_channels=in_channels,
        midplanes=midplanes,
        clip_frames=stem.shape[2] if whole and stem is not None and stem.dim() == 5 else None,
    )


def check_fit(state_dict: Mapping[str, Any], expected: Shapes, model: str, origin: str) -> None:
    """Refuse tensors that do not fit a network, with the differences and the layout they resemble.

    Args:
        state_dict: what was read.
        expected: the shape of each tensor of the network.
        model: the network's name.
        origin: the file, for the message.

    Raises:
        StateDictError: tensors are missing, unexpected or of another shape.
    """
    known = {name for name in expected if not name.endswith(_UNCOUNTED)}
    given = {name for name in state_dict if not str(name).endswith(_UNCOUNTED)}
    shared = sorted(known & given)
    problems = [
        _count("missing", sorted(known - given)),
        _count("unexpected", sorted(map(str, given - known))),
        _count(
            "of another shape",
            [
                f"{name} is {_shape(state_dict[name])}, expected {expected[name]}"
                for name in shared
                if _shape(state_dict[name]) != expected[name]
            ],
        ),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise StateDictError(
            f"{origin} does not fit {model}: {found}; {_advice(state_dict, model)}"
        )


def _shape(value: object) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _count(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"


def _advice(state_dict: Mapping[str, Any], model: str) -> str:
    layout = recognise(state_dict)
    if layout is None:
        return "it looks like no layout that vidfeat knows"
    if layout.network is None:
        return f"it looks like {layout.description}"
    return f"it looks like {layout.description}: give model={layout.network} instead of {model}"


@dataclass(frozen=True)
class Layout:
    """The layout that a state dict resembles."""

    description: str
    network: str | None = None


def recognise(state_dict: Mapping[str, Any]) -> Layout | None:
    """Name the layout of a state dict: a wrapper, another framework's, or that of a network."""
    names = [str(name) for name in state_dict]
    tensors = {str(name): v for name, v in state_dict.items() if isinstance(v, Tensor)}
    inner = checkpoint_key(state_dict)
    convert = "vidfeat weights convert FILE -o FILE.safetensors"
    if inner is not None:
        return Layout(f"a training checkpoint with the weights under {inner!r}: {convert}")
    if names and all(name.startswith("module.") for name in names):
        return Layout(f"a DDP checkpoint, whose names begin with module.: {convert}")
    if "conv1_w" in names or "blobs" in names:
        return Layout(f"the blobs of a Caffe2 file: {convert}")
    foreign = understand(state_dict)
    if foreign is not None:
        networks = fitting_networks(foreign.tensors, foreign.layout.networks)
        return Layout(foreign.layout.description, networks[0] if networks else None)
    if any(name.startswith("backbone.") for name in names):
        return Layout("a checkpoint of mmaction2, whose networks are built differently")
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if _is_body(name)}
    for network, rule in _variants(shapes):
        if _fits(shapes, _body_shapes(network, rule)):
            by = {"block": "torchvision's midplanes", "conv": "the paper's midplanes", None: ""}
            return Layout(f"{network} with {by[rule]}" if rule else network, network)
    return None


def fitting_networks(state_dict: Mapping[str, Any], networks: Iterable[str]) -> tuple[str, ...]:
    """The networks whose tensors, except the last layer's, have these names and shapes."""
    tensors = {str(name): v for name, v in state_dict.items() if isinstance(v, Tensor)}
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if _is_body(name)}
    return tuple(
        network
        for network in networks
        for rule in ((None,) if network not in DESIGNS else (None, *_other_rule(network)))
        if _fits(shapes, _body_shapes(network, rule))
    )


def _other_rule(network: str) -> tuple[Literal["block", "conv"], ...]:
    design = DESIGNS[network]
    if design.kinds[0] != "2+1d" or design.bottleneck:
        return ()
    return ("block",) if design.midplanes == "conv" else ("conv",)


def _fits(shapes: Shapes, expected: Shapes) -> bool:
    return shapes.keys() == expected.keys() and all(
        _same(shapes[name], expected[name], name) for name in expected
    )


def _is_body(name: str) -> bool:
    return not name.startswith(CLASSIFIERS) and not name.endswith(_UNCOUNTED)


def _same(given: tuple[int, ...], expected: tuple[int, ...], name: str) -> bool:
    """Whether shapes are equal; the stem may have other channels, and R2D's another clip length."""
    if name == "stem.0.weight" and len(given) == len(expected):
        length = given[2] == expected[2] or (expected[2] == 16 and given[2] > 3)
        return given[0] == expected[0] and given[3:] == expected[3:] and length
    return given == expected


def _variants(names: Iterable[str]) -> list[tuple[str, Literal["block", "conv"] | None]]:
    """The networks with as many blocks, each with its own midplane rule, then with the other."""
    names = list(names)
    blocks = {name.partition(".conv1.")[0] for name in names if name.startswith("layer")}
    found = {name for name in blocks if name.count(".") == 1}
    own: list[tuple[str, Literal["block", "conv"] | None]] = []
    other: list[tuple[str, Literal["block", "conv"] | None]] = []
    for name in MODEL_NAMES:
        design = DESIGNS.get(name)
        if design is None:
            if OTHERS[name] in _modules_of(names):
                own.append((name, None))
            continue
        if len(found) != sum(BLOCKS[design.depth]):
            continue
        if design.kinds[0] != "2+1d":
            own.append((name, None))
            continue
        own.append((name, design.midplanes))
        other.append((name, "block" if design.midplanes == "conv" else "conv"))
    return own + other


def _modules_of(names: Sequence[str]) -> tuple[object, ...]:
    """The modules whose networks have a tensor with one of these names."""
    first = set(names)
    marks: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("fc6.1.weight", (c3d,)),
        ("stage2.Conv3d_2b_1x1.0.weight", (inception3d,)),
        ("slow.stem.0.weight", (slowfast,)),
        ("lin5.1.weight", (x3d,)),
        ("layer1.0.conv1.0.weight", (resnet50, hara)),
        ("layer1.0.conv1.0.0.weight", (hara,)),
    )
    return next((modules for mark, modules in marks if mark in first), (torchvision_video,))


@cache
def _body_shapes(name: str, rule: Literal["block", "conv"] | None) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes_of(name, midplanes=rule).items() if _is_body(key)}


def shapes_of(name: str, num_classes: int = 400, **options: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a network, without its memory; options as for `build_model`."""
    with torch.device("meta"):
        network = build_model(name, num_classes, **options)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
