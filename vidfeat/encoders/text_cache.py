"""Vectors of phrases, cached on disk: a repeated search for a phrase loads no network.

One small file holds one vector. It is read only if it is complete, has the right length and belongs
to the requested phrase; anything else counts as missing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.system.cache import writable_cache
from vidfeat.system.files import atomic_write, canonical_json

MOST_FILES = 50_000


def default_folder() -> Path:
    """Where the vectors are kept: ``texts`` in the cache folder."""
    return writable_cache() / "texts"


class TextCache:
    """The vectors of one text tower.

    Args:
        identity: all that a vector depends on besides its phrase, as JSON.
        folder: where the files are; None for the user's own cache.
    """

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        self._tower = hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()
        self._writes = 0

    def _path(self, phrase: str) -> Path:
        name = hashlib.sha256(f"{self._tower}\0{phrase}".encode("utf-8", "surrogatepass"))
        return self.folder / f"{name.hexdigest()}.npz"

    def get(self, phrase: str) -> NDArray[np.float32] | None:
        """The vector (D,) of a phrase; None if it is missing or incomplete."""
        try:
            data = self._path(phrase).read_bytes()
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                found = np.asarray(held["vector"])
                checksum = str(held["sha256"])
        except Exception:  # zipfile and numpy raise many kinds of errors for a damaged file
            return None
        if found.dtype != np.float32 or found.ndim != 1 or checksum != _checksum(found):
            return None
        return found

    def put(self, phrases: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        """Store the vectors of some phrases. If that fails, they are computed again."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._writes == 0:
                self._make_room()
            for phrase, vector in zip(phrases, vectors_ND, strict=True):
                self._writes += 1
                row = np.ascontiguousarray(vector, dtype=np.float32)
                with atomic_write(self._path(phrase)) as temporary, temporary.open("wb") as file:
                    np.savez(file, vector=row, sha256=np.array(_checksum(row)))

    def _make_room(self) -> None:
        """Remove the older half of the files once there are too many."""
        files = list(self.folder.glob("*.npz"))
        if len(files) < MOST_FILES:
            return
        dated = []
        for file in files:
            with suppress(OSError):
                dated.append((file.stat().st_mtime, file))
        for _, file in sorted(dated)[: len(dated) // 2]:
            file.unlink(missing_ok=True)


def _checksum(vector: NDArray[np.float32]) -> str:
    return hashlib.sha256(vector.tobytes()).hexdigest()
