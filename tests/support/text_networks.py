"""Networks of clips and texts in small: random tensors in the published format, and tokenizers.

``by_hand`` calls a library's own code as its documentation does: cosines of a clip with phrases.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Frames = list[np.ndarray]
"""uint8 (H, W, 3), upright RGB, of one clip."""

_WIDTHS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
_VISION = {**_WIDTHS, "image_size": 32, "patch_size": 16}
_TEXT = {**_WIDTHS, "vocab_size": 99, "max_position_embeddings": 24}
_CROP = {"size": {"shortest_edge": 39}, "crop_size": {"height": 32, "width": 32}}


@dataclass(frozen=True)
class TextNetwork:
    """A saved network.

    Attributes:
        model: as ``load_encoder`` takes it.
        frames: of a clip.
        by_hand: cosines (P,) of a clip's frames with P phrases.
        scale: what the library multiplies cosines by.
    """

    model: str
    frames: int
    by_hand: Callable[[Frames, Sequence[str]], np.ndarray]
    scale: float


def _random(model: torch.nn.Module, spread: float = 0.25) -> Any:
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "logit_" not in name:
            torch.nn.init.normal_(parameter, 0.05 if parameter.dim() < 2 else 0.0, spread)
    return model.eval()


def _letters(*special: str, ends: bool) -> dict[str, int]:
    words = [*special]
    for letter in string.ascii_lowercase:
        words += [letter, f"{letter}</w>"] if ends else [letter]
    return {word: number for number, word in enumerate(words)}


def _clip_tokenizer(tf: Any) -> Any:
    return tf.CLIPTokenizer(
        vocab=_letters("<|startoftext|>", "<|endoftext|>", ends=True), merges=[]
    )


def _saved(folder: Path, *parts: Any) -> str:
    for part in parts:
        part.save_pretrained(folder)
    return f"hf:{folder}"


def _cosines(found: Any, bias: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (found.detach().numpy().astype(np.float64) - bias) / scale


def clip(folder: Path) -> TextNetwork:
    """CLIP of transformers."""
    import transformers as tf

    text = {**_TEXT, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
    config = tf.CLIPConfig(projection_dim=24, text_config=text, vision_config=_VISION)
    model, tokenizer = _random(tf.CLIPModel(config)), _clip_tokenizer(tf)
    images = tf.CLIPImageProcessor(**_CROP)
    name = _saved(folder, model, tokenizer, images)
    processor = tf.CLIPProcessor(images, tokenizer)
    scale = float(model.logit_scale.detach().exp())

    def by_hand(frames: Frames, phrases: Sequence[str]) -> np.ndarray:
        given = processor(text=list(phrases), images=frames, return_tensors="pt", padding=True)
        with torch.inference_mode():
            return _cosines(model(**given).logits_per_image[0], scale=scale)

    return TextNetwork(name, 1, by_hand, scale)


def siglip2(folder: Path) -> TextNetwork:
    """SigLIP 2 of a fixed size: SigLIP's network with another tokenizer."""
    import transformers as tf

    config = tf.SiglipConfig(text_config=_TEXT, vision_config=_VISION)
    model = _random(tf.SiglipModel(config))
    torch.nn.init.constant_(model.logit_scale, 4.7)
    torch.nn.init.constant_(model.logit_bias, -16.5)
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581")
    tokenizer = tf.Siglip2Tokenizer(vocab=_letters(*special, ends=False), merges=[])
    images = tf.SiglipImageProcessor(size={"height": 32, "width": 32})
    name = _saved(folder, model, tokenizer, images)
    scale, bias = float(model.logit_scale.detach().exp()), float(model.logit_bias.detach())

    def by_hand(frames: Frames, phrases: Sequence[str]) -> np.ndarray:
        given = tokenizer(
            list(phrases), padding="max_length", max_length=24, truncation=True, return_tensors="pt"
        )
        pixels = images(frames, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = model(**given, pixel_values=pixels).logits_per_image[0]
        return _cosines(found, bias, scale)

    return TextNetwork(name, 1, by_hand, scale)


def xclip(folder: Path) -> TextNetwork:
    """X-CLIP; what it makes of a phrase by itself, before it looks at a video."""
    import transformers as tf

    vision = {
        "num_frames": 4,
        "mit_hidden_size": 24,
        "mit_intermediate_size": 32,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    text = {**_TEXT, "hidden_size": 24, "projection_dim": 24, "eos_token_id": 1}
    config = tf.XCLIPConfig(
        projection_dim=24, text_config=text, vision_config={**_VISION, **vision}
    )
    model, tokenizer = _random(tf.XCLIPModel(config)), _clip_tokenizer(tf)
    images = tf.CLIPImageProcessor(**_CROP)
    name = _saved(folder, model, tokenizer, images)

    def by_hand(frames: Frames, phrases: Sequence[str]) -> np.ndarray:
        pixels = images(frames, return_tensors="pt")["pixel_values"][None]
        given = tokenizer(list(phrases), padding=True, return_tensors="pt")
        with torch.inference_mode():
            video = model.get_video_features(pixels).pooler_output
            texts = model.get_text_features(**given).pooler_output
        return _cosines(torch.nn.functional.cosine_similarity(video, texts))

    return TextNetwork(name, 4, by_hand, float(model.logit_scale.detach().exp()))


def open_clip(folder: Path) -> TextNetwork:
    """A network of open_clip, saved as it saves for the hub."""
    import open_clip as library
    from PIL import Image
    from safetensors.torch import save_file

    model_cfg = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "width": 64, "heads": 2, "layers": 1},
    }
    facts = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
    folder.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": {**facts, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    made = _random(library.CLIP(**model_cfg))
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    model, _, transform = library.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = library.get_tokenizer(f"local-dir:{folder}")

    def by_hand(frames: Frames, phrases: Sequence[str]) -> np.ndarray:
        pixels = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        with torch.inference_mode():
            found, _ = model.get_logits(pixels, tokenizer(list(phrases)))
        return _cosines(found[0], scale=float(model.logit_scale.detach().exp()))

    return TextNetwork(f"open_clip:{folder}", 1, by_hand, float(model.logit_scale.detach().exp()))


NETWORKS = {"clip": clip, "siglip2": siglip2, "xclip": xclip, "open_clip": open_clip}
