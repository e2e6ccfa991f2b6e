"""Build the first part of an index: write normalised vectors, train FAISS on a sample, add, tune.

Vectors stream through memory in blocks; FAISS reads them from the mapped file. All random steps
(the training sample, k-means) are seeded, so that equal features give equal indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError, UsageError
from vidfeat.index.arrays import RowWriter, save_npy, write_faiss
from vidfeat.index.choose import POINTS_PER_LIST, IndexPlan, choose
from vidfeat.index.engine import SearchEngine, read_faiss
from vidfeat.index.folder import (
    TAUGHT,
    FileEntry,
    IndexHeader,
    entry_of,
    file_name,
    now,
    read_head,
    remove_leftovers,
    save_array,
    save_videos,
    undone,
    write_head,
    writing,
)
from vidfeat.index.ondisk import add_on_disk
from vidfeat.index.recall import tune
from vidfeat.index.vectors import Normalisation, learn
from vidfeat.index.videos import CLIP, FACTS, Videos, make_videos
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Report, no_report
from vidfeat.system.files import atomic_folder, named_errors
from vidfeat.system.wording import counted
from vidfeat.version import __version__

_BLOCK_ROWS = 16_384
_SEED = 1234
_LEARN_ROWS = 500_000
_REMEDY = "extract it again, or leave such clips out with skip_bad_rows=True"


@dataclass(frozen=True)
class BuildOptions:
    """How an index is built; see `VideoIndex.build`."""

    kind: str = "auto"
    max_memory_bytes: int | None = None
    center: bool = False
    whiten: bool = False
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class RowFiles:
    """The two files of rows: their vectors, and the times of their clips."""

    vectors: Path
    clips: Path


@dataclass
class WrittenRows:
    """Rows written to files, and their table of videos."""

    videos: Videos
    num_rows: int
    skipped: list[str] = field(default_factory=list)
    """Clips left out because their vector cannot be compared, one line each."""


def sampled_blocks(store: FeatureStore) -> Iterator[NDArray[Any]]:
    """Vectors of a feature file to learn from: all of them, or every n-th block of a large one."""
    step = max(1, store.num_clips // _LEARN_ROWS)
    for number, (_, block) in enumerate(store.iter_chunks(_BLOCK_ROWS)):
        if number % step == 0:
            yield block


def write_part(
    store: FeatureStore,
    chosen: NDArray[np.int64],
    normalisation: Normalisation,
    files: RowFiles,
    *,
    first_row: int = 0,
    first_video: int = 0,
    skip_bad_rows: bool = False,
) -> WrittenRows:
    """Write the normalised vectors and the times of some videos of a feature file.

    Args:
        store: the feature file.
        chosen: rows of ``/videos``, ascending; videos without clips are left out.
        normalisation: how vectors of the encoder become vectors of the index.
        files: npy files to write.
        first_row: number that the first row gets in the index.
        first_video: number that the first video gets in the index.
        skip_bad_rows: leave out vectors that are zero or not finite; otherwise they are an error.

    Raises:
        DataError: a vector is zero or not finite; the message has its video and second.
    """
    offset, count = store.videos["offset"], store.videos["count"]
    chosen = chosen[count[chosen] > 0]
    total = int(count[chosen].sum())
    clips = np.empty(total, dtype=CLIP)
    kept = np.zeros(len(chosen), dtype=np.int64)
    skipped: list[str] = []
    written = 0
    with RowWriter(files.vectors, store.dtype, (store.dimension,)) as vectors:
        for first, last in _runs(offset[chosen], count[chosen]):
            start = int(offset[chosen[first]])
            stop = int(offset[chosen[last - 1]] + count[chosen[last - 1]])
            for low in range(start, stop, _BLOCK_ROWS):
                block = store.read_rows(slice(low, min(low + _BLOCK_ROWS, stop)))
                rows = np.arange(low, low + len(block))
                video = first + np.searchsorted(offset[chosen[first:last]], rows, side="right") - 1

                def name(
                    row: int, video: NDArray[Any] = video, times: NDArray[Any] = block.start_seconds
                ) -> str:
                    return f"{store.paths[chosen[video[row]]]}, clip at {times[row]:.2f} s"

                if skip_bad_rows:
                    normal, bad = normalisation.apply_to_good(block.vectors)
                    skipped += [name(int(row)) for row in bad]
                    good = np.setdiff1d(np.arange(len(block)), bad, assume_unique=True)
                else:
                    normal = normalisation.apply(block.vectors, name, _REMEDY)
                    good = np.arange(len(block))
                end = written + len(good)
                vectors.append(normal[good])
                clips["video"][written:end] = first_video + video[good]
                clips["start_seconds"][written:end] = block.start_seconds[good]
                clips["end_seconds"][written:end] = block.end_seconds[good]
                kept += np.bincount(video[good], minlength=len(chosen))
                written = end
    save_npy(files.clips, clips[:written])
    facts = {name: store.videos[name][chosen] for name in FACTS}
    videos = make_videos([store.paths[row] for row in chosen], facts, kept, first_row)
    return WrittenRows(videos, written, skipped)


def _runs(offset: NDArray[np.int64], count: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Group adjacent videos into runs, so that they are read together."""
    if not len(offset):
        return
    breaks = np.flatnonzero(offset[1:] != (offset + count)[:-1]) + 1
    edges = [0, *breaks.tolist(), len(offset)]
    yield from pairwise(edges)


def train_and_add(
    vectors: NDArray[Any],
    plan: IndexPlan,
    folder: Path,
    generation: int,
    *,
    report: Report = no_report,
) -> dict[str, FileEntry]:
    """Train the FAISS index of a plan on mapped vectors, add them all, and write it.

    Returns:
        The entries of the files written: ``index``, and the lists if they are in a separate file.
    """
    import faiss

    num, dimension = vectors.shape
    index = faiss.index_factory(dimension, plan.factory, plan.metric)
    if not index.is_trained:
        sample = _training_sample(vectors, plan.num_lists)
        report(f"training {plan.factory} on {len(sample)} of {num} clips")
        ivf = faiss.extract_index_ivf(index)
        ivf.cp.seed = _SEED
        ivf.cp.niter = 10
        ivf.cp.min_points_per_centroid = 1
        ivf.cp.max_points_per_centroid = 256
        # Candidates are compared exactly in the end: more rounds improve the codes slightly, cost
        # minutes and change no result.
        if hasattr(ivf, "pq"):
            ivf.pq.cp.niter = 12
        if plan.kind == "opq":
            rotation = faiss.downcast_VectorTransform(index.chain.at(0))
            rotation.niter, rotation.niter_pq, rotation.niter_pq_0 = 8, 3, 12
        index.train(sample)
        del sample
    path = folder / file_name("index", generation)
    entries: dict[str, FileEntry] = {}
    if plan.lists_on_disk:
        lists_path = folder / file_name("lists", generation)
        table_path = folder / file_name("list_table", generation)
        add_on_disk(index, vectors, lists_path, table_path, report)
        entries["lists"], entries["list_table"] = entry_of(lists_path), entry_of(table_path)
    else:
        for low, block in _blocks(vectors):
            index.add(block)
            if low and low % (32 * _BLOCK_ROWS) == 0:
                report(f"added {low + len(block)} of {num} clips")
    write_faiss(index, path)
    entries["index"] = entry_of(path)
    return entries


def _blocks(vectors: NDArray[Any]) -> Iterable[tuple[int, NDArray[np.float32]]]:
    for low in range(0, len(vectors), _BLOCK_ROWS):
        yield low, np.ascontiguousarray(vectors[low : low + _BLOCK_ROWS], dtype=np.float32)


def _training_sample(vectors: NDArray[Any], lists: int) -> NDArray[np.float32]:
    """A seeded sample in file order: 40 to 64 points per list, enough for codebooks."""
    wanted = max((POINTS_PER_LIST + 1) * lists, min(64 * lists, 200_000), 40_000)
    if wanted >= len(vectors):
        return np.asarray(vectors, dtype=np.float32)
    chosen = np.random.default_rng(_SEED).choice(len(vectors), wanted, replace=False)
    return np.asarray(vectors[np.sort(chosen)], dtype=np.float32)


def build_index(
    features: Path,
    target: Path,
    options: BuildOptions | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[str], None] | None = None,
) -> IndexHeader:
    """Build an index; see `VideoIndex.build`.

    An existing index is replaced by one rename of its head; a search in progress keeps using what
    it has opened.
    """
    report = report or no_report
    options = options or BuildOptions()
    there = target.exists() or target.is_symlink()
    if there and not overwrite:
        raise UsageError(f"{target} exists: give overwrite=True to rebuild it, or another folder")
    generation = 1
    if there:
        try:
            generation = read_head(target).generation + 1
        except StoreError:
            if not (target / "index.json").is_file():
                raise UsageError(
                    f"{target} exists and is not an index: choose another place"
                ) from None
            there = False  # it is damaged: the whole folder is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    with FeatureStore(features) as store:
        if there:
            with named_errors(target), writing(target), undone(target):
                head = _build_into(store, target, generation, options, report)
                write_head(target, head)
                remove_leftovers(target, head)
        else:
            with atomic_folder(target, replace=overwrite) as folder:
                head = _build_into(store, folder, generation, options, report)
                write_head(folder, head)
                _keep_taught(target, folder)
    return head


def empty_head(store: FeatureStore, kind: str, factory: str = "") -> IndexHeader:
    """The head of an index without rows, for vectors of a feature file."""
    return IndexHeader(
        generation=0,
        kind=kind,
        requested_kind=kind,
        factory=factory,
        dimension=store.dimension,
        num_base=0,
        num_tail=0,
        num_clips=0,
        num_videos=0,
        centred=False,
        search={},
        recall={},
        files={},
        encoder=store.encoder,
        space_fingerprint=store.space_fingerprint,
        run_fingerprint=store.run_fingerprint,
        source_root=store.source_root,
        created=now(),
        vidfeat_version=__version__,
    )


def _keep_taught(old: Path, new: Path) -> None:
    """Keep the labels and heads made on the page of an index when it is rebuilt."""
    import shutil

    for name in TAUGHT:
        if (old / name).is_dir():
            shutil.copytree(old / name, new / name)
        elif (old / name).is_file():
            shutil.copyfile(old / name, new / name)


def _build_into(
    store: FeatureStore,
    folder: Path,
    generation: int,
    options: BuildOptions,
    report: Report,
) -> IndexHeader:
    normalisation = Normalisation()
    centred = options.center or options.whiten
    if centred:
        normalisation = learn(sampled_blocks(store), store.dimension, whiten=options.whiten)
    rows = RowFiles(
        folder / file_name("vectors", generation), folder / file_name("clips", generation)
    )
    part = write_part(
        store,
        np.arange(store.num_videos),
        normalisation,
        rows,
        skip_bad_rows=options.skip_bad_rows,
    )
    for line in part.skipped[:20]:
        report(f"left out: {line}")
    if not part.num_rows:
        raise DataError(f"{store.path} has no clip to index: extract some videos first")
    files: dict[str, FileEntry] = {}
    for role in ("mean", "whitening"):
        values = getattr(normalisation, role)
        if values is not None:
            files[role] = save_array(folder / file_name(role, generation), values)
    head = replace(
        empty_head(store, "flat", "Flat"),
        generation=generation,
        requested_kind=options.kind,
        centred=centred,
        whitened=options.whiten,
        max_memory_bytes=options.max_memory_bytes,
    )
    return finish_base(folder, head, rows, part.videos, files, report)


def finish_base(
    folder: Path,
    head: IndexHeader,
    rows: RowFiles,
    videos: Videos,
    files: dict[str, FileEntry],
    report: Report,
) -> IndexHeader:
    """Index written vectors: the FAISS file, its settings, the table of videos, the new head."""
    vectors = np.asarray(np.load(rows.vectors, mmap_mode="r"))
    clips = np.load(rows.clips)
    plan = _plan(len(vectors), head)
    size = f"{counted(len(vectors), 'clip')}, {counted(len(videos), 'video')}"
    report(f"building {plan.kind} ({plan.factory}) of {size}")
    files = dict(files)
    files |= train_and_add(vectors, plan, folder, head.generation, report=report)
    files["vectors"] = entry_of(rows.vectors)
    files["clips"] = entry_of(rows.clips)
    files["videos"] = save_videos(folder, head.generation, videos)
    head = replace(
        head,
        kind=plan.kind,
        factory=plan.factory,
        num_base=len(vectors),
        num_tail=0,
        num_clips=len(vectors),
        num_videos=len(videos),
        files=files,
        created=now(),
    )
    index = read_faiss(folder / files["index"].name, head)
    engine = SearchEngine(head, index, vectors, np.empty((0, head.dimension), dtype=np.float32))
    tuned = tune(engine, clips["video"])
    reached = tuned.recall["at_10"]
    report(f"recall@10 {reached:.3f} on {tuned.recall['queries']} clips, {tuned.search or 'exact'}")
    return replace(head, search=tuned.search, recall=tuned.recall)


def _plan(num_clips: int, head: IndexHeader) -> IndexPlan:
    memory = head.max_memory_bytes
    try:
        return choose(num_clips, head.dimension, kind=head.requested_kind, max_memory_bytes=memory)
    except UsageError:
        if (
            not head.files
        ):  # when building, the user can choose another kind; a later change must not fail
            raise
        return choose(num_clips, head.dimension, max_memory_bytes=memory)
