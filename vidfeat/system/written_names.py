"""Paths as people write them in tables and commands, turned into identities."""

from __future__ import annotations

from pathlib import PurePosixPath

from vidfeat.system.identities import looks_like
from vidfeat.system.urls import identity_below, is_url


def written_identity(text: str, root: str = "") -> str:
    """The identity that a person means: without surrounding spaces, a leading ``./`` or the root.

    A URL below a root URL loses its query as well.

    Args:
        text: a path as written in a table or typed.
        root: the root of the videos, as an identity; if empty, absolute paths stay as they are.
    """
    text = text.strip()
    if not text:
        return text
    if is_url(text):
        return identity_below(text, root) or text
    return below(str(PurePosixPath(text)), root)


def below(path: str, root: str) -> str:
    """A path relative to a root if it lies below it; otherwise as it is.

    Its accents may be in another Unicode form than the root's; the rest of the path keeps its own.
    """
    if not root:
        return path
    parts, of_root = path.split("/"), root.rstrip("/").split("/")
    if len(parts) > len(of_root) and all(map(looks_like, parts, of_root)):
        return "/".join(parts[len(of_root) :])
    return path
