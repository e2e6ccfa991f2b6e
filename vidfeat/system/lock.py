"""One writer per output: a second run stops and names the first.

The lock is the system's own (flock) on a small file next to the output, so that it ends with its
process, however that ends. The file says who holds it and is removed at the end. On file systems
without flock, the existence of another file is the lock; one left behind by a process of this
machine that has ended is taken over.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from vidfeat.errors import LockedError
from vidfeat.system.files import beside

_HELD = {errno.EAGAIN, errno.EACCES}
# The errors of file systems without flock; 524 is the kernel's ENOTSUPP, which some pass through.
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, 524}


class OutputLock:
    """Hold ``<output>.lock`` while a with block runs.

    Args:
        output: the file that is to be written; its folder must exist.

    Raises:
        LockedError: on entering: another process holds it; the message names it.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.output = Path(output)
        self.path = beside(self.output, ".lock")
        self._descriptor: int | None = None

    def __enter__(self) -> OutputLock:
        take = self._try_flock
        while self._descriptor is None:
            if self.path.suffix == ".lock-exclusive":
                take = self._try_exclusive
            self._descriptor = take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # Removed while it is held: whoever waits for this inode sees that it has lost its name.
        if _same_file(descriptor, self.path):
            self.path.unlink(missing_ok=True)
        os.close(descriptor)

    def _try_flock(self) -> int | None:
        """The descriptor of the held lock, or None when the file changed hands: try again."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _flock(descriptor)
            except OSError as error:
                if error.errno in _HELD:
                    raise self._locked() from None
                if error.errno not in _UNSUPPORTED:
                    raise
                os.close(descriptor)
                descriptor = -1
                self.path.unlink(missing_ok=True)
                self.path = beside(self.output, ".lock-exclusive")
                return self._try_exclusive()
            if not _same_file(descriptor, self.path):
                os.close(descriptor)
                descriptor = -1
                return None
            _write_owner(descriptor)
        except BaseException:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        return descriptor

    def _try_exclusive(self) -> int | None:
        """Like :meth:`_try_flock`, without flock: whoever creates the file has the lock."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            self._remove_stale()
            return None
        _write_owner(descriptor)
        return descriptor

    def _remove_stale(self) -> None:
        """Remove the lock of a process that has ended, or report who holds it."""
        seen = _owner(self.path)
        if not _is_gone(seen):
            raise self._locked()
        # Only one process can rename the file; whether it is still the stale one is checked
        # afterwards, and a lock that was created in between is restored.
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}-{time.monotonic_ns()}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if _owner(aside) != seen:
            aside.rename(self.path)
            raise self._locked()
        aside.unlink()

    def _locked(self) -> LockedError:
        owner: dict[str, Any] = {}
        for _ in range(5):  # the owner writes its name just after it has the lock
            owner = _owner(self.path)
            if owner:
                break
            time.sleep(0.02)
        who = "another process"
        if owner:
            who = (
                f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('started')})"
            )
        # A system lock ends with its process; the other kind may outlive it elsewhere.
        gone = "" if self.path.suffix == ".lock" else f"; if it is gone, delete {self.path}"
        return LockedError(
            f"{self.output} is being written by {who}: wait for it, or choose another output{gone}"
        )


def _flock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # not a Unix
        raise OSError(errno.ENOSYS, "no flock") from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_owner(descriptor: int) -> None:
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "process_start": _process_start(os.getpid()),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(path: Path) -> dict[str, Any]:
    """The contents of the lock file; empty if there are none."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    now = _process_start(owner["pid"])  # the process id may have been reused
    return now is not None and now != owner.get("process_start")


def _process_start(pid: int) -> int | None:
    """When a process started, in ticks since boot; None if the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
