"""Merging, undisturbed and disturbed: only the old or the new state is legal, never a third."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import vidfeat.store.parts
import vidfeat.store.writer
from tests.support.store_fixtures import (
    datasets_of,
    failure_of,
    identity_of,
    make_store,
    part_of,
    rows_of,
    segment_of,
)
from vidfeat.errors import FingerprintError, LockedError, StoreError, UsageError
from vidfeat.store.merge import MergeReport, merge_parts, merge_stores
from vidfeat.store.parts import open_parts, parts_folder, write_part
from vidfeat.store.parts_summary import scan_parts
from vidfeat.store.reader import FeatureStore
from vidfeat.system.lock import OutputLock

# ---------------------------------------------------------------------- parts into a file


def test_parts_become_one_sorted_file(tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    folder = open_parts(output, identity_of())
    write_part(folder, part_of(segment_of("b", 3), segment_of("film", 2, 0, complete=False)), 0)
    write_part(folder, part_of(segment_of("film", 4, 2), failures=(failure_of("x"),)), 1)
    write_part(folder, part_of(segment_of("a", 1), segment_of("z", 0), segment_of("B", 2)), 2)
    report = merge_parts(output, folder)
    assert report == MergeReport(videos=5, clips=12, failures=1, dropped=0)
    assert [file.name for file in tmp_path.iterdir()] == ["features.h5"]
    wanted = make_store(
        tmp_path / "wanted.h5", {"a": 1, "b": 3, "film": 6, "z": 0, "B": 2}, (failure_of("x"),)
    )
    assert datasets_of(output) == datasets_of(wanted)


def test_parts_stand_over_the_file_of_an_earlier_run(tmp_path: Path) -> None:
    output = make_store(
        tmp_path / "features.h5",
        {"same": 2, "again": 2, "changed and bad": 2, "broken now": 2, "gone": 2},
        (failure_of("mended"), failure_of("still bad"), failure_of("gone too")),
    )
    folder = open_parts(output, identity_of(source_root="/new"))
    new = part_of(segment_of("again", 3), segment_of("mended", 1), segment_of("new", 1), seed=1)
    failures = (failure_of("changed and bad", size=7), failure_of("broken now", tries=2))
    write_part(folder, part_of(failures=failures), 0)
    write_part(folder, new, 1)
    with FeatureStore(output) as existing:
        report = merge_parts(output, folder, existing, keep=lambda path: "gone" not in path)
    assert report == MergeReport(videos=5, clips=9, failures=3, dropped=2)
    with FeatureStore(output) as store:
        assert store.paths == ["again", "broken now", "mended", "new", "same"]
        assert store.source_root == "/new"
        assert [failure.path for failure in store.errors] == [
            "broken now",
            "changed and bad",
            "still bad",
        ]
        assert store.errors[0].tries == 2
        for path, count, seed in (("again", 3, 1), ("new", 1, 1), ("same", 2, 0)):
            assert np.array_equal(store.read(path).vectors, rows_of(path, count, 0, seed).vectors)


def test_a_file_without_parts_can_be_thinned_out(tmp_path: Path) -> None:
    output = make_store(tmp_path / "features.h5", {"a": 1, "b": 2, "c": 3})
    folder = open_parts(output, identity_of())
    with FeatureStore(output) as existing:
        merge_parts(output, folder, existing, keep=lambda path: path != "b")
    wanted = make_store(tmp_path / "wanted.h5", {"a": 1, "c": 3})
    assert datasets_of(output) == datasets_of(wanted)


def test_the_file_of_another_run_is_refused(tmp_path: Path) -> None:
    output = make_store(tmp_path / "features.h5", {"a": 1}, run_fingerprint="other")
    before = output.read_bytes()
    folder = open_parts(output, identity_of())
    with FeatureStore(output) as existing, pytest.raises(FingerprintError, match="overwrite=True"):
        merge_parts(output, folder, existing)
    assert output.read_bytes() == before


def test_more_parts_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidfeat.store.merge._OPEN_PARTS", 3)
    output = tmp_path / "features.h5"
    folder = open_parts(output, identity_of())
    names = [f"{n:02d}" for n in range(40)]
    for number in range(10):  # every part has every tenth video: none can be read at a segment
        write_part(folder, part_of(*[segment_of(name, 2) for name in names[number::10]]), number)
    merge_parts(output, folder)
    wanted = make_store(tmp_path / "wanted.h5", dict.fromkeys(names, 2))
    assert datasets_of(output) == datasets_of(wanted)


# ---------------------------------------------------------------------- a run that is disturbed

STEPS = [
    part_of(segment_of("a", 2), segment_of("film", 3, 0, complete=False)),
    part_of(segment_of("film", 3, 3, complete=False), failures=(failure_of("x"),)),
    part_of(segment_of("film", 2, 6), segment_of("m", 1)),
    part_of(segment_of("z", 2), failures=(failure_of("z"),)),
]
OLD = {"a": 2, "b": 4}


def run(output: Path) -> int:
    """What an extraction does with the store, going on from what is there: parts written."""
    written = 0
    with OutputLock(output):
        existing = FeatureStore(output) if output.exists() else None
        folder = open_parts(output, identity_of())
        progress = scan_parts(folder)
        known = set(existing.paths) if existing is not None else set()
        for part in STEPS:
            last = part.segments[-1]
            begun = progress.partial.get(last.path)
            if (
                last.path in known
                or last.path in progress.finished
                or (begun is not None and begun.next_clip >= last.first_clip + last.count)
            ):
                continue
            write_part(folder, part, scan_parts(folder).next_number)
            written += 1
        merge_parts(output, folder, existing)
        if existing is not None:
            existing.close()
    return written


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _points(wrap: Wrap, put: Callable[[Any, str, Any], None]) -> None:
    """Wrap every call by which a run changes the disk."""
    for name in ("fsync", "replace", "rename", "unlink", "rmdir"):
        put(os, name, wrap(getattr(os, name)))
    original = vidfeat.store.parts._write_all

    def in_two(target: Any, data: memoryview) -> None:  # torn in the middle of a write
        original(target, data[: len(data) // 2])
        original(target, data[len(data) // 2 :])

    put(vidfeat.store.parts, "_write_all", wrap(wrap(in_two)))
    writer = vidfeat.store.writer.StoreWriter
    for name in ("__init__", "append", "finish"):
        put(writer, name, wrap(getattr(writer, name)))
    put(h5py.File, "close", wrap(h5py.File.close))


def _counted(act: Callable[[int], None]) -> Wrap:
    """Call ``act`` with a number before each wrapped call."""
    calls = iter(range(10**9))

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            act(next(calls))
            return function(*arguments, **named)

        return wrapped

    return wrap


@pytest.fixture
def wanted(tmp_path: Path) -> tuple[Any, Any]:
    """The datasets before and after a run on a file with two videos."""
    folder = tmp_path / "wanted"
    folder.mkdir()
    output = make_store(folder / "features.h5", OLD)
    before = datasets_of(output)
    assert run(output) == len(STEPS)
    assert run(output) == 0
    after = datasets_of(output)
    counts = {"a": 2, "b": 4, "film": 8, "m": 1, "z": 2}
    made = make_store(folder / "made.h5", counts, (failure_of("x"), failure_of("z")))
    assert after == datasets_of(made)
    return before, after


def check_state(output: Path, wanted: tuple[Any, Any]) -> None:
    """Old or new; and a run after it ends as an undisturbed one."""
    found = datasets_of(output)
    assert found in wanted
    run(output)
    assert datasets_of(output) == wanted[1]
    assert [file.name for file in output.parent.iterdir()] == [output.name]


def test_an_error_at_every_step(
    tmp_path: Path, wanted: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_store(tmp_path / "old.h5", OLD).read_bytes()
    for step in range(1000):
        folder = tmp_path / f"step {step}"
        folder.mkdir()
        output = folder / "features.h5"
        output.write_bytes(made)

        def full(number: int, step: int = step) -> None:
            if number == step:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            _points(_counted(full), patch.setattr)
            try:
                run(output)
                ended = True
            except OSError as error:
                assert error.errno == errno.ENOSPC
                ended = False
        check_state(output, wanted)
        if ended and step > 60:
            break
    else:
        pytest.fail("the run has no end")
    assert step > 60


def _in_child(action: Callable[[], Any]) -> int:
    """Fork, act, and return the wait status."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_at_every_step(tmp_path: Path, wanted: tuple[Any, Any]) -> None:
    made = make_store(tmp_path / "old.h5", OLD).read_bytes()
    killed = 0
    for step in range(1000):
        folder = tmp_path / f"step {step}"
        folder.mkdir()
        output = folder / "features.h5"
        output.write_bytes(made)

        def killed_run(step: int = step, output: Path = output) -> None:
            def kill(number: int) -> None:
                if number == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            _points(_counted(kill), setattr)
            run(output)

        status = _in_child(killed_run)
        check_state(output, wanted)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        killed += 1
    assert killed > 60


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_at_random_moments_one_after_the_other(
    tmp_path: Path, wanted: tuple[Any, Any]
) -> None:
    output = make_store(tmp_path / "features.h5", OLD)
    moments = random.Random(3)
    for _ in range(25):
        child = os.fork()
        if child == 0:
            try:
                run(output)
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert datasets_of(output) in wanted
    run(output)
    assert datasets_of(output) == wanted[1]
    assert not parts_folder(output).exists()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, wanted: tuple[Any, Any]) -> None:
    """The system refuses to let a file grow beyond a size, as a full disk does."""
    made = make_store(tmp_path / "old.h5", OLD).read_bytes()
    refused = 0
    for size in [*range(0, 3000, 300), *range(3000, 40_000, 4000)]:
        folder = tmp_path / f"size {size}"
        folder.mkdir()
        output = folder / "features.h5"
        output.write_bytes(made)

        def limited(size: int = size, output: Path = output) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                run(output)
            except OSError as error:
                os._exit(17 if error.errno == errno.EFBIG else 18)

        status = _in_child(limited)
        assert os.WIFEXITED(status)
        assert os.WEXITSTATUS(status) in (0, 17)
        refused += os.WEXITSTATUS(status) == 17
        check_state(output, wanted)
    assert refused > 5


# ---------------------------------------------------------------------- shards


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[list[Path]]:
    yield [
        make_store(tmp_path / "2.h5", {"b": 2, "d": 0}, (failure_of("y"), failure_of("b"))),
        make_store(tmp_path / "1.h5", {"a": 3, "c": 1}, (failure_of("x"),)),
    ]


def test_shards_become_one_file(tmp_path: Path, shards: list[Path]) -> None:
    output = tmp_path / "all.h5"
    assert merge_stores(shards, output) == MergeReport(4, 6, 3, 0)
    failures = tuple(failure_of(path) for path in "bxy")
    wanted = make_store(tmp_path / "wanted.h5", {"a": 3, "b": 2, "c": 1, "d": 0}, failures)
    assert datasets_of(output) == datasets_of(wanted)
    merge_stores(shards[::-1], output, overwrite=True)
    assert datasets_of(output) == datasets_of(wanted)


def test_shards_that_do_not_belong_together(tmp_path: Path, shards: list[Path]) -> None:
    output = tmp_path / "all.h5"
    other = make_store(tmp_path / "other.h5", {"e": 1}, run_fingerprint="other")
    with pytest.raises(FingerprintError, match=r"other\.h5 .*2\.h5"):
        merge_stores([*shards, other], output)
    for twice in (
        make_store(tmp_path / "same.h5", {"a": 3, "e": 1}),
        make_store(tmp_path / "failed.h5", {}, (failure_of("a"),)),
        make_store(tmp_path / "failures.h5", {}, (failure_of("x"),)),
    ):
        with pytest.raises(StoreError, match=rf"'[ax]' in \S+1\.h5 and \S+{twice.name}"):
            merge_stores([*shards, twice], output)
    with pytest.raises(UsageError, match="no feature file"):
        merge_stores([], output)
    with pytest.raises(UsageError, match="one of the files"):
        merge_stores(shards, shards[0])
    with pytest.raises(StoreError, match=r"absent\.h5 does not exist"):
        merge_stores([*shards, tmp_path / "absent.h5"], output)
    assert not output.exists()
    output.write_text("mine")
    with pytest.raises(StoreError, match="overwrite=True"):
        merge_stores(shards, output)
    with OutputLock(output), pytest.raises(LockedError):
        merge_stores(shards, output, overwrite=True)
    assert output.read_text() == "mine"


def test_a_part_that_disappears_while_it_is_merged(tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    folder = open_parts(output, identity_of())
    file = write_part(folder, part_of(segment_of("a", 2)), 0)
    progress = scan_parts(folder)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(StoreError, match="cut short"):
        merge_parts(output, folder, summary=progress)
    assert not output.exists()
