"""A network of optical flow with the interface of one that takes RGB frames.

Clips arrive as RGB, one frame longer than the network's own; the flow between neighbouring frames
is computed here, and everything around (decoding, batches, engines, feature files) stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidfeat.models.base import VideoNetwork
from vidfeat.video.flow import FlowMethod, clip_to_flow, clip_to_tvl1, require_opencv
from vidfeat.video.preprocess import Preprocess


class FlowNetwork(VideoNetwork):
    """Takes RGB clips scaled to 0..1 (N, 3, T + 1, H, W), and feeds their flow to a network.

    Args:
        network: a network that takes two channels.
        preprocess: its own preprocessing, with mean and std of flow.
        method: how flow is computed.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: VideoNetwork, preprocess: Preprocess, method: FlowMethod = "farneback"
    ) -> None:
        super().__init__()
        require_opencv(method)
        self._compute = clip_to_tvl1 if method == "tvl1" else clip_to_flow
        self.network = network
        self.layer_names = network.layer_names
        self.layer_widths = network.layer_widths
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 2, 1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 2, 1, 1, 1))

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps of the named layers for the flow of RGB clips: see `VideoNetwork.features`."""
        return self.network.features(self._flow(x), layers)

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of vectors of the last layer (N, D)."""
        return self.network.classify(vectors)

    def _flow(self, x: Tensor) -> Tensor:
        count, _, frames, height, width = x.shape
        if x.is_meta:  # only shapes are needed
            return x.new_empty((count, 2, frames - 1, height, width))
        pixels = x.detach().float().mul(255).round_().to(torch.uint8).permute(0, 2, 3, 4, 1)
        clips = np.ascontiguousarray(pixels.cpu().numpy())
        fields = np.stack([self._compute(clip) for clip in clips])
        flow = torch.from_numpy(fields).to(x.device).permute(0, 4, 1, 2, 3)
        return ((flow - self.mean.float()) / self.std.float()).to(x.dtype)


def frames_preprocess(preprocess: Preprocess) -> Preprocess:
    """How frames are prepared for a :class:`FlowNetwork`: scaled and cropped, 0 to 1."""
    return Preprocess(preprocess.resize, preprocess.crop, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
