"""One labelled video, or a labelled segment of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelRow:
    """One label.

    Attributes:
        path: the video, as in the feature file.
        label: its class.
        start_seconds: where the labelled stretch starts; None for the video's start.
        end_seconds: where it ends; None for the video's end.
        split: ``train``, ``val``, ``test``; empty where no part is assigned.
        group: what must stay together (one recording, one person); empty where it stands alone.
        line: line of the CSV, 0 where there is none.
    """

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str = ""
    group: str = ""
    line: int = 0

    @property
    def is_stretch(self) -> bool:
        """Only a part of the video is labelled."""
        return self.start_seconds is not None or self.end_seconds is not None


def group_of(row: LabelRow) -> str:
    """What must not be split: segments of one video show the same place and people."""
    return row.group or row.path


def describe_row(row: LabelRow) -> str:
    """The video and the segment, for a message."""
    if not row.is_stretch:
        return row.path
    end = "end" if row.end_seconds is None else f"{row.end_seconds:g}"
    return f"{row.path} [{row.start_seconds or 0:g}, {end}]"
