"""An index opened for reading: its head, videos, vectors and searcher, checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import FingerprintError, StoreError
from vidfeat.index.engine import SearchEngine, read_faiss
from vidfeat.index.folder import IndexHeader, read_head
from vidfeat.index.search import Searcher
from vidfeat.index.vectors import Normalisation
from vidfeat.index.videos import CLIP, Videos, load_videos


class OpenIndex:
    """An index, mapped into memory in the state in which it was opened.

    Args:
        path: the folder.

    Raises:
        StoreError: no index, a newer version, damaged, or incomplete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.where = str(self.path)
        """Name of the index in messages."""
        for attempt in range(20):
            head = read_head(self.path)
            try:
                self._open(head)
                return
            except FileNotFoundError as error:
                # A writer replaced the state in the meantime.
                if attempt == 19 or read_head(self.path).generation == head.generation:
                    raise StoreError(f"{error.filename} is missing: rebuild the index") from None

    def _open(self, head: IndexHeader) -> None:
        self.head = head
        total = head.num_base + head.num_tail
        vectors = self._array("vectors", (head.num_base, head.dimension))
        clips = self._array("clips", (head.num_base,), CLIP)
        tail = np.empty((0, head.dimension), dtype=np.float32)
        if head.num_tail:
            tail = self._array("tail_vectors", (head.num_tail, head.dimension))
            late = self._array("tail_clips", (head.num_tail,), CLIP)
            clips = np.concatenate([clips, late])
        self.videos: Videos = load_videos(self.path / head.files["videos"].name, total)
        if total and not 0 <= clips["video"].min() <= clips["video"].max() < len(self.videos):
            raise StoreError(f"{self.path} has clips of videos that it does not list: rebuild it")
        mean = self._array("mean", (head.dimension,)) if head.centred else None
        square = (head.dimension, head.dimension)
        whitening = self._array("whitening", square) if head.whitened else None
        self.normalisation = Normalisation(mean, whitening)
        faiss_index = read_faiss(self.path / head.files["index"].name, head)
        engine = SearchEngine(head, faiss_index, vectors, tail)
        self.searcher = Searcher(engine, clips, self.videos)

    def _array(
        self, role: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        path = self.path / self.head.files[role].name
        try:
            # An empty array cannot be mapped.
            array = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{path} is damaged: {error}; rebuild the index") from None
        known = (np.float32, np.float16) if dtype is None else (dtype,)
        if array.shape != shape or array.dtype not in known or not array.flags.c_contiguous:
            raise StoreError(
                f"{path} has shape {array.shape} of {array.dtype}, its index.json says {shape}: "
                "rebuild the index"
            )
        # A plain array over the same mapping: the subclass costs time at every access.
        return np.asarray(array)

    def _row(self, path: str) -> int:
        try:
            return self.videos.row_of[path]
        except KeyError:
            import difflib

            close = difflib.get_close_matches(path, list(self.videos.row_of)[:20_000], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise StoreError(f"{self.where} has no video {path!r}{hint}") from None

    def require_space(self, space_fingerprint: str, what: str) -> None:
        """Check that vectors can be compared with those of the index.

        Raises:
            FingerprintError: they are of another encoder.
        """
        if space_fingerprint != self.head.space_fingerprint:
            raise FingerprintError(
                f"{what} has vectors of another encoder (space {space_fingerprint[:12]}) than "
                f"{self.where} (space {self.head.space_fingerprint[:12]}, "
                f"{self.head.encoder.get('model', 'unknown model')}): extract both with the same "
                "model, weights, clip length and rate"
            )
