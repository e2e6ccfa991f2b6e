"""Queries of several examples from the page: phrases, segments of videos, uploads.

``GET /api/examples`` takes each of these any number of times, with the prefix ``not_`` for what the
results should not resemble:

====================  ==============================================================
``phrase``            what to find, in words
``like``              ``START,END,PATH``: a segment of a video, in seconds; the whole
                      video if both are empty
``like_upload``       ``START,END,TOKEN``: the same for an upload
====================  ==============================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vidfeat.errors import StoreError, UsageError
from vidfeat.index import Query, VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.web.catalog import Catalog
from vidfeat.web.uploads import Upload

MOST_TERMS = 64
KINDS = ("phrase", "like", "like_upload")


@dataclass(frozen=True)
class Term:
    """One requested example.

    Attributes:
        kind: one of ``KINDS``.
        value: the phrase, the path or the token.
        start_seconds: where the segment starts; None for the video's start.
        end_seconds: where it ends; None for the video's end.
        negative: whether results should not resemble it.
    """

    kind: str
    value: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    negative: bool = False


def parse_terms(parameters: Iterable[tuple[str, str]]) -> list[Term]:
    """The examples among the parameters of a request, in their order.

    Raises:
        UsageError: too many examples, none, or seconds that are not numbers.
    """
    terms = []
    for name, value in parameters:
        kind = name.removeprefix("not_")
        if kind not in KINDS:
            continue
        negative = name != kind
        if kind == "phrase":
            terms.append(Term(kind, value, negative=negative))
            continue
        parts = value.split(",", 2)
        if len(parts) != 3:
            raise UsageError(f"{name} is {value[:60]!r}, expected START,END,PATH")
        terms.append(Term(kind, parts[2], _seconds(parts[0]), _seconds(parts[1]), negative))
    if not terms:
        raise UsageError("nothing to search with: give phrase=TEXT, or like=START,END,PATH")
    if len(terms) > MOST_TERMS:
        raise UsageError(f"{len(terms)} examples, expected {MOST_TERMS} or fewer")
    return terms


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1e7:
        raise UsageError(f"a segment from or to {text[:40]!r}, expected seconds")
    return number


class ExampleQueries:
    """Makes one query of several examples.

    Args:
        index: the index to search.
        catalog: its videos as the page sees them.
        source: has the text tower.
        find_upload: finds an upload by its token.
        upload: makes a query of a segment of an upload; see ``search_routes.py``.
    """

    def __init__(
        self,
        index: VideoIndex,
        catalog: Catalog,
        source: QuerySource,
        find_upload: Callable[[str], Upload | None],
        upload: Callable[[Upload, float | None, float | None], Query],
    ) -> None:
        self._index = index
        self._catalog = catalog
        self._source = source
        self._find_upload = find_upload
        self._upload = upload

    def make(self, terms: list[Term]) -> tuple[Query, list[dict[str, Any]]]:
        """The query, and what the page shows of each example.

        Raises:
            StoreError: a video or an upload does not exist.
            UsageError: no positive example, no text tower, or an invalid segment.
            DataError: the examples cancel each other.
        """
        made = [(term, self._one(term)) for term in terms]
        (query,) = self._index.combined(
            [one for term, one in made if not term.negative],
            [one for term, one in made if term.negative],
            together=True,
        )
        return query, [self._shown(term, one) for term, one in made]

    def _one(self, term: Term) -> Query:
        if term.kind == "phrase":
            return self._source.of_text(term.value)
        if term.kind == "like":
            row = self._catalog.find(term.value)
            if row is None:
                raise StoreError(f"there is no video {term.value[:200]!r} in this index")
            return self._index.query(self._catalog.path(row), term.start_seconds, term.end_seconds)
        upload = self._find_upload(term.value)
        if upload is None:
            raise StoreError("this upload no longer exists: drop the file again")
        return self._upload(upload, term.start_seconds, term.end_seconds)

    def _shown(self, term: Term, query: Query) -> dict[str, Any]:
        values: dict[str, Any] = {
            "kind": term.kind,
            "value": term.value,
            "negative": term.negative,
            "name": query.name,
        }
        if term.kind != "phrase":
            values |= {
                "id": query.video_id if query.video_id >= 0 else None,
                "name": query.name.rpartition("/")[2],
                "start": round(float(query.start_seconds.min()), 3),
                "end": round(float(query.end_seconds.max()), 3),
                "whole": term.start_seconds is None and term.end_seconds is None,
            }
        return values
