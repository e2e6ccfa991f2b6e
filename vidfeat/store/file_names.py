"""File names of exported videos: one rule for every layout.

A name is the video's path with its extension replaced: ``class/a.mp4`` becomes ``class/a.npy``,
since the tools that read these files look videos up by their ids. If two videos would share a name,
an error names both.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from vidfeat.errors import StoreError

_LONGEST_NAME = 255  # bytes of a file name on current file systems
# Extensions: .mp4, .3gp, .webm; not the .5 of a folder of frames named v1.5.
_EXTENSION = re.compile(r"(?<=.)\.(?=\w*[A-Za-z])[A-Za-z0-9]{2,5}$", re.DOTALL)


def without_extension(path: str) -> str:
    """The path of a video without its file extension."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{_EXTENSION.sub('', name)}"


def file_names(
    paths: Sequence[str],
    where: str,
    *,
    suffix: str = ".npy",
    keep_extensions: bool = False,
    keep_folders: bool = True,
    reserved: Collection[str] = (),
) -> dict[str, str]:
    """The file of each video, relative to the folder of an export, with ``/``.

    A name that is too long for a file system, or that another video needs for a folder, is
    shortened and gets a hash of the path.

    Args:
        paths: paths of the videos.
        where: the feature file, for messages.
        suffix: appended to the name.
        keep_extensions: ``a.mp4.npy`` for ``a.mp4``.
        keep_folders: ``class/a.npy`` for ``class/a.mp4``, not ``a.npy``.
        reserved: names at the top of the folder that the export itself uses.

    Raises:
        StoreError: a path is absolute or leads upwards, or two videos would share a name.
    """
    folders: set[str] = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path != "/".join(parts) or not _is_below(path):
            raise StoreError(
                f"{where}: the path {path!r} leads out of the folder of the export; only paths "
                "below the root are written"
            )
        if any(len(part.encode()) > _LONGEST_NAME for part in parts[:-1]):
            raise StoreError(f"{where}: a folder in the path {path!r} has too long a name")
        if len(parts) > 1 and parts[0] in reserved:
            raise StoreError(
                f"{where}: the path {path!r} needs a folder {parts[0]}, a file of the export itself"
            )
        folders |= {str(folder) for folder in PurePosixPath(path).parents}
    owner: dict[str, str] = {}
    for path in paths:
        name = path if keep_extensions else without_extension(path)
        if not keep_folders:
            name = name.rpartition("/")[2]
        name = _fitting(f"{name}{suffix}", name, path, suffix, folders if keep_folders else ())
        if name in owner:
            raise _shared(where, name, owner[name], path, keep_extensions, keep_folders)
        if name in reserved:
            raise StoreError(
                f"{where}: the video {path!r} needs the name {name}, a file of the export itself"
            )
        owner[name] = path
    return {path: name for name, path in owner.items()}


def _fitting(name: str, stem: str, path: str, suffix: str, folders: Collection[str]) -> str:
    if name not in folders and len(PurePosixPath(name).name.encode()) <= _LONGEST_NAME:
        return name
    parent, slash, last = stem.rpartition("/")
    short = last.encode()[:160].decode("utf-8", "ignore")
    mark = hashlib.sha256(path.encode()).hexdigest()[:32]
    return f"{parent}{slash}{short}~{mark}{suffix}"


def _shared(
    where: str, name: str, first: str, second: str, keep_extensions: bool, keep_folders: bool
) -> StoreError:
    ways = [
        flag
        for flag, given in (
            ("keep_extensions", keep_extensions),
            ("keep_folders", keep_folders),
        )
        if not given and not (flag == "keep_extensions" and _EXTENSION.search(first) is None)
    ]
    error = StoreError(
        f"{where}: {first!r} and {second!r} would both be {name}: rename one of them"
        f"{', or give ' if ways else ''}{' or '.join(ways)}"
    )
    error.fields = tuple(ways)
    return error


def _is_below(path: str) -> bool:
    """Whether a path stays below a folder on this system."""
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", path)
    drive = os.sep == "\\" and ":" in path
    return not drive and all(part not in ("", ".", "..") for part in parts)
