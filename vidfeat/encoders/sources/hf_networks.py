"""Networks of transformers, each as a :class:`VideoNetwork`: tokens as a map, and its own poolings.

A class here holds the part of a model that vectors come from. Its text tower and its classifier
stay outside, and so do not affect the hash of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vidfeat.models.base import POOLS, VideoNetwork

LAYER = "tokens"


class TokenNetwork(VideoNetwork):
    """Base: one layer, the tokens after the last norm, as a map over time and space."""

    has_classes = False
    layer_names = (LAYER,)
    own: tuple[str, ...] = ()
    """The network's own poolings."""
    kept: tuple[str, ...] = ()
    """Attributes of the model to keep; none keeps the whole model."""

    def __init__(self, model: Any, config: Any) -> None:
        super().__init__()
        self.config = config
        if self.kept:
            for name in self.kept:
                part = getattr(model, name)
                if isinstance(part, nn.Parameter):
                    self.register_parameter(name, part)
                else:
                    self.add_module(name, part)
        else:
            self.net = model
        self.layer_widths = {LAYER: self.width()}
        self.poolings = (*POOLS, *self.own)
        self.pool_widths = {name: self.own_width(name) for name in self.own}
        if "projection" in self.own:
            self.default_pool = ("projection",)

    def width(self) -> int:
        """Length of a token."""
        return int(self.config.hidden_size)

    def own_width(self, name: str) -> int:  # noqa: ARG002
        """Length of the vector of one of its own poolings."""
        return self.width()

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The map of the one layer: see `VideoNetwork.features`."""
        self.check_layers(layers)
        return {LAYER: self.tokens(x)}

    def tokens(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) of normalised clips (N, 3, T, H, W)."""
        raise NotImplementedError


def _frames_first(x: Tensor) -> Tensor:
    """(N, C, T, H, W) to (N, T, C, H, W), as transformers takes videos."""
    return x.transpose(1, 2).contiguous()


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[-2]), int(size[-1]))


def _map(tokens_NLC: Tensor, time: int, rows: int, columns: int) -> Tensor:
    return tokens_NLC.transpose(1, 2).reshape(len(tokens_NLC), -1, time, rows, columns)


def _joined(tokens_FLC: Tensor, clips: int) -> Tensor:
    """The tokens of all frames of each clip."""
    return tokens_FLC.reshape(clips, -1, tokens_FLC.shape[-1])


def _grid(x: Tensor, patch: Any, tubelet: int = 1) -> tuple[int, int, int]:
    rows, columns = _pair(patch)
    return x.shape[2] // tubelet, x.shape[3] // rows, x.shape[4] // columns


class VJEPA2(TokenNetwork):
    """V-JEPA 2 (arXiv 2506.09985), only its encoder, which has no class token."""

    kept = ("encoder",)

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        found = self.encoder(pixel_values_videos=_frames_first(x)).last_hidden_state  # type: ignore[operator]
        return _map(found, *_grid(x, self.config.patch_size, self.config.tubelet_size))


class VideoMAE(TokenNetwork):
    """VideoMAE (arXiv 2203.12602)."""

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        found = self.net(pixel_values=_frames_first(x)).last_hidden_state
        return _map(found, *_grid(x, self.config.patch_size, self.config.tubelet_size))


class _WithClassToken(TokenNetwork):
    own = ("cls",)

    def all_tokens(self, x: Tensor) -> Tensor:
        """(N, 1 + L, C), the class token first."""
        return self.net(pixel_values=_frames_first(x)).last_hidden_state  # type: ignore[no-any-return]

    def own_pooling(self, x: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """The class token."""
        return self.all_tokens(x)[:, 0]


class TimeSformer(_WithClassToken):
    """TimeSformer (arXiv 2102.05095); in the order of its tokens, time varies fastest."""

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        time, rows, columns = _grid(x, self.config.patch_size)
        found = self.all_tokens(x)[:, 1:].transpose(1, 2)
        return found.reshape(len(x), -1, rows, columns, time).permute(0, 1, 4, 2, 3)


class ViViT(_WithClassToken):
    """ViViT (arXiv 2103.15691)."""

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        tubelet = self.config.tubelet_size
        return _map(self.all_tokens(x)[:, 1:], *_grid(x, tubelet, int(tubelet[0])))


class VideoPrism(TokenNetwork):
    """VideoPrism's video encoder (arXiv 2402.13217)."""

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        return self._tokens(self.net, x)

    def _tokens(self, model: Any, x: Tensor) -> Tensor:
        tubelet = self.config.tubelet_size
        found = model(pixel_values_videos=_frames_first(x)).last_hidden_state
        return _map(found, *_grid(x, tubelet, int(tubelet[0])))


class VideoPrismLvT(VideoPrism):
    """VideoPrism with its projection into the space of texts."""

    own = ("projection",)
    kept = ("video_model",)

    def __init__(self, model: Any, config: Any) -> None:
        super().__init__(model, config.vision_config)

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        return self._tokens(self.get_submodule("video_model.vision_model"), x)

    def own_pooling(self, x: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """Its projection."""
        found = self.video_model(pixel_values_videos=_frames_first(x)).pooler_output  # type: ignore[operator]
        return found.reshape(len(x), -1)  # type: ignore[no-any-return]


class XCLIP(TokenNetwork):
    """X-CLIP (arXiv 2208.02816): frames that exchange messages, joined by a small transformer."""

    own = ("projection",)
    kept = ("vision_model", "visual_projection", "mit")

    def width(self) -> int:
        """Length of a token."""
        return int(self.config.vision_config.hidden_size)

    def own_width(self, name: str) -> int:  # noqa: ARG002
        """Length of its projection."""
        return int(self.config.projection_dim)

    def _vision(self, x: Tensor) -> Any:
        return self.vision_model(pixel_values=_frames_first(x).flatten(0, 1))  # type: ignore[operator]

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        time, rows, columns = _grid(x, self.config.vision_config.patch_size)
        found = self._vision(x).last_hidden_state[:, 1:]
        return _map(_joined(found, len(x)), time, rows, columns)

    def own_pooling(self, x: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """Its projection."""
        frames = self.visual_projection(self._vision(x).pooler_output)  # type: ignore[operator]
        return self.mit(frames.reshape(len(x), -1, frames.shape[-1])).pooler_output  # type: ignore[operator, no-any-return]


class PEVideo(TokenNetwork):
    """The video encoder of Perception Encoder's audio-visual networks."""

    own = ("projection",)
    kept = ("video_encoder", "video_head")

    def width(self) -> int:
        """Length of a token."""
        return int(self.config.video_config.hidden_size)

    def own_width(self, name: str) -> int:  # noqa: ARG002
        """Length of its projection."""
        return int(self.config.text_config.hidden_size)

    def _encoded(self, x: Tensor) -> Any:
        return self.video_encoder(pixel_values_videos=_frames_first(x))  # type: ignore[operator]

    def tokens(self, x: Tensor) -> Tensor:
        """One token per frame."""
        return self._encoded(x).last_hidden_state.transpose(1, 2)[..., None, None]  # type: ignore[no-any-return]

    def own_pooling(self, x: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """Its projection."""
        return self.video_head(self._encoded(x).pooler_output)  # type: ignore[operator, no-any-return]


class FrameTokens(TokenNetwork):
    """Base of frame networks: (N, 3, T, H, W) frame by frame."""

    modality = "frame"
    prefix_tokens = 0

    def forward_frames(self, frames_NCHW: Tensor) -> Any:
        """Transformers' output for frames."""
        return self.net(pixel_values=frames_NCHW)

    def patch_size(self) -> Any:
        """Side of a token, in pixels."""
        return self.config.patch_size

    def tokens(self, x: Tensor) -> Tensor:
        """See `TokenNetwork.tokens`."""
        time, rows, columns = _grid(x, self.patch_size())
        found = self.forward_frames(_frames_first(x).flatten(0, 1)).last_hidden_state
        found = found[:, self.prefix_tokens :]
        return _map(_joined(found, len(x)), time, rows, columns)

    def own_pooling(self, x: Tensor, how: str) -> Tensor:
        """The pooling of a frame; the mean over frames if there are several."""
        vectors = self.of_frames(_frames_first(x).flatten(0, 1), how)
        return vectors.reshape(len(x), -1, vectors.shape[-1]).mean(dim=1)

    def of_frames(self, frames_NCHW: Tensor, how: str) -> Tensor:  # noqa: ARG002
        """Vectors (N, D) of frames."""
        return self.forward_frames(frames_NCHW).pooler_output  # type: ignore[no-any-return]


class DINO(FrameTokens):
    """DINOv2 and DINOv3 (arXiv 2304.07193, 2508.10104)."""

    own = ("cls",)

    def __init__(self, model: Any, config: Any) -> None:
        super().__init__(model, config)
        self.prefix_tokens = 1 + int(getattr(config, "num_register_tokens", 0) or 0)


class DINOConvNext(FrameTokens):
    """DINOv3's ConvNeXt; what it calls its class token is the mean of its map."""

    prefix_tokens = 1

    def width(self) -> int:
        """Length of a token."""
        return int(self.config.hidden_sizes[-1])

    def patch_size(self) -> int:
        """32: of its four stages, the first reduces by 4, the others by 2."""
        return 32


class CLIPVision(FrameTokens):
    """CLIP's image tower (arXiv 2103.00020) without a projection."""

    own = ("cls",)
    prefix_tokens = 1


class CLIPImage(FrameTokens):
    """CLIP's image tower with its projection into the space of texts."""

    own = ("projection", "cls")
    kept = ("vision_model", "visual_projection")
    prefix_tokens = 1

    def width(self) -> int:
        """Length of a token."""
        return int(getattr(self.config, "vision_config", self.config).hidden_size)

    def own_width(self, name: str) -> int:
        """Length of its projection, or of its class token."""
        return int(self.config.projection_dim) if name == "projection" else self.width()

    def patch_size(self) -> Any:
        """Side of a token, in pixels."""
        return getattr(self.config, "vision_config", self.config).patch_size

    def forward_frames(self, frames_NCHW: Tensor) -> Any:
        """Transformers' output for frames."""
        return self.vision_model(pixel_values=frames_NCHW)  # type: ignore[operator]

    def of_frames(self, frames_NCHW: Tensor, how: str) -> Tensor:
        """Vectors (N, D) of frames."""
        found: Tensor = self.forward_frames(frames_NCHW).pooler_output
        return self.visual_projection(found) if how == "projection" else found  # type: ignore[operator]


class SigLIPVision(FrameTokens):
    """SigLIP's and SigLIP 2's image tower (arXiv 2303.15343, 2502.14786).

    Its attention pooling is the vector in the space of texts.
    """

    own = ("projection",)


class SigLIP(SigLIPVision):
    """SigLIP's image tower, taken from the whole model."""

    kept = ("vision_model",)

    def width(self) -> int:
        """Length of a token."""
        return int(self.config.vision_config.hidden_size)

    def patch_size(self) -> Any:
        """Side of a token, in pixels."""
        return self.config.vision_config.patch_size

    def forward_frames(self, frames_NCHW: Tensor) -> Any:
        """Transformers' output for frames."""
        return self.vision_model(pixel_values=frames_NCHW)  # type: ignore[operator]
