"""The log of a run: ``log.jsonl``, one line per step and per evaluation, and its listener.

A line is a JSON object with an ``event``: ``start``, ``resume``, ``precision``, ``step``,
``unreadable``, ``evaluation``, ``checkpoint``, ``stop``, ``pause``, ``end``. Steps count from 1:
the line of step n is written when n are done.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vidfeat.errors import DataError
from vidfeat.system.cache import keep_matplotlib_quiet
from vidfeat.system.files import atomic_write, named_errors

LogReport = Callable[[dict[str, Any]], None]


class RunLog:
    """Appends lines to ``log.jsonl`` and passes them on; only the main process has a folder.

    Args:
        folder: of the run; None writes nothing.
        report: called with each line.
        tensorboard: also write for TensorBoard, if it is installed.
    """

    def __init__(
        self, folder: Path | None, report: LogReport | None = None, *, tensorboard: bool = True
    ) -> None:
        self._file = None
        self._board: Any = None
        self._report = report if folder is not None else None
        if folder is not None:
            self._file = (folder / "log.jsonl").open("a", encoding="utf-8", buffering=1)
        if folder is not None and tensorboard:
            keep_matplotlib_quiet()  # tensorboard imports it
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, event: str, **values: Any) -> None:
        """Write one line."""
        if self._file is None:
            return
        line = {"event": event, **{key: _number(value) for key, value in values.items()}}
        with named_errors(Path(self._file.name)):
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._board is not None and event in ("step", "evaluation"):
            for key, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{key}", value, line["step"])
        if self._report is not None:
            self._report(line)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            with named_errors(Path(self._file.name)):
                self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log; a last line cut off by a kill is skipped.

    Raises:
        DataError: there is no log.
    """
    file = folder / "log.jsonl"
    if not file.is_file():
        raise DataError(f"{folder} has no log.jsonl: give the folder of a training run")
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value


def trim_log(folder: Path, step: int) -> int:
    """Remove the lines of steps after ``step``, which will be repeated.

    Returns:
        The number of steps that had been done after it.
    """
    if not (folder / "log.jsonl").is_file():
        return 0
    kept = []
    last = step
    for line in read_log(folder):
        at = line.get("step", 0)
        if line.get("event") == "step":
            last = max(last, at)
        if at <= step:
            kept.append(json.dumps(line, ensure_ascii=False))
    with atomic_write(folder / "log.jsonl") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return last - step


def _number(value: Any) -> Any:
    """A value for JSON, which has no NaN; floats keep nine digits, enough for a float32."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
