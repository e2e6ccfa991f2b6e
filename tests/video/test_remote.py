"""Videos behind URLs: the same frames, few bytes, and no wrong answer from a bad connection."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.remote_server import (
    Faults,
    RemoteServer,
    point_s3_to,
    running_server,  # noqa: F401
)
from tests.support.video_assets import render, x264
from tests.support.video_fixtures import asset  # noqa: F401
from vidfeat.errors import MissingExtraError, UsageError, VideoError
from vidfeat.video import remote, remote_stores
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.clips import Clip
from vidfeat.video.containers import open_chosen
from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import ClipSource, Finished, VideoTask
from vidfeat.video.packets import scan_packets
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import VideoReader, open_video, probe, read_frames
from vidfeat.video.remote import BLOCK_BYTES, RemoteFile, open_remote
from vidfeat.video.remote_stores import Cut, State, stamp_of
from vidfeat.video.sparse import scan_sparsely

# What reads differently: with a table, with several edits, codecs, no table, streams to choose of.
ASSETS = (
    *("edit_list_skips_lead", "edit_list_two_segments", "h264_open_gop", "hevc_open_gop", "av1"),
    *("vfr_mp4", "fragmented", "cover_then_video", "late_start_ts", "mkv_ntsc", "mjpeg"),
    *("mpeg4_packed", "h264_intra_refresh"),
)
SOURCE = ClipSource(ClipPlan(8, clips=1), Preprocess((32, 32), (32, 32)))


@pytest.fixture
def server(running: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    """The server without faults; nothing waits between attempts."""
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.001)
    running.reset()
    running.files.clear()
    return running


FRAMES = 150


def noise(path: Path, *, group: int) -> Path:
    """Six seconds of noise, a key frame every ``group`` frames; the table stands at the end."""
    chance = np.random.default_rng(3)
    pictures = chance.integers(0, 256, (4, 96, 128, 3), dtype=np.uint8)
    options = x264(f"keyint={group}", f"min-keyint={group}", "scenecut=0")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(pictures[number % 4], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = noise(tmp_path_factory.mktemp("large") / "large.mp4", group=50)
    assert path.stat().st_size > 10 * BLOCK_BYTES
    return path


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is kept, so that reading on means fetching."""
    monkeypatch.setattr(remote, "MOST_BLOCKS", 4)
    monkeypatch.setattr(remote, "MOST_BLOCKS_AT_ONCE", 2)


def frames_of(video: VideoReader, positions: list[int]) -> list[np.ndarray]:
    return video.settled(lambda: [frame.to_ndarray() for _, frame in video.frames(positions)])


def remote_of(video: VideoReader) -> RemoteFile:
    assert video._remote is not None
    return video._remote


@pytest.mark.parametrize("name", ASSETS)
def test_frames_are_those_of_the_file(
    name: str,
    asset: Callable[[str], Path],  # noqa: F811
    server: RemoteServer,
) -> None:
    path = asset(name)
    server.files[path.name] = path.read_bytes()
    with open_video(path) as here, open_video(server.url(path.name)) as there:
        everything = list(range(here.timeline.num_frames))
        for one, other in zip(
            frames_of(here, everything), frames_of(there, everything), strict=True
        ):
            assert np.array_equal(one, other)
        known, learnt = vars(here.info), vars(there.info)
        assert {k: v for k, v in known.items() if k not in ("path", "mtime_ns")} == {
            k: v for k, v in learnt.items() if k not in ("path", "mtime_ns")
        }
        assert there.info.path == server.url(path.name)
        assert (here.index is None) == (there.index is None)
        if here.index is not None and there.index is not None:
            for field, values in vars(here.index).items():
                assert np.array_equal(values, getattr(there.index, field)), field


def test_samples_that_are_left_out_do_not_change_the_packets(
    large: Path, server: RemoteServer
) -> None:
    """Times, keys and durations as if all had been read, for a fraction of the bytes."""
    server.files["large.mp4"] = large.read_bytes()
    container, stream, _ = open_chosen(str(large))
    with container:
        whole = scan_packets(container, stream)
    file = open_remote(server.url("large.mp4"))
    container, stream, _ = open_chosen(file.shown, None, file)
    with container:
        sparse = scan_sparsely(file, container, stream)
    assert sparse is not None
    assert whole.index is not None
    assert sparse.index is not None
    assert (sparse.packets, sparse.last_duration) == (whole.packets, whole.last_duration)
    for field, values in vars(whole.index).items():
        assert np.array_equal(values, getattr(sparse.index, field)), field
    assert file.bytes_fetched < file.size_bytes


def test_one_clip_fetches_parts_of_the_file_only(tmp_path: Path, server: RemoteServer) -> None:
    """With few key frames, as films have."""
    path = noise(tmp_path / "film.mp4", group=75)
    server.files["film.mp4"] = path.read_bytes()
    with open_video(server.url("film.mp4")) as video:
        frames_of(video, list(range(78, 86)))
        fetched = remote_of(video).bytes_fetched
    assert fetched <= server.bytes_sent
    assert fetched < 0.55 * path.stat().st_size


@pytest.mark.usefixtures("few_blocks")
def test_memory_is_bounded(large: Path, server: RemoteServer) -> None:
    server.files["large.mp4"] = large.read_bytes()
    with open_video(server.url("large.mp4")) as video, open_video(large) as here:
        positions = [0, 99, FRAMES - 1]
        for one, other in zip(frames_of(here, positions), frames_of(video, positions), strict=True):
            assert np.array_equal(one, other)
        assert len(remote_of(video)._blocks) <= 4


def test_cut_connections_are_taken_up_at_the_byte(large: Path, server: RemoteServer) -> None:
    """Each answer ends after 20 kB, less than a block: nothing is asked for twice."""
    server.files["large.mp4"] = large.read_bytes()
    server.faults.cut_after = 20_000
    with open_video(server.url("large.mp4")) as video, open_video(large) as here:
        assert frames_of(video, [77])[0].tobytes() == frames_of(here, [77])[0].tobytes()
        fetched = remote_of(video).bytes_fetched
    ranges = [asked.range for asked in server.asked]
    assert len(ranges) == len(set(ranges))
    assert sum(asked.sent for asked in server.asked) == fetched
    assert all(asked.sent <= 20_000 for asked in server.asked)


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("prefix", ["http", "s3"])
def test_a_dead_connection_is_no_end_of_the_video(
    prefix: str, large: Path, server: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is read when the server falls silent: an error, never a shorter video."""
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    url = server.url("bucket/large.mp4")
    if prefix == "s3":
        point_s3_to(server, monkeypatch)
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
        url = "s3://bucket/large.mp4"
    data = large.read_bytes()
    server.files["bucket/large.mp4"] = data
    with open_video(url) as video:
        server.faults.cut_after = 0
        with pytest.raises(VideoError, match="gave up after 2 attempts") as caught:
            frames_of(video, list(range(FRAMES)))
    assert caught.value.kind == "network"


class Unreliable:
    """A store whose attempts end early, or not at all, as told."""

    def __init__(self, data: bytes, lengths: Iterator[int | None]) -> None:
        self.data, self.lengths = data, lengths
        self.begun = data[: next(lengths, None) or 0][:256]
        self.state = State(len(data), 1)

    def fetch(self, start: int, end: int, into: bytearray) -> None:
        length = next(self.lengths, None)
        if length is None:
            into += self.data[start:end]
            return
        into += self.data[start : min(end, start + length)]
        raise Cut("the connection was cut")

    def check_unchanged(self) -> None:
        """Nothing changes."""

    def close(self) -> None:
        """Nothing is open."""


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 5000),
    lengths=st.lists(st.one_of(st.none(), st.integers(0, 700)), max_size=12),
    reads=st.lists(st.tuples(st.integers(0, 5200), st.integers(1, 900)), max_size=12),
    holes=st.lists(st.integers(0, 5000), max_size=6, unique=True),
)
def test_reads_are_right_or_fail(
    size: int,
    lengths: list[int | None],
    reads: list[tuple[int, int]],
    holes: list[int],
) -> None:
    """Of a file in small blocks: each byte is the file's, or a zero where it was left out."""
    data = random.Random(size).randbytes(size)
    ends = sorted(holes)[: len(holes) // 2 * 2]
    left_out = list(zip(ends[::2], ends[1::2], strict=True))
    expected = bytearray(data)
    for start, end in left_out:
        expected[start:end] = bytes(len(expected[start:end]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "PAUSE_SECONDS", 0.0)
        patch.setattr(remote, "BLOCK_BYTES", 256)
        patch.setattr(remote, "MOST_BLOCKS", 5)
        patch.setattr(remote, "MOST_BLOCKS_AT_ONCE", 3)
        patch.setattr(remote, "_PROGRESS_BYTES", 64)
        patch.setattr(
            remote, "open_store", lambda url, first_bytes: Unreliable(data, iter(lengths))
        )
        file = open_remote("x://host/a.mp4")
        cursor = file.cursor(left_out)
        for position, count in reads:
            cursor.seek(position)
            got = b""
            while len(got) < count and (more := cursor.read(count - len(got))):
                got += more
            whole = bytes(expected[position : position + count])
            assert got == whole or (file.failure is not None and whole.startswith(got))


FAULTS: dict[str, tuple[Faults, str, str]] = {
    "no ranges": (Faults(ranges=False), "unreadable", "does not support range requests"),
    "not there": (Faults(status={"a.mp4": 404}), "gone", "does not exist, or was deleted"),
    "forbidden": (Faults(status={"a.mp4": 403}), "unreadable", "403.*signature or password"),
    "broken": (Faults(status={"a.mp4": 500}), "network", "5 attempts: the server answers 500"),
    "another byte": (Faults(start_off_by=1), "unreadable", "bytes from 1 instead of 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_servers_that_cannot_be_read(name: str, large: Path, server: RemoteServer) -> None:
    server.files["a.mp4"] = large.read_bytes()
    server.faults, kind, message = FAULTS[name]
    with pytest.raises(VideoError, match=message) as caught:
        probe(server.url("a.mp4?sig=abc"))
    assert caught.value.kind == kind
    assert caught.value.path == server.url("a.mp4")


def test_a_busy_server_is_asked_again(large: Path, server: RemoteServer) -> None:
    server.files["a.mp4"] = large.read_bytes()
    server.faults.busy = 3
    assert probe(server.url("a.mp4")).num_frames == FRAMES


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("fault", ["length", "other file", "no tags"])
def test_a_file_that_changes_while_it_is_read(
    fault: str, large: Path, server: RemoteServer
) -> None:
    """Two files are never mixed: by ETag, by length, or by the time of change."""
    data = large.read_bytes()
    server.files["a.mp4"] = data
    if fault == "no tags":
        server.faults.tags = False
    with open_video(server.url("a.mp4")) as video:
        if fault == "length":
            server.faults.total_off_by = -5
        elif fault == "other file":
            server.files["a.mp4"] = bytes(reversed(data))
        else:
            server.files["a.mp4"] = data + b"more"
        with pytest.raises(VideoError, match="changed during the run"):
            frames_of(video, list(range(FRAMES)))


@pytest.mark.usefixtures("few_blocks")
def test_an_object_that_changes_while_it_is_read(
    large: Path, server: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is asked for the ETag that was seen first."""
    point_s3_to(server, monkeypatch)
    data = large.read_bytes()
    server.files["bucket/a.mp4"] = data
    with open_video("s3://bucket/a.mp4") as video:
        server.files["bucket/a.mp4"] = bytes(reversed(data))
        with pytest.raises(VideoError, match="changed during the run"):
            frames_of(video, list(range(FRAMES)))


def test_a_video_must_be_as_it_was_listed(large: Path, server: RemoteServer) -> None:
    server.files["a.mp4"] = large.read_bytes()
    url = server.url("a.mp4")
    state = open_remote(url).state
    task = VideoTask(url, state=(state.size_bytes, state.stamp + 1))
    ((_, event),) = decode_inline(SOURCE, [task])
    assert isinstance(event, Finished)
    assert event.error is not None
    assert "changed during the run" in str(event.error)
    *_, (_, event) = decode_inline(SOURCE, [VideoTask(url, state=tuple(state))])
    assert isinstance(event, Finished)
    assert event.error is None


def test_pieces_of_a_video_are_of_one_state(large: Path, server: RemoteServer) -> None:
    """What one process found out about a video holds for that state of it alone."""
    server.files["a.mp4"] = large.read_bytes()
    with open_video(server.url("a.mp4")) as video:
        known = video.known
    server.files["a.mp4"] = large.read_bytes() + b"more"
    with pytest.raises(VideoError, match="changed"), open_video(server.url("a.mp4"), known=known):
        pass


def test_decode_processes_read_urls(large: Path, server: RemoteServer) -> None:
    server.files["a.mp4"] = large.read_bytes()
    server.faults.cut_after = 200_000
    with DecodePool(SOURCE, 1) as pool:
        events = [event for _, event in pool.run([VideoTask(server.url("a.mp4?sig=abc"))])]
    (clip,) = [event for event in events if isinstance(event, Clip)]
    (here,) = [
        event
        for _, event in decode_inline(SOURCE, [VideoTask(str(large))])
        if isinstance(event, Clip)
    ]
    assert np.array_equal(clip.frames_THWC, here.frames_THWC)


def test_small_and_odd_files(tmp_path: Path, server: RemoteServer) -> None:
    render(tmp_path / "a b.mp4", range(5))
    server.files |= {
        "a b.mp4": (tmp_path / "a b.mp4").read_bytes(),
        "empty.mp4": b"",
        "page.mp4": b"<html>no video</html>",
        "list.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "cut.mp4": (tmp_path / "a b.mp4").read_bytes()[:300],
    }
    assert probe(server.url("a%20b.mp4")).num_frames == 5
    assert read_frames(server.url("a b.mp4"), [4, 0]).shape == (2, 64, 96, 3)
    for name, message in {
        "empty.mp4": "empty",
        "page.mp4": "text file",
        "list.mp4": "playlist",
        "cut.mp4": "cut short",
    }.items():
        with pytest.raises(VideoError, match=message) as caught:
            probe(server.url(name))
        assert caught.value.kind == "not_video"


def test_redirects_keep_to_https(server: RemoteServer, tmp_path: Path) -> None:
    render(tmp_path / "a.mp4", range(5))
    server.files["a.mp4"] = (tmp_path / "a.mp4").read_bytes()
    server.faults.redirect["b.mp4"] = server.url("a.mp4")
    assert probe(server.url("b.mp4")).num_frames == 5
    store = remote_stores.WebStore.__new__(remote_stores.WebStore)
    store._url = remote_stores.parse_url("https://host/a.mp4")

    class Answer:
        class url:  # noqa: N801 (as aiohttp calls it)
            scheme = "http"

    with pytest.raises(VideoError, match="from https to http"):
        store._check(Answer(), 0)


def test_the_stamp_is_of_the_etag_or_else_of_the_time() -> None:
    tag = stamp_of({"ETag": '"abc"', "Last-Modified": "yesterday"})
    assert tag == stamp_of({"etag": "abc"}) == stamp_of({"ETag": 'W/"abc"', "LastModified": "x"})
    assert tag != stamp_of({"ETag": '"abd"'})
    assert stamp_of({"Last-Modified": "yesterday"}) not in (0, tag)
    assert stamp_of({"size": 5}) == 0
    assert 0 < tag < 1 << 63


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nothing://host/a.mp4", UsageError, "fsspec has no protocol"),
        ("reference://host/a.mp4", UsageError, "wraps other files"),
        ("simplecache::https://host/a.mp4", UsageError, "nested URLs"),
    ],
)
def test_protocols_that_are_refused(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        probe(url)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(protocol: str) -> Any:
        raise ImportError("no such package")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingExtraError, match=r"needs the package s3fs.*'vidfeat\[s3\]'"):
        probe("s3://bucket/a.mp4")
    with pytest.raises(MissingExtraError, match=r"needs the package aiohttp.*'vidfeat\[http\]'"):
        probe("https://host/a.mp4")
