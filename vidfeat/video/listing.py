"""The videos of a run: from folders, files, lists, segments and shards.

A video's identity is its path relative to the root (see ``identities.py``). A run processes videos
in the order of their identities, whatever order the system lists a folder in.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidfeat.errors import UsageError
from vidfeat.system.identities import Names, existing_spelling, identity_to_path
from vidfeat.system.text_tables import read_table, without_mark
from vidfeat.system.urls import is_url, local_file, stored_root, url_below
from vidfeat.system.wording import counted
from vidfeat.system.written_names import written_identity
from vidfeat.video.clip_plan import VideoSegment
from vidfeat.video.file_listing import find_files, named_as_video, root_folder, shown
from vidfeat.video.frame_names import FRAME_SUFFIXES
from vidfeat.video.remote_listing import RemoteVideo, are_urls, find_remote, remote_root

_FRAMES_HINT = "; frames_fps=RATE reads folders of frames"


@dataclass(frozen=True)
class ListedVideo:
    """A video of a run."""

    identity: str
    path: str
    """For the operating system, absolute; bytes outside UTF-8 as surrogates. Or a URL with its
    secrets: not to be shown or stored."""
    size_bytes: int
    """-1 if the file cannot be examined."""
    mtime_ns: int
    """For a URL, the stamp of its ETag."""
    segments: tuple[VideoSegment, ...] = ()

    @property
    def remote_state(self) -> tuple[int, int] | None:
        """Size and stamp that a URL must still have when it is opened; None for files."""
        if self.size_bytes < 0 or not is_url(self.path):
            return None
        return self.size_bytes, self.mtime_ns


@dataclass(frozen=True)
class Listing:
    """The videos of a run, in order."""

    root: str
    """Absolute; bytes outside UTF-8 as surrogates. Or a URL, without secrets."""
    videos: tuple[ListedVideo, ...]
    notes: tuple[str, ...] = ()
    """What a user should know about the input, one sentence each."""
    laid_by: str = ""
    """The rule that found the videos' segments, if one did: part of a run's identity."""

    @property
    def digest(self) -> str:
        """Hash of the videos' names and sizes: the same wherever they are stored."""
        hashed = hashlib.sha256()
        for video in self.videos:
            hashed.update(f"{video.identity}\t{video.size_bytes}\n".encode())
        return hashed.hexdigest()[:32]

    def shard(self, number: int, count: int) -> Listing:
        """The videos of one shard: every ``count``-th, so that shards are of similar size."""
        return replace(self, videos=self.videos[number - 1 :: count])


def parse_shard(text: str) -> tuple[int, int]:
    """Parse ``K/N`` into the shard's number, from 1, and the number of shards.

    Raises:
        UsageError: anything else.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(
            f"shard must be K/N with K from 1 to N, such as 2/8, not {text!r}", field="shard"
        )
    return int(number), int(count)


def list_videos(
    inputs: Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None = None,
    segments: str | os.PathLike[str] | None = None,
    *,
    listed: Sequence[str] = (),
    frames: bool = False,
) -> Listing:
    """Find the videos of a run.

    Args:
        inputs: folders, searched recursively (names that begin with a dot are skipped), and files;
            or URLs of these. Without any, the paths of ``segments`` below ``root``.
        root: what identities are relative to; None is the one folder given, or the common parent.
        segments: a CSV with the columns path, start_seconds, end_seconds: of the videos found, only
            those that it names are used, and only these segments of them. An invalid row is
            skipped with a note.
        listed: more paths, from a list: a missing one fails like a video that cannot be read, while
            a missing input ends the run.
        frames: whether folders of frames count as videos too.

    Raises:
        UsageError: an input that does not exist, or is outside the root; no video at all; files
            and URLs together.
    """
    given = [local_file(os.fspath(path)) for path in inputs]
    listed = [local_file(path) for path in listed]
    above = None if root is None else local_file(os.fspath(root))
    remote = are_urls([*given, *listed, *([] if above is None else [above])])
    notes: list[str] = []
    wanted: dict[str, list[VideoSegment]] | None = None
    if not given and not listed:
        if segments is None or above is None:
            raise UsageError("no videos were given: name folders or files, or a list of them")
        base = remote_root((), above) if remote else root_folder((), above)
        wanted = read_segments(segments, stored_root(base), notes)
        listed = [_below(base, name) for name in wanted]
    skipped: Counter[str] = Counter()
    found: Mapping[str, str | RemoteVideo]
    if remote:
        if frames:
            raise UsageError("folders of frames cannot be read from URLs", field="frames_fps")
        base, found = find_remote(given, listed, above, named_as_video, skipped, notes)
    else:
        base, found = find_files(given, listed, above, skipped, frames=frames)
    if segments is not None and wanted is None:
        wanted = read_segments(segments, stored_root(base), notes)
    if skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(4))
        more = ", ..." if len(skipped) > 4 else ""
        notes.append(
            counted(
                skipped.total(),
                "file is not named as a video and was",
                "files are not named as videos and were",
            )
            + f" skipped: {kinds}{more}"
        )
    if wanted is not None:
        names = Names(found)
        by_name: dict[str, list[VideoSegment]] = {}
        for name, own in wanted.items():
            by_name.setdefault(names.find(name) or name, []).extend(own)
        wanted = by_name
        missing = [name for name in wanted if name not in found]
        if missing:
            notes.append(
                counted(
                    len(missing),
                    "path of the segments is not a video of this run",
                    "paths of the segments are not videos of this run",
                )
                + f", such as {missing[0]!r}"
            )
        without = len(found) - len(found.keys() & wanted.keys())
        if without:
            told = counted(
                without, "video has no segments and is", "videos have no segments and are"
            )
            notes.append(f"{told} left out")
        found = {name: place for name, place in found.items() if name in wanted}
        if missing and not found:
            raise UsageError(
                f"segments: none of its paths is a video of this run: it names {missing[0]!r}, "
                f"and paths are relative to {shown(base)}",
                field="segments",
            )
    if not found:
        where = ", ".join(shown(path) for path in [*given, *listed][:3])
        raise UsageError(
            f"no video found in {where}: a folder is searched for names ending in "
            ".mp4, .avi, .mkv, .mov, .webm and the like; name other files explicitly"
            + "".join(f"; {note}" for note in notes)
            + (_FRAMES_HINT if FRAME_SUFFIXES & skipped.keys() else "")
        )
    videos = [
        _listed(name, found[name], tuple((wanted or {}).get(name, ()))) for name in sorted(found)
    ]
    return Listing(base, tuple(videos), tuple(notes))


def _below(base: str, identity: str) -> str:
    """The path or URL of a video below a root."""
    if is_url(base):
        return url_below(base, identity)
    return existing_spelling(os.path.join(base, identity_to_path(identity)))  # noqa: PTH118


def read_list(source: str, separator: bytes = b"\n") -> list[str]:
    """Paths from a list, one per line or separated by NUL bytes; ``-`` is standard input.

    A path that does not exist as written is tried without the spaces, quotes or ``;`` around it,
    and with its accents in the other Unicode form.

    Raises:
        UsageError: the list cannot be read, or is empty.
    """
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"list {source}: {error.strerror}", field="list") from None
    data = without_mark(data, f"list {source}", UsageError, zeros=separator == b"\0")
    if separator == b"\n":
        data = data.replace(b"\r\n", b"\n")
        if b"\n" not in data:
            data = data.replace(b"\r", b"\n")  # as spreadsheets on old Macs end their lines
    names = [(line, name) for line, name in enumerate(data.split(separator), 1) if name.strip()]
    paths = [_as_it_exists(os.fsdecode(name)) for _, name in names]
    _check_encoding(source, names, paths)
    if not paths:
        raise UsageError(f"list {source} is empty: it should have one video per line", field="list")
    return paths


def _check_encoding(source: str, names: list[tuple[int, bytes]], paths: list[str]) -> None:
    """Refuse a list in another encoding; file names that are not UTF-8 are allowed.

    Raises:
        UsageError: lines are not UTF-8, and not one of them names a file.
    """
    odd = []
    for (line, name), path in zip(names, paths, strict=True):
        try:
            name.decode("utf-8")
        except UnicodeDecodeError:
            if os.path.lexists(path):
                return
            odd.append(line)
    if odd:
        raise UsageError(
            f"list {source}, line {odd[0]}: not UTF-8 text, and no file has these bytes as its "
            "name: save the list as UTF-8",
            field="list",
        )


def _as_it_exists(path: str) -> str:
    if "\0" in path:
        return path
    bare = path.strip().rstrip(";").strip()
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'"
    unquoted = bare[1:-1] if quoted else bare
    if is_url(unquoted):
        return unquoted
    for spelling in (path, bare, unquoted):
        existing = existing_spelling(spelling)
        if os.path.lexists(existing):
            return existing
    return path


SEGMENT_COLUMNS = ("path", "start_seconds", "end_seconds")


def read_segments(
    source: str | os.PathLike[str], root: str = "", notes: list[str] | None = None
) -> dict[str, list[VideoSegment]]:
    """Read segments of videos from a table, by identity.

    Args:
        source: the table; its paths are written as in a table of labels.
        root: root of the videos, as an identity: absolute paths below it are accepted too.
        notes: gets a line for each invalid row; such a row is left out.

    Raises:
        UsageError: no such file, not UTF-8, a column is missing, or no row is valid.
    """
    table = read_table(source, UsageError)
    if not set(SEGMENT_COLUMNS) <= set(table.columns):
        raise UsageError(
            f"segments {os.fspath(source)}: expected the columns {','.join(SEGMENT_COLUMNS)} in "
            f"the first line, found {','.join(table.columns) or 'nothing'}",
            field="segments",
        )
    segments: dict[str, list[VideoSegment]] = {}
    bad: list[str] = []
    lines: dict[tuple[str, VideoSegment], int] = {}
    for row in table.rows:
        try:
            if not row["path"]:
                raise ValueError("the path is empty")
            segment = VideoSegment(row.seconds("start_seconds") or 0.0, row.seconds("end_seconds"))
        except (ValueError, UsageError) as error:
            bad.append(f"{os.fspath(source)}, line {row.line}: {error}")
            continue
        name = written_identity(row["path"], root)
        before = lines.setdefault((name, segment), row.line)
        if before == row.line:
            segments.setdefault(name, []).append(segment)
        else:
            bad.append(f"{os.fspath(source)}, line {row.line}: the same segment as line {before}")
    if not segments:
        reason = bad[0] if bad else "it has no rows"
        raise UsageError(f"segments {os.fspath(source)}: {reason}", field="segments")
    if notes is not None:
        notes += [f"{line}: this row is left out" for line in bad]
    return segments


def _listed(
    identity: str, place: str | RemoteVideo, segments: tuple[VideoSegment, ...]
) -> ListedVideo:
    if isinstance(place, RemoteVideo):
        return ListedVideo(identity, place.url, *place.state, segments)
    try:
        status = os.stat(place)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a zero byte, which no name can hold
        return ListedVideo(identity, place, -1, -1, segments)
    return ListedVideo(identity, place, status.st_size, status.st_mtime_ns, segments)


def total_bytes(videos: Iterable[ListedVideo]) -> int:
    """Total size of the videos."""
    return sum(max(0, video.size_bytes) for video in videos)
