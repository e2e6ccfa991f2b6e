"""Select videos of an index by path, folder or pattern."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError, UsageError
from vidfeat.index.videos import Videos
from vidfeat.system.identities import normal_form


def paths_that_fit(videos: Videos, text: str, where: object) -> list[str]:
    """Paths of the videos that match a text.

    Args:
        videos: the table.
        text: a path, a folder (a slash at the end), or a pattern (``*``, ``?``, ``[``).
        where: the index, for messages.

    Raises:
        StoreError: no video fits; the message suggests a similar path.
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


def videos_that_pass(
    videos: Videos,
    only: Sequence[str],
    only_labels: Sequence[str],
    labels: Mapping[str, str],
    where: str,
) -> NDArray[np.bool_]:
    """Which videos pass a filter by path and label, (videos,).

    Args:
        videos: the table.
        only: paths, folders (a slash at the end) or patterns, any of which fits; empty for all.
        only_labels: any of these labels; empty for all.
        labels: path to label.
        where: the index, for messages.

    Raises:
        StoreError: a path or pattern that no video fits.
        UsageError: no video has one of the labels.
    """
    mask = np.array(videos["alive"], dtype=bool)
    if only:
        fits = np.zeros(len(mask), dtype=bool)
        for text in only:
            fits[[videos.row_of[path] for path in paths_that_fit(videos, text, where)]] = True
        mask &= fits
    if only_labels:
        wanted = set(only_labels)
        missing = wanted - set(labels.values())
        if missing:
            told = ", ".join(sorted(set(labels.values()))[:10]) or "none"
            raise UsageError(
                f"no video of {where} has the label {min(missing)!r}; known labels: {told}",
                field="only_labels",
            )
        mask &= np.array([labels.get(path) in wanted for path in videos.paths], dtype=bool)
    return mask
