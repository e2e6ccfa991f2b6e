"""torchvision's other video networks (S3D, MViT, Swin) as encoders, through torchvision's code.

Each class below holds torchvision's own module and reads the layers from it in the order of its
forward. The state dict has torchvision's tensor names, without the name of the attribute here.

Shapes: N clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn

from vidfeat.errors import UsageError
from vidfeat.models.base import VideoNetwork

MVIT_INPUT = (16, 224, 224)  # frames, rows, columns: fixed by its position encoding
_HELD = "net."


class _Wrapped(VideoNetwork):
    """Base: walk the network once, first layer to last, and keep the requested maps."""

    def __init__(self, net: nn.Module, names: Sequence[str], widths: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.layer_names = tuple(names)
        self.layer_widths = dict(zip(names, widths, strict=True))
        self.register_state_dict_post_hook(_drop_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

    def walk(self, x: Tensor) -> Iterator[Tensor]:
        """The value of each layer in turn, computed on demand."""
        raise NotImplementedError

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of the last layer's vectors (N, C)."""
        return self.net.head(vectors)  # type: ignore[operator, no-any-return]

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Values of the named layers, in that order: see `VideoNetwork.features`."""
        chosen = self.check_layers(layers)
        count = 1 + max(self.layer_names.index(name) for name in chosen)
        walked = zip(self.layer_names, islice(self.walk(x), count), strict=False)
        values = {name: value for name, value in walked if name in chosen}
        return {name: values[name] for name in chosen}


def _drop_prefix(
    _module: nn.Module, state_dict: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    for key in [key for key in state_dict if key.startswith(prefix + _HELD)]:
        state_dict[prefix + key[len(prefix + _HELD) :]] = state_dict.pop(key)


def _add_prefix(
    _module: nn.Module, state_dict: dict[str, Any], prefix: str, *_unused: object
) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[prefix + _HELD + key[len(prefix) :]] = state_dict.pop(key)


class S3D(_Wrapped):
    """Separable Inception (arXiv 1712.04851).

    Its last layer is torchvision's running mean over 2 x 7 x 7, so clips must have at least that
    size after the strides: 14 frames of 224 x 224.
    """

    STAGES = ((0, 1), (1, 4), (4, 7), (7, 13), (13, 16))  # all but the first begin with a max-pool

    def __init__(self, net: nn.Module) -> None:
        names = ("stage1", "stage2", "stage3", "stage4", "stage5", "avgpool")
        super().__init__(net, names, (64, 192, 480, 832, 1024, 1024))

    def walk(self, x: Tensor) -> Iterator[Tensor]:
        """Five groups by resolution, then the running mean."""
        for first, end in self.STAGES:
            x = self.net.features[first:end](x)  # type: ignore[index, operator]
            yield x
        yield self.net.avgpool(x)  # type: ignore[operator]

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores; the classifier is a 1x1x1 convolution, which may come after the mean."""
        return self.net.classifier(vectors[:, :, None, None, None]).flatten(1)  # type: ignore[operator, no-any-return]


class MViT(_Wrapped):
    """Multiscale vision transformer (arXiv 2104.11227, 2112.01526); it ends in its class token.

    The stages are the maps before each pooling of the queries, without the class token.
    """

    STAGE_ENDS = (0, 2, 13, 15)  # blocks

    def __init__(self, net: nn.Module, widths: Sequence[int]) -> None:
        names = ("stage1", "stage2", "stage3", "stage4", "token")
        super().__init__(net, names, (*widths, widths[-1]))

    def walk(self, x: Tensor) -> Iterator[Tensor]:
        """Four groups of blocks by resolution, then the class token after the last norm."""
        net: Any = self.net
        if tuple(x.shape[2:]) != MVIT_INPUT:
            raise UsageError(
                f"MViT takes 16 frames of 224 x 224, got {' x '.join(map(str, x.shape[2:]))}: "
                "leave the length and the preprocessing to its weights"
            )
        tokens = net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))
        size = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
        for index, block in enumerate(net.blocks):
            tokens, size = block(tokens, size)
            if index in self.STAGE_ENDS:
                yield tokens[:, 1:].transpose(1, 2).unflatten(2, size)
        yield net.norm(tokens)[:, 0]


class Swin3D(_Wrapped):
    """Video Swin transformer (arXiv 2106.13230); its last layer is the map after the last norm."""

    def __init__(self, net: nn.Module, width: int) -> None:
        names = ("stage1", "stage2", "stage3", "stage4", "norm")
        super().__init__(net, names, (width, 2 * width, 4 * width, 8 * width, 8 * width))

    def walk(self, x: Tensor) -> Iterator[Tensor]:
        """Four groups of blocks, each before the merging of patches, then the norm."""
        net: Any = self.net
        x = net.pos_drop(net.patch_embed(x))  # N, T, H, W, C from here on
        for index, part in enumerate(net.features):  # group, merging, group, ...
            x = part(x)
            if index % 2 == 0:
                yield x.permute(0, 4, 1, 2, 3)
        yield net.norm(x).permute(0, 4, 1, 2, 3)


NAMES = ("s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")
_MVIT_WIDTHS = {"mvit_v1_b": (192, 384, 768, 768), "mvit_v2_s": (96, 192, 384, 768)}
_SWIN_WIDTHS = {"swin3d_t": 96, "swin3d_s": 96, "swin3d_b": 128}


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> VideoNetwork:
    """Build one of ``NAMES`` with random weights.

    Raises:
        UsageError: channels or a clip length that torchvision's code does not support.
    """
    if in_channels != 3:
        raise UsageError(
            f"{name} takes 3 channels, not {in_channels}: the networks of the R(2+1)D paper "
            "take any number"
        )
    if name in _MVIT_WIDTHS and clip_frames != MVIT_INPUT[0]:
        raise UsageError(f"{name} takes clips of 16 frames, not {clip_frames}: use another network")
    from torchvision.models import video  # takes seconds, and the other networks do not need it

    net = getattr(video, name)(num_classes=num_classes)
    if name in _MVIT_WIDTHS:
        return MViT(net, _MVIT_WIDTHS[name])
    return Swin3D(net, _SWIN_WIDTHS[name]) if name in _SWIN_WIDTHS else S3D(net)
