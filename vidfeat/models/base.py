"""What every network here offers: named layers, their maps, and vectors pooled out of them.

Shapes: N clips, C channels, T frames, H rows, W columns, D length of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, cat, nn
from torch.nn import functional as F

from vidfeat.errors import UsageError

POOLS = ("mean", "max")


class VideoNetwork(nn.Module):
    """A network over clips, the base class of all of them.

    Attributes:
        layer_names: the layers that can be read, first to last; the last one is the default.
        layer_widths: channels of each layer's map.
    """

    layer_names: tuple[str, ...] = ()
    layer_widths: Mapping[str, int] = {}

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

    def embedding_size(self, layers: Sequence[str] = (), pool: Sequence[str] = ("mean",)) -> int:
        """Length D of the vector that `pool_features` makes of these layers."""
        widths = [self.layer_widths[name] for name in self.check_layers(layers)]
        return sum(widths) * len(check_pools(pool))


def check_pools(pool: Sequence[str]) -> tuple[str, ...]:
    """The pools named; refuses unknown and repeated ones, and none at all."""
    chosen = tuple(pool)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(POOLS):
        given = ",".join(chosen) or "nothing"
        raise UsageError(f"cannot pool by {given}: --pool takes mean, max or mean,max")
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
