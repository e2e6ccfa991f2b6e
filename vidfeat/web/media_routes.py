"""Pictures, videos and the map."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from vidfeat.errors import StoreError, UsageError
from vidfeat.web.answers import DISK_FULL, is_upload, source_of
from vidfeat.web.parameters import FRESH, seconds_of
from vidfeat.web.site import Site
from vidfeat.web.transcode import MOST_SECONDS, transcode, transcode_apart

THUMBNAIL_WIDTH = 320
_KEEP = {"cache-control": "private, max-age=86400"}


def thumb(site: Site, request: Request) -> Response:
    """A picture of a video at second ``t``."""
    if is_upload(request):
        raise StoreError("there is no such picture")
    file = source_of(site, request)
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
        if error.errno not in DISK_FULL:
            raise
        if not made:  # not even a folder could be created
            from vidfeat.video.thumbnails import clip_frames, jpeg

            with site.work:
                made.append(jpeg(clip_frames(file.path, second, second, 1)[0], THUMBNAIL_WIDTH))
        return Response(made[0], media_type="image/jpeg", headers=FRESH)
    return _file(path, "image/jpeg")


def media(site: Site, request: Request) -> Response:
    """The file of a video, with ranges."""
    file = source_of(site, request)
    media_type = site.media_type(file)
    if media_type is None:
        raise HTTPException(415, "browsers do not play this file: request a clip of it")
    return _file(Path(file.path), media_type)


def clip(site: Site, request: Request) -> Response:
    """A segment as MP4, for files that browsers do not play."""
    file = source_of(site, request)
    start = seconds_of(request, "start") or 0.0
    end = seconds_of(request, "end")
    end = start + MOST_SECONDS if end is None else min(end, start + MOST_SECONDS)
    if end <= start:
        raise UsageError(f"the segment {start:g} to {end:g} s is empty")

    def make(path: Path) -> None:
        with site.work:
            if is_upload(request):  # untrusted: it may crash the process that reads it
                transcode_apart(Path(file.path), path, start, end)
            else:
                transcode(file.path, path, start, end)

    path = site.cache.get(f"clip\0{file.key}\0{start:.3f}\0{end:.3f}", ".mp4", make)
    return _file(path, "video/mp4")


def _file(path: Path, media_type: str) -> Response:
    try:
        status = path.stat()
    except OSError:
        raise StoreError("the file has disappeared: try again") from None
    return FileResponse(path, media_type=media_type, stat_result=status, headers=_KEEP)


def show_map(site: Site, _request: Request) -> Response:
    """The points of the map; 202 while they are computed."""
    path = site.map.path(wait_seconds=0.2)
    if path is None:
        return JSONResponse({"state": "being made"}, status_code=202, headers=FRESH)
    return _file(path, "application/octet-stream")
