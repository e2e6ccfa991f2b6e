"""Finding remote videos: prefixes of object stores are searched, single URLs are looked up.

The result has the same form as for a folder: an identity below a root, a size, and a stamp of the
ETag in place of the modification time.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from vidfeat.errors import UsageError, VideoError
from vidfeat.system.identities import path_to_identity
from vidfeat.system.urls import Url, has_name, is_url, parse_url, root_url, without_secrets
from vidfeat.system.wording import counted
from vidfeat.video.remote import persistently
from vidfeat.video.remote_stores import (
    NO_RANGES,
    State,
    file_system,
    name_in,
    object_facts,
    open_store,
    stamp_of,
)

_AT_ONCE = 16  # URLs that are looked up in parallel

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteVideo:
    """A remote video.

    Attributes:
        url: for opening it, including secrets.
        state: size and stamp; both -1 if it could not be looked up.
    """

    url: str
    state: State


_UNKNOWN = State(-1, -1)


def are_urls(paths: Iterable[str]) -> bool:
    """Whether the inputs are URLs.

    Raises:
        UsageError: some are URLs and others files.
    """
    first: dict[bool, str] = {}
    for path in paths:
        first.setdefault(is_url(path), path)
    if len(first) == 2:
        raise UsageError(
            f"{without_secrets(first[True])} is a URL, but {first[False]} is a file: a run has one "
            "root, so extract them into two outputs and merge those"
        )
    return True in first


def remote_root(folders: Sequence[tuple[Url, int]], root: str | None) -> str:
    """The URL that identities are relative to: as given, or the common parent of all folders.

    Args:
        folders: URLs, each with the number of components that form its folder.
        root: as given.

    Raises:
        UsageError: the URLs are on several hosts or in several buckets.
    """
    if root is not None:
        url = parse_url(root)
        return root_url(url, len(_folder(url)))
    first = folders[0][0]
    for url, _ in folders:
        if url.address != first.address:
            raise UsageError(
                f"{first.shown} and {url.shown} have no common root: extract them into two outputs "
                "and merge those"
            )
    depth = min(depth for _, depth in folders)
    while any(url.parts[:depth] != first.parts[:depth] for url, _ in folders):
        depth -= 1
    return root_url(first, depth)


def _folder(url: Url) -> list[str]:
    """The components of a folder's path."""
    return [*url.parts[:-1], *filter(None, url.parts[-1:])]


def find_remote(
    given: Sequence[str],
    listed: Sequence[str],
    root: str | None,
    named_as_video: Callable[[str], bool],
    skipped: Counter[str],
    notes: list[str],
) -> tuple[str, dict[str, RemoteVideo]]:
    """The root, and the remote videos by identity.

    Args:
        given: URLs of videos and of prefixes to search.
        listed: more URLs, from a list: a missing one fails like a video that cannot be read, while
            a missing input ends the run.
        root: what identities are relative to; None is the common parent.
        named_as_video: whether a search takes a file of this name.
        skipped: counts the suffixes of other files.
        notes: gets what a user should know.

    Raises:
        UsageError: a URL that does not exist, cannot be listed, lies outside the root, or has the
            same path as another one.
    """
    found: dict[str, RemoteVideo] = {}
    told: dict[str, int] = {}
    odd: list[str] = []
    no_ranges: Counter[str] = Counter()
    texts = [*given, *listed]
    urls = [parse_url(text) for text in texts]
    for url in urls:
        if url.is_http and url.is_folder:
            raise UsageError(
                f"{url.shown}: folders of web servers cannot be listed: give the URLs of the "
                "videos, or a list of them"
            )
    looked = _side_by_side(_look, urls)
    folders = [
        (url, len(_folder(url)) if outcome is None else len(url.parts) - 1)
        for url, outcome in zip(urls, looked, strict=True)
    ]
    base = remote_root(folders, root)
    for place, (url, outcome) in enumerate(zip(urls, looked, strict=True)):
        if isinstance(outcome, VideoError):
            if outcome.kind == "gone" and place < len(given):
                raise UsageError(f"{url.shown}: no such file or folder")
            no_ranges[url.address] += NO_RANGES in str(outcome)
            outcome = _UNKNOWN
        if isinstance(outcome, State):
            identity = _identity(url, base)
            if identity in told and urls[told[identity]].text != url.text:
                raise UsageError(
                    f"inputs {told[identity] + 1} and {place + 1} have the same path, {url.shown}: "
                    "the query of a URL is not stored, so give only one of them"
                )
            told[identity] = place
            found[identity] = RemoteVideo(url.text, outcome)
            continue
        for video in _search(url, skipped, named_as_video, odd):
            found.setdefault(_identity(parse_url(video.url), base), video)
    if odd:
        told_odd = counted(len(odd), "object has a name", "objects have names")
        notes.append(f"{told_odd} that no file can have; skipped, such as {odd[0]!r}")
    notes += [
        f"{address} does not support range requests, so {counted(count, 'video')} cannot be read "
        "from there: download them and use the files"
        for address, count in no_ranges.items()
        if count
    ]
    if any(video.state.stamp == 0 for video in found.values()):
        notes.append(
            "the server reports neither ETag nor modification time: a video counts as unchanged "
            "while its size is the same"
        )
    return base, found


def _look(url: Url) -> State | VideoError | None:
    """The state of a single video, or the reason why it is unknown; None for a folder."""
    try:
        if url.is_http:
            return persistently(lambda: open_store(url.text)).state
        facts = _facts(url)
        if url.is_folder or facts.get("type") == "directory":
            return None
        return State(int(facts.get("size") or 0), stamp_of(facts))
    except VideoError as error:
        return error


def _facts(url: Url) -> Mapping[str, Any]:
    files = file_system(url)
    if url.is_folder:
        return {"type": "directory"}
    return persistently(lambda: object_facts(files, name_in(files, url), url))


def _search(
    url: Url, skipped: Counter[str], named_as_video: Callable[[str], bool], odd: list[str]
) -> Iterator[RemoteVideo]:
    """The videos below a prefix; names that begin with a dot are skipped, as in folders."""
    files = file_system(url)
    folder = name_in(files, url).rstrip("/")
    try:
        entries = files.find(folder, detail=True)
    except FileNotFoundError:
        raise UsageError(f"{url.shown}: no such file or folder") from None
    except Exception as error:  # whatever the client of a store raises
        reason = " ".join(without_secrets(str(error)).split()) or type(error).__name__
        raise UsageError(f"{url.shown} cannot be listed: {reason}") from None
    start = url.text.rstrip("/")
    for name in sorted(entries):
        facts = entries[name]
        relative = name.removeprefix(folder).removeprefix("/")
        if not relative or facts.get("type") == "directory" or relative.endswith("/"):
            continue
        parts = relative.split("/")
        if not has_name(parts):
            odd.append(relative)
        elif any(part.startswith(".") for part in parts):
            continue
        elif named_as_video(parts[-1]):
            state = State(int(facts.get("size") or 0), stamp_of(facts))
            yield RemoteVideo(f"{start}/{relative}", state)
        else:
            skipped[posixpath.splitext(parts[-1])[1].lower() or "without a suffix"] += 1


def _identity(url: Url, base: str) -> str:
    root = parse_url(base)
    above = _folder(root)
    if url.address != root.address or url.parts[: len(above)] != above:
        raise UsageError(f"{url.shown} lies outside root={root.shown}")
    rest = url.parts[len(above) :]
    if not has_name(rest):
        raise UsageError(f"{url.shown}: not a path of a video below root={root.shown}")
    return path_to_identity("/".join(rest))


def _side_by_side(work: Callable[[Url], T], urls: Sequence[Url]) -> list[T]:
    """Do the work for all URLs in parallel; the results in order."""
    if len(urls) < 2:
        return [work(url) for url in urls]
    with ThreadPoolExecutor(min(_AT_ONCE, len(urls))) as pool:
        return list(pool.map(work, urls))


def state_of(text: str) -> State | None:
    """Size and stamp of a remote video; None if it does not exist.

    Raises:
        VideoError: the server does not answer, or denies access.
    """
    outcome = _look(parse_url(text))
    if isinstance(outcome, VideoError):
        if outcome.kind == "gone":
            return None
        raise outcome
    return outcome


def states_of(texts: Sequence[str]) -> list[State | None]:
    """Like :func:`state_of`, for many URLs; if the server does not answer, both values are -1.

    The features of its videos must survive while a server is down.
    """

    def known(url: Url) -> State | None:
        outcome = _look(url)
        if isinstance(outcome, VideoError):
            return None if outcome.kind == "gone" else _UNKNOWN
        return outcome

    return _side_by_side(known, [parse_url(text) for text in texts])
