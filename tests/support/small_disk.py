"""A disk of a size that a test chooses: a tmpfs of its own, where this system lets one be mounted.

``run_on_small_disk`` runs ``main(Disk, step)`` of a module in a process and a mount namespace of
its own: what is mounted there is seen by nobody else and goes with the process.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = 4096
_MANY_FILES = 1 << 20
_MS_REMOUNT = 32
_NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]


@dataclass
class Disk:
    """A mounted disk whose size can be set at any time.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path

    @property
    def used(self) -> tuple[int, int]:
        """Pages and files that are there."""
        about = os.statvfs(self.folder)
        return int(about.f_blocks - about.f_bfree), int(about.f_files - about.f_ffree)

    def limit(self, pages: int = 1 << 18, files: int = _MANY_FILES) -> None:
        """Let it hold so many pages of 4 KiB and so many files."""
        self._mount(_MS_REMOUNT, f"size={max(pages, 1) * PAGE},nr_inodes={files}")

    def mount(self) -> None:
        """Mount it, of any size."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mount(0, f"size=1G,nr_inodes={_MANY_FILES}")

    def _mount(self, flags: int, options: str) -> None:
        call = ctypes.CDLL(None, use_errno=True).mount
        given = (b"tmpfs", os.fsencode(self.folder), b"tmpfs")
        if call(*given, ctypes.c_ulong(flags), options.encode()):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.folder))


@cache
def can_mount() -> bool:
    """Whether a process may mount a tmpfs for itself."""
    command = [*_NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run_on_small_disk(module: str, folder: Path, step: int) -> str:
    """Run ``main(Disk, step)`` of a test module in a process of its own; what it prints.

    Args:
        module: its full name.
        folder: the disk is mounted in a folder ``disk`` below it.
        step: by how many pages or files the disk is to grow from try to try.

    Raises:
        AssertionError: it failed, or a signal ended it.
    """
    command = [*_NAMESPACE, sys.executable, "-m", __name__, str(folder), module, str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    disk = Disk(Path(sys.argv[1]) / "disk")
    disk.mount()
    importlib.import_module(sys.argv[2]).main(disk, int(sys.argv[3]))
