"""Frame networks of timm, open_clip and torchvision, as :class:`VideoNetwork`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vidfeat.models.base import POOLS, VideoNetwork

MAP = "map"
VECTOR = "vector"


def _frames(x: Tensor) -> Tensor:
    """(N, 3, T, H, W) to frames (N T, 3, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def _mean_of_frames(vectors: Tensor, clips: int) -> Tensor:
    return vectors.reshape(clips, -1, vectors.shape[-1]).mean(dim=1)


class TimmNetwork(VideoNetwork):
    """A network of timm without its classifier: its map, and its own pooling.

    Args:
        net: the network, made with ``num_classes=0``.
        nhwc: whether its maps have their channels last.
    """

    modality = "frame"
    has_classes = False
    layer_names = (MAP,)
    poolings = (*POOLS, "head")

    def __init__(self, net: Any, *, nhwc: bool = False) -> None:
        super().__init__()
        self.net = net
        self._nhwc = nhwc
        self._prefix = int(getattr(net, "num_prefix_tokens", 0))
        self.layer_widths = {MAP: int(net.num_features)}
        self.pool_widths = {"head": int(getattr(net, "head_hidden_size", net.num_features))}

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The map before its pooling: see `VideoNetwork.features`."""
        self.check_layers(layers)
        net: Any = self.net
        found: Tensor = net.forward_features(_frames(x))
        if found.dim() == 3:  # tokens
            found = found[:, self._prefix :].transpose(1, 2)[..., None]
        elif self._nhwc:
            found = found.permute(0, 3, 1, 2)
        return {MAP: found.reshape(len(x), -1, *found.shape[1:]).transpose(1, 2)}

    def own_pooling(self, x: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """The input of its classifier."""
        net: Any = self.net
        found = net.forward_head(net.forward_features(_frames(x)), pre_logits=True)
        return _mean_of_frames(found, len(x))


class VectorNetwork(VideoNetwork):
    """A network that gives one vector per frame."""

    modality = "frame"
    has_classes = False
    layer_names = (VECTOR,)
    poolings = ("mean",)

    def __init__(self, net: nn.Module, width: int) -> None:
        super().__init__()
        self.net = net
        self.layer_widths = {VECTOR: width}

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The mean of the vectors of a clip's frames."""
        self.check_layers(layers)
        found = self.net(_frames(x))
        return {VECTOR: _mean_of_frames(found, len(x))}


class ImageTower(VideoNetwork):
    """The image tower of a network of images and texts, with its projection."""

    modality = "frame"
    has_classes = False
    layer_names = ("projection",)
    poolings = ("mean",)

    def __init__(self, visual: nn.Module, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.layer_widths = {"projection": width}

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The mean of the vectors of a clip's frames."""
        self.check_layers(layers)
        return {"projection": _mean_of_frames(self.visual(_frames(x)), len(x))}
