"""The main job: a folder of videos to one feature file, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support.store_fixtures import arrays_of
from tests.support.video_assets import render, x264
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.replicas import parse_devices
from vidfeat.encoders.load import encoder_from_description, load_encoder
from vidfeat.errors import (
    FingerprintError,
    LockedError,
    NothingDoneError,
    ReplicaError,
    StoreError,
    UsageError,
)
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.extraction.steps import part_inputs
from vidfeat.store.reader import FeatureStore
from vidfeat.system.lock import OutputLock
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.reader import read_frames

MODEL = "r2plus1d_10_w16"
PLAN = PlanChoice(frames=4)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL, "random", plan=PLAN, batch_size=4)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i, count in enumerate([40, 9, 23, 3, 70]):
        render(folder / f"{'ab'[i % 2]}" / f"v{i}.mp4", range(count), gop=12, options=x264())
    return folder


@pytest.fixture
def videos(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "videos"))


def assert_equal(path: Path, other: Path) -> None:
    mine, theirs = arrays_of(path), arrays_of(other)
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        assert np.array_equal(values, theirs[name]), name


def test_the_contract_by_plain_h5py(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    report = extract(videos, tmp_path / "f.h5", encoder)
    assert (report.videos, report.failures) == (5, [])
    with h5py.File(tmp_path / "f.h5") as file:
        assert file.attrs["format"] == "vidfeat-features"
        assert file.attrs["format_version"] == 1
        described = json.loads(file.attrs["encoder"])
        assert described["model"] == MODEL
        assert described["plan"]["frames"] == 4
        assert len(file.attrs["space_fingerprint"]) == len(file.attrs["run_fingerprint"]) == 64
        assert file.attrs["source_root"] == str(videos)
        paths = [path.decode() for path in file["videos/path"][:]]
        assert (
            paths == sorted(paths) == ["a/v0.mp4", "a/v2.mp4", "a/v4.mp4", "b/v1.mp4", "b/v3.mp4"]
        )
        count, offset = file["videos/count"][:], file["videos/offset"][:]
        # side by side, and one more that ends with the video where a rest is left
        assert count.tolist() == [10, 6, 18, 3, 1]
        assert offset.tolist() == [0, 10, 16, 34, 37]
        assert file["vectors"].shape == (38, encoder.dimension)
        assert np.array_equal(file["video"][:], np.repeat(np.arange(5), count))
        start, end = file["start_seconds"][:], file["end_seconds"][:]
        assert start[:3] == pytest.approx([0, 4 / 30, 8 / 30])
        assert end[:3] == pytest.approx([4 / 30, 8 / 30, 12 / 30])
        assert file["videos/num_frames"][:].tolist() == [40, 23, 70, 9, 3]
        assert len(file["errors/path"]) == 0


def test_workers_and_memory_change_nothing(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    extract(videos, tmp_path / "one.h5", encoder, options=ExtractOptions(workers=0))
    small = ExtractOptions(workers=2, buffer_bytes=1)
    extract(videos, tmp_path / "two.h5", encoder, options=small)
    assert_equal(tmp_path / "one.h5", tmp_path / "two.h5")


def test_the_second_run_reads_nothing(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    extract(videos, tmp_path / "f.h5", encoder)
    before = arrays_of(tmp_path / "f.h5")
    report = extract(videos, tmp_path / "f.h5", encoder)
    assert (report.videos_reused, report.clips_encoded, report.clips) == (5, 0, 38)
    after = arrays_of(tmp_path / "f.h5")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_new_changed_and_vanished_videos(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    extract(videos, tmp_path / "f.h5", encoder)
    (videos / "a" / "v2.mp4").unlink()
    render(videos / "b" / "v1.mp4", range(16), options=x264())
    render(videos / "c" / "new.mp4", range(8), options=x264())
    report = extract(videos, tmp_path / "f.h5", encoder)
    assert (report.videos, report.videos_reused, report.videos_dropped) == (5, 3, 1)
    assert report.clips_encoded == 4 + 2
    extract(videos, tmp_path / "fresh.h5", encoder)
    mine, fresh = arrays_of(tmp_path / "f.h5"), arrays_of(tmp_path / "fresh.h5")
    assert np.allclose(mine.pop("vectors"), fresh.pop("vectors"), rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(mine[name], fresh[name]) for name in mine)


def test_a_subfolder_keeps_what_is_not_gone(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    extract(videos, output, encoder)
    with pytest.raises(StoreError, match="root="):
        extract(videos / "a", output, encoder)
    report = extract(videos / "a", output, encoder, root=videos)
    assert (report.videos, report.videos_dropped) == (5, 0)


def test_failures_are_remembered_until_asked(
    encoder: Encoder, videos: Path, tmp_path: Path
) -> None:
    bad = videos / "a" / "bad.mp4"
    bad.write_text("no video")
    output = tmp_path / "f.h5"
    assert len(extract(videos, output, encoder).failures) == 1
    again = extract(videos, output, encoder)
    assert [failure.tries for failure in again.failures] == [1]
    retried = extract(videos, output, encoder, options=ExtractOptions(retry_errors=True))
    assert [failure.tries for failure in retried.failures] == [2]
    render(bad, range(4), options=x264())  # mended: tried again by itself
    report = extract(videos, output, encoder)
    assert (report.failures, report.videos) == ([], 6)


def test_other_settings_are_refused(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    extract(videos, tmp_path / "f.h5", encoder)
    other = load_encoder(MODEL, "random", plan=PlanChoice(frames=4, hop_frames=2))
    with pytest.raises(FingerprintError, match=r"hop_frames was null, is 2.*overwrite=True"):
        extract(videos, tmp_path / "f.h5", other)
    report = extract(videos, tmp_path / "f.h5", other, options=ExtractOptions(overwrite=True))
    assert report.videos_reused == 0


def test_outputs_that_are_something_else(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    note = tmp_path / "notes.txt"
    note.write_text("mine")
    for options in (None, ExtractOptions(overwrite=True)):
        with pytest.raises(StoreError, match=r"notes\.txt"):
            extract(videos, note, encoder, options=options)
    assert note.read_text() == "mine"
    with pytest.raises(StoreError, match="folder"):
        extract(videos, tmp_path, encoder)
    with OutputLock(tmp_path / "f.h5"), pytest.raises(LockedError, match=str(os.getpid())):
        extract(videos, tmp_path / "f.h5", encoder)


def test_nothing_to_do(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such"):
        extract(tmp_path / "absent", tmp_path / "f.h5", encoder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no video found"):
        extract(tmp_path / "empty", tmp_path / "f.h5", encoder)
    (tmp_path / "empty" / "x.mp4").write_text("no video")
    with pytest.raises(NothingDoneError, match=r"the only video failed.*x.mp4"):
        extract(tmp_path / "empty", tmp_path / "f.h5", encoder)
    assert not (tmp_path / "f.h5").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_segments(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text(
        "path,start_seconds,end_seconds\na/v4.mp4,1.0,1.5\na/v4.mp4,0.2,0.4\na/v0.mp4,1,\nx.mp4,0,1\n"
    )
    report = extract(videos, tmp_path / "f.h5", encoder, segments=table)
    assert any("x.mp4" in note for note in report.notes)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.paths == ["a/v0.mp4", "a/v4.mp4"]
        rows = store.read("a/v4.mp4")
        assert rows.start_seconds[0] == pytest.approx(0.2)
        assert np.all(np.diff(rows.start_seconds) > 0)
        assert rows.start_seconds.max() < 1.5
        assert rows.end_seconds.max() <= 1.5 + 1e-6
        assert store.read("a/v0.mp4").start_seconds[0] == pytest.approx(1.0)
    table.write_text("path,start_seconds,end_seconds\na/v4.mp4,1.0,1.5\n")
    with pytest.raises(FingerprintError, match="segments"):
        extract(videos, tmp_path / "f.h5", encoder, segments=table)


def test_shards_merge_into_the_whole(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    from vidfeat.store.merge import merge_stores

    shards = [tmp_path / f"{k}.h5" for k in (1, 2, 3)]
    for k, shard in enumerate(shards, 1):
        extract(videos, shard, encoder, options=ExtractOptions(shard=(k, 3)))
    merge_stores(shards, tmp_path / "merged.h5")
    extract(videos, tmp_path / "whole.h5", encoder)
    mine, whole = arrays_of(tmp_path / "merged.h5"), arrays_of(tmp_path / "whole.h5")
    assert np.allclose(mine.pop("vectors"), whole.pop("vectors"), rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(mine[name], whole[name]) for name in mine)


def test_a_stored_vector_is_what_encode_gives(
    encoder: Encoder, videos: Path, tmp_path: Path
) -> None:
    extract(videos, tmp_path / "f.h5", encoder)
    with FeatureStore(tmp_path / "f.h5") as store:
        stored = store.read("a/v4.mp4")
    fresh = encoder.encode(videos / "a" / "v4.mp4")
    assert np.allclose(stored.vectors, fresh.vectors, rtol=1e-5, atol=1e-6)
    assert np.array_equal(stored.start_seconds, fresh.start_seconds)


def test_frames_in_memory_are_embedded_as_a_file_is(encoder: Encoder, videos: Path) -> None:
    path = videos / "a" / "v2.mp4"
    frames = read_frames(path, range(23))
    from_file, from_memory = encoder.encode(path), encoder.encode(frames, fps=30)
    assert np.allclose(from_file.vectors, from_memory.vectors, rtol=1e-5, atol=1e-6)
    assert np.allclose(from_file.end_seconds, from_memory.end_seconds)
    part = encoder.encode(path, segment=(0.2, 0.5))
    assert part.start_seconds[0] == pytest.approx(0.2)
    for wrong in (frames.astype(np.float32), frames[..., :2], frames[0]):
        with pytest.raises(UsageError, match="expected uint8"):
            encoder.encode(wrong, fps=30)
    resampled = load_encoder(MODEL, "random", plan=PlanChoice(frames=4, fps="15"))
    with pytest.raises(UsageError, match="fps="):
        resampled.encode(frames)


def test_an_encoder_is_found_again_by_its_description(encoder: Encoder, videos: Path) -> None:
    again = encoder_from_description(encoder.describe())
    assert again.space_fingerprint == encoder.space_fingerprint
    described = {**encoder.describe(), "weights_sha256": "0" * 64}
    with pytest.raises(FingerprintError, match="tensors differ"):
        encoder_from_description(described)


def test_replicas_give_the_same_file(encoder: Encoder, videos: Path, tmp_path: Path) -> None:
    """What several GPUs do, with processes on the CPU: order and rows do not depend on them."""
    extract(videos, tmp_path / "one.h5", encoder)
    spread = load_encoder(MODEL, "random", plan=PLAN, batch_size=4)
    spread.spread(["cpu", "cpu"])
    try:
        extract(videos, tmp_path / "two.h5", spread)
        assert_equal(tmp_path / "one.h5", tmp_path / "two.h5")
        spread.engines[0]._process.kill()
        (videos / "new.mp4").write_bytes((videos / "a" / "v0.mp4").read_bytes())
        with pytest.raises(ReplicaError, match="device cpu"):
            extract(videos, tmp_path / "two.h5", spread)
    finally:
        spread.close()
    assert extract(videos, tmp_path / "two.h5", encoder).videos == 6


def test_batches_side_by_side_give_the_same_file(
    encoder: Encoder, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one GPU does: the next batch is copied while one is computed."""
    extract(videos, tmp_path / "one.h5", encoder)
    monkeypatch.setattr(encoder.engine, "batches_at_once", 2)
    report = extract(videos, tmp_path / "two.h5", encoder)
    assert report.assembly["network_waited_seconds"] <= report.seconds
    assert 0 < report.seconds_to_first_clip < report.seconds_to_last_clip <= report.seconds
    assert_equal(tmp_path / "one.h5", tmp_path / "two.h5")


def test_devices_are_parsed() -> None:
    assert parse_devices("0,1", "auto") == ["cuda:0", "cuda:1"]
    assert parse_devices("cuda:1, cuda:0", "cuda") == ["cuda:1", "cuda:0"]
    assert parse_devices("0,0", "auto") == ["cuda:0", "cuda:0"]
    for text in ("", ","):
        with pytest.raises(UsageError, match="devices must be"):
            parse_devices(text, "cuda")
    with pytest.raises(UsageError, match="CUDA"):
        load_encoder(MODEL, "random", plan=PLAN).spread(["cuda:7"])


@pytest.mark.slow
def test_replicas_give_the_file_of_one_device(videos: Path, tmp_path: Path) -> None:
    """Two on one device, as ``--devices 0,0`` makes them."""
    one = load_encoder(MODEL, "random", plan=PLAN, batch_size=4, device="cpu")
    extract(videos, tmp_path / "one.h5", one)
    two = load_encoder(MODEL, "random", plan=PLAN, batch_size=4, device="cpu")
    two.spread(["cpu", "cpu"])
    try:
        report = extract(videos, tmp_path / "two.h5", two)
    finally:
        two.close()
    assert report.engine["execution"] == one.engine.execution
    assert_equal(tmp_path / "one.h5", tmp_path / "two.h5")


def test_part_sizes_follow_from_the_work_alone(encoder: Encoder) -> None:
    clips = part_inputs(encoder, ExtractOptions(workers=2))
    assert clips % encoder.batch_size == 0
    assert clips * encoder.dimension * 4 <= 64 << 20
    encoder_plan = encoder.plan
    assert isinstance(encoder_plan, ClipPlan)


RUN = """
import json
import sys
import vidfeat.extraction.run
from vidfeat.encoders.load import load_encoder
from vidfeat.video.plan_choice import PlanChoice
vidfeat.extraction.steps.part_inputs = lambda encoder, options: 8  # many small parts
encoder = load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)
print("begins", flush=True)
report = vidfeat.extraction.run.extract(sys.argv[1], sys.argv[2], encoder)
print(json.dumps(report.to_dict()), flush=True)
"""
# One part of 8; two batches of 4 waiting on either side of the network, and one in it.
LOST_BY_A_KILL = 8 + 5 * 4


def killed_again_and_again(videos: Path, folder: Path, kills: int) -> None:
    """SIGKILL at random moments of an extraction, and the same command again each time.

    Moments are drawn over the time that it takes undisturbed, without that for loading torch.
    Whenever it comes to its end, the file must equal an undisturbed run's, and it starts again.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(output: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(videos), str(output)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        return process

    def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
        printed, _ = process.communicate()
        assert process.returncode == 0
        return json.loads(printed)

    calm = run(folder / "calm.h5")
    began = time.monotonic()
    finished(calm)
    whole = time.monotonic() - began
    chance = random.Random(5)
    disturbed = folder / "disturbed.h5"
    killed = at_once = 0
    ends: list[tuple[int, int]] = []  # kills before it, clips lost to them

    def ended(report: dict[str, Any]) -> None:
        assert_equal(folder / "calm.h5", disturbed)
        ends.append((at_once, report["clips_lost_to_kills"]))
        assert report["clips_lost_to_kills"] <= at_once * LOST_BY_A_KILL
        assert not disturbed.with_name("disturbed.h5.parts").exists()
        disturbed.unlink()

    while killed < kills:
        process = run(disturbed)
        try:
            process.wait(timeout=chance.uniform(0, whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed, at_once = killed + 1, at_once + 1
        else:
            ended(finished(process))
            at_once = 0
    ended(finished(run(disturbed)))
    print(f"{killed} kills; (kills, clips encoded again) of each file: {ends}")


def test_kills_leave_no_trace(rendered: Path, tmp_path: Path) -> None:
    killed_again_and_again(rendered, tmp_path, 3)


@pytest.mark.slow
def test_fifty_kills_leave_no_trace(rendered: Path, tmp_path: Path) -> None:
    killed_again_and_again(rendered, tmp_path, 50)
