"""A card for tests: the interface of ``vidfeat.video.nvcuvid.Card``, with FFmpeg underneath."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from vidfeat.video.nvcuvid import CardError, Picture


class FakeCard:
    """Decodes elementary streams and gives planes as a card does.

    ``trouble``: ``""``, ``none`` (there is no card), ``size`` (takes nothing), or with a number of
    pictures behind a colon ``error:N`` (a picture decoded with an error), ``sample:N`` (a wrong
    sample), ``skip:N`` (a picture is missing), ``die:N``, ``hang:N``.
    """

    def __init__(self, trouble: str = "") -> None:
        self.trouble, _, number = trouble.partition(":")
        self.number = int(number or -1)
        self.sessions = 0
        self.fetched = 0
        if self.trouble == "none":
            raise CardError("no card")

    def session(self, codec: str, width: int, height: int, depth: int) -> FakeSession:
        if self.trouble == "size":
            raise CardError("not of this size")
        self.sessions += 1
        return FakeSession(self, codec, (width, height, depth))


class FakeSession:
    def __init__(self, card: FakeCard, codec: str, size: tuple[int, int, int]) -> None:
        self.card = card
        self.size = size
        self.context = av.CodecContext.create({"av1": "libdav1d"}.get(codec, codec), "r")
        self.context.thread_count = 1
        self.context.options = {"err_detect": "explode"}  # a card tells of errors, too
        self.shown = 0
        self.closed = False

    def send(self, data: bytes, pts: int, wanted: Any, take: Any) -> None:
        assert not self.closed
        packet = av.Packet(data)
        packet.pts = pts
        self._take(self.context.decode(packet), wanted, take)

    def end(self, wanted: Any, take: Any) -> None:
        self._take(self.context.decode(None), wanted, take)

    def close(self) -> None:
        self.closed = True

    def _take(
        self, frames: Any, wanted: Callable[[int], bool], take: Callable[[Picture], None]
    ) -> None:
        for frame in frames:
            number, self.shown = self.shown, self.shown + 1
            trouble = self.card.trouble if number == self.card.number else ""
            if trouble == "error":
                raise CardError("a picture was decoded with errors")
            if trouble == "die":
                os._exit(3)
            if trouble == "hang":
                time.sleep(1000)
            if trouble == "skip":
                continue
            assert frame.pts is not None
            if not wanted(frame.pts):
                take(Picture(frame.pts, None, None))
                continue
            self.card.fetched += 1
            luma, chroma = interleaved(frame, self.size[2])
            if trouble == "sample":
                luma[-1, 0] ^= 1 << (luma.dtype.itemsize * 8 - 1)
            take(Picture(frame.pts, luma, chroma))


def interleaved(frame: av.VideoFrame, depth: int) -> tuple[Any, Any]:
    """Planes of a planar frame as a card gives them: rows with something behind their end."""
    kind = np.dtype("u1" if depth == 8 else "<u2")
    y, u, v = (
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] << (16 - depth) % 8
        for plane in frame.planes
    )
    luma = np.full((y.shape[0], y.shape[1] + 24), 77, kind)
    luma[:, : y.shape[1]] = y
    chroma = np.full((u.shape[0], 2 * u.shape[1] + 24), 77, kind)
    chroma[:, 0 : 2 * u.shape[1] : 2] = u
    chroma[:, 1 : 2 * u.shape[1] : 2] = v
    return luma, chroma
