"""Videos behind URLs to a feature file: that of the same files, resumed by the same rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.remote_server import (
    Faults,
    RemoteServer,
    point_s3_to,
    running_server,  # noqa: F401
)
from tests.support.store_fixtures import arrays_of
from tests.support.video_assets import render, x264
from vidfeat.cli.extract import command as extract_command
from vidfeat.cli.info import command as info_command
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import NothingDoneError, StoreError
from vidfeat.extraction.dry_run import dry_run
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.store.reader import FeatureStore
from vidfeat.video import remote
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice

HERE = ExtractOptions(workers=0)
SECRET = "X-Amz-Signature=0123456789abcdef"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(
        "r2plus1d_10_w16", "random", plan=PlanChoice(frames=4, clips=1), batch_size=4
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, count in {"run/a b.mp4": 40, "run/b.mp4": 9, "jump/c.mp4": 3}.items():
        render(folder / name, range(count), gop=12, options=x264())
    return folder


@pytest.fixture
def server(running: RemoteServer, videos: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.001)
    point_s3_to(running, monkeypatch)
    running.reset()
    running.files.clear()
    running.put_folder(videos, "bucket/p/")
    return running


def urls(server: RemoteServer, query: str = SECRET) -> list[str]:
    return [server.url(f"{path.replace(' ', '%20')}?{query}") for path in sorted(server.files)]


def same_but_for_the_times(path: Path, other: Path) -> None:
    """Vectors, seconds, paths and all the rest, but for the time of change of files."""
    mine, theirs = arrays_of(path), arrays_of(other)
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        if name != "videos/mtime_ns":
            assert np.array_equal(values, theirs[name]), name


def test_the_file_is_that_of_the_local_videos(
    encoder: Encoder, videos: Path, server: RemoteServer, tmp_path: Path
) -> None:
    extract(videos, tmp_path / "local.h5", encoder, options=HERE)
    extract("s3://bucket/p", tmp_path / "s3.h5", encoder, options=HERE)
    report = extract(urls(server), tmp_path / "web.h5", encoder, options=HERE)
    assert (report.videos, report.failures) == (3, [])
    same_but_for_the_times(tmp_path / "s3.h5", tmp_path / "local.h5")
    same_but_for_the_times(tmp_path / "web.h5", tmp_path / "local.h5")
    fetched = report.decoding.bytes_fetched
    assert 0 < fetched <= sum(len(data) for data in server.files.values())
    assert report.notes[0].startswith("fetched ")
    with FeatureStore(tmp_path / "web.h5") as store:
        assert store.source_root == server.url("bucket/p")
        assert list(store.paths) == ["jump/c.mp4", "run/a b.mp4", "run/b.mp4"]


def test_decode_processes_and_cut_connections_give_the_same_file(
    encoder: Encoder, videos: Path, server: RemoteServer, tmp_path: Path
) -> None:
    extract(videos, tmp_path / "local.h5", encoder, options=HERE)
    server.faults = Faults(cut_after=5000, cuts=2)
    for again in (False, True, True):
        # on a machine too busy to answer in time, the next run tries again
        two = ExtractOptions(workers=2, retry_errors=again)
        report = extract("s3://bucket/p", tmp_path / "s3.h5", encoder, options=two)
        if not report.failures:
            break
    assert [(failure.kind, failure.message) for failure in report.failures] == []
    assert report.decoding.bytes_fetched > 0
    same_but_for_the_times(tmp_path / "s3.h5", tmp_path / "local.h5")


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_a_second_run_reads_what_has_another_etag(
    kind: str, encoder: Encoder, videos: Path, server: RemoteServer, tmp_path: Path
) -> None:
    def run(query: str = SECRET) -> tuple[int, int, list[str]]:
        inputs = ["s3://bucket/p"] if kind == "s3" else urls(server, query)
        server.asked.clear()
        report = extract(inputs, tmp_path / "f.h5", encoder, options=HERE)
        read = {a.path for a in server.asked if a.method == "GET" and a.sent > 1}
        return report.videos_reused, report.videos, sorted(read)

    assert run()[:2] == (0, 3)
    before = arrays_of(tmp_path / "f.h5")
    assert run("X-Amz-Signature=another") == (3, 3, [])
    data = server.files["bucket/p/run/b.mp4"]
    server.files["bucket/p/run/b.mp4"] = server.files["bucket/p/jump/c.mp4"]
    assert run() == (2, 3, ["bucket/p/run/b.mp4"])
    server.files["bucket/p/run/b.mp4"] = data
    assert run() == (2, 3, ["bucket/p/run/b.mp4"])
    after = arrays_of(tmp_path / "f.h5")
    assert all(np.array_equal(values, after[name]) for name, values in before.items())


def test_videos_that_are_gone_are_dropped_and_the_unknown_kept(
    encoder: Encoder, server: RemoteServer, tmp_path: Path
) -> None:
    """A signed URL is needed to ask: without one, a video that is not named stays."""
    extract("s3://bucket/p", tmp_path / "f.h5", encoder, options=HERE)
    del server.files["bucket/p/run/b.mp4"]
    report = extract("s3://bucket/p", tmp_path / "f.h5", encoder, options=HERE)
    assert (report.videos, report.videos_dropped) == (2, 1)

    every = urls(server)
    extract(every, tmp_path / "g.h5", encoder, options=HERE)
    server.faults.status = {"bucket/p/jump/c.mp4": 403}
    root = server.url("bucket/p")
    report = extract(every[1:], tmp_path / "g.h5", encoder, root=root, options=HERE)
    assert (report.videos, report.videos_dropped) == (2, 0)
    server.faults.status = {"bucket/p/jump/c.mp4": 404}
    report = extract(every[1:], tmp_path / "g.h5", encoder, root=root, options=HERE)
    assert (report.videos, report.videos_dropped) == (1, 1)


def test_a_server_that_fails_costs_one_video_and_is_asked_again(
    encoder: Encoder, videos: Path, server: RemoteServer, tmp_path: Path
) -> None:
    listing = list_videos(urls(server))
    server.faults = Faults(cut_after=0, cut_paths=("bucket/p/run/b.mp4",))
    report = extract(listing, tmp_path / "f.h5", encoder, options=HERE)
    (failure,) = report.failures
    assert (failure.path, failure.kind) == ("run/b.mp4", "network")
    assert "gave up after 5 attempts" in failure.message
    server.faults = Faults()
    report = extract(listing, tmp_path / "f.h5", encoder, options=HERE)
    assert (report.videos_reused, report.failures) == (2, [])
    extract(videos, tmp_path / "local.h5", encoder, options=HERE)
    same_but_for_the_times(tmp_path / "f.h5", tmp_path / "local.h5")


def test_a_video_that_changes_during_the_run_is_a_failure(
    encoder: Encoder, server: RemoteServer, tmp_path: Path
) -> None:
    listing = list_videos(["s3://bucket/p"])
    server.files["bucket/p/run/b.mp4"] = server.files["bucket/p/jump/c.mp4"]
    report = extract(listing, tmp_path / "f.h5", encoder, options=HERE)
    (failure,) = report.failures
    assert (failure.path, failure.kind) == ("run/b.mp4", "unreadable")
    assert "changed during the run" in failure.message
    report = extract("s3://bucket/p", tmp_path / "f.h5", encoder, options=HERE)
    assert (report.videos_reused, report.failures) == (2, [])


def test_other_roots(encoder: Encoder, videos: Path, server: RemoteServer, tmp_path: Path) -> None:
    """A copy in another bucket has moved; files of a disk, or others of the name, have not."""
    extract("s3://bucket/p", tmp_path / "f.h5", encoder, options=HERE)
    server.put_folder(videos, "other/q/")
    report = extract("s3://other/q", tmp_path / "f.h5", encoder, options=HERE)
    assert report.videos_reused == 3
    server.files["bucket/p/run/b.mp4"] = server.files["bucket/p/jump/c.mp4"]
    with pytest.raises(StoreError, match="made from s3://other/q, and 1 of its 3 videos are diff"):
        extract("s3://bucket/p", tmp_path / "f.h5", encoder, options=HERE)
    extract(videos, tmp_path / "g.h5", encoder, options=HERE)
    with pytest.raises(StoreError, match="give root="):
        extract("s3://other/q", tmp_path / "g.h5", encoder, options=HERE)


def test_nothing_is_written_when_no_server_answers(
    encoder: Encoder, server: RemoteServer, tmp_path: Path
) -> None:
    extract(urls(server), tmp_path / "f.h5", encoder, options=HERE)
    before = (tmp_path / "f.h5").read_bytes()
    server.faults.status = dict.fromkeys(server.files, 500)
    with pytest.raises(NothingDoneError, match="the server answers 500"):
        extract(urls(server), tmp_path / "f.h5", encoder, options=HERE)
    assert (tmp_path / "f.h5").read_bytes() == before


def test_a_dry_run_and_shards(encoder: Encoder, server: RemoteServer, tmp_path: Path) -> None:
    listing = list_videos(["s3://bucket/p"])
    found = dry_run(listing, encoder, options=HERE)
    assert (found.videos, found.clips, found.failures) == (3, 3, ())
    counts = [
        extract(
            listing,
            tmp_path / f"{k}.h5",
            encoder,
            options=ExtractOptions(workers=0, shard=(k, 2)),
        ).videos
        for k in (1, 2)
    ]
    assert sum(counts) == 3


def test_python_takes_urls_too(encoder: Encoder, videos: Path, server: RemoteServer) -> None:
    here = encoder.encode(videos / "run/a b.mp4")
    there = encoder.encode(server.url("bucket/p/run/a%20b.mp4"))
    assert np.array_equal(here.vectors, there.vectors)
    assert np.array_equal(here.start_seconds, there.start_seconds)


def test_outputs_are_files() -> None:
    outcome = CliRunner().invoke(extract_command, ["s3://bucket/p", "-o", "s3://bucket/f.h5"])
    assert outcome.exit_code == 2
    assert "s3://bucket/f.h5: outputs are local files" in outcome.output


def test_the_command_prints_and_stores_no_secret(
    encoder: Encoder, server: RemoteServer, tmp_path: Path
) -> None:
    """Not in the file, its parts, the statistics, the output, or an error."""
    server.files["bucket/p/broken.mp4"] = b"no video"
    (tmp_path / "list.txt").write_text("\n".join([*urls(server), server.url(f"gone.mp4?{SECRET}")]))
    words = ["--list", str(tmp_path / "list.txt"), "-o", str(tmp_path / "f.h5")]
    words += ["--model", "r2plus1d_10_w16", "--weights", "random", "--clips", "1", "--json"]
    words += ["--workers", "0", "--stats", str(tmp_path / "stats.json")]
    outcome = CliRunner().invoke(extract_command, words)
    assert outcome.exception is None, outcome.output
    events = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert {e["path"] for e in events if e["event"] == "failure"} == {
        "bucket/p/broken.mp4",
        "gone.mp4",
    }
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.name != "list.txt"]
    for text in [outcome.output.encode(), *written]:
        assert b"Amz" not in text
        assert b"0123456789abcdef" not in text
    outcome = CliRunner().invoke(info_command, [str(tmp_path / "f.h5")])
    assert server.address in outcome.output
    outcome = CliRunner().invoke(info_command, [urls(server)[2]])
    assert outcome.exit_code == 0, outcome.output
    assert "a video of" in outcome.output
    assert "Amz" not in outcome.output
