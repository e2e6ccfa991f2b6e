"""The arrays that published tools read: the times of rows, and their layout in the file.

Each layout is what its consumer's loader opens; a comment names the source of each. Centres are
counted in frames, continuously: a window of frames s to s + w - 1 has its centre at s + w / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, UsageError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.records import VideoRecord

Axes = Literal["rows, numbers", "numbers, rows", "rows, views, numbers"]


@dataclass(frozen=True)
class Layout:
    """What one consumer reads.

    Attributes:
        reader: what opens it, for messages and the JSON.
        plan: fields of a `PlanChoice` that the published features were made with.
        suffix: suffix of a video's file.
        key: name of the array in an npz file; None for npy.
        axes: axes of the array.
        short: whether a video shorter than a window is left out, or keeps its one row.
        every_frame: a column for each frame of the video, zeros if no window lies around it.
        keep_folders: whether the consumer looks files up below folders.
        one_file: name of the one HDF5 file with one dataset per video; None for one file per video.
        views: rows per clip that the consumer wants, such as ten crops.
        stride_seconds: seconds from row to row, if the consumer accepts no other stride.
        about: settings of the consumer that follow from the rows, by their own names.
    """

    reader: str
    plan: Mapping[str, Any]
    suffix: str = ".npy"
    key: str | None = None
    axes: Axes = "rows, numbers"
    short: Literal["leave_out", "keep"] = "leave_out"
    every_frame: bool = False
    keep_folders: bool = False
    one_file: str | None = None
    views: int = 1
    stride_seconds: float | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def settings(self, grid: Grid) -> dict[str, Any]:
        """The consumer's own settings for rows that lie on a grid."""
        values = {
            "stride": grid.stride,
            "window": grid.window,
            "half": grid.window / 2,
            "fps": grid.fps,
            "stride_seconds": grid.stride / grid.fps,
            "rate": grid.fps / grid.stride,
        }
        return {name: values[what] for name, what in self.about.items()}


LAYOUTS: dict[str, Layout] = {
    # happyharrycn/actionformer_release, libs/datasets/thumos14.py:
    # row = (seconds * fps - num_frames / 2) / feat_stride
    "actionformer": Layout(
        "ActionFormer on THUMOS14",
        {"frames": 16, "stride": 1, "fps": "native", "hop_frames": 4, "tail": "drop"},
        about={"feat_stride": "stride", "num_frames": "window", "default_fps": "fps"},
    ),
    # libs/datasets/anet.py, with TSP's features
    "actionformer-anet": Layout(
        "ActionFormer on ActivityNet",
        {"frames": 16, "stride": 1, "fps": 15, "hop_frames": 16, "tail": "drop"},
        about={"feat_stride": "stride", "num_frames": "window", "default_fps": "fps"},
    ),
    # sming256/OpenTAD, opentad/datasets/transforms/loading.py; the centre of row i is
    # feature_stride * i + offset_frames
    "opentad": Layout(
        "OpenTAD",
        {"frames": 16, "stride": 1, "fps": "native", "hop_frames": 4, "tail": "drop"},
        about={"feature_stride": "stride", "offset_frames": "half", "fps": "fps"},
    ),
    # HumamAlwassel/TSP: one HDF5 file, a dataset for each video
    "tsp": Layout(
        "TSP",
        {"frames": 16, "stride": 1, "fps": 15, "hop_frames": 16, "tail": "drop"},
        one_file="features.hdf5",
        suffix="",
    ),
    # jayleicn/moment_detr, moment_detr/start_end_dataset.py: clip_len = 2 seconds
    "qvhighlights": Layout(
        "Moment-DETR and others on QVHighlights",
        # 24 frames per second: 2 s are a whole number of them, so that rows do not drift
        {"fps": 24, "hop_seconds": 2.0, "tail": "drop"},
        suffix=".npz",
        key="features",
        short="keep",
        stride_seconds=2.0,
        about={"clip_length": "stride_seconds"},
    ),
    # tianyu0207/RTFM, dataset.py: transpose(1, 0, 2) gives ten crops
    "rtfm": Layout(
        "RTFM and its successors on UCF-Crime",
        {"frames": 16, "stride": 1, "fps": "native", "hop_frames": 16, "tail": "drop"},
        axes="rows, views, numbers",
        short="keep",
        views=10,
    ),
    # yabufarha/ms-tcn, batch_gen.py; windows of 21 frames around each (issues 3 and 34)
    "mstcn": Layout(
        "MS-TCN and its successors",
        {"fps": "native", "hop_frames": 1, "tail": "drop"},
        axes="numbers, rows",
        short="keep",
        every_frame=True,
    ),
    # SoccerNet: <game>/1_<NAME>.npy and 2_<NAME>.npy, two rows per second
    "soccernet": Layout(
        "SoccerNet's baselines",
        {"fps": 24, "hop_seconds": 0.5, "tail": "drop"},
        short="keep",
        keep_folders=True,
        stride_seconds=0.5,
        about={"framerate": "rate"},
    ),
    # libs/datasets/epic_kitchens.py of ActionFormer
    "epic": Layout(
        "ActionFormer on EPIC-Kitchens",
        {"frames": 32, "stride": 1, "fps": 30, "hop_frames": 16, "tail": "drop"},
        suffix=".npz",
        key="feats",
        about={"feat_stride": "stride", "num_frames": "window", "default_fps": "fps"},
    ),
}


def layout_of(name: str) -> Layout:
    """A layout by its name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    if name not in LAYOUTS:
        raise UsageError(f"layout is {name!r}, expected {', '.join(LAYOUTS)}", field="layout")
    return LAYOUTS[name]


# ---------------------------------------------------------------------- positions of rows


@dataclass(frozen=True)
class Grid:
    """Positions of the rows of one video: the centre of row i is ``first_centre + i * stride``.

    Attributes:
        fps: frames per second in which frames are counted.
        stride: frames from one row to the next.
        window: frames that a row covers.
        first_centre: centre of row 0, in frames.
        rows: rows that lie on the grid; a last row that ends with the video may be off the grid.
        deviation_seconds: largest distance of a row's start from the grid.
        short: the video is shorter than a window.
    """

    fps: float
    stride: int
    window: int
    first_centre: float
    rows: int
    deviation_seconds: float
    short: bool

    def centre_seconds(self, row: int) -> float:
        """Second at which the centre of a row lies."""
        return (self.first_centre + row * self.stride) / self.fps

    def to_dict(self) -> dict[str, Any]:
        """The positions as JSON values, with units in the names."""
        return {
            "fps": self.fps,
            "stride_frames": self.stride,
            "window_frames": self.window,
            "first_centre_frames": self.first_centre,
            "stride_seconds": self.stride / self.fps,
            "window_seconds": self.window / self.fps,
            "first_centre_seconds": self.centre_seconds(0),
            "centre_of_row_i": "first_centre_frames + i * stride_frames, in frames of fps",
            "largest_deviation_seconds": self.deviation_seconds,
        }


def grid_of(
    video: VideoRecord, plan: Mapping[str, Any], start: NDArray[Any], end: NDArray[Any]
) -> Grid:
    """The grid of a video's rows, checked against their seconds.

    Args:
        video: its record.
        plan: plan of the encoder that made the rows.
        start: (N,) start seconds of the rows, one view of each clip.
        end: (N,) end seconds.

    Raises:
        DataError: the rows do not lie on a grid.
    """
    fps = float(Fraction(plan["fps"])) if plan.get("fps") else video.fps
    if not fps > 0:
        raise DataError(f"the frame rate of {video.path!r} is not known: extract with a rate")
    window = (int(plan["frames"]) - 1) * int(plan.get("stride", 1)) + 1
    if plan.get("clips") is not None:
        raise DataError(
            f"{plan['clips']} clips per video are not evenly spaced from video to video: extract "
            "with a hop"
        )
    if plan.get("hop_frames") is not None:
        stride = int(plan["hop_frames"])
    elif plan.get("hop_seconds") is not None:
        stride = max(1, round(float(plan["hop_seconds"]) * fps))
    else:
        stride = window
    short = len(start) == 1 and bool(end[0] - start[0] < (window - 0.5) / fps)
    off = np.abs(np.asarray(start) - np.arange(len(start)) * stride / fps)
    frame = 1.001 / min(fps, video.fps if video.fps > 0 else fps)
    rows = len(start)
    if rows > 1 and off[-1] > frame:
        rows -= 1  # a last window that was moved back to end with the video
    deviation = float(off[:rows].max(initial=0))
    # The frames of a variable rate are counted, so that seconds drift from the mean rate.
    if deviation > max(frame, stride / fps / 2):
        row = int(off[:rows].argmax())
        raise DataError(
            f"row {row} of {video.path!r} starts at {start[row]:.3f} s, and not at "
            f"{row * stride / fps:.3f} s as its plan says (segments, or a variable frame rate): "
            "extract whole videos, with fps, a rate to sample at",
            field="fps",
        )
    return Grid(fps, stride, window, window / 2, rows, deviation, short)


def views_of(rows: Embeddings) -> int:
    """How many rows each clip has: rows that follow each other and cover the same seconds."""
    if len(rows) < 2:
        return 1
    same = (np.diff(rows.start_seconds) == 0) & (np.diff(rows.end_seconds) == 0)
    different = np.flatnonzero(~same)
    views = int(different[0]) + 1 if len(different) else len(rows)
    starts = np.arange(len(rows) // views) * views
    whole = len(rows) % views == 0 and np.array_equal(different + 1, starts[1:])
    return views if whole else 1


def arranged(
    layout: Layout, vectors: NDArray[np.float32], grid: Grid, num_frames: int
) -> tuple[NDArray[np.float32], Grid]:
    """The array of a video as the consumer reads it, and the positions of its rows or columns.

    Args:
        layout: the consumer's layout.
        vectors: (rows, numbers), or (rows, views, numbers).
        grid: grid of these rows.
        num_frames: frames of the video: the columns of a layout with one column per frame.
    """
    if layout.every_frame:
        if grid.stride != 1:
            raise DataError(
                f"rows every {grid.stride} frames, but {layout.reader} reads one for each frame: "
                "extract with hop_frames=1",
                field="hop_frames",
            )
        # Frame t is the middle of the window of frames t - w // 2 to t - w // 2 + w - 1.
        first = 0 if grid.short else grid.window // 2
        padded = np.zeros((num_frames, vectors.shape[1]), dtype=np.float32)
        held = vectors[: num_frames - first]
        padded[first : first + len(held)] = held
        if grid.short:
            padded[:] = vectors[0]
        centre = grid.window / 2 - grid.window // 2
        grid = replace(grid, first_centre=centre, rows=num_frames, short=False)
        vectors = padded
    if layout.axes == "numbers, rows":
        vectors = vectors.T
    return np.ascontiguousarray(vectors), grid
