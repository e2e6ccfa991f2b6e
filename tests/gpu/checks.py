"""What the rows of the GPU checks share: paths, commands, comparisons."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]
"""Of a row: ``figure`` (text for the table), ``ok``, or ``skipped`` (why), and details."""


@dataclass(frozen=True)
class Context:
    """Where a row finds its files, and how large it should be."""

    pack: Path
    """The unpacked archive."""
    scratch: Path
    """A folder that all rows of a run share."""
    out: Path
    """Of the figures."""
    device: str
    small: bool

    @property
    def files(self) -> Path:
        """The copies of the clips, each with a different name."""
        return self.scratch / "files"

    @property
    def gpu(self) -> bool:
        return self.device != "cpu"

    def to_json(self) -> str:
        return json.dumps(
            {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        )

    @classmethod
    def from_json(cls, text: str) -> Context:
        values = json.loads(text)
        for name in ("pack", "scratch", "out"):
            values[name] = Path(values[name])
        return cls(**values)


def skipped(why: str) -> Result:
    return {"skipped": why}


def environment(context: Context, *, baseline: bool = False) -> dict[str, str]:
    """Environment of vidfeat's processes: for this tree, or for the commit measured before."""
    found = dict(os.environ)
    if baseline:
        found["PYTHONPATH"] = f"{context.pack / 'baseline'}:{context.pack / 'site'}"
    found["VIDFEAT_CACHE"] = str(context.scratch / "cache")
    return found


@dataclass
class Finished:
    """A process that has ended."""

    status: int
    wall_seconds: float
    processor_seconds: float
    """Of it and all of its children."""
    output: str


def vidfeat(
    context: Context, *arguments: str | Path, baseline: bool = False, program: Sequence[str] = ()
) -> Finished:
    """Run a command of vidfeat to its end; its output also goes to the log."""
    command = [sys.executable, *(program or ("-m", "vidfeat")), *map(str, arguments)]
    print("$", *command, flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=context.scratch,  # not the tree, whose vidfeat/ would be found first
        env=environment(context, baseline=baseline),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    print(output, flush=True)
    return Finished(process.returncode, seconds, used.ru_utime + used.ru_stime, output)


def knows_option(context: Context, command: str, option: str) -> bool:
    """Whether a command of vidfeat has an option."""
    return option in vidfeat(context, command, "--help").output


@contextmanager
def utilisation(context: Context) -> Iterator[dict[str, Any]]:
    """Sample the card's utilisation once per second; means over the seconds with any work."""
    found: dict[str, Any] = {}
    program = shutil.which("nvidia-smi")
    if program is None or not context.gpu:
        yield found
        return
    monitor = subprocess.Popen(
        [program, "dmon", "-s", "u", "-d", "1"], stdout=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    assert monitor.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(monitor.stdout), daemon=True)
    reader.start()
    try:
        yield found
    finally:
        monitor.terminate()
        reader.join(5)
        monitor.wait()
        names: list[str] = []
        rows = []
        for line in lines:
            words = line.replace("#", " ").split()
            if "sm" in words:
                names = words
            elif words and re.fullmatch(r"\d+", words[0]):
                rows.append([int(word) if word.isdigit() else 0 for word in words])
        for name in ("sm", "mem", "dec"):
            if name in names:
                place = names.index(name)
                found[name] = [row[place] for row in rows if len(row) > place]


def compare_files(first: Path, second: Path) -> dict[str, Any]:
    """The differences of two feature files in their videos and clips."""
    import h5py
    import numpy as np

    def arrays(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        with h5py.File(path, "r") as file:
            file.visititems(visit)
        return found

    one, two = arrays(first), arrays(second)
    differing = sorted(set(one) ^ set(two))
    largest = 0.0
    for name in sorted(set(one) & set(two)):
        a, b = np.asarray(one[name]), np.asarray(two[name])
        if a.shape != b.shape:
            differing.append(name)
        elif a.dtype.kind == "f":
            if not np.array_equal(a, b, equal_nan=True):
                differing.append(name)
                if a.ndim == 2:
                    largest = max(largest, relative_error(a, b))
        elif not np.array_equal(a, b):
            differing.append(name)
    return {"differing": differing, "largest_relative_error": largest}


def relative_error(vectors: Any, reference: Any) -> float:
    """Largest norm of a row's difference over the norm of the row."""
    import numpy as np

    a, b = np.asarray(vectors, np.float64), np.asarray(reference, np.float64)
    norms = np.maximum(np.linalg.norm(b, axis=-1), 1e-30)
    return float((np.linalg.norm(a - b, axis=-1) / norms).max(initial=0.0))
