"""What every network here offers: named layers, their maps, and vectors pooled out of them.

Shapes: N clips, C channels, T frames, H rows, W columns, D length of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, cat, nn
from torch.nn import functional as F

from vidfeat.errors import UsageError

POOLS = ("mean", "max")


class VideoNetwork(nn.Module):
    """A network over clips, or over frames, the base class of all of them.

    A network of frames takes batches of frames as clips with T = 1.

    Attributes:
        modality: what one input is: a clip or a frame.
        layer_names: the layers that can be read, first to last; the last one is the default.
        layer_widths: channels of each layer's map.
        poolings: what ``pool`` may name; other names than POOLS are its own, see `own_pooling`.
        default_pool: how its default layer becomes a vector.
        pool_widths: length of the vector of each pooling of its own.
    """

    modality: ClassVar[Literal["clip", "frame"]] = "clip"
    layer_names: tuple[str, ...] = ()
    layer_widths: Mapping[str, int] = {}
    poolings: tuple[str, ...] = POOLS
    default_pool: tuple[str, ...] = ("mean",)
    pool_widths: Mapping[str, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, classes) before the softmax, of normalised clips (N, C, T, H, W)."""
        return self.classify(pool_features(self.features(x)))

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of the default layer's vectors (N, D), pooled by the mean."""
        raise NotImplementedError

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps (N, C, T, H, W), or vectors (N, C), of the layers named, the last one by default.

        Nothing above the highest layer asked for is computed.

        Raises:
            UsageError: the network has no layer of that name.
        """
        raise NotImplementedError

    def check_layers(self, layers: Sequence[str]) -> tuple[str, ...]:
        """The layers named, or the default one; refuses unknown and repeated names."""
        chosen = tuple(layers) or self.layer_names[-1:]
        for name in chosen:
            if name not in self.layer_names:
                known = ", ".join(self.layer_names)
                raise UsageError(f"no layer {name!r} in this network: --layer takes {known}")
        if len(set(chosen)) < len(chosen):
            raise UsageError(f"a layer is named twice in {','.join(chosen)}: name each one once")
        return chosen

    def check_pools(self, pool: Sequence[str]) -> tuple[str, ...]:
        """The poolings named, or the default ones; refuses unknown and repeated names."""
        return check_pools(tuple(pool) or self.default_pool, self.poolings)

    def embedding_size(self, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> int:
        """Length D of the vector that `embed` makes of these layers."""
        chosen = self.check_pools(pool)
        of_layers = [how for how in chosen if how not in self.pool_widths]
        widths = [self.layer_widths[name] for name in self.check_layers(layers)]
        own = sum(self.pool_widths[how] for how in chosen if how in self.pool_widths)
        return sum(widths) * len(of_layers) + own

    def embed(self, x: Tensor, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> Tensor:
        """Vectors (N, D) of normalised clips (N, C, T, H, W): pooled maps, then own poolings."""
        chosen = self.check_pools(pool)
        of_layers = [how for how in chosen if how not in self.pool_widths]
        parts = [self.own_pooling(x, how) for how in chosen if how in self.pool_widths]
        if of_layers:
            parts.insert(0, pool_features(self.features(x, layers), of_layers))
        return parts[0] if len(parts) == 1 else cat(parts, dim=1)

    def own_pooling(self, x: Tensor, how: str) -> Tensor:
        """Vectors (N, pool_widths[how]): a class token, an attention pooling, a projection."""
        raise NotImplementedError(how)


def check_pools(pool: Sequence[str], known: Sequence[str] = POOLS) -> tuple[str, ...]:
    """The pools named; refuses unknown and repeated ones, and none at all."""
    chosen = tuple(pool)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        given = ",".join(chosen) or "nothing"
        takes = f"{', '.join(known)}" if len(known) > 1 else known[0]
        raise UsageError(f"cannot pool by {given}: --pool takes {takes}, or several joined")
    return chosen


def pool_features(features: Mapping[str, Tensor], pool: Sequence[str] = ("mean",)) -> Tensor:
    """Pool each layer's map over time and space and join the vectors: (N, D).

    The order is layer by layer, and within a layer pool by pool: layer3 mean, layer3 max, layer4
    mean, layer4 max. A layer that is a vector already (a class token) can only be taken as it is,
    which is called ``mean``.

    Raises:
        UsageError: an unknown pool, or ``max`` of a layer that has no time and space left.
    """
    chosen = check_pools(pool)
    vectors = []
    for name, value in features.items():
        for how in chosen:
            if value.dim() == 2:
                if how != "mean":
                    raise UsageError(f"layer {name} is one vector a clip: take it with --pool mean")
                vectors.append(value)
            elif how == "mean":
                vectors.append(F.adaptive_avg_pool3d(value, 1).flatten(1))
            else:
                vectors.append(value.amax(dim=(2, 3, 4)))
    return vectors[0] if len(vectors) == 1 else cat(vectors, dim=1)
