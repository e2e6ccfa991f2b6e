"""Writing files so that they are complete or absent, whatever kills the process.

The order of steps ensures this: write under a temporary name in the same folder, flush to the disk
(fsync), rename over the target, flush the folder. A reader sees the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO

TEMPORARY_MARK = ".writing-"


# Longest file name on common file systems (some count UTF-16 units, of which there are fewer).
_MOST_NAME_BYTES = 255
# Room after a name for the ending of a temporary one: the mark, a process id, digits, a suffix.
_MARK_BYTES = 40
_LEFTOVER = re.compile(
    r"(?P<pid>[0-9]{1,10})-(?P<machine>[0-9a-f]{4})[0-9a-f]{8}(?P<suffix>\.[a-z0-9]+)?"
)
# Marks a complete folder that is being replaced.
_FORMER = ".former"


def temporary_name(path: Path, suffix: str = "") -> Path:
    """A name next to ``path`` that no finished file has; leftovers are recognised by it.

    It fits wherever the final name fits: a name that is too long is cut, and a hash keeps it
    unique.

    Args:
        path: the final name.
        suffix: the end of the name, for writers that choose a format by it: ``.mp4``.
    """
    stem = fitting(path.name, _MARK_BYTES)
    who = f"{os.getpid()}-{_machine()}{secrets.token_hex(4)}"
    return path.with_name(f"{stem}{TEMPORARY_MARK}{who}{suffix}")


@cache
def _machine() -> str:
    """The name of this machine as four hex digits: other machines may write to the same folder."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def remove_dead_leftovers(path: Path) -> None:
    """Remove temporary files and folders of ``path`` whose process, on this machine, has ended.

    If a process was killed while it replaced an old folder with a new one, there is no ``path``:
    the old folder is restored.
    """
    for file in path.parent.iterdir():
        if not is_temporary_of(file, path):
            continue
        if file.name.endswith(_FORMER) and is_dead_leftover(file) and not os.path.lexists(path):
            with suppress(OSError):
                file.replace(path)
        else:
            remove_if_dead(file)


@cache
def _temporary_files_of(folder: Path) -> tuple[Path, ...]:
    """Files with a temporary name when this process first wrote to a folder.

    Looking once is enough, since leftovers are those of earlier processes; and a folder may
    receive hundreds of thousands of files.
    """
    try:
        return tuple(file for file in folder.iterdir() if TEMPORARY_MARK in file.name)
    except OSError:
        return ()  # the write itself reports what is wrong with the folder


def is_dead_leftover(file: Path) -> bool:
    """Whether a file has a temporary name of a process of this machine that has ended."""
    _, mark, who = file.name.rpartition(TEMPORARY_MARK)
    found = _LEFTOVER.fullmatch(who) if mark else None
    return (
        found is not None and found["machine"] == _machine() and not _is_running(int(found["pid"]))
    )


def remove_if_dead(file: Path) -> None:
    """Remove a temporary file or folder whose process, on this machine, has ended."""
    if not is_dead_leftover(file):
        return
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file, ignore_errors=True)
    else:
        with suppress(OSError):
            file.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def is_temporary_of(file: Path, path: Path) -> bool:
    """Whether a file has a temporary name of ``path``."""
    return file.name.startswith(fitting(path.name, _MARK_BYTES) + TEMPORARY_MARK)


def beside(path: Path, suffix: str) -> Path:
    """``path`` with a suffix after its name; a name that is too long is cut and gets a hash."""
    return path.with_name(fitting(path.name, len(suffix.encode()) + _MARK_BYTES) + suffix)


def fitting(name: str, room: int) -> str:
    """A name that leaves ``room`` bytes after it; always the same for one name."""
    # whatever the locale: a name may also be text from a feature file
    encoded = name.encode("utf-8", "surrogateescape")
    most = _MOST_NAME_BYTES - room
    if len(encoded) <= most:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    # cut between characters: half a character is invalid on some systems
    kept = encoded[: most - 13]
    while kept and encoded[len(kept)] & 0xC0 == 0x80:
        kept = kept[:-1]
    return f"{kept.decode('utf-8', 'surrogateescape')}~{digest}"


def sync_file(path: Path) -> None:
    """Flush a file or folder to the disk; a folder only where the system allows it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def leave_cache(descriptor: int) -> None:
    """Tell the system that a file's contents are not needed in memory.

    Data that is written once and not read soon would push out data that is; and pages that are
    free at once make the next write faster.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Add the name of a file to system errors that carry none.

    A failing write says that the disk is full, but not which file was being written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            _name(error, os.fspath(path))
        raise


def _name(error: OSError, name: str) -> None:
    """Give an error another file name; if its name cannot be set (PyAV's), raise a new error."""
    try:
        error.filename = name
    except AttributeError:
        raise OSError(error.errno, error.strerror, name) from error


@contextmanager
def _final_names(temporary: Path, path: Path) -> Iterator[None]:
    """Make system errors name the final file instead of the temporary one."""
    try:
        with named_errors(path):
            yield
    except OSError as error:
        name, held = os.fspath(temporary), error.filename
        if isinstance(held, str) and (held == name or held.startswith(name + os.sep)):
            _name(error, os.fspath(path) + held[len(name) :])
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; success makes it ``path``, an error removes it.

    Temporary files of the same file that killed processes left behind are removed.

    Raises:
        OSError: writing or renaming failed, on a full disk for example; ``path`` is untouched.
    """
    for file in _temporary_files_of(path.parent):
        if is_temporary_of(file, path):
            remove_if_dead(file)
    temporary = temporary_name(path)
    try:
        with _final_names(temporary, path):
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
            sync_file(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes ``path``, on an error it is removed.

    A folder cannot be renamed over one that has files. The old one is moved aside first and
    removed last, so that it is never lost: ``path`` is absent only between two renames, and after a
    kill there the next writer restores it.

    Raises:
        FileExistsError: ``path`` exists and ``replace`` is False.
    """
    remove_dead_leftovers(path)
    if path.exists() and not replace:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
    temporary = temporary_name(path)
    aside: Path | None = None
    try:
        with _final_names(temporary, path):
            temporary.mkdir()
            yield temporary
            for file in sorted(temporary.rglob("*")):
                sync_file(file)
            sync_file(temporary)
            if path.exists():
                aside = temporary_name(path, _FORMER)
                path.replace(aside)
            temporary.replace(path)
            sync_file(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside is not None and not path.exists():
            aside.replace(path)
        raise
    if aside is not None:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


@contextmanager
def append_lines(path: Path) -> Iterator[TextIO]:
    """Open a file of lines for appending, each line written at once.

    A last line that was cut off by a kill is ended first, so that it does not spoil the next one;
    readers skip it.
    """
    with path.open("a+", encoding="utf-8", buffering=1) as file:
        if file.tell() and not _ends_with_newline(path):
            file.write("\n")
        yield file


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def canonical_json(value: Any) -> str:
    """The same text for equal values, whatever the order of keys: the input of fingerprints."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
