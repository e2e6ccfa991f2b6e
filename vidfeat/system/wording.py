"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 video``, ``1,200 videos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
