"""URLs as paths of videos: parsing them, storing and showing them without secrets, rebuilding them.

A URL may carry secrets: a signature in its query, a password before its host. Both are needed to
open it, but neither is ever stored, compared or shown. The rest is stored like a file path: a root
and paths below it (see ``identities.py``). Paths of ``http`` URLs are stored decoded, so that
``a%20b.mp4`` has the same identity as the file ``a b.mp4``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from vidfeat.errors import StoreError, UsageError
from vidfeat.system.identities import identity_to_path, path_to_identity, text_to_path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHAIN = re.compile(r"[A-Za-z0-9+.-]+::|.*::[A-Za-z0-9+.-]*://", re.DOTALL)
_HTTP = ("http", "https")
_LOCAL = ("file", "local")
# Characters that a URL's path may contain unescaped (RFC 3986: pchar and the slash).
_PLAIN = "/!$&'()*+,;=:@~"
_NO_NAMES = ("", ".", "..")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)[^\s/?#@'\"]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://[^\s?'\"]*)\?[^\s'\")]*")


@dataclass(frozen=True)
class Url:
    """A parsed URL; only ``text`` may contain secrets.

    Attributes:
        text: the whole URL, as given.
        protocol: in lower case.
        host: host or bucket, without a password; for ``http`` without the user as well.
        path: decoded, for the os module, without the leading slash.
    """

    text: str
    protocol: str
    host: str
    path: str

    @property
    def address(self) -> str:
        """The part before the path."""
        return f"{self.protocol}://{self.host}"

    @property
    def shown(self) -> str:
        """The URL without secrets, for messages and names."""
        path = os.fsencode(self.path).decode("utf-8", "replace")
        return f"{self.address}/{path}"

    @property
    def parts(self) -> list[str]:
        """The components of the path; empty for the bare address."""
        return self.path.split("/") if self.path else []

    @property
    def is_folder(self) -> bool:
        """Whether it is written as a folder: it ends with a slash or has no path."""
        return not self.path or self.path.endswith("/")

    @property
    def is_http(self) -> bool:
        """Whether it names a web server, which cannot be listed, rather than an object store."""
        return self.protocol in _HTTP


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether a text is a remote URL; ``file://`` is a local path."""
    name = os.fspath(text)
    found = _URL.match(name)
    if found is None:
        return "://" in name and _CHAIN.match(name) is not None
    return found.group()[:-3].lower() not in _LOCAL


def local_file(text: str) -> str:
    """The path that a ``file://`` URL names; any other text unchanged."""
    found = _URL.match(text)
    if found is None or found.group()[:-3].lower() not in _LOCAL:
        return text
    path = text[found.end() :].removeprefix("localhost")
    if not path.startswith("/"):
        raise UsageError(f"{text}: a file URL has three slashes: file:///folder/video.mp4")
    return path if os.path.lexists(path) else os.fsdecode(unquote_to_bytes(path))


def parse_url(text: str) -> Url:
    """Parse a URL.

    Raises:
        UsageError: a chain of file systems, no host, or a path that no file can have.
    """
    if _CHAIN.match(text):
        raise UsageError(
            f"{without_secrets(text)}: nested URLs (::) are not supported; give the URL of the "
            "video itself"
        )
    protocol, _, rest = text.partition("://")
    protocol = protocol.lower()
    host, _, path = rest.partition("/")
    if protocol in _HTTP:
        split = urlsplit(text)
        host = split.netloc.rpartition("@")[2].lower()
        if re.search("%(2f|00)", split.path, re.IGNORECASE):
            raise UsageError(
                f"{without_secrets(text)}: a file name contains a slash or a zero byte"
            )
        path = os.fsdecode(unquote_to_bytes(split.path.removeprefix("/")))
    else:
        user, at, host = host.rpartition("@")
        host = user.partition(":")[0] + at + host
        path = text_to_path(path)
    if not host:
        raise UsageError(f"{without_secrets(text)}: expected a URL such as https://host/video.mp4")
    return Url(text, protocol, host, path)


def has_name(parts: Sequence[str]) -> bool:
    """Whether path components can stand below a root: none is empty, ``.`` or ``..``."""
    return bool(parts) and not any(part in _NO_NAMES for part in parts)


def root_url(url: Url, depth: int) -> str:
    """The folder formed by the first ``depth`` components of a URL, without secrets."""
    return _joined(url.address, "/".join(url.parts[:depth]), is_http=url.is_http)


def url_below(root: str, identity: str) -> str:
    """The URL of a stored path below a root.

    Args:
        root: as stored or as given; a password in it is kept.
        identity: see ``identities.py``.
    """
    folder = root.split("?")[0].rstrip("/")
    return _joined(folder, identity_to_path(identity), is_http=parse_url(root).is_http)


def _joined(folder: str, path: str, *, is_http: bool) -> str:
    if not path:
        return folder
    name = os.fsencode(path)
    text = quote(name, safe=_PLAIN) if is_http else name.decode("utf-8", "replace")
    return f"{folder}/{text}"


def without_secrets(text: str) -> str:
    """A text with the queries and passwords of all URLs in it removed."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def shown_path(path: str) -> str:
    """A path, or a URL without its secrets."""
    if not is_url(path):
        return path
    try:
        return parse_url(path).shown
    except UsageError:
        return without_secrets(path)


def identity_below(text: str, root: str) -> str | None:
    """The identity of a URL below a root; None if it lies elsewhere."""
    if not is_url(root):
        return None
    url, above = parse_url(text), parse_url(root)
    names = [name for name in above.parts if name]
    rest = url.parts[len(names) :]
    if url.address != above.address or url.parts[: len(names)] != names or not has_name(rest):
        return None
    return path_to_identity("/".join(rest))


def place_of(
    identity: str, stored: str, root: str | os.PathLike[str] | None = None, holder: str = ""
) -> str:
    """Where a stored video should be: a path, or a URL if ``root`` is one.

    A recorded root that is a URL is not contacted: someone else's file must not send requests in
    the user's name. The error names it, so that the user can give it as ``root``.

    Args:
        identity: identity of the video.
        stored: the recorded root.
        root: where the videos are now.
        holder: the file with the record, for messages.

    Raises:
        StoreError: the identity points out of the root, or the root is a URL that was only
            recorded, not given.
    """
    base = root_of(stored) if root is None else local_file(os.fspath(root))
    relative = identity_to_path(identity)
    if relative.startswith("/") or ".." in relative.split("/"):
        raise StoreError(f"{holder}: the path {identity!r} leads out of the root of its videos")
    if not is_url(base):
        return os.path.join(base, relative)  # noqa: PTH118
    if root is None:
        raise StoreError(
            f"{holder}: the videos are at {base}; give root={base} to read them from there"
        )
    return url_below(base, identity)


def local_place(place: str) -> Path:
    """A place as a local path.

    Raises:
        StoreError: it is a URL.
    """
    if is_url(place):
        raise StoreError(f"{shown_path(place)} is a URL, not a local file")
    return Path(place)


def stored_root(root: str) -> str:
    """A root as a feature file stores it: URLs unchanged, folders escaped like identities."""
    return root if is_url(root) else path_to_identity(root)


def root_of(stored: str) -> str:
    """The reverse of ``stored_root``."""
    return stored if is_url(stored) else identity_to_path(stored)
