"""Short names for the recommended networks, with reason and licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recommended:
    """A network under a short name."""

    name: str
    model: str
    """What it stands for: a source and a name."""
    extra: str
    """Extra of vidfeat that installs its library."""
    dimension: int
    frames: int
    """Frames per clip; 1 for frame networks."""
    size: int
    """Side of its frames, in pixels."""
    reason: str
    licence: str
    """Licence of the weights, as far as it has been checked."""


RECOMMENDED: tuple[Recommended, ...] = (
    Recommended(
        "pe_core_s",
        "open_clip:PE-Core-S-16-384/meta",
        "open_clip",
        512,
        1,
        384,
        "finds videos by text; fast (15.7 GMAC per frame)",
        "Apache-2.0",
    ),
    Recommended(
        "vjepa2_l",
        "hf:facebook/vjepa2-vitl-fpc64-256",
        "transformers",
        1024,
        64,
        256,
        "motion: the best of these on Something-Something and Diving48, with an attentive head",
        "MIT",
    ),
    Recommended(
        "videoprism_b",
        "hf:google/videoprism-base-f16r288",
        "transformers",
        768,
        16,
        288,
        "actions with the network frozen: Kinetics-400 82.9",
        "code Apache-2.0, weights CC-BY",
    ),
    Recommended(
        "videomae_b",
        "hf:MCG-NJU/videomae-base",
        "transformers",
        768,
        16,
        224,
        "the usual starting point for papers to compare with",
        "perhaps CC-BY-NC-4.0 (unverified)",
    ),
    Recommended(
        "siglip2_b",
        "open_clip:ViT-B-32-SigLIP2-256/webli",
        "open_clip",
        768,
        1,
        256,
        "finds videos by text in many languages; fast (5.7 GMAC per frame)",
        "unverified",
    ),
    Recommended(
        "dinov3_s",
        "timm:vit_small_patch16_dinov3.lvd1689m",
        "timm",
        384,
        1,
        256,
        "appearance without text: copies, places, things; fast (4.6 GMAC per frame at 224)",
        "DINOv3 licence (its own terms)",
    ),
)


def resolved(model: str | None) -> str | None:
    """The name that a short name stands for; others are returned unchanged."""
    return next((entry.model for entry in RECOMMENDED if entry.name == model), model)
