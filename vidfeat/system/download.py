"""Downloads into a cache folder: resumed when interrupted, checked, complete or absent.

A file is looked for in torch hub's cache and in vidfeat's own (``VIDFEAT_CACHE``, or else the
platform's cache folder). A missing file is written to ``NAME.part``, resumed where it was
interrupted, and renamed to ``NAME`` only when its hash is right. If two processes want one file,
the second waits and then finds it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from vidfeat.errors import DownloadError, LockedError
from vidfeat.system.cache import chosen_cache, writable_cache
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import sync_file
from vidfeat.system.lock import OutputLock
from vidfeat.system.wording import duration, size_text

CHUNK = 1 << 16
ATTEMPTS = 8
WAIT_UNSAID_SECONDS = 3.0


@dataclass(frozen=True)
class Source:
    """What to fetch."""

    url: str
    filename: str
    sha256: str = ""
    """Hash of the file, or its first digits; empty if none was published."""
    max_bytes: int | None = None
    """Maximum length of the file; None accepts any length."""
    by_hand: bool = False
    """Whether only a browser can open the URL: it is not requested."""
    attempts: int = ATTEMPTS
    stall_seconds: float = 30.0
    """After this long with no data, or next to none, the connection is given up."""
    pause_seconds: float = 1.0
    """Before the second attempt; doubled before each later one."""


def cache_folder() -> Path:
    """Where weights are written: ``weights`` in the cache folder (see ``cache.py``)."""
    return writable_cache() / "weights"


def _known_folders() -> list[Path]:
    """Where a file may already be: torch hub's cache, and ours even if it is read-only."""
    return [torch_hub_folder(), chosen_cache() / "weights"]


def torch_hub_folder() -> Path:
    """Where torch hub keeps its downloads, by its own rule."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(base, "torch")  # noqa: PTH118
    return Path(home).expanduser() / "hub" / "checkpoints"


def find_cached(filename: str) -> Path | None:
    """The file in torch hub's cache or in ours, or None; its contents are not checked."""
    for folder in _known_folders():
        if (folder / filename).is_file():
            return folder / filename
    return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(source: Source, progress: Progress | None = None) -> Path:
    """The path of the file, downloaded if neither cache has it; its hash has been checked.

    If no hash was published, that of the first download is kept next to the file and checked from
    then on.

    Raises:
        DownloadError: it cannot be fetched, or the download is not the file; the message names the
            URL, the file and the folder to put it in by hand.
    """
    for folder in _known_folders():
        path = folder / source.filename
        if path.is_file() and _is_right(path, source):
            return path
    target = cache_folder() / source.filename
    if source.by_hand:
        raise DownloadError(
            f"{source.filename} can only be downloaded with a browser: fetch it from {source.url} "
            f"and put it into {target.parent}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _wait_for_lock(target, progress)
        try:
            if target.is_file():
                if _is_right(target, source):  # another process has just downloaded it
                    return target
                target.replace(target.with_name(target.name + ".wrong-hash"))
            _download(source, target, progress or StderrProgress(source.filename))
        finally:
            lock.__exit__(None, None, None)
    except OSError as error:
        raise _failure(source, f"{error.filename or target}: {error.strerror or error}") from error
    return target


def _wait_for_lock(target: Path, progress: Progress | None) -> OutputLock:
    """Take the lock of a target; while another process holds it, show its progress."""
    part = _part(target)
    said, began = False, time.monotonic()
    while True:
        lock = OutputLock(target)
        try:
            return lock.__enter__()
        except LockedError as error:
            if not said and time.monotonic() - began > WAIT_UNSAID_SECONDS:
                sys.stderr.write(f"waiting: {error}\n")
                said = True
            if progress is not None and part.exists():
                progress(part.stat().st_size, None)
            time.sleep(0.1)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _hash_file(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _is_right(path: Path, source: Source) -> bool:
    """Whether a file has the published hash or, without one, that of its first download."""
    expected = source.sha256
    if not expected:
        if not _hash_file(path).is_file():
            return True
        expected = _hash_file(path).read_text(encoding="ascii", errors="replace").strip()
    return file_sha256(path).startswith(expected)


def _failure(source: Source, reason: str) -> DownloadError:
    return DownloadError(
        f"cannot download {source.url}: {reason}; put {source.filename} into {cache_folder()} "
        "yourself, or give weights=FILE; model=bundled is a small network that needs no download"
    )


def _download(source: Source, target: Path, progress: Progress) -> None:
    """Fill the part file, attempt by attempt, check it and rename it."""
    part = _part(target)
    reason, mismatches = "no data arrived", 0
    for attempt in range(source.attempts):
        if attempt:
            time.sleep(source.pause_seconds * 2 ** (attempt - 1))
        try:
            complete = _receive(source, part, progress)
        except _RetryError as error:
            reason, complete = str(error), False
        # If a server announces too many bytes, an attempt never completes, although the whole file
        # has arrived.
        if not complete and not (source.sha256 and part.exists() and _is_right(part, source)):
            continue
        digest = file_sha256(part)
        if digest.startswith(source.sha256):
            sync_file(part)
            if not source.sha256:
                _hash_file(target).write_text(digest + "\n", encoding="ascii")
            part.replace(target)
            sync_file(target.parent)
            return
        part.unlink()
        reason = f"the download has the sha256 {digest}, not {source.sha256}"
        mismatches += 1
        if mismatches == 2:  # the first attempt may have been pieced together from two files
            break
    raise _failure(source, reason)


class _RetryError(Exception):
    """A failed attempt that is worth repeating."""


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Refuses redirects from https to http: without TLS, anybody could have sent the bytes."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError("the server redirects to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _receive(source: Source, part: Path, progress: Progress) -> bool:
    """One attempt: append what the part file lacks; True once the server's length is reached."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"User-Agent": "vidfeat"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_SameScheme)
    try:
        response = opener.open(request, timeout=source.stall_seconds)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing after the part: it is complete, or of another file
            if _total(error.headers) == have:
                return True
            part.unlink()
            raise _RetryError("the server has less than is already downloaded") from None
        if error.code == 429 or error.code >= 500:
            raise _RetryError(f"the server answers {error.code} {error.reason}") from None
        raise _failure(source, f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise _RetryError(_why(error.reason)) from None
        raise _failure(source, _why(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:  # cut or stalled before the headers
        raise _RetryError(_why(error)) from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _failure(source, "the server sends a web page instead of the file")
        if response.status != 206 or _start(response.headers) != have:
            have = 0  # the server ignores the range and sends everything again
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        with part.open("ab" if have else "wb") as file:
            have = _copy(source, response, file, have, total, progress)
    if total is not None and have < total:
        raise _RetryError(f"the connection was cut after {have} of {total} bytes")
    return True


def _copy(
    source: Source, response: Any, file: IO[bytes], have: int, total: int | None, progress: Progress
) -> int:
    """Copy a response to its end; return the length of the part file."""
    mark_time, mark_bytes = time.monotonic(), have
    while True:
        try:
            data = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _RetryError(_why(error)) from None
        if not data:
            return have
        file.write(data)
        have += len(data)
        progress(have, total)
        if source.max_bytes is not None and have > source.max_bytes:
            file.truncate(0)
            raise _failure(
                source, f"more than {source.max_bytes} bytes were sent: this is not the file"
            )
        now = time.monotonic()
        if now - mark_time > source.stall_seconds:
            if have - mark_bytes < CHUNK // 16:  # a trickle counts as a stall
                raise _RetryError(f"the connection stalled after {have} bytes")
            mark_time, mark_bytes = now, have


def _start(headers: Message) -> int | None:
    """First byte of a partial response: ``Content-Range: bytes 100-199/200``."""
    text = str(headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else None


def _total(headers: Message) -> int | None:
    """Length of the whole file, from the same header."""
    text = str(headers.get("Content-Range", "")).rpartition("/")[2]
    return int(text) if text.isdigit() else None


def _why(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the server stalls"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class StderrProgress:
    """Progress of a download on stderr: one line rewritten on a terminal, else one now and then.

    Args:
        label: what is downloaded.
    """

    PLAIN_SECONDS = 10.0

    def __init__(self, label: str) -> None:
        self.label = label
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Show the progress if it has changed enough."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        finished = total is not None and done >= total
        pause = 0.1 if self._terminal else self.PLAIN_SECONDS
        if now - self._shown < pause and not finished:
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._began, 1e-6)
        text = f"downloading {self.label}: {size_text(done)}"
        if total is not None:
            text += f" of {size_text(total)}"
        text += f", {size_text(rate)}/s"
        if total is not None and rate > 0:
            text += f", {duration((total - done) / rate)} left"
        end = "\n" if finished or not self._terminal else ""
        sys.stderr.write(f"\r{text}\x1b[K{end}" if self._terminal else text + end)
        sys.stderr.flush()
