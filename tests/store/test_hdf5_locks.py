"""Files that are locked, or cannot be: a good file is never called damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.support.index_fixtures import write_features
from vidfeat.errors import StoreError
from vidfeat.evaluation.scores import Scores, read_scores, write_scores
from vidfeat.store.reader import FeatureStore


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_features(tmp_path / "f.h5", 5)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("with_number", [True, False])
def test_a_file_system_without_locks(features, monkeypatch, number, with_number):
    real = h5py.File

    def lockless(path, mode, locking=None):
        if locking is not False:
            text = f"unable to lock file, errno = {number}, message = '{os.strerror(number)}'"
            raise OSError(number, text) if with_number else OSError(text)
        return real(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", lockless)
    with FeatureStore(features) as store:
        assert store.num_videos == 5


@contextmanager
def open_in_another_program(path: Path) -> Iterator[None]:
    script = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        writer.stdout.readline()
        yield
        writer.communicate("\n")


def test_a_file_that_another_program_writes(features):
    with (
        open_in_another_program(features),
        pytest.raises(StoreError, match="is open in another program") as caught,
    ):
        FeatureStore(features)
    assert "cut short" not in str(caught.value)
    FeatureStore(features).close()


def test_a_killed_writer_left_its_flag(tmp_path):
    script = (
        "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['a'] = [1];"
        "f.swmr_mode = True; f.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "f.h5")], check=False)
    with pytest.raises(StoreError, match="h5clear"):
        FeatureStore(tmp_path / "f.h5")


def test_what_is_no_hdf5_file_is_still_called_so(tmp_path):
    (tmp_path / "f.h5").write_bytes(b"text")
    with pytest.raises(StoreError, match="not an HDF5 file"):
        FeatureStore(tmp_path / "f.h5")


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    held = Scores(("a.mp4",), np.ones((1, 2), np.float32), ("x", "y"), np.zeros(1, np.int64))
    write_scores(tmp_path / "scores.h5", held)
    return tmp_path / "scores.h5"


def test_a_score_file_on_a_file_system_without_locks(scores, monkeypatch):
    real = h5py.File

    def lockless(path, mode, locking=None):
        if locking is not False:
            raise OSError(errno.ENOLCK, "unable to lock file")
        return real(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", lockless)
    assert read_scores(scores).paths == ("a.mp4",)


def test_a_score_file_that_another_program_writes(scores):
    with (
        open_in_another_program(scores),
        pytest.raises(StoreError, match="is open in another program"),
    ):
        read_scores(scores)
    assert read_scores(scores).classes == ("x", "y")
