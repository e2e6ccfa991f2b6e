"""Whole runs of the micro recipe: resumed to the bit, shared by processes, refused when wrong."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support.train_fixtures import (
    MICRO,
    finish,
    micro,
    render_motion,
    same_weights,
    settings_as_options,
    start_processes,
    weights_of,
)
from vidfeat.errors import TrainingError, UsageError
from vidfeat.training.log import read_log
from vidfeat.training.run import train
from vidfeat.weights.load import load_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion(tmp_path_factory.mktemp("motion"))


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the micro recipe: 16 steps."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train(micro(), data, folder)
    return folder


def steps_of(folder: Path, key: str = "loss") -> list[float]:
    lines = [line for line in read_log(folder) if line["event"] == "step"]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line[key] for line in lines]


def test_a_run_is_what_the_contract_says(reference: Path, data: Path) -> None:
    assert {path.name for path in reference.iterdir()} >= {
        "recipe.toml",
        "log.jsonl",
        "checkpoints",
        "model.safetensors",
    }
    lines = list(read_log(reference))
    step = next(line for line in lines if line["event"] == "step")
    assert {"step", "epoch", "loss", "lr", "clips_per_second", "wait_share"} <= step.keys()
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [16]
    assert evaluations[-1]["videos"] == 16
    start = next(line for line in lines if line["event"] == "start")
    assert (start["train"], start["evaluate"], start["classes"]) == (32, 16, 8)
    names = sorted(path.name for path in (reference / "checkpoints").iterdir())
    assert names == ["step-00000012", "step-00000015", "step-00000016"]
    loaded = load_weights(str(reference), "r2plus1d_10_w16")
    assert loaded.class_names is not None and len(loaded.class_names) == 8
    assert loaded.plan is not None and loaded.plan.frames == 4
    assert loaded.preprocess is not None and loaded.preprocess.crop == (16, 16)
    logits = loaded.build()(torch.zeros(1, 3, 4, 16, 16))
    assert logits.shape == (1, 8)


def test_resumed_anywhere_with_any_workers_the_bits_are_the_same(
    reference: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for until, workers in ((2, 0), (5, 1), (8, 2), (11, 0), (None, 1)):
        train(micro(f"run.workers={workers}"), data, folder, resume=True, until=until)
    assert same_weights(reference, folder)
    assert steps_of(folder) == steps_of(reference)


def test_every_option_resumes_to_the_bit(data: Path, tmp_path: Path) -> None:
    options = (
        "augment.mixup=0.3",
        "augment.label_smoothing=0.1",
        "augment.randaugment=2",
        "augment.crop=resized",
        "train.ema_decay=0.9",
        "train.nesterov=true",
        "train.batch=8",
        "train.clip_gradient=1.0",
        "train.layer_lr.fc=3.0",
    )
    train(micro(*options), data, tmp_path / "a")
    for until in (3, None):
        train(micro(*options), data, tmp_path / "b", resume=True, until=until)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    last = sorted((tmp_path / "a/checkpoints").iterdir())[-1]
    trained = weights_of(last)
    averaged = weights_of(tmp_path / "a")  # what is kept is the average
    assert not torch.equal(trained["fc.weight"], averaged["fc.weight"])


def test_bf16_runs(data: Path, tmp_path: Path) -> None:
    recipe = micro("train.precision=bf16", "train.channels_last=true", "train.epochs=1")
    result = train(recipe, data, tmp_path / "run")
    assert result.complete
    assert all(math.isfinite(loss) for loss in steps_of(tmp_path / "run"))


def test_accumulated_parts_make_the_step_of_the_whole(data: Path, tmp_path: Path) -> None:
    common = ("model.freeze_batch_norm=true", "train.batch=8", "train.epochs=2")
    train(micro(*common, "train.micro_batch=8"), data, tmp_path / "a")
    train(micro(*common, "train.micro_batch=3"), data, tmp_path / "b")
    assert steps_of(tmp_path / "a") == pytest.approx(steps_of(tmp_path / "b"), abs=1e-4)


def test_two_processes_with_half_the_batch_each_see_the_same_losses(
    data: Path, tmp_path: Path
) -> None:
    settings = (*MICRO, "model.freeze_batch_norm=true", "train.epochs=5", "train.batch=8")
    options = ["tiny", "--data", str(data), *settings_as_options(settings)]
    finish(start_processes([*options, "--out", str(tmp_path / "two")], 2))
    train(micro(*settings[-3:]), data, tmp_path / "one")
    one, two = steps_of(tmp_path / "one"), steps_of(tmp_path / "two")
    assert len(one) == 20
    assert two == pytest.approx(one, abs=1e-4)
    # and the evaluation of both processes together is that of one, video by video
    last = [
        [line for line in read_log(tmp_path / name) if line["event"] == "evaluation"][-1]
        for name in ("one", "two")
    ]
    assert last[0]["videos"] == last[1]["videos"] == 16
    assert last[0]["clip@1"] == pytest.approx(last[1]["clip@1"], abs=0.1)


def wait_for_step(folder: Path, step: int, processes: list[subprocess.Popen[str]]) -> None:
    """Wait until a step is logged, or the run has ended."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if (folder / "log.jsonl").is_file():
            last = [line for line in read_log(folder) if line["event"] == "step"][-1:]
            if last and last[0]["step"] >= step:
                return
        if all(process.poll() is not None for process in processes):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} did not come")


def kill_and_resume(
    data: Path, folder: Path, processes: int, kills: int, settings: tuple[str, ...], seed: int
) -> None:
    """Kill a run at random moments, resume it each time, and let it end."""
    rng = random.Random(seed)
    options = ["tiny", "--data", str(data), "--out", str(folder), "--resume"]
    options += settings_as_options(settings)
    done = 0
    for _ in range(kills):
        running = start_processes(options, processes)
        wait_for_step(folder, done + rng.randint(1, 5), running)
        time.sleep(rng.random() * 0.05)
        for process in running:
            process.kill()
        for process in running:
            process.communicate()
        if (folder / "log.jsonl").is_file():
            steps = [line["step"] for line in read_log(folder) if line["event"] == "step"]
            done = max(steps, default=0)
    finish(start_processes(options, processes))


def test_killed_and_resumed_the_bits_are_the_same(
    reference: Path, data: Path, tmp_path: Path
) -> None:
    kill_and_resume(data, tmp_path / "run", 1, 1, MICRO, seed=0)
    assert same_weights(reference, tmp_path / "run")
    repeated = [
        line["repeated_steps"] for line in read_log(tmp_path / "run") if line["event"] == "resume"
    ]
    assert len(repeated) == 1 and max(repeated) <= micro().run.checkpoint_every


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_thirty_kills_at_random_moments_leave_no_trace(
    data: Path, tmp_path: Path, processes: int
) -> None:
    """Fifteen kills of one process, and fifteen of a group of two."""
    settings = (*MICRO, "train.epochs=12", "run.workers=1")
    options = ["tiny", "--data", str(data), *settings_as_options(settings)]
    finish(start_processes([*options, "--out", str(tmp_path / "whole")], processes))
    kill_and_resume(data, tmp_path / "killed", processes, 15, settings, seed=processes)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole")
    repeated = [
        line["repeated_steps"]
        for line in read_log(tmp_path / "killed")
        if line["event"] == "resume"
    ]
    assert len(repeated) >= 5
    assert max(repeated) <= 3


def test_sigterm_writes_a_check_point_and_ends(reference: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (*MICRO, "run.checkpoint_every=1000")
    options = ["tiny", "--data", str(data), "--out", str(folder), *settings_as_options(settings)]
    (process,) = start_processes(options, 1)
    wait_for_step(folder, 2, [process])
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    if process.returncode == 0:  # it was quicker than the signal
        pytest.skip("the run ended before the signal came")
    assert process.returncode == 143, output
    assert "--resume continues" in output
    stop = [line for line in read_log(folder) if line["event"] == "stop"]
    assert len(stop) == 1
    assert (folder / "checkpoints" / f"step-{stop[0]['step']:08d}").is_dir()
    train(micro("run.checkpoint_every=1000"), data, folder, resume=True)
    assert same_weights(reference, folder)


def test_a_damaged_check_point_is_passed_over(reference: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(micro(), data, folder, until=7)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    (newest / "model.safetensors").write_bytes(b"cut")
    train(micro(), data, folder, resume=True)
    resume = next(line for line in read_log(folder) if line["event"] == "resume")
    assert resume["step"] == 6 and "step-00000007" in resume["passed_over"][0]
    assert same_weights(reference, folder)


def test_going_on_with_a_finished_run_changes_nothing(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(micro("train.epochs=1"), data, folder)
    before = weights_of(folder)
    assert train(micro("train.epochs=1"), data, folder, resume=True).complete
    assert all(torch.equal(before[name], value) for name, value in weights_of(folder).items())


def test_fine_tuning_freezes_and_scales_by_part(
    reference: Path, data: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    for part in ("train", "val"):
        for name in ("rise", "fall", "grow"):
            shutil.copytree(data / part / name, few / part / name)
    recipe = micro(
        f"model.init={reference}",
        "model.freeze=['layer1']",
        "train.layer_lr.stem=0",
        "train.layer_lr.fc=10",
        "train.weight_decay=0.0",
        "train.epochs=1",
    )
    train(recipe, few, tmp_path / "run")
    before, after = weights_of(reference), weights_of(tmp_path / "run")
    assert after["fc.weight"].shape[0] == 3
    for name, value in after.items():
        statistics = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        if name.startswith("layer1.") or (name.startswith("stem.") and not statistics):
            assert torch.equal(value, before[name]), name
    # at a learning rate of 0 batch norm goes on taking its statistics; what is frozen does not
    assert not torch.equal(after["stem.1.running_mean"], before["stem.1.running_mean"])
    assert not torch.equal(after["layer4.0.conv1.0.0.weight"], before["layer4.0.conv1.0.0.weight"])
    start = next(line for line in read_log(tmp_path / "run") if line["event"] == "start")
    assert start["left_at_random"] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.lr=0.5",), "other settings of train.lr"),
        (("data.frames=5", "train.seed=3"), "data.frames, train.seed"),
    ],
)
def test_a_run_is_not_gone_on_with_under_another_recipe(
    reference: Path, data: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(micro(*settings), data, reference, resume=True)


def test_a_run_is_not_overwritten_or_fed_other_data(
    data: Path, reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has a training run already: give resume"):
        train(micro(), data, reference)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(UsageError, match="no training run: choose an empty folder"):
        train(micro(), data, tmp_path / "full")
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    train(micro(), copy, tmp_path / "run", until=2)
    (copy / "train/rise/0000.mp4").unlink()
    with pytest.raises(UsageError, match="the data has changed since"):
        train(micro(), copy, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.freeze=['layer9']",), "no part 'layer9'; the network has stem"),
        (("train.layer_lr.head=2",), "no such part; the network has stem"),
        (("model.freeze=['stem','layer1','layer2','layer3','layer4','fc']",), "nothing is left"),
        (("augment.mixup=0.2", "train.batch=3"), "an even share"),
        (("model.name=r2plus2d_10",), "no network 'r2plus2d_10'"),
        (("model.init=/nowhere/w.safetensors",), "no weights file"),
    ],
)
def test_what_cannot_run_is_said_before_the_first_step(
    data: Path, tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(micro(*settings), data, tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_loss_that_is_no_number_ends_the_run_with_advice(data: Path, tmp_path: Path) -> None:
    recipe = micro("train.lr=1e20", "train.clip_gradient=0", "train.warmup_epochs=0")
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        train(recipe, data, tmp_path / "run")


def test_videos_that_break_on_the_way_are_replaced_and_named(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "train/rise/0001.mp4").write_bytes(b"not a video")
    lines: list[dict[str, object]] = []
    train(micro("train.epochs=1"), copy, tmp_path / "run", report=lines.append)
    failures = [line for line in lines if line["event"] == "unreadable"]
    assert len(failures) == 1 and str(failures[0]["path"]).endswith("rise/0001.mp4")
    assert sum(int(line.get("unreadable", 0)) for line in lines if line["event"] == "step") == 1
    # the scan finds it before the first step, and what it left out stays left out
    from vidfeat.datasets.scan import find_broken

    for until in (3, None):
        train(
            micro("train.epochs=1"),
            copy,
            tmp_path / "scanned",
            resume=True,
            find_broken=find_broken,
            until=until,
        )
    described = json.loads((tmp_path / "scanned/data.json").read_text())
    assert described["left_out"] == ["train/rise/0001.mp4"]
    assert described["train"] == 31


@pytest.mark.slow
def test_torchrun_restarts_what_dies(reference: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (*MICRO, "train.epochs=6")
    options = ["tiny", "--data", str(data), *settings_as_options(settings)]
    finish(start_processes([*options, "--out", str(tmp_path / "whole")], 2))
    launched = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--standalone", "--max-restarts", "2", "-m", "vidfeat.training"),
            *(*options, "--out", str(folder)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    wait_for_step(folder, 7, [launched])
    assert launched.poll() is None
    workers = [child for child in children_of(launched.pid) if "vidfeat.training" in child[1]]
    os.kill(workers[0][0], signal.SIGKILL)
    output, _ = launched.communicate(timeout=300)
    assert launched.returncode == 0, output
    assert same_weights(tmp_path / "whole", folder)
    resumes = [line for line in read_log(folder) if line["event"] == "resume"]
    assert len(resumes) == 1 and resumes[0]["step"] >= 3


def children_of(parent: int) -> list[tuple[int, str]]:
    """Process ids and command lines of a process's children, read from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append((int(entry.name), command))
    return found
