"""The server of the search page: answers, ranges, and everything that must not be served."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.support.index_fixtures import embeddings, identity, record, video_vectors
from vidfeat.errors import UsageError, VideoError
from vidfeat.index import VideoIndex
from vidfeat.store.writer import write_store

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from tests.support.web_fixtures import SECRET, build_site
from vidfeat.web.app import STATIC
from vidfeat.web.atlas import map_points
from vidfeat.web.cache import Cache
from vidfeat.web.catalog import Catalog
from vidfeat.web.guard import host_name
from vidfeat.web.transcode import browser_type, transcode, transcode_apart

BASE = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    """A folder of videos, their index, and a client of its page."""
    names = [f"{'ab'[n % 2]}/v{n}.mp4" for n in range(6)] + ["a/old.avi", "top.mp4"]
    made = build_site(tmp_path_factory.mktemp("site"), names, hostile=True)
    with TestClient(made.app, base_url=BASE, raise_server_exceptions=True) as client:
        client.folder, client.index, client.app_uploads = made.folder, made.index, made.uploads
        yield client


def number_of(site: TestClient, path: str) -> int:
    return site.index.videos.paths.index(path)


# ---------------------------------------------------------------------- answers


def test_page_and_its_parts(site):
    page = site.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name, media_type in STATIC.items():
        answer = site.get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert "http:" not in answer.text.replace("http://www.w3.org/", "")
        assert "https:" not in answer.text


def test_index_and_filters(site):
    found = site.get("/api/index").json()
    groups = site.get("/api/groups").json()
    assert groups["names"] == ["no label", "even", "odd"]
    assert len(groups["groups"]) == 12
    assert (found["videos"], found["labels"]) == (12, [["even", 4], ["odd", 4]])
    assert found["folders"] == 4
    level = site.get("/api/folders").json()["folders"]
    assert {one["path"]: one["videos"] for one in level} == {".": 1, "a": 7, "b": 3, "gone": 1}
    assert site.get("/api/folders?text=GON").json()["folders"][0]["path"] == "gone"
    assert site.get("/api/folders?parent=a").json() == {"total": 0, "folders": []}
    assert site.get("/api/videos").json()["total"] == 12
    assert site.get("/api/videos?folder=b").json()["total"] == 3
    assert site.get("/api/videos?label=odd&folder=b").json()["total"] == 3
    assert site.get("/api/videos?text=V1").json()["videos"][0]["path"] == "b/v1.mp4"
    part = site.get("/api/videos?first=2&count=3").json()["videos"]
    assert [video["path"] for video in part] == sorted(site.index.paths)[2:5]


def test_search_by_video_and_segment(site):
    number = number_of(site, "a/v0.mp4")
    found = site.get(f"/api/search?video={number}&k=5").json()
    assert found["query"]["id"] == number
    assert len(found["results"]) == 5
    assert number not in {result["id"] for result in found["results"]}
    scores = [result["score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True)
    part = site.get(f"/api/search?video={number}&start=0.5&end=1.1").json()
    assert abs(part["query"]["start"] - 0.5) <= 0.2
    only = site.get(f"/api/search?video={number}&label=odd").json()["results"]
    assert {result["label"] for result in only} == {"odd"}


def test_one_video(site):
    playable = site.get(f"/api/videos/{number_of(site, 'b/v1.mp4')}").json()
    assert (playable["playable"], playable["missing"]) == (True, False)
    assert playable["clips"][0][0] == 0
    old = site.get(f"/api/videos/{number_of(site, 'a/old.avi')}").json()
    assert (old["playable"], old["missing"]) == (False, False)
    for name in ("gone/missing.mp4", "a/link.mp4", "a/folder.mp4"):
        gone = site.get(f"/api/videos/{number_of(site, name)}").json()
        assert (gone["playable"], gone["missing"]) == (False, True)


def test_thumbnails_are_made_once(site):
    number = number_of(site, "a/v2.mp4")
    first = site.get(f"/thumb/{number}?t=0.5")
    assert (first.status_code, first.content[:2]) == (200, b"\xff\xd8")
    files = {path: path.stat().st_ino for path in (site.folder / "cache").glob("*/*.jpg")}
    assert site.get(f"/thumb/{number}?t=0.5").content == first.content
    assert {p: p.stat().st_ino for p in (site.folder / "cache").glob("*/*.jpg")} == files
    assert site.get(f"/thumb/{number}?t=1.5").content != first.content


def test_ranges(site):
    number = number_of(site, "a/v0.mp4")
    whole = site.get(f"/media/{number}")
    data = (site.folder / "videos/a/v0.mp4").read_bytes()
    assert (whole.content, whole.headers["content-type"]) == (data, "video/mp4")
    part = site.get(f"/media/{number}", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    last = site.get(f"/media/{number}", headers={"range": "bytes=-10"})
    assert last.content == data[-10:]
    beyond = site.get(f"/media/{number}", headers={"range": f"bytes={len(data)}-"})
    assert beyond.status_code == 416


def test_avi_is_transcoded_the_segment_alone(site, tmp_path):
    from vidfeat.video.reader import probe

    number = number_of(site, "a/old.avi")
    assert site.get(f"/media/{number}").status_code == 415
    clip = site.get(f"/clip/{number}?start=0.5&end=1.5")
    assert (clip.status_code, clip.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "clip.mp4").write_bytes(clip.content)
    info = probe(tmp_path / "clip.mp4")
    assert (info.codec, info.num_frames, info.duration_seconds) == ("h264", 20, 1.0)
    assert browser_type(tmp_path / "clip.mp4") == "video/mp4"
    part = site.get(f"/clip/{number}?start=0.5&end=1.5", headers={"range": "bytes=0-9"})
    assert part.content == clip.content[:10]


def test_transcoded_frames_are_those_of_the_segment(site, tmp_path):
    from vidfeat.video.reader import read_frames

    source = site.folder / "videos/a/old.avi"
    transcode(source, tmp_path / "t.mp4", 0.5, 1.0)
    ours = read_frames(tmp_path / "t.mp4", [0, 9]).astype(int)
    theirs = read_frames(source, [10, 19]).astype(int)
    assert np.abs(ours - theirs).mean() < 6
    others = read_frames(source, [0, 5]).astype(int)
    assert np.abs(ours - others).mean() > 2 * np.abs(ours - theirs).mean()


def test_upload_finds_its_source(site):
    data = (site.folder / "videos/b/v3.mp4").read_bytes()
    found = site.post("/api/upload?name=mine.mp4", content=data)
    assert found.status_code == 200, found.text
    value = found.json()
    assert value["results"][0]["path"] == "b/v3.mp4"
    assert value["results"][0]["score"] > 0.99
    token = value["query"]["upload"]
    part = site.get(f"/api/search?upload={token}&start=0.4&end=0.9").json()
    assert part["results"][0]["path"] == "b/v3.mp4"
    assert abs(part["results"][0]["start"] - 0.4) <= 0.2
    assert site.get(f"/thumb/u{token}?t=0.1").status_code == 404
    assert site.get(f"/clip/u{token}?start=0&end=1").status_code == 200


def test_transcoding_apart_is_the_same_and_survives_its_process(site, tmp_path, monkeypatch):
    source = site.folder / "videos/a/old.avi"
    transcode(source, tmp_path / "here.mp4", 0.5, 1.0)
    transcode_apart(source, tmp_path / "apart.mp4", 0.5, 1.0)
    assert (tmp_path / "apart.mp4").read_bytes() == (tmp_path / "here.mp4").read_bytes()
    (tmp_path / "text.upload").write_bytes(SECRET)
    with pytest.raises(VideoError) as failed:
        transcode_apart(tmp_path / "text.upload", tmp_path / "no.mp4", 0, 1)
    assert failed.value.kind in ("unreadable", "not_video")
    dying = tmp_path / "dies"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr("vidfeat.web.transcode.sys.executable", str(dying))
    with pytest.raises(VideoError) as crashed:
        transcode_apart(source, tmp_path / "no.mp4", 0, 1)
    assert crashed.value.kind == "crashed"


def test_groups_tell_which_videos_pass(site):
    everything = site.get("/api/groups").json()
    assert everything["shown"] is None
    found = site.get("/api/groups?folder=b&text=v3").json()
    assert found["names"] == everything["names"]
    assert [n for n, held in enumerate(found["shown"]) if held] == [number_of(site, "b/v3.mp4")]


@pytest.mark.parametrize("data", [b"", b"not a video", b"#EXTM3U\nhttp://127.0.0.1/a.ts\n"])
def test_uploads_that_are_no_videos(site, data):
    answer = site.post("/api/upload?name=evil.mp4", content=data)
    assert answer.status_code == 422
    assert "evil.mp4" in answer.json()["error"]
    assert str(site.folder) not in answer.text
    assert ".upload" not in answer.text


def test_oversized_uploads(site):
    announced = site.post("/api/upload?name=big", content=b"x" * 2_000_001)
    assert announced.status_code == 413

    def endless():
        for _ in range(40):
            yield b"x" * 100_000

    sent = site.post("/api/upload?name=big", content=endless())
    assert sent.status_code == 413
    left = [p for p in site.app_uploads._folder.iterdir() if p.stat().st_size > 1_000_000]
    assert left == []


def test_map_has_every_clip(site):
    for _ in range(200):
        answer = site.get("/api/map")
        if answer.status_code == 200:
            break
    count = int(np.frombuffer(answer.content, np.uint32, 1)[0])
    assert count == len(site.index)
    assert len(answer.content) == 4 + 20 * count
    places = np.frombuffer(answer.content, np.float32, 2 * count, 4)
    assert np.abs(places).max() <= 1


# ---------------------------------------------------------------------- what must not be


PATHS = [
    "/static/../app.py",
    "/static/..%2fapp.py",
    "/static/%2e%2e/app.py",
    "/static/....//app.py",
    "/static//etc/passwd",
    "/static/page.html%00.js",
    "/media/../../../etc/passwd",
    "/media/..%2f..%2fetc%2fpasswd",
    "/media/%2e%2e%2f%2e%2e%2fsecret.mp4",
    "/media//etc/passwd",
    "/media/-1",
    "/media/999999999",
    "/media/99999999999999999999999999",
    "/media/0x1",
    "/media/1e3",
    "/media/%F0%9F%98%80",
    "/media/٣",
    "/media/u",
    "/media/u..%2f..%2fsecret",
    "/clip/u../../secret.mp4",
    "/thumb/..%2fsecret.mp4",
    "/thumb/a%2fnot_indexed.mp4",
    "/file:///etc/passwd",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/etc/passwd",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_nowhere(site, path):
    answer = site.get(path)
    assert 400 <= answer.status_code < 500
    assert SECRET not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize("name", ["a/link.mp4", "a/folder.mp4", "gone/missing.mp4", "a/text.mp4"])
@pytest.mark.parametrize("way", ["media", "clip", "thumb"])
def test_files_that_are_no_videos_of_the_root_are_not_served(site, way, name):
    answer = site.get(f"/{way}/{number_of(site, name)}")
    assert 400 <= answer.status_code < 500
    assert SECRET not in answer.content


def test_links_are_followed_only_where_asked(site):
    index = site.index
    number = number_of(site, "a/link.mp4")
    assert Catalog(index).file(number) is None
    followed = Catalog(index, follow_links=True).file(number)
    assert followed is not None
    assert followed.path.name == "secret.mp4"


def test_removed_videos_are_not_served(site, tmp_path):
    from vidfeat.index import change_index, copy_index

    copy_index(site.folder / "INDEX", tmp_path / "I")
    change_index(tmp_path / "I", remove=["a/v0.mp4"])
    catalog = Catalog(VideoIndex(tmp_path / "I"))
    number = number_of(site, "a/v0.mp4")
    assert not catalog.has(number)
    assert catalog.file(number) is None


def test_index_that_points_out_of_the_root(site, tmp_path):
    rows = [
        (record(name, 2), embeddings(video_vectors(n, 2, 16)))
        for n, name in enumerate(["../secret.mp4", "/etc/passwd", "a/../../secret.mp4"])
    ]
    try:
        write_store(tmp_path / "f.h5", identity(16, root=str(site.folder / "videos")), rows)
    except Exception:
        pytest.skip("such paths cannot even be written")
    catalog = Catalog(VideoIndex.build(tmp_path / "f.h5", tmp_path / "I"))
    assert [catalog.file(row) for row in range(3)] == [None] * 3


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8765",
        "localhost@evil",
        "",
        "::1:80",
        "127.0.0.1:80:80",
        "127.0.0.1:evil",
        "[::1].evil",
        "0.0.0.0",
        "2130706433",
    ],
)
def test_other_names_are_refused(site, host):
    answer = site.get("/api/index", headers={"host": host})
    expected = 403 if host_name(host) not in ("127.0.0.1", "localhost", "::1") else 200
    assert answer.status_code == expected
    if host not in ("[::1].evil",):
        assert expected == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:8765"])
def test_own_names_are_answered(site, host):
    assert site.get("/api/index", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_sites_are_refused(site, headers):
    assert site.get("/api/index", headers=headers).status_code == 403
    assert site.post("/api/upload", content=b"x", headers=headers).status_code == 403


def test_own_page_is_answered(site):
    headers = {"origin": BASE, "sec-fetch-site": "same-origin"}
    assert site.get("/api/index", headers=headers).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert site.get("/", headers=link).status_code == 200
    assert site.get("/api/index", headers=link).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_other_methods(site, method):
    assert site.request(method, "/api/index").status_code == 405


# ---------------------------------------------------------------------- parts


def test_cache_keeps_its_cap_and_makes_once(tmp_path):
    cache = Cache(tmp_path, 10_000)
    made = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"x" * 1000)

    for number in range(40):
        cache.get(f"key{number}", ".bin", make)
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 13_000
    made.clear()
    threads = [threading.Thread(target=lambda: cache.get("same", ".bin", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1

    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise UsageError("no")

    with pytest.raises(UsageError):
        cache.get("bad", ".bin", fails)
    assert not [path for path in tmp_path.glob("*/*") if path.read_bytes() == b"half"]


def test_map_of_many_clips_keeps_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr("vidfeat.web.atlas._LANDMARKS", 300)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 16)) * 3
    rows = []
    for number in range(100):
        vectors = centres[number % 5] + rng.standard_normal((30, 16))
        rows.append((record(f"v{number:03d}.mp4", 30), embeddings(vectors.astype(np.float32))))
    write_store(tmp_path / "f.h5", identity(16), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I")
    chosen, places = map_points(index, most=2500)
    assert places.shape == (2500, 2)
    assert np.abs(places).max() <= 1
    group = index.searcher.clips["video"][chosen] % 5
    distance = np.linalg.norm(places[:400, None] - places[None], axis=2)
    near = np.argsort(distance, axis=1)[:, 1:6]
    assert (group[near] == group[:400, None]).mean() > 0.8


def test_serve_options_and_a_taken_port(site):
    import socket

    from vidfeat.web.server import ServeOptions, serve

    with pytest.raises(UsageError, match="port must be from 0"):
        ServeOptions(port=70_000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="another port"):
            serve(site.folder / "INDEX", ServeOptions(port=port, cache=site.folder / "c"))


def test_json_is_strict(site):
    for path in ("/api/index", "/api/videos", "/api/search?video=0"):
        json.loads(site.get(path).text, parse_constant=lambda name: pytest.fail(name))


def test_addresses_name_videos_by_path(site):
    found = site.get("/api/find", params={"path": "a/v0.mp4"}).json()["id"]
    assert site.get(f"/api/videos/{found}").json()["path"] == "a/v0.mp4"
    assert site.get("/api/find", params={"path": "a/none.mp4"}).status_code == 404


def test_a_search_goes_by_the_name_filter(site):
    number = site.get("/api/find?path=a/v0.mp4").json()["id"]
    whole = site.get(f"/api/search?video={number}").json()["results"]
    named = site.get(f"/api/search?video={number}&text=V3").json()["results"]
    assert {one["path"] for one in named} == {one["path"] for one in whole if "v3" in one["path"]}
    assert named


def test_the_page_asks_by_relative_addresses(site):
    import re

    for name in ("app.js", "folders.js", "grid.js", "map.js", "player.js"):
        text = site.get(f"/static/{name}").text
        assert not re.search(r"[`\"'(]/(api|thumb|media|clip|static)/", text)
    assert 'src="static/app.js"' in site.get("/").text
