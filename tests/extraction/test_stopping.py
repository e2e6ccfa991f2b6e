"""A run that is told to end writes what is finished, and the next run makes the same bits."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vidfeat.extraction.run
from tests.support.odd_videos import scene, write_video
from tests.support.store_fixtures import arrays_of
from vidfeat.cli import cli
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.batches import HostBatch
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import StoppedError, StoreError
from vidfeat.extraction.dry_run import clips_estimated
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract, lacking_bytes
from vidfeat.extraction.stopping import Stop
from vidfeat.store.parts import parts_folder
from vidfeat.store.parts_summary import scan_parts
from vidfeat.system.wording import counted
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice

INLINE = ExtractOptions(workers=0)
COUNTS = (10, 3, 40, 25, 8, 61, 5, 33)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, count in enumerate(COUNTS):
        write_video(folder / f"{number}.mp4", scene(count, seed=number), rate=20)
    (folder / "3.mp4").write_text("no video\n")
    return folder


@pytest.fixture(scope="module")
def whole(encoder: Encoder, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "f.h5"
    extract(videos, output, encoder, options=INLINE)
    return output


class StopAfter(Stop):
    """Asks for the end when it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    @property
    def asked(self) -> bool:
        self._looks -= 1
        if self._looks <= 0:
            self.ask()
        return super().asked


@pytest.mark.parametrize("looks", [1, 2, 5, 9, 14, 22, 31, 47])
def test_the_rerun_makes_the_same_bits(
    looks: int, encoder: Encoder, videos: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "f.h5"
    with pytest.raises(StoppedError, match=r"kept in \S+f\.h5\.parts") as stopped:
        extract(videos, output, encoder, options=INLINE, stop=StopAfter(looks))
    assert not output.exists()
    kept = scan_parts(parts_folder(output), sweep=False)
    clips = sum(part.rows for part in kept.parts)
    assert clips % encoder.batch_size == 0
    assert counted(clips, "clip") in str(stopped.value)
    assert counted(len(kept.finished), "whole video") in str(stopped.value)
    report = extract(videos, output, encoder, options=INLINE)
    mine, theirs = arrays_of(output), arrays_of(whole)
    assert mine.keys() == theirs.keys()
    for name, values in theirs.items():
        assert np.array_equal(mine[name], values), name
    assert report.clips_encoded == report.clips - clips
    assert report.clips_lost == 0


def test_stopped_again_and_again(
    encoder: Encoder, videos: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "f.h5"
    for _ in range(60):
        try:
            extract(videos, output, encoder, options=INLINE, stop=StopAfter(4))
        except StoppedError:
            continue
        break
    mine, theirs = arrays_of(output), arrays_of(whole)
    assert all(np.array_equal(mine[name], values) for name, values in theirs.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_keep_what_is_finished(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    for place in range(40):
        write_video(folder / f"{place:02}.mp4", scene(80, seed=place), rate=20)
    command = [sys.executable, "-m", "vidfeat", "extract", str(folder), "-o", "f.h5"]
    command += ["--model", "r2plus1d_18", "--weights", "random", "--clip-frames", "8"]
    command += ["--batch-size", "2", "--engine", "torch", "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "f.h5.parts" / "encoded.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.is_file() and journal.stat().st_size > 8):
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, said
    found = re.search(r"(\d+) parts? with (\d+) clips, (\d+) whole videos?", said)
    assert found is not None, said
    kept = scan_parts(tmp_path / "f.h5.parts", sweep=False)
    assert int(found[2]) == sum(part.rows for part in kept.parts) >= 4
    assert not any(part.failures for part in kept.parts)
    assert "Traceback" not in said


# --- a full disk ----------------------------------------------------------------------------------


def test_a_full_disk_names_what_is_missing_and_kept(
    encoder: Encoder, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "f.h5"
    with pytest.raises(StoppedError):
        extract(videos, output, encoder, options=INLINE, stop=StopAfter(20))
    kept = scan_parts(parts_folder(output), sweep=False)

    def full(*arguments: object, **others: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vidfeat.extraction.part_writing.write_part", full)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        vidfeat.extraction.run.shutil, "disk_usage", lambda path: usage._replace(free=1000)
    )
    with pytest.raises(StoreError, match=r"[\d,]+ bytes more are needed.*kept in") as full_disk:
        extract(videos, output, encoder, options=INLINE)
    assert counted(len(kept.finished), "whole video") in str(full_disk.value)


def test_lacking_bytes(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_videos([videos])
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(vidfeat.extraction.run.shutil, "disk_usage", lambda path: usage)
    assert lacking_bytes(tmp_path / "f.h5", listing, 10, 256, "float32") < 0
    assert lacking_bytes(tmp_path / "f.h5", listing, 1000, 256, "float32") > 1_900_000
    assert lacking_bytes(tmp_path / "f.h5", listing, 1000, 256, "float16") < 1_100_000


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_disk_that_is_too_small_is_told_of_before_the_start(
    more: tuple[str, ...], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the estimate of a dry run; the bytes of the list alone would suggest a clip a video."""
    usage = shutil.disk_usage(tmp_path)
    said = []
    for free in (30_000, 1_000_000):
        monkeypatch.setattr(
            vidfeat.extraction.run.shutil,
            "disk_usage",
            lambda path, free=free: usage._replace(free=free),
        )
        output = tmp_path / f"{free}.h5"
        words = f"extract {videos} -o {output} --model r2plus1d_10_w16 --weights random --workers 0"
        plan = ["--clip-frames", "4", "--batch-size", "4", "--engine", "torch"]
        told = CliRunner().invoke(cli, [*words.split(), *plan, *more])
        said.append("that this run needs" in told.output)
    assert said == [True, False]


def test_clips_are_estimated_from_some_videos(
    encoder: Encoder, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_videos([videos])
    assert clips_estimated(listing, encoder, INLINE) == 43
    monkeypatch.setattr("vidfeat.extraction.dry_run._MOST_SAMPLED", 4)
    assert 10 < clips_estimated(listing, encoder, INLINE) < 200


# --- batches larger than the memory ---------------------------------------------------------------


def test_a_huge_batch_takes_the_memory_of_its_clips(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)
    huge = load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=100_000)
    path = videos / "2.mp4"
    one = small.encode(path).vectors
    asked = []
    monkeypatch.setattr(
        "vidfeat.encoders.engines.torch_engine.clips_that_fit",
        lambda values: asked.append(values) or 3,
    )
    np.testing.assert_allclose(huge.encode(path).vectors, one, rtol=1e-4, atol=1e-5)
    report = extract(path, tmp_path / "f.h5", huge, options=INLINE)
    assert report.clips == len(one)
    assert report.assembly["batches"] == 1


def test_a_batch_grows_with_its_clips() -> None:
    batch = HostBatch((100_000, 1, 2, 2, 3))
    clips = np.random.default_rng(0).integers(0, 256, (700, 1, 2, 2, 3), dtype=np.uint8)
    for place, clip in enumerate(clips):
        batch.put(place, clip, lambda: None)
    batch.complete(700)
    assert len(batch.clips_NTHWC) == 768
    np.testing.assert_array_equal(batch.clips_NTHWC[:700], clips)
    assert not batch.clips_NTHWC[700:].any()
