"""Networks of transformers in small: random tensors in the published format, and the job by hand.

A case says how its network and processor are made, and what its library's own code gives for the
frames of a clip. That code is called as its documentation calls it, and knows nothing of vidfeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

_WIDTHS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
_VISION = {**_WIDTHS, "image_size": 32, "patch_size": 16}
_TEXT = {**_WIDTHS, "vocab_size": 99, "max_position_embeddings": 16}
_CROP = {"size": {"shortest_edge": 39}, "crop_size": {"height": 32, "width": 32}}
_PRISM = {
    "image_size": 36,
    "num_frames": 4,
    "tubelet_size": [1, 18, 18],
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_spatial_layers": 2,
    "num_temporal_layers": 1,
    "num_auxiliary_layers": 1,
}

Frames = list[np.ndarray]
"""uint8 (H, W, 3), upright RGB, of one clip."""


@dataclass(frozen=True)
class Case:
    """A family of networks.

    Attributes:
        make: the model and its processor.
        by_hand: the vector that the library's own code gives for a clip's frames.
        clip_frames: of a clip; None for networks of frames.
    """

    make: Callable[[Any], tuple[Any, Any]]
    by_hand: Callable[[Any, Any, Frames], torch.Tensor]
    clip_frames: int | None = 4
    spread: float = 0.15
    """Standard deviation of the tensors: wide enough that vectors of two clips differ."""

    def save(self, folder: Path) -> tuple[Any, Any]:
        """Write both as the library does; give them back."""
        import transformers

        transformers.utils.logging.disable_progress_bar()
        torch.manual_seed(3)
        model, processor = self.make(transformers)
        for parameter in model.parameters():  # fresh biases are zero, and fresh weights small
            torch.nn.init.normal_(parameter, 0.05 if parameter.dim() < 2 else 0.0, self.spread)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return model.eval(), processor


def _clip(processor: Any, frames: Frames, **options: Any) -> torch.Tensor:
    """(1, T, 3, H, W)"""
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    made = processor([video], return_tensors="pt", **options)
    return made["pixel_values" if "pixel_values" in made else "pixel_values_videos"]


def _images(processor: Any, frames: Frames) -> torch.Tensor:
    """(T, 3, H, W)"""
    return processor(frames, return_tensors="pt")["pixel_values"]


def _vjepa2(tf: Any) -> tuple[Any, Any]:
    config = tf.VJEPA2Config(
        patch_size=16,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        pred_hidden_size=12,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    return tf.VJEPA2Model(config), tf.VJEPA2VideoProcessor(crop_size=32)


def _xclip(tf: Any) -> tuple[Any, Any]:
    vision = {
        "num_frames": 4,
        "mit_hidden_size": 24,
        "mit_intermediate_size": 32,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    config = tf.XCLIPConfig(
        projection_dim=24,
        text_config={**_TEXT, "hidden_size": 24, "projection_dim": 24},
        vision_config={**_VISION, **vision},
    )
    return tf.XCLIPModel(config), tf.CLIPImageProcessor(**_CROP)


def _pe_video(tf: Any) -> tuple[Any, Any]:
    vision = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "num_classes": 24,
        "label2id": {str(number): number for number in range(24)},
        "global_pool": "map",
        "do_pooling": True,
        "model_args": {
            "embed_dim": 32,
            "depth": 1,
            "num_heads": 2,
            "img_size": 32,
            "attn_pool_num_heads": 2,
        },
    }
    video = {**_WIDTHS, "num_hidden_layers": 1, "head_dim": 16, "vision_config": vision}
    tokens = ("pad", "bos", "eos", "cls", "sep")
    text = {
        "model_type": "modernbert",
        **_WIDTHS,
        "vocab_size": 99,
        **{f"{name}_token_id": number for number, name in enumerate(tokens)},
    }
    processor = tf.PeVideoVideoProcessor(
        size={"height": 32, "width": 32},
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return tf.PeVideoModel(tf.PeVideoConfig(video_config=video, text_config=text)), processor


CASES: dict[str, Case] = {
    "vjepa2": Case(
        _vjepa2,
        lambda model, processor, frames: model(
            pixel_values_videos=_clip(processor, frames), skip_predictor=True
        ).last_hidden_state.mean(dim=1),
    ),
    "videoprism": Case(
        lambda tf: (
            tf.VideoPrismVisionModel(tf.VideoPrismVisionConfig(**_PRISM)),
            tf.LlavaOnevisionVideoProcessor(size={"height": 36, "width": 36}),
        ),
        lambda model, processor, frames: model(
            _clip(processor, frames, do_normalize=False)
        ).last_hidden_state.mean(dim=1),
    ),
    "videoprism_lvt": Case(
        lambda tf: (
            tf.VideoPrismClipModel(tf.VideoPrismConfig(vision_config=_PRISM, text_config=_TEXT)),
            tf.LlavaOnevisionVideoProcessor(size={"height": 36, "width": 36}),
        ),
        lambda model, processor, frames: model.get_video_features(
            _clip(processor, frames, do_normalize=False)
        ).pooler_output.reshape(1, -1),
    ),
    "videomae": Case(
        lambda tf: (
            tf.VideoMAEModel(tf.VideoMAEConfig(**_VISION, num_frames=4)),
            tf.VideoMAEVideoProcessor(**_CROP),
        ),
        lambda model, processor, frames: model(_clip(processor, frames)).last_hidden_state.mean(
            dim=1
        ),
    ),
    "timesformer": Case(
        lambda tf: (
            tf.TimesformerModel(tf.TimesformerConfig(**_VISION, num_frames=4)),
            tf.TimesformerVideoProcessor(**_CROP),
        ),
        lambda model, processor, frames: (
            model(_clip(processor, frames)).last_hidden_state[:, 1:].mean(dim=1)
        ),
    ),
    "vivit": Case(
        lambda tf: (
            tf.VivitModel(
                tf.VivitConfig(
                    **{**_VISION, "image_size": [32, 32]}, num_frames=4, tubelet_size=[2, 16, 16]
                )
            ),
            tf.VivitVideoProcessor(**_CROP),
        ),
        lambda model, processor, frames: (
            model(_clip(processor, frames)).last_hidden_state[:, 1:].mean(dim=1)
        ),
    ),
    "xclip": Case(
        _xclip,
        lambda model, processor, frames: (
            model.get_video_features(_images(processor, frames)[None]).pooler_output
        ),
    ),
    "pe_video": Case(
        _pe_video,
        lambda model, processor, frames: model.video_head(
            model.video_encoder(_clip(processor, frames)).pooler_output
        ),
        clip_frames=16,
        spread=0.4,
    ),
    "dinov3": Case(
        lambda tf: (
            tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**_VISION, num_register_tokens=2)),
            tf.DINOv3ViTImageProcessor(size={"height": 32, "width": 32}),
        ),
        lambda model, processor, frames: (
            model(_images(processor, frames)).last_hidden_state[:, 3:].mean(dim=(0, 1))[None]
        ),
        clip_frames=None,
    ),
    "dinov2": Case(
        lambda tf: (tf.Dinov2Model(tf.Dinov2Config(**_VISION)), tf.BitImageProcessor(**_CROP)),
        lambda model, processor, frames: (
            model(_images(processor, frames)).last_hidden_state[:, 1:].mean(dim=(0, 1))[None]
        ),
        clip_frames=None,
    ),
    "clip": Case(
        lambda tf: (
            tf.CLIPModel(
                tf.CLIPConfig(projection_dim=24, text_config=_TEXT, vision_config=_VISION)
            ),
            tf.CLIPImageProcessor(**_CROP),
        ),
        lambda model, processor, frames: model.get_image_features(
            _images(processor, frames)
        ).pooler_output.mean(dim=0, keepdim=True),
        clip_frames=None,
    ),
    "siglip": Case(
        lambda tf: (
            tf.SiglipModel(tf.SiglipConfig(text_config=_TEXT, vision_config=_VISION)),
            tf.SiglipImageProcessor(size={"height": 32, "width": 32}),
        ),
        lambda model, processor, frames: model.get_image_features(
            _images(processor, frames)
        ).pooler_output.mean(dim=0, keepdim=True),
        clip_frames=None,
    ),
}
