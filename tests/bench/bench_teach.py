"""Teaching at 100,000 clips of 256 numbers: from the label to the new order, over HTTP.

    python tests/bench/bench_teach.py [--clips 100000] [--labels 60]

The server runs in a separate process; a label is sent, and the first page of the new order is
requested. The time of both requests is how long a person waits for the grid. The last line is the
processor time of the same work in this process, which is more reliable on a shared machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

DIMENSION = 256
CLASSES = 4
VIDEO_CLIPS = 50
WARM = 5


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def build(folder: Path, clips: int) -> list[str]:
    """Build an index of clustered vectors, with classes by path; returns its videos' paths."""
    from tests.support.index_fixtures import embeddings, identity, record
    from vidfeat.index import VideoIndex
    from vidfeat.store.writer import write_store

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, DIMENSION)).astype(np.float32)
    rows = []
    for number in range(clips // VIDEO_CLIPS):
        centre = int(rng.integers(len(centres)))
        noise = rng.standard_normal((VIDEO_CLIPS, DIMENSION)).astype(np.float32)
        name = f"kind{centre % CLASSES}/v{number:05d}.mp4"
        rows.append((record(name, VIDEO_CLIPS), embeddings(centres[centre] + 0.8 * noise)))
    write_store(folder / "f.h5", identity(DIMENSION, root=str(folder)), rows)
    index = VideoIndex.build(folder / "f.h5", folder / "INDEX", kind="flat")
    return index.paths


class Client:
    """Sends requests to the server over one connection, as a browser does."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def get(self, path: str, **query: object) -> dict:
        self.connection.request("GET", f"{path}?{urlencode(query)}")
        return self._read()

    def post(self, path: str, value: object) -> dict:
        headers = {"content-type": "application/json"}
        self.connection.request("POST", path, json.dumps(value), headers)
        return self._read()

    def _read(self) -> dict:
        answer = self.connection.getresponse()
        value = json.loads(answer.read())
        assert answer.status == 200, value
        return value


def lesson(client: Client, labels: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds to the confirmed label, to the new order, and to both."""
    revision, times = 0, []
    for number in range(labels + WARM):
        order = client.get("/api/teach/clips", revision=revision, count=60)
        clip = order["clips"][0]
        name = clip["path"].split("/")[0]
        value = {"spans": [{"clip": clip["clip"]}], "label": name, "tab": "bench"}
        began = time.perf_counter()
        revision = client.post("/api/teach/label", value)["revision"]
        confirmed = time.perf_counter()
        after = client.get("/api/teach/clips", revision=revision, count=60)
        done = time.perf_counter()
        assert after["revision"] == revision
        if number >= WARM:
            times.append(((confirmed - began), (done - confirmed), (done - began)))
        time.sleep(0.15)  # a person looks at the new order; the cross-validation is under way
    return tuple((1000 * np.array(column)).tolist() for column in zip(*times, strict=True))


def work(folder: Path, labels: int) -> list[float]:
    """Milliseconds of processor time from a label to the new order, without HTTP."""
    from vidfeat.heads.teaching import QuickHead
    from vidfeat.index import VideoIndex
    from vidfeat.web.label_book import LabelBook, labels_path
    from vidfeat.web.teach_clips import ordered
    from vidfeat.web.teach_session import TeachSession

    index = VideoIndex(folder / "INDEX")
    labels_path(index.path).unlink(missing_ok=True)
    session = TeachSession(index, LabelBook(labels_path(index.path)))
    clips, head = session.clips, QuickHead(session.clips.placing)
    rng = np.random.default_rng(0)
    state, times = session._fit(head, 0), []
    for number in range(labels + WARM):
        if state.scores is None:
            row = int(rng.integers(len(clips)))
        else:
            row = int(ordered(clips, state, "uncertain", -1, clips.alive)[0])
        span = session.span_of(row)
        began = time.thread_time()
        session.book.change([span], span.path.split("/")[0], "bench")
        state = session._fit(head, session.revision)
        ordered(clips, state, "uncertain", -1, clips.alive)
        if number >= WARM:
            times.append(1000 * (time.thread_time() - began))
        session._fitted = state
    session.close()
    return times


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=60)
    options = parser.parse_args(arguments if arguments is not None else sys.argv[1:])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build(folder, options.clips)
        command = [sys.executable, "-m", "vidfeat", "serve", str(folder / "INDEX"), "--port", "0"]
        server = subprocess.Popen(
            [*command, "--cache", str(folder / "cache")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            client = Client(int(address.rstrip("/").rpartition(":")[2]))
            confirmed, ordered, both = lesson(client, options.labels)
        finally:
            server.terminate()
            server.wait(10)
        processor = work(folder, options.labels)
    size = f"{options.clips:,} clips of {DIMENSION}"
    return [
        Row(f"{size}: label on the disk, middle, ms", float(np.median(confirmed)), ""),
        Row(f"{size}: new order after it, middle, ms", float(np.median(ordered)), ""),
        Row(f"{size}: label to new order, middle, ms", float(np.median(both)), ""),
        Row(f"{size}: label to new order, 95 of 100, ms", float(np.percentile(both, 95)), "< 250"),
        Row(
            f"{size}: its work, 95 of 100, ms of a processor",
            float(np.percentile(processor, 95)),
            "",
        ),
    ]


if __name__ == "__main__":
    for row in main():
        print(f"{row.name:<60} {row.figure:8.1f}   {row.target}")
