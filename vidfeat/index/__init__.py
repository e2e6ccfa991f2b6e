"""Search: an index of clip vectors on disk, and answers that are stretches of videos."""

from __future__ import annotations

from vidfeat.index.folder import copy_index, describe_index, verify_index
from vidfeat.index.match import Match, Query, SearchOptions
from vidfeat.index.update import Change, change_index
from vidfeat.index.video_index import VideoIndex

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
