"""Phrases as queries, embedded by the text tower of the network that made the index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from vidfeat.encoders.phrases import has_text
from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import UsageError
from vidfeat.index.match import Query
from vidfeat.index.opened import OpenIndex

if TYPE_CHECKING:
    from vidfeat.encoders.spec import TextTower


def takes_text(index: OpenIndex) -> bool:
    """Whether an index can be searched by text."""
    return has_text(index.head.encoder) and not index.head.centred


def text_encoder(
    index: OpenIndex,
    *,
    weights: str | os.PathLike[str] | None = None,
    tower: TextTower | None = None,
) -> TextEncoder:
    """The text tower of an index.

    Args:
        index: the index.
        weights: where the network's weights are, if they have moved.
        tower: a text tower that is already loaded.

    Raises:
        UsageError: its network has no text tower, or its vectors are centred.
        FingerprintError: its description does not fit its vectors.
    """
    texts = TextEncoder(
        index.head.encoder,
        index.head.space_fingerprint,
        weights=weights,
        tower=tower,
        what=index.where,
    )
    if index.head.centred:
        raise UsageError(
            f"{index.where} is centred or whitened: its clips are no longer in the space of texts; "
            "build one without center and whiten to search by text",
            field=("center", "whiten"),
        )
    return texts


def phrase_query(index: OpenIndex, phrase: str, texts: TextEncoder) -> Query:
    """Embed a phrase as a query.

    Raises:
        UsageError: the phrase is empty.
        DataError: its vector has no direction.
        FingerprintError: the text tower is another network's.
    """
    index.require_space(texts.space_fingerprint, "the phrase")
    vectors = texts.encode([phrase])
    return Query(
        vectors=index.normalisation.apply(
            vectors, lambda _: f"the phrase {phrase!r}", "try another phrase"
        ),
        start_seconds=np.zeros(1),
        end_seconds=np.zeros(1),
        name=" ".join(phrase.split()),
        normalised=True,
        text=" ".join(phrase.split()),
    )
