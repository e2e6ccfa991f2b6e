"""The server of the search page: answers about one index, its pictures and its videos.

=============================  ==================================================================
``GET /``                      the page; ``/static/NAME`` its parts
``GET /api/index``             sizes, number of folders, labels
``GET /api/folders``           the folders below ``parent``, or those that contain ``text``
``GET /api/videos``            a page of the videos that pass the filters
``GET /api/groups``            the folder or label of every video, for the map's colours, and
                               which pass the filters
``GET /api/videos/ID``         one video, and whether the browser can play its file
``GET /api/find``              the number of the video at a ``path``, for addresses that last
``GET /api/search``            answers to a video or upload, or a stretch of it
``GET /api/examples``          answers to several examples together: see ``examples.py``
``POST /api/upload``           embed the video in the body, and answer to it
``GET /api/map``               points of the map (202 while it is made)
``GET /thumb/ID``              a picture at second ``t``
``GET /media/ID``              the file, with ranges
``GET /clip/ID``               a stretch as MP4, for files that browsers do not play
=============================  ==================================================================

The routes of teaching are in `vidfeat.web.teach_routes`.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from vidfeat.errors import (
    FingerprintError,
    LockedError,
    StoreError,
    UsageError,
    VideoError,
    VidfeatError,
    WeightsError,
)
from vidfeat.index import Match, Query, VideoIndex
from vidfeat.index.text_query import takes_text
from vidfeat.web.cache import Cache
from vidfeat.web.catalog import Catalog, MediaFile
from vidfeat.web.examples import ExampleQueries, parse_terms
from vidfeat.web.guard import Guard, HostNames
from vidfeat.web.parameters import FRESH, filters, integer, seconds_of, text_of
from vidfeat.web.site import Site
from vidfeat.web.teach_routes import read_only_answer, teach_routes
from vidfeat.web.transcode import MOST_SECONDS, transcode, transcode_apart
from vidfeat.web.uploads import TooLargeError, Upload, Uploads

STATIC = {
    "page.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "grid.js": "text/javascript; charset=utf-8",
    "player.js": "text/javascript; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "folders.js": "text/javascript; charset=utf-8",
    "terms.js": "text/javascript; charset=utf-8",
    "terms.css": "text/css; charset=utf-8",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in ("export", "filmstrip", "quality", "rows", "teach")
    },
    "icon.svg": "image/svg+xml",
}
MOST_RESULTS = 200
MOST_LISTED = 500
MOST_FOLDERS_FOUND = 200
MOST_CLIPS = 2000
THUMBNAIL_WIDTH = 320
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)
_KEEP = {"cache-control": "private, max-age=86400"}


def create_app(
    index: VideoIndex,
    catalog: Catalog,
    cache: Cache,
    uploads: Uploads,
    names: HostNames | None = None,
    *,
    read_only: bool = False,
) -> Starlette:
    """The application, guarded.

    Args:
        index: the index.
        catalog: what of it is shown.
        cache: pictures, stretches and the map.
        uploads: dropped files.
        names: what the server is called.
        read_only: take no upload and no label.
    """
    site = Site(index, catalog, cache, uploads, read_only)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        site.close()
        uploads.close()

    def answer(make: Callable[[], Response]) -> Response:
        try:
            return make()
        except VidfeatError as error:
            return failure(error)
        except OSError as error:
            if error.errno in _DISK_FULL:
                return _disk_full(site)
            if error.errno in _NO_WRITING:
                return _no_writing(error)
            raise

    def route(path: str, handler: Callable[..., Response], *names: str) -> Route:
        def endpoint(request: Request) -> Response:
            return answer(lambda: handler(site, request))

        endpoint.__name__ = handler.__name__
        return Route(path, endpoint, methods=list(names) or ["GET"])

    async def upload(request: Request) -> Response:
        if read_only:
            return read_only_answer()
        return await _upload(site, request)

    app = Starlette(
        routes=[
            route("/", _page),
            route("/static/{name}", _static),
            route("/api/index", _index),
            route("/api/folders", _folders),
            route("/api/find", _find),
            route("/api/videos", _videos),
            route("/api/groups", _groups),
            route("/api/videos/{video}", _video),
            route("/api/search", _search),
            route("/api/examples", _examples),
            Route("/api/upload", upload, methods=["POST"]),
            route("/api/map", _map),
            route("/thumb/{video}", _thumb),
            route("/media/{video}", _media),
            route("/clip/{video}", _clip),
            *teach_routes(site, answer),
        ],
        middleware=[Middleware(Guard, names=names or HostNames())],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


# ---------------------------------------------------------------------- errors and parameters


def failure(error: VidfeatError) -> JSONResponse:
    """An error of the library as an answer; none of them is the server's fault."""
    status = 400
    if isinstance(error, (FingerprintError, LockedError, WeightsError)):
        status = 409
    elif isinstance(error, StoreError):
        status = 404
    elif isinstance(error, VideoError):
        status = 422
    return JSONResponse({"error": str(error)}, status_code=status, headers=FRESH)


def _disk_full(site: Site) -> JSONResponse:
    message = (
        f"the disk of the folder {site.cache.folder} is full, or that of the uploads: make room "
        "there, or start vidfeat serve with another --cache"
    )
    return JSONResponse({"error": message}, status_code=507, headers=FRESH)


def _no_writing(error: OSError) -> JSONResponse:
    message = f"{error.filename}: {error.strerror}: make the folder of the index writable"
    return JSONResponse({"error": message}, status_code=403, headers=FRESH)


def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {**(error.headers or {}), **FRESH}
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=headers)


def _video_number(request: Request) -> int:
    text = request.path_params["video"]
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise StoreError("there is no such video")
    return int(text)


def _known_video(site: Site, number: int) -> int:
    if not site.catalog.has(number):
        raise StoreError("there is no such video")
    return number


def _is_upload(request: Request) -> bool:
    return bool(request.path_params["video"].startswith("u"))


def _source(site: Site, request: Request) -> MediaFile:
    """The file of a video or of an upload."""
    if _is_upload(request):
        upload = site.uploads.get(request.path_params["video"][1:])
        if upload is None:
            raise StoreError("there is no such upload any more: drop the file again")
        return MediaFile(upload.path, upload.path.stat())
    video = _known_video(site, _video_number(request))
    file = site.catalog.file(video)
    if file is None:
        raise StoreError(site.catalog.why_missing(video))
    return file


# ---------------------------------------------------------------------- the page


def _page(_site: Site, _request: Request) -> Response:
    return _file_of_page("page.html")


def _static(_site: Site, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    return _file_of_page(name)


def _file_of_page(name: str) -> Response:
    body = (files("vidfeat.web") / "static" / name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"cache-control": "no-cache"})


# ---------------------------------------------------------------------- the videos


def _index(site: Site, _request: Request) -> Response:
    head = site.index.head
    return JSONResponse(
        {
            "name": site.index.name,
            "videos": head.num_videos,
            "clips": head.num_clips,
            "dimension": head.dimension,
            "kind": head.kind,
            "model": head.encoder.get("model", ""),
            "version": f"{head.space_fingerprint[:8]}-{head.generation}-{head.created}",
            "folders": len(site.catalog.folders),
            "labels": site.catalog.label_counts(),
            "text": takes_text(site.index),
            "most_upload_bytes": site.uploads.most_bytes,
            "most_clip_seconds": MOST_SECONDS,
            "read_only": site.read_only,
        },
        headers=FRESH,
    )


def _folders(site: Site, request: Request) -> Response:
    tree = site.catalog.folders
    text = text_of(request, "text", 500)
    if text:
        total, found = tree.matching(text, MOST_FOLDERS_FOUND)
    else:
        found = tree.level(request.query_params.get("parent", "")[:4096])
        total = len(found)
    return JSONResponse({"total": total, "folders": found}, headers=FRESH)


def _find(site: Site, request: Request) -> Response:
    path = request.query_params.get("path", "")
    row = site.catalog.find(path)
    if row is None:
        raise StoreError(f"there is no video {path[:200]!r} in this index")
    return JSONResponse({"id": row}, headers=FRESH)


def _videos(site: Site, request: Request) -> Response:
    first = integer(request, "first", 0, 0, 1 << 31)
    count = integer(request, "count", 60, 1, MOST_LISTED)
    allowed = site.catalog.allowed(**filters(request), text=text_of(request, "text", 500))
    total, rows = site.catalog.page(first, count, allowed)
    return JSONResponse(
        {"total": total, "videos": [site.catalog.describe(row) for row in rows]}, headers=FRESH
    )


def _groups(site: Site, request: Request) -> Response:
    names, groups = site.catalog.groups()
    allowed = site.catalog.allowed(**filters(request), text=text_of(request, "text", 500))
    shown = None if allowed is None else allowed.astype(int).tolist()
    return JSONResponse({"names": names, "groups": groups, "shown": shown}, headers=FRESH)


def _video(site: Site, request: Request) -> Response:
    video = _known_video(site, _video_number(request))
    file = site.catalog.file(video)
    start, end = site.index.times(site.catalog.path(video))
    clips = np.stack([start, end], axis=1)[:MOST_CLIPS].round(3).tolist()
    return JSONResponse(
        {
            **site.catalog.describe(video),
            "missing": file is None,
            "why_missing": site.catalog.why_missing(video) if file is None else "",
            "playable": file is not None and site.media_type(file) is not None,
            "clips": clips,
        },
        headers=FRESH,
    )


# ---------------------------------------------------------------------- searching


def _search(site: Site, request: Request) -> Response:
    start, end = seconds_of(request, "start"), seconds_of(request, "end")
    token = request.query_params.get("upload", "")
    if token:
        upload = site.uploads.get(token)
        if upload is None:
            raise StoreError("there is no such upload any more: drop the file again")
        query = _embedded(site.uploads, upload, start, end)
    else:
        if "video" not in request.query_params:
            raise UsageError("what to search with: video=ID or upload=TOKEN")
        number = _known_video(site, integer(request, "video", 0, 0, 1 << 40))
        query = site.index.query(site.catalog.path(number), start, end)
    return _answers(site, request, query, token)


def _examples(site: Site, request: Request) -> Response:
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
        return uploads.stretch(upload, start, end)
    except VideoError as error:
        raise _without_path(error, upload.path, upload.name) from None


def _without_path(error: VideoError, path: Path, name: str) -> VideoError:
    """The error under the name that the user knows the file by."""
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


async def _upload(site: Site, request: Request) -> Response:
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
        if error.errno not in _DISK_FULL:
            raise
        return _disk_full(site)
    except ClientDisconnect:
        return JSONResponse({"error": "the upload broke off"}, 400, headers=FRESH)
    try:
        upload = await anyio.to_thread.run_sync(partial(site.uploads.embed, path, name))
        return await anyio.to_thread.run_sync(
            partial(_answers, site, request, upload.query, upload.token)
        )
    except VideoError as error:
        return failure(_without_path(error, path, name))
    except VidfeatError as error:
        return failure(error)


# ---------------------------------------------------------------------- pictures and videos


def _thumb(site: Site, request: Request) -> Response:
    if _is_upload(request):
        raise StoreError("there is no such picture")
    file = _source(site, request)
    second = round(seconds_of(request, "t") or 0.0, 1)

    made: list[bytes] = []

    def make(path: Path) -> None:
        from vidfeat.video.thumbnails import clip_frames, jpeg

        with site.work:
            frame = clip_frames(file.path, second, second, 1)[0]
            made.append(jpeg(frame, THUMBNAIL_WIDTH))
        path.write_bytes(made[0])

    try:
        path = site.cache.get(f"thumb\0{file.key}\0{second}\0{THUMBNAIL_WIDTH}", ".jpg", make)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        if not made:  # not even a folder could be made
            from vidfeat.video.thumbnails import clip_frames, jpeg

            with site.work:
                made.append(jpeg(clip_frames(file.path, second, second, 1)[0], THUMBNAIL_WIDTH))
        return Response(made[0], media_type="image/jpeg", headers=FRESH)
    return _file(path, "image/jpeg")


def _media(site: Site, request: Request) -> Response:
    file = _source(site, request)
    media_type = site.media_type(file)
    if media_type is None:
        raise HTTPException(415, "browsers do not play this file: ask for a clip of it")
    return _file(file.path, media_type)


def _clip(site: Site, request: Request) -> Response:
    file = _source(site, request)
    start = seconds_of(request, "start") or 0.0
    end = seconds_of(request, "end")
    end = start + MOST_SECONDS if end is None else min(end, start + MOST_SECONDS)
    if end <= start:
        raise UsageError(f"the stretch {start:g} to {end:g} s is empty")

    # A dropped file is a stranger's: whatever reads it may die of it.
    write = transcode_apart if _is_upload(request) else transcode

    def make(path: Path) -> None:
        with site.work:
            write(file.path, path, start, end)

    path = site.cache.get(f"clip\0{file.key}\0{start:.3f}\0{end:.3f}", ".mp4", make)
    return _file(path, "video/mp4")


def _file(path: Path, media_type: str) -> Response:
    try:
        status = path.stat()
    except OSError:
        raise StoreError("the file is gone: ask again") from None
    return FileResponse(path, media_type=media_type, stat_result=status, headers=_KEEP)


def _map(site: Site, _request: Request) -> Response:
    path = site.map.path(wait_seconds=0.2)
    if path is None:
        return JSONResponse({"state": "being made"}, status_code=202, headers=FRESH)
    return _file(path, "application/octet-stream")
