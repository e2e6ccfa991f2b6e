"""SlowFast (arXiv 1812.03982): a wide pathway on few frames, a narrow one on all of them.

It takes one clip, at the rate of the fast pathway; the slow one sees one frame in 4 or 8 of it,
spread evenly from the first to the last. After the stem and the first three groups the fast
pathway's map is appended to the slow one's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidfeat.errors import UsageError
from vidfeat.models.base import VideoNetwork, WindowMean, initialise
from vidfeat.models.resnet50 import (
    BLOCKS,
    BN_EPS,
    EXPANSION,
    SLOW_SPANS,
    WIDTHS,
    Spans,
    group,
    stem,
)

NARROWER = 8  # the fast pathway has an eighth of the slow one's channels
FUSED = 2  # and passes it twice its own channels
FAST_SPANS: Spans = ((3,), (3,), (3,), (3,))
_FEW = (*(3,) * 6, *(1,) * 17)  # of the 23 blocks of layer3, six look across time


@dataclass(frozen=True)
class Design:
    """The plan of one network.

    Attributes:
        depth: 50 or 101.
        ratio: frames of the fast pathway for each frame of the slow one.
        fusion_frames: length of the kernels between the pathways.
        spans: frames that the first convolutions of the blocks see, slow and fast.
    """

    depth: int
    ratio: int
    fusion_frames: int
    spans: tuple[Spans, Spans] = (SLOW_SPANS, FAST_SPANS)


DESIGNS = {
    "slowfast_r50": Design(50, 4, 7),
    "slowfast_r50_4x16": Design(50, 8, 5),
    "slowfast_r101": Design(101, 4, 5),
    "slowfast_r101_16x8": Design(101, 4, 5, (((1,), (1,), _FEW, (3,)), ((3,), (3,), _FEW, (3,)))),
}
NAMES = tuple(DESIGNS)


def slow_frames(frames: int, ratio: int) -> Tensor:
    """Which frames the slow pathway sees: one in ``ratio``, spread from the first to the last."""
    return torch.linspace(0, frames - 1, frames // ratio).long()


class Pathway(nn.Module):
    """Stem and four groups.

    Args:
        channels: channels of the clip.
        stem_frames: length of the stem's kernel.
        depth: 50 or 101.
        spans: frames that the first convolutions of the blocks see.
        narrower: factor by which it has fewer channels than the slow pathway.
        lent: channels added before each group, for each of its own.
    """

    def __init__(
        self, channels: int, stem_frames: int, depth: int, spans: Spans, narrower: int, lent: float
    ) -> None:
        super().__init__()
        inputs = WIDTHS[0] // narrower
        self.stem = stem(channels, inputs, stem_frames)
        for index, width in enumerate(WIDTHS):
            outputs = width * EXPANSION // narrower
            blocks = group(
                BLOCKS[depth][index],
                inputs + int(inputs * lent),
                width // narrower,
                outputs,
                spans[index],
                (1, 1 if index == 0 else 2),
            )
            self.add_module(f"layer{index + 1}", blocks)
            inputs = outputs


class SlowFast(VideoNetwork):
    """Both pathways, joined at the end.

    ``stem`` and ``layer1`` to ``layer3`` are the slow pathway's maps with the lateral connections
    from the fast one; ``layer4`` is the slow one's last map, ``fast`` the fast one's; ``avgpool``
    joins the means of the two and is the default.
    """

    def __init__(self, design: Design, *, num_classes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        self.design = design
        slow_spans, fast_spans = design.spans
        self.slow = Pathway(in_channels, 1, design.depth, slow_spans, 1, FUSED / NARROWER)
        self.fast = Pathway(in_channels, 5, design.depth, fast_spans, NARROWER, 0.0)
        self.fuse = nn.ModuleList()
        widths = OrderedDict()
        for index, name in enumerate(("stem", "layer1", "layer2", "layer3")):
            wide = WIDTHS[0] if index == 0 else WIDTHS[index - 1] * EXPANSION
            narrow = wide // NARROWER
            length = design.fusion_frames
            self.fuse.append(
                nn.Sequential(
                    nn.Conv3d(
                        narrow,
                        narrow * FUSED,
                        (length, 1, 1),
                        (design.ratio, 1, 1),
                        padding=(length // 2, 0, 0),
                        bias=False,
                    ),
                    nn.BatchNorm3d(narrow * FUSED),
                    nn.ReLU(inplace=True),
                )
            )
            widths[name] = wide + narrow * FUSED
        wide = WIDTHS[-1] * EXPANSION
        widths |= {"layer4": wide, "fast": wide // NARROWER, "avgpool": wide + wide // NARROWER}
        self.avgpool = WindowMean()
        self.fc = nn.Linear(widths["avgpool"], num_classes)
        self.layer_names = tuple(widths)
        self.layer_widths = widths
        initialise(self, BN_EPS)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps of the named layers, in that order: see `VideoNetwork.features`."""
        chosen = self.check_layers(layers)
        ratio = self.design.ratio
        if x.shape[2] % ratio:
            raise UsageError(
                f"this SlowFast takes clips of a multiple of {ratio} frames, got {x.shape[2]}: "
                "leave the length to its weights"
            )
        slow = x.index_select(2, slow_frames(x.shape[2], ratio).to(x.device))
        fast = x
        values: dict[str, Tensor] = {}
        parts = ("stem", "layer1", "layer2", "layer3", "layer4")
        for index, name in enumerate(parts):
            slow = self.slow.get_submodule(name)(slow)
            fast = self.fast.get_submodule(name)(fast)
            if index < len(self.fuse):
                slow = torch.cat((slow, self.fuse[index](fast)), dim=1)
            values[name] = slow
            if set(chosen) <= set(values):
                break
        if {"fast", "avgpool"} & set(chosen):
            values["fast"] = fast
            values["avgpool"] = torch.cat((self.avgpool(slow), self.avgpool(fast)), dim=1)
        return {name: values[name] for name in chosen}

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of vectors of avgpool (N, 2304)."""
        return self.fc(vectors)  # type: ignore[no-any-return]


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> SlowFast:
    """Build one of ``NAMES`` with random weights."""
    del clip_frames
    return SlowFast(DESIGNS[name], num_classes=num_classes, in_channels=in_channels)
