"""Matching labels with the videos of a feature file by path."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vidfeat.datasets.label_rows import LabelRow, without_doubles
from vidfeat.errors import DataError
from vidfeat.system.identities import Names, normal_form
from vidfeat.system.written_names import written_identity


class LabelTable(Protocol):
    """What matching needs of labels: see :class:`vidfeat.datasets.labels.Labels`."""

    @property
    def rows(self) -> tuple[LabelRow, ...]: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def missing(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def ignore_case(self) -> bool: ...  # noqa: D102
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Matched:
    """Labels and their videos.

    Attributes:
        pairs: a video's index and its label, whose path is now that of the feature file.
        missing: labels without a video.
        num_by_name: how many were found only by their file name.
    """

    pairs: list[tuple[int, LabelRow]]
    missing: tuple[LabelRow, ...]
    num_by_name: int


def match_rows(
    paths: Sequence[str], labels: LabelTable, root: str, *, failed: Collection[str] = ()
) -> Matched:
    """Find the video of each label.

    It is found by its path or, if no label in the table names a folder, by its file name.

    Args:
        paths: of the videos.
        labels: the labels.
        root: the folder that absolute paths lie below.
        failed: paths that could not be read: a label that names one matches no other video.

    Raises:
        DataError: several videos have the file name that a label gives; or labels contradict each
            other.
    """
    place_of = {path: i for i, path in enumerate(paths)}
    names = Names(paths)

    def form(path: str) -> str:
        return normal_form(path).casefold() if labels.ignore_case else normal_form(path)

    folded = {form(path): path for path in paths} if labels.ignore_case else {}
    wanted = [written_identity(row.path, root) for row in labels.rows]
    by_name: dict[str, list[str]] = {}
    if not any("/" in path for path in wanted):
        for path in paths:
            by_name.setdefault(form(path.rpartition("/")[2]), []).append(path)
    pairs: list[tuple[int, LabelRow]] = []
    missing: list[LabelRow] = []
    count = 0
    for row, path in zip(labels.rows, wanted, strict=True):
        stored = names.find(path) or folded.get(form(path))
        if stored is None and path not in failed:
            found = by_name.get(form(path), [])
            if len(found) > 1:
                raise DataError(
                    f"{labels.source}{f', line {row.line}' if row.line else ''}: {len(found)} "
                    f"videos are called {path} ({found[0]}, {found[1]}): write their folders too"
                )
            stored = found[0] if found else None
            count += len(found)
        if stored is None:
            missing.append(replace(row, path=path))
        else:
            pairs.append((place_of[stored], replace(row, path=stored)))
    # Labels with two spellings of one path (absolute, in another case) meet only here.
    kept = {id(row) for row in without_doubles([row for _, row in pairs], labels.source)}
    return Matched([pair for pair in pairs if id(pair[1]) in kept], tuple(missing), count)


def no_match(name: str, paths: Sequence[str], labels: LabelTable) -> DataError:
    """The error if no label matches a video.

    Args:
        name: of the feature file.
        paths: of its videos.
        labels: those that match none.
    """
    given, stored = labels.rows[0].path, paths[0]
    folded = {path.casefold() for path in paths}
    if any(row.path.casefold() in folded for row in labels.rows):
        return DataError(
            f"{labels.source}: its paths are in {name} in another case only ({given!r}): write "
            "them alike, or give ignore_case",
            field="ignore_case",
        )
    return DataError(
        f"{labels.source}: none of its {len(labels)} paths is in {name}: it has {given!r} where "
        f"the feature file has {stored!r}; paths are relative to the folder that was extracted"
    )
