"""The network that comes with vidfeat: small, quick, trained on rendered motion only.

``--model bundled`` is short for its network, its weights, and the layers and pools that give its
best features. Its card, ``bundled.json``, says what it was trained on and what it can do;
``vidfeat info bundled`` shows it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vidfeat.errors import UsageError

NAME = "bundled"
MODEL = "r2plus1d_10_w16"
LAYERS = ("layer4",)
POOLS = ("mean", "max")
FRAMES = 8
GFLOPS = 0.221  # multiply-adds of a clip
INPUT_SIZE = 64  # as in training; larger ones were no better, tests/bench/pack_bundled.py
WEIGHTS_FILE = Path(__file__).with_name("bundled.safetensors")
CARD_FILE = Path(__file__).with_name("bundled.json")
CHECK_FILE = Path(__file__).with_name("bundled_check.json")
HINT = (
    "this is the small bundled network, trained on rendered motion only; features trained on "
    "Kinetics: model=r2plus1d_18"
)


def resolve(
    model: str, weights: str | os.PathLike[str] | None
) -> tuple[str, str | os.PathLike[str] | None]:
    """Resolve a network and weights: ``bundled`` as a model names both.

    Raises:
        UsageError: the bundled network with other weights.
    """
    if model != NAME:
        return model, weights
    if weights not in (None, NAME):
        raise UsageError(
            f"model={NAME} has weights of its own: give no weights=FILE, or give model={MODEL} for "
            "the same network with others"
        )
    return MODEL, NAME


def card() -> dict[str, Any]:
    """What the bundled network was trained on, what it can and cannot do, with figures."""
    content: dict[str, Any] = json.loads(CARD_FILE.read_text(encoding="utf-8"))
    return content
