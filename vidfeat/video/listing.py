"""Which videos a run is about: folders searched through, files, lists, stretches, shards.

A video's identity is its path relative to the root (see ``paths.py``); the order of a run is the
order of the identities, whatever order the system lists a folder in.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidfeat.errors import UsageError
from vidfeat.system.identities import identity_to_path, path_to_identity
from vidfeat.video.clip_plan import Stretch

# What a folder is searched for; a file that is named itself is taken whatever its name.
_SUFFIXES = (
    "3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts "
    "mxf nut ogm ogv qt rm rmvb ts vob webm wmv wtv y4m"
)
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())


@dataclass(frozen=True)
class ListedVideo:
    """A video of a run."""

    identity: str
    path: str
    """For the operating system, absolute; bytes outside UTF-8 as surrogates."""
    size_bytes: int
    """-1 where the file cannot be looked at."""
    mtime_ns: int
    stretches: tuple[Stretch, ...] = ()


@dataclass(frozen=True)
class Listing:
    """The videos of a run, in order."""

    root: str
    """Absolute; bytes outside UTF-8 as surrogates."""
    videos: tuple[ListedVideo, ...]
    notes: tuple[str, ...] = ()
    """What a user should know about the input, a sentence each."""

    def shard(self, number: int, count: int) -> Listing:
        """The videos of one shard: every ``count``-th, so that shards are alike in size."""
        return replace(self, videos=self.videos[number - 1 :: count])


def parse_shard(text: str) -> tuple[int, int]:
    """Shard number, from 1, and how many there are, out of ``K/N``.

    Raises:
        UsageError: anything else.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard takes K/N with K from 1 to N, as 2/8, not {text!r}")
    return int(number), int(count)


def list_videos(
    inputs: Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None = None,
    segments: str | os.PathLike[str] | None = None,
) -> Listing:
    """Find the videos of a run.

    Args:
        inputs: folders, searched through with all below them (names that begin with a dot are
            passed over), and files. Without any, the paths of ``segments`` below ``root``.
        root: what identities are relative to; None is the one folder given, or the common parent.
        segments: a CSV with the columns path, start_seconds, end_seconds: of the videos found,
            only those that it names, and of those only these stretches.

    Raises:
        UsageError: an input that is not there, or outside of the root; no video at all.
    """
    stretches = None if segments is None else read_segments(segments)
    given = [os.path.abspath(os.fspath(path)) for path in inputs]  # noqa: PTH100 (as given)
    for path in given:
        if not os.path.lexists(path):
            raise UsageError(f"{_shown(path)}: no such file or folder")
    if not given:
        if stretches is None or root is None:
            raise UsageError("no videos were given: name folders or files, or --list FILE")
        base = os.path.abspath(os.fspath(root))  # noqa: PTH100
        given = [os.path.join(base, identity_to_path(name)) for name in stretches]  # noqa: PTH118
    base = _root(given, root)
    found = {_identity(path, base): path for start in given for path in _search(start)}
    notes: list[str] = []
    if stretches is not None:
        missing = [name for name in stretches if name not in found]
        if missing:
            notes.append(
                f"{len(missing)} paths of the segments are no videos of this run, as {missing[0]!r}"
            )
        without = len(found) - len(found.keys() & stretches.keys())
        if without:
            notes.append(f"{without} videos have no segments and are left out")
        found = {name: path for name, path in found.items() if name in stretches}
    if not found:
        where = ", ".join(_shown(path) for path in given[:3])
        raise UsageError(
            f"no video found in {where}: a folder is searched for names ending in "
            ".mp4, .avi, .mkv, .mov, .webm and the like; other names must be given themselves"
        )
    videos = [
        _listed(name, found[name], tuple((stretches or {}).get(name, ()))) for name in sorted(found)
    ]
    return Listing(base, tuple(videos), tuple(notes))


def read_list(source: str, separator: bytes = b"\n") -> list[str]:
    """Paths out of a list, a path a line or between NUL bytes; ``-`` is standard input.

    Raises:
        UsageError: the list cannot be read, or is empty.
    """
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"--list {source}: {error.strerror}") from None
    names = [
        name.removesuffix(b"\r") if separator == b"\n" else name for name in data.split(separator)
    ]
    paths = [os.fsdecode(name) for name in names if name]
    if not paths:
        raise UsageError(f"the list {source} is empty: it should name a video a line")
    return paths


def read_segments(source: str | os.PathLike[str]) -> dict[str, list[Stretch]]:
    """Stretches of videos, by identity, out of a CSV.

    Raises:
        UsageError: no such file, a column is missing, or a row cannot be meant; the line is named.
    """
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"--segments {os.fspath(source)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--segments {os.fspath(source)}: the file is not UTF-8 text") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    wanted = ("path", "start_seconds", "end_seconds")
    if not set(wanted) <= set(rows.fieldnames or ()):
        raise UsageError(
            f"--segments {os.fspath(source)}: expected the columns {','.join(wanted)} in the first "
            f"line, found {','.join(rows.fieldnames or ()) or 'nothing'}"
        )
    stretches: dict[str, list[Stretch]] = {}
    for row in rows:
        try:
            end = float(row["end_seconds"]) if row["end_seconds"] else None
            stretch = Stretch(float(row["start_seconds"] or 0), end)
        except (ValueError, TypeError, UsageError) as error:
            raise UsageError(
                f"--segments {os.fspath(source)}, line {rows.line_num}: {error}"
            ) from None
        stretches.setdefault(row["path"], []).append(stretch)
    return stretches


def _root(given: Sequence[str], root: str | os.PathLike[str] | None) -> str:
    if root is not None:
        base = os.path.abspath(os.fspath(root))  # noqa: PTH100
        if not os.path.isdir(base):  # noqa: PTH112
            raise UsageError(f"--root {_shown(base)}: no such folder")
        return base
    if len(given) == 1 and os.path.isdir(given[0]):  # noqa: PTH112
        return given[0]
    parents = [path if os.path.isdir(path) else os.path.dirname(path) for path in given]  # noqa: PTH112, PTH120
    return os.path.commonpath(parents)


def _identity(path: str, base: str) -> str:
    relative = os.path.relpath(path, base)
    if relative == os.pardir or relative.startswith(os.pardir + os.sep):
        raise UsageError(f"{_shown(path)} lies outside of --root {_shown(base)}")
    return path_to_identity(relative)


def _search(start: str) -> Iterator[str]:
    """The file itself, or all files below a folder whose names are those of videos."""
    if not os.path.isdir(start):  # noqa: PTH112
        yield start
        return
    seen = {os.path.realpath(start)}
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        anything = False
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == start:
                raise UsageError(f"{_shown(folder)}: {error.strerror}") from None
            yield folder  # becomes a line of its own: a folder that cannot be read
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            anything = True
            named_as_video = os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in seen:  # links may lead back
                    seen.add(real)
                    waiting.append(entry.path)
            elif named_as_video:
                yield entry.path
        suffix = os.path.splitext(folder)[1].lower()  # noqa: PTH122
        if not anything and folder != start and suffix in VIDEO_SUFFIXES:
            yield folder  # an empty folder named as a video: said, not passed over


def _listed(identity: str, path: str, stretches: tuple[Stretch, ...]) -> ListedVideo:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return ListedVideo(identity, path, -1, -1, stretches)
    return ListedVideo(identity, path, status.st_size, status.st_mtime_ns, stretches)


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def total_bytes(videos: Iterable[ListedVideo]) -> int:
    """Size of the videos together."""
    return sum(max(0, video.size_bytes) for video in videos)
