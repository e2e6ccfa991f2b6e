"""Datasets in their published annotations, and lists of paths, on a few lines of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vidfeat.datasets import DATASETS, PublishedLists, open_dataset, read_listing
from vidfeat.errors import DataError


def write(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def something_v2(root: Path) -> None:
    folder = root / "labels"
    folder.mkdir(parents=True)
    classes = {"Holding something": "1", "Approaching something with your camera": "0"}
    (folder / "something-something-v2-labels.json").write_text(json.dumps(classes))
    for part, template in (
        ("train", "Holding [something]"),
        ("validation", "Approaching [something] with your camera"),
    ):
        items = [{"id": f"{len(part)}", "label": "x", "template": template, "placeholders": ["x"]}]
        (folder / f"something-something-v2-{part}.json").write_text(json.dumps(items))
    (folder / "something-something-v2-test.json").write_text(json.dumps([{"id": "9"}]))


def jester(root: Path) -> None:
    write(root / "jester-v1-labels.csv", "Swiping Left", "Drumming Fingers")
    write(root / "jester-v1-train.csv", "34870;Drumming Fingers")
    write(root / "jester-v1-validation.csv", "9223;Swiping Left")
    write(root / "jester-v1-test.csv", "1;", "2")


def something_v1(root: Path) -> None:
    stem = "something-something-v1"
    write(root / f"{stem}-labels.csv", "Holding something")
    write(root / f"{stem}-train.csv", "100218;Holding something")
    write(root / f"{stem}-validation.csv", "24413;Holding something")


def moments(root: Path) -> None:
    write(root / "moments_categories.txt", "clapping,1", "adult+female+singing,0")
    write(root / "trainingSet.csv", "clapping/flickr-0-1-6-7_1.mp4,clapping,3,0")
    write(root / "validationSet.csv", "adult+female+singing/a_2.mp4,adult+female+singing,4,1")


def diving48(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Forward", "25som", "NoTwis", "PIKE"]]
    (root / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    for part, label in (("train", 1), ("test", 0)):
        item = {"vid_name": f"{part}_00001", "label": label, "start_frame": 0, "end_frame": 88}
        (root / f"Diving48_V2_{part}.json").write_text(json.dumps([item]))


def charades(root: Path) -> None:
    write(root / "Charades/Charades_v1_classes.txt", "c000 Holding clothes", "c001 Putting them")
    header = "id,subject,scene,quality,actions,length"
    write(
        root / "Charades/Charades_v1_train.csv",
        header,
        'YSKX3,HR43,Bedroom,6,"c001 11.90 21.20;c000 0.00 12.60",32.5',
        "NONE1,HR43,Bedroom,6,,30.0",
    )
    write(root / "Charades/Charades_v1_test.csv", header, "EDXBD,KQI6,Kitchen,7,c000 1.00 5.50,30")


def epic(root: Path) -> None:
    for word, names in (("verb", "take put"), ("noun", "tap plate")):
        rows = [f"{number},{name},\"['x']\"" for number, name in enumerate(names.split())]
        write(root / f"annotations/EPIC_100_{word}_classes.csv", "id,key,instances", *rows)
    header = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class"
    write(
        root / "annotations/EPIC_100_train.csv",
        header,
        "P01_01_0,P01_01,00:00:00.14,00:00:03.37,1,0",
        "P01_01_1,P01_01,01:00:04.37,01:00:06.17,0,1",
    )
    write(root / "annotations/EPIC_100_validation.csv", header, "a,P02_09,00:00:01,00:00:02.5,0,1")
    write(root / "annotations/EPIC_100_test_timestamps.csv", "narration_id,video_id", "b,P03_01")


def activitynet(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    database = {
        "sJFgo9H6zNo": {
            "subset": "training",
            "duration": 138.9,
            "annotations": [{"segment": [0.01, 123.42], "label": "Zumba"}],
        },
        "JDg--pjY5gg": {
            "subset": "validation",
            "annotations": [{"segment": [61.42, 64.56], "label": "Archery"}],
        },
        "V1zhqaGFY2A": {"subset": "testing", "annotations": []},
    }
    content = {"database": database, "taxonomy": [], "version": "VERSION 1.3"}
    (root / "activity_net.v1-3.min.json").write_text(json.dumps(content))


def thumos14(root: Path) -> None:
    write(root / "annotation/Diving_val.txt", "video_validation_0000266  72.8 76.4")
    write(root / "annotation/Billiards_test.txt", "video_test_0000004  0.2 1.1")
    write(root / "annotation/Ambiguous_val.txt", "video_validation_0000266  1.0 2.0")


# what is written, its classes, and entries as (name's begin, class, part, seconds)
Expected = list[tuple[str, int, str, tuple[float | None, float | None]]]
NONE = (None, None)
PUBLISHED: dict[str, tuple[Callable[[Path], None], tuple[str, ...], Expected]] = {
    "something_v2": (
        something_v2,
        ("Approaching something with your camera", "Holding something"),
        [("5", 1, "train", NONE), ("10", 0, "val", NONE)],
    ),
    "jester": (
        jester,
        ("Swiping Left", "Drumming Fingers"),
        [("34870", 1, "train", NONE), ("9223", 0, "val", NONE)],
    ),
    "something_v1": (
        something_v1,
        ("Holding something",),
        [("100218", 0, "train", NONE), ("24413", 0, "val", NONE)],
    ),
    "moments": (
        moments,
        ("adult+female+singing", "clapping"),
        [("clapping/", 1, "train", NONE), ("adult", 0, "val", NONE)],
    ),
    "diving48": (
        diving48,
        ("Back 15som 05Twis FREE", "Forward 25som NoTwis PIKE"),
        [("test", 0, "test", NONE), ("train", 1, "train", NONE)],
    ),
    "charades": (
        charades,
        ("Holding clothes", "Putting them"),
        [
            ("EDXBD", 0, "test", (1.0, 5.5)),
            ("YSKX3", 1, "train", (11.9, 21.2)),
            ("YSKX3", 0, "train", (0.0, 12.6)),
        ],
    ),
    "epic_verbs": (
        epic,
        ("take", "put"),
        [
            ("P01_01", 1, "train", (0.14, 3.37)),
            ("P01_01", 0, "train", (3604.37, 3606.17)),
            ("P02_09", 0, "val", (1.0, 2.5)),
        ],
    ),
    "epic_nouns": (
        epic,
        ("tap", "plate"),
        [
            ("P01_01", 0, "train", (0.14, 3.37)),
            ("P01_01", 1, "train", (3604.37, 3606.17)),
            ("P02_09", 1, "val", (1.0, 2.5)),
        ],
    ),
    "activitynet": (
        activitynet,
        ("Archery", "Zumba"),
        [("sJFgo9H6zNo", 1, "train", (0.01, 123.42)), ("JDg--pjY5gg", 0, "val", (61.42, 64.56))],
    ),
    "thumos14": (
        thumos14,
        ("Billiards", "Diving"),
        [
            ("video_validation_0000266", 1, "train", (72.8, 76.4)),
            ("video_test_0000004", 0, "test", (0.2, 1.1)),
        ],
    ),
}


def entries_of(
    listing: PublishedLists,
) -> list[tuple[str, int, str, tuple[float | None, float | None]]]:
    return [
        (entry.name, entry.labels[0], entry.part, (entry.start_seconds, entry.end_seconds))
        for entry in listing.entries
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_annotations_as_published(tmp_path: Path, name: str) -> None:
    make, classes, expected = PUBLISHED[name]
    make(tmp_path)
    listing = read_listing(name, tmp_path)
    assert listing.classes == classes
    found = entries_of(listing)
    assert len(found) == len(expected)
    for (found_name, *rest), (begin, *wanted) in zip(found, expected, strict=True):
        assert found_name.startswith(begin)
        assert rest[:2] == wanted[:2]
        assert rest[2] == pytest.approx(wanted[2])


@pytest.mark.parametrize("name", [*PUBLISHED, "list"])
def test_another_layout_is_answered_with_expected_and_found(tmp_path: Path, name: str) -> None:
    assert name in DATASETS
    touch(tmp_path, "videos/a.mp4")
    with pytest.raises(DataError, match=r"expected .*; found 1 folder \(videos\)"):
        read_listing(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "lines", "message"),
    [
        ("jester", "jester-v1-train.csv", ["34870,Swiping"], "line 1: expected 'id;label'"),
        ("jester", "jester-v1-train.csv", ["1;Waving"], "'Waving', which is none of the 2"),
        ("moments", "trainingSet.csv", ["clapping"], "line 1: expected 'class/file.mp4,class"),
        ("diving48", "Diving48_V2_train.json", ['[{"vid_name": "a", "label": 48}]'], "below 2"),
        ("diving48", "Diving48_V2_train.json", ["no json"], "found no JSON"),
        (
            "charades",
            "Charades/Charades_v1_test.csv",
            ["id,actions", "a,c999 1 2"],
            "line 2: expected actions like",
        ),
        ("thumos14", "annotation/Diving_val.txt", ["video 3"], "line 1: expected 'video start"),
        ("activitynet", "activity_net.v1-3.min.json", ["{}"], "it has no 'database'"),
        (
            "epic_verbs",
            "annotations/EPIC_100_train.csv",
            ["video_id,start_timestamp,stop_timestamp,verb_class", "P01,3.2,4.1,0"],
            "line 2: expected times like 00:01:02.34",
        ),
    ],
)
def test_lines_that_are_not_as_published(
    tmp_path: Path, name: str, file: str, lines: list[str], message: str
) -> None:
    PUBLISHED[name][0](tmp_path)
    write(tmp_path / file, *lines)
    with pytest.raises(DataError, match=message):
        read_listing(name, tmp_path)


def test_segments_meet_the_videos_that_are_there(tmp_path: Path) -> None:
    activitynet(tmp_path)
    touch(tmp_path, "train/v_sJFgo9H6zNo.mp4", "val/JDg--pjY5gg.mkv", "other.mp4")
    dataset = open_dataset("activitynet", tmp_path)
    assert [(s.path, s.start_seconds, s.part) for s in dataset.samples] == [
        ("train/v_sJFgo9H6zNo.mp4", 0.01, "train"),
        ("val/JDg--pjY5gg.mkv", 61.42, "val"),
    ]
    assert dataset.unlisted == ("other.mp4",)


def test_thumos14_in_the_form_of_activitynet(tmp_path: Path) -> None:
    facts = {"subset": "Validation", "annotations": [{"segment": ["1.5", "3"], "label": "Diving"}]}
    content = {"database": {"video_validation_0000266": facts}}
    (tmp_path / "thumos14.json").write_text(json.dumps(content))
    listing = read_listing("thumos14", tmp_path)
    assert entries_of(listing)[0][1:] == (0, "train", (1.5, 3.0))


# -- lists of paths -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["run/a.mp4 1", "walk/b c.mp4 0"],  # mmaction2, VideoMAE
        ["run/a.mp4,1", "walk/b c.mp4,0"],  # TimeSformer
        ["run/a.mp4 120 1", "walk/b c.mp4 95 0"],  # with a number of frames
        ["run/a.mp4\t1", "walk/b c.mp4\t0"],
    ],
)
def test_lists_of_paths_and_labels(tmp_path: Path, lines: list[str]) -> None:
    write(tmp_path / "kinetics400_train_list_videos.txt", *lines)
    write(tmp_path / "kinetics400_val_list_videos.txt", "run/d.mp4 1")
    touch(tmp_path, "run/a.mp4", "walk/b c.mp4", "run/d.mp4")
    dataset = open_dataset("list", tmp_path)
    assert dataset.classes == ("0", "1")
    assert [(s.path, s.labels, s.part) for s in dataset.samples] == [
        ("run/a.mp4", (1,), "train"),
        ("walk/b c.mp4", (0,), "train"),
        ("run/d.mp4", (1,), "val"),
    ]


def test_a_single_list_with_names_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "a.mp4 2", "b.mp4 0")
    write(tmp_path / "label_map_k3.txt", "archery", "bowling", "chess")
    touch(tmp_path, "a.mp4", "b.mp4")
    dataset = open_dataset("list", tmp_path / "train.txt")
    assert dataset.classes == ("archery", "bowling", "chess")
    assert [dataset.classes[s.labels[0]] for s in dataset.samples] == ["chess", "archery"]
    write(tmp_path / "train.txt", "a.mp4 3")
    with pytest.raises(DataError, match="the label 3 has no name: 3 classes are named"):
        open_dataset("list", tmp_path / "train.txt")


def test_names_as_labels(tmp_path: Path) -> None:
    write(tmp_path / "test.txt", "a.mp4 run", "b.mp4 jump")
    listing = read_listing("list", tmp_path)
    assert listing.classes == ("jump", "run")
    assert [entry.part for entry in listing.entries] == ["test", "test"]


def test_vmzs_tables_have_a_row_a_clip(tmp_path: Path) -> None:
    write(
        tmp_path / "hmdb51_train01.csv",
        "org_video,label,start_frm,video_id",
        "/data/hmdb51/wave/a.avi,1,0,0",
        "/data/hmdb51/wave/a.avi,1,8,0",
        "/data/hmdb51/run/b.avi,0,0,1",
    )
    touch(tmp_path, "wave/a.avi", "run/b.avi")
    dataset = open_dataset("list", tmp_path)
    assert [(s.path, s.labels) for s in dataset.samples] == [
        ("wave/a.avi", (1,)),
        ("run/b.avi", (0,)),
    ]


def test_two_labels_for_one_video_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "a.mp4 0", "a.mp4 1")
    with pytest.raises(DataError, match=r"a\.mp4 has two labels, 0 and 1"):
        read_listing("list", tmp_path)
