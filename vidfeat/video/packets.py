"""What the packets of a video say about its frames, without decoding any.

Where codec and container guarantee one shown frame per packet, the sorted presentation times of the
packets are the frames of the video in display order, and the key packets are the places where
decoding may begin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av.container
    import av.packet
    import av.video.stream

# One packet, one shown frame. Not included: MPEG-4 part 2 (packed B-frames, frames not coded), VP8
# (hidden reference frames), MPEG-1/2 and VC-1 (fields and repeated pictures).
_ONE_FRAME_CODECS = frozenset(
    {
        "h264",
        "hevc",
        "av1",
        "libdav1d",
        "vp9",
        "mjpeg",
        "prores",
        "dnxhd",
        "ffv1",
        "png",
        "rawvideo",
    }
)
_ONE_FRAME_CONTAINERS = frozenset({"mov", "matroska"})
_ANNEX_B_IDR = re.compile(rb"\x00\x00\x01[\x25\x45\x65]")  # start code, slice of type 5


@dataclass(frozen=True)
class PacketIndex:
    """Presentation times of all shown frames, and where decoding may begin.

    Arrays are small enough to send to another process: 16 bytes per frame.
    """

    pts: NDArray[np.int64]
    """(frames,) presentation times in ticks, ascending: position p is shown at ``pts[p]``."""
    keys: NDArray[np.int64]
    """(keys,) positions of the frames where decoding may begin, ascending; the first is 0."""
    key_pts: NDArray[np.int64]
    """(keys,) presentation times of the key packets (a key that is never shown has its own)."""
    key_dts: NDArray[np.int64]
    """(keys,) decoding times of the key packets, for seeking."""


@dataclass(frozen=True)
class Scan:
    """The outcome of reading all packets once."""

    index: PacketIndex | None
    """None if the frames must be counted by decoding."""
    packets: int
    last_duration: int
    """Ticks that the last packet lasts; 0 where the container does not say."""
    broke: str | None
    """FFmpeg's message if reading the packets ended in an error."""


def scan_packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Scan:
    """Read every packet of a stream once.

    An index is made only if the packets leave no doubt: a codec and a container that guarantee one
    shown frame per packet, every time present and unique, the first packet a key, and nothing shown
    before it.
    """
    import av.error

    codec = stream.codec_context.name
    family = container.format.name.split(",")[0]
    sure = codec in _ONE_FRAME_CODECS and family in _ONE_FRAME_CONTAINERS
    is_entry = _entry_test(codec, stream.codec_context.extradata)
    reorders = bool(stream.codec_context.has_b_frames)
    pts: list[int] = []
    keys: list[tuple[int, int]] = []
    count = 0
    last = (-(1 << 62), 0)
    broke = None
    try:
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is None:  # the end
                continue
            count += 1
            if packet.pts is None or packet.is_corrupt:
                sure = False
                continue
            entry = packet.is_keyframe and sure and is_entry(packet)
            if count == 1 and not entry:
                sure = False
            if entry:
                keys.append((packet.pts, packet.dts if packet.dts is not None else packet.pts))
            if packet.is_discard:
                continue  # decoded only because others refer to it, never shown
            pts.append(packet.pts)
            if not reorders and packet.pts <= last[0]:
                sure = False  # repeated or swapped times: the frames come in another order
            if packet.pts > last[0]:
                last = (packet.pts, int(packet.duration or 0))
    except av.error.FFmpegError as error:
        broke = getattr(error, "strerror", None) or str(error)
        sure = False
    return Scan(_index(pts, keys) if sure else None, count, last[1], broke)


def samples_behind_end(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> int:
    """How many samples of an mp4's table lie, wholly or in part, past the end of the file.

    Only that table can be trusted here: the counts in other headers are often wrong.
    """
    if container.format.name.split(",")[0] != "mov" or not container.size:
        return 0
    return sum(entry.pos + entry.size > container.size for entry in stream.index_entries)


def _index(pts: list[int], keys: list[tuple[int, int]]) -> PacketIndex | None:
    shown = np.array(sorted(pts), dtype=np.int64)
    if shown.size == 0 or not keys or bool((np.diff(shown) == 0).any()):
        return None
    keys.sort()
    entries = np.array(keys, dtype=np.int64)
    if entries[0, 0] > shown[0]:
        return None  # frames shown before the first key: the decoder may or may not give them
    # A key that is itself not shown serves the first shown frame after it.
    positions = np.searchsorted(shown, entries[:, 0])
    # of several keys for one position, the last is enough
    last_of = np.append(np.diff(positions) > 0, True) & (positions < shown.size)
    positions, entries = positions[last_of], entries[last_of]
    if positions.size == 0 or positions[0] != 0:
        return None
    return PacketIndex(shown, positions, entries[:, 0].copy(), entries[:, 1].copy())


def _entry_test(codec: str, extradata: bytes | None) -> Callable[[av.packet.Packet[Any]], bool]:
    """A test of whether decoding may begin at a key packet with all later frames exact.

    For H.264 that is an instantaneous refresh (IDR). Other packets flagged as keys, the recovery
    points of open groups and of gradual refresh, decode exactly only after a while.
    """
    if codec != "h264":
        return lambda packet: True  # noqa: ARG005
    length_size = (extradata[4] & 3) + 1 if extradata and extradata[0] == 1 else 0
    if length_size == 0:
        return lambda packet: _ANNEX_B_IDR.search(bytes(packet)) is not None

    def has_idr(packet: av.packet.Packet[Any]) -> bool:
        data = bytes(packet)
        at = 0
        while at + length_size < len(data):
            size = int.from_bytes(data[at : at + length_size], "big")
            if data[at + length_size] & 31 == 5:
                return True
            at += length_size + size
        return False

    return has_idr
