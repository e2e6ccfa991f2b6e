"""Which shards of a run a feature file holds: ``2/4``, or ``1,2/4`` after merging some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vidfeat.errors import DataError
from vidfeat.store.records import RunIdentity


@dataclass(frozen=True)
class Shards:
    """Some of ``count`` shards, numbered from 1."""

    numbers: frozenset[int]
    count: int

    @classmethod
    def parse(cls, text: str) -> Shards:
        """The inverse of ``str``.

        Raises:
            DataError: the text is not in this form.
        """
        numbers, _, count = text.partition("/")
        try:
            found = cls(frozenset(map(int, numbers.split(","))), int(count))
        except ValueError:
            raise DataError(f"shards are written as 1,2/4, not {text!r}") from None
        if not all(1 <= number <= found.count for number in found.numbers):
            raise DataError(f"shards are numbered from 1 to their count, not {text!r}")
        return found

    def __str__(self) -> str:
        return f"{_listed(self.numbers)}/{self.count}"

    @property
    def missing(self) -> list[int]:
        """The missing shards."""
        return [number for number in range(1, self.count + 1) if number not in self.numbers]

    def with_others(self, numbers: Iterable[int]) -> Shards:
        """These together with others of the same division."""
        return Shards(self.numbers | frozenset(numbers), self.count)


def of_other_lists(one: RunIdentity, other: RunIdentity) -> bool:
    """Whether the shards are known to divide different lists of videos."""
    return bool(one.division and other.division) and one.division != other.division


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def describe_missing(shards: Shards) -> str:
    """The missing shards in words: ``shard 3 of 4 is missing``."""
    missing = shards.missing
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    if len(missing) == 1:
        return f"shard {shown} of {shards.count} is missing"
    return f"shards {shown} of {shards.count} are missing"


def joined(before: RunIdentity, own: RunIdentity) -> str:
    """The shards that a file holds after a run on it; empty for all videos.

    Args:
        before: identity of the file.
        own: identity of the run.
    """
    if not before.shards or not own.shards:
        return ""
    held, added = Shards.parse(before.shards), Shards.parse(own.shards)
    if held.count != added.count or of_other_lists(before, own):
        return own.shards
    together = held.with_others(added.numbers)
    return str(together) if together.missing else ""
