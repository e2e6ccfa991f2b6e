"""A cache on a full disk: 507 with a sentence, pictures all the same, the map again later."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from tests.support.small_disk import can_mount, run_on_small_disk
from tests.support.web_fixtures import build_site
from vidfeat.system.files import temporary_name
from vidfeat.web.cache import Cache


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_full_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    made = build_site(tmp_path, ["a/v0.mp4", "a/v1.mp4", "a/old.avi"])
    old = made.index.videos.row_of["a/old.avi"]
    whole = Cache._make

    def full(cache: Cache, path: Path, make: object) -> None:
        if where == "file":
            whole(cache, path, lambda temporary: _then_full(make, temporary))
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def _then_full(make, temporary: Path) -> None:
        make(temporary)
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    with TestClient(made.app, base_url="http://127.0.0.1:8765") as client:
        with monkeypatch.context() as patch:
            patch.setattr(Cache, "_make", full)
            picture = client.get(f"/thumb/{old}?t=0.5")
            assert (picture.status_code, picture.content[:2]) == (200, b"\xff\xd8")
            for path in (f"/clip/{old}?start=0&end=1", "/api/map"):
                tries = 1 if path.startswith("/clip") else 20
                answers = [client.get(path) for _ in range(tries)]
                assert {answer.status_code for answer in answers} <= {202, 507}
                assert answers[-1].status_code == 507 or path == "/api/map"
                texts = [a.json()["error"] for a in answers if a.status_code == 507]
                assert texts
                assert all(str(tmp_path / "cache") in text for text in texts)
            assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        answers = [client.get("/api/map").status_code for _ in range(50)]
        assert 200 in answers


def test_two_servers_may_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writes its own file; what a killed one left goes, what is being written stays."""
    one, two = (Cache(tmp_path / "cache", 1000) for _ in range(2))
    written: list[Path] = []

    def outer(path: Path) -> None:
        path.write_bytes(b"half")
        written.append(path)
        if len(written) == 1:
            two.get("key", ".mp4", outer)
        path.write_bytes(b"whole")

    assert one.get("key", ".mp4", outer).read_bytes() == b"whole"
    assert len({*written}) == 2
    assert {path.suffix for path in written} == {".mp4"}
    folder = written[0].parent
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: dead.pid)
        left = temporary_name(folder / "gone.jpg", ".jpg")
    being_written = temporary_name(folder / "new.jpg", ".jpg")
    for path in (left, being_written):
        path.write_bytes(b"x" * 5000)
    one.shrink()
    assert sorted(folder.iterdir()) == sorted([being_written, one.get("key", ".mp4", outer)])


@pytest.mark.skipif(not can_mount(), reason="no file system may be mounted here")
@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_a_real_disk_that_fills_up(tmp_path: Path, step: int) -> None:
    """The same on a tmpfs with some pages more, or some files more, each time."""
    met = json.loads(run_on_small_disk("tests.web.cache_fills_up", tmp_path, step))
    assert min(met.values()) >= 1
