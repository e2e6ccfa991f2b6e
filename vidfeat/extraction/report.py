"""Progress and report of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from vidfeat.extraction.assembly import AssemblyStats
from vidfeat.store.merge import MergeReport
from vidfeat.store.records import VideoFailure
from vidfeat.system.wording import counted
from vidfeat.video.decode.pool import PoolStats

_TICK_SECONDS = 0.2
_REMARKS_SAID = 5


@dataclass(frozen=True)
class ExtractProgress:
    """State of a run."""

    videos_done: int
    videos_total: int
    """Videos that are to be read."""
    clips_done: int
    """Clips through the network."""
    frames_per_second: float
    clips_per_second: float
    failures: int
    network_waited_share: float
    """Share of the time in which the network had no batch."""
    decoding_blocked_share: float
    """Share of the time in which decoded clips waited for the network."""
    seconds: float
    seconds_left: float | None
    """Estimated from the size of the files; None before anything is known."""
    current: str
    """The video whose clips are arriving."""


class Meter:
    """Counts the events of a run and reports them a few times a second."""

    def __init__(
        self,
        videos_total: int,
        bytes_total: int,
        progress: Callable[[ExtractProgress], None] | None,
    ) -> None:
        self.failures = 0
        self.frames = 0
        self._progress = progress
        self._videos_total = videos_total
        self._bytes_total = bytes_total
        self._videos_done = 0
        self._bytes_done = 0
        self._current = ""
        self._current_clips = (0, 0)
        self._began = time.monotonic()
        self._ticked = 0.0

    def start(self, identity: str, num_frames: int, num_clips: int) -> None:  # noqa: ARG002
        """Note that a video begins, or starts again."""
        self._current = identity
        self._current_clips = (0, num_clips)

    def clip(self, frames: int) -> None:
        """Count a clip, for which this many frames were decoded."""
        self.frames += frames
        done, total = self._current_clips
        self._current_clips = (done + 1, total)

    def finish(self, size_bytes: int) -> None:
        """Note that the video is finished."""
        self._videos_done += 1
        self._bytes_done += size_bytes
        self._current_clips = (0, 0)

    def tick(self, stats: AssemblyStats, *, now: bool = False) -> None:
        """Report the state, if it is time."""
        moment = time.monotonic()
        if self._progress is None or (moment - self._ticked < _TICK_SECONDS and not now):
            return
        self._ticked = moment
        seconds = max(1e-6, moment - self._began)
        # Clips on their way to the network count as not done, or the end would look too near.
        done = self._videos_done + (
            self._current_clips[0] / self._current_clips[1] if self._current_clips[1] else 0.0
        )
        share = done / self._videos_total if self._videos_total else 1.0
        if self._bytes_total:
            share = min(1.0, self._bytes_done / self._bytes_total + (done % 1) / self._videos_total)
        left = seconds * (1 - share) / share if share > 0 and stats.clips_encoded else None
        self._progress(
            ExtractProgress(
                videos_done=self._videos_done,
                videos_total=self._videos_total,
                clips_done=stats.clips_encoded,
                frames_per_second=self.frames / seconds,
                clips_per_second=stats.clips_encoded / seconds,
                failures=self.failures,
                network_waited_share=min(1.0, stats.network_waited_seconds / seconds),
                decoding_blocked_share=min(1.0, stats.blocked_seconds / seconds),
                seconds=seconds,
                seconds_left=left,
                current=self._current,
            )
        )


@dataclass
class ExtractReport:
    """Report of a run."""

    videos_listed: int = 0
    videos_reused: int = 0
    """Videos unchanged since an earlier run, not read again."""
    clips_reused: int = 0
    clips_lost: int = 0
    """Clips, or frames for a frame network, that an earlier run encoded but did not write to
    disk."""
    videos: int = 0
    """Videos in the file now."""
    clips: int = 0
    videos_dropped: int = 0
    """Videos of the file that have disappeared."""
    failures: list[VideoFailure] = field(default_factory=list)
    """Failures of this run, and remembered failures of unchanged files."""
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What is unusual about videos of this run and how they were treated, by path."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seconds_to_first_clip: float = 0.0
    """From the beginning of the work until the first clip had been decoded; 0 on a cluster."""
    seconds_to_last_clip: float = 0.0
    assembly: dict[str, Any] = field(default_factory=dict)
    decoding: PoolStats = field(default_factory=PoolStats)
    engine: dict[str, Any] = field(default_factory=dict)
    frames_decoded: int = 0
    """Frames that were decoded and resized in this run, each once for all clips that share it."""

    @property
    def clips_encoded(self) -> int:
        """Clips that went through the network in this run."""
        return int(self.assembly.get("clips_encoded", 0))

    def remark(self, path: str, remarks: Sequence[str]) -> None:
        """Record what is unusual about a video; the last remark counts."""
        self.remarks.pop(path, None)
        if remarks:
            self.remarks[path] = tuple(remarks)

    def finish(self, merged: MergeReport) -> None:
        """Add the findings of the merge."""
        self.videos, self.clips = merged.videos, merged.clips
        self.videos_dropped = merged.dropped
        self.notes += [
            f"{path}: {', '.join(remarks)}"
            for path, remarks in islice(self.remarks.items(), _REMARKS_SAID)
        ]
        if len(self.remarks) > _REMARKS_SAID:
            self.notes.append(
                f"{counted(len(self.remarks) - _REMARKS_SAID, 'more video is', 'more videos are')} "
                "unusual in the same ways: vidfeat info FILE describes each"
            )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, for ``--stats``."""
        seconds = max(self.seconds, 1e-9)
        return {
            "videos_listed": self.videos_listed,
            "videos_reused": self.videos_reused,
            "videos_in_file": self.videos,
            "videos_dropped": self.videos_dropped,
            "clips_in_file": self.clips,
            "clips_reused": self.clips_reused,
            "clips_encoded": self.clips_encoded,
            "clips_lost_to_kills": self.clips_lost,
            "frames_decoded": self.frames_decoded,
            "clips_per_second": self.clips_encoded / seconds,
            "seconds": self.seconds,
            "seconds_to_first_clip": self.seconds_to_first_clip,
            "seconds_to_last_clip": self.seconds_to_last_clip,
            "assembly": self.assembly,
            "decoding": asdict(self.decoding),
            "engine": self.engine,
            "failures": [
                {"path": f.path, "kind": f.kind, "message": f.message, "tries": f.tries}
                for f in self.failures
            ],
            "notes": self.notes,
            "remarks": {path: list(remarks) for path, remarks in self.remarks.items()},
        }
