"""The server of the search page: one index, its pictures and its videos.

=============================  ==================================================================
``GET /``                      the page; ``/static/NAME`` its files
``GET /api/index``             sizes, number of folders, labels
``GET /api/folders``           the folders below ``parent``, or those that contain ``text``
``GET /api/videos``            a page of the videos that pass the filters
``GET /api/groups``            the folder or label of every video, for the map's colours, and
                               which pass the filters
``GET /api/videos/ID``         one video, and whether the browser can play its file
``GET /api/find``              the number of the video at a ``path``, for permanent addresses
``GET /api/search``            results for a video or upload, or a segment of it
``GET /api/examples``          results for several examples together: see ``examples.py``
``POST /api/upload``           embed the video in the body, and search with it
``GET /api/map``               points of the map (202 while it is made)
``GET /thumb/ID``              a picture at second ``t``
``GET /media/ID``              the file, with ranges
``GET /clip/ID``               a segment as MP4, for files that browsers do not play
=============================  ==================================================================

The routes of teaching are in `vidfeat.web.teach_routes`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vidfeat.errors import (
    StoreError,
    VidfeatError,
)
from vidfeat.index import VideoIndex
from vidfeat.index.text_query import takes_text
from vidfeat.web.answers import (
    DISK_FULL,
    NO_WRITING,
    disk_full,
    failure,
    http_error,
    known_video,
    no_writing,
    video_number,
)
from vidfeat.web.cache import Cache
from vidfeat.web.catalog import Catalog
from vidfeat.web.guard import Guard, HostNames
from vidfeat.web.media_routes import clip, media, show_map, thumb
from vidfeat.web.parameters import FRESH, filters, integer, text_of
from vidfeat.web.search_routes import examples, search, upload
from vidfeat.web.site import Site
from vidfeat.web.teach_routes import read_only_answer, teach_routes
from vidfeat.web.transcode import MOST_SECONDS
from vidfeat.web.uploads import Uploads

_SCRIPTS = (
    *("app", "export", "filmstrip", "folders", "grid", "map", "player"),
    *("quality", "rows", "teach", "terms", "words"),
)
STATIC = {
    "page.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "terms.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in _SCRIPTS},
}
MOST_LISTED = 500
MOST_FOLDERS_FOUND = 200
MOST_CLIPS = 2000


def create_app(
    index: VideoIndex,
    catalog: Catalog,
    cache: Cache,
    uploads: Uploads,
    names: HostNames | None = None,
    *,
    read_only: bool = False,
) -> Starlette:
    """Create the application, with its `Guard`.

    Args:
        index: the index.
        catalog: its videos as the page shows them.
        cache: pictures, segments and the map.
        uploads: dropped files.
        names: host names of the server.
        read_only: accept no uploads and no labels.
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
            if error.errno in DISK_FULL:
                return disk_full(site)
            if error.errno in NO_WRITING:
                return no_writing(error)
            raise

    def route(path: str, handler: Callable[..., Response], *names: str) -> Route:
        def endpoint(request: Request) -> Response:
            return answer(lambda: handler(site, request))

        endpoint.__name__ = handler.__name__
        return Route(path, endpoint, methods=list(names) or ["GET"])

    async def received(request: Request) -> Response:
        return read_only_answer() if read_only else await upload(site, request)

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
            route("/api/search", search),
            route("/api/examples", examples),
            Route("/api/upload", received, methods=["POST"]),
            route("/api/map", show_map),
            route("/thumb/{video}", thumb),
            route("/media/{video}", media),
            route("/clip/{video}", clip),
            *teach_routes(site, answer),
        ],
        middleware=[Middleware(Guard, names=names or HostNames())],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


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
    video = known_video(site, video_number(request))
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
