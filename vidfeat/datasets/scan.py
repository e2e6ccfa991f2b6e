"""Scanning the videos of a dataset once: their durations, and which cannot be read.

The result of each video is appended to a cache as soon as it is known, so that an interrupted scan
resumes and a later one looks only at new and changed files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path

from vidfeat.datasets.base import VideoDataset
from vidfeat.system.cache import writable_cache
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import append_lines
from vidfeat.system.identities import identity_to_path
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.preprocess import Preprocess


@dataclass(frozen=True)
class ScannedVideo:
    """What training needs to know about a file, as one line of the cache.

    Not a `VideoInfo`, because a file that cannot be read has none.
    """

    path: str
    """Identity below the root."""
    size_bytes: int
    mtime_ns: int
    duration_seconds: float = 0.0
    error: str = ""
    """Why it cannot be read; empty if it can."""


_FIELDS = frozenset(field.name for field in fields(ScannedVideo))


def scan_file(root: Path) -> Path:
    """Path of the cache of a folder's scan: in the user's cache, named by the folder."""
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return writable_cache() / "scans" / f"{name}.jsonl"


def scan_videos(
    root: Path,
    paths: Iterable[str],
    *,
    workers: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
    timeout_seconds: float = 120.0,
    frames_fps: Fraction | None = None,
) -> dict[str, ScannedVideo]:
    """Scan the videos that are not in the cache.

    Args:
        root: the folder that the paths are relative to.
        paths: identities of the videos.
        workers: decode processes; 0 decodes in this process.
        cache: the file of the cache; None: :func:`scan_file`.
        progress: called now and then with the videos done and their total.
        timeout_seconds: after which a silent process is abandoned.
        frames_fps: rate of folders of frames among them.

    Returns:
        An entry for each path, in their order.
    """
    cache = scan_file(root) if cache is None else cache
    known = _read_cache(cache)
    found: dict[str, ScannedVideo | None] = {}
    stamps: dict[str, tuple[int, int]] = {}
    for path in paths:
        stamps[path] = _stamp(root, path)
        entry = known.get(path)
        fresh = entry is not None and (entry.size_bytes, entry.mtime_ns) == stamps[path]
        found[path] = entry if fresh else None
    todo = [path for path, entry in found.items() if entry is None]
    total = len(found)
    if progress is not None:
        progress(total - len(todo), total)
    if todo:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with append_lines(cache) as lines:
            scanned = _scan(root, todo, stamps, workers, timeout_seconds, frames_fps)
            for number, entry in enumerate(scanned, total - len(todo) + 1):
                found[entry.path] = entry
                lines.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
                if progress is not None:
                    progress(number, total)
    return {path: entry for path, entry in found.items() if entry is not None}


def find_broken(
    dataset: VideoDataset,
    *,
    workers: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """The identities of what training cannot use of a dataset.

    These are videos that cannot be read, sorted, and labelled segments that start past the end of
    their video.
    """
    paths = sorted({sample.path for sample in dataset.samples})
    scanned = scan_videos(
        dataset.root,
        paths,
        workers=workers,
        cache=cache,
        progress=progress,
        frames_fps=dataset.frames_fps,
    )
    broken = [path for path, entry in scanned.items() if entry.error]
    behind = {
        sample.identity: None
        for sample in dataset.samples
        if not scanned[sample.path].error
        and sample.start_seconds is not None
        and sample.start_seconds >= scanned[sample.path].duration_seconds
    }
    return [*broken, *behind]


def _scan(
    root: Path,
    todo: Sequence[str],
    stamps: dict[str, tuple[int, int]],
    workers: int,
    timeout_seconds: float,
    frames_fps: Fraction | None,
) -> Iterator[ScannedVideo]:
    source = ClipSource(ClipPlan(1, frames_fps=frames_fps), Preprocess((8, 8), (8, 8)))
    tasks = [VideoTask(str(root / identity_to_path(path)), probe_only=True) for path in todo]
    with make_decoder(source, min(workers, len(todo)), timeout_seconds=timeout_seconds) as decoder:
        names = iter(todo)
        info = None
        for _, event in decoder.run(tasks):
            if isinstance(event, Started):
                info = event.info
            elif isinstance(event, Finished):
                path = next(names)
                if event.error is not None or info is None:
                    reason = f"{event.error}" if event.error else "it gave no result"
                    yield ScannedVideo(path, *stamps[path], error=reason)
                else:
                    yield ScannedVideo(path, *stamps[path], info.duration_seconds)
                info = None


def _stamp(root: Path, path: str) -> tuple[int, int]:
    try:
        status = (root / identity_to_path(path)).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read_cache(file: Path) -> dict[str, ScannedVideo]:
    """Entries of a cache, the last one of each path; lines cut off by a kill are skipped."""
    if not file.is_file():
        return {}
    known = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                values = json.loads(line)
                # earlier versions wrote more
                entry = ScannedVideo(**{name: values[name] for name in values.keys() & _FIELDS})
            except (json.JSONDecodeError, AttributeError, TypeError):
                continue
            known[entry.path] = entry
    return known
