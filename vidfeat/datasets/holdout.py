"""A share of each class held out for testing, if a dataset has no parts of its own.

The choice is made by a hash of the group or path: it does not change when videos are added.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.errors import DataError
from vidfeat.system.wording import counted


def hold_out(samples: Sequence[Sample], share: float) -> tuple[Sample, ...]:
    """Mark a share of each class as its test part; whole groups if samples have them.

    A group with videos of several classes is held out for all of them. Every class keeps a group
    to train on: if the picks of other classes would take its last one, that group stays.
    """
    members: dict[int, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        unit = _unit(sample)
        members[sample.labels[0]][unit] = hashlib.sha256(unit.encode()).hexdigest()
    ordered = {label: sorted(units, key=units.__getitem__) for label, units in members.items()}
    chosen: set[str] = set()
    for units in ordered.values():
        count = min(max(1, round(share * len(units))), len(units) - 1)
        chosen |= set(units[:count])
    for label in sorted(ordered):
        if chosen.issuperset(ordered[label]):
            chosen.remove(ordered[label][-1])
    for label in sorted(ordered):
        if chosen.isdisjoint(ordered[label]):
            chosen |= _spare_unit(ordered, chosen, label)
    return tuple(
        replace(sample, part="test" if _unit(sample) in chosen else "train") for sample in samples
    )


def _spare_unit(ordered: dict[int, list[str]], chosen: set[str], label: int) -> set[str]:
    """A group of a class that is without a test video, if no class needs it for training."""
    for unit in ordered[label]:
        if not any(chosen | {unit} >= set(units) for units in ordered.values() if unit in units):
            return {unit}
    return set()


def _unit(sample: Sample) -> str:
    return sample.group or sample.path


def describe_hold_out(samples: Sequence[Sample], classes: Sequence[str], share: float) -> str:
    """A note on what was actually held out."""
    by = "group" if any(sample.group for sample in samples) else "path"
    total = Counter(sample.labels[0] for sample in samples)
    held = Counter(sample.labels[0] for sample in samples if sample.part == "test")
    if not held:
        return f"nothing could be held out for testing: each class has only one {by}"
    shares = [held[label] / total[label] for label in total]
    low, high = min(shares), max(shares)
    spread = f"{low:.0%}" if round(low, 2) == round(high, 2) else f"{low:.0%} to {high:.0%}"
    note = (
        f"held out for testing, by a hash of the {by}: {held.total()} of "
        f"{counted(total.total(), 'video')}, {spread} of each class (asked for: {share:.0%})"
    )
    without = [classes[label] for label in sorted(total) if not held[label]]
    if without:
        more = ", ..." if len(without) > 5 else ""
        note += f"; no video of {', '.join(without[:5])}{more} could be held out"
    return note


def with_evaluation_part(dataset: VideoDataset, share: float) -> VideoDataset:
    """The dataset with a test part: if it has only a training part, a share is held out.

    Raises:
        DataError: none can be held out without taking a class out of training.
    """
    if {sample.part for sample in dataset.samples} - {"unused"} != {"train"}:
        return dataset
    train = [sample for sample in dataset.samples if sample.part == "train"]
    samples = hold_out(train, share)
    note = describe_hold_out(samples, dataset.classes, share)
    if all(sample.part == "train" for sample in samples):
        raise DataError(
            f"{dataset.name} under {dataset.root}: {note}; add videos of a second group to some "
            "class, or choose the videos to test on (folders train and test, or a split column); a "
            "network can be measured on all of them with part 'all'"
        )
    return replace(dataset, samples=samples, notes=(*dataset.notes, note))
