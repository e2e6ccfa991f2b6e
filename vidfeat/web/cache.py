"""A cache of files: thumbnails, transcoded segments, the map.

A key is the hash of everything that determines the contents. Files appear complete; the least
recently used are deleted when the folder exceeds its maximum size. Two requests for the same file
create it once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vidfeat.system.cache import writable_cache
from vidfeat.system.files import TEMPORARY_MARK, remove_if_dead, temporary_name

# Bytes that may be written between two checks of the folder's size.
_LOOK_BYTES = 32 << 20


class Cache:
    """A cache folder of limited size.

    Args:
        folder: where the files are.
        most_bytes: maximum total size.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._since_look = _LOOK_BYTES
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, suffix: str, make: Callable[[Path], None]) -> Path:
        """The file of a key, created by ``make(path)`` if missing.

        Errors of ``make`` are raised, and nothing is left behind.
        """
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        path = self.folder / name[:2] / f"{name}{suffix}"
        if self._touch(path):
            return path
        with self._lock:
            lock = self._making.setdefault(name, threading.Lock())
        with lock:
            try:
                if not self._touch(path):
                    self._make(path, make)
            finally:
                with self._lock:
                    self._making.pop(name, None)
        return path

    def _touch(self, path: Path) -> bool:
        try:
            os.utime(path)  # most recently used last
        except OSError:
            return False
        return True

    def _make(self, path: Path, make: Callable[[Path], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path, path.suffix)
        try:
            make(temporary)
            size = temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            self._since_look += size
            look = self._since_look >= min(_LOOK_BYTES, self.most_bytes // 4)
            if look:
                self._since_look = 0
        if look:
            self.shrink(keep=path)

    def shrink(self, keep: Path | None = None) -> None:
        """Remove the least recently used files until the rest fits the maximum size."""
        files = []
        for path in self.folder.glob("*/*"):
            if TEMPORARY_MARK in path.name:
                remove_if_dead(path)  # being written by others
                continue
            with suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.most_bytes:
                break
            if path == keep:
                continue
            with suppress(OSError):
                path.unlink()
                total -= size


def default_folder() -> Path:
    """The user's cache folder for pictures and segments."""
    return writable_cache() / "web"
