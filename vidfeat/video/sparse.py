"""The packets of an MP4 behind a URL, without fetching what is in most of them.

An MP4 says in its table where each sample lies. What ``scan_packets`` looks at is times and flags,
which stand in the table too, and of H.264 the contents of the key packets. Everything else is left
out: the demuxer reads zeros there, in a container of its own that is closed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfeat.video.containers import open_whole
from vidfeat.video.packets import Scan, scan_packets
from vidfeat.video.remote import RemoteFile

if TYPE_CHECKING:
    import av.container
    import av.video.stream

_MOSTLY = 0.8  # of a file are samples; less is known of a fragmented one


def scan_sparsely(
    remote: RemoteFile,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
) -> Scan | None:
    """As :func:`vidfeat.video.packets.scan_packets`, of a URL.

    Args:
        remote: the URL.
        container: opened from it; nothing is read through it.
        stream: the one that matters.

    Returns:
        None where there is no table, or one of a part only (a fragmented file): all must be read.
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
    """Where the bytes lie that do not matter, ascending, and how many all samples have."""
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
    """The same bytes in ascending ranges that do not touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif end > start:
            found.append((start, end))
    return found


def _without(ranges: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges less the bytes of others; all are ascending and do not touch."""
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
