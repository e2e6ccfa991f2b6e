"""Scanning the packets of a remote MP4 without fetching most of their contents.

The table of an MP4 gives the position of each sample. ``scan_packets`` needs times and flags, which
the table contains as well, and for H.264 the contents of the key packets. The other samples are not
fetched: the demuxer reads zeros for them, in a separate container that is closed afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfeat.video.containers import open_whole
from vidfeat.video.packets import Scan, scan_packets
from vidfeat.video.remote import RemoteFile

if TYPE_CHECKING:
    import av.container
    import av.video.stream

_MOSTLY = 0.8  # share of a file that its samples fill; the table of a fragmented file lists few


def scan_sparsely(
    remote: RemoteFile,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
) -> Scan | None:
    """Like :func:`vidfeat.video.packets.scan_packets`, for a URL.

    Args:
        remote: the URL.
        container: opened from it; its position does not change.
        stream: the video stream.

    Returns:
        The scan; None without a complete table (other containers, fragmented MP4), where all
        packets must be read.
    """
    if container.format.name.split(",")[0] != "mov":
        return None
    cursor = remote.cursor()
    with open_whole(remote.shown, remote, cursor) as own:
        same = own.streams.video[own.streams.video.index(own.streams[stream.index])]
        listed = len(same.index_entries)
        left_out, samples_bytes = _left_out(own, same)
        if samples_bytes < _MOSTLY * remote.size_bytes:
            return None
        cursor.leave_out(left_out)
        scan = scan_packets(own, same)
        return scan if scan.packets == listed == len(same.index_entries) else None


def _left_out(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[list[tuple[int, int]], int]:
    """Ascending byte ranges that are not needed, and the total bytes of all samples."""
    contents_matter = stream.codec_context.name == "h264"
    wanted: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for one in container.streams:
        mine = one.index == stream.index
        for place, entry in enumerate(one.index_entries):
            needed = mine and (place == 0 or (contents_matter and entry.is_keyframe))
            (wanted if needed else others).append((entry.pos, entry.pos + entry.size))
    kept = _joined(wanted)
    left_out = _without(_joined(others), kept)
    return left_out, sum(end - start for start, end in (*kept, *left_out))


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge byte ranges into ascending disjoint ones."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif end > start:
            found.append((start, end))
    return found


def _without(ranges: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Subtract ranges from ranges; all are ascending and disjoint."""
    found: list[tuple[int, int]] = []
    place = 0
    for start, end in ranges:
        while place and others[place - 1][1] > start:
            place -= 1
        while place < len(others) and others[place][1] <= start:
            place += 1
        at = place
        while at < len(others) and others[at][0] < end:
            if start < others[at][0]:
                found.append((start, others[at][0]))
            start = max(start, others[at][1])
            at += 1
        if start < end:
            found.append((start, end))
    return found
