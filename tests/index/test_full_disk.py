"""A disk that fills up at any point of a write: an error with a name, nothing left, the old index.

The limit on the size of files stands in for the disk: the system refuses the same writes.
"""

from __future__ import annotations

import errno
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.index_fixtures import video_vectors, write_features
from tests.support.small_disk import can_mount, run_on_small_disk
from vidfeat.index import VideoIndex, change_index
from vidfeat.index.arrays import RowWriter

LIMITS = (0, 100, 1000, 5000, 20_000, 60_000, 150_000)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("features") / "f.h5", 300)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if not path.name.endswith(".lock")}


@pytest.mark.parametrize("size", LIMITS)
@pytest.mark.parametrize(("kind", "memory"), [("flat", None), ("ivfsq", None), ("ivfsq", 10_000)])
def test_building(features, tmp_path, size, kind, memory):
    with files_of_at_most(size), pytest.raises(OSError, match="too large") as caught:
        VideoIndex.build(features, tmp_path / "I", kind=kind, max_memory=memory)
    assert caught.value.errno == errno.EFBIG
    assert str(tmp_path) in str(caught.value.filename)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("size", LIMITS)
@pytest.mark.parametrize("change", ["add", "rebuild", "remove", "overwrite"])
def test_changing(features, tmp_path, size, change):
    index = VideoIndex.build(features, tmp_path / "I")
    before = names(index.path)
    more = write_features(tmp_path / "more.h5", ["z/new.mp4"], clips=1500, first_seed=900)
    limit = min(size, 20_000) if change == "add" else size
    if change == "remove":
        limit = min(size, 5000)
    with files_of_at_most(limit), pytest.raises(OSError, match="too large") as caught:
        if change == "add":
            change_index(index.path, add=[more])
        elif change == "overwrite":
            VideoIndex.build(features, index.path, overwrite=True)
        else:
            change_index(index.path, remove=["a/v000.mp4"], rebuild=change == "rebuild")
    assert str(index.path) in str(caught.value.filename)
    assert names(index.path) == before
    assert VideoIndex(index.path).search("a/v000.mp4", k=1)[0].video == "a/v000.mp4"
    change_index(index.path, add=[more])


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 12_345])
def test_rows_one_by_one_are_the_file_that_numpy_reads(tmp_path, rows):
    values = video_vectors(1, rows, 8) if rows else np.empty((0, 8), dtype=np.float32)
    with RowWriter(tmp_path / "v.npy", np.float16, (8,)) as writer:
        for low in range(0, rows, 700):
            writer.append(values[low : low + 700])
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), values.astype(np.float16))
    if rows:
        mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
        assert mapped.shape == (rows, 8)


@pytest.mark.skipif(not can_mount(), reason="no file system may be mounted here")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_real_disk_that_fills_up(tmp_path, step):
    """A tmpfs with some pages more, or some files more, each time: no signal, nothing left."""
    met = json.loads(run_on_small_disk("tests.index.disk_fills_up", tmp_path, step))
    assert len(met) == 18
    assert min(met.values()) >= 1
    assert met["lists on disk, pages"] >= 40 // step
