"""Fetching byte ranges of a URL through fsspec, and checking each of them.

Web servers are read through fsspec's HTTP session, which shows status, range, length and ETag of
every response: a server that ignores ranges or serves another file meanwhile must not go unnoticed.
All other stores are read through fsspec's file objects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote

from vidfeat.errors import MissingExtraError, UsageError, VideoError
from vidfeat.system.urls import Url, parse_url, without_secrets

# File systems of fsspec that wrap other file systems or archives, or take data from the URL.
_REFUSED = {"async_wrapper", "blockcache", "cached", "data", "dir", "filecache", "generic"}
_REFUSED |= {"libarchive", "reference", "simplecache", "tar", "zip"}
_EXTRAS = {"http": ("http", "aiohttp"), "https": ("http", "aiohttp")}
_EXTRAS |= {"s3": ("s3", "s3fs"), "s3a": ("s3", "s3fs")}
_CONNECT_SECONDS = 15.0
_STALL_SECONDS = 30.0  # without a byte
_LONGEST_PAUSE_SECONDS = 30.0  # that a server may ask for
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
# Keys for an object's version, the most reliable first; stores use different names.
_TAGS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "content_md5", "blob_id")
_TIMES = (
    *("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified"),
    *("modify", "created"),
)
# Characters left alone when a URL is quoted: it may be encoded already.
_ENCODED = ":/?#[]@!$&'()*+,;=%~"
_SMALLEST_STEP = 1 << 14
NO_RANGES = "the server does not support range requests"


class Cut(Exception):  # noqa: N818 (control flow, not an error)
    """An attempt failed; another one may succeed."""

    def __init__(self, reason: str, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


class State(NamedTuple):
    """Size and version of an object: equal for equal bytes."""

    size_bytes: int
    stamp: int
    """63-bit hash of the ETag, else of the modification time; 0 without either. Stored in place of
    a file's modification time."""


class Store(Protocol):
    """Fetches the bytes of one URL."""

    state: State
    begun: bytes
    """The first bytes, if they came with the state."""

    def fetch(self, start: int, end: int, into: bytearray) -> None:
        """Append bytes from ``start``, at most up to ``end``; bytes before a failure are kept.

        Raises:
            Cut: the attempt failed.
            VideoError: another attempt would fail as well.
        """

    def check_unchanged(self) -> None:
        """Check that everything fetched belongs to one version.

        Raises:
            Cut: the attempt failed.
            VideoError: the object has changed.
        """

    def close(self) -> None:
        """Close the connection; the next fetch opens another."""


def stamp_of(facts: Mapping[str, Any]) -> int:
    """The stamp of an object from its store's metadata."""
    for names in (_TAGS, _TIMES):
        for name in names:
            value = facts.get(name)
            if value in (None, ""):
                continue
            if isinstance(value, datetime):
                aware = value if value.tzinfo else value.replace(tzinfo=UTC)
                value = int(aware.timestamp())
            text = str(value).strip().removeprefix("W/").strip('"')
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            return int.from_bytes(digest, "big") >> 1
    return 0


def file_system(url: Url) -> Any:
    """The fsspec file system of a URL.

    Raises:
        MissingExtraError: its package is not installed.
        UsageError: the protocol is unknown, or wraps other file systems.
    """
    import fsspec
    from fsspec.config import conf

    if url.protocol in _REFUSED:
        raise UsageError(f"{url.protocol}:// wraps other files: give the URL of the video itself")
    try:
        kind = fsspec.get_filesystem_class(url.protocol)
    except ImportError as error:
        if url.protocol in _EXTRAS:
            extra, package = _EXTRAS[url.protocol]
            raise MissingExtraError(extra, package, f"reading {url.protocol}:// URLs") from None
        raise UsageError(f"{url.protocol}:// URLs: {error}") from None
    except ValueError:
        raise UsageError(
            f"{url.shown}: fsspec has no protocol {url.protocol}://; expected https://, s3://, "
            "gs://, sftp:// or another of its protocols"
        ) from None
    options: dict[str, Any] = {"use_listings_cache": False}
    settings = conf.get(url.protocol, {})
    if url.is_http:
        # Re-encoding would invalidate a signature in the query.
        options |= {"encoded": True}
        options |= {"client_kwargs": {"trust_env": True, **settings.get("client_kwargs", {})}}
    elif url.protocol in ("s3", "s3a"):
        # Its nested retry loops would take a minute before the first of our attempts fails.
        retries = {"retries": {"total_max_attempts": 1}}
        options |= {"config_kwargs": {**retries, **settings.get("config_kwargs", {})}}
    try:
        return kind(**{**kind._get_kwargs_from_urls(url.text), **options})
    except Exception as error:  # whatever the client of a store raises
        raise UsageError(f"{url.address}: {_reason(error)}") from None


def name_in(files: Any, url: Url) -> str:
    """The name of a URL within its file system."""
    return cast(str, files._strip_protocol(url.text))


def open_store(text: str, first_bytes: int = 1) -> Store:
    """Open a URL for fetching; its state is read.

    Args:
        text: the URL.
        first_bytes: how many bytes to fetch with the state, where one request gives both.

    Raises:
        Cut: the attempt failed.
        VideoError: kind ``gone``, or ``unreadable``.
        UsageError: as :func:`file_system`.
    """
    url = parse_url(text)
    return WebStore(url, first_bytes) if url.is_http else ObjectStore(url)


class WebStore:
    """A file on a web server with range requests.

    The first request fetches the first bytes: its response gives the size and ETag, and shows
    whether ranges work. A HEAD request would fail for many signed URLs.
    """

    def __init__(self, url: Url, first_bytes: int = 1) -> None:
        self._url = url
        self._files = file_system(url)
        self._address = self._files.encode_url(quote(url.text.partition("#")[0], safe=_ENCODED))
        self.state = State(-1, 0)
        self._tags: Mapping[str, str] = {}
        begun = bytearray()
        try:
            self.fetch(0, first_bytes, begun)
        except Cut:
            if self.state.size_bytes < 0:
                raise
        self.begun = bytes(begun)

    def fetch(self, start: int, end: int, into: bytearray) -> None:
        """See :class:`Store`."""
        import aiohttp
        from fsspec.asyn import sync

        try:
            sync(self._files.loop, self._fetch, start, end, into)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise self._failed(f"not a URL: {_reason(error)}") from None
        except (aiohttp.ClientSSLError, aiohttp.TooManyRedirects) as error:
            raise self._failed(_reason(error)) from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Cut(_reason(error)) from None

    async def _fetch(self, start: int, end: int, into: bytearray) -> None:
        import aiohttp

        session = await self._files.set_session()
        settings = dict(self._files.kwargs)
        headers = {
            **settings.pop("headers", {}),
            "Range": f"bytes={start}-{end - 1}",
            "Accept-Encoding": "identity",
        }
        patience = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_STALL_SECONDS)
        settings.setdefault("timeout", patience)
        async with session.get(self._address, headers=headers, **settings) as answer:
            if self._check(answer, start):
                return
            room = end - start
            async for piece in answer.content.iter_any():
                if len(piece) > room:
                    raise self._failed("the server sends more than was requested")
                into += piece
                room -= len(piece)

    def _check(self, answer: Any, start: int) -> bool:
        """Check that a response is the range requested; True if the file is empty."""
        if self._url.protocol == "https" and answer.url.scheme != "https":
            raise self._failed("the server redirects from https to http")
        status, headers = answer.status, answer.headers
        first = self.state.size_bytes < 0
        none = status == 416 and headers.get("Content-Range", "").endswith("*/0")
        if first and (none or (status == 200 and headers.get("Content-Length") == "0")):
            self._tags = _tags_of(headers)
            self.state = State(0, stamp_of(headers))
            return True
        self._check_status(status, f"{status} {answer.reason or ''}".strip(), headers)
        found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status != 206 or found is None:
            raise self._failed(f"{NO_RANGES}: download the video and use the file")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise self._failed("the server compresses the response")
        begins, _, size = map(int, found.groups())
        if begins != start:
            raise self._failed(f"the server sends bytes from {begins} instead of {start}")
        tags = _tags_of(headers)
        if first:
            self._tags, self.state = tags, State(size, stamp_of(headers))
        elif size != self.state.size_bytes or any(
            self._tags[name] != value for name, value in tags.items() if name in self._tags
        ):
            raise changed()
        return False

    def _check_status(self, status: int, words: str, headers: Mapping[str, str]) -> None:
        if status in (404, 410):
            raise VideoError("does not exist, or was deleted during the run", kind="gone")
        if status in (408, 425, 429) or status >= 500:
            asked = headers.get("Retry-After", "")
            pause = min(float(asked), _LONGEST_PAUSE_SECONDS) if asked.isdigit() else 0.0
            raise Cut(f"the server answers {words}", pause)
        if status == 416:
            raise changed()
        if status in (401, 403, 407):
            raise self._failed(
                f"the server answers {words}: is a signature or password missing or expired?"
            )
        if status >= 300:
            raise self._failed(f"the server answers {words}")

    def _failed(self, reason: str) -> VideoError:
        return VideoError(f"cannot be read: {reason}", kind="unreadable", path=self._url.shown)

    def check_unchanged(self) -> None:
        """Do nothing: every response was checked."""

    def close(self) -> None:
        """Do nothing: the session belongs to the file system."""


class ObjectStore:
    """An object that fsspec opens as a file: S3, Google Cloud, Azure, SFTP and others."""

    def __init__(self, url: Url) -> None:
        self._url = url
        self._files = file_system(url)
        self._name = name_in(self._files, url)
        self._file: Any = None
        self.begun = b""
        self._step = 0  # largest request in bytes after a failure; 0 is unlimited
        self.state = self._look()

    def _look(self) -> State:
        facts = object_facts(self._files, self._name, self._url)
        if facts.get("type") == "directory":
            raise VideoError("a folder, not a video file", kind="unreadable", path=self._url.shown)
        size = facts.get("size")
        if size is None:
            raise VideoError(
                "cannot be read: its store does not report its size",
                kind="unreadable",
                path=self._url.shown,
            )
        return State(int(size), stamp_of(facts))

    def fetch(self, start: int, end: int, into: bytearray) -> None:
        """See :class:`Store`; after a failure, requests are smaller."""
        if self._step:
            end = min(end, start + self._step)
        try:
            if self._file is None:
                self._file = self._files.open(
                    self._name, "rb", block_size=_SMALLEST_STEP, cache_type="none"
                )
                self.check_unchanged()  # an open S3 object stays at the version that it found
            self._file.seek(start)
            data = self._file.read(end - start)
        except (Cut, VideoError):
            self.close()
            raise
        except Exception as error:
            self.close()
            self._step = max(_SMALLEST_STEP, (end - start) // 8)
            if type(error).__name__ == "FileExpired":  # s3fs: the ETag has changed
                raise changed() from None
            raise _failure(error, self._url) from None
        if not 0 < len(data) <= end - start:
            self.close()
            raise Cut(f"{len(data)} bytes came instead of {end - start}")
        self._step *= 2  # 0 stays 0
        into += data

    def check_unchanged(self) -> None:
        """See :class:`Store`."""
        self._files.invalidate_cache()
        if self._look() != self.state:
            raise changed()

    def close(self) -> None:
        """See :class:`Store`."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def object_facts(files: Any, name: str, url: Url) -> Mapping[str, Any]:
    """A store's metadata of an object or folder.

    Raises:
        Cut: the attempt failed.
        VideoError: it does not exist, or access is denied.
    """
    try:
        return cast(Mapping[str, Any], files.info(name))
    except Exception as error:  # whatever the client of a store raises
        raise _failure(error, url) from None


def changed() -> VideoError:
    """The error for a video that was replaced meanwhile."""
    return VideoError(
        "changed during the run: run the same command again to read the new version",
        kind="unreadable",
    )


def _failure(error: Exception, url: Url) -> Exception:
    """Translate an error of a store's client."""
    if isinstance(error, FileNotFoundError):
        return VideoError(
            "does not exist, or was deleted during the run", kind="gone", path=url.shown
        )
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return VideoError(f"cannot be read: {_reason(error)}", kind="unreadable", path=url.shown)
    return Cut(_reason(error))


def _tags_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that distinguish versions of a file on a web server."""
    names = ("ETag",) if headers.get("ETag") else ("Last-Modified",)
    return {name: headers[name].removeprefix("W/") for name in names if headers.get(name)}


def _reason(error: Exception) -> str:
    """An error's message on one line, without secrets."""
    if isinstance(error, TimeoutError):
        return "the server stalls"
    text = " ".join(without_secrets(str(error)).split())
    return text or type(error).__name__
