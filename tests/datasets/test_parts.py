"""Parts of a dataset: named by folders or a column, held out, and never mixed up."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidfeat.datasets import open_dataset
from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.datasets.folders import hold_out
from vidfeat.datasets.labels import labels_from_folders, read_labels
from vidfeat.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def table(root: Path, *rows: str, columns: str = "path,label,split") -> Path:
    file = root / "labels.csv"
    file.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return file


def parts_of(dataset: VideoDataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for sample in dataset.samples:
        found[sample.part].append(sample.path)
    return {part: sorted(paths) for part, paths in found.items()}


NAMES = {
    "train": ("train", "training", "Train"),
    "val": ("val", "valid", "validate", "validation", "VALID"),
    "test": ("test", "testing", "Test"),
}
LAYOUTS = ("{part}/{label}", "data/{part}/{label}", "{label}/{part}", "data/{label}/{part}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("names", list(itertools.product(*NAMES.values()))[::7])
def test_folders_name_parts_above_and_below_the_classes(
    tmp_path: Path, layout: str, names: tuple[str, ...]
) -> None:
    counts = dict(zip(names, (6, 2, 4), strict=True))
    paths = [
        f"{layout.format(part=part, label=label)}/{label}{number}.mp4"
        for part, count in counts.items()
        for label in ("run", "walk")
        for number in range(count)
    ]
    touch(tmp_path, *paths)
    dataset = open_dataset("auto", tmp_path)
    assert dataset.classes == ("run", "walk")
    assert {part: len(found) for part, found in parts_of(dataset).items()} == {
        "train": 12,
        "val": 4,
        "test": 8,
    }
    assert all(f"/{names[2]}/" in f"/{path}" for path in parts_of(dataset)["test"])
    assert any("parts by folders" in note for note in dataset.notes)
    # the same paths of a feature file are understood alike
    rows = labels_from_folders(sorted(paths)).rows
    assert {(row.path, row.label, row.split) for row in rows} == {
        (s.path, dataset.classes[s.labels[0]], s.part) for s in dataset.samples
    }


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_one_part_alone_is_not_split_again(
    tmp_path: Path, layout: str, part: str
) -> None:
    name = NAMES[part][1]
    touch(
        tmp_path,
        *(f"{layout.format(part=name, label=c)}/{c}{i}.mp4" for c in "ab" for i in range(6)),
    )
    dataset = open_dataset("folder", tmp_path)
    assert {name: len(found) for name, found in parts_of(dataset).items()} == {part: 12}
    if part == "train":
        return
    with pytest.raises(DataError, match="no videos in its part 'train'"):
        dataset.part("train")


def test_a_train_among_other_vehicles_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.mp4" for c in ("train", "bus", "car") for i in range(4)))
    dataset = open_dataset("folder", tmp_path)
    assert dataset.classes == ("bus", "car", "train")
    assert any("read as a class" in note for note in dataset.notes)
    labels = labels_from_folders(s.path for s in dataset.samples)
    assert labels.classes == dataset.classes


@pytest.mark.parametrize("stray", ["test/c.mp4", "test/run/c.mp4", "testing/walk/x/c.mp4"])
def test_nobody_trains_on_a_test_folder_beside_classes(tmp_path: Path, stray: str) -> None:
    touch(tmp_path, "run/a.mp4", "walk/b.mp4", stray)
    for read in (
        lambda: open_dataset("folder", tmp_path),
        lambda: labels_from_folders(["run/a.mp4", "walk/b.mp4", stray]),
    ):
        with pytest.raises(DataError, match=r"'test(ing)?' is named after a part.*run, walk"):
            read()


def test_videos_in_no_part_are_left_out_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "more/a/4.mp4", "5.mp4")
    dataset = open_dataset("folder", tmp_path)
    assert parts_of(dataset) == {
        "train": ["train/a/1.mp4", "train/b/2.mp4"],
        "test": ["test/a/3.mp4"],
    }
    assert dataset.unlisted == ("5.mp4", "more/a/4.mp4")
    assert any("the first: more/a/4.mp4" in note for note in dataset.notes)


@pytest.mark.parametrize("names", [("Run", "run"), ("train/Run", "test/run", "train/b")])
def test_folders_that_differ_in_case_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    paths = [f"{name}/1.mp4" for name in names]
    touch(tmp_path, *paths)
    with pytest.raises(DataError, match=r"'Run' \(1 video\) and 'run' .* only in case"):
        open_dataset("folder", tmp_path)
    with pytest.raises(DataError, match="only in case"):
        labels_from_folders(paths)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("1.mp4,run,train", "1.mp4,walk,train"), "'run' in line 2 and 'walk' in line 3"),
        (("1.mp4,run,train", "1.mp4,run,test"), "in train in line 2 and in test in line 3"),
        (("1.mp4,run,train", "./1.mp4,run,test"), "in train in line 2 and in test in line 3"),
        (("1.mp4,run,train", ".//1.mp4,walk,train"), "'run' in line 2 and 'walk' in line 3"),
        (("1.mp4,run,train", "2.mp4,Run,train"), "'Run' .* and 'run' .* only in case"),
        (("1.mp4,run,train", "1.mp4,run,"), "in train in line 2 and in no part in line 3"),
        (("1.mp4,run,train", "2.mp4,walk,tset"), "split is 'tset'"),
        (("../1.mp4,run,train", "2.mp4,walk,test"), r"leaves its folder by \.\."),
    ],
)
def test_contradictions_of_a_table_are_refused(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    table(tmp_path, *rows)
    with pytest.raises(DataError, match=message):
        open_dataset("csv", tmp_path)


def test_an_absolute_path_and_a_relative_one_are_the_same_video(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    table(tmp_path, f"{tmp_path}/1.mp4,run,train", "2.mp4,walk,test")
    assert [s.path for s in open_dataset("csv", tmp_path).samples] == ["1.mp4", "2.mp4"]
    table(tmp_path, f"{tmp_path}/1.mp4,run,train", "1.mp4,run,test", "2.mp4,walk,test")
    with pytest.raises(DataError, match="in train in line 2 and in test in line 3"):
        open_dataset("csv", tmp_path)


def test_all_doubled_rows_are_counted(tmp_path: Path) -> None:
    rows = [f"{i}.mp4,{'ab'[i % 2]},{part}" for part in ("train", "test") for i in range(5)]
    with pytest.raises(DataError, match=r"5 rows put a video into a second part.*and 2 more"):
        read_labels(table(tmp_path, *rows))


def test_the_same_second_zero_written_twice_is_one_row(tmp_path: Path) -> None:
    columns = "path,label,start_seconds,end_seconds"
    assert len(read_labels(table(tmp_path, "a.mp4,run,,3", "a.mp4,run,0,3", columns=columns))) == 1
    with pytest.raises(DataError, match="'run' in line 2 and 'walk' in line 3"):
        read_labels(table(tmp_path, "a.mp4,run,,3", "a.mp4,walk,0,3", columns=columns))


def test_a_table_takes_every_name_of_a_part_and_leaves_out_rows_without(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(5)))
    table(
        tmp_path,
        "0.mp4,a,Training",
        "1.mp4,b,train",
        "2.mp4,a,VALID",
        "3.mp4,b,testing",
        "4.mp4,b,",
    )
    dataset = open_dataset("csv", tmp_path)
    assert parts_of(dataset) == {"train": ["0.mp4", "1.mp4"], "val": ["2.mp4"], "test": ["3.mp4"]}
    assert any("1 row has no split" in note and "4.mp4" in note for note in dataset.notes)


def test_segments_of_one_video_in_two_parts_are_noted_with_their_lines(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    table(
        tmp_path,
        "1.mp4,a,0,1,train",
        "2.mp4,b,0,1,train",
        "1.mp4,b,2,3,test",
        columns="path,label,start_seconds,end_seconds,split",
    )
    notes = open_dataset("csv", tmp_path).notes
    assert any("1.mp4: train in line 2, test in line 4" in note for note in notes)


CLASSES_AND_GROUPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40
)


def grouped(pairs: list[tuple[int, int]]) -> list[Sample]:
    return [
        Sample(f"{index}.mp4", (label,), group=f"g{group}")
        for index, (label, group) in enumerate(pairs)
    ]


@given(CLASSES_AND_GROUPS, st.floats(0.05, 0.9))
@example([(0, group) for group in range(6)] + [(1, 2), (2, 5), (1, 4)], 0.2)
def test_every_class_keeps_a_group_to_train_on(pairs: list[tuple[int, int]], share: float) -> None:
    samples = hold_out(grouped(pairs), share)
    parts: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        parts[sample.group].add(sample.part)
    assert all(len(part) == 1 for part in parts.values())
    trained = {s.labels[0] for s in samples if s.part == "train"}
    assert trained == {label for label, _ in pairs}
    # what could be held out is held out: no class without a test video has a group to spare
    tested = {s.labels[0] for s in samples if s.part == "test"}
    for label in trained - tested:
        for group in {s.group for s in samples if s.labels[0] == label}:
            left = [s for s in samples if s.part == "train" and s.group != group]
            assert {s.labels[0] for s in left} != trained


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.05, 0.9))
def test_without_groups_the_choice_is_the_old_one(labels: list[int], share: float) -> None:
    samples = hold_out([Sample(f"{i}.mp4", (c,)) for i, c in enumerate(labels)], share)
    held = Counter(s.labels[0] for s in samples if s.part == "test")
    for label, count in Counter(labels).items():
        assert held[label] == min(max(1, round(share * count)), count - 1)


def test_what_was_really_held_out_is_said(tmp_path: Path) -> None:
    rows = [f"{i}.mp4,big,g{i}" for i in range(10)]
    rows += ["10.mp4,small,g3", "11.mp4,alone,g4"]
    touch(tmp_path, *(f"{i}.mp4" for i in range(12)))
    table(tmp_path, *rows, columns="path,label,group")
    dataset = open_dataset("csv", tmp_path)
    (note,) = [note for note in dataset.notes if "held out" in note]
    held = sum(s.part == "test" for s in dataset.samples)
    assert f"{held} of 12 videos" in note
    assert "no video of alone, small could be held out" in note
