"""One labelled video, or a labelled segment of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidfeat.datasets.part_names import part_of
from vidfeat.errors import DataError
from vidfeat.system.identities import normal_form
from vidfeat.system.wording import counted


@dataclass(frozen=True)
class LabelRow:
    """One label.

    Attributes:
        path: the video, as in the feature file.
        label: its class.
        start_seconds: where the labelled segment starts; None for the video's start.
        end_seconds: where it ends; None for the video's end.
        split: ``train``, ``val``, ``test``; empty if no part is assigned.
        group: what must stay together (one recording, one person); empty for none.
        line: line of the CSV, 0 where there is none.
        labels: all its classes, if a table gives several; ``label`` then holds them joined by
            ``|``. Empty if the row has one.
    """

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str = ""
    group: str = ""
    line: int = 0
    labels: tuple[str, ...] = ()

    @property
    def is_segment(self) -> bool:
        """Whether only a part of the video is labelled."""
        return self.start_seconds is not None or self.end_seconds is not None


def group_of(row: LabelRow) -> str:
    """What stays together in a split: segments of one video show the same place and people."""
    return row.group or row.path


def describe_row(row: LabelRow) -> str:
    """The video and the segment, for a message."""
    if not row.is_segment:
        return row.path
    end = "end" if row.end_seconds is None else f"{row.end_seconds:g}"
    return f"{row.path} [{row.start_seconds or 0:g}, {end}]"


def refuse_twin_names(
    counts: Mapping[str, int],
    source: str,
    what: str,
    remedy: str,
    *,
    field: str | tuple[str, ...] = (),
) -> None:
    """Refuse classes whose names differ only in case.

    Args:
        counts: how many rows, or videos, each class has.
        source: where they came from, for the message.
        what: row or video, for the message.
        remedy: what to do about it, for the message.
        field: the argument that the remedy names.

    Raises:
        DataError: there are two such names.
    """
    spelling: dict[str, str] = {}
    for name, count in sorted(counts.items()):
        other = spelling.setdefault(normal_form(name).casefold(), name)
        if other != name:
            raise DataError(
                f"{source}: the classes {other!r} ({counted(counts[other], what)}) and {name!r} "
                f"({counted(count, what)}) differ only in case: {remedy}",
                field=field,
            )


def without_doubles(rows: Sequence[LabelRow], source: str) -> tuple[LabelRow, ...]:
    """Drop repeated rows; refuse two labels, or two parts, for the same thing.

    Args:
        rows: labels, their paths as they are compared.
        source: where they came from, for the message.

    Raises:
        DataError: rows contradict each other; the message names the video and the lines.
    """
    seen: dict[tuple[str, float, float | None], LabelRow] = {}
    torn: dict[tuple[str, float, float | None], LabelRow] = {}
    kept: list[LabelRow] = []
    for row in rows:
        key = (normal_form(row.path), row.start_seconds or 0.0, row.end_seconds)
        other = seen.setdefault(key, row)
        if other is row:
            kept.append(row)
        elif other.label != row.label:
            raise DataError(
                f"{source}: {describe_row(row)} is {other.label!r}{_in_line(other)} and "
                f"{row.label!r}{_in_line(row)}: keep one"
            )
        elif (part_of(other.split) or "") != (part_of(row.split) or ""):
            torn.setdefault(key, row)
    if torn:
        shown = "; ".join(
            f"{describe_row(row)} is {_split(seen[key])}{_in_line(seen[key])} and "
            f"{_split(row)}{_in_line(row)}"
            for key, row in list(torn.items())[:3]
        )
        more = f"; and {len(torn) - 3} more" if len(torn) > 3 else ""
        raise DataError(
            f"{source}: {counted(len(torn), 'row puts', 'rows put')} a video into a second part: "
            f"{shown}{more}: keep one row for each, since a network is not tested on what it was "
            "trained on"
        )
    return tuple(kept)


def shared_videos(rows: Sequence[LabelRow]) -> list[str]:
    """A note on videos with labelled segments in several parts, if there are any."""
    parts: dict[str, dict[str, LabelRow]] = {}
    for row in rows:
        part = part_of(row.split)
        if part is not None:
            parts.setdefault(normal_form(row.path), {}).setdefault(part, row)
    shared = {path: found for path, found in parts.items() if len(found) > 1}
    if not shared:
        return []
    path, found = next(iter(shared.items()))
    where = ", ".join(f"{part}{_in_line(row)}" for part, row in found.items())
    return [
        f"{counted(len(shared), 'video has', 'videos have')} segments in more than one part "
        f"({path}: {where}): the accuracy is inflated where they look alike"
    ]


def _split(row: LabelRow) -> str:
    return f"in {row.split}" if row.split else "in no part"


def _in_line(row: LabelRow) -> str:
    return f" in line {row.line}" if row.line else ""
