"""Turn what a user gives into a query: a path of the index, a file, features, or a phrase.

For an unchanged file of the index its stored clips are used, which cost nothing; other files are
encoded with the encoder that the index describes, which is loaded once.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidfeat.errors import StoreError, UsageError
from vidfeat.index.match import Query
from vidfeat.index.video_index import VideoIndex
from vidfeat.system.identities import existing_spelling, path_to_identity
from vidfeat.system.urls import identity_below, is_url, shown_path
from vidfeat.video.frame_names import frames_in
from vidfeat.video.remote_listing import state_of

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.encoders.joined import JoinedEncoder
    from vidfeat.encoders.text import TextEncoder
    from vidfeat.store.reader import FeatureStore

# A segment after a path, as in web addresses (W3C Media Fragments): video.mp4#t=12.5,15
_FRAGMENT = re.compile(r"(?P<path>.+)#t=(?P<start>[0-9.]*)(?:,(?P<end>[0-9.]+))?", re.DOTALL)
FEATURE_SUFFIXES = (".h5", ".hdf5")


class QuerySource:
    """Makes queries for one index.

    Args:
        index: the index.
        root: where the videos are, if they have moved.
        weights: where the weights are, if they have moved.
        device: device for the encoder.
        encoder: an encoder that is already loaded.
        model: ``FILE.py:FUNCTION`` of a user's own network, which is run.
    """

    def __init__(
        self,
        index: VideoIndex,
        *,
        root: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        encoder: Encoder | JoinedEncoder | None = None,
        model: str | None = None,
    ) -> None:
        self.index = index
        self.model = model
        self.root = None if root is None else root if is_url(root) else Path(root)
        self.weights = weights
        self.device = device
        self._encoder = encoder
        self._texts: TextEncoder | None = None
        self._lock = threading.Lock()

    @property
    def texts(self) -> TextEncoder:
        """The text tower of the index's network, loaded when a new phrase needs it.

        Raises:
            UsageError: the network has none, or the index is centred.
        """
        with self._lock:
            if self._texts is None:
                from vidfeat.index.text_query import text_encoder

                tower = getattr(self._encoder, "text", None)  # joined encoders have none
                self._texts = text_encoder(self.index, weights=self.weights, tower=tower)
            return self._texts

    def of_text(self, phrase: str) -> Query:
        """A phrase as a query.

        Raises:
            UsageError: the network has no text tower, the index is centred, or the phrase is empty.
            WeightsError: the network's weights do not exist.
        """
        return self.index.text_query(phrase, self.texts)

    @property
    def encoder(self) -> Encoder | JoinedEncoder:
        """The encoder of the index, or its joined encoders, loaded when first needed.

        Raises:
            WeightsError: its weights do not exist.
            FingerprintError: its weights are not those of the index.
        """
        if self._encoder is None:
            from vidfeat.encoders.joined import query_encoder

            self._encoder = query_encoder(
                self.index.head.encoder, self.weights, device=self.device, model=self.model
            )
        encoder = self._encoder
        self.index.require_space(encoder.space_fingerprint, "the encoder of the query")
        if encoder.run_fingerprint != self.index.head.run_fingerprint:
            warnings.warn(
                "the query is encoded with another hop, precision or engine than the index was: "
                "scores may differ in the third digit",
                stacklevel=3,
            )
        return encoder

    def make(
        self,
        text: str,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> list[Query]:
        """The queries that a text names: one, or one for each video of a feature file.

        Args:
            text: a path of the index, a file, a URL, or a feature file; ``#t=12.5,15`` after it
                selects these seconds, unless a path really has this name.
            start_seconds: where the segment to search with starts.
            end_seconds: where it ends.

        Raises:
            StoreError: neither a path of the index nor a file.
            FingerprintError: features or weights of another encoder.
            VideoError: the file cannot be read.
            UsageError: an invalid segment.
        """
        named = self.index.videos.names.find(text)
        if named is not None:
            return [self.index.query(named, start_seconds, end_seconds)]
        path = Path(existing_spelling(text))
        fragment = None if path.is_file() else _FRAGMENT.fullmatch(text)
        if fragment is not None:
            if start_seconds is not None or end_seconds is not None:
                raise UsageError(
                    f"{text} names its own seconds: leave start_seconds and end_seconds out",
                    field=("start_seconds", "end_seconds"),
                )
            start, end = _fragment_seconds(fragment, text)
            return self.make(fragment["path"], start, end)
        if is_url(text):
            known = self._unchanged(text)
            if known is not None:
                return [self.index.query(known, start_seconds, end_seconds)]
            return [self.of_file(text, start_seconds, end_seconds)]
        if not (path.is_file() or self._is_video_of_frames(path)):
            raise StoreError(
                f"{text!r} is neither a video of {self.index.where} nor a file; its videos have "
                f"paths such as {next(iter(self.index.paths), '')!r}"
            )
        if path.suffix.lower() in FEATURE_SUFFIXES:
            if start_seconds is not None or end_seconds is not None:
                raise UsageError(
                    "start_seconds and end_seconds apply to a video, not to a feature file",
                    field=("start_seconds", "end_seconds"),
                )
            return self.of_features(path)
        stored = self._stored_path(path)
        if stored is not None:
            return [self.index.query(stored, start_seconds, end_seconds)]
        return [self.of_file(path, start_seconds, end_seconds)]

    def of_file(
        self,
        path: str | os.PathLike[str],
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        name: str | None = None,
    ) -> Query:
        """Encode a video, or a segment of it."""
        segment = None
        if start_seconds is not None or end_seconds is not None:
            start = start_seconds or 0.0
            if start < 0 or (end_seconds is not None and end_seconds <= start):
                raise UsageError(
                    f"the segment from {start:g} to {end_seconds or 0:g} s is empty: start_seconds "
                    "must lie before end_seconds",
                    field=("start_seconds", "end_seconds"),
                )
            segment = (start, end_seconds)
        embeddings = self.encoder.encode(path, segment=segment)
        return Query(
            vectors=np.asarray(embeddings.vectors, dtype=np.float32),
            start_seconds=embeddings.start_seconds,
            end_seconds=embeddings.end_seconds,
            name=name or shown_path(os.fspath(path)),
            video_id=self._row_of_url(path) if is_url(path) else self._row_of(Path(path)),
            file=os.fspath(path),
        )

    def of_features(self, path: Path) -> list[Query]:
        """The videos of a feature file, one query each."""
        from vidfeat.store.reader import FeatureStore

        with FeatureStore(path) as store:
            self.index.require_space(store.space_fingerprint, str(path))
            if store.run_fingerprint != self.index.head.run_fingerprint:
                warnings.warn(
                    f"{path} was extracted with another hop, precision or engine than the index",
                    stacklevel=3,
                )
            found = [
                Query(
                    vectors=np.asarray(held.vectors, dtype=np.float32),
                    start_seconds=held.start_seconds,
                    end_seconds=held.end_seconds,
                    name=video,
                    video_id=self._row_of_stored(store, row),
                )
                for row, (video, held) in enumerate(store)
                if len(held)
            ]
        if not found:
            raise StoreError(f"{path} has no clip to search with")
        return found

    def _row_of_stored(self, store: FeatureStore, row: int) -> int:
        """Row of the indexed video that is the same as a video of a feature file; -1 for none.

        It has the same path, and either the same root or the same size and time of the file.
        """
        videos = self.index.videos
        named = videos.names.find(store.paths[row])
        if named is None:
            return -1
        own = videos.row_of[named]
        same = all(
            int(videos[fact][own]) == int(store.videos[fact][row])
            for fact in ("size_bytes", "mtime_ns")
        )
        return own if same or store.source_root == self.index.head.source_root else -1

    def _is_video_of_frames(self, path: Path) -> bool:
        """Whether a path is a folder of frames, and the index was made with a rate for them.

        Raises:
            StoreError: it is a folder of frames, and there is no rate.
        """
        if not frames_in(path):
            return False
        plan = self.index.head.encoder.get("plan") or {}
        if not plan.get("frames_fps"):
            raise StoreError(
                f"{path} is a folder of frames, and {self.index.where} was made without a rate for "
                "them: extract it with frames_fps into a feature file, and search with that",
                field="frames_fps",
            )
        return True

    def _unchanged(self, url: str) -> str | None:
        """The index's path of a remote video that has not changed since it was indexed."""
        row = self._row_of_url(url)
        if row < 0:
            return None
        videos = self.index.videos
        held = int(videos["size_bytes"][row]), int(videos["mtime_ns"][row])
        return videos.paths[row] if state_of(url) == held else None

    def _row_of_url(self, url: str | os.PathLike[str]) -> int:
        """Row of a remote video, changed or not; -1 if it is not in the index."""
        roots = [self.index.head.source_root, *([] if self.root is None else [self.root])]
        for root in roots:
            identity = identity_below(os.fspath(url), os.fspath(root))
            named = None if identity is None else self.index.videos.names.find(identity)
            if named is not None:
                return self.index.videos.row_of[named]
        return -1

    def _stored_path(self, path: Path) -> str | None:
        """The index's own path of a file that has not changed since it was indexed."""
        row = self._row_of(path)
        if row < 0:
            return None
        status = path.stat()
        same = (
            status.st_size == self.index.videos["size_bytes"][row]
            and status.st_mtime_ns == self.index.videos["mtime_ns"][row]
        )
        return self.index.videos.paths[row] if same else None

    def _row_of(self, path: Path) -> int:
        """Row of a file's video, changed or not, whatever links lead to it; -1 for none.

        The indexed path may itself be a link: then its target is looked for among the videos of
        equal size. If the whole root has moved, a file is recognised by the end of its path and its
        size.
        """
        root = self.root if isinstance(self.root, Path) else self.index.source_root
        for place in (_unlinked(path), path.resolve()):
            for start in (_unlinked(root), root.resolve()):
                if not place.is_relative_to(start):
                    continue
                identity = self.index.videos.names.find(
                    path_to_identity(str(place.relative_to(start)))
                )
                if identity is not None:
                    return self.index.videos.row_of[identity]
        try:
            size = path.stat().st_size
        except OSError:
            return -1
        videos = self.index.videos
        if not root.is_dir():
            parts = _unlinked(path).parts[1:]
            for first in range(len(parts)):
                identity = videos.names.find(path_to_identity(str(Path(*parts[first:]))))
                if identity is not None:
                    row = videos.row_of[identity]
                    return row if int(videos["size_bytes"][row]) == size else -1
            return -1
        for row in np.flatnonzero(videos["alive"] & (videos["size_bytes"] == size)).tolist():
            with suppress(OSError, StoreError):
                if self.index.local_path(videos.paths[row], root).samefile(path):
                    return row
        return -1


def _fragment_seconds(found: re.Match[str], text: str) -> tuple[float, float | None]:
    try:
        return float(found["start"] or 0), None if found["end"] is None else float(found["end"])
    except ValueError:
        raise UsageError(f"{text}: expected seconds after it, as in video.mp4#t=12.5,15") from None


def make_queries(
    source: QuerySource,
    texts: Sequence[str],
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> list[Query]:
    """The queries of several texts, see `QuerySource.make`.

    Raises:
        UsageError: several texts, and a segment.
    """
    if not texts:
        return []
    if len(texts) > 1 and (start_seconds is not None or end_seconds is not None):
        raise UsageError(
            "start_seconds and end_seconds choose a segment of a single query: give only one",
            field=("start_seconds", "end_seconds"),
        )
    return [query for text in texts for query in source.make(text, start_seconds, end_seconds)]


def _unlinked(path: Path) -> Path:
    """The absolute path without ``..``; links are not resolved, as in indexed paths."""
    return Path(os.path.abspath(path))  # noqa: PTH100
