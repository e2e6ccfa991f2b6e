"""Run on a disk of a chosen size: the page with its cache and its uploads on a full disk."""

from __future__ import annotations

import errno
import json
import tempfile
import time
from pathlib import Path

from starlette.testclient import TestClient

from tests.support.small_disk import Disk
from tests.support.web_fixtures import build_site
from vidfeat.web.app import create_app
from vidfeat.web.cache import Cache
from vidfeat.web.catalog import Catalog
from vidfeat.web.uploads import Uploads

_MOST_TRIES = 200


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def the_map(client: TestClient) -> tuple[int, str]:
    """Status of the map when it is no longer being made, and what is said of it."""
    while (answer := client.get("/api/map")).status_code == 202:
        time.sleep(0.01)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["error"]


def main(disk: Disk, step: int) -> None:
    """Print how many times each kind of request met a full disk."""
    made = build_site(disk.folder.parent, ["a/v0.mp4", "a/v1.mp4", "a/old.avi"])
    index, uploads = made.index, made.uploads
    old = index.videos.row_of["a/old.avi"]
    cache = disk.folder / "cache"
    met = {"clip": 0, "map": 0, "upload": 0}
    for limit in ("pages", "files"):
        pages, files = disk.used
        for tried in range(_MOST_TRIES):
            more = tried * step
            if limit == "pages":
                disk.limit(pages=pages + more)
            else:
                disk.limit(files=files + more)
            try:
                held = Cache(cache, 50_000_000)
            except OSError as error:
                assert error.errno == errno.ENOSPC and error.filename == str(cache), error
                continue
            app = create_app(index, Catalog(index), held, uploads)
            client = TestClient(app, base_url="http://127.0.0.1:8765")
            picture = client.get(f"/thumb/{old}?t=0.5")
            assert picture.status_code == 200 and picture.content[:2] == b"\xff\xd8"
            clip = client.get(f"/clip/{old}?start=0&end=1")
            status, said = the_map(client)
            for name, code, text in (
                ("clip", clip.status_code, "" if clip.status_code == 200 else clip.text),
                ("map", status, said),
            ):
                assert code in (200, 507), f"{name}, {more} {limit}: {code} {text}"
                assert code == 200 or str(cache) in text
                met[name] += code == 507
            assert not [name for name in files_of(cache) if ".writing-" in name]
            disk.limit()
            assert the_map(client)[0] == 200  # tried again, and made
            assert client.get(f"/clip/{old}?start=0&end=1").status_code == 200
            whole = met["clip"] + met["map"]
            for path in cache.rglob("*"):
                if path.is_file():
                    path.unlink()
            if clip.status_code == status == 200:
                break
        else:
            raise AssertionError("never enough")
        assert whole
    tempfile.tempdir = str(disk.folder)
    scratch = Uploads(uploads.source, 2_000_000)
    app = create_app(index, Catalog(index), Cache(cache, 50_000_000), scratch)
    body = (made.root / "a/v0.mp4").read_bytes()
    pages, _ = disk.used
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        for more in (0, 1, len(body) // 8192, len(body) // 4096):
            disk.limit(pages=pages + more)
            answer = client.post("/api/upload?name=v.mp4", content=body)
            assert answer.status_code == 507, answer.text
            assert not files_of(scratch._folder)
            met["upload"] += 1
        disk.limit()
        assert client.post("/api/upload?name=v.mp4", content=body).status_code == 200
    assert not [path for path in disk.folder.iterdir() if path.name.startswith("vidfeat-")]
    print(json.dumps(met))
