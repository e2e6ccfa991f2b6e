"""Starting the page: hosts as people write them, failures that leave nothing, links."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.index_fixtures import write_features
from vidfeat.errors import UsageError
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource

pytest.importorskip("starlette")
from vidfeat.web.catalog import Catalog
from vidfeat.web.server import ServeOptions, _listen, plain_host, serve
from vidfeat.web.uploads import Uploads


@pytest.fixture
def index(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    names = ["link.mp4", "gone.mp4"]
    features = write_features(tmp_path / "f.h5", names, root=str(root))
    VideoIndex.build(features, tmp_path / "I")
    return tmp_path / "I"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("[::1]", "::1"), ("*", "0.0.0.0"), ("127.0.0.1", "127.0.0.1"), (" localhost ", "localhost")],
)
def test_hosts_as_people_write_them(given, expected):
    assert plain_host(given) == expected
    try:
        listener = _listen(plain_host(given), 0)
    except UsageError as error:
        assert expected == "::1"  # a machine without IPv6
        assert "::1" in str(error)
    else:
        listener.close()


@pytest.mark.parametrize(
    "host",
    [
        "no-such-host.invalid", "a b", "x" * 300, "192.0.2.7", "[::1", "http://127.0.0.1",
        "127.0.0.1:8000", "-1", "256.1.1.1", "a..b", "\u00e4" * 70, "", " ",
    ],
)  # fmt: skip
def test_hosts_that_are_none_are_named_and_leave_nothing(index, tmp_path, monkeypatch, host):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(UsageError) as caught:
        serve(index, ServeOptions(host=host, port=0, cache=tmp_path / "cache"))
    assert host in str(caught.value)
    assert "another port" not in str(caught.value)
    assert caught.value.fields == ("host",)
    assert list(scratch.iterdir()) == []


def test_a_taken_port_leaves_no_folder_of_uploads(index, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with _listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="another port"):
            serve(index, ServeOptions(port=port, cache=tmp_path / "cache"))
    assert list(scratch.iterdir()) == []


def test_uploads_of_a_killed_server_are_removed_by_the_next(index, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with monkeypatch.context() as patch:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        patch.setattr(os, "getpid", lambda: dead.pid)
        Uploads(QuerySource(VideoIndex(index)), 1)
    (scratch / "vidfeat-uploads-of-someone").mkdir()
    running = Uploads(QuerySource(VideoIndex(index)), 1)
    other = Uploads(QuerySource(VideoIndex(index)), 1)
    assert len(list(scratch.iterdir())) == 3
    running.close()
    other.close()
    assert [path.name for path in scratch.iterdir()] == ["vidfeat-uploads-of-someone"]


def test_a_link_that_leads_out_names_the_option(index):
    opened = VideoIndex(index)
    catalog, row_of = Catalog(opened), opened.videos.row_of
    assert catalog.file(row_of["link.mp4"]) is None
    assert "--follow-links" in catalog.why_missing(row_of["link.mp4"])
    assert "--root" in catalog.why_missing(row_of["gone.mp4"])
    assert Catalog(opened, follow_links=True).file(row_of["link.mp4"]) is not None
