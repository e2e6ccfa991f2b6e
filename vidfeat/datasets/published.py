"""The published lists of datasets, read without looking at their videos."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vidfeat.datasets import (
    clip_lists,
    hmdb51,
    kinetics,
    path_lists,
    segment_lists,
    sports1m,
    ucf101,
)
from vidfeat.datasets.base import PublishedLists
from vidfeat.errors import UsageError

KINETICS = ("kinetics400", "kinetics600", "kinetics700")
_READERS: dict[str, Callable[[Path, Path | None], PublishedLists]] = {
    "sports1m": sports1m.read_listing,
    "something_v2": clip_lists.read_something,
    "something_v1": partial(clip_lists.read_semicolons, name="something_v1"),
    "jester": partial(clip_lists.read_semicolons, name="jester"),
    "moments": clip_lists.read_moments,
    "diving48": clip_lists.read_diving48,
    "charades": segment_lists.read_charades,
    "epic_verbs": partial(segment_lists.read_epic, word="verb"),
    "epic_nouns": partial(segment_lists.read_epic, word="noun"),
    "activitynet": segment_lists.read_activitynet,
    "thumos14": segment_lists.read_thumos14,
    "list": path_lists.read_listing,
}
PUBLISHED = (*KINETICS, "ucf101", "hmdb51", *_READERS)


def read_listing(
    name: str, root: str | Path, *, lists: str | Path | None = None, split: int = 1
) -> PublishedLists:
    """Read a dataset's published lists, without checking its videos.

    Args:
        name: one of ``PUBLISHED``.
        root: the dataset's folder, where the lists are looked for.
        lists: the folder of the lists, if different.
        split: 1, 2 or 3, for UCF101 and HMDB51.

    Raises:
        UsageError: an unknown name or split.
        DataError: the lists are missing, or not as published.
    """
    root, lists = Path(root), None if lists is None else Path(lists)
    if name in ("ucf101", "hmdb51") and split not in (1, 2, 3):
        raise UsageError(f"{name} has the splits 1, 2 and 3, not {split}")
    if name == "ucf101":
        return ucf101.read_listing(root, lists, split)
    if name == "hmdb51":
        return hmdb51.read_listing(root, lists, split)
    if name in _READERS:
        return _READERS[name](root, lists)
    if name in KINETICS:
        return kinetics.read_listing(root, lists, name=name)
    raise UsageError(f"no published lists for {name!r}: choose one of {', '.join(PUBLISHED)}")
