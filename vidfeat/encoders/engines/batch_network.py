"""The networks of the R(2+1)D paper for batches on a GPU, in one memory of channels-last images.

The clip-by-clip idea of ``factored.py``, for batches. All maps are images (N T, C, H, W) with their
channels last, and no layer copies them into another form:

* batch norms are folded into the convolutions before them, in float64;
* a kernel over space is a 2-D convolution of N T images;
* one over time is a (3, 1) convolution of the same memory seen as (N, C, T, H W), and one over both
  a 3-D convolution of it seen as (N, C, T, H, W);
* the 7 x 7 stem with stride two is a 4 x 4 one with stride one over patches of two by two pixels:
  12 channels fill a GPU's matrix units better than 3;
* channels between two kernels are padded with zeros to a multiple of 16.

What computes each convolution, and the bias, residual and ReLU after it, is in
``batch_convolution.py``. Weights are swapped in place, so that one compilation or one CUDA graph
serves several networks.

Shapes: N clips, C channels, T frames, H rows, W columns, D length of the embedding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.encoders.engines.batch_convolution import (
    PATCH_CHANNELS,
    STEM_MARGIN,
    Convolution,
    How,
    how_to_run,
    over_lines,
    stem_patches,
    to_clips,
)
from vidfeat.encoders.engines.folding import folded
from vidfeat.errors import UsageError
from vidfeat.models.base import VideoNetwork, check_pools
from vidfeat.models.resnet3d import BasicBlock, Bottleneck, VideoResNet
from vidfeat.video.preprocess import Preprocess

_PAD_TO = 16
_COLOURS = 3


def can_run(network: VideoNetwork) -> bool:
    """Whether :class:`BatchNetwork` can run a network."""
    if not isinstance(network, VideoResNet) or {"ir", "ip"} & set(network.design.kinds):
        return False  # one kernel per channel is not a matrix product
    first = next(part for part in network.stem if isinstance(part, nn.Conv3d))
    return first.in_channels == _COLOURS


def triton_runs_on(device: torch.device) -> bool:
    """Whether kernels written in Triton run on a device."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


class _Chain(nn.Module):
    """Convolutions one after the other, each with its ReLU, and a shortcut around all of them."""

    def __init__(self, layers: Sequence[Convolution], shortcut: Convolution | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def run(self, images: Tensor, frames: int, *, residual: bool) -> tuple[Tensor, int]:
        """Run images (N T, C, H, W) of T frames, and return the new images and their T.

        With ``residual``, the input is added before the last ReLU.
        """
        added = None
        if residual:
            added = images
            if self.shortcut is not None:
                added = _shortcut(self.shortcut, images, frames)
        pending: Tensor | None = None
        layers = cast("list[Convolution]", list(self.layers))
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            leaves = (
                layer.fuses
                and layer.how == "library"
                and following is not None
                and following.finishes_input
            )
            if leaves:
                images = layer.raw(images, frames)
            else:
                images = layer.run(
                    images,
                    frames,
                    unfinished=pending,
                    residual=added if following is None else None,
                )
            pending = layer.bias if leaves else None
            frames = layer.frames_out(frames)
        return images, frames


def _shortcut(projection: Convolution, images: Tensor, frames: int) -> Tensor:
    """The 1 x 1 x 1 projection around a block; the last convolution's bias includes its bias."""
    time, down, across = projection.shape.stride
    channels, rows, columns = images.shape[1:]
    lines = images.permute(0, 2, 3, 1).view(-1, frames, rows, columns, channels)
    chosen = lines[:, ::time, ::down, ::across].flatten(0, 1)  # a copy, of an eighth of the map
    return F.conv2d(chosen.permute(0, 3, 1, 2), projection.weight)


class BatchNetwork(nn.Module):
    """A network of the paper, for batches of uint8 clips.

    Args:
        network: one for which :func:`can_run` is true; its weights are copied.
        preprocess: the normalisation.
        layers: layers to embed with; none means the default.
        pool: how their maps become vectors.
        dtype: the type of maps and weights.
        fused: run Triton's kernels; only on CUDA, and not under ``torch.compile``.
        chosen: what computes the convolutions of these names, instead of :func:`how_to_run`.

    Raises:
        UsageError: an unknown layer or pool.
    """

    def __init__(
        self,
        network: VideoResNet,
        preprocess: Preprocess,
        layers: Sequence[str] = (),
        pool: Sequence[str] = ("mean",),
        dtype: torch.dtype = torch.float32,
        *,
        fused: bool = False,
        chosen: Mapping[str, How] | None = None,
    ) -> None:
        super().__init__()
        self.chosen_layers = network.check_layers(layers)
        self.pool = check_pools(pool)
        self.dtype = dtype
        self._preprocess = preprocess
        self._check_layers = network.check_layers
        self._clip_frames = network.clip_frames if network.design.kinds[0] == "whole" else None
        self._stem_pool = network.design.stem_pool
        self._fused = fused
        self._chosen = dict(chosen or {})
        self._names = {module: name for name, module in network.named_modules()}
        self.stem = _Chain(self._layers([network.stem], PATCH_CHANNELS))
        width = network.design.width
        groups: dict[str, nn.Module] = {}
        for name in network.layer_names[1:]:
            blocks = []
            for block in network.get_submodule(name).children():
                assert isinstance(block, BasicBlock | Bottleneck)
                blocks.append(self._block(block, width))
                width = network.layer_widths[name]
            groups[name] = nn.ModuleList(blocks)
        self.groups = nn.ModuleDict(groups)
        self.fc = nn.Linear(network.fc.in_features, network.fc.out_features)
        mean, std = torch.tensor(preprocess.mean).double(), torch.tensor(preprocess.std).double()
        self._scale = nn.Buffer((1 / (255 * std)).float(), persistent=False)
        self._shift = nn.Buffer((-mean / std).float(), persistent=False)
        self.eval().requires_grad_(requires_grad=False)
        self.load_(network)
        del self._names

    def load_(self, network: VideoResNet) -> None:
        """Copy the weights of another network of the same shape into the existing memory."""
        with torch.no_grad():
            self._load(self.stem, [network.stem], None)
            for name, blocks in self.groups.items():
                own = cast("nn.ModuleList", blocks)
                for mine, block in zip(own, network.get_submodule(name).children(), strict=True):
                    self._load(cast("_Chain", mine), _parts(block), _downsample(block))
            self.fc.load_state_dict(network.fc.state_dict())

    @property
    def convolutions(self) -> list[Convolution]:
        """All convolutions, in order."""
        return [module for module in self.modules() if isinstance(module, Convolution)]

    def forward(self, clips_NTHWC: Tensor) -> Tensor:
        """Vectors (N, D), float32, of uint8 clips (N, T, H, W, 3) on the network's device."""
        vectors = []
        maps = self._maps(clips_NTHWC, self.chosen_layers)
        for name in self.chosen_layers:
            images, frames = maps[name]
            lines = over_lines(images, frames)
            for how in self.pool:
                if how == "mean":
                    vectors.append(lines.mean((2, 3), dtype=torch.float32))
                else:
                    vectors.append(lines.amax((2, 3)).float())
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)

    def classify(self, clips_NTHWC: Tensor) -> Tensor:
        """Class scores (N, classes), float32, before the softmax."""
        default = [*self.groups][-1]
        images, frames = self._maps(clips_NTHWC, (default,))[default]
        return self.fc(over_lines(images, frames).mean((2, 3), dtype=torch.float32))  # type: ignore[no-any-return]

    def features(self, clips_NTHWC: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps (N, C, T, H, W) of the named layers, as ``VideoNetwork.features`` returns them.

        Raises:
            UsageError: the network has no layer of that name.
        """
        chosen = self._check_layers(layers)
        maps = self._maps(clips_NTHWC, chosen)
        return {name: to_clips(*maps[name]) for name in chosen}

    # -- construction ------------------------------------------------------------------------

    def _layers(self, parts: Sequence[nn.Module], inputs: int) -> list[Convolution]:
        """The convolutions of some parts; only channels between two of them are padded."""
        found = [one for part in parts for one, _, _ in folded(part)]
        made = []
        for place, one in enumerate(found):
            last = place == len(found) - 1
            width = one.out_channels if last else -(-one.out_channels // _PAD_TO) * _PAD_TO
            made.append(self._convolution(one, inputs, width))
            inputs = width
        return made

    def _convolution(
        self, one: nn.Conv3d, inputs: int, outputs: int, how: How | None = None
    ) -> Convolution:
        name = self._names[one]
        made = Convolution(name, one, inputs, outputs, self.dtype, None)
        if not self._fused:
            return made
        how = how or self._chosen.get(name) or how_to_run(made.shape, self.dtype)
        return Convolution(name, one, inputs, outputs, self.dtype, how)

    def _block(self, block: BasicBlock | Bottleneck, inputs: int) -> _Chain:
        shortcut = None
        if block.downsample is not None:
            one = block.downsample[0]
            assert isinstance(one, nn.Conv3d)
            shortcut = self._convolution(one, inputs, one.out_channels, "library")
        return _Chain(self._layers(_parts(block), inputs), shortcut)

    def _load(
        self, chain: _Chain, parts: Sequence[nn.Module], projection: nn.Sequential | None
    ) -> None:
        given = [one for part in parts for one in folded(part)]
        extra: Tensor | float = 0.0
        if projection is not None:
            ((_, weight, extra),) = folded(projection)
            assert chain.shortcut is not None
            chain.shortcut.load_(weight, torch.zeros_like(extra))
        for place, (layer, (_, weight, bias)) in enumerate(zip(chain.layers, given, strict=True)):
            last = place == len(given) - 1
            cast("Convolution", layer).load_(weight, bias + extra if last else bias)

    # -- running ---------------------------------------------------------------------------

    def _maps(self, clips: Tensor, layers: Sequence[str]) -> dict[str, tuple[Tensor, int]]:
        if self._clip_frames is not None and clips.shape[1] != self._clip_frames:
            raise UsageError(
                f"this R2D takes clips of {self._clip_frames} frames, got {clips.shape[1]}: "
                "build it for that length (clip_frames), or give clips of that length"
            )
        maps: dict[str, tuple[Tensor, int]] = {}
        for name, images, frames in self._walk(clips):
            if name in layers:
                maps[name] = (images, frames)
            if len(maps) == len(layers):
                break
        return maps

    def _walk(self, clips: Tensor) -> Iterator[tuple[str, Tensor, int]]:
        images, frames = self.stem.run(self._patches(clips), clips.shape[1], residual=False)
        if self._stem_pool:
            images = F.max_pool2d(images, 3, 2, 1)
        yield "stem", images, frames
        for name, blocks in self.groups.items():
            for block in cast("nn.ModuleList", blocks):
                images, frames = cast("_Chain", block).run(images, frames, residual=True)
            yield name, images, frames

    def _patches(self, clips: Tensor) -> Tensor:
        if self._fused:
            from vidfeat.encoders.engines.triton_convolutions import patches

            return patches(clips, self._scale, self._shift, STEM_MARGIN, self.dtype)
        return stem_patches(clips, self._preprocess, self.dtype)


def _parts(block: nn.Module) -> list[nn.Module]:
    """The convolutions of a residual block, without the shortcut."""
    return [part for name, part in block.named_children() if name.startswith("conv")]


def _downsample(block: nn.Module) -> nn.Sequential | None:
    assert isinstance(block, BasicBlock | Bottleneck)
    return block.downsample
