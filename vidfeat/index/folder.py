"""An index on disk: a folder of files that never change, and ``index.json``, which names them.

Every change of an index writes new files next to the old ones and then replaces ``index.json``, the
one rename that counts: readers find the old state or the new one, even after a kill. Files that no
``index.json`` names any more are removed by the next writer.

==============  =====================================================================
role            holds
==============  =====================================================================
index           the FAISS index of the first part, ``index.faiss``; opened mapped
lists           its inverted lists, where they are too large for memory; mapped
list_table      where each list is in that file
vectors         the vectors of the first part, ``vectors.npy``; mapped
clips           video, start and end of each, ``clips.npy``; mapped
videos          paths and facts of the videos, ``videos.npz``
mean            what is subtracted from every vector; only where centred or whitened
whitening       the matrix that multiplies centred vectors; only where whitened
tail_vectors    vectors added since; searched exactly
tail_clips      video, start and end of each of them
==============  =====================================================================

The page stores labels and heads in the same folder: ``labels.csv`` and ``heads``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.arrays import save_npy
from vidfeat.index.videos import Videos
from vidfeat.system.files import TEMPORARY_MARK, named_errors, sync_file, write_json
from vidfeat.system.lock import OutputLock

FORMAT = "vidfeat-index"
FORMAT_VERSION = 1
HEAD = "index.json"
_MOST_HEAD_BYTES = 16 << 20
_NAME = re.compile(r"[a-z_]+(-[0-9]+)?\.(faiss|npy|npz|lists)")
_NAMES = {
    "index": "index.faiss",
    "lists": "lists.lists",
    "list_table": "list_table.npy",
    "vectors": "vectors.npy",
    "clips": "clips.npy",
    "videos": "videos.npz",
    "mean": "mean.npy",
    "whitening": "whitening.npy",
    "tail_vectors": "tail_vectors.npy",
    "tail_clips": "tail_clips.npy",
}
TAUGHT = ("labels.csv", "heads")
_NEEDED = ("index", "vectors", "clips", "videos")


@dataclass(frozen=True)
class FileEntry:
    """A file of an index, as ``index.json`` names it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class IndexHeader:
    """``index.json``: the description of an index, and its files.

    Attributes:
        generation: counts the states of the index; part of the names of later files.
        kind: of the FAISS index, see `vidfeat.index.choose`.
        requested_kind: the requested kind, ``auto`` for the choice by size.
        factory: FAISS's description of it.
        dimension: of the vectors.
        num_base: rows of the first part, including those of removed videos.
        num_tail: rows added since.
        num_clips: rows of videos that were not removed.
        num_videos: videos that were not removed.
        centred: whether the mean is subtracted before vectors are scaled to length one.
        whitened: whether the spread is evened out too.
        search: search settings (``nprobe``, ``ef_search``, ``candidates``).
        recall: recall@10 as measured when the first part was built.
        files: role to file.
        encoder: description of the encoder that made the vectors.
        space_fingerprint: fingerprint that queries must have.
        run_fingerprint: of the run that made the indexed vectors.
        source_root: where the videos were; a hint.
        created: when this state was written, ISO 8601 in UTC.
        vidfeat_version: version that wrote it.
    """

    generation: int
    kind: str
    requested_kind: str
    factory: str
    dimension: int
    num_base: int
    num_tail: int
    num_clips: int
    num_videos: int
    centred: bool
    search: dict[str, int]
    recall: dict[str, Any]
    files: dict[str, FileEntry]
    encoder: dict[str, Any]
    space_fingerprint: str
    run_fingerprint: str
    source_root: str
    created: str
    vidfeat_version: str
    whitened: bool = False
    max_memory_bytes: int | None = None
    metric: str = "cosine"
    normalisation: str = "l2"
    format: str = FORMAT
    format_version: int = field(default=FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """The value of ``index.json``."""
        return asdict(self)


def file_name(role: str, generation: int) -> str:
    """Name of a file: the documented one at first, numbered in later generations."""
    stem, suffix = _NAMES[role].split(".")
    return f"{stem}.{suffix}" if generation <= 1 else f"{stem}-{generation}.{suffix}"


def read_head(folder: Path) -> IndexHeader:
    """Read and check ``index.json`` and the presence and size of the files it names.

    Raises:
        StoreError: no index, another format, a newer version, or files missing or truncated.
    """
    for _ in range(20):
        head = _parse_head(folder)
        problem = _missing(folder, head)
        if not problem:
            return head
        if _parse_head(folder).generation == head.generation:
            raise StoreError(problem)
        # A writer has changed the head in the meantime.
    raise StoreError(f"{folder} is being rewritten continuously: try again")


def _parse_head(folder: Path) -> IndexHeader:
    path = folder / HEAD
    try:
        if path.stat().st_size > _MOST_HEAD_BYTES:
            raise StoreError(f"{path} is too large to be the head of an index")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "no index" if folder.exists() else "no such folder"
        raise StoreError(
            f"{folder}: {what}; make one with vidfeat index FEATURES -o INDEX"
        ) from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {error}; rebuild the index") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise StoreError(f"{path} is not the head of a vidfeat index")
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StoreError(
            f"{folder} has format version {version}, this vidfeat reads up to {FORMAT_VERSION}: "
            "update vidfeat"
        )
    try:
        known = {name: value[name] for name in IndexHeader.__dataclass_fields__ if name in value}
        files = {role: FileEntry(**entry) for role, entry in value["files"].items()}
        head = IndexHeader(**{**known, "files": files})
        _check_head(head)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}): rebuild the index") from None
    return head


def _check_head(head: IndexHeader) -> None:
    for name in ("generation", "dimension", "num_base", "num_tail", "num_clips", "num_videos"):
        number = getattr(head, name)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 40:
            raise ValueError(f"{name} is {number!r}")
    if head.dimension < 1:
        raise ValueError("dimension is 0")
    for role in _NEEDED:
        if role not in head.files:
            raise ValueError(f"no file for {role}")
    for role, entry in head.files.items():
        if role not in _NAMES or not _NAME.fullmatch(entry.name):
            raise ValueError(f"{entry.name!r} is not a valid file for {role}")
    if head.centred and "mean" not in head.files:
        raise ValueError("no file for mean")
    if head.whitened and not (head.centred and "whitening" in head.files):
        raise ValueError("no file for whitening")
    if "lists" in head.files and "list_table" not in head.files:
        raise ValueError("no file for list_table")
    if head.num_tail and not {"tail_vectors", "tail_clips"} <= set(head.files):
        raise ValueError("no files for the added clips")
    if head.metric != "cosine" or head.normalisation != "l2":
        raise ValueError(f"metric {head.metric!r} of vectors normalised by {head.normalisation!r}")
    for key, number in head.search.items():
        if not isinstance(number, int) or not 0 < number < 1 << 31:
            raise ValueError(f"{key} is {number!r}")


def _missing(folder: Path, head: IndexHeader) -> str:
    for entry in head.files.values():
        path = folder / entry.name
        if path.is_symlink() or not path.is_file():
            return f"{path} is missing: copy the whole folder, or rebuild the index"
        size = path.stat().st_size
        if size != entry.bytes:
            return (
                f"{path} has {size} bytes, its index.json says {entry.bytes}: the copy is "
                "incomplete, or the file was changed; rebuild the index"
            )
    return ""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_of(path: Path) -> FileEntry:
    """Flush a finished file and describe it."""
    sync_file(path)
    return FileEntry(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))


def write_head(folder: Path, head: IndexHeader) -> None:
    """Make a state the current one: flush its files, then replace ``index.json``."""
    sync_file(folder)
    write_json(folder / HEAD, head.to_dict())


def remove_leftovers(folder: Path, head: IndexHeader) -> None:
    """Remove files of older states and of killed writers; the caller holds the lock."""
    named = {entry.name for entry in head.files.values()}
    for path in folder.iterdir():
        ours = _NAME.fullmatch(path.name) and path.name not in named
        if (ours or TEMPORARY_MARK in path.name) and not path.is_dir():
            with suppress(OSError):
                path.unlink()


@contextmanager
def undone(folder: Path) -> Iterator[None]:
    """On an error, remove what was written of the next state and name the folder in the error."""
    try:
        with named_errors(folder):
            yield
    except BaseException:
        with suppress(StoreError, OSError):
            remove_leftovers(folder, read_head(folder))
        raise


def writing(folder: Path) -> OutputLock:
    """The lock of a folder's writers, to be held while a with block runs.

    Raises:
        LockedError: on entering, another process is writing.
    """
    return OutputLock(folder / HEAD)


def verify_index(path: str | os.PathLike[str]) -> list[str]:
    """Compare every file of an index with its recorded sha256.

    Returns:
        One line per problem; empty for a sound index.

    Raises:
        StoreError: no index, or one with files missing or of the wrong size.
    """
    folder = Path(path)
    head = read_head(folder)
    return [
        f"{folder / entry.name}: its sha256 is not the recorded one; rebuild the index"
        for entry in head.files.values()
        if sha256_of(folder / entry.name) != entry.sha256
    ]


def copy_index(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy an index and check the copy against the recorded hashes.

    Raises:
        StoreError: the source is not an index, the target exists, or the copy differs.
    """
    import shutil

    from vidfeat.system.files import atomic_folder

    origin, goal = Path(source), Path(target)
    head = read_head(origin)
    if goal.exists():
        raise StoreError(f"{goal} exists: copy an index to a new place")
    goal.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(goal, replace=False) as folder:
        for entry in head.files.values():
            shutil.copyfile(origin / entry.name, folder / entry.name)
            if sha256_of(folder / entry.name) != entry.sha256:
                raise StoreError(
                    f"{origin / entry.name}: its sha256 is not the recorded one; rebuild it"
                )
        write_json(folder / HEAD, head.to_dict())


def describe_index(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe an index, for display, without reading its vectors.

    Raises:
        StoreError: as `read_head`.
    """
    head = read_head(Path(path))
    return {
        "format": FORMAT,
        "format_version": head.format_version,
        "kind": head.kind,
        "factory": head.factory,
        "metric": _metric(head),
        "videos": head.num_videos,
        "clips": head.num_clips,
        "dimension": head.dimension,
        "added_since_built": head.num_tail,
        "removed_since_built": head.num_base + head.num_tail - head.num_clips,
        "search": dict(head.search),
        "recall": dict(head.recall),
        "bytes": sum(entry.bytes for entry in head.files.values()),
        **origin_of(head),
    }


def origin_of(head: IndexHeader) -> dict[str, Any]:
    """The encoder of an index, and when and by which version it was written."""
    return {
        "encoder": head.encoder,
        "space_fingerprint": head.space_fingerprint,
        "run_fingerprint": head.run_fingerprint,
        "source_root": head.source_root,
        "created": head.created,
        "vidfeat_version": head.vidfeat_version,
        "generation": head.generation,
    }


def _metric(head: IndexHeader) -> str:
    if head.whitened:
        return "cosine, whitened"
    return "cosine, minus the mean" if head.centred else "cosine"


def save_array(path: Path, values: NDArray[Any]) -> FileEntry:
    """Write an array and return its entry for the head."""
    save_npy(path, values)
    return entry_of(path)


def save_videos(folder: Path, generation: int, videos: Videos) -> FileEntry:
    """Write the table of videos and return its entry for the head."""
    path = folder / file_name("videos", generation)
    videos.save(path)
    return entry_of(path)


def now() -> str:
    """The current time in UTC, for the head."""
    return datetime.now(UTC).isoformat(timespec="seconds")
