"""Which videos are behind URLs: prefixes searched, lists, roots, and what must not be stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.remote_server import (
    RemoteServer,
    point_s3_to,
    running_server,  # noqa: F401
)
from vidfeat.errors import UsageError
from vidfeat.video import remote
from vidfeat.video.listing import Listing, list_videos, read_list


@pytest.fixture
def server(running: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    """A bucket, which the web server shows too."""
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.001)
    point_s3_to(running, monkeypatch)
    running.reset()
    running.files.clear()
    for name in ("p/run/b.mp4", "p/a b.MKV", "p/notes.txt", "p/.hidden/c.mp4", "p2/d.mp4"):
        running.files[f"bucket/{name}"] = name.encode()
    return running


def names(listing: Listing) -> list[str]:
    return [video.identity for video in listing.videos]


def test_a_prefix_is_searched_like_a_folder(server: RemoteServer) -> None:
    listing = list_videos(["s3://bucket/p"])
    assert names(listing) == ["a b.MKV", "run/b.mp4"]
    assert listing.root == "s3://bucket/p"
    assert [video.path for video in listing.videos] == [
        "s3://bucket/p/a b.MKV",
        "s3://bucket/p/run/b.mp4",
    ]
    assert [video.size_bytes for video in listing.videos] == [9, 11]
    (note,) = listing.notes
    assert note.endswith("1 .txt")
    assert names(list_videos(["s3://bucket/p/"])) == names(listing)
    whole = list_videos(["s3://bucket"])
    assert whole.root == "s3://bucket"
    assert names(whole) == ["p/a b.MKV", "p/run/b.mp4", "p2/d.mp4"]
    assert names(list_videos(["s3://bucket/p"], "s3://bucket")) == ["p/a b.MKV", "p/run/b.mp4"]


def test_single_urls_have_the_folder_above_them_as_root(server: RemoteServer) -> None:
    one = list_videos(["s3://bucket/p/run/b.mp4"])
    assert (one.root, names(one)) == ("s3://bucket/p/run", ["b.mp4"])
    two = list_videos([server.url("bucket/p/run/b.mp4"), server.url("bucket/p2/d.mp4")])
    assert (two.root, names(two)) == (server.url("bucket"), ["p/run/b.mp4", "p2/d.mp4"])
    coded = list_videos([server.url("bucket/p/a%20b.MKV?X-Amz-Signature=abc")])
    assert (coded.root, names(coded)) == (server.url("bucket/p"), ["a b.MKV"])


def test_one_video_has_one_state_however_it_is_found(server: RemoteServer) -> None:
    searched = list_videos(["s3://bucket/p/run"]).videos[0]
    named = list_videos(["s3://bucket/p/run/b.mp4"]).videos[0]
    by_web = list_videos([server.url("bucket/p/run/b.mp4")]).videos[0]
    assert (searched.size_bytes, searched.mtime_ns) == (named.size_bytes, named.mtime_ns)
    assert (searched.size_bytes, searched.mtime_ns) == (by_web.size_bytes, by_web.mtime_ns)
    server.files["bucket/p/run/b.mp4"] = b"another one"
    changed = list_videos(["s3://bucket/p/run"]).videos[0]
    assert changed.size_bytes == searched.size_bytes
    assert changed.mtime_ns != searched.mtime_ns


def test_lists_of_urls(server: RemoteServer, tmp_path: Path) -> None:
    """Quotes, spaces and line ends are skipped; what is not there is a failure of its own."""
    wanted = [server.url("bucket/p/run/b.mp4?a=1"), server.url("bucket/p2/gone.mp4")]
    (tmp_path / "list.txt").write_bytes(f'"{wanted[0]}"\r\n {wanted[1]} ;\r\n'.encode())
    assert read_list(str(tmp_path / "list.txt")) == wanted
    listing = list_videos([], listed=wanted)
    assert names(listing) == ["p/run/b.mp4", "p2/gone.mp4"]
    assert listing.videos[1].size_bytes == -1


def test_segments_of_urls(server: RemoteServer, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text(
        "path,start_seconds,end_seconds\nrun/b.mp4,1,2\ns3://bucket/p/a b.MKV,3,4\n", "utf-8"
    )
    listing = list_videos(["s3://bucket/p"], None, table)
    assert [video.segments[0].start_seconds for video in listing.videos] == [3.0, 1.0]
    assert names(list_videos([], "s3://bucket/p", table)) == ["a b.MKV", "run/b.mp4"]


def test_file_urls_are_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (video,) = list_videos([f"file://{tmp_path}"]).videos
    assert video.path == str(tmp_path / "a.mp4")


def test_names_that_no_file_can_have_are_passed_over(server: RemoteServer) -> None:
    """They would lead out of a folder that features are exported to."""
    for key in ("../up.mp4", "/top.mp4", "x//y.mp4", "x/./y.mp4"):
        server.files[f"bucket/p/{key}"] = b"x"
    listing = list_videos(["s3://bucket/p"])
    assert names(listing) == ["a b.MKV", "run/b.mp4"]
    assert "4 objects have names that no file can have" in " ".join(listing.notes)


REFUSED = {
    "a file and a URL": (["s3://bucket/p", "/"], "is a URL, but / is a file"),
    "two buckets": (["s3://bucket/p", "s3://other/p"], "no common root"),
    "two protocols": (["s3://bucket/p", "{web}/bucket/p/run/b.mp4"], "no common root"),
    "not there": (["s3://bucket/nothing"], "s3://bucket/nothing: no such file or folder"),
    "no page": (["{web}/bucket/gone.mp4?sig=abc"], "/bucket/gone.mp4: no such file or folder"),
    "a folder of the web": (["{web}/bucket/p/"], "folders of web servers cannot be listed"),
    "one path twice": (
        ["{web}/bucket/p2/d.mp4?sig=abc", "{web}/bucket/p2/d.mp4?sig=abd"],
        "inputs 1 and 2 have the same path, .*/bucket/p2/d.mp4",
    ),
    "a name that leads out": (
        ["{web}/bucket/p/%2e%2e/b.mp4"],
        "not a path of a video|no such file",
    ),
    "no video": (["s3://bucket/p/.hidden"], "no video found in s3://bucket/p/.hidden"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_are_refused(name: str, server: RemoteServer) -> None:
    inputs, message = REFUSED[name]
    server.files.pop("bucket/p/.hidden/c.mp4")
    server.files["bucket/p/.hidden/c.txt"] = b"x"
    with pytest.raises(UsageError, match=message) as caught:
        list_videos([text.replace("{web}", server.address) for text in inputs])
    assert "abc" not in str(caught.value)


def test_outside_of_the_root(server: RemoteServer) -> None:
    with pytest.raises(UsageError, match="lies outside root=s3://bucket/p2"):
        list_videos(["s3://bucket/p/run/b.mp4"], "s3://bucket/p2")
    with pytest.raises(UsageError, match="is a URL, but"):
        list_videos(["s3://bucket/p/run/b.mp4"], "/")


def test_frame_folders_are_read_from_disks(server: RemoteServer) -> None:
    with pytest.raises(UsageError, match="cannot be read from URLs"):
        list_videos(["s3://bucket/p"], frames=True)


def test_servers_without_ranges_or_tags_are_named_once(server: RemoteServer) -> None:
    urls = [server.url("bucket/p/run/b.mp4"), server.url("bucket/p2/d.mp4")]
    server.faults.tags = server.faults.times = False
    listing = list_videos(urls)
    assert [video.mtime_ns for video in listing.videos] == [0, 0]
    assert listing.notes == (
        "the server reports neither ETag nor modification time: a video counts as unchanged while "
        "its size is the same",
    )
    server.faults.ranges = False
    listing = list_videos(urls)
    assert listing.notes == (
        f"{server.address} does not support range requests, so 2 videos cannot be read from there: "
        "download them and use the files",
    )


def test_a_bucket_that_is_not_ours(server: RemoteServer) -> None:
    server.faults.status["bucket"] = 403
    with pytest.raises(UsageError, match=r"s3://bucket/p/ cannot be listed: .*Forbidden"):
        list_videos(["s3://bucket/p/"])
