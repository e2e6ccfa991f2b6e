"""Reading video with a card's decoders: the frames that FFmpeg gives, or none.

H.264, HEVC, VP9 and AV1 define their samples to the last bit, so a card's planes equal FFmpeg's.
The reader is that of :mod:`vidfeat.video.reader` except for the decoding: it uses the same packet
index, seeks and positions. Anything unexpected raises :class:`Refused`, and the CPU continues from
there:

* the card does not support this kind of video, or the packets leave doubt about the frames;
* the first frame, which FFmpeg decodes too, differs from the card's in even one sample;
* a frame comes that the packets did not announce, or one is missing;
* the card decoded a picture with an error (reported for H.264 and HEVC; damage *within* a picture
  of VP9 or AV1 is noticed neither here nor, mostly, by FFmpeg).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.nvcuvid import CODECS, CardError, Picture
from vidfeat.video.reader import Known, Limits, Recounted, VideoReader

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

# FFmpeg's names of the formats that a card's samples can be copied to, and their bits.
_FORMATS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
_NAMES = {"libdav1d": "av1"}
_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_AV1_CONFIG_BYTES = 4  # before the sequence header in the container's configuration record


class Refused(Exception):  # noqa: N818 (control flow, not an error)
    """Read this video on the CPU; the frames given so far are correct."""


Make = Callable[[Picture, "av.VideoFrame"], Any]
"""Makes what is yielded from a card's planes and FFmpeg's first frame, which gives the colours and
the rotation. The planes are valid only during the call."""


class DecodingSession(Protocol):
    """What a reader needs from :class:`vidfeat.video.nvcuvid.Session`."""

    def send(
        self,
        data: bytes,
        pts: int,
        wanted: Callable[[int], bool],
        take: Callable[[Picture], None],
    ) -> None:
        """Decode a packet."""

    def end(self, wanted: Callable[[int], bool], take: Callable[[Picture], None]) -> None:
        """Decode what is left."""

    def close(self) -> None:
        """End the session."""


class DecodingCard(Protocol):
    """What a reader needs from :class:`vidfeat.video.nvcuvid.Card`."""

    def session(self, codec: str, width: int, height: int, depth: int) -> DecodingSession:
        """Begin to decode."""


@dataclass(frozen=True)
class _Passed:
    """A frame without samples: only what the reader checks, and what was made of it."""

    pts: int
    width: int
    height: int
    is_corrupt: bool = False
    made: Any = None


class CardReader(VideoReader):
    """An open video whose frames a card decodes. Use :func:`open_video_on_card`."""

    make: Make | None

    def __init__(
        self,
        path: str,
        limits: Limits,
        card: DecodingCard,
        known: Known | None = None,
        progress: Callable[[], None] | None = None,
        make: Make | None = None,
        stream: int | None = None,
    ) -> None:
        self._card = card
        self.make = make
        self._session: DecodingSession | None = None
        # The frame that decoding began with, as FFmpeg decodes it, and its key.
        self._model: av.VideoFrame | None = None
        self._likeness: Likeness | None = None
        self._model_pts = 0
        self._model_entry = 0
        self._checked = False  # whether the card's frame was the same
        self._by_card = False
        self._wanted_pts: frozenset[int] | None = None
        super().__init__(path, limits, known, progress, stream=stream)

    def _examine(self) -> None:
        super()._examine()  # decodes the first frame with FFmpeg
        assert self._first is not None
        self._adopt(self._first, 0)

    def _adopt(self, model: av.VideoFrame, entry: int) -> None:
        """Use a frame as the model of all frames; from here on the card decodes."""
        if model.format.name not in _FORMATS or model.interlaced_frame or model.pts is None:
            raise Refused(f"{model.format.name}, or fields")
        if self._codec() not in CODECS:
            raise Refused(self._codec())
        self._model, self._model_pts, self._model_entry = model, model.pts, entry
        self._likeness = Likeness(model)
        self._by_card = True
        if self._frames is not None and hasattr(self._frames, "close"):
            self._frames.close()
        self._frames = None

    def _codec(self) -> str:
        assert self._stream is not None
        name = self._stream.codec_context.name
        return _NAMES.get(name, name)

    def _count(self) -> None:
        raise Refused("the packets leave doubt about the frames")

    def frames(self, positions: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Like :meth:`VideoReader.frames`, with what ``make`` makes in place of the frames.

        Raises:
            Refused: continue on the CPU; the frames so far are correct.
        """
        assert self.index is not None
        wanted = sorted(set(positions))
        if not wanted or 0 <= wanted[0] <= wanted[-1] < self.index.pts.size:
            self._wanted_pts = frozenset(self.index.pts[wanted].tolist())
        if self.make is not None:
            self._first = None  # the card makes this one, too
        try:
            for position, frame in super().frames(wanted):
                yield position, frame if self.make is None else cast(_Passed, frame).made
        except CardError as error:
            raise Refused(str(error)) from error

    def _seek(self, entry: int) -> None:
        examined = hasattr(self, "info")
        if examined and not self._checked and (self._model is None or entry != self._model_entry):
            # Reading does not begin at the start: compare the first frame that is read.
            self._by_card = False
            super()._seek(entry)
            self._adopt(self._pull(), entry)
        super()._seek(entry)

    def _decode_from(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        entry: int,
    ) -> Iterator[av.VideoFrame]:
        if not self._by_card:
            yield from super()._decode_from(container, stream, entry)
            return
        import av.error

        assert self.index is not None
        key_pts = int(self.index.key_pts[entry])
        self._end_session()
        codec, model = self._codec(), self._model
        assert model is not None
        depth = _FORMATS[model.format.name]
        self._session = session = self._card.session(codec, model.width, model.height, depth)
        came: deque[av.VideoFrame] = deque()
        change = _Stream(codec, stream)
        never_shown: set[int] = set()

        def take(picture: Picture) -> None:
            if picture.pts >= key_pts and picture.pts not in never_shown:
                came.append(self._frame(picture))

        try:
            for packet in self._packets_from(container, stream, entry):
                if packet.size == 0:
                    continue
                pts = cast(int, packet.pts)  # read now, since a filter empties the packet
                if packet.is_discard:
                    never_shown.add(pts)
                for data in change.data(packet):
                    session.send(data, pts, self._is_wanted, take)
                while came:
                    yield came.popleft()
            session.end(self._is_wanted, take)
            yield from came
        except (av.error.FFmpegError, EOFError):
            raise Recounted from None

    def _is_wanted(self, pts: int) -> bool:
        if pts == self._model_pts and not self._checked:
            return True
        return self._wanted_pts is None or pts in self._wanted_pts

    def _frame(self, picture: Picture) -> av.VideoFrame:
        """A card's picture as FFmpeg would have given it."""
        model = self._model
        assert model is not None
        if picture.luma is None or picture.chroma is None:
            return cast("av.VideoFrame", _Passed(picture.pts, model.width, model.height))
        first = picture.pts == self._model_pts and not self._checked
        if self.make is None or first:
            assert self._likeness is not None
            frame = self._likeness.frame(picture.pts)
            fill_planes(frame, picture.luma, picture.chroma)
            if first:
                if not same_samples(frame, model):
                    raise Refused("the card's first frame differs from FFmpeg's")
                self._checked = True
        if self.make is None:
            return frame
        made = self.make(picture, model)
        return cast("av.VideoFrame", _Passed(picture.pts, model.width, model.height, made=made))

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        super().close()
        self._end_session()


class _Stream:
    """Converts a container's packets to the form that a bare decoder takes."""

    def __init__(self, codec: str, stream: av.video.stream.VideoStream) -> None:
        from av.bitstream import BitStreamFilterContext

        filters = _ANNEX_B.get(codec)
        self._filter = BitStreamFilterContext(filters, stream) if filters else None
        extradata = stream.codec_context.extradata
        self._before = b""
        if codec == "av1" and extradata and extradata[0] & 0x80:
            self._before = extradata[_AV1_CONFIG_BYTES:]

    def data(self, packet: Any) -> Iterator[bytes]:
        if self._filter is not None:
            for changed in self._filter.filter(packet):
                yield bytes(changed)
            return
        before, self._before = self._before, b""
        yield before + bytes(packet)


class Likeness:
    """Makes frames that equal one of FFmpeg's in everything but samples and time.

    A conversion to RGB depends on more than PyAV can set (the chroma location, for example).
    Therefore each new frame is a reference to FFmpeg's frame that then gets its own memory.
    """

    def __init__(self, model: av.VideoFrame) -> None:
        from av.filter import Graph

        self._model = model
        self._graph = Graph()
        self._source = self._graph.add_buffer(
            width=model.width,
            height=model.height,
            format=model.format,
            time_base=model.time_base or Fraction(1, 1000),
        )
        self._sink = self._graph.add("buffersink")
        self._source.link_to(self._sink)
        self._graph.configure()

    def frame(self, pts: int) -> av.VideoFrame:
        """A new frame, whose samples are still to be written."""
        self._source.push(self._model)
        frame = cast("av.VideoFrame", self._sink.pull())
        frame.make_writable()
        frame.pts = pts
        frame.time_base = self._model.time_base
        return frame


def fill_planes(frame: av.VideoFrame, luma: NDArray[Any], chroma: NDArray[Any]) -> None:
    """Write a card's planes into those of a planar 4:2:0 frame.

    Args:
        frame: yuv420p, yuvj420p or yuv420p10le.
        luma: (height, width or more) uint8, or uint16 with the samples in the upper ten bits.
        chroma: (half the height, width or more) of alternating U and V.
    """
    wide = luma.dtype.itemsize == 2
    planes = _planes(frame)
    width = planes[1].shape[1]
    luma = luma[:, : planes[0].shape[1]]
    pairs = np.ascontiguousarray(chroma[:, : 2 * width])
    if wide:
        np.right_shift(luma, 6, out=planes[0])
        both = pairs.view("<u4")
        planes[1][:] = (both & 0xFFFF) >> 6
        planes[2][:] = both >> 22
    else:
        planes[0][:] = luma
        both = pairs.view("<u2")
        planes[1][:] = both  # keeps the lower byte
        planes[2][:] = both >> 8


def same_samples(first: av.VideoFrame, second: av.VideoFrame) -> bool:
    """Whether two frames of one format hold the same samples."""
    return all(map(np.array_equal, _planes(first), _planes(second)))


def _planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Views of the planes (height, width)."""
    kind = np.dtype("<u2" if frame.format.name.endswith("10le") else "u1")
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(cast(Any, plane), kind)
        found.append(rows.reshape(plane.height, -1)[:, : plane.width])
    return found


@contextmanager
def open_video_on_card(
    path: str | os.PathLike[str],
    card: DecodingCard,
    limits: Limits | None = None,
    known: Known | None = None,
    progress: Callable[[], None] | None = None,
    make: Make | None = None,
    stream: int | None = None,
) -> Iterator[CardReader]:
    """Open a video for reading frames by position, decoded by a card.

    Arguments as for :func:`vidfeat.video.reader.open_video`; what ``make`` makes, if given, is
    yielded in place of frames.

    Raises:
        Refused: read it on the CPU.
        VideoError: the file is not a video.
    """
    reader = CardReader(os.fspath(path), limits or Limits(), card, known, progress, make, stream)
    try:
        yield reader
    finally:
        reader.close()
        reader.let_go()
