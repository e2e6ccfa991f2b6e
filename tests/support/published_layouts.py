"""Files as other publishers wrote them, made from our own networks by a table of names and shapes.

``layouts/NETWORK.txt`` has a line a tensor: its published name, our name, its shape. The published
side was written down from the publishers' own networks, and the pairs were checked by running
both. ``NAME.* OTHER.* 64`` stands for a batch norm of 64 channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

FOLDER = Path(__file__).with_name("layouts")
LAYOUTS = tuple(sorted(file.stem for file in FOLDER.glob("*.txt")))
_NORM = ("weight", "bias", "running_mean", "running_var")


class Line(NamedTuple):
    """A tensor of a published file."""

    published: str
    ours: str
    shape: tuple[int, ...]


def lines_of(name: str) -> list[Line]:
    """All tensors of a published file but the counters of batch norm."""
    lines = []
    for text in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        published, ours, shape = text.split(" ")
        size = tuple(int(number) for number in shape.split("x"))
        if published.endswith(".*"):
            lines += [Line(published[:-1] + end, ours[:-1] + end, size) for end in _NORM]
        else:
            lines.append(Line(published, ours, size))
    return lines


def published_shapes(name: str) -> dict[str, Tensor]:
    """A state dict with a publisher's names and shapes, and no memory."""
    return {line.published: torch.empty(line.shape, device="meta") for line in lines_of(name)}


def published_state(name: str, network: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors of our network under a publisher's names."""
    state = network.state_dict()
    return {line.published: state[line.ours].reshape(line.shape) for line in lines_of(name)}
