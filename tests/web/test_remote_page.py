"""Videos behind URLs on the page and in search: shown from there when asked to, else named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import embeddings, identity, record, video_vectors
from tests.support.remote_server import (
    RemoteServer,
    running_server,  # noqa: F401
)
from tests.support.video_assets import render
from tests.support.web_fixtures import FakeEncoder
from vidfeat.cli import cli
from vidfeat.errors import StoreError
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.index.report import write_search_report
from vidfeat.store.reader import Embeddings, FeatureStore
from vidfeat.store.writer import write_store
from vidfeat.video.remote_listing import state_of

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def index(running: RemoteServer, tmp_path_factory: pytest.TempPathFactory) -> VideoIndex:
    """Of ``run/a b.mp4`` and ``c.mp4`` below ``/v`` of the server."""
    folder = tmp_path_factory.mktemp("page")
    rows = []
    for number, name in enumerate(["c.mp4", "run/a b.mp4"]):
        render(folder / name, range(20 + number))
        running.files[f"v/{name}"] = (folder / name).read_bytes()
        state = state_of(running.url(f"v/{name}".replace(" ", "%20")))
        assert state is not None
        facts = replace(record(name, 4), size_bytes=state.size_bytes, mtime_ns=state.stamp)
        rows.append((facts, embeddings(video_vectors(number, 4, 16))))
    write_store(folder / "f.h5", identity(16, root=running.url("v")), rows)
    return VideoIndex.build(folder / "f.h5", folder / "INDEX")


@pytest.fixture
def server(running: RemoteServer) -> RemoteServer:
    running.reset()
    return running


def page(index: VideoIndex, folder: Path, root: str | None) -> Any:
    from starlette.testclient import TestClient

    from vidfeat.web.app import create_app
    from vidfeat.web.cache import Cache
    from vidfeat.web.catalog import Catalog
    from vidfeat.web.uploads import Uploads

    catalog = Catalog(index, root=root)
    uploads = Uploads(QuerySource(index, root=root), most_bytes=1_000_000)
    app = create_app(index, catalog, Cache(folder / "cache", 10_000_000), uploads)
    return TestClient(app, base_url="http://127.0.0.1")


def test_the_page_names_where_the_videos_are(
    index: VideoIndex, server: RemoteServer, tmp_path: Path
) -> None:
    """No server is asked because an index says so."""
    client = page(index, tmp_path, None)
    described = client.get("/api/videos/0").json()
    assert described["missing"]
    assert f"start vidfeat serve with --root {server.url('v')}" in described["why_missing"]
    assert client.get("/thumb/0").status_code >= 400
    assert not server.queries


def test_the_page_shows_videos_from_a_url_that_is_given(
    index: VideoIndex, server: RemoteServer, tmp_path: Path
) -> None:
    client = page(index, tmp_path, server.url("v"))
    described = client.get("/api/videos/1").json()
    assert not described["missing"]
    assert not described["playable"], "a segment comes transcoded, not as an address"
    thumb = client.get("/thumb/1?t=0.2")
    assert thumb.status_code == 200
    assert thumb.headers["content-type"] == "image/jpeg"
    clip = client.get("/clip/1?start=0&end=0.5")
    assert clip.status_code == 200
    assert b"ftyp" in clip.content[:12]


def test_a_url_is_the_stored_video_while_it_is_unchanged(
    index: VideoIndex, server: RemoteServer
) -> None:
    encoder = Counting()
    source = QuerySource(index, encoder=encoder)  # type: ignore[arg-type]
    url = server.url("v/run/a%20b.mp4")
    (query,) = source.make(f"{url}?sig=abc")
    assert (query.name, query.video_id, encoder.asked) == ("run/a b.mp4", 1, [])
    (query,) = source.make(f"{url}?sig=abc#t=0,1")
    assert query.video_id == 1
    server.files["v/other.mp4"] = b"x"
    (query,) = source.make(server.url("v/other.mp4?sig=abc"))
    assert (query.name, query.video_id) == (server.url("v/other.mp4"), -1)
    assert encoder.asked == [server.url("v/other.mp4?sig=abc")]
    data = server.files["v/run/a b.mp4"]
    try:
        server.files["v/run/a b.mp4"] = data + b"more"
        (query,) = source.make(url)
        assert query.video_id == 1, "the same video, encoded again"
        assert encoder.asked[1:] == [url]
    finally:
        server.files["v/run/a b.mp4"] = data


class Counting(FakeEncoder):
    """Gives the same vectors for everything, and notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def encode(self, path: object, segment: object = None) -> Embeddings:
        self.asked.append(str(path))
        return embeddings(video_vectors(0, 4, 16))


def test_pictures_of_a_search(index: VideoIndex, server: RemoteServer, tmp_path: Path) -> None:
    queries = [index.query("c.mp4")]
    matches = index.search(queries, 2)
    missing = write_search_report(tmp_path / "a.html", index, queries, matches, None)
    assert missing == len(matches)
    assert not server.queries
    root = server.address.replace("http://", "http://me:pass@") + "/v"
    missing = write_search_report(tmp_path / "b.html", index, queries, matches, root)
    assert missing == 0
    written = (tmp_path / "b.html").read_text("utf-8")
    assert "pass" not in written.replace("passed", "")
    assert server.url("v/run/a%20b.mp4") in written


def test_what_python_and_info_say(index: VideoIndex, server: RemoteServer, tmp_path: Path) -> None:
    features = index.path.parent / "f.h5"
    with FeatureStore(features) as store:
        with pytest.raises(StoreError, match=f"are at {server.url('v')}; give root="):
            store.local_path("c.mp4")
        assert store.place("run/a b.mp4", server.url("v")) == server.url("v/run/a%20b.mp4")
    for words in (["info", str(features)], ["info", str(index.path)]):
        outcome = CliRunner().invoke(cli, words)
        assert outcome.exit_code == 0, outcome.output
    outcome = CliRunner().invoke(cli, ["search", str(index.path), "c.mp4", "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert not server.queries
