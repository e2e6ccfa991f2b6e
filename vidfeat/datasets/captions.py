"""Captions of videos: from a table, or from MSR-VTT's own files.

The formats are any CSV with the columns ``path`` and ``caption``, MSR-VTT's
``MSRVTT_JSFUSION_test.csv`` (``video_id`` and ``sentence``: the 1,000 videos of the split 1k-A, one
caption each), and its ``MSRVTT_data.json`` (``videos`` with their ``split``, and ``sentences``: all
captions of the videos in the test split). MSR-VTT names videos without a suffix.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidfeat.datasets.labels import normal_path
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_table, read_text

_VIDEO_COLUMNS = ("path", "video_id", "video")
_TEXT_COLUMNS = ("caption", "sentence", "text")


@dataclass(frozen=True)
class Captions:
    """Captions and their videos.

    Attributes:
        videos: V different videos, named and ordered as in the file.
        texts: (N,) captions.
        video_of: (N,) the number of each caption's video.
        source: a name for messages.
    """

    videos: tuple[str, ...]
    texts: tuple[str, ...]
    video_of: tuple[int, ...]
    source: str


def read_captions(path: str | os.PathLike[str]) -> Captions:
    """Read a CSV or JSON of captions.

    Raises:
        DataError: there is no such file, it has none of these formats, or a value is empty.
    """
    name = os.fspath(path)
    pairs = _from_json(name) if Path(name).suffix.lower() == ".json" else _from_table(name)
    if not pairs:
        raise DataError(f"{name}: no caption in it")
    numbers: dict[str, int] = {}
    for video, _ in pairs:
        numbers.setdefault(video, len(numbers))
    return Captions(
        videos=tuple(numbers),
        texts=tuple(text for _, text in pairs),
        video_of=tuple(numbers[video] for video, _ in pairs),
        source=name,
    )


def _from_table(name: str) -> list[tuple[str, str]]:
    table = read_table(name, purpose="captions are a CSV with the columns path,caption")
    video = next((column for column in _VIDEO_COLUMNS if column in table.columns), None)
    text = next((column for column in _TEXT_COLUMNS if column in table.columns), None)
    if video is None or text is None:
        raise DataError(
            f"{name}: its first line is {','.join(table.columns)[:80] or 'empty'}; expected "
            "path,caption, or MSR-VTT's video_id,sentence"
        )
    pairs = []
    for row in table.rows:
        for column in (video, text):
            if not row[column]:
                raise DataError(f"{name}, line {row.line}: the {column} is empty")
        pairs.append((normal_path(row[video]), row[text]))
    return pairs


def _from_json(name: str) -> list[tuple[str, str]]:
    try:
        values = json.loads(read_text(name))
        split = {str(one["video_id"]): str(one.get("split", "")) for one in values["videos"]}
        pairs = [(str(one["video_id"]), str(one["caption"])) for one in values["sentences"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{name}: expected MSR-VTT's videos (video_id, split) and sentences (video_id, "
            f"caption): {type(error).__name__} {error}"
        ) from None
    if not any(part == "test" for part in split.values()):
        return pairs
    return [(video, text) for video, text in pairs if split.get(video) == "test"]


def match_videos(captions: Captions, paths: Sequence[str]) -> list[str | None]:
    """The path of each video of some captions; None if there is none.

    A video is named by its whole path, or by its file name, with or without the suffix.

    Raises:
        DataError: a name fits several paths.
    """
    whole = set(paths)
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        for key in {PurePosixPath(path).stem, PurePosixPath(path).name}:
            by_stem.setdefault(key, []).append(path)
    found: list[str | None] = []
    for video in captions.videos:
        fitting = [video] if video in whole else by_stem.get(video, [])
        if len(fitting) > 1:
            raise DataError(
                f"{captions.source}: {video!r} may be {fitting[0]} or {fitting[1]}: give whole "
                "paths"
            )
        found.append(fitting[0] if fitting else None)
    return found
