"""Damaged variants of real files: no crash of the run, and every clip that a plain decode yields.

A variant is cut short, has bytes flipped, or carries another file's header. The reference is the
number of frames that ``for frame in container.decode(...)`` gives before its first error.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import av
import pytest

from vidfeat.errors import VideoError
from vidfeat.video.clip_plan import ClipPlan, plan_clips
from vidfeat.video.clips import Clip
from vidfeat.video.containers import open_container
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.timeline import Timeline

SMALL = Preprocess(resize=(32, 43), crop=(28, 28))
PLAN = ClipPlan(frames=8)


def variants(videos: Path, folder: Path, count: int) -> list[Path]:
    """So many damaged copies, the same ones each time."""
    sources = sorted(path for path in videos.iterdir() if path.suffix in {".mp4", ".avi"})
    chance = random.Random(11)
    made = []
    for number in range(count):
        source = sources[number % len(sources)]
        data = bytearray(source.read_bytes())
        kind = ("cut", "flip", "many", "header", "hole")[number // len(sources) % 5]
        if kind == "cut":
            del data[chance.randrange(1, len(data)) :]
        elif kind == "flip":
            at = chance.randrange(len(data))
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "many":
            for _ in range(chance.choice([5, 50, 500])):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif kind == "header":
            other = chance.choice(sources).read_bytes()
            size = chance.choice([16, 64, 512, 4096])
            data[:size] = other[:size]
        else:
            at = chance.randrange(len(data))
            size = chance.choice([100, 5000, 50000])
            data[at : at + size] = bytes(len(data[at : at + size]))
        path = folder / f"{number:03d}-{kind}{source.suffix}"
        path.write_bytes(data)
        made.append(path)
    return made


def frames_of_plain_decode(path: Path) -> int:
    """How many frames come before the first error."""
    count = 0
    try:
        container, stream = open_container(str(path))
    except VideoError:
        return 0
    with container:
        try:
            for _ in container.decode(stream):
                count += 1
        except av.error.FFmpegError:
            pass
    return count


def recovered(videos: Path, folder: Path, count: int) -> tuple[int, int, Counter[str]]:
    """Clips that came, clips that a plain decode would give, kinds of failure."""
    paths = variants(videos, folder, count)
    came: Counter[str] = Counter()
    rates = {}
    kinds: Counter[str] = Counter()
    with DecodePool(ClipSource(PLAN, SMALL), 2, timeout_seconds=60) as pool:
        for task, event in pool.run([VideoTask(str(path)) for path in paths]):
            if isinstance(event, Started):
                came[task.path] = 0
                rates[task.path] = event.info.fps
            elif isinstance(event, Clip):
                came[task.path] += 1
                event.release()
            elif isinstance(event, Finished):
                if event.error is not None:
                    kinds[event.error.kind] += 1
                    came[task.path] = 0
                elif event.damage is not None:
                    kinds["damaged"] += 1
        lost = pool.stats.processes_lost
    wanted_total = came_total = 0
    for path in paths:
        frames = frames_of_plain_decode(path)
        wanted = 0
        if frames:
            wanted = len(plan_clips(Timeline(frames, rates.get(str(path), 25)), PLAN))
        wanted_total += wanted
        came_total += min(wanted, came[str(path)])
        assert came[str(path)] >= wanted, f"{path.name}: {came[str(path)]} of {wanted} clips"
    kinds["processes lost"] = lost
    return came_total, wanted_total, kinds


def test_clips_before_the_damage_are_kept(shared_data: Path, tmp_path: Path) -> None:
    recovered(shared_data / "videos", tmp_path, 30)


@pytest.mark.slow
def test_three_hundred_damaged_files(shared_data: Path, tmp_path: Path) -> None:
    came, wanted, kinds = recovered(shared_data / "videos", tmp_path, 300)
    print(f"\n{came} of {wanted} clips recovered; failures: {dict(kinds)}")
