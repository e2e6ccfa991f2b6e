"""Phrases as vectors in the space of an encoder's clips, for networks with a text tower.

::

    texts = TextEncoder(index.head.encoder, index.space_fingerprint)
    vectors_ND = texts.encode(["a man jumps over a fence"])

``phrases.py`` defines which vectors can be compared with phrases.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.load import described_network
from vidfeat.encoders.phrases import check_phrases, encoded, require_text
from vidfeat.encoders.spec import EncoderSpec, TextTower
from vidfeat.encoders.text_cache import TextCache
from vidfeat.errors import FingerprintError, UsageError

_BATCH = 64
# Key of the scale in the cache: no phrase begins with this character.
_SCALE = "\0scale"


class TextEncoder:
    """The text tower of the network that made some vectors, loaded when a new phrase needs it.

    May be used from several threads: phrases are encoded one batch after the other.

    Args:
        description: the encoder that made the vectors, as a feature file or an index describes it.
        space_fingerprint: the fingerprint of those vectors.
        weights: where the network's weights are, if they have moved.
        tower: the network's text tower, if it is already loaded.
        cache: where vectors are kept; None for the user's cache folder.
        what: what holds the vectors, for messages.

    Raises:
        UsageError: the network has no text tower.
        FingerprintError: the description does not belong to the vectors.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        space_fingerprint: str,
        *,
        weights: str | os.PathLike[str] | None = None,
        tower: TextTower | None = None,
        cache: Path | None = None,
        what: str = "this index",
    ) -> None:
        require_text(description, what)
        found = EncoderSpec.from_description(description).space_fingerprint
        if found != space_fingerprint:
            raise FingerprintError(
                f"{what} describes an encoder of space {found[:12]} and holds vectors of space "
                f"{space_fingerprint[:12]}: extract it again"
            )
        self.description = description
        self.space_fingerprint = space_fingerprint
        self.dimension = int(description["dimension"])
        self._weights = weights
        self._tower = tower
        self._lock = threading.Lock()
        self._cache = TextCache(
            {"space": space_fingerprint, "files": _files_of(description, weights)}, cache
        )

    def encode(self, texts: Sequence[str], *, keep: bool = True) -> NDArray[np.float32]:
        """Vectors (N, D) of N phrases, as the text tower returns them: not normalised.

        Args:
            texts: the phrases.
            keep: put new vectors into the cache; False for thousands that are not needed again.

        Raises:
            UsageError: a phrase is empty or too long.
            WeightsError: the network's weights have moved.
            FingerprintError: other tensors were found there.
            DataError: a vector is NaN or infinite.
        """
        phrases = check_phrases(texts)
        found = {phrase: self._kept(phrase) for phrase in dict.fromkeys(phrases)}
        missing = [phrase for phrase, vector in found.items() if vector is None]
        for low in range(0, len(missing), _BATCH):
            batch = missing[low : low + _BATCH]
            with self._lock:
                vectors = encoded(self._loaded(), batch, self.dimension)
            if keep:
                self._cache.put(batch, vectors)
            found.update(zip(batch, vectors, strict=True))
        if not phrases:
            return np.empty((0, self.dimension), np.float32)
        return np.stack([np.asarray(found[phrase], dtype=np.float32) for phrase in phrases])

    @property
    def scale(self) -> float:
        """Factor for cosines before a softmax, from the network's learned temperature."""
        kept = self._cache.get(_SCALE)
        if kept is not None and kept.shape == (1,):
            return float(kept[0])
        with self._lock:
            scale = float(self._loaded().scale)
        self._cache.put([_SCALE], np.array([[scale]], np.float32))
        return scale

    def _kept(self, phrase: str) -> NDArray[np.float32] | None:
        vector = self._cache.get(phrase)
        return vector if vector is not None and vector.shape == (self.dimension,) else None

    def _loaded(self) -> TextTower:
        if self._tower is None:
            self._tower = load_text_tower(self.description, self._weights)
        return self._tower


def load_text_tower(
    description: Mapping[str, Any], weights: str | os.PathLike[str] | None = None
) -> TextTower:
    """The text tower of the network that a feature file or an index describes.

    Raises:
        WeightsError: the weights have moved: ``weights`` says where they are.
        FingerprintError: other tensors were found there.
        UsageError: the text tower is incomplete: its tokenizer is missing.
    """
    loaded = described_network(description, weights)
    if dict(loaded.architecture) != dict(description["architecture"]):
        raise FingerprintError(
            f"the configuration of {loaded.model} is not the one that the vectors were made with: "
            "say where the right one is with weights=FOLDER"
        )
    if loaded.text is None:
        raise UsageError(
            f"{loaded.model} was saved without its tokenizer, which texts need: save it there too "
            "(tokenizer.save_pretrained)"
        )
    return loaded.text


def _files_of(
    description: Mapping[str, Any], weights: str | os.PathLike[str] | None
) -> list[tuple[str, int, int]]:
    """Name, size and time of the files in the folder of a network, if it comes from a folder.

    The fingerprint covers the tensors that clips go through, and a published revision covers all
    files. In a folder, the text tower or the tokenizer may change on its own.
    """
    model = str(description.get("model", "")).partition(":")[2]
    for place in (weights, description.get("weights_file"), model):
        if not place:
            continue
        folder = Path(place).expanduser()
        try:
            if folder.is_dir():
                return sorted(
                    (file.name, file.stat().st_size, file.stat().st_mtime_ns)
                    for file in folder.iterdir()
                    if file.is_file()
                )
        except OSError:
            continue
    return []
