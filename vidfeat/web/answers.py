"""Shared by the routes: errors as responses, and the video or upload that a request names."""

from __future__ import annotations

import errno

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vidfeat.errors import (
    FingerprintError,
    LockedError,
    StoreError,
    VideoError,
    VidfeatError,
    WeightsError,
)
from vidfeat.web.catalog import MediaFile
from vidfeat.web.parameters import FRESH
from vidfeat.web.site import Site

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)


def failure(error: VidfeatError) -> JSONResponse:
    """An error of the library as a response; none is a server error."""
    status = 400
    if isinstance(error, (FingerprintError, LockedError, WeightsError)):
        status = 409
    elif isinstance(error, StoreError):
        status = 404
    elif isinstance(error, VideoError):
        status = 422
    return JSONResponse({"error": str(error)}, status_code=status, headers=FRESH)


def disk_full(site: Site) -> JSONResponse:
    """The response when the disk of the cache or of the uploads is full."""
    message = (
        f"the disk of {site.cache.folder} or of the uploads is full: make room there, or start "
        "vidfeat serve with another --cache"
    )
    return JSONResponse({"error": message}, status_code=507, headers=FRESH)


def no_writing(error: OSError) -> JSONResponse:
    """The response when the folder of the index cannot be written."""
    message = f"{error.filename}: {error.strerror}: make the folder of the index writable"
    return JSONResponse({"error": message}, status_code=403, headers=FRESH)


def http_error(_request: Request, error: Exception) -> Response:
    """An error of the server library as JSON."""
    assert isinstance(error, HTTPException)
    headers = {**(error.headers or {}), **FRESH}
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=headers)


def video_number(request: Request) -> int:
    """The number of the video in the path.

    Raises:
        StoreError: not a number.
    """
    text = request.path_params["video"]
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise StoreError("there is no such video")
    return int(text)


def known_video(site: Site, number: int) -> int:
    """The number, if there is such a video.

    Raises:
        StoreError: there is no such video.
    """
    if not site.catalog.has(number):
        raise StoreError("there is no such video")
    return number


def is_upload(request: Request) -> bool:
    """Whether the path names an upload, not a video."""
    return bool(request.path_params["video"].startswith("u"))


def source_of(site: Site, request: Request) -> MediaFile:
    """The file of a video or of an upload."""
    if is_upload(request):
        upload = site.uploads.get(request.path_params["video"][1:])
        if upload is None:
            raise StoreError("this upload no longer exists: drop the file again")
        return MediaFile.of(upload.path, upload.path.stat())
    video = known_video(site, video_number(request))
    file = site.catalog.file(video)
    if file is None:
        raise StoreError(site.catalog.why_missing(video))
    return file
