"""Videos of an index by what a user writes: a path, a folder or a pattern."""

from __future__ import annotations

import difflib
import fnmatch

from vidfeat.errors import StoreError
from vidfeat.index.videos import Videos
from vidfeat.system.identities import normal_form


def paths_that_fit(videos: Videos, text: str, where: object) -> list[str]:
    """Paths of the videos that are there and fit.

    Args:
        videos: the table.
        text: a path, a folder (a slash at the end), or a pattern (``*``, ``?``, ``[``).
        where: the index, for messages.

    Raises:
        StoreError: none fits; the message has the nearest path.
    """
    stored = videos.names.find(text)
    if stored is not None:
        return [stored]
    normal = normal_form(text)
    if text.endswith("/"):
        found = [path for path in videos.row_of if normal_form(path).startswith(normal)]
    elif any(sign in text for sign in "*?["):
        found = [p for p in videos.row_of if fnmatch.fnmatchcase(normal_form(p), normal)]
    else:
        close = difflib.get_close_matches(text, list(videos.row_of)[:20_000], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise StoreError(f"{where} has no video {text!r}{hint}")
    if not found:
        raise StoreError(f"{where} has no video that fits {text!r}")
    return found
