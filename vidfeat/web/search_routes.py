"""The routes of searching: with a video, an upload, phrases or several examples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from vidfeat.errors import StoreError, UsageError, VideoError, VidfeatError
from vidfeat.index import Match, Query
from vidfeat.web.answers import DISK_FULL, disk_full, failure, known_video
from vidfeat.web.examples import ExampleQueries, parse_terms
from vidfeat.web.parameters import FRESH, filters, integer, seconds_of, text_of
from vidfeat.web.site import Site
from vidfeat.web.uploads import TooLargeError, Upload, Uploads

MOST_RESULTS = 200


def search(site: Site, request: Request) -> Response:
    """Search with a video or an upload, or a segment of it."""
    start, end = seconds_of(request, "start"), seconds_of(request, "end")
    token = request.query_params.get("upload", "")
    if token:
        upload = site.uploads.get(token)
        if upload is None:
            raise StoreError("this upload no longer exists: drop the file again")
        query = _embedded(site.uploads, upload, start, end)
    else:
        if "video" not in request.query_params:
            raise UsageError("nothing to search with: give video=ID or upload=TOKEN")
        number = known_video(site, integer(request, "video", 0, 0, 1 << 40))
        query = site.index.query(site.catalog.path(number), start, end)
    return _answers(site, request, query, token)


def examples(site: Site, request: Request) -> Response:
    """Search with several examples together."""
    queries = ExampleQueries(
        site.index,
        site.catalog,
        site.uploads.source,
        site.uploads.get,
        partial(_embedded, site.uploads),
    )
    query, terms = queries.make(parse_terms(request.query_params.multi_items()))
    return _answers(site, request, query, "", {"terms": terms})


def _embedded(uploads: Uploads, upload: Upload, start: float | None, end: float | None) -> Query:
    try:
        return uploads.segment(upload, start, end)
    except VideoError as error:
        raise _without_path(error, upload.path, upload.name) from None


def _without_path(error: VideoError, path: Path, name: str) -> VideoError:
    """The error with the file name that the user gave."""
    text = str(error).replace(str(path), name).replace(path.name, name)
    if name not in text:
        text = f"{name}: {text}"
    return VideoError(text, kind=error.kind, path=name, at_seconds=error.at_seconds)


def _answers(
    site: Site,
    request: Request,
    query: Query,
    token: str,
    more: Mapping[str, Any] | None = None,
) -> Response:
    allowed = site.catalog.allowed(**filters(request), text=text_of(request, "text", 500))
    matches = site.index.search(
        query,
        integer(request, "k", 48, 1, MOST_RESULTS),
        per_video=integer(request, "per_video", 1, 1, 20),
        exclude_self=True,
        allowed=allowed,
    )
    return JSONResponse(
        {
            "query": {
                "id": query.video_id if query.video_id >= 0 else None,
                "upload": token or None,
                "name": query.name,
                "start": round(float(query.start_seconds.min()), 3),
                "end": round(float(query.end_seconds.max()), 3),
                "clips": len(query.vectors),
            },
            "results": [_described(site, match) for match in matches],
            **(more or {}),
        },
        headers=FRESH,
    )


def _described(site: Site, match: Match) -> dict[str, Any]:
    return {
        **site.catalog.describe(match.video_id),
        "start": round(match.start_seconds, 3),
        "end": round(match.end_seconds, 3),
        "score": round(match.score, 4),
    }


async def upload(site: Site, request: Request) -> Response:
    """Embed the video in the body, and search with it."""
    name = "".join(
        sign for sign in request.query_params.get("name", "")[:200] if sign.isprintable()
    )
    name = name.replace("/", "_").replace("\\", "_") or "the dropped file"
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdigit() and len(length) < 19 else None
    try:
        path = await site.uploads.receive(request.stream(), announced)
    except TooLargeError:
        most = site.uploads.most_bytes / 1e6
        message = f"the file is larger than the {most:.0f} MB allowed by --max-upload"
        return JSONResponse({"error": message}, 413, headers={**FRESH, "connection": "close"})
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        return disk_full(site)
    except ClientDisconnect:
        return JSONResponse({"error": "the upload was interrupted"}, 400, headers=FRESH)
    try:
        upload = await anyio.to_thread.run_sync(partial(site.uploads.embed, path, name))
        return await anyio.to_thread.run_sync(
            partial(_answers, site, request, upload.query, upload.token)
        )
    except VideoError as error:
        return failure(_without_path(error, path, name))
    except VidfeatError as error:
        return failure(error)
