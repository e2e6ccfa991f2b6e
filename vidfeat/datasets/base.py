"""The form that all datasets share, and matching published lists with the existing files.

A dataset is published as a *listing*: class names, and an entry per video under the name that its
authors gave it. The files on a disk differ: some are missing, some were converted, some are in
another folder. :func:`match_listing` matches the two and counts what is left over on either side;
it takes the paths of a folder as well as those of a feature file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath

from vidfeat.datasets.part_names import DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.identities import identity_to_path, normal_form, path_to_identity
from vidfeat.system.wording import counted
from vidfeat.video.file_listing import VIDEO_SUFFIXES
from vidfeat.video.frame_names import frames_in


@dataclass(frozen=True)
class Listed:
    """A video as its dataset lists it."""

    name: str
    """The name in the published list, for messages."""
    keys: tuple[str, ...]
    """Ends of a path without suffix, best first: ``Class/v_Class_g01_c01``, then only the stem."""
    labels: tuple[int, ...]
    """Class indexes; more than one only if the dataset has several labels per video."""
    part: DatasetPart
    group: str = ""
    """What must stay together in a split: the recording that a clip was cut from."""
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class PublishedLists:
    """A dataset as published, whichever of its videos exist."""

    dataset: str
    classes: tuple[str, ...]
    entries: tuple[Listed, ...]
    ignore_case: bool = False
    """Whether names differ in case between list and files (UCF101's HandstandPushups)."""

    def part(self, part: DatasetPart) -> tuple[Listed, ...]:
        """The entries of one part."""
        return tuple(entry for entry in self.entries if entry.part == part)


@dataclass(frozen=True)
class Sample:
    """A video, or a segment of one, with its label or labels."""

    path: str
    """Its identity: the path relative to the dataset's root, as in a feature file."""
    labels: tuple[int, ...]
    part: DatasetPart = "train"
    group: str = ""
    start_seconds: float | None = None
    """Start of the labelled segment; None: the start of the video."""
    end_seconds: float | None = None

    @property
    def identity(self) -> str:
        """The video, or the segment of it, under one name: ``a.mp4``, ``a.mp4#t=1.5,3``."""
        if self.start_seconds is None and self.end_seconds is None:
            return self.path
        end = "" if self.end_seconds is None else f"{self.end_seconds:g}"
        return f"{self.path}#t={self.start_seconds or 0:g},{end}"


@dataclass(frozen=True)
class VideoDataset:
    """Labelled videos that exist, and an account of those that do not."""

    name: str
    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    missing: tuple[str, ...] = ()
    """Listed videos without a file."""
    unlisted: tuple[str, ...] = ()
    """Files that no list names."""
    notes: tuple[str, ...] = field(default=())
    """Notes for the log: lists used, a part that was held out, and the like."""
    frames_fps: Fraction | None = None
    """Rate of its folders of frames; None where its videos are files."""

    def __len__(self) -> int:
        return len(self.samples)

    def file(self, path: str) -> Path:
        """The file that a sample's path names."""
        return self.root / identity_to_path(path)

    def part(self, part: DatasetPart) -> VideoDataset:
        """The same dataset with the samples of one part.

        Raises:
            DataError: there is none in it.
        """
        chosen = tuple(sample for sample in self.samples if sample.part == part)
        if not chosen:
            there = Counter(sample.part for sample in self.samples)
            known = ", ".join(f"{name} ({count})" for name, count in sorted(there.items()))
            raise DataError(
                f"{self.name} under {self.root} has no videos in its part {part!r}: it has {known}"
            )
        return replace(self, samples=chosen)

    @property
    def evaluation_part(self) -> DatasetPart:
        """The part that accuracy is reported on: ``val`` if there is one, or else ``test``."""
        parts = {sample.part for sample in self.samples}
        return "val" if "val" in parts else "test"

    def without(self, broken: Iterable[str]) -> VideoDataset:
        """The same dataset without some paths, or identities of single segments."""
        gone = set(broken)
        kept = tuple(s for s in self.samples if gone.isdisjoint((s.path, s.identity)))
        return replace(self, samples=kept)

    def summary(self) -> str:
        """One line: videos per part, classes, missing and unlisted files."""
        there = Counter(sample.part for sample in self.samples)
        parts = ", ".join(f"{name} {count:,}" for name, count in sorted(there.items()))
        text = (
            f"{self.name}: {counted(len(self.classes), 'class', 'classes')}, "
            f"{counted(len(self.samples), 'video')} ({parts})"
        )
        if self.missing:
            text += f", {len(self.missing):,} listed but missing (the first: {self.missing[0]})"
        if self.unlisted:
            text += f", {counted(len(self.unlisted), 'file')} not listed"
        return "; ".join((text, *self.notes))


def find_videos(root: Path, *, frames: bool = False) -> list[str]:
    """The identities (relative paths) of all video files under a folder, sorted.

    Files are recognised by their suffix; hidden files and folders are skipped. With ``frames``,
    folders of frames are videos too.

    Raises:
        DataError: the folder does not exist, or one below it cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds the dataset's videos")
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}: its videos would be left out")

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        base = Path(folder).relative_to(root)
        if frames and frames_in(folder):
            found.append(path_to_identity(str(base)))
            folders[:] = []
            continue
        found += [
            path_to_identity(str(base / name))
            for name in files
            if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")  # noqa: PTH122
        ]
    return sorted(found)


def path_keys(path: str) -> tuple[str, str]:
    """The two ends of a path that a list may name: ``folder/stem`` and ``stem``."""
    pure = PurePosixPath(path)
    return f"{pure.parent.name}/{pure.stem}", pure.stem


def match_listing(
    listing: PublishedLists, paths: Sequence[str], root: Path = Path()
) -> VideoDataset:
    """Find the file of each listed video among some paths.

    A name is looked up exactly and then, if the listing allows it, ignoring case; the suffix never
    counts, so that converted videos still match.

    Raises:
        DataError: no listed video is among the paths.
    """
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for path in sorted(paths, reverse=True):  # of two paths with the same end, the first counts
        for key in path_keys(normal_form(path)):
            exact[key] = path
            folded[key.casefold()] = path
    samples: list[Sample] = []
    missing: list[str] = []
    for entry in listing.entries:
        path_ = _look_up(entry.keys, exact, folded if listing.ignore_case else {})
        if path_ is None:
            missing.append(entry.name)
            continue
        samples.append(
            Sample(
                path_,
                entry.labels,
                entry.part,
                entry.group,
                entry.start_seconds,
                entry.end_seconds,
            )
        )
    if not samples and listing.entries:
        first = listing.entries[0].name
        there = f"{counted(len(paths), 'video')} such as {paths[0]}" if paths else "no videos"
        raise DataError(
            f"none of the {len(listing.entries):,} videos that {listing.dataset} lists "
            f"(such as {first}) was found: {root} has {there}"
        )
    used = {sample.path for sample in samples}
    unlisted = tuple(path for path in paths if path not in used)
    return VideoDataset(
        listing.dataset, root, listing.classes, tuple(samples), tuple(missing), unlisted
    )


def _look_up(keys: Sequence[str], exact: dict[str, str], folded: dict[str, str]) -> str | None:
    keys = [normal_form(key) for key in keys]
    for key in keys:
        if key in exact:
            return exact[key]
    for key in keys:
        if key.casefold() in folded:
            return folded[key.casefold()]
    return None


def describe_folder(folder: Path, limit: int = 4) -> str:
    """What a folder holds, for a message about what was found instead.

    Example: ``3 folders (a, b, c) and 12 files (1.avi, 2.avi, 3.avi, 4.avi, ...)``.
    """
    if not folder.is_dir():
        return "no such folder" if not folder.exists() else "a file"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [name for name in names if (folder / name).is_dir()]
    files = [name for name in names if name not in set(folders)]
    texts = []
    for kind, members in (("folder", folders), ("file", files)):
        if members:
            shown = ", ".join(members[:limit]) + (", ..." if len(members) > limit else "")
            texts.append(f"{len(members)} {kind}{'s'[: len(members) != 1]} ({shown})")
    return " and ".join(texts) or "an empty folder"


def wrong_layout(dataset: str, folder: Path, expected: str) -> DataError:
    """The error for a folder that is not laid out as the dataset is."""
    return DataError(
        f"{folder} is not laid out as {dataset}: expected {expected}; "
        f"found {describe_folder(folder)}"
    )


def lists_folder(
    dataset: str, root: Path, lists: Path | None, probe: str, expected: str, usual: Sequence[str]
) -> Path:
    """The folder of a dataset's split files: the one given, or the usual place.

    Args:
        dataset: its name, for the message.
        root: the folder of its videos.
        lists: the folder given by the user, None to look under the root.
        probe: a glob that matches only in the right folder.
        expected: what was expected, for the message.
        usual: names of folders below or next to the root that the lists are unpacked to.

    Raises:
        DataError: no such folder.
    """
    if lists is not None:
        for folder in (lists, *(lists / name for name in usual)):
            if folder.is_dir() and any(folder.glob(probe)):
                return folder
        raise wrong_layout(f"{dataset}'s split files", lists, expected)
    candidates = [root, *(root / name for name in usual), *(root.parent / name for name in usual)]
    for folder in candidates:
        if folder.is_dir() and any(folder.glob(probe)):
            return folder
    looked = ", ".join(str(folder) for folder in candidates[: len(usual) + 1])
    raise DataError(
        f"{dataset} needs its split files ({expected}): give their folder (lists); "
        f"looked in {looked}; {root} has {describe_folder(root)}",
        field="lists",
    )
