"""Checkpoints: whole or absent, verified, readable without trust."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.small_disk import can_mount, run_on_small_disk
from tests.support.train_fixtures import micro, render_motion
from vidfeat.errors import StoreError, UsageError
from vidfeat.system.files import TEMPORARY_MARK, temporary_name
from vidfeat.training import checkpoint
from vidfeat.training.checkpoint import Checkpoint
from vidfeat.training.log import RunLog
from vidfeat.training.run import train
from vidfeat.weights.files import WeightsFacts, save_weights


def state(step: int = 7, *, average: bool = False) -> Checkpoint:
    torch.manual_seed(step)
    weight = torch.randn(3, 4)
    return Checkpoint(
        step=step,
        model={"w": weight, "view": weight.t(), "count": torch.tensor(step)},
        optimizer={
            "state": {0: {"momentum_buffer": torch.randn(3, 4)}},
            "param_groups": [{"lr": 0.1, "params": [0], "foreach": None, "nesterov": False}],
        },
        average={"w": weight * 2} if average else None,
        scaler={"scale": 65536.0, "_growth_tracker": 3},
        facts={"epoch": 0.5, "best": {"step": 3, "video@1": 0.5}},
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = state(12, average=True)
    folder = checkpoint.write_checkpoint(tmp_path, written)
    assert folder.name == "step-00000012"
    read = checkpoint.read_checkpoint(folder)
    assert (read.step, read.scaler, read.facts) == (12, written.scaler, written.facts)
    assert all(torch.equal(read.model[name], written.model[name]) for name in written.model)
    assert read.average is not None and written.average is not None
    assert torch.equal(read.average["w"], written.average["w"])
    assert read.optimizer["param_groups"] == written.optimizer["param_groups"]
    plain = torch.load(folder / "optimizer.pt", weights_only=True)
    assert torch.equal(
        plain["state"][0]["momentum_buffer"], written.optimizer["state"][0]["momentum_buffer"]
    )
    assert json.loads((folder / "state.json").read_text())["step"] == 12


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, harm: str) -> None:
    whole = checkpoint.write_checkpoint(tmp_path, state(3))
    damaged = checkpoint.write_checkpoint(tmp_path, state(6))
    file = damaged / name
    data = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "remove":
        file.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(data)
    with pytest.raises(StoreError):
        checkpoint.read_checkpoint(damaged)
    found, reasons = checkpoint.newest(tmp_path)
    assert found == whole
    assert len(reasons) == 1 and "step-00000006" in reasons[0]


def test_nothing_is_purged_while_the_newest_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.write_checkpoint(tmp_path, state(step))
    (tmp_path / "step-00000003/model.safetensors").write_bytes(b"")
    with pytest.raises(StoreError):
        checkpoint.purge(tmp_path, keep=1)
    assert len(checkpoint.list_checkpoints(tmp_path)) == 3


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        checkpoint.write_checkpoint(tmp_path, state(step))
    (tmp_path / f"step-00000009{TEMPORARY_MARK}1-abc").mkdir()  # a killed writer's
    checkpoint.purge(tmp_path, keep=2, spare=[3])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000003", "step-00000006", "step-00000007"]


def test_a_failing_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.write_checkpoint(tmp_path, state(5))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_checkpoint(tmp_path, state(10))
    assert list(tmp_path.iterdir()) == [before]
    assert checkpoint.newest(tmp_path) == (before, [])
    assert checkpoint.newest(tmp_path / "absent") == (None, [])


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of this process cannot grow beyond 50,000 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("large", ["model", "optimizer", "average"])
def test_a_full_disk_names_the_checkpoint(tmp_path: Path, large: str) -> None:
    sizes = {name: 20_000 if name == large else 10 for name in ("model", "optimizer", "average")}
    tensors = {name: {"x": torch.zeros(size)} for name, size in sizes.items()}
    point = Checkpoint(3, tensors["model"], tensors["optimizer"], tensors["average"])
    with pytest.raises(OSError, match="File too large") as caught:
        checkpoint.write_checkpoint(tmp_path, point)
    assert caught.value.filename == str(tmp_path / "step-00000003")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_names_weights_and_log(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as caught:
        save_weights(
            tmp_path / "w.safetensors", {"x": torch.zeros(20_000)}, WeightsFacts(model="r3d_18")
        )
    assert caught.value.filename == str(tmp_path / "w.safetensors")
    log = RunLog(tmp_path, tensorboard=False)
    with pytest.raises(OSError, match="File too large") as caught:
        log.write("note", text="x" * 60_000)
    assert caught.value.filename == str(tmp_path / "log.jsonl")
    with contextlib.suppress(OSError):
        log.close()


def test_a_start_that_failed_does_not_bar_the_next(tmp_path: Path) -> None:
    """A full disk, or a kill, before the run had begun; what it knew of its data counts no more."""
    data = render_motion(tmp_path / "data", train=1, val=1)
    run = tmp_path / "run"
    run.mkdir()
    stale = {"left_out": [str(next(data.rglob("train/*/*")).relative_to(data))], "digest": ""}
    (run / "data.json").write_text(json.dumps(stale))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: dead.pid)
        temporary_name(run / "recipe.toml").write_text("half")
    lines: list[dict[str, object]] = []
    settings = ("train.epochs=1", "train.epoch_clips=4", "evaluate.clips=1")
    train(micro(*settings), data, run, resume=True, report=lines.append)
    assert next(line for line in lines if line["event"] == "start")["train"] == 8
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(UsageError, match="has files but no training run"):
        train(micro(*settings), data, tmp_path / "other")


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="no file system may be mounted here")
def test_a_real_disk_that_fills_up(tmp_path: Path) -> None:
    met = json.loads(run_on_small_disk("tests.training.disk_fills_up", tmp_path, 150))
    files = {name.partition(".writing-")[0] for name in met}
    assert {"/run/data.json", "/run/recipe.toml", "/run/log.jsonl"} <= files
    assert {"/run/checkpoints/step-00000001", "/run/checkpoints/step-00000002"} <= files
