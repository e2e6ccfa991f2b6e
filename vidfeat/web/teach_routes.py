"""The routes of teaching.

================================  ===============================================================
``GET /api/teach``                classes, revision of the labels, and whether undo is possible
``GET /api/teach/clips``          clips in an order: ``uncertain``, ``certain``, ``mistakes``,
                                  ``labelled``; of ``revision`` or a later one
``GET /api/teach/quality``        cross-validated precision and the learning curve
``GET /api/teach/found``          segments that the head finds in the collection; with
                                  ``format=csv`` all of them as a table
``POST /api/teach/label``         label clips or segments; answered when the labels are on disk
``POST /api/teach/undo``          undo this page's last change
``POST /api/teach/head``          save the head next to the labels
================================  ===============================================================

Requests that write must be JSON: a form of another site cannot send that, and the guard refuses
other origins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard

import anyio.to_thread
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vidfeat.errors import StoreError, UsageError
from vidfeat.heads.teaching_quality import Quality, interval_to_dict
from vidfeat.index.folder import TAUGHT
from vidfeat.web.found_segments import find_segments, segments_csv
from vidfeat.web.label_book import Span
from vidfeat.web.parameters import FRESH, filters, integer, one_of, share, text_of
from vidfeat.web.site import Site
from vidfeat.web.teach_clips import ORDERS, Fitted
from vidfeat.web.teach_session import TeachSession

MOST_CLIPS_LISTED = 500
MOST_SPANS = 2000
MOST_BODY_BYTES = 1 << 20
WAIT_SECONDS = 5.0
_AUTHOR = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HEAD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
Handler = Callable[[Site, Request], Response]
Writer = Callable[[Site, dict[str, Any]], Response]
Answer = Callable[[Callable[[], Response]], Response]


def teach_routes(site: Site, answer: Answer) -> list[Route]:
    """The routes of teaching.

    Args:
        site: state that the handlers share.
        answer: turns errors of the library into responses.
    """

    def get(path: str, handler: Handler) -> Route:
        def endpoint(request: Request) -> Response:
            return answer(lambda: handler(site, request))

        return Route(path, endpoint, methods=["GET"])

    def post(path: str, handler: Writer) -> Route:
        async def endpoint(request: Request) -> Response:
            if site.read_only:
                return read_only_answer()
            value = await json_body(request)
            return await anyio.to_thread.run_sync(partial(answer, partial(handler, site, value)))

        return Route(path, endpoint, methods=["POST"])

    return [
        get("/api/teach", _state),
        get("/api/teach/clips", _clips),
        get("/api/teach/quality", _quality),
        get("/api/teach/found", _found),
        post("/api/teach/label", _label),
        post("/api/teach/undo", _undo),
        post("/api/teach/head", _save_head),
    ]


def read_only_answer() -> JSONResponse:
    """The response to a request that would change something."""
    message = "this page is read-only: start vidfeat serve without --read-only to change something"
    return JSONResponse({"error": message}, status_code=403, headers=FRESH)


async def json_body(request: Request) -> dict[str, Any]:
    """The body of a request: a JSON object.

    Raises:
        HTTPException: 415 for another type, 413 for too much, 400 for anything but a JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send JSON, with the content type application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY_BYTES:
                raise HTTPException(413, f"the request is larger than {MOST_BODY_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the request was interrupted") from None
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


# ---------------------------------------------------------------------- reading


def _state(site: Site, request: Request) -> Response:
    session = site.teach
    session.look_again()
    author = text_of(request, "tab", 40)
    return JSONResponse(_state_of(session, author), headers=FRESH)


def _state_of(session: TeachSession, author: str) -> dict[str, Any]:
    return {
        "revision": session.revision,
        "labels": len(session.book),
        "classes": [{"name": name, "labels": count} for name, count in session.book.classes],
        "can_undo": session.book.undoable(author),
        "file": f"{session.index.path.resolve().name}/{session.book.path.name}",
    }


def _clips(site: Site, request: Request) -> Response:
    session = site.teach
    kind = one_of(request, "order", ORDERS)
    name = text_of(request, "class", 200)
    first = integer(request, "first", 0, 0, 1 << 31)
    count = integer(request, "count", 60, 1, MOST_CLIPS_LISTED)
    revision = integer(request, "revision", 0, 0, 1 << 40)
    allowed = site.catalog.allowed(**filters(request), text=text_of(request, "text", 500))
    state = session.fitted(revision, WAIT_SECONDS)
    order = session.order(state, kind, name, allowed)
    return JSONResponse(
        {
            "revision": state.revision,
            "stamp": f"{state.revision}-{state.strength:g}",
            "has_head": state.head is not None,
            "total": len(order),
            "clips": [_clip(site, state, row) for row in order[first : first + count].tolist()],
        },
        headers=FRESH,
    )


def _clip(site: Site, state: Fitted, row: int) -> dict[str, Any]:
    session, clips = site.teach, site.teach.clips
    label = int(state.labels[row])
    value = {
        **site.catalog.describe(int(clips.video[row])),
        "clip": row,
        "start": round(float(clips.start_seconds[row]), 3),
        "end": round(float(clips.end_seconds[row]), 3),
        "taught": session.names[label] if label >= 0 else None,
        "guess": None,
        "score": None,
    }
    if state.head is not None and state.scores is not None:
        best = int(state.scores[row].argmax())
        value["guess"] = session.names[int(state.head.classes[best])]
        value["score"] = round(float(state.scores[row, best]), 4)
    return value


def _quality(site: Site, _request: Request) -> Response:
    session = site.teach
    session.fitted(session.revision, WAIT_SECONDS)
    revision, judged = session.quality
    return JSONResponse(
        {
            "revision": session.revision,
            "judged": revision,
            **({"quality": None} if judged is None else {"quality": _judged(session, judged)}),
        },
        headers=FRESH,
    )


def _judged(session: TeachSession, judged: Quality) -> dict[str, Any]:
    return {
        "accuracy": interval_to_dict(judged.accuracy),
        "folds": judged.folds,
        "classes": [
            {
                "name": session.names[one.number],
                "labelled": one.labelled,
                "predicted": one.predicted,
                "precision": interval_to_dict(one.precision),
                "recall": round(one.recall, 4),
            }
            for one in judged.classes
        ],
        "curve": [
            {"labels": count, **(interval_to_dict(interval) or {})}
            for count, interval in judged.curve
        ],
    }


def _found(site: Site, request: Request) -> Response:
    session = site.teach
    state = session.fitted(session.revision, WAIT_SECONDS)
    if state.head is None or state.scores is None:
        raise UsageError("a head needs labels of two classes or more: label some clips first")
    name = text_of(request, "class", 200)
    number = session.names.index(name) if name in session.names else -1
    columns = np.flatnonzero(state.head.classes == number)
    if not len(columns):
        raise UsageError(f"class is {name[:80]!r}, expected one that has labels")
    threshold = share(request, "threshold", 0.5)
    clips = session.clips
    allowed = site.catalog.allowed(**filters(request), text=text_of(request, "text", 500))
    shown = clips.alive if allowed is None else clips.alive & allowed[clips.video]
    segments = find_segments(
        state.scores[:, columns[0]],
        clips.video,
        clips.start_seconds,
        clips.end_seconds,
        allowed=shown,
        threshold=threshold,
    )
    if one_of(request, "format", ("json", "csv")) == "csv":
        table = segments_csv((site.catalog.path(one.video), name, one) for one in segments)
        return csv_answer(table, "found.csv")
    first = integer(request, "first", 0, 0, 1 << 31)
    count = integer(request, "count", 60, 1, MOST_CLIPS_LISTED)
    return JSONResponse(
        {
            "total": len(segments),
            "videos": len({one.video for one in segments}),
            "segments": [
                {
                    **site.catalog.describe(one.video),
                    "start": round(one.start_seconds, 3),
                    "end": round(one.end_seconds, 3),
                    "best": round(one.best_seconds, 3),
                    "score": round(one.score, 4),
                    "clips": one.clips,
                }
                for one in segments[first : first + count]
            ],
        },
        headers=FRESH,
    )


def csv_answer(table: str, name: str) -> Response:
    """A table to download as a file."""
    headers = {**FRESH, "content-disposition": f'attachment; filename="{name}"'}
    return Response(table, media_type="text/csv; charset=utf-8", headers=headers)


# ---------------------------------------------------------------------- writing


def _label(site: Site, value: dict[str, Any]) -> Response:
    session = site.teach
    author = _author(value)
    label = value.get("label")
    if label is not None and not isinstance(label, str):
        raise UsageError("label is not a string; null removes a label")
    seen = value.get("revision", 0)
    if not isinstance(seen, int) or isinstance(seen, bool):
        raise UsageError("revision is not a whole number")
    spans = _spans(site, value.get("spans"))
    # Labels that another page has given in the meantime are reported; the later label wins.
    replaced = [
        {"path": span.path, "label": held.label}
        for span in spans
        if (held := session.book.get(span)) is not None
        and held.label != label
        and session.book.changed_since(span, seen)
    ]
    session.label(spans, label, author)
    return JSONResponse({**_state_of(session, author), "replaced": replaced}, headers=FRESH)


def _spans(site: Site, given: object) -> list[Span]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_SPANS:
        raise UsageError(f"spans is not a list of 1 to {MOST_SPANS} clips or segments")
    return [_span(site, one) for one in given]


def _span(site: Site, given: object) -> Span:
    """A clip by its number, or a segment by video, start and end."""
    if not isinstance(given, dict):
        raise UsageError('one of spans is not {"clip": N} or {"video": N, "start": S, "end": S}')
    session = site.teach
    if "clip" in given:
        row = given["clip"]
        if not _is_whole(row) or not 0 <= row < len(session.clips) or not session.clips.alive[row]:
            raise StoreError("there is no such clip: the page is older than the index")
        return session.span_of(row)
    video = given.get("video")
    if not _is_whole(video) or not site.catalog.has(video):
        raise StoreError("there is no such video")
    start, end = (_moment(given.get(name), name) for name in ("start", "end"))
    if end <= start:
        raise UsageError(f"the segment {start:g} to {end:g} s is empty")
    return Span.of(site.catalog.path(video), start, end)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 40


def _moment(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e7:
        raise UsageError(f"{name} is not a number of seconds")
    return float(value)


def _author(value: dict[str, Any]) -> str:
    author = value.get("tab", "")
    if not isinstance(author, str) or not _AUTHOR.fullmatch(author):
        raise UsageError("tab is not a name of letters and digits")
    return author


def _undo(site: Site, value: dict[str, Any]) -> Response:
    session = site.teach
    author = _author(value)
    back = session.undo(author)
    return JSONResponse(
        {
            **_state_of(session, author),
            "undone": [
                {
                    "path": span.path,
                    "label": held.label if (held := session.book.get(span)) else None,
                }
                for span in back
            ],
        },
        headers=FRESH,
    )


def _save_head(site: Site, value: dict[str, Any]) -> Response:
    session = site.teach
    name = value.get("name", "head")
    if not isinstance(name, str) or not _HEAD_NAME.fullmatch(name) or name.endswith((" ", ".")):
        raise UsageError(
            "the name of a head consists of letters, digits, spaces, dots, - and _, and starts "
            "with a letter or digit"
        )
    head = session.head()
    folder = session.index.path / TAUGHT[1]
    target = folder / name
    if target.exists() and value.get("replace") is not True:
        message = f"a head {name!r} already exists"
        return JSONResponse({"error": message, "exists": True}, status_code=409, headers=FRESH)
    folder.mkdir(exist_ok=True)
    head.save(target)
    return JSONResponse(
        {
            "name": name,
            "folder": str(target),
            "classes": list(head.classes),
            "training": dict(head.training),
        },
        headers=FRESH,
    )
