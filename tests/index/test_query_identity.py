"""Which video of the index a query is: by its path, through links, and with no clip at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import embeddings, identity, record, video_vectors, write_features
from vidfeat.cli import cli
from vidfeat.errors import DataError
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.store.reader import Embeddings
from vidfeat.store.writer import write_store


class StoredEncoder:
    """Gives the same vectors for every file."""

    space_fingerprint = "space-1"
    run_fingerprint = "run-1"

    def encode(self, path: object, segment: object = None) -> Embeddings:
        return embeddings(video_vectors(0, 4, 16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Videos ``a/0.mp4`` and ``a/1.mp4`` of unlike size, and ``linked.mp4``, a link to outside."""
    folder = tmp_path / "videos"
    (folder / "a").mkdir(parents=True)
    for number in range(2):
        (folder / f"a/{number}.mp4").write_bytes(b"x" * (10 + number))
    (tmp_path / "outside.mp4").write_bytes(b"y" * 30)
    (folder / "linked.mp4").symlink_to(tmp_path / "outside.mp4")
    rows = []
    for number, name in enumerate(["a/0.mp4", "a/1.mp4", "linked.mp4"]):
        status = (folder / name).stat()
        facts = replace(record(name, 4), size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        rows.append((facts, embeddings(video_vectors(number, 4, 16))))
    write_store(tmp_path / "f.h5", identity(16, root=str(folder)), rows)
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "I")
    return folder


@pytest.mark.parametrize("way", ["plain", "link to it", "folder link", "hard link", "relative"])
@pytest.mark.parametrize("touched", [False, True])
def test_a_file_at_an_indexed_path_is_that_video(root, tmp_path, monkeypatch, way, touched):
    path = root / "a/0.mp4"
    if touched:
        os.utime(path, (1, 1))
    if way == "link to it":
        (tmp_path / "link.mp4").symlink_to(path)
        path = tmp_path / "link.mp4"
    elif way == "folder link":
        (tmp_path / "other").symlink_to(root)
        path = tmp_path / "other/a/0.mp4"
    elif way == "hard link":
        os.link(path, tmp_path / "hard.mp4")
        path = tmp_path / "hard.mp4"
    elif way == "relative":
        monkeypatch.chdir(root / "a")
        path = Path("0.mp4")
    index = VideoIndex(tmp_path / "I")
    (query,) = QuerySource(index, encoder=StoredEncoder()).make(str(path))
    found = index.search(query, exclude_self=True)
    assert sorted(match.video for match in found) == ["a/1.mp4", "linked.mp4"]


@pytest.mark.parametrize("name", ["videos/linked.mp4", "outside.mp4"])
@pytest.mark.parametrize("touched", [False, True])
def test_an_indexed_link_and_what_it_leads_to_are_one_video(root, tmp_path, name, touched):
    if touched:
        os.utime(tmp_path / "outside.mp4", (1, 1))
    index = VideoIndex(tmp_path / "I")
    (query,) = QuerySource(index, encoder=StoredEncoder()).make(str(tmp_path / name))
    assert query.video_id == index.videos.row_of["linked.mp4"]


@pytest.mark.parametrize("touched", [False, True])
def test_a_root_that_has_moved(root, tmp_path, touched):
    """Also without --root: the end of the path and the size say which video a file is."""
    moved = root.rename(tmp_path / "moved")
    (moved / "more").mkdir()
    (moved / "more/1.mp4").write_bytes(b"x" * 11)
    if touched:
        os.utime(moved / "a/0.mp4", (1, 1))
    index = VideoIndex(tmp_path / "I")
    for given in (None, moved):
        source = QuerySource(index, root=given, encoder=StoredEncoder())
        (query,) = source.make(str(moved / "a/0.mp4"))
        assert query.video_id == index.videos.row_of["a/0.mp4"]
        assert query.normalised is not touched  # its own clips, where it has not changed
        assert source.make(str(moved / "more/1.mp4"))[0].video_id == -1
    (moved / "a/1.mp4").write_bytes(b"another one")
    (moved / "a/0.mp4").write_bytes(b"longer than before")
    source = QuerySource(index, encoder=StoredEncoder())
    assert source.make(str(moved / "a/0.mp4"))[0].video_id == -1


def test_the_videos_of_a_feature_file_are_those_of_the_index(root, tmp_path):
    index = VideoIndex(tmp_path / "I")
    source = QuerySource(index, encoder=StoredEncoder())
    names = [query.name for query in source.make(str(tmp_path / "f.h5"))]
    for name, query in zip(names, source.make(str(tmp_path / "f.h5")), strict=True):
        assert name not in [m.video for m in index.search(query, exclude_self=True)]
    other = write_features(tmp_path / "o.h5", ["a/0.mp4"], clips=4, dimension=16, root="/elsewhere")
    (query,) = source.make(str(other))
    assert query.video_id == -1


def test_another_file_is_no_video_of_the_index(root, tmp_path):
    (tmp_path / "new.mp4").write_bytes(b"z" * 10)
    index = VideoIndex(tmp_path / "I")
    (query,) = QuerySource(index, encoder=StoredEncoder()).make(str(tmp_path / "new.mp4"))
    assert query.video_id == -1


def test_a_video_without_a_usable_clip_is_one_line(tmp_path):
    zero = {"zero.mp4": np.zeros((3, 16), dtype=np.float32)}
    names = ["good.mp4", "zero.mp4"]
    write_features(tmp_path / "f.h5", names, clips=3, dimension=16, replace=zero)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I", skip_bad_rows=True)
    for ways in ({}, {"exact": True}, {"clips": True}, {"start_seconds": 0.5}):
        with pytest.raises(DataError, match=r"zero\.mp4 has no clip that can be compared"):
            index.search("zero.mp4", **ways)
    done = CliRunner().invoke(cli, ["search", str(tmp_path / "I"), "zero.mp4"])
    assert isinstance(done.exception, (SystemExit, DataError))
    assert [match.video for match in index.search("good.mp4", k=5)] == ["good.mp4"]


def test_the_page_answers_a_video_without_a_usable_clip(tmp_path):
    pytest.importorskip("starlette")
    from starlette.testclient import TestClient

    from vidfeat.web.app import create_app
    from vidfeat.web.cache import Cache
    from vidfeat.web.catalog import Catalog
    from vidfeat.web.uploads import Uploads

    zero = {"zero.mp4": np.zeros((3, 16), dtype=np.float32)}
    write_features(tmp_path / "f.h5", ["good.mp4", "zero.mp4"], dimension=16, replace=zero)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I", skip_bad_rows=True)
    uploads = Uploads(QuerySource(index), most_bytes=1000)
    app = create_app(index, Catalog(index), Cache(tmp_path / "cache", 10**6), uploads)
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        answer = client.get(f"/api/search?video={index.videos.row_of['zero.mp4']}")
        assert answer.status_code == 400
        assert "no clip that can be compared" in answer.json()["error"]
        assert client.get(f"/api/videos/{index.videos.row_of['zero.mp4']}").status_code == 200
