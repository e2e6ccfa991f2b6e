"""The published lists of datasets, without a look at their videos."""

from __future__ import annotations

from pathlib import Path

from vidfeat.datasets import hmdb51, kinetics, sports1m, ucf101
from vidfeat.datasets.base import Listing
from vidfeat.errors import UsageError

PUBLISHED = ("kinetics400", "kinetics600", "kinetics700", "sports1m", "ucf101", "hmdb51")


def read_listing(
    name: str, root: str | Path, *, lists: str | Path | None = None, split: int = 1
) -> Listing:
    """Read a dataset's published lists, without a look at its videos.

    Args:
        name: ``kinetics400``, ``-600`` or ``-700``, ``sports1m``, ``ucf101`` or ``hmdb51``.
        root: the dataset's folder, where the lists are looked for.
        lists: the folder of the lists, where it is another one.
        split: 1, 2 or 3, for UCF101 and HMDB51.

    Raises:
        UsageError: an unknown name or split.
        DataError: the lists are not there, or not as published.
    """
    root, lists = Path(root), None if lists is None else Path(lists)
    if name in ("ucf101", "hmdb51") and split not in (1, 2, 3):
        raise UsageError(f"{name} has the splits 1, 2 and 3, not {split}")
    if name == "ucf101":
        return ucf101.read_listing(root, lists, split)
    if name == "hmdb51":
        return hmdb51.read_listing(root, lists, split)
    if name == "sports1m":
        return sports1m.read_listing(root, lists)
    if name in PUBLISHED:
        return kinetics.read_listing(root, lists, name=name)
    raise UsageError(f"no published lists for {name!r}: there are those of {', '.join(PUBLISHED)}")
