"""A server that is killed loses no label that it had confirmed, whenever that happens."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from tests.support.teach_fixtures import write_taught
from vidfeat.datasets.labels import read_labels
from vidfeat.errors import DataError

# Imports take longer than what is tested: each server is a fork of a process that has done them.
_SERVERS = """
import os, sys
from pathlib import Path
import faiss, sklearn.linear_model, uvicorn
import vidfeat.web.app
from vidfeat.web.server import ServeOptions, serve
for line in sys.stdin:
    child = os.fork()
    if not child:
        options = ServeOptions(port=0, cache=Path(sys.argv[2]))
        ready = lambda found: print(os.getpid(), found[0], flush=True)
        serve(Path(sys.argv[1]), options, ready=ready)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
CLIPS = 96
QUICK, SLOW = 3, 30


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_taught(folder)
    return folder


class Servers:
    """Servers of one index, one after the other."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", _SERVERS, str(folder / "INDEX"), str(folder / "cache")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self) -> tuple[int, int]:
        """The process and the port of a new server."""
        print("go", file=self.process.stdin)
        pid, address = self.process.stdout.readline().split()
        return int(pid), int(address.rstrip("/").rpartition(":")[2])

    def wait(self) -> None:
        """Until the server has ended."""
        assert self.process.stdout.readline() == "ended\n"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def kill_once(servers: Servers, index: Path, rng: np.random.Generator) -> int:
    """Label clips one after the other until the server is killed; how many were confirmed."""
    pid, port = servers.start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    confirmed: dict[int, str] = {}
    count = 0

    def label(number: int, name: str) -> None:
        body = {"spans": [{"clip": number}], "label": name, "tab": "t"}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/api/teach/label", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        confirmed[number] = name

    label(0, "first")
    # Somewhere in the middle of what follows, at another place each time.
    timer = threading.Timer(float(rng.uniform(0.0, 0.3)), os.kill, (pid, signal.SIGKILL))
    timer.start()
    while True:
        last = int(rng.integers(CLIPS)), f"class {count % 5}"
        try:
            label(*last)
        except (OSError, http.client.HTTPException):
            break
        count += 1
    timer.join()
    connection.close()
    servers.wait()
    check(index, confirmed, last)
    return count + 1


def check(index: Path, confirmed: dict[int, str], last: tuple[int, str]) -> None:
    """What was confirmed is in the file; the label on its way when it happened may be."""
    from vidfeat.index import VideoIndex

    found = VideoIndex(index)
    clips, paths = found.searcher.clips, found.videos.paths
    try:
        rows = read_labels(index / "labels.csv").rows
    except DataError:
        rows = ()
    held = {(row.path, row.start_seconds): row.label for row in rows}

    def key(number: int) -> tuple[str, float]:
        clip = clips[number]
        return paths[int(clip["video"])], round(float(clip["start_seconds"]), 3)

    wanted = {key(number): name for number, name in confirmed.items()}
    with_last = {**wanted, key(last[0]): last[1]}
    assert held in (wanted, with_last)


def kill_often(original: Path, folder: Path, times: int, seed: int) -> int:
    """The same index, killed again and again, with what earlier servers left in it."""
    rng = np.random.default_rng(seed)
    total = 0
    shutil.copytree(original, folder, dirs_exist_ok=True)
    servers = Servers(folder)
    try:
        for _ in range(times):
            (folder / "INDEX/labels.csv").unlink(missing_ok=True)
            total += kill_once(servers, folder / "INDEX", rng)
    finally:
        servers.close()
    return total


def test_three_kills(original, tmp_path):
    assert kill_often(original, tmp_path, QUICK, seed=1) >= QUICK


@pytest.mark.slow
def test_thirty_kills(original, tmp_path, capsys):
    total = kill_often(original, tmp_path, SLOW, seed=2)
    with capsys.disabled():
        print(f"\n{SLOW} kills: none of {total} confirmed labels was lost")
