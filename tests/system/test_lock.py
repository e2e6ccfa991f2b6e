from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from vidfeat.errors import LockedError
from vidfeat.system import lock as module
from vidfeat.system.lock import OutputLock


def no_flock(descriptor: int) -> None:
    raise OSError(errno.ENOTSUP, "not supported")


@pytest.fixture(params=["flock", "exclusive"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "exclusive":
        monkeypatch.setattr(module, "_flock", no_flock)
    return str(request.param)


def _hold(output: Path, supported: bool, ready: Any, release: Any) -> None:
    if not supported:
        module._flock = no_flock  # type: ignore[assignment]
    with OutputLock(output):
        ready.set()
        release.wait(30)


def _holder(output: Path, kind: str) -> tuple[Any, Any]:
    """A process that holds the lock until the event is set."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(output, kind == "flock", ready, release))
    process.start()
    assert ready.wait(30)
    return process, release


def test_the_second_is_told_who_the_first_is(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "features.h5"
    process, release = _holder(output, kind)
    with pytest.raises(LockedError) as caught, OutputLock(output):
        pass
    told = str(caught.value)
    assert f"process {process.pid} on {socket.gethostname()}" in told
    assert "\n" not in told
    release.set()
    process.join()
    with OutputLock(output):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "features.h5"
    process, _ = _holder(output, kind)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(tmp_path.iterdir())) == 1
    with OutputLock(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_taken_again_and_is_freed_by_an_error(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "features.h5"
    for _ in range(3):
        with pytest.raises(KeyError), OutputLock(output):
            with pytest.raises(LockedError), OutputLock(output):
                pass
            raise KeyError
    assert list(tmp_path.iterdir()) == []


def _contend(output: Path, supported: bool, begin: Any, told: Any) -> None:
    if not supported:
        module._flock = no_flock  # type: ignore[assignment]
    counter = output.with_name("counter")
    begin.wait(30)
    mine = 0
    until = time.monotonic() + 20
    while mine < 25 and time.monotonic() < until:
        try:
            with OutputLock(output):
                seen = int(counter.read_text())
                time.sleep(0.0005)
                counter.write_text(str(seen + 1))
                mine += 1
        except LockedError:
            pass
    told.put(mine)


def test_never_two_at_a_time(tmp_path: Path, kind: str) -> None:
    context = multiprocessing.get_context("spawn")
    begin, told = context.Event(), context.SimpleQueue()
    (tmp_path / "counter").write_text("0")
    arguments = (tmp_path / "features.h5", kind == "flock", begin, told)
    processes = [context.Process(target=_contend, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    begin.set()
    total = sum(told.get() for _ in processes)
    for process in processes:
        process.join()
    assert int((tmp_path / "counter").read_text()) == total > 0
    assert [file.name for file in tmp_path.iterdir()] == ["counter"]


def test_without_flock_a_lock_of_another_machine_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_flock", no_flock)
    file = tmp_path / "features.h5.lock-exclusive"
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "then"}))
    with (
        pytest.raises(LockedError, match=r"process 1 on elsewhere.*delete .*lock-exclusive"),
        OutputLock(tmp_path / "features.h5"),
    ):
        pass
    assert file.exists()


def test_a_number_that_another_process_got_is_not_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module._process_start(os.getpid()) is None:
        pytest.skip("this system does not say when a process began")
    monkeypatch.setattr(module, "_flock", no_flock)
    file = tmp_path / "features.h5.lock-exclusive"
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "process_start": 1}
    file.write_text(json.dumps(owner))
    with OutputLock(tmp_path / "features.h5"):
        assert json.loads(file.read_text())["process_start"] != 1


def test_another_error_of_the_system_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(module, "_flock", broken)
    with pytest.raises(OSError, match="broken"), OutputLock(tmp_path / "features.h5"):
        pass
    with pytest.raises(FileNotFoundError), OutputLock(tmp_path / "no" / "features.h5"):
        pass
