"""Phrases, and the vectors that can be compared with them.

Only the vectors of a network's own projection are in the space of its texts: another layer or
pooling, or frames joined other than by their mean, cannot be compared with a phrase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, UsageError

if TYPE_CHECKING:
    from vidfeat.encoders.spec import TextTower

NETWORKS_WITH_TEXT = (
    "pe_core_s, siglip2_b, any open_clip: network, or an hf: network of CLIP, SigLIP, SigLIP 2, "
    "X-CLIP or VideoPrism LvT"
)
MOST_PHRASE_LETTERS = 2000


def check_phrases(texts: Sequence[str]) -> list[str]:
    """Phrases with single spaces between words, checked.

    Raises:
        UsageError: one is empty, too long, or not text.
    """
    if isinstance(texts, str):
        raise UsageError(f"texts is one string, expected a list of phrases: [{texts!r}]")
    found = []
    for text in texts:
        phrase = " ".join(str(text).split())
        if not phrase:
            raise UsageError("a phrase is empty: describe what to look for", field="text")
        if len(phrase) > MOST_PHRASE_LETTERS:
            raise UsageError(
                f"a phrase has {len(phrase)} characters, expected {MOST_PHRASE_LETTERS} or fewer: "
                "text towers read a few dozen words",
                field="text",
            )
        if any(0xD800 <= ord(letter) < 0xE000 or letter == "\0" for letter in phrase):
            raise UsageError(f"the phrase {phrase[:40]!r} is not valid Unicode text", field="text")
        found.append(phrase)
    return found


def has_text(description: Mapping[str, Any]) -> bool:
    """Whether an encoder's vectors can be compared with texts, judging by its description.

    Args:
        description: as :meth:`EncoderSpec.describe` returns it.
    """
    return not _why_not(description)


def require_text(description: Mapping[str, Any], what: str) -> None:
    """Refuse vectors that cannot be compared with texts.

    Args:
        description: the description of their encoder.
        what: what holds the vectors, for the message.

    Raises:
        UsageError: they cannot; the message names the networks with a text tower.
    """
    reason = _why_not(description)
    if reason:
        raise UsageError(
            f"{what} cannot be compared with texts: {reason}; extract with a network that has a "
            f"text tower ({NETWORKS_WITH_TEXT})"
        )


def _why_not(description: Mapping[str, Any]) -> str:
    """Why texts cannot be compared with an encoder's vectors; empty if they can."""
    model = str(description.get("model", "its network"))
    architecture = description.get("architecture")
    source = architecture.get("source") if isinstance(architecture, Mapping) else None
    layers, pool = list(description.get("layers", ())), list(description.get("pool", ()))
    projected = False
    if source == "open_clip":
        projected = layers == ["projection"] and pool == ["mean"]
    elif source == "hf":
        from vidfeat.encoders.sources.hf import FAMILIES

        family = FAMILIES.get(str(architecture.get("model")))  # type: ignore[union-attr]
        if family is None or not family.text:
            return f"{model} has no text tower"
        projected = pool == ["projection"]
    else:
        return f"{model} has no text tower"
    if not projected:
        return f"the vectors of {model} are not its projection (layer and pool must be left out)"
    if description.get("aggregate", "mean") != "mean":
        return f"the frames of {model} were not joined by their mean"
    return ""


def encoded(tower: TextTower, phrases: Sequence[str], dimension: int) -> NDArray[np.float32]:
    """A text tower's vectors of phrases, checked.

    Raises:
        DataError: vectors of the wrong length, or that are NaN or infinite.
    """
    vectors = np.asarray(tower.encode(phrases), dtype=np.float32)
    if vectors.shape != (len(phrases), dimension):
        raise DataError(
            f"the text tower gives vectors of shape {vectors.shape}, expected "
            f"{(len(phrases), dimension)}: its texts are not in the space of its clips"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"the vector of the phrase {phrases[int(bad[0])]!r} is NaN or infinite: the network's "
            "weights are damaged"
        )
    return vectors
