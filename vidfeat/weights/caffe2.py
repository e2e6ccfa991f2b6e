"""The paper's authors' own weights files (Caffe2 blobs in a pickle) as state dicts.

Everything is read off the blobs: their names give the blocks and the classes, their shapes the
channels, the depth and which groups are 3D. What shapes do not show:

- a max-pool after the stem (it has no weights), as in the ``_pool`` networks; CSN has one;
- R2D on clips of three frames from MC2 (both have a stem three frames long and 2D groups), and
  R2D on single frames from f-R2D: MC2 and f-R2D are assumed unless ``model`` says otherwise;
- the clip length (of all but R2D), the frame rate, the preprocessing and the names of the classes.

Batch norm: ``_s`` weight, ``_b`` bias, ``_rm`` running mean, ``_riv`` running variance (despite
its name); its eps is 1e-3 in all of these files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidfeat.errors import WeightsError
from vidfeat.models.catalog import CAFFE2_EPS, CSN, DESIGNS, build_model, check_name
from vidfeat.models.resnet3d import (
    BLOCKS,
    BOTTLENECK_DEPTHS,
    BOTTLENECK_EXPANSION,
    WIDTHS,
    Design,
)
from vidfeat.weights import safe_pickle

Blobs = dict[str, NDArray[Any]]

_BATCH_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}


_SEPARABLE_STEM = {
    "0": "conv1_middle",
    "1": "conv1_middle_spatbn_relu",
    "3": "conv1",
    "4": "conv1_spatbn_relu",
}
_PLAIN_STEM = {"0": "conv1", "1": "conv1_spatbn_relu"}


@dataclass(frozen=True)
class Caffe2Facts:
    """Facts about a network, read from its blobs."""

    model: str
    num_classes: int
    in_channels: int
    midplanes: Literal["block", "conv"] | None
    clip_frames: int | None
    """Clip length of R2D, whose stem is as long as the clip; None for the others."""
    bn_eps: float | None = CAFFE2_EPS
    """None if the network always has the same."""


def read_blobs(path: Path) -> Blobs:
    """The arrays of a Caffe2 pickle by name; the optimiser's are left out.

    Raises:
        WeightsError: the pickle asks for more than arrays and containers, or holds no blobs.
        OSError: the file cannot be read.
    """
    content = safe_pickle.load(path)
    if isinstance(content, dict) and isinstance(content.get("blobs"), dict):
        content = content["blobs"]
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: a pickle of a {type(content).__name__}, not of named blobs")
    blobs = {}
    for key, value in content.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        name = name.rpartition("/")[2]  # gpu_0/conv1_w in files saved from a training run
        array = safe_pickle.array_of(value)
        if array is None or array.size == 1 or name.endswith("_momentum"):
            continue  # counters and learning rates
        blobs[name] = array
    if not {"conv1_w", "conv1a_w"} & blobs.keys():
        audio = any(name.startswith(("audio", "a_")) for name in blobs)
        raise WeightsError(
            f"{path}: no blob conv1_w or conv1a_w: not one of the video networks of VMZ's Caffe2 "
            f"code{', but one with audio' if audio else ''}"
        )
    return blobs


def describe(blobs: Mapping[str, NDArray[Any]]) -> Caffe2Facts:
    """Facts about the network that the blobs belong to.

    Raises:
        WeightsError: it is none of this library's; the message describes what was found.
    """
    if "conv1a_w" in blobs:
        channels = blobs["conv1a_w"].shape[1]
        return Caffe2Facts("c3d", _num_classes(blobs), channels, None, None, bn_eps=None)
    separable = "conv1_middle_w" in blobs
    csn = _csn_kind(blobs)
    depth, groups = _depth(blobs, csn)
    first = blobs["conv1_middle_w" if separable else "conv1_w"]
    if first.ndim != 5:
        raise WeightsError(f"conv1 has the shape {first.shape}: a video network's has 5 axes")
    midplanes = _midplanes(blobs, groups, depth) if separable else None
    if csn is not None:
        model = f"{csn}_{depth}"
    else:
        model = f"r2plus1d_{depth}" if separable else _mixed(blobs, depth, groups)
    if model == "r2plus1d_18" and midplanes == "conv":
        model = "r2plus1d_18_paper"
    return Caffe2Facts(
        model=model,
        num_classes=_num_classes(blobs),
        in_channels=first.shape[1],
        midplanes=midplanes,
        clip_frames=first.shape[2] if model.startswith("r2d") else None,
    )


def _csn_kind(blobs: Mapping[str, NDArray[Any]]) -> str | None:
    """Which channel-separated network it is: one whose middle kernels see a single channel.

    The authors' builder counts such a convolution twice if nothing precedes it, so that the
    convolutions of ir-CSN are numbered 1, 3 and 4, those of ip-CSN 1, 2 (with a ``_middle``) and 3.
    """
    for name, kind in (("comp_0_conv_3_w", "ir_csn"), ("comp_0_conv_2_w", "ip_csn")):
        blob = blobs.get(name)
        if (
            blob is not None
            and blob.ndim == 5
            and blob.shape[1] == 1
            and blob.shape[2:] == (3,) * 3
        ):
            return kind
    return None


def _depth(blobs: Mapping[str, NDArray[Any]], csn: str | None = None) -> tuple[int, list[int]]:
    """Layers of the network, and the number of each group's first block."""
    indexes = {int(m[1]) for name in blobs if (m := re.match(r"comp_(\d+)_conv_\d+_w$", name))}
    if not indexes or indexes != set(range(len(indexes))):
        raise WeightsError("no residual blocks comp_0, comp_1, ...: no video network of VMZ")
    bottleneck = "comp_0_conv_3_w" in blobs
    expansion = BOTTLENECK_EXPANSION if bottleneck else 1
    last = ("4" if csn == "ir_csn" else "3") if bottleneck else "2"
    _refuse_narrow(blobs, last, bottleneck=bottleneck)
    counts = [0] * len(WIDTHS)
    for index in sorted(indexes):
        blob = blobs.get(f"comp_{index}_conv_{last}_w")
        width = 0 if blob is None else blob.shape[0] // expansion
        if width not in WIDTHS:
            raise WeightsError(f"block comp_{index} is {width} wide: {WIDTHS} are known")
        counts[WIDTHS.index(width)] += 1
    for depth, known in BLOCKS.items():
        if known == tuple(counts) and bottleneck == (depth in BOTTLENECK_DEPTHS):
            return depth, [sum(counts[:group]) for group in range(len(counts))]
    kind = "bottleneck" if bottleneck else "basic"
    known_depths = ", ".join(map(str, BLOCKS))
    raise WeightsError(f"{kind} blocks per group {counts}: no network of {known_depths} layers")


def _refuse_narrow(blobs: Mapping[str, NDArray[Any]], last: str, *, bottleneck: bool) -> None:
    """Refuse VMZ's networks of 26 layers, whose bottlenecks end as narrow as they are inside.

    Raises:
        WeightsError: the network is one of them.
    """
    first, end = blobs.get("comp_0_conv_1_w"), blobs.get(f"comp_0_conv_{last}_w")
    if bottleneck and first is not None and end is not None and first.shape[0] == end.shape[0]:
        raise WeightsError(
            "bottleneck blocks that do not widen: a network of 26 layers of VMZ's code (R2D-26 and "
            "the like), which vidfeat does not have"
        )


def _mixed(blobs: Mapping[str, NDArray[Any]], depth: int, groups: list[int]) -> str:
    """The network without (2+1)D convolutions whose groups are 3D where the blobs' are."""
    middle = f"conv_{2 if depth in BOTTLENECK_DEPTHS else 1}_w"
    shapes = [blobs.get(f"comp_{index}_{middle}", np.empty(0)).shape for index in groups]
    if any(len(shape) != 5 or shape[1] == 1 for shape in shapes):
        raise WeightsError("no whole 3D or 2D convolutions, nor those of a CSN: unknown")
    lengths = [shape[2] for shape in shapes]
    stem = blobs["conv1_w"].shape[2]
    found = [length == 3 for length in lengths]
    for name, design in DESIGNS.items():
        kinds = [kind == "3d" for kind in design.kinds]
        same = design == Design(design.kinds, depth) and kinds[1:] == found
        if same and design.kinds[0] != "2+1d":
            length = {"3d": 3, "2d": 1}.get(design.kinds[0])
            if stem == length or (length is None and stem not in (1, 3)):
                return name
    raise WeightsError(f"kernels {stem} frames long in conv1 and {lengths} in the groups: unknown")


def _midplanes(
    blobs: Mapping[str, NDArray[Any]], groups: list[int], depth: int
) -> Literal["block", "conv"]:
    """Infer the rule from the second convolution of the first block that doubles the channels."""
    if depth in BOTTLENECK_DEPTHS:
        return "conv"
    widths = [
        blobs.get(f"comp_{groups[1]}_conv_{number}_middle_w", np.empty(0)).shape[0]
        for number in (1, 2)
    ]
    return "block" if widths[0] == widths[1] else "conv"


def _num_classes(blobs: Mapping[str, NDArray[Any]]) -> int:
    names = [name for name in blobs if re.fullmatch(r"last_out_L\d+_w", name)]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise WeightsError(f"one last layer last_out_L..._w is expected, found {found}")
    return int(blobs[names[0]].shape[0])


def blob_name(
    key: str,
    first_blocks: list[int],
    num_classes: int,
    *,
    separable: bool = False,
    csn: str | None = None,
) -> str:
    """The name of the blob for one tensor of a state dict.

    Args:
        key: such as ``layer2.0.conv1.0.3.weight``.
        first_blocks: number of the first block of layer1 .. layer4, counted over all of them.
        num_classes: part of the name of the last layer.
        separable: the network is an R(2+1)D.
        csn: ``ir_csn`` or ``ip_csn``, for those networks.
    """
    module, _, tensor = key.rpartition(".")
    first, *path = module.split(".")
    if first == "fc":
        return f"last_out_L{num_classes}_{'w' if tensor == 'weight' else 'b'}"
    if first == "stem":
        base = (_SEPARABLE_STEM if separable else _PLAIN_STEM)[path[0]]
    else:
        index = first_blocks[int(first.removeprefix("layer")) - 1] + int(path[0])
        part, place = path[1], path[2:]
        number = part[-1]
        if csn == "ir_csn" and part in ("conv2", "conv3"):
            number = str(int(number) + 1)
        if csn == "ip_csn" and part == "conv2" and place == ["0", "2"]:
            place = ["0", "3"]  # there is no ReLU after 1x1x1 and batch norm
        if part == "downsample":
            base = f"shortcut_projection_{index}" + ("_spatbn" if place == ["1"] else "")
        elif place == ["1"]:
            base = f"comp_{index}_spatbn_{number}"
        elif place == ["0", "1"]:
            base = f"comp_{index}_spatbn_{number}_middle"
        else:
            base = f"comp_{index}_conv_{number}" + ("_middle" if place == ["0", "0"] else "")
    return f"{base}_{_BATCH_NORM[tensor] if 'spatbn' in base else 'w'}"


def convert(
    blobs: Mapping[str, NDArray[Any]], model: str | None = None
) -> tuple[dict[str, Tensor], Caffe2Facts]:
    """A float32 state dict with torchvision's tensor names, and what was read off the blobs.

    Args:
        blobs: as `read_blobs` returns them.
        model: the network, if the shapes leave it open.

    Raises:
        WeightsError: a blob is missing, left over, or of the wrong shape.
    """
    facts = describe(blobs)
    if facts.model == "c3d":
        return _convert_c3d(blobs, facts)
    if model is not None and model != facts.model:
        clip_frames = blobs["conv1_w"].shape[2] if model.startswith("r2d") else None
        midplanes = facts.midplanes if DESIGNS[check_name(model)].kinds[0] == "2+1d" else None
        facts = replace(facts, model=model, clip_frames=clip_frames, midplanes=midplanes)
    with torch.device("meta"):
        network = build_model(
            facts.model,
            facts.num_classes,
            clip_frames=facts.clip_frames or 16,
            in_channels=facts.in_channels,
            midplanes=facts.midplanes,
        )
    design = DESIGNS[facts.model]
    counts = BLOCKS[design.depth]
    first_blocks = [sum(counts[:group]) for group in range(len(counts))]
    separable = design.kinds[0] == "2+1d"
    csn = next((name for name, kind in CSN.items() if kind == design.kinds[1]), None)

    def name_of(key: str) -> str:
        return blob_name(key, first_blocks, facts.num_classes, separable=separable, csn=csn)

    return _by_names(blobs, network, name_of, facts), facts


def _convert_c3d(
    blobs: Mapping[str, NDArray[Any]], facts: Caffe2Facts
) -> tuple[dict[str, Tensor], Caffe2Facts]:
    with torch.device("meta"):
        network = build_model("c3d", facts.num_classes, in_channels=facts.in_channels)

    def name_of(key: str) -> str:
        module, _, tensor = key.rpartition(".")
        first, _, place = module.partition(".")
        if first in ("fc6", "fc7", "fc"):
            base = f"last_out_L{facts.num_classes}" if first == "fc" else first
            return f"{base}_{'w' if tensor == 'weight' else 'b'}"
        number = 1 if first == "stem" else int(first.removeprefix("conv"))
        unit, norm = divmod(int(place), 3)  # a unit is a convolution, batch norm and ReLU
        base = f"conv{number}{'ab'[unit]}"
        if norm:
            return f"{base}_bn_{_BATCH_NORM[tensor]}"
        return f"{base}_{'w' if tensor == 'weight' else 'b'}"

    return _by_names(blobs, network, name_of, facts), facts


def _by_names(
    blobs: Mapping[str, NDArray[Any]],
    network: nn.Module,
    name_of: Callable[[str], str],
    facts: Caffe2Facts,
) -> dict[str, Tensor]:
    """The network's tensors from the blobs that ``name_of`` names, with none left over."""
    left = dict(blobs)
    state: dict[str, Tensor] = {}
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        name = name_of(key)
        if name not in left:
            raise WeightsError(f"these blobs are not of {facts.model}: {name} is missing")
        array = left.pop(name)
        if name.startswith("last_out") and array.ndim == 5:  # as a 1x1x1 convolution
            array = array.reshape(array.shape[:2])
        if tuple(array.shape) != tuple(tensor.shape):
            raise WeightsError(
                f"these blobs are not of {facts.model}: {name} is {tuple(array.shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
        state[key] = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if left:
        raise WeightsError(
            f"these blobs are not of {facts.model}: {len(left)} are left over, such as "
            f"{', '.join(sorted(left)[:3])}"
        )
    return state
