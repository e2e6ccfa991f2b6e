"""Near copies on both sides of a split: a head that has seen one knows the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.samples import Samples
from vidfeat.errors import DataError, UsageError
from vidfeat.store.reader import FeatureStore
from vidfeat.system.wording import counted

MOST_CLIPS = 50_000
"""With more, the search would take longer than the training; ``vidfeat duplicates`` does it."""


@dataclass(frozen=True)
class Copies:
    """Pairs of videos of a feature file that are near copies.

    Attributes:
        pairs: two paths each and their similarity, the nearest first.
        note: why none were searched for; empty if they were.
    """

    pairs: tuple[tuple[str, str, float], ...] = ()
    note: str = ""


def find_copies(store: FeatureStore) -> Copies:
    """Near copies among the videos of a feature file, by the rule of ``vidfeat duplicates``.

    It builds a temporary index.
    """
    from vidfeat.index.duplicates import find_duplicates
    from vidfeat.index.video_index import VideoIndex

    if store.num_clips > MOST_CLIPS:
        return Copies(
            note=f"near copies were not searched for among {store.num_clips:,} clips: vidfeat "
            "duplicates lists them"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="vidfeat-") as folder:
            index = VideoIndex.build(
                store.path, Path(folder) / "index", kind="flat", skip_bad_rows=True
            )
            found = find_duplicates(index)
    except DataError:  # vectors that cannot be compared at all
        return Copies()
    except OSError as error:  # no room for the index: training continues without the warning
        return Copies(note=f"near copies were not searched for: {error.strerror or error}")
    except UsageError:  # nearly everything is near everything: these vectors do not reveal copies
        return Copies(
            note="nearly all videos look like copies of each other to this network: it cannot "
            "identify near copies"
        )
    return Copies(tuple((*pair.videos, pair.score) for pair in found.pairs))


def copies_across(
    copies: Copies, samples: Samples, train: NDArray[np.int64], test: NDArray[np.int64]
) -> list[str]:
    """A warning about test videos with a near copy in the training part, if there are any."""
    if not len(test):
        return []
    if copies.note:
        return [copies.note]
    paths = [row.path for row in samples.rows]
    trained, tested = {paths[i] for i in train}, {paths[i] for i in test}
    found: dict[str, tuple[str, float]] = {}
    for one, two, score in copies.pairs:
        for here, there in ((one, two), (two, one)):
            if here in tested and there in trained:
                found.setdefault(here, (there, score))
    if not found:
        return []
    path, (other, score) = next(iter(found.items()))
    remedy = (
        "put copies into one group"
        if samples.has_groups
        else "give the labels a group column that names what belongs together, such as a recording"
    )
    return [
        f"warning: {len(found)} of {counted(len(tested), 'test video')} "
        f"{'has' if len(found) == 1 else 'have'} a near copy in the training "
        f"part, as this network sees them ({path} is like {other}, cosine {score:.3f}): if they "
        f"are copies, the accuracy is inflated; {remedy}; vidfeat duplicates lists all pairs"
    ]
