"""Features as the arrays that a published tool reads; see `vidfeat.store.layouts`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError, UsageError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.export import INDEX_JSON, make_room, projected
from vidfeat.store.file_names import file_names, without_extension
from vidfeat.store.layouts import Grid, Layout, arranged, grid_of, layout_of, views_of
from vidfeat.store.pca import PCA
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import VideoRecord
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import atomic_folder, write_json
from vidfeat.system.wording import counted

_EXPORT_FORMAT = "vidfeat-layout"
_HALF = re.compile(r"^([12])(?:_[^/]*)?$")
_SHOWN = 3


@dataclass(frozen=True)
class LayoutOptions:
    """How files are named.

    Attributes:
        keep_extensions: ``a.mp4.npy`` for ``a.mp4``.
        keep_folders: ``class/a.npy`` for ``class/a.mp4``; None for the layout's default.
        feature_name: NAME in SoccerNet's files ``1_NAME.npy``; None for the network's name.
    """

    keep_extensions: bool = False
    keep_folders: bool | None = None
    feature_name: str | None = None


@dataclass(frozen=True)
class LayoutReport:
    """What was written.

    Attributes:
        videos: number of arrays.
        rows: number of rows in all of them.
        warnings: what was left out and what differs from the published features.
    """

    videos: int
    rows: int
    warnings: tuple[str, ...] = ()


def export_layout(
    features: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    layout: str,
    options: LayoutOptions | None = None,
    *,
    pca: PCA | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LayoutReport:
    """Write the arrays of all videos, each with a JSON file that gives the positions of its rows.

    Args:
        features: the feature file.
        folder: must be empty or not exist.
        layout: a name of `vidfeat.store.layouts.LAYOUTS`.
        options: how files are named.
        pca: projects the rows first.
        overwrite: replace an earlier export.
        progress: see `Progress`.

    Raises:
        UsageError: no such layout.
        DataError: rows that the layout cannot hold: not evenly spaced, or of too few views.
        FingerprintError: the PCA is for another network.
        StoreError: two videos would share a name, or the folder has other files in it.
        OSError: writing failed; the folder is as it was.
    """
    chosen = layout_of(layout)
    options = options or LayoutOptions()
    folder = Path(folder)
    with FeatureStore(features) as store:
        names = _names(store, chosen, options)
        make_room(folder, overwrite=overwrite, format_name=_EXPORT_FORMAT)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as temporary:
            export = _Export(store, layout, chosen, names, pca)
            with _writer(temporary, chosen) as write:
                export.run(write, progress)
            write_json(temporary / INDEX_JSON, export.about())
        return LayoutReport(export.videos, export.rows, tuple(export.warnings()))


def _names(store: FeatureStore, layout: Layout, options: LayoutOptions) -> dict[str, str]:
    keep_folders = layout.keep_folders if options.keep_folders is None else options.keep_folders
    if layout is layout_of("soccernet"):
        return _soccer_names(store, options)
    if options.feature_name is not None:
        raise UsageError(
            "feature_name is for the files of SoccerNet's halves", field="feature_name"
        )
    return file_names(
        store.paths,
        str(store.path),
        suffix=layout.suffix,
        keep_extensions=options.keep_extensions,
        keep_folders=keep_folders,
        reserved=() if layout.one_file else (INDEX_JSON,),
    )


def _soccer_names(store: FeatureStore, options: LayoutOptions) -> dict[str, str]:
    """``<game>/1_NAME.npy`` of ``<game>/1_224p.mkv`` or ``<game>/1.mkv``."""
    feature = options.feature_name or re.sub(
        r"[^A-Za-z0-9_-]+", "-", str(store.encoder.get("model", "features"))
    ).strip("-")
    if not re.fullmatch(r"[\w.+-]+", feature):
        raise UsageError(
            f"feature_name is {feature!r}: it becomes part of a file's name, as in "
            "1_ResNET_TF2_PCA512.npy",
            field="feature_name",
        )
    halves = {}
    for path in store.paths:
        game, slash, name = without_extension(path).rpartition("/")
        found = _HALF.match(name)
        if found is None:
            raise StoreError(
                f"{store.path}: {path!r} is not a half of a game: SoccerNet's videos are "
                "<game>/1_224p.mkv and <game>/2_224p.mkv"
            )
        halves[path] = f"{game}{slash}{found[1]}_{feature}"
    names = file_names(list(store.paths), str(store.path))  # refuses paths that lead out
    owner: dict[str, str] = {}
    for path in names:
        name = f"{halves[path]}.npy"
        if name in owner:
            raise StoreError(f"{store.path}: {owner[name]!r} and {path!r} would both be {name}")
        owner[name] = path
    return {path: name for name, path in owner.items()}


# ---------------------------------------------------------------------- one video

Write = Callable[[str, NDArray[np.float32], dict[str, Any]], None]


class _Export:
    def __init__(
        self,
        store: FeatureStore,
        name: str,
        layout: Layout,
        names: dict[str, str],
        pca: PCA | None,
    ) -> None:
        self.store = store
        self.name = name
        self.layout = layout
        self.names = names
        self.pca = pca
        self.videos = self.rows = 0
        self.left_out: list[str] = []
        self.dropped: list[str] = []
        self.other_plan = ""
        plan = store.encoder.get("plan")
        if not isinstance(plan, dict):
            raise DataError(
                f"{store.path} does not say which frames its rows were made from, or its joined "
                "networks differ in that: export each network's features separately"
            )
        self.plan = plan
        if pca is not None:
            pca.check(store)

    def run(self, write: Write, progress: Progress | None) -> None:
        for done, (video, (path, rows)) in enumerate(
            zip(self.store.records(), self.store, strict=True), 1
        ):
            found = self._array(video, rows)
            if found is None:
                self.left_out.append(path)
            else:
                array, grid = found
                self.videos += 1
                self.rows += array.shape[1] if self.layout.axes == "numbers, rows" else len(array)
                write(self.names[path], array, self._beside(video, array, grid))
            if progress is not None:
                progress(done, self.store.num_videos)

    def _array(
        self, video: VideoRecord, rows: Embeddings
    ) -> tuple[NDArray[np.float32], Grid] | None:
        """The array of a video; None if the layout leaves the video out."""
        if not len(rows):
            return None
        views = views_of(rows)
        if views != self.layout.views and not (views == len(rows) == 1):
            raise self._wrong_views(video.path, views)
        if views == 1 and self.layout.views > 1:
            raise self._wrong_views(video.path, views)
        grid = self._grid(video, rows.start_seconds[::views], rows.end_seconds[::views])
        if grid.short and self.layout.short == "leave_out":
            return None
        vectors = projected(rows.vectors, self.pca)
        if views > 1:
            vectors = vectors.reshape(-1, views, vectors.shape[1])
        if grid.rows < len(vectors):
            self.dropped.append(video.path)
        slots = video.num_frames
        if self.plan.get("fps"):
            slots = int(np.ceil(video.num_frames * grid.fps / video.fps - 1e-6))
        return arranged(self.layout, vectors[: grid.rows], grid, slots)

    def _grid(self, video: VideoRecord, start: NDArray[Any], end: NDArray[Any]) -> Grid:
        grid = grid_of(video, self.plan, start, end)
        wanted = self.layout.stride_seconds
        if wanted is not None and abs(grid.stride / grid.fps - wanted) > 1e-6:
            raise DataError(
                f"{video.path!r} has one row every {grid.stride / grid.fps:.4g} s, but "
                f"{self.layout.reader} reads one every {wanted:g} s: extract with "
                f"layout_plan {self.name}",
                field="layout_plan",
            )
        published = self.layout.plan
        hop = published.get("hop_frames")
        if not self.other_plan and (
            (hop is not None and grid.stride != hop)
            or ("frames" in published and grid.window != published["frames"])
        ):
            told = ", ".join(f"{k}: {v:g}" for k, v in self.layout.settings(grid).items())
            self.other_plan = (
                f"rows every {grid.stride} frames over {grid.window}; the published features have "
                f"one every {hop} over {published.get('frames', grid.window)} (the plan of layout "
                f"{self.name})" + (f": set {told} in its configuration" if told else "")
            )
        return grid

    def _wrong_views(self, path: str, views: int) -> DataError:
        has = counted(views, "row")
        if self.layout.views == 1:
            return DataError(
                f"each clip of {path!r} has {has}, but {self.layout.reader} reads one: extract "
                "with one crop, or with the average of several"
            )
        return DataError(
            f"each clip of {path!r} has {has}, but {self.layout.reader} reads "
            f"{self.layout.views}: extract with crops={self.layout.views}",
            field="crops",
        )

    def _beside(self, video: VideoRecord, array: NDArray[Any], grid: Grid) -> dict[str, Any]:
        return {
            "video": video.path,
            "layout": self.name,
            "shape": list(array.shape),
            "axes": self.layout.axes,
            "duration_seconds": video.duration_seconds,
            "num_frames": video.num_frames,
            **grid.to_dict(),
            "settings": self.layout.settings(grid),
        }

    def about(self) -> dict[str, Any]:
        """The description of the export, for its ``index.json``."""
        return {
            "format": _EXPORT_FORMAT,
            "layout": self.name,
            "reader": self.layout.reader,
            "videos": self.videos,
            "rows": self.rows,
            "left_out": self.left_out,
            "last_row_dropped": self.dropped,
            "pca_dimensions": None if self.pca is None else self.pca.dimension,
            **replace(self.store.identity).to_dict(),
        }

    def warnings(self) -> list[str]:
        told = []
        if self.left_out:
            told.append(
                f"{counted(len(self.left_out), 'video')} left out, shorter than a window or "
                f"without rows: {_some(self.left_out)}"
            )
        if self.dropped:
            told.append(
                f"the last row of {counted(len(self.dropped), 'video')} dropped: it was moved back "
                f"to end with the video, off the grid: {_some(self.dropped)}"
            )
        if self.other_plan:
            told.append(self.other_plan)
        return told


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (", ..." if len(names) > _SHOWN else "")


# ---------------------------------------------------------------------- files


@contextmanager
def _writer(folder: Path, layout: Layout) -> Iterator[Write]:
    if layout.one_file is None:
        yield lambda name, array, about: _write_file(folder / name, layout, array, about)
        return
    every: dict[str, Any] = {}
    with h5py.File(folder / layout.one_file, "w") as file:

        def add(name: str, array: NDArray[np.float32], about: dict[str, Any]) -> None:
            file.create_dataset(name, data=array)
            every[name] = about

        yield add
    write_json(folder / f"{layout.one_file}.json", every)


def _write_file(
    file: Path, layout: Layout, array: NDArray[np.float32], about: dict[str, Any]
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if layout.key is None:
        np.save(file, array, allow_pickle=False)
    else:
        # numpy's stubs confuse every keyword with allow_pickle
        np.savez(file, **{layout.key: array})  # type: ignore[arg-type]
    # Not write_json: the folder is renamed as a whole, and a flush for each video would be slow.
    text = json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    file.with_name(f"{file.name}.json").write_text(text + "\n", encoding="utf-8")
