"""Search: an index of clip vectors on disk, which finds segments of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidfeat.index.folder import copy_index, describe_index, verify_index
from vidfeat.index.match import Match, Query, SearchOptions
from vidfeat.index.video_index import VideoIndex

if TYPE_CHECKING:
    from vidfeat.index.update import Change as Change
    from vidfeat.index.update import change_index as change_index

__all__ = [
    "Change",
    "Match",
    "Query",
    "SearchOptions",
    "VideoIndex",
    "change_index",
    "copy_index",
    "describe_index",
    "verify_index",
]


def __getattr__(name: str) -> Any:
    # Code that changes an index is not loaded for a search.
    if name in ("Change", "change_index"):
        from vidfeat.index import update

        return getattr(update, name)
    raise AttributeError(f"module 'vidfeat.index' has no attribute {name!r}")
