from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.system.hdf5_writing import PatientFile, new_hdf5

STEPS = st.sampled_from(["write", "read", "truncate"])


def full_after(target: PatientFile, size: int) -> None:
    """Let the file take so many bytes and refuse the rest."""
    real = target._file

    class Full:
        closed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def write(self, data: Any) -> int:
            room = size - real.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(real.write(data[:room]))

    target._file = Full()  # type: ignore[assignment]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(STEPS, st.integers(0, 60), st.binary(max_size=30)), max_size=12),
    room=st.none() | st.integers(0, 60),
)
def test_it_reads_like_a_file_before_and_after_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, room: int | None
) -> None:
    model = io.BytesIO()
    target = PatientFile(tmp_path_factory.getbasetemp() / "patient")
    if room is not None:
        full_after(target, room)
    for what, at, data in steps:
        if what == "truncate":  # HDF5 only ever cuts off what is beyond the end
            at = max(at, model.seek(0, io.SEEK_END))
            model.write(bytes(at - model.tell()))
            target.truncate(at)
            continue
        assert target.seek(0, io.SEEK_END) == model.seek(0, io.SEEK_END)
        if what == "write":
            model.write(bytes(max(0, at - model.tell())))
        model.seek(at)
        target.seek(at)
        if what == "write":
            model.write(data)
            assert target.write(data) == len(data)
        else:
            assert target.read(len(data)) == model.read(len(data))
        if data and (what == "write" or model.tell() > at):
            assert target.tell() == model.tell()
    target.close()
    target.close()


def test_h5py_writes_and_closes_in_peace(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    values = np.random.default_rng(0).standard_normal((500, 40))
    with new_hdf5(path) as (handle, target):
        handle.create_dataset("x", data=values, chunks=(50, 40))
        handle.attrs["text"] = "ü"
        target.check()
    with h5py.File(path) as handle:
        assert np.array_equal(handle["x"][:], values)
    for room in range(0, path.stat().st_size, 20_011):
        with (
            pytest.raises(OSError, match="No space") as caught,
            new_hdf5(path) as (handle, target),
        ):
            full_after(target, room)
            handle.create_dataset("x", data=values, chunks=(50, 40))
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(path)


def test_an_error_of_the_disk_while_it_writes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("vidfeat.system.hdf5_writing._SYNC_BYTES", 1000)
    monkeypatch.setattr(os, "fsync", broken)
    with (
        pytest.raises(OSError, match="Input/output") as caught,
        new_hdf5(tmp_path / "a.h5") as (handle, _),
    ):
        handle.create_dataset("x", data=np.zeros(5000))
    assert caught.value.errno == errno.EIO


def test_an_error_inside_is_the_one_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_hdf5(tmp_path / "a.h5") as (handle, target):
        full_after(target, 100)
        handle.create_dataset("x", data=np.zeros(5000))
        raise KeyError
