"""The two kinds of callback for long work, with the same two names everywhere."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""``progress(done, total)``: units finished so far, of how many; None if that is not known."""

Report = Callable[[str], None]
"""``report(line)``: what is being done or was found, one line for a person to read."""


def no_report(_line: str) -> None:
    """Discards the line."""
