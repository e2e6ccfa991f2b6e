"""Which shards of a run a feature file holds: ``2/4``, or ``1,2/4`` after a merge of some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vidfeat.errors import DataError


@dataclass(frozen=True)
class Shards:
    """Some of ``count`` shards, numbered from 1."""

    numbers: frozenset[int]
    count: int

    @classmethod
    def parse(cls, text: str) -> Shards:
        """The reverse of ``str``.

        Raises:
            DataError: another text.
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
        """The shards that are not here."""
        return [number for number in range(1, self.count + 1) if number not in self.numbers]

    def with_others(self, numbers: Iterable[int]) -> Shards:
        """These and others of the same division."""
        return Shards(self.numbers | frozenset(numbers), self.count)


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def describe_missing(shards: Shards) -> str:
    """``shard 3 of 4 is missing``."""
    missing = shards.missing
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    if len(missing) == 1:
        return f"shard {shown} of {shards.count} is missing"
    return f"shards {shown} of {shards.count} are missing"


def joined(before: str, own: str) -> str:
    """What a file holds after a run on it.

    Args:
        before: shards that the file held, nothing for all videos.
        own: shards of the run, nothing for all videos.
    """
    if not before or not own:
        return ""
    held, added = Shards.parse(before), Shards.parse(own)
    if held.count != added.count:
        return own
    together = held.with_others(added.numbers)
    return str(together) if together.missing else ""
