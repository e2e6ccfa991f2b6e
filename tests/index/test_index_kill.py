"""A process killed while it changes an index leaves the old state or the new one, never a third."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.index_fixtures import write_features
from vidfeat.index import VideoIndex, change_index, verify_index

# Kills itself at the n-th call that changes something on disk, just before or just after it.
SCRIPT = """
import os, signal, sys
from pathlib import Path
moment, index, features, removed = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
count = 0
def tick():
    global count
    count += 1
    if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
def around(owner, name):
    call = getattr(owner, name)
    def wrapped(*args, **options):
        tick()
        value = call(*args, **options)
        tick()
        return value
    setattr(owner, name, wrapped)
from vidfeat.index.update import change_index
import numpy, vidfeat.index.folder as folder, vidfeat.index.update as update
import vidfeat.system.files as files
around(os, "fsync"); around(Path, "replace"); around(Path, "unlink"); around(numpy, "save")
around(Path, "write_text"); around(folder, "sha256_of")
around(update.Videos, "save")
change_index(Path(index), add=[Path(features)], remove=removed)
print(count)
"""


def run(
    moment: int, index: Path, features: Path, removed: list[str]
) -> subprocess.CompletedProcess:
    arguments = [str(moment), str(index), str(features), *removed]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


def state(path: Path) -> tuple[int, list[str], list[tuple[str, float]]]:
    """What a user can tell of an index: its generation, its videos, its answers."""
    assert verify_index(path) == []
    index = VideoIndex(path)
    query = np.random.default_rng(5).standard_normal((1, 16)).astype(np.float32)
    found = index.search(query, k=100)
    return (
        index.head.generation,
        sorted(index.paths),
        [(match.video, round(match.score, 5)) for match in found],
    )


@pytest.mark.parametrize(
    "removed", [["b/v001.mp4"], ["b/*", "c/*"]], ids=["in the tail", "built anew"]
)
def test_killed_at_every_write(tmp_path, removed):
    features = write_features(tmp_path / "f.h5", 24, dimension=16)
    more = write_features(
        tmp_path / "m.h5", ["a/v000.mp4", "z/new.mp4"], dimension=16, first_seed=900
    )
    VideoIndex.build(features, tmp_path / "old")
    before = state(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    done = run(0, tmp_path / "new", more, removed)
    assert done.returncode == 0, done.stderr
    moments = int(done.stdout)
    after = state(tmp_path / "new")
    assert after != before
    assert moments >= 30
    seen = set()
    for moment in np.unique(np.linspace(1, moments, 15).astype(int)).tolist():
        work = tmp_path / f"work-{moment}"
        shutil.copytree(tmp_path / "old", work)
        killed = run(moment, work, more, removed)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        found = state(work)
        assert found in (before, after), f"moment {moment} of {moments}"
        seen.add(found == after)
        change_index(work, add=[more])  # goes on from there, and cleans up
        if found == before:
            change_index(work, remove=removed)
        assert state(work)[1] == after[1]
        named = {entry["name"] for entry in _head(work)["files"].values()}
        assert {path.name for path in work.iterdir()} - {"index.json.lock"} == named | {
            "index.json"
        }
    assert seen == {True, False}


def _head(path: Path) -> dict:
    return json.loads((path / "index.json").read_text())


@pytest.mark.slow
def test_killed_at_thirty_moments_of_the_clock(tmp_path):
    """The same with the clock: 30 kills from outside, spread over the time that a change takes."""
    features = write_features(tmp_path / "f.h5", 400, dimension=64, clips=20)
    more = write_features(tmp_path / "m.h5", [f"m/{n}" for n in range(200)], dimension=64, clips=20)
    VideoIndex.build(features, tmp_path / "old")
    before = state_of_paths(tmp_path / "old")
    script = (
        "import sys; from pathlib import Path; from vidfeat.index.update import change_index;"
        "print('go', flush=True);"
        "change_index(Path(sys.argv[1]), add=[Path(sys.argv[2])], remove=['a/*', 'b/*'])"
    )
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "new"), str(more)],
        check=True,
        capture_output=True,
    )
    whole = time.monotonic() - started
    after = state_of_paths(tmp_path / "new")
    for moment in range(30):
        work = tmp_path / "work"
        shutil.copytree(tmp_path / "old", work)
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(work), str(more)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(whole * moment / 30)
        child.kill()
        child.wait()
        child.stdout.close()
        assert state_of_paths(work) in (before, after)
        shutil.rmtree(work)


def state_of_paths(path: Path) -> list[str]:
    assert verify_index(path) == []
    return sorted(VideoIndex(path).paths)
