"""Issue 24, item by item: the answers of a former commit and of this one.

    python tests/bench/before_after_training.py --before CHECKOUT [--items 1,8]

CHECKOUT is a working tree of commit 5a3c667 that ``make test`` has set up. Inputs are made here.
The last rows (item 0) are runs that were right before: their weights are compared bit for bit, by
their hashes in both checkouts.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.bench.before_after import Checkout, Done, Item, main
from tests.support.index_fixtures import write_features
from tests.support.train_fixtures import (
    MICRO,
    render_motion,
    render_video,
    settings_as_options,
)

QUICK = ("train.epochs=1", "train.epoch_clips=4", "evaluate.clips=1")
DIVERGING = (
    "train.optimizer=sgd", "train.lr=1e30", "train.warmup_epochs=0", "train.schedule=step",
    "train.clip_gradient=0",
)  # fmt: skip
NOT_FINITE = ("nan", "NaN", "infinite", "diverged")

# ---------------------------------------------------------------------- inputs


def videos(root: Path, names: list[str], frames: int = 6) -> Path:
    """Write small videos of drifting textures."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        render_video(root / name, seed=number, frames=frames, size=(16, 22))
    return root


def two_classes(root: Path, one: str = "a", other: str = "b", each: int = 6) -> Path:
    """Write videos of two classes, a folder each."""
    return videos(root, [f"{name}/{n}.mp4" for name in (one, other) for n in range(each)])


def table(file: Path, columns: str, *rows: str) -> Path:
    """Write a CSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join((columns, *rows)) + "\n")
    return file


def quick_settings(at: Checkout, *settings: str) -> list[str]:
    """``--set`` options for steps that take milliseconds, from random weights."""
    starts_at_random = not (at.root / "vidfeat/training/start.py").exists()  # as all runs once did
    common = [one for one in MICRO if not (starts_at_random and one == "model.init=random")]
    return settings_as_options((*common, *settings))


def train(at: Checkout, data: Path | str, run: str, *settings: str, options: tuple = ()) -> Done:
    """Run ``vidfeat train tiny`` with steps of milliseconds."""
    chosen = quick_settings(at, *settings)
    return at.vidfeat("train", "tiny", "--data", data, "--out", run, *chosen, *options)


def evaluated(at: Checkout, run: str, data: Path | str, *options: str) -> tuple[Done, dict]:
    """Run ``vidfeat evaluate --json``; returns the command and its JSON."""
    done = at.vidfeat("evaluate", run, "--data", data, "--workers", 0, "--json", *options)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done, json.loads(lines[-1]) if lines else {}


def started(at: Checkout, run: str) -> dict:
    """The first line of a run's log."""
    text = (at.folder / run / "log.jsonl").read_text().splitlines()
    return next(line for line in map(json.loads, text) if line["event"] == "start")


def poison(run: Path) -> None:
    """Write finite weights with which every output overflows, as divergence leaves them."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = run / "model.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        facts = opened.metadata()
    tensors["fc.weight"].fill_(3e38)
    tensors["fc.bias"].fill_(3e38)
    for name, tensor in tensors.items():
        if name.endswith("weight") and tensor.ndim == 5:
            tensor.mul_(1e30)
    save_file(tensors, file, facts)


# ---------------------------------------------------------------------- the items


def diverged(at: Checkout) -> str:
    data = two_classes(at.folder / "data")
    done = train(at, data, "run", *QUICK, *DIVERGING)
    best = re.search(r"best video@1 [\d.]+%", done.stdout)
    written = (at.folder / "run/model.safetensors").exists()
    said = best[0] if best else done.last_line
    return f"train exit {done.code}, {said}; weights {'written' if written else 'not written'}"


def evaluate_not_finite(at: Checkout) -> str:
    data = two_classes(at.folder / "data")
    train(at, data, "run", *QUICK)
    poison(at.folder / "run")
    done, summary = evaluated(at, "run", data)
    return f"video@1 {summary['video@1']:.0%}, exit 0" if summary else done.how


def pass_on(at: Checkout) -> str:
    data = two_classes(at.folder / "data", each=3)
    train(at, data, "run", *QUICK)
    poison(at.folder / "run")
    network = ("--model", "r2plus1d_10_w16", "--weights", "run", "--workers", "0")
    judged = at.vidfeat("classify", "data/a/0.mp4", *network)
    done = at.vidfeat("extract", "data", "-o", "f.h5", *network)
    judged_nan = "nan%" in judged.stdout
    written = "file written" if (at.folder / "f.h5").exists() else "no file"
    says = "says NaN or infinite" if "NaN or infinite" in done.stderr else "says nothing"
    return (
        f"classify exit {judged.code}{', nan%' if judged_nan else ''}; extract exit {done.code}, "
        f"{written}, {says}"
    )


def other_classes(at: Checkout) -> str:
    train(at, two_classes(at.folder / "lr", "left", "right"), "one", *QUICK)
    left = []
    for run, one, other in (("two", "down", "up"), ("three", "right", "left")):
        data = two_classes(at.folder / run / "data", one, other)
        train(at, data, f"{run}/run", *QUICK, options=("--init", "one"))
        left.append(len(started(at, f"{run}/run")["left_at_random"]))
    return f"up/down: {left[0]} tensors left at random; the same names: {left[1]}"


def hold_out(at: Checkout) -> str:
    rows = [f"{n}.mp4,A,g{n}" for n in range(6)]
    rows += ["6.mp4,B,g2", "7.mp4,B,g5", "8.mp4,C,g1", "9.mp4,C,g0", "10.mp4,D,g3", "11.mp4,D,g4"]
    root = videos(at.folder / "data", [f"{n}.mp4" for n in range(12)])
    table(root / "labels.csv", "path,label,group", *rows)
    script = """
import sys
from collections import Counter
from vidfeat.datasets import open_dataset
for share in range(1, 10):
    d = open_dataset("csv", sys.argv[1], holdout=share / 10)
    trained = Counter(d.classes[s.labels[0]] for s in d.samples if s.part == "train")
    print([c for c in d.classes if not trained[c]])
"""
    done = at.python(script, root)
    lost = [line for line in done.stdout.splitlines() if line != "[]"]
    return f"{len(lost)} of 9 shares leave a class without a video to train on {' '.join(lost[:2])}"


def test_alone(at: Checkout) -> str:
    two_classes(at.folder / "data")
    train(at, "data", "run", *QUICK)
    shutil.copytree(at.folder / "data", at.folder / "only/test")
    done, summary = evaluated(at, "run", "only", "--part", "test")
    trained = train(at, "only", "two", *QUICK)
    measured = f"{summary['videos']} of 12 videos measured" if summary else done.how
    return f"{measured}; training on it: exit {trained.code}"


def contradictions(at: Checkout) -> str:
    root = videos(at.folder / "data", [f"{n}.mp4" for n in range(4)])
    good = ["0.mp4,run,train", "1.mp4,walk,train", "2.mp4,run,test", "3.mp4,walk,test"]
    answers = []
    for what, row in (
        ("two labels", "0.mp4,walk,train"),
        ("two parts", "0.mp4,run,test"),
        ("case", "3.mp4,Walk,test"),
        ("./ path", "./0.mp4,run,test"),
    ):
        rows = [line for line in good if what != "case" or not line.startswith("3")]
        table(root / "labels.csv", "path,label,split", *rows, row)
        done = train(at, root, f"run {what[:3]}", *QUICK)
        answers.append(f"{what} {'refused' if done.code == 2 else f'exit {done.code}'}")
    return ", ".join(answers)


def doubled_rows(at: Checkout) -> str:
    names = [f"{'ab'[n % 2]}/{n}.mp4" for n in range(20)]
    write_features(at.folder / "f.h5", names)
    rows = [f"{n},{n[0]},{'train' if i < 12 else 'test'}" for i, n in enumerate(names)]
    rows += [f"{n},{n[0]},test" for n in names[:4]]
    table(at.folder / "l.csv", "path,label,split", *rows)
    done = at.vidfeat("finetune", "f.h5", "--labels", "l.csv", "--no-report", "--param", "C=0.1")
    named = "names the lines" if "in line 22" in done.stderr else "names no line"
    counted = re.search(r"(\d+) to test on", done.stdout + done.stderr)
    tested = f", tests on {counted[1]} of 12 test rows" if counted else ""
    return f"exit {done.code}{tested}, {named}"


def one_unreadable(at: Checkout) -> str:
    root = two_classes(at.folder / "data", each=6)
    for part in ("train", "val"):
        shutil.copytree(root, at.folder / "parts" / part)
    (at.folder / "parts/train/a/2.mp4").write_bytes(b"no video")
    settings = (
        "data.scale=[32,44]", "data.crop=32", "train.epochs=1", "train.epoch_clips=24",
        "evaluate.clips=1", "train.batch=1",
    )  # fmt: skip
    done = train(at, "parts", "run", *settings)
    again = train(at, "parts", "run", *settings, options=("--resume",)) if done.code else done
    return f"exit {done.code}, with --resume {again.code}: {done.last_line[:60]}"


def one_class(at: Checkout) -> str:
    two_classes(at.folder / "data")
    train(at, "data", "run", *QUICK)
    shutil.copytree(at.folder / "data/b", at.folder / "only/test/b")
    done, summary = evaluated(at, "run", "only", "--part", "test")
    return f"{summary['videos']} videos measured" if summary else done.how


def mirrored(at: Checkout) -> str:
    data = two_classes(at.folder / "data", "turn left", "turn right")
    done = train(at, data, "run", *QUICK, "augment.flip=0.5")
    noted = "augment.flip" in done.stdout + done.stderr
    return f"exit {done.code}, {'a note names augment.flip' if noted else 'no note'}"


def full_checkpoint(at: Checkout) -> str:
    two_classes(at.folder / "data")
    options = quick_settings(at, *QUICK, "run.checkpoint_every=1")
    command = at.command("train", "tiny", "--data", "data", "--out", "run", *options)
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = at.python(limited, *command)
    named = "names the checkpoint" if "step-0000" in done.stderr else "names no path"
    return f"exit {done.code}, {named}: {done.last_line[:80]}"


def missing_glyph(at: Checkout) -> str:
    write_features(at.folder / "f.h5", [f"{'跑走'[n % 2]}/{n}.mp4" for n in range(20)])
    done = at.vidfeat("finetune", "f.h5", "--labels", "folders", "-o", "head", "--param", "C=0.1")
    noise = sum("Glyph" in line for line in done.stderr.splitlines())
    return f"exit {done.code}, {noise} warnings of matplotlib"


# ---------------------------------------------------------------------- what was right before


def weights_hash(at: Checkout, run: str) -> str:
    """A hash of all tensors of a finished run."""
    import hashlib

    from safetensors.numpy import load_file

    total = hashlib.sha256()
    for name, tensor in sorted(load_file(at.folder / run / "model.safetensors").items()):
        total.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
    return total.hexdigest()[:16]


RIGHT = ("train.epochs=2", "run.checkpoint_every=3")


def same_weights(at: Checkout, *settings: str) -> str:
    render_motion(at.folder / "data", train=2, val=1)
    done = train(at, "data", "run", *RIGHT, *settings)
    return f"exit {done.code}, weights {weights_hash(at, 'run')}"


def plain_run(at: Checkout) -> str:
    return same_weights(at)


def rich_run(at: Checkout) -> str:
    return same_weights(
        at, "augment.mixup=0.4", "augment.label_smoothing=0.1", "train.ema_decay=0.9",
        "train.micro_batch=2", "train.optimizer=sgd",
    )  # fmt: skip


def killed_run(at: Checkout) -> str:
    render_motion(at.folder / "data", train=2, val=1)
    options = quick_settings(at, *RIGHT)
    command = at.command("train", "tiny", "--data", "data", "--out", "run", *options)
    with subprocess.Popen(
        command, cwd=at.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not list(at.folder.glob("run/checkpoints/step-*3")) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
    done = train(at, "data", "run", *RIGHT, options=("--resume",))
    return f"exit {done.code}, weights {weights_hash(at, 'run')}"


def two_processes(at: Checkout) -> str:
    render_motion(at.folder / "data", train=2, val=1)
    module = "vidfeat.training" if (at.root / "vidfeat/training").is_dir() else "vidfeat.train"
    script = "import sys; from torch.distributed.run import main; main(sys.argv[1:])"  # torchrun
    done = at.python(
        script, "--standalone", "--nproc-per-node", 2, "-m", module, "tiny", "--data", "data",
        "--out", "run", *quick_settings(at, *RIGHT),
    )  # fmt: skip
    return f"exit {done.code}, weights {weights_hash(at, 'run')}"


def started_from_run(at: Checkout) -> str:
    render_motion(at.folder / "data", train=2, val=1)
    train(at, "data", "first", *QUICK)
    done = train(at, "data", "run", *RIGHT, options=("--init", "first"))
    return f"exit {done.code}, weights {weights_hash(at, 'run')}"


ITEMS = (
    Item(1, "the last update diverges", diverged, "exit [12], .*diverged.*; weights not written"),
    Item(1, "evaluate: outputs that are not finite", evaluate_not_finite, "exit [12]: .*NaN"),
    Item(
        2,
        "classify and extract: outputs that are not finite",
        pass_on,
        "classify exit 2; extract exit 2, no file, says NaN",
    ),
    Item(3, "--init for other classes", other_classes, "up/down: 2 .*; the same names: 0"),
    Item(4, "hold-out of groups in several classes", hold_out, "^0 of 9"),
    Item(5, "a folder with only test/", test_alone, "^12 of 12 .* exit 2"),
    Item(
        6,
        "a CSV that contradicts itself, in train",
        contradictions,
        "two labels refused, two parts refused, case refused, ./ path refused",
    ),
    Item(7, "finetune: a video in train and test", doubled_rows, "exit 2, names the lines"),
    Item(8, "an unreadable clip, batch 1", one_unreadable, "^exit 0"),
    Item(9, "evaluate: data with one class", one_class, "6 videos measured"),
    Item(10, "left and right, and augment.flip", mirrored, "exit 0, a note"),
    Item(11, "a full disk at a checkpoint", full_checkpoint, "exit [12], names the checkpoint"),
    Item(11, "a glyph that the font lacks", missing_glyph, "exit 0, 0 warnings"),
    *(
        Item(0, f"weights of {what}", answer, r"exit 0, weights [0-9a-f]{16}$", as_before=True)
        for what, answer in (
            ("a plain run", plain_run),
            ("a run with mixup, averaged weights, accumulation", rich_run),
            ("a run that was killed and resumed", killed_run),
            ("a run of two processes", two_processes),
            ("a run started from another", started_from_run),
        )
    ),
)

if __name__ == "__main__":
    sys.exit(main(ITEMS, __doc__, sys.argv[1:]))
