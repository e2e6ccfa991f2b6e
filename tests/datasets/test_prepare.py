"""Preparing a dataset and looking through one: every frame kept, nothing done twice."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.train_fixtures import render_video
from vidfeat.datasets import open_dataset
from vidfeat.datasets import prepare as prepare_module
from vidfeat.datasets.prepare import new_names, prepare
from vidfeat.datasets.reencode import Encoding, reencode
from vidfeat.datasets.scan import find_broken, scan_file, scan_videos
from vidfeat.errors import NothingDoneError, UsageError
from vidfeat.video.reader import open_video, probe, read_frames

SMALL = Encoding(size=(16, 21), key_every=4, quality=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for number, name in enumerate(("a/one.mp4", "a/two.mp4", "b/three.mp4")):
        render_video(root / name, seed=number, frames=10 + number, size=(32, 48))
    (root / "labels.csv").write_text("path,label,group\na/one.mp4,run,g\nb/three.mp4,jump,h\n")
    return root


@pytest.mark.parametrize("size", [(16, 21), (16,), (18, 18)])
def test_every_frame_stays_with_its_time(tmp_path: Path, size: tuple[int, ...]) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    render_video(source, frames=23, size=(32, 48))
    assert reencode(source, target, Encoding(size, 6, 4)) == 23
    before, after = probe(source), probe(target)
    assert (after.num_frames, after.fps) == (23, before.fps)
    assert after.duration_seconds == pytest.approx(before.duration_seconds)
    expected = size if len(size) == 2 else (16, 24)
    assert (after.height, after.width) == expected
    with open_video(target) as video:
        assert video.index is not None
        assert list(video.index.keys) == [0, 6, 12, 18]
    from vidfeat.video.frame_preprocessor import FramePreprocessor
    from vidfeat.video.preprocess import Preprocess

    exact = FramePreprocessor(Preprocess(expected, expected)).frames(read_frames(source, range(23)))
    difference = np.abs(read_frames(target, range(23)).astype(int) - exact)
    assert difference.mean() < 4


def test_real_files_keep_their_frames(shared_data: Path, tmp_path: Path) -> None:
    for name in ("v_SoccerJuggling_g23_c01.avi", "RATRACE_wave_f_nm_np1_fr_goo_37.avi"):
        source, target = shared_data / "videos" / name, tmp_path / f"{name}.mp4"
        reencode(source, target, Encoding())
        before, after = probe(source), probe(target)
        assert (after.num_frames, after.fps) == (before.num_frames, before.fps)
        assert (after.height, after.width) == (128, 171)


def test_variable_rates_keep_their_times(tmp_path: Path) -> None:
    import av

    source = tmp_path / "variable.mkv"
    ticks = [0, 40, 60, 160, 200, 205, 330, 400]
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for tick in ticks:
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), tick % 255, np.uint8))
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    reencode(source, tmp_path / "out.mp4", SMALL)
    with open_video(source) as old, open_video(tmp_path / "out.mp4") as new:
        assert old.info.timing == new.info.timing == "variable"
        assert new.timeline.times == pytest.approx(old.timeline.times, abs=1e-3)


def test_a_folder_keeps_its_layout_and_is_not_done_twice(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "b/broken.avi").write_bytes(b"nothing")
    report = prepare(folder, out, SMALL, workers=2)
    assert (report.videos, report.written, report.already_there) == (4, 3, 0)
    assert [path for path, _ in report.failures] == ["b/broken.avi"]
    assert report.lists == ("labels.csv",)
    dataset = open_dataset("auto", out)
    assert [sample.path for sample in dataset.samples] == ["a/one.mp4", "b/three.mp4"]
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")}
    (folder / "b/broken.avi").unlink()
    render_video(folder / "a/two.mp4", seed=9, frames=15, size=(32, 48))
    again = prepare(folder, out, SMALL)
    assert (again.written, again.already_there) == (1, 2)
    changed = {p.name for p in out.rglob("*.mp4") if p.stat().st_mtime_ns != stamps.get(p)}
    assert changed == {"two.mp4"}
    with pytest.raises(UsageError, match="was prepared with"):
        prepare(folder, out, Encoding())
    with pytest.raises(UsageError, match="is inside"):
        prepare(folder, folder / "out", SMALL)


def test_names_change_their_suffix_and_never_meet(folder: Path, tmp_path: Path) -> None:
    assert new_names(["a/1.avi", "a/1.mkv", "a/2.avi", "b.c.mov"]) == {
        "a/1.avi": "a/1.avi.mp4",
        "a/1.mkv": "a/1.mkv.mp4",
        "a/2.avi": "a/2.mp4",
        "b.c.mov": "b.c.mp4",
    }
    (folder / "a/one.mp4").rename(folder / "a/one.avi")
    text = (folder / "labels.csv").read_text().replace("one.mp4", "one.avi")
    (folder / "labels.csv").write_text(text)
    prepare(folder, tmp_path / "out", SMALL)
    assert "a/one.mp4,run,g" in (tmp_path / "out/labels.csv").read_text()


def test_a_process_that_dies_or_hangs_costs_one_video(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "odd.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    task = json.loads(line)\n"
        "    name = os.path.basename(task['source'])\n"
        "    if name == 'one.mp4': os._exit(11)\n"
        "    if name == 'two.mp4': time.sleep(60)\n"
        "    os.makedirs(os.path.dirname(task['target']), exist_ok=True)\n"
        "    open(task['target'], 'w').close()\n"
        "    print(json.dumps({'frames': 1, 'error': ''}), flush=True)\n"
    )
    popen = prepare_module.subprocess.Popen
    monkeypatch.setattr(
        prepare_module.subprocess,
        "Popen",
        lambda command, **options: popen([command[0], str(script)], **options),
    )
    report = prepare(folder, tmp_path / "out", SMALL, timeout_seconds=2)
    reasons = dict(report.failures)
    assert report.written == 1
    assert "ended with status 11" in reasons["a/one.mp4"]
    assert "not done after 2 s" in reasons["a/two.mp4"]


def test_a_full_disk_ends_it_at_once_and_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV's errors keep the name that they were made with: here, the temporary one."""

    def fails(video: object, target: Path, encoding: object) -> None:
        raise av.error.OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("vidfeat.datasets.reencode._write", fails)
    source = next(iter(sorted(folder.rglob("*.mp4"))))
    with pytest.raises(OSError, match="No space left") as caught:
        reencode(source, tmp_path / "x.mp4", SMALL)
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "x.mp4"))
    assert list(tmp_path.glob("x.mp4*")) == []

    script = tmp_path / "full.py"
    answer = {"frames": 0, "error": "No space left on device", "fatal": True}
    answer |= {"errno": 28, "filename": "out/a.mp4"}
    script.write_text(
        f"import sys\nfor line in sys.stdin: print({json.dumps(answer)!r}, flush=True)"
    )
    popen = prepare_module.subprocess.Popen
    monkeypatch.setattr(
        prepare_module.subprocess,
        "Popen",
        lambda command, **options: popen([command[0], str(script)], **options),
    )
    with pytest.raises(OSError, match="No space left") as caught:
        prepare(folder, tmp_path / "out", SMALL)
    assert (caught.value.errno, caught.value.filename) == (28, "out/a.mp4")


def test_nothing_to_prepare_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(NothingDoneError, match="holds no video files"):
        prepare(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/a.mp4").write_bytes(b"x")
    with pytest.raises(NothingDoneError, match="none of 1 videos"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_the_command(folder: Path, tmp_path: Path) -> None:
    from vidfeat.cli.prepare import command

    options = [str(folder), "-o", str(tmp_path / "out"), "--short-side", "16", "--workers", "1"]
    done = CliRunner().invoke(command, options, standalone_mode=False)
    assert done.exception is None and done.return_value == 0
    assert "3 videos written" in done.stdout and "1 list copied" in done.stdout
    bad = CliRunner().invoke(command, [str(folder), "-o", "x", "--size", "big"])
    assert isinstance(bad.exception, UsageError)


def test_a_scan_is_made_once_and_gone_on_with(folder: Path, tmp_path: Path) -> None:
    (folder / "b/broken.mp4").write_bytes(b"nothing")
    paths = ["a/one.mp4", "a/two.mp4", "b/broken.mp4", "b/three.mp4"]
    cache = tmp_path / "scan.jsonl"
    told: list[tuple[int, int]] = []
    found = scan_videos(folder, paths, cache=cache, progress=lambda *counts: told.append(counts))
    assert list(found) == paths
    assert found["a/two.mp4"].duration_seconds == pytest.approx(11 / 15)
    assert found["b/broken.mp4"].error and not found["b/three.mp4"].error
    assert told[0] == (0, 4) and told[-1] == (4, 4)
    # cut in the middle of its last line, as by a kill: that video alone is looked at again
    cache.write_bytes(cache.read_bytes()[:-20])
    render_video(folder / "a/one.mp4", seed=5, frames=14, size=(32, 48))
    told.clear()
    again = scan_videos(
        folder, paths, cache=cache, progress=lambda *counts: told.append(counts), workers=1
    )
    assert told[0] == (2, 4)
    assert again["a/one.mp4"].duration_seconds == pytest.approx(14 / 15)
    assert {**again, "a/one.mp4": None} == {**found, "a/one.mp4": None}
    whole = [line for line in cache.read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["path"] for line in whole][3:] == ["a/one.mp4", "b/three.mp4"]


def test_a_scan_of_an_earlier_version_is_used(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "scan.jsonl"
    scan_videos(folder, ["a/one.mp4"], cache=cache)
    line = json.loads(cache.read_text())
    older = {**line, "fps": "15", "num_frames": 10, "width": 48, "height": 32}
    cache.write_text(
        '[]\n"a/one.mp4"\n{}\n' + json.dumps({**older, "duration_seconds": 7.0}) + "\n"
    )
    found = scan_videos(folder, ["a/one.mp4"], cache=cache)
    assert found["a/one.mp4"].duration_seconds == 7.0


def test_broken_videos_of_a_dataset_are_found(folder: Path, tmp_path: Path) -> None:
    (folder / "a/two.mp4").write_bytes(b"nothing")
    dataset = open_dataset("folder", folder)
    assert find_broken(dataset, cache=tmp_path / "s.jsonl") == ["a/two.mp4"]
    left = dataset.without(["a/two.mp4"])
    assert len(left) == len(dataset) - 1
    assert scan_file(folder) == scan_file(folder) != scan_file(tmp_path)
