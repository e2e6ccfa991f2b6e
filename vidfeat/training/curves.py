"""Plots of a run's log: loss, accuracy and learning rate, with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError
from vidfeat.training.log import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def read_curves(folder: Path) -> tuple[dict[str, NDArray[np.float64]], list[dict[str, Any]]]:
    """The steps of a run as columns, and its evaluations.

    Raises:
        DataError: no log, or no step in it yet.
    """
    steps, evaluations = [], []
    for line in read_log(folder):
        if line.get("event") == "step":
            steps.append(line)
        elif line.get("event") == "evaluation":
            evaluations.append(line)
    if not steps:
        raise DataError(f"{folder}/log.jsonl has no step yet: nothing to draw")
    names = ("step", "loss", "accuracy", "lr", "clips_per_second", "wait_share")
    columns = {
        name: np.array([np.nan if s.get(name) is None else s[name] for s in steps], np.float64)
        for name in names
    }
    return columns, evaluations


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running mean of each value and up to ``width - 1`` values before it."""
    filled = np.nan_to_num(values)
    total = np.concatenate([[0.0], np.cumsum(filled)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - width)
    mean: NDArray[np.float64] = (total[end] - total[start]) / (end - start)
    return mean


def draw_curves(axes: list[Axes], folder: Path) -> None:
    """Draw loss, accuracy and learning rate of a run into three axes, one below the other."""
    from vidfeat.evaluation.plots import ACCENT, LINES, PALETTE

    columns, evaluations = read_curves(folder)
    steps = columns["step"]
    width = max(1, len(steps) // 50)
    loss, accuracy, rate = axes
    for target, name in ((loss, "loss"), (accuracy, "accuracy")):
        target.plot(steps, columns[name], color=LINES, linewidth=0.8)
        target.plot(steps, smooth(columns[name], width), color=ACCENT, label="training clips")
        target.set_ylabel(name)
    if evaluations:
        at = [line["step"] for line in evaluations]
        for name, colour, marker in (("clip@1", PALETTE[2], "^"), ("video@1", PALETTE[1], "o")):
            values = [line[name] for line in evaluations]
            accuracy.plot(at, values, color=colour, marker=marker, label=f"evaluation {name}")
    accuracy.set_ylim(0, 1)
    accuracy.legend(frameon=False)
    rate.plot(steps, columns["lr"], color=ACCENT)
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    loss.set_title(folder.resolve().name)


def save_curves(folder: Path, target: Path) -> None:
    """Write the curves of a run as a picture; the suffix decides the format.

    Raises:
        DataError: no log, or no step in it yet.
    """
    from vidfeat.evaluation.plots import figure, save_picture

    with figure(7.0, 7.5, rows=3) as (made, axes):
        draw_curves(axes, folder)
        save_picture(made, target, dpi=120)
