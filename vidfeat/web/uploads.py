"""Videos dropped on the page: written to a separate folder, embedded, and deleted later.

They are untrusted: they are decoded in a separate process, which they may crash, and have a random
name, which only the page that sent them knows.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidfeat.errors import UsageError, VideoError
from vidfeat.index.match import Query
from vidfeat.index.query import QuerySource
from vidfeat.store.embeddings import Embeddings
from vidfeat.system.files import remove_dead_leftovers, temporary_name
from vidfeat.video.clip_plan import VideoSegment

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder

MOST_KEPT = 16
_DECODE_TIMEOUT_SECONDS = 60.0
_MOST_CLIPS = 4000


class TooLargeError(Exception):
    """An upload exceeds its maximum size."""


@dataclass(frozen=True)
class Upload:
    """A video that was dropped on the page.

    Attributes:
        token: its random name.
        path: its file.
        name: its original name, for messages only.
        query: its clips.
    """

    token: str
    path: Path
    name: str
    query: Query


class Uploads:
    """The newest uploads of this server.

    Args:
        source: makes queries; its encoder is loaded at the first upload.
        most_bytes: maximum size of one upload.
    """

    def __init__(self, source: QuerySource, most_bytes: int) -> None:
        self.source = source
        self.most_bytes = most_bytes
        # If a server is killed, the next one removes its folder.
        place = Path(tempfile.gettempdir()) / "vidfeat-uploads"
        with suppress(OSError):
            remove_dead_leftovers(place)
        self._folder = temporary_name(place)
        self._folder.mkdir(mode=0o700)
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()
        self._encoding = threading.Lock()

    def close(self) -> None:
        """Remove all uploads."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def get(self, token: str) -> Upload | None:
        """An upload by its token; None if it is unknown or deleted."""
        with self._lock:
            return self._kept.get(token)

    async def receive(self, body: AsyncIterator[bytes], announced: int | None) -> Path:
        """Write a request's body to a file.

        Raises:
            TooLargeError: more bytes than allowed, announced or sent.
        """
        if announced is not None and announced > self.most_bytes:
            raise TooLargeError
        path = self._folder / f"{secrets.token_urlsafe(16)}.upload"
        size = 0
        try:
            with path.open("wb") as file:
                async for part in body:
                    size += len(part)
                    if size > self.most_bytes:
                        raise TooLargeError
                    file.write(part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def embed(self, path: Path, name: str) -> Upload:
        """Embed a received file and keep it; on an error it is removed.

        Raises:
            VideoError: it is not a video.
            WeightsError: the encoder's weights do not exist.
        """
        try:
            query = self._encode(path, name, None)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        upload = Upload(path.stem, path, name, query)
        with self._lock:
            self._kept[upload.token] = upload
            while len(self._kept) > MOST_KEPT:
                _, oldest = self._kept.popitem(last=False)
                oldest.path.unlink(missing_ok=True)
        return upload

    def segment(
        self, upload: Upload, start_seconds: float | None, end_seconds: float | None
    ) -> Query:
        """The clips of a segment of an upload.

        Raises:
            UsageError: an empty segment.
            VideoError: the file cannot be read there.
        """
        if start_seconds is None and end_seconds is None:
            return upload.query
        return self._encode(
            upload.path, upload.name, VideoSegment(start_seconds or 0.0, end_seconds)
        )

    def _encode(self, path: Path, name: str, segment: VideoSegment | None) -> Query:
        with self._encoding:  # one at a time: each uses the whole machine
            held = self._decode_and_embed(path, name, segment)
        vectors = np.asarray(held.vectors, dtype=np.float32)
        return Query(vectors, held.start_seconds, held.end_seconds, name=name)

    def _decode_and_embed(self, path: Path, name: str, segment: VideoSegment | None) -> Embeddings:
        from vidfeat.encoders.joined import JoinedEncoder

        def embed(encoder: Encoder) -> Embeddings:
            return self._decode_for(encoder, path, name, segment)

        encoder = self.source.encoder
        return encoder.encode_with(embed) if isinstance(encoder, JoinedEncoder) else embed(encoder)

    def _decode_for(
        self, encoder: Encoder, path: Path, name: str, segment: VideoSegment | None
    ) -> Embeddings:
        from vidfeat.encoders.reading import read_videos
        from vidfeat.video.decode.tasks import Started, VideoTask

        def check_length(event: Started) -> None:
            if event.num_clips > _MOST_CLIPS:
                raise UsageError(
                    f"{name} has {event.num_clips} clips, more than {_MOST_CLIPS}: search with a "
                    "shorter video"
                )

        (read,) = read_videos(
            encoder.reader,
            [VideoTask(str(path), () if segment is None else (segment,))],
            timeout_seconds=_DECODE_TIMEOUT_SECONDS,
            started=check_length,
        )
        if read.clips is None:
            raise read.error or VideoError(f"{name} has no clips", kind="no_frames", path=name)
        return read.clips
