"""A network of frames as a network of clips: the vectors of a clip's frames, joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, cat

from vidfeat.models.base import VideoNetwork

How = Literal["mean", "mean_std", "max"]


class FrameAggregator(VideoNetwork):
    """Each frame through the network, then one vector for each clip.

    Args:
        network: of frames.
        how: ``mean``, ``mean_std`` (both joined; the deviation is that of the frames there are,
            not an estimate for more of them), or ``max``.
    """

    modality = "frame"
    has_classes = False

    def __init__(self, network: VideoNetwork, how: How) -> None:
        super().__init__()
        self.network = network
        self.how = how
        self.layer_names, self.layer_widths = network.layer_names, network.layer_widths
        self.poolings, self.default_pool = network.poolings, network.default_pool
        self.pool_widths = network.pool_widths

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The maps of all frames, each as a clip of its own: see `VideoNetwork.features`."""
        return self.network.features(_frames(x), layers)

    def embedding_size(self, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> int:
        """See `VideoNetwork.embedding_size`."""
        size = self.network.embedding_size(layers, pool)
        return 2 * size if self.how == "mean_std" else size

    def embed(self, x: Tensor, layers: Sequence[str] = (), pool: Sequence[str] = ()) -> Tensor:
        """Vectors (N, D) of normalised clips (N, 3, T, H, W)."""
        frames = self.network.embed(_frames(x), layers, pool)
        frames_NTD = frames.reshape(len(x), -1, frames.shape[-1])
        if self.how == "max":
            return frames_NTD.amax(dim=1)
        mean = frames_NTD.mean(dim=1)
        if self.how == "mean":
            return mean
        return cat([mean, frames_NTD.std(dim=1, correction=0)], dim=1)


def _frames(x: Tensor) -> Tensor:
    """(N, 3, T, H, W) to (N T, 3, 1, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)[:, :, None]
