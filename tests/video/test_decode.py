"""The decode processes: the same clips as in one process, whatever breaks."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.video_assets import render, x264
from vidfeat.video.clip_plan import ClipPlan, VideoSegment, plan_clips
from vidfeat.video.clips import Clip
from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import ClipSource, Event, Finished, Started, VideoTask, cut_at_keys
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video

SMALL = Preprocess(resize=(32, 43), crop=(28, 28))


def told(events: list[tuple[VideoTask, Event]]) -> list[tuple[object, ...]]:
    """Events as values that can be compared; clips are released."""
    lines: list[tuple[object, ...]] = []
    for task, event in events:
        name = Path(task.path).name
        if isinstance(event, Started):
            lines.append((name, "started", event.num_clips, event.first_clip))
        elif isinstance(event, Finished):
            kind = None if event.error is None else event.error.kind
            lines.append((name, "finished", kind, event.damage))
    return lines


def consume(events) -> list[tuple[object, ...]]:
    """All events in order, the frames as hashes."""
    lines: list[tuple[object, ...]] = []
    for task, event in events:
        if isinstance(event, Clip):
            digest = hashlib.sha1(event.frames_THWC.tobytes()).hexdigest()
            seconds = round(event.start_seconds, 6), round(event.end_seconds, 6)
            lines.append((Path(task.path).name, event.index, *seconds, digest))
            event.release()
        else:
            lines += told([(task, event)])
    return lines


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("decode")
    made = [
        render(folder / f"v{i}.mp4", range(count), gop=gop, options=x264("scenecut=0"))
        for i, (count, gop) in enumerate([(40, 12), (200, 24), (7, 12), (90, 250)])
    ]
    (folder / "text.mp4").write_text("no video")
    return [*made, folder / "text.mp4", folder / "absent.mp4"]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    "plan",
    [
        ClipPlan(frames=8),
        ClipPlan(frames=4, stride=3, hop_frames=2),
        ClipPlan(frames=8, clips=5),
        ClipPlan(frames=8, fps=Fraction(7)),
    ],
    ids=["dense", "overlapping", "uniform", "resampled"],
)
def test_pool_gives_what_one_process_gives(
    videos: list[Path], workers: int, plan: ClipPlan
) -> None:
    source = ClipSource(plan, SMALL)
    tasks = [VideoTask(str(path)) for path in videos]
    expected = consume(decode_inline(source, tasks))
    # memory for a few clips only: decoding must be held back, and long videos cut
    memory = workers * 6 * plan.frames * 28 * 28 * 3
    with DecodePool(source, workers, buffer_bytes=memory) as pool:
        assert consume(pool.run(tasks)) == expected
        assert pool.stats.processes_lost == 0


def damaged_long(folder: Path) -> Path:
    """A long video with a hole in its last third: its pieces are cut, and one disappoints."""
    path = render(folder / "damaged.mp4", range(240), gop=12, options=x264("scenecut=0"))
    data = bytearray(path.read_bytes())
    at = len(data) * 2 // 3
    data[at : at + 400] = bytes(value ^ 0x5A for value in data[at : at + 400])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_nothing_waits_for_ever(tmp_path: Path, workers: int) -> None:
    """Long videos that can be cut, one that starts over, and long ones that cannot be cut behind.

    With few slots every process soon stands in a later video, holding clips of it.
    """
    avis = [render(tmp_path / f"b{i}.avi", range(90), codec="mpeg4", b_frames=0) for i in range(3)]
    cut = render(tmp_path / "a.mp4", range(240), gop=12, options=x264("scenecut=0"))
    tasks = [VideoTask(str(p)) for p in [cut, avis[0], damaged_long(tmp_path), *avis[1:], cut]]
    source = ClipSource(ClipPlan(frames=4, hop_frames=2), SMALL)
    memory = workers * 5 * 4 * 28 * 28 * 3
    runs = []
    for _ in range(2):
        with DecodePool(source, workers, buffer_bytes=memory, timeout_seconds=60) as pool:
            runs.append(consume(pool.run(tasks)))
    assert runs[0] == runs[1]
    assert final(runs[0]) == final(consume(decode_inline(source, tasks)))


def final(lines: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Without what a second "started" made void, and without the starts."""
    kept: list[tuple[object, ...]] = []
    for line in lines:
        if line[1] == "started":
            while kept and kept[-1][0] == line[0] and isinstance(kept[-1][1], int):
                kept.pop()
        else:
            kept.append(line)
    return kept


def test_segments_and_later_clips_alone(videos: list[Path]) -> None:
    source = ClipSource(ClipPlan(frames=4), SMALL)
    whole = consume(decode_inline(source, [VideoTask(str(videos[1]))]))
    stretched = VideoTask(str(videos[1]), (VideoSegment(1.0, 2.0), VideoSegment(0.2, 0.9)))
    with DecodePool(source, 2) as pool:
        lines = consume(pool.run([stretched]))
        starts = [line[2] for line in lines if isinstance(line[1], int)]
    assert starts == sorted(starts)
    assert starts[0] == pytest.approx(0.2, abs=0.05)
    assert len(whole) > len(lines)


def test_a_killed_process_costs_one_video(videos: list[Path]) -> None:
    source = ClipSource(ClipPlan(frames=4, hop_frames=1), SMALL)
    tasks = [VideoTask(str(path)) for path in [videos[1], videos[0], videos[3]]]
    expected = consume(decode_inline(source, tasks[1:]))
    # few slots: the first process stands still in its video until its clips are taken
    with DecodePool(source, 2, buffer_bytes=2 * 4 * 4 * 28 * 28 * 3) as pool:
        lines: list[tuple[object, ...]] = []
        killed = False
        for task, event in pool.run(tasks):
            if isinstance(event, Clip) and not killed:
                killed = True
                child = next(c for c in pool._children if c.unit and c.unit.task is task)
                os.kill(child.process.pid, signal.SIGKILL)
            lines += consume([(task, event)])
        finished = [line for line in lines if line[1] == "finished"]
        assert [line[2] for line in finished] == ["crashed", None, None]
        assert pool.stats.processes_lost == 1
        assert [line for line in lines if line[0] != videos[1].name] == expected


def test_a_hanging_process_is_given_up(videos: list[Path], tmp_path: Path) -> None:
    source = ClipSource(ClipPlan(frames=4), SMALL)
    tasks = [VideoTask(str(path)) for path in [videos[1], videos[0]]]
    with DecodePool(source, 1, timeout_seconds=1.0) as pool:
        consume(pool.run([VideoTask(str(videos[2]))]))  # the process is up and running
        child = pool._children[0]
        os.kill(child.process.pid, signal.SIGSTOP)
        lines = consume(pool.run(tasks))
    assert [line[2] for line in lines if line[1] == "finished"] == ["timeout", None]


def test_children_end_with_their_parent(videos: list[Path]) -> None:
    source = ClipSource(ClipPlan(frames=4), SMALL)
    with DecodePool(source, 2) as pool:
        events = pool.run([VideoTask(str(path)) for path in videos])
        next(events)
        processes = [child.process for child in pool._children]
        events.close()
    assert all(process.poll() is not None for process in processes)


def test_a_file_that_vanishes(videos: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "here.mp4"
    shutil.copy(videos[0], copy)
    task = VideoTask(str(copy))
    copy.unlink()
    source = ClipSource(ClipPlan(frames=4), SMALL)
    with DecodePool(source, 1) as pool:
        assert consume(pool.run([task])) == [("here.mp4", "finished", "gone", None)]


def test_slow_consumers_are_waited_for(videos: list[Path]) -> None:
    """A process whose slots are all with us is not taken for hung."""
    source = ClipSource(ClipPlan(frames=4, hop_frames=1), SMALL)
    with DecodePool(source, 1, buffer_bytes=3 * 4 * 28 * 28 * 3, timeout_seconds=0.5) as pool:
        lines = []
        for count, (task, event) in enumerate(pool.run([VideoTask(str(videos[0]))])):
            if count == 3:
                time.sleep(1.5)
            lines += consume([(task, event)])
    assert lines[-1][1:3] == ("finished", None)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64])
def test_pieces_cover_a_plan_and_begin_behind_keys(videos: list[Path], size: int) -> None:
    with open_video(videos[1]) as video:
        clips = plan_clips(video.timeline, ClipPlan(frames=4, hop_frames=2))
        pieces = cut_at_keys(video.known, clips, 5, size)
        keys = video.known.index.keys
    assert [clip for piece in pieces for clip in piece.clips] == clips
    firsts = [piece.first for piece in pieces]
    assert firsts == sorted(set(firsts))
    assert firsts[0] == 5
    assert all(1 <= len(piece.clips) <= max(size + size // 2, 1) for piece in pieces)
    if size >= 24:  # room for a key within reach of every cut
        for piece in pieces[1:]:
            first = min(piece.clips[0].positions)
            assert first - keys[keys <= first].max() < 2


def test_no_descriptor_is_left_open(videos: list[Path]) -> None:
    source = ClipSource(ClipPlan(frames=4), SMALL)
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    for _ in range(3):
        with DecodePool(source, 2) as pool:
            consume(pool.run([VideoTask(str(videos[0]))]))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert threading.active_count() == threads
