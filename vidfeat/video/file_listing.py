"""Finding videos in folders and among the files given."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from vidfeat.errors import UsageError
from vidfeat.system.identities import existing_spelling, path_to_identity
from vidfeat.system.urls import without_secrets
from vidfeat.video.frame_names import FRAME_SUFFIXES, frames_in, is_folder

# Suffixes that a folder is searched for; a file given by name is taken whatever its suffix.
_SUFFIXES = (
    "264 265 3g2 3gp apng asf av1 avc avi avif divx dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v "
    "m4v mjpeg mjpg mkv mov mp4 mpeg mpg mpv mts mxf nut obu ogm ogv qt rm rmvb ts vob webm wmv "
    "wtv y4m"
)
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())


def find_files(
    inputs: Sequence[str],
    listed: Sequence[str],
    root: str | None,
    skipped: Counter[str],
    *,
    frames: bool,
) -> tuple[str, dict[str, str]]:
    """The root, and the paths of all videos by identity: see ``listing.py``."""
    given = [existing_spelling(os.path.abspath(path)) for path in inputs]  # noqa: PTH100
    for path in given:
        if not os.path.lexists(path):
            raise UsageError(f"{shown(path)}: no such file or folder")
    given += [os.path.abspath(path) for path in listed]  # noqa: PTH100 (as given)
    base = root_folder(given, root, frames=frames)
    found = {
        _identity(path, base): path
        for start in given
        for path in _search(start, skipped, frames=frames)
    }
    return base, found


def named_as_video(name: str) -> bool:
    """Whether a search takes a file of this name."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def root_folder(
    given: Sequence[str], root: str | os.PathLike[str] | None, *, frames: bool = False
) -> str:
    """The folder that identities are relative to: ``root``, or the common folder of all inputs."""
    if root is not None:
        base = existing_spelling(os.path.abspath(os.fspath(root)))  # noqa: PTH100
        if not os.path.isdir(base):  # noqa: PTH112
            raise UsageError(f"root={shown(base)}: no such folder")
        return base
    parents = [
        path if os.path.isdir(path) and not (frames and frames_in(path)) else os.path.dirname(path)  # noqa: PTH112, PTH120
        for path in given
    ]
    return os.path.commonpath(parents)


def _identity(path: str, base: str) -> str:
    relative = os.path.relpath(path, base)
    if relative == os.pardir or relative.startswith(os.pardir + os.sep):
        raise UsageError(f"{shown(path)} lies outside root={shown(base)}")
    return path_to_identity(relative)


def _search(start: str, skipped: Counter[str], *, frames: bool = False) -> Iterator[str]:
    """The file itself, or all files below a folder that are named as videos.

    Other files are counted by their suffix. With ``frames``, a folder of frames is one video.
    """
    if not os.path.isdir(start) or (frames and frames_in(start)):  # noqa: PTH112
        yield start
        return
    seen = {os.path.realpath(start)}
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        if frames and frames_in(folder):
            yield folder
            continue
        anything = False
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == start:
                raise UsageError(f"{shown(folder)}: {error.strerror}") from None
            yield folder  # reported separately: a folder that cannot be read
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            anything = True
            if is_folder(entry):
                real = os.path.realpath(entry.path)
                if real not in seen:  # links may lead back
                    seen.add(real)
                    waiting.append(entry.path)
            elif named_as_video(entry.name):
                yield entry.path
            else:
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                mixed = " next to files that are not frames" if frames else ""
                mixed = mixed if suffix in FRAME_SUFFIXES else ""
                skipped[f"{suffix}{mixed}" if suffix else "without a suffix"] += 1
        suffix = os.path.splitext(folder)[1].lower()  # noqa: PTH122
        if not anything and folder != start and suffix in VIDEO_SUFFIXES:
            yield folder  # an empty folder named as a video: reported, not skipped


def shown(path: str) -> str:
    """A path or URL in a message."""
    return without_secrets(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
