"""The video decoders of NVIDIA's cards, through the libraries of the driver itself.

``libcuda`` and ``libnvcuvid`` come with every driver and keep their binary interface, so no package
is needed. Only this interface reports for every picture whether it was decoded without an error: a
card conceals damage, and FFmpeg, which can use the same decoders, does not check for it.
"""

from __future__ import annotations

import ctypes
import time
from collections import OrderedDict
from collections.abc import Callable
from ctypes import POINTER, byref, c_int, c_size_t, c_ubyte, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.nvcuvid_types import (
    Capabilities,
    CreateInfo,
    Format,
    OnDecode,
    OnSequence,
    OnShow,
    Packet,
    ParserParams,
    ProcParams,
    ShortRect,
    Shown,
    Status,
)

CODECS = {"h264": 4, "hevc": 8, "vp9": 10, "av1": 11}
# Only these report the status of a picture.
_WITH_STATUS = frozenset({"h264", "hevc"})
_IN_PROGRESS, _SUCCESS = 1, 2
_CHROMA_420 = 1
_NV12, _P016 = 0, 1
_PREFER_CUVID = 4
_BLOCKING_SYNC = 4  # a waiting thread sleeps
_NON_BLOCKING_STREAM = 1
_PACKET_END, _PACKET_TIMED = 1, 2
_DISPLAY_DELAY = 4  # pictures that are being decoded while an earlier one is fetched
_KEPT_DECODERS = 8
_STATUS_SECONDS = 10.0


class CardError(Exception):
    """The card or its driver cannot do, or failed to do, what was asked: decode on the CPU."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, or only its time if its samples were not requested."""

    pts: int
    luma: NDArray[Any] | None
    """(height, width or more) uint8, or uint16 with the sample in the upper bits; contiguous."""
    chroma: NDArray[Any] | None
    """(half the height, width or more) of alternating U and V, of the same kind."""


class Card:
    """A card with video decoders; holds its CUDA context and the most recent decoders.

    Raises:
        CardError: no driver, no such card.
    """

    def __init__(self, device: int) -> None:
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
            self._cuvid = ctypes.CDLL("libnvcuvid.so.1")
        except OSError as error:
            raise CardError(f"no NVIDIA video decoder: {error}") from None
        self._declare()
        self.cuda("cuInit", 0)
        handle = c_int()
        self.cuda("cuDeviceGet", byref(handle), device)
        self.cuda("cuDevicePrimaryCtxSetFlags_v2", handle, _BLOCKING_SYNC)
        context = c_void_p()
        self.cuda("cuDevicePrimaryCtxRetain", byref(context), handle)
        self.cuda("cuCtxSetCurrent", context)
        self.stream = c_void_p()
        self.cuda("cuStreamCreate", byref(self.stream), _NON_BLOCKING_STREAM)
        self._decoders: OrderedDict[tuple[Any, ...], c_void_p] = OrderedDict()
        self._buffer = c_void_p()
        self._buffer_size = 0
        self._capabilities: dict[tuple[str, int], Capabilities] = {}

    def _declare(self) -> None:
        self._cuda.cuMemcpyDtoHAsync_v2.argtypes = [c_void_p, c_ulonglong, c_size_t, c_void_p]
        self._cuda.cuStreamSynchronize.argtypes = [c_void_p]
        cuvid = self._cuvid
        cuvid.cuvidParseVideoData.argtypes = [c_void_p, POINTER(Packet)]
        cuvid.cuvidDestroyVideoParser.argtypes = [c_void_p]
        cuvid.cuvidDecodePicture.argtypes = [c_void_p, c_void_p]
        cuvid.cuvidDestroyDecoder.argtypes = [c_void_p]
        cuvid.cuvidGetDecodeStatus.argtypes = [c_void_p, c_int, POINTER(Status)]
        cuvid.cuvidUnmapVideoFrame64.argtypes = [c_void_p, c_ulonglong]
        cuvid.cuvidMapVideoFrame64.argtypes = [
            *(c_void_p, c_int, POINTER(c_ulonglong), POINTER(c_uint), POINTER(ProcParams))
        ]

    def cuda(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver."""
        _check(name, getattr(self._cuda, name)(*arguments))

    def cuvid(self, name: str, *arguments: Any) -> None:
        """Call a function of the decoder's library."""
        _check(name, getattr(self._cuvid, name)(*arguments))

    def session(self, codec: str, width: int, height: int, depth: int) -> Session:
        """Begin to decode a video, or continue at another of its keys.

        Args:
            codec: a key of ``CODECS``.
            width: width of the shown frames, before any rotation.
            height: likewise.
            depth: bits per sample, 8 or 10.

        Raises:
            CardError: the card does not decode this.
        """
        return Session(self, codec, width, height, depth)

    # -- for sessions --------------------------------------------------------------------------

    def capabilities(self, codec: str, depth: int) -> Capabilities:
        """What the card can do with 4:2:0 video of a codec."""
        found = self._capabilities.get((codec, depth))
        if found is None:
            found = Capabilities(
                codec=CODECS[codec], chroma_format=_CHROMA_420, bit_depth_minus8=depth - 8
            )
            self.cuvid("cuvidGetDecoderCaps", byref(found))
            self._capabilities[codec, depth] = found
        return found

    def decoder(self, key: tuple[Any, ...], make: Callable[[], CreateInfo]) -> c_void_p:
        """The decoder for a key, kept from an earlier video or newly created."""
        found = self._decoders.get(key)
        if found is None:
            while len(self._decoders) >= _KEPT_DECODERS:
                _, oldest = self._decoders.popitem(last=False)
                self.cuvid("cuvidDestroyDecoder", oldest)
            found = c_void_p()
            self.cuvid("cuvidCreateDecoder", byref(found), byref(make()))
            self._decoders[key] = found
        self._decoders.move_to_end(key)
        return found

    def fetch(self, address: int, size: int) -> NDArray[np.uint8]:
        """Copy device memory to a page-locked buffer, which the next call overwrites."""
        if size > self._buffer_size:
            if self._buffer_size:
                self.cuda("cuMemFreeHost", self._buffer)
                self._buffer_size = 0
            self.cuda("cuMemAllocHost_v2", byref(self._buffer), c_size_t(size))
            self._buffer_size = size
        self.cuda("cuMemcpyDtoHAsync_v2", self._buffer, address, size, self.stream)
        self.cuda("cuStreamSynchronize", self.stream)
        return np.ctypeslib.as_array(ctypes.cast(self._buffer, POINTER(c_ubyte)), (size,))


class Session:
    """Takes packets and gives pictures in display order; made by :meth:`Card.session`.

    For H.264 and HEVC, the card reports for every picture whether it was decoded without an error.
    For VP9 and AV1 it does not: damage within a picture goes unnoticed, as it mostly does in
    FFmpeg, because those formats carry no check for it.
    """

    def __init__(self, card: Card, codec: str, width: int, height: int, depth: int) -> None:
        self._card = card
        self._codec = codec
        self._size = (width, height, depth)
        able = card.capabilities(codec, depth)
        if not able.is_supported:
            raise CardError(f"this card does not decode {depth}-bit {codec}")
        if not (
            able.min_width <= width <= able.max_width
            and able.min_height <= height <= able.max_height
            and width * height / 256 <= able.max_macroblocks
        ):
            raise CardError(f"this card does not decode {codec} at {width} x {height}")
        self._decoder: c_void_p | None = None
        self._error: Exception | None = None
        self._shown: list[tuple[int, int]] = []
        self._pictures: list[Picture] = []
        self._wanted: Callable[[int], bool] = lambda pts: True  # noqa: ARG005
        self._take: Callable[[Picture], None] = self._pictures.append
        # kept here, so that the callbacks still exist when the parser calls them
        self._callbacks = (
            OnSequence(lambda _, about: self._guard(self._sequence, about.contents)),
            OnDecode(lambda _, picture: self._guard(self._decode, picture)),
            OnShow(lambda _, shown: self._guard(self._show, shown)),
        )
        params = ParserParams(
            codec=CODECS[codec],
            max_num_decode_surfaces=1,
            max_display_delay=_DISPLAY_DELAY,
            on_sequence=self._callbacks[0],
            on_decode=self._callbacks[1],
            on_show=self._callbacks[2],
        )
        self._parser = c_void_p()
        card.cuvid("cuvidCreateVideoParser", byref(self._parser), byref(params))

    def send(
        self,
        data: bytes,
        pts: int,
        wanted: Callable[[int], bool],
        take: Callable[[Picture], None],
    ) -> None:
        """Decode a packet.

        Args:
            data: H.264 and HEVC in Annex B form; VP9 and AV1 as containers hold them.
            pts: its presentation time, which is returned with its picture.
            wanted: given a presentation time, whether the samples of that picture are wanted.
            take: called with every picture shown; its arrays are valid only during the call.

        Raises:
            CardError: anything unexpected.
        """
        self._parse(Packet(_PACKET_TIMED, len(data), data, pts), wanted, take)

    def end(self, wanted: Callable[[int], bool], take: Callable[[Picture], None]) -> None:
        """End the stream: deliver the remaining pictures."""
        self._parse(Packet(_PACKET_END, 0, None, 0), wanted, take)

    def close(self) -> None:
        """End the session; the decoder stays with the card."""
        if self._parser:
            self._card.cuvid("cuvidDestroyVideoParser", self._parser)
            self._parser = c_void_p()

    def _parse(
        self, packet: Packet, wanted: Callable[[int], bool], take: Callable[[Picture], None]
    ) -> None:
        self._wanted, self._take = wanted, take
        try:
            self._card.cuvid("cuvidParseVideoData", self._parser, byref(packet))
        except CardError as error:
            raise self._error or error from None
        if self._error is not None:
            raise self._error

    def _guard(self, work: Callable[[Any], int], argument: Any) -> int:
        """Run a callback; an exception cannot pass through the parser, so it is kept."""
        if self._error is not None:
            return 0
        try:
            return work(argument)
        except Exception as error:
            self._error = error
            return 0

    def _sequence(self, about: Format) -> int:
        """Handle the start of a video, or a change of its format."""
        area = about.display_area
        width, height = area.right - area.left, area.bottom - area.top
        depth = about.bit_depth_luma_minus8 + 8
        if about.chroma_format != _CHROMA_420 or about.bit_depth_chroma_minus8 + 8 != depth:
            raise CardError("not 4:2:0 of one bit depth")
        if (width, height, depth) != self._size:
            raise CardError(f"{width} x {height} of {depth} bits, expected {self._size}")
        # those that the stream refers to, and those waiting to be fetched
        surfaces = max(int(about.min_num_decode_surfaces), 1) + _DISPLAY_DELAY
        key = (
            *(self._codec, about.coded_width, about.coded_height, depth, surfaces),
            *(area.left, area.top, area.right, area.bottom),
        )
        even_height = height + height % 2

        def make() -> CreateInfo:
            return CreateInfo(
                width=about.coded_width,
                height=about.coded_height,
                num_decode_surfaces=surfaces,
                codec=CODECS[self._codec],
                chroma_format=_CHROMA_420,
                creation_flags=_PREFER_CUVID,
                bit_depth_minus8=depth - 8,
                max_width=about.coded_width,
                max_height=about.coded_height,
                display_area=ShortRect(area.left, area.top, area.right, area.bottom),
                output_format=_NV12 if depth == 8 else _P016,
                target_width=width + width % 2,
                target_height=even_height,
                num_output_surfaces=2,
            )

        self._decoder = self._card.decoder(key, make)
        return surfaces

    def _decode(self, picture: int) -> int:
        """Hand a picture, in decoding order, to the card, which decodes it asynchronously."""
        if self._decoder is None:
            raise CardError("a picture before its sequence")
        self._card.cuvid("cuvidDecodePicture", self._decoder, picture)
        return 1

    def _show(self, shown: Any) -> int:
        """Deliver a picture, in display order."""
        if not shown:  # the end
            return 1
        about: Shown = shown.contents
        if not about.progressive_frame:
            raise CardError("fields")
        pts = int(about.timestamp)
        if self._wanted(pts):
            self._fetch(about, pts)
        else:
            self._require_success(about.picture_index)
            self._take(Picture(pts, None, None))
        return 1

    def _fetch(self, about: Shown, pts: int) -> None:
        card = self._card
        _, height, depth = self._size
        params = ProcParams(progressive_frame=1, output_stream=card.stream)
        address, pitch = c_ulonglong(), c_uint()
        card.cuvid(
            *("cuvidMapVideoFrame64", self._decoder, about.picture_index),
            *(byref(address), byref(pitch), byref(params)),
        )
        try:
            rows = height + height % 2
            flat = card.fetch(address.value, pitch.value * rows * 3 // 2)
        finally:
            card.cuvid("cuvidUnmapVideoFrame64", self._decoder, address)
        self._require_success(about.picture_index)
        kind = np.dtype(np.uint8 if depth == 8 else "<u2")
        samples = flat.view(kind).reshape(rows * 3 // 2, pitch.value // kind.itemsize)
        self._take(
            Picture(
                pts,
                samples[:height],
                samples[rows : rows + (height + 1) // 2],
            )
        )

    def _require_success(self, picture_index: int) -> None:
        """Wait until a picture is decoded, and check that it was decoded without an error."""
        if self._codec not in _WITH_STATUS:
            return
        found = Status()
        began = time.monotonic()
        while True:
            self._card.cuvid("cuvidGetDecodeStatus", self._decoder, picture_index, byref(found))
            if found.status != _IN_PROGRESS:
                break
            if time.monotonic() - began > _STATUS_SECONDS:
                raise CardError("a picture was not ready in time")
            time.sleep(0.0002)
        if found.status != _SUCCESS:
            raise CardError(f"a picture was decoded with errors (status {found.status})")


def _check(name: str, result: int) -> None:
    if result != 0:
        raise CardError(f"{name} failed with CUDA error {result}")


def decoders_there() -> str | None:
    """Why video cannot be decoded on a card of this machine; None if it probably can.

    Only the libraries are looked for, because creating a CUDA context is slow.
    """
    for name in ("libcuda.so.1", "libnvcuvid.so.1"):
        try:
            ctypes.CDLL(name)
        except OSError as error:
            return str(error)
    return None
