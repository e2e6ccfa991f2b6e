"""A dataset's videos re-encoded once for training: small, and with a key frame every 12 frames.

Training reads a few frames at a random place of each video. In a file as published, that means
decoding up to 250 full-size frames for 16 small ones: random seeks into long groups of pictures
starve training.
"""

from __future__ import annotations

import csv
import json
import queue
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vidfeat.datasets.base import find_videos
from vidfeat.datasets.reencode import Encoding
from vidfeat.errors import NothingDoneError, UsageError
from vidfeat.system.callbacks import Progress, Report
from vidfeat.system.children import child_environment, python_module
from vidfeat.system.files import append_lines, atomic_write, fitting, sync_file, write_json
from vidfeat.system.identities import Names, identity_to_path, path_to_identity
from vidfeat.system.text_tables import read_table
from vidfeat.system.written_names import written_identity

SETTINGS_FILE = "prepare.json"
DONE_FILE = "prepared.jsonl"
LIST_SUFFIXES = (".csv", ".txt", ".json")
_LIST_BYTES = 256 << 20


@dataclass(frozen=True)
class PrepareReport:
    """Result of a preparation."""

    videos: int
    written: int
    already_there: int
    failures: tuple[tuple[str, str], ...] = ()
    """(path, reason) of each video that could not be read."""
    bytes_before: int = 0
    bytes_after: int = 0
    lists: tuple[str, ...] = field(default=(), repr=False)
    """Files of labels and splits that were copied."""


def prepare(
    root: Path,
    out: Path,
    encoding: Encoding | None = None,
    *,
    workers: int = 1,
    timeout_seconds: float = 600.0,
    progress: Progress | None = None,
    report: Report | None = None,
) -> PrepareReport:
    """Re-encode all videos below a folder into another one, with the same names as .mp4.

    Lists (CSV, text and JSON files) are copied along, with the new names in a ``labels.csv``.
    Finished videos are skipped: an interrupted call is resumed, and new videos are added.

    Args:
        root: the dataset's folder.
        out: where to write; outside ``root``.
        encoding: how videos are written.
        workers: processes.
        timeout_seconds: after which a video is given up.
        progress: called after each video.
        report: called with a line on each failure.

    Raises:
        DataError: ``root`` is not a folder.
        UsageError: ``out`` lies within ``root``, or was prepared in another way.
        NothingDoneError: there are no videos, or none could be read.
    """
    encoding = encoding or Encoding()
    paths = find_videos(root)
    if not paths:
        raise NothingDoneError(f"{root} holds no video files: give the folder of the dataset")
    if out.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{out} is inside {root}: its videos would be prepared again")
    settings = json.loads(json.dumps(asdict(encoding)))
    settings_file = out / SETTINGS_FILE
    if settings_file.is_file():
        before = json.loads(settings_file.read_text(encoding="utf-8"))
        if before != settings:
            raise UsageError(
                f"{out} was prepared with {before}: choose another folder for {settings}"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(settings_file, settings)
    names = new_names(paths)
    done = _read_done(out / DONE_FILE)
    todo = []
    for path in paths:
        stamp = _stamp(root / identity_to_path(path))
        there = (out / identity_to_path(names[path])).is_file()
        if not (there and done.get(path) == stamp):
            todo.append((path, stamp))
    failures: list[tuple[str, str]] = []
    with append_lines(out / DONE_FILE) as lines:
        runner = _Runner(root, out, names, encoding, timeout_seconds)
        answers = runner.run([path for path, _ in todo], workers)
        stamps = dict(todo)
        for number, (path, reason) in enumerate(answers, len(paths) - len(todo) + 1):
            if reason:
                failures.append((path, reason))
            else:
                lines.write(json.dumps([path, *stamps[path]], ensure_ascii=False) + "\n")
            if progress is not None:
                progress(number, len(paths))
            if reason and report is not None:
                report(f"{path}: {reason}")
    sync_file(out / DONE_FILE)
    if len(failures) == len(paths):
        raise NothingDoneError(f"none of {len(paths)} videos could be read: {failures[0]}")
    failed = {path for path, _ in failures}
    whole = [path for path in paths if path not in failed]
    return PrepareReport(
        videos=len(paths),
        written=len(todo) - len(failures),
        already_there=len(paths) - len(todo),
        failures=tuple(sorted(failures)),
        bytes_before=sum(_stamp(root / identity_to_path(path))[0] for path in whole),
        bytes_after=sum(_stamp(out / identity_to_path(names[path]))[0] for path in whole),
        lists=tuple(_copy_lists(root, out, names)),
    )


def new_names(paths: Sequence[str]) -> dict[str, str]:
    """The name of each prepared video: .mp4 replaces its suffix, or follows it if names collide."""
    plain = {path: _named(path, PurePosixPath(path).stem) for path in paths}
    taken = Counter(plain.values())
    return {
        path: new if taken[new] == 1 else _named(path, PurePosixPath(path).name)
        for path, new in plain.items()
    }


def _named(path: str, stem: str) -> str:
    """A path with another stem and .mp4; a stem that would be too long is cut."""
    room = len(b".mp4")
    return str(PurePosixPath(path).with_name(f"{fitting(stem, room)}.mp4"))


class _Runner:
    """Hands videos to re-encoding processes, and replaces those that die or hang."""

    def __init__(
        self, root: Path, out: Path, names: dict[str, str], encoding: Encoding, timeout: float
    ) -> None:
        self._root, self._out, self._names = root, out, names
        self._encoding = encoding
        self._timeout = timeout
        self._todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[str, str] | BaseException] = queue.SimpleQueue()
        self._stopped = threading.Event()

    def run(self, paths: Sequence[str], workers: int) -> Any:
        """Yield (path, reason of its failure or an empty text) as videos are done.

        Raises:
            OSError: the output cannot be written (a full disk, for example).
        """
        for path in paths:
            self._todo.put(path)
        threads = [
            threading.Thread(target=self._serve, daemon=True)
            for _ in range(min(workers, len(paths)))
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in paths:
                answer = self._answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def _serve(self) -> None:
        process: subprocess.Popen[str] | None = None
        try:
            while not self._stopped.is_set():
                try:
                    path = self._todo.get_nowait()
                except queue.Empty:
                    return
                if process is not None and process.poll() is not None:
                    _end(process)
                    process = None
                process = process or self._start()
                self._answers.put((path, self._one(process, path)))
        except BaseException as error:
            self._answers.put(error)
        finally:
            if process is not None:
                _end(process)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            python_module("vidfeat.datasets.reencode"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )

    def _one(self, process: subprocess.Popen[str], path: str) -> str:
        """Re-encode one video; returns why it failed, or an empty text."""
        assert process.stdin is not None and process.stdout is not None
        task = {
            "source": str(self._root / identity_to_path(path)),
            "target": str(self._out / identity_to_path(self._names[path])),
            **asdict(self._encoding),
        }
        watchdog = threading.Timer(self._timeout, process.kill)
        watchdog.start()
        line = ""
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            hung = not watchdog.is_alive()
            watchdog.cancel()
        if not line:
            status = process.wait()
            if hung:
                return f"not done after {self._timeout:.0f} s: given up"
            return f"its process ended with status {status}"
        answer = json.loads(line)
        if answer.get("fatal"):
            raise OSError(answer["errno"], answer["error"], answer["filename"])
        return str(answer["error"])


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.kill()
    with suppress(OSError):
        process.stdin.close()
    process.stdout.close()
    process.wait()


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read_done(file: Path) -> dict[str, tuple[int, int]]:
    if not file.is_file():
        return {}
    done = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            path, size, mtime = json.loads(line)
            done[path] = (size, mtime)
    return done


def _copy_lists(root: Path, out: Path, names: dict[str, str]) -> list[str]:
    """Copy lists next to the videos; a ``labels.csv`` gets the new names."""
    copied = []
    for file in sorted(root.rglob("*")):
        relative = file.relative_to(root)
        if file.suffix.lower() not in LIST_SUFFIXES or not file.is_file():
            continue
        if file.stat().st_size > _LIST_BYTES or str(relative) in (SETTINGS_FILE, DONE_FILE):
            continue
        target = out / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            if relative.name == "labels.csv":
                _rename_labels(file, temporary, path_to_identity(str(relative.parent)), names)
            else:
                shutil.copyfile(file, temporary)
        copied.append(str(relative))
    return copied


def _rename_labels(source: Path, target: Path, folder: str, names: dict[str, str]) -> None:
    base = "" if folder == "." else f"{folder}/"
    table = read_table(source)
    stored = Names(names)
    with target.open("w", encoding="utf-8", newline="") as new:
        writer = csv.writer(new, lineterminator="\n")
        writer.writerow(table.columns)
        for row in table.rows:
            values = dict(row.values)
            path = stored.find(base + written_identity(row["path"]))
            if path is not None:
                values["path"] = names[path].removeprefix(base)
            writer.writerow([values.get(column, "") for column in table.columns])
