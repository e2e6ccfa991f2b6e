"""Base class of the networks: named layers, their maps, and vectors pooled from them.

Shapes: N clips, C channels, T frames, H rows, W columns, D length of the embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, cat, nn
from torch.nn import functional as F

from vidfeat.errors import UsageError

POOLS = ("mean", "max")
TIME = "time"
"""The pooling that keeps the time steps of a map, each with its mean over space."""


class VideoNetwork(nn.Module):
    """Base class of all networks, over clips or over frames.

    A frame network takes batches of frames as clips with T = 1.

    Attributes:
        modality: what one input is: a clip or a frame.
        has_classes: whether it can `classify`.
        layer_names: the layers that can be read, first to last; the last one is the default.
        layer_widths: channels of each layer's map.
        poolings: what ``pool`` may name; names other than POOLS are its own, see `own_pooling`.
        default_pool: how its default layer becomes a vector.
        pool_widths: length of the vector of each of its own poolings.
    """

    modality: ClassVar[Literal["clip", "frame"]] = "clip"
    has_classes: ClassVar[bool] = True
    layer_names: tuple[str, ...] = ()
    layer_widths: Mapping[str, int] = {}
    poolings: tuple[str, ...] = POOLS
    default_pool: tuple[str, ...] = ("mean",)
    pool_widths: Mapping[str, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, classes) before the softmax, of normalised clips (N, C, T, H, W)."""
        return self.classify(pool_features(self.features(x)))

    def classify(self, vectors: Tensor) -> Tensor:  # noqa: ARG002
        """Class scores (N, classes) of the default layer's vectors (N, D), pooled by the mean.

        Raises:
            UsageError: a network without classes.
        """
        raise UsageError("this network has no classes of its own: train a head, and give it")

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps (N, C, T, H, W), or vectors (N, C), of the named layers, the last one by default.

        Nothing above the highest requested layer is computed.

        Raises:
            UsageError: the network has no layer of that name.
        """
        raise NotImplementedError

    def check_layers(self, layers: Sequence[str]) -> tuple[str, ...]:
        """The named layers, or the default one; refuses unknown and repeated names."""
        chosen = tuple(layers) or self.layer_names[-1:]
        for name in chosen:
            if name not in self.layer_names:
                known = ", ".join(self.layer_names)
                raise UsageError(f"no layer {name!r} in this network, which has {known}")
        if len(set(chosen)) < len(chosen):
            raise UsageError(f"a layer is named twice in {','.join(chosen)}: name each one once")
        return chosen

    def check_pools(self, pool: Sequence[str]) -> tuple[str, ...]:
        """The named poolings, or the default ones; refuses unknown and repeated names."""
        chosen = tuple(pool) or self.default_pool
        if TIME not in chosen:
            return check_pools(chosen, self.poolings)
        if len(chosen) > 1:
            raise UsageError(
                "pool time gives one row per time step and cannot be combined: not "
                f"{','.join(chosen)}",
                field="pool",
            )
        if self.modality == "frame":
            raise UsageError(
                "pool time is for clip networks: for one row per frame give aggregate none",
                field=("pool", "aggregate"),
            )
        return chosen

    def embedding_size(self, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> int:
        """Length D of the vector that `embed` makes of these layers."""
        chosen = self.check_pools(pool)
        of_layers = [how for how in chosen if how not in self.pool_widths]
        widths = [self.layer_widths[name] for name in self.check_layers(layers)]
        own = sum(self.pool_widths[how] for how in chosen if how in self.pool_widths)
        return sum(widths) * len(of_layers) + own

    def embed(self, x: Tensor, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> Tensor:
        """Vectors (N, D) of normalised clips (N, C, T, H, W): pooled maps, then own poolings.

        Pooled by ``time`` they are (N, steps D), the vectors of a clip's time steps in a row.
        """
        chosen = self.check_pools(pool)
        of_layers = [how for how in chosen if how not in self.pool_widths]
        parts = [self.own_pooling(x, how) for how in chosen if how in self.pool_widths]
        if of_layers:
            parts.insert(0, pool_features(self.features(x, layers), of_layers))
        return parts[0] if len(parts) == 1 else cat(parts, dim=1)

    def own_pooling(self, x: Tensor, how: str) -> Tensor:
        """Vectors (N, pool_widths[how]): a class token, an attention pooling, a projection."""
        raise NotImplementedError(how)


class SequentialNetwork(VideoNetwork):
    """A network whose layers are modules that follow one another, with the layers' names."""

    def set_layers(self, widths: Mapping[str, int], bn_eps: float) -> None:
        """Set the layers and their widths, and draw the weights: a constructor's last step."""
        self.layer_names = tuple(widths)
        self.layer_widths = dict(widths)
        initialise(self, bn_eps)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Values of the named layers, in that order: see `VideoNetwork.features`."""
        chosen = self.check_layers(layers)
        values: dict[str, Tensor] = {}
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
            if name in chosen:
                values[name] = x
            if len(values) == len(chosen):
                break
        return {name: values[name] for name in chosen}

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of vectors of the default layer (N, D)."""
        return self.get_submodule("fc")(vectors)  # type: ignore[no-any-return]


class WindowMean(nn.Module):
    """Means over windows of all frames and up to 7 x 7 pixels, with a stride of one.

    On the input that a network was trained with, one window covers the whole map. On a larger one
    the mean of all windows gives pixels at the edge less weight than those in the middle, as the
    published networks do when they are tested.

    Args:
        frames: frames of a window; None takes all.
        side: side of a window, in pixels of the map.
    """

    def __init__(self, frames: int | None = None, side: int = 7) -> None:
        super().__init__()
        self.frames = frames
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T', H', W')."""
        frames, rows, columns = x.shape[2:]
        kernel = (min(self.frames or frames, frames), min(self.side, rows), min(self.side, columns))
        return F.avg_pool3d(x, kernel, stride=1)


def initialise(network: nn.Module, bn_eps: float) -> None:
    """He's normal initialisation by fan-out; batch norm is the identity, with this eps."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = bn_eps
        elif any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            continue  # shapes only: drawing weights would import torch's compiler
        elif isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


def check_pools(pool: Sequence[str], known: Sequence[str] = POOLS) -> tuple[str, ...]:
    """The named pools; refuses unknown and repeated ones, and an empty list."""
    chosen = tuple(pool)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        given = ",".join(chosen) or "nothing"
        takes = f"{', '.join(known)}" if len(known) > 1 else known[0]
        raise UsageError(f"cannot pool by {given}: pool takes {takes}, or several joined")
    return chosen


def pool_features(features: Mapping[str, Tensor], pool: Sequence[str] = ("mean",)) -> Tensor:
    """Pool each layer's map over time and space and join the vectors: (N, D).

    The order is layer by layer, and within a layer pool by pool: layer3 mean, layer3 max, layer4
    mean, layer4 max. A layer that is a vector already (a class token) can only be taken as it is,
    which is called ``mean``.

    Raises:
        UsageError: an unknown pool, or ``max`` of a layer that has no time and space left.
    """
    if tuple(pool) == (TIME,):
        return _time_steps(features)
    chosen = check_pools(pool)
    vectors = []
    for name, value in features.items():
        for how in chosen:
            if value.dim() == 2:
                if how != "mean":
                    raise UsageError(f"layer {name} is one vector per clip: take it with pool=mean")
                vectors.append(value)
            elif how == "mean":
                vectors.append(F.adaptive_avg_pool3d(value, 1).flatten(1))
            else:
                vectors.append(value.amax(dim=(2, 3, 4)))
    return vectors[0] if len(vectors) == 1 else cat(vectors, dim=1)


def _time_steps(features: Mapping[str, Tensor]) -> Tensor:
    """Means over space, the steps of each clip in a row: (N, steps D)."""
    time_steps(features.values())
    steps_NTC = [value.mean(dim=(3, 4)).transpose(1, 2) for value in features.values()]
    return cat(steps_NTC, dim=2).flatten(1)


def time_steps(maps: Iterable[Tensor]) -> int:
    """How many time steps maps (N, C, T, H, W) have.

    Raises:
        UsageError: the maps differ in it, or have none.
    """
    found = {value.shape[2] if value.dim() == 5 else 0 for value in maps}
    if len(found) > 1:
        told = ", ".join(str(count) for count in sorted(found))
        raise UsageError(
            f"these layers have different numbers of time steps ({told}): pool time takes layers "
            "with the same number",
            field="pool",
        )
    (steps,) = found
    if steps < 2:
        raise UsageError(
            "this layer has one vector for the whole clip, and no time steps to keep: take another "
            "layer, longer clips, or leave pool time out",
            field="pool",
        )
    return int(steps)
