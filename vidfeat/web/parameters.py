"""Read and check the parameters of requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from starlette.requests import Request

from vidfeat.errors import UsageError

FRESH = {"cache-control": "no-store"}
Name = TypeVar("Name", bound=str)


def integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number.

    Raises:
        UsageError: not a whole number, or outside ``low`` to ``high``.
    """
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 12:
        raise UsageError(f"{name} is {text[:40]!r}, expected a whole number")
    number = int(text)
    if not low <= number <= high:
        raise UsageError(f"{name} is {number}, expected {low} to {high}")
    return number


def seconds_of(request: Request, name: str) -> float | None:
    """Seconds; None if not given.

    Raises:
        UsageError: not a number, or out of range.
    """
    return _number(request, name, 1e7, "seconds")


def share(request: Request, name: str, default: float) -> float:
    """A number from 0 to 1.

    Raises:
        UsageError: not a number, or out of range.
    """
    number = _number(request, name, 1, "0 to 1")
    return default if number is None else number


def _number(request: Request, name: str, most: float, expected: str) -> float | None:
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise UsageError(f"{name} is {text[:40]!r}, expected {expected}")
    return number


def one_of(request: Request, name: str, known: Sequence[Name]) -> Name:
    """One of a few words; the first if none is given.

    Raises:
        UsageError: another word.
    """
    text = request.query_params.get(name) or known[0]
    for word in known:
        if word == text:
            return word
    raise UsageError(f"{name} is {text[:40]!r}, expected one of {', '.join(known)}")


def text_of(request: Request, name: str, most: int) -> str:
    """A text, truncated to a number of characters; empty if not given."""
    return request.query_params.get(name, "")[:most]


def filters(request: Request) -> dict[str, str]:
    """The filters by folder and label."""
    return {name: text_of(request, name, 500) for name in ("folder", "label")}
