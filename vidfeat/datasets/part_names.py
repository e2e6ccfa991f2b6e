"""Names of a dataset's parts, and folders that are named after them.

One list of names for every reader: the ``split`` column of a CSV, folders that are trained on, and
the paths of a feature file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from vidfeat.errors import DataError
from vidfeat.system.wording import counted

DatasetPart = Literal["train", "val", "test", "unused"]

PARTS: dict[str, DatasetPart] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def part_of(name: str) -> DatasetPart | None:
    """The part that a name stands for, in any case; None for any other name."""
    return PARTS.get(name.strip().casefold())


@dataclass(frozen=True)
class Placed:
    """A video and what its folders mean.

    Attributes:
        path: the video.
        above: folders above the part's, or all of them if the layout has no parts.
        part: the part that a folder names; None if none does.
        below: folders between the part's and the video.
    """

    path: str
    above: tuple[str, ...]
    part: DatasetPart | None = None
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderLayout:
    """What the folders of a dataset mean.

    Attributes:
        videos: all of them, in the order given.
        has_parts: whether folders name parts.
        classes_below: whether the class folders are below those of the parts.
        notes: how they were understood, as sentences.
    """

    videos: tuple[Placed, ...]
    has_parts: bool = False
    classes_below: bool = True
    notes: tuple[str, ...] = ()


def understand_folders(paths: Iterable[str]) -> FolderLayout:
    """Find the folders that name the parts of a dataset, above or below those of its classes.

    ``train/run/a.mp4``, ``run/train/a.mp4`` and ``dataset/train/run/a.mp4`` all say that the video
    belongs to the training part. A lone ``train`` next to folders that name no parts (``train``,
    ``bus``, ``car``) is a class.

    Raises:
        DataError: a folder named after the test or validation part is next to folders that name
            no part, so that it is unclear which videos may be trained on.
    """
    folders = {path: PurePosixPath(path).parts[:-1] for path in paths}
    level = _level_of_parts(list(folders.values()))
    if level is None:
        return FolderLayout(tuple(Placed(path, own) for path, own in folders.items()))
    named = {path: _part_at(own, level) is not None for path, own in folders.items()}
    kinds = {_part_at(own, level) for path, own in folders.items() if named[path]}
    others = [path for path, own in folders.items() if own and not named[path]]
    if others and len(kinds) == 1:
        names = sorted({folders[path][level] for path in folders if named[path]})
        beside = sorted({folders[path][min(level, len(folders[path]) - 1)] for path in others})
        shown = ", ".join(beside[:5])
        if kinds != {"train"}:
            raise DataError(
                f"the folder {names[0]!r} is named after a part of a dataset and is next to "
                f"folders that are not ({shown}): put the others into a folder train, rename it "
                "if it is a class, or give a CSV with a split column"
            )
        note = f"the folder {names[0]!r} next to {shown} is read as a class, not as a part"
        videos = tuple(Placed(path, own) for path, own in folders.items())
        return FolderLayout(videos, notes=(note,))
    videos = tuple(
        Placed(path, own[:level], _part_at(own, level), own[level + 1 :])
        if named[path]
        else Placed(path, own)
        for path, own in folders.items()
    )
    below = _classes_below([video for video in videos if video.part is not None])
    notes = [_describe(folders, named, level, classes_below=below)]
    if others:
        notes.append(
            counted(
                len(others),
                "video is in no part's folder and is",
                "videos are in no part's folder and are",
            )
            + f" left out (the first: {others[0]})"
        )
    return FolderLayout(videos, has_parts=True, classes_below=below, notes=tuple(notes))


def _level_of_parts(folders: Sequence[tuple[str, ...]]) -> int | None:
    """Depth of the folders that name parts: where all videos have one, else where most have."""
    hits = Counter(
        level for own in folders for level, name in enumerate(own) if part_of(name) is not None
    )
    inside = sum(1 for own in folders if own)
    if not hits:
        return None
    complete = [level for level, count in hits.items() if count == inside]
    return min(complete) if complete else max(hits, key=lambda level: (hits[level], -level))


def _part_at(folders: tuple[str, ...], level: int) -> DatasetPart | None:
    return part_of(folders[level]) if len(folders) > level else None


def _classes_below(videos: Sequence[Placed]) -> bool:
    """Whether classes are below the parts; above only if most videos are directly in a part."""
    direct = sum(1 for video in videos if not video.below)
    return not (direct * 2 > len(videos) and any(video.above for video in videos))


def _describe(
    folders: dict[str, tuple[str, ...]], named: dict[str, bool], level: int, *, classes_below: bool
) -> str:
    found: dict[str, str] = {}
    for path, own in folders.items():
        if named[path]:
            found.setdefault(own[level], str(_part_at(own, level)))
    texts = [
        name if name == part else f"{name} ({part})"
        for name, part in sorted(found.items(), key=lambda item: (item[1], item[0]))
    ]
    where = "" if level == 0 else f" at folder level {level + 1}"
    side = "below" if classes_below else "above"
    return f"parts by folders{where}: {', '.join(texts)}; classes are the folders {side} them"
