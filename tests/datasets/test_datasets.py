"""Datasets in their published layouts, with empty files for videos: only names are looked at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vidfeat.datasets import find_videos, match_listing, open_dataset, read_listing
from vidfeat.errors import DataError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def write(file: Path, *lines: str, end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(end.join(lines) + end, encoding="utf-8")


def ucf101(root: Path) -> Path:
    write(root / "lists/classInd.txt", "1 Archery", "2 HandstandPushups", end="\r\n")
    for split in (1, 2, 3):
        write(
            root / f"lists/trainlist0{split}.txt",
            "Archery/v_Archery_g08_c01.avi 1",
            "HandstandPushups/v_HandStandPushups_g08_c01.avi 2",
            end="\r\n",
        )
        write(root / f"lists/testlist0{split}.txt", "Archery/v_Archery_g01_c01.avi")
    return root / "lists"


@pytest.mark.parametrize(
    "names",
    [
        (
            "UCF/HandstandPushups/v_HandstandPushups_g08_c01.avi",
            "UCF/Archery/v_Archery_g08_c01.avi",
        ),
        ("HandStandPushups/v_HandStandPushups_g08_c01.mp4", "Archery/v_Archery_g08_c01.mp4"),
        ("v_HandStandPushups_g08_c01.avi", "v_Archery_g08_c01.avi"),
    ],
)
def test_ucf101_finds_its_videos_in_any_case_folder_and_container(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    lists = ucf101(tmp_path)
    touch(tmp_path / "videos", *names, "other.avi")
    dataset = open_dataset("ucf101", tmp_path / "videos", lists=lists)
    assert dataset.classes == ("Archery", "HandstandPushups")
    assert [(s.path, s.labels, s.part) for s in dataset.samples] == [
        (names[1], (0,), "train"),
        (names[0], (1,), "train"),
    ]
    assert dataset.samples[0].group == "v_Archery_g08"
    assert dataset.missing == ("Archery/v_Archery_g01_c01.avi",)
    assert dataset.unlisted == ("other.avi",)
    assert "1 listed but missing" in dataset.summary()


def test_hmdb51_reads_uses_and_names_with_odd_characters(tmp_path: Path) -> None:
    for split in (1, 2, 3):
        write(
            tmp_path / f"splits/draw_sword_test_split{split}.txt", "#2_(A)!_draw_sword_f_0.avi 1 "
        )
        write(tmp_path / f"splits/sword_test_split{split}.txt", "b_sword_f_0.avi 2 ", "c.avi 0 ")
    touch(tmp_path, "draw_sword/#2_(A)!_draw_sword_f_0.avi", "sword/b_sword_f_0.avi", "sword/c.avi")
    dataset = open_dataset("hmdb51", tmp_path, split=2)
    assert dataset.classes == ("draw_sword", "sword")
    assert [(s.labels, s.part) for s in dataset.samples] == [
        ((0,), "train"),
        ((1,), "test"),
        ((1,), "unused"),
    ]
    assert dataset.samples[0].group == "#2_(A)!"


def test_kinetics_matches_ids_by_case_with_and_without_times(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split"
    rows = ["abseiling,---QUuC4vJs,84,94,train", "zumba,aBcDeFgHiJk,1,11,train"]
    write(tmp_path / "train.csv", header, *rows, "zumba,AbCdEfGhIjK,1,11,train")
    write(tmp_path / "annotations/ignored.csv", header, "x,y,1,2,train")
    write(tmp_path / "val.csv", header, "abseiling,gone0000000,5,15,validate")
    touch(tmp_path, "train/abseiling/---QUuC4vJs_000084_000094.mp4", "flat/aBcDeFgHiJk.mp4")
    dataset = open_dataset("kinetics400", tmp_path)
    assert [(s.path, s.labels) for s in dataset.samples] == [
        ("train/abseiling/---QUuC4vJs_000084_000094.mp4", (0,)),
        ("flat/aBcDeFgHiJk.mp4", (1,)),
    ]
    assert dataset.missing == ("AbCdEfGhIjK_000001_000011", "gone0000000_000005_000015")


def test_kinetics_without_lists_is_read_as_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "validate/a/3.mp4", "train/notes.txt")
    dataset = open_dataset("kinetics700", tmp_path)
    assert Counter(s.part for s in dataset.samples) == {"train": 2, "val": 1}
    assert dataset.evaluation_part == "val"


def test_sports1m_keeps_all_labels_of_a_video(tmp_path: Path) -> None:
    write(tmp_path / "labels.txt", "boomerang", "boxing", "bowling")
    write(
        tmp_path / "train_partition.txt",
        "https://www.youtube.com/watch?v=a_b-c0000A1 0,2",
        "http://youtu.be/zzzzzzzzzzz 1",
    )
    write(tmp_path / "test_partition.txt", "http://www.youtube.com/watch?v=ttttttttttt 1")
    touch(tmp_path, "v/a_b-c0000A1.mkv", "ttttttttttt.mp4")
    dataset = open_dataset("sports1m", tmp_path)
    assert [(s.labels, s.part) for s in dataset.samples] == [((0, 2), "train"), ((1,), "test")]
    assert dataset.missing == ("zzzzzzzzzzz",)


@pytest.mark.parametrize("given", [None, "original", "."])
def test_sports1m_as_published(tmp_path: Path, given: str | None) -> None:
    """The repository has labels.txt at its root and the partitions in original/."""
    write(tmp_path / "labels.txt", "boomerang", "boxing")
    for part in ("train", "test"):
        url = f"https://www.youtube.com/watch?v={part[0] * 11}"
        write(tmp_path / f"original/{part}_partition.txt", f"{url} 1")
    touch(tmp_path, "ttttttttttt.mp4")
    lists = None if given is None else tmp_path / given
    listing = read_listing("sports1m", tmp_path, lists=lists)
    assert listing.classes == ("boomerang", "boxing")
    assert [entry.part for entry in listing.entries] == ["train", "test"]


@pytest.mark.parametrize("header", [("label,youtube_id,time_start,time_end,split",), ()])
def test_kinetics600_as_its_downloader_leaves_it(tmp_path: Path, header: tuple[str, ...]) -> None:
    """Lists under annotations/: train.txt and val.txt beside test.csv; other texts are no lists."""
    folder = tmp_path / "annotations"
    write(folder / "train.txt", *header, "zumba,aaaaaaaaaaa,1,11,train")
    write(folder / "val.txt", *header, '"abseiling, high",bbbbbbbbbbb,5,15,val')
    write(
        folder / "test.csv",
        "label,youtube_id,time_start,time_end,split",
        "zumba,ccccccccccc,0,10,test",
    )
    write(folder / "readme.txt", "Kinetics-600, 10 seconds, each")
    listing = read_listing("kinetics600", tmp_path)
    assert listing.classes == ("abseiling, high", "zumba")
    assert [(entry.part, entry.name[:11]) for entry in listing.entries] == [
        ("test", "ccccccccccc"),
        ("train", "aaaaaaaaaaa"),
        ("val", "bbbbbbbbbbb"),
    ]


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4")
    write(
        tmp_path / "labels.csv",
        "path,label,start_seconds,end_seconds,split,group",
        "a/1.mp4,run,0.5,2,train,g1",
        "a/1.mp4,jump,,,Test,g1",
        "a/2.mp4,run,,,val,",
        "a/3.mp4,run,,,val,",
    )
    dataset = open_dataset("auto", tmp_path)
    assert dataset.classes == ("jump", "run")
    assert dataset.samples[0].start_seconds == 0.5
    assert [s.part for s in dataset.samples] == ["train", "test", "val"]
    assert dataset.missing == ("a/3.mp4",)


def test_what_is_held_out_does_not_move_when_videos_come(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{i}.mp4" for label in "ab" for i in range(10)))
    before = open_dataset("folder", tmp_path)
    assert Counter((s.labels[0], s.part) for s in before.samples) == {
        (0, "train"): 8,
        (0, "test"): 2,
        (1, "train"): 8,
        (1, "test"): 2,
    }
    touch(tmp_path, "a/new.mp4")
    after = {s.path: s.part for s in open_dataset("folder", tmp_path).samples}
    assert sum(after[s.path] != s.part for s in before.samples) <= 1


def test_groups_are_held_out_whole(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(24)]
    touch(tmp_path, *names)
    rows = [f"{name},{'ab'[i % 2]},g{i // 4}" for i, name in enumerate(names)]
    write(tmp_path / "labels.csv", "path,label,group", *rows)
    parts: dict[str, set[str]] = {}
    for sample in open_dataset("csv", tmp_path).samples:
        parts.setdefault(sample.group, set()).add(sample.part)
    assert all(len(part) == 1 for part in parts.values())
    assert {"train"} in parts.values() and {"test"} in parts.values()


@pytest.mark.parametrize("name", ["kinetics400", "sports1m", "ucf101", "hmdb51", "folder", "csv"])
def test_a_wrong_layout_says_what_was_expected_and_found(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "clips/one.mp4", "readme.md")
    with pytest.raises(DataError) as caught:
        open_dataset(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "1 folder (clips) and 1 file (readme.md)" in message
    assert any(word in message for word in ("expected", "needs", "no labels.csv with"))


def test_lists_without_any_of_their_videos_are_refused(tmp_path: Path) -> None:
    lists = ucf101(tmp_path)
    touch(tmp_path / "videos", "holiday.mp4")
    with pytest.raises(DataError, match=r"none of the 3 videos .*1 video such as holiday\.mp4"):
        open_dataset("ucf101", tmp_path / "videos", lists=lists)


def test_bad_lines_and_names_are_named(tmp_path: Path) -> None:
    lists = ucf101(tmp_path)
    write(lists / "testlist01.txt", "Juggling/v_Juggling_g01_c01.avi")
    with pytest.raises(DataError, match=r"Juggling.*names no class"):
        read_listing("ucf101", tmp_path, lists=lists)
    with pytest.raises(UsageError, match="splits 1, 2 and 3, not 4"):
        read_listing("ucf101", tmp_path, lists=lists, split=4)
    with pytest.raises(UsageError, match="no dataset 'imagenet'"):
        open_dataset("imagenet", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        find_videos(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "split", "counts"),
    [
        ("ucf101", 1, (101, 9537, 3783)),
        ("ucf101", 2, (101, 9586, 3734)),
        ("ucf101", 3, (101, 9624, 3696)),
        ("hmdb51", 1, (51, 3570, 1530)),
        ("hmdb51", 2, (51, 3570, 1530)),
        ("hmdb51", 3, (51, 3570, 1530)),
    ],
)
def test_official_splits_have_their_published_counts(
    shared_data: Path, name: str, split: int, counts: tuple[int, int, int]
) -> None:
    listing = read_listing(name, Path(), lists=shared_data / f"splits/{name}_splits", split=split)
    found = (len(listing.classes), len(listing.part("train")), len(listing.part("test")))
    assert found == counts
    # every listed name finds itself in the usual layout
    paths = [f"{entry.keys[0]}.avi" for entry in listing.entries]
    assert not match_listing(listing, paths).missing


@pytest.mark.parametrize(("name", "count"), [("k400", 400), ("k600", 600), ("k700", 700)])
def test_kinetics_classes_come_in_index_order(
    shared_data: Path, tmp_path: Path, name: str, count: int
) -> None:
    labels = (shared_data / f"splits/kinetics/label_map_{name}.txt").read_text().split("\n")
    labels = [label for label in labels if label]
    rows = [f'"{label}",{i:011d},1,11,train' for i, label in enumerate(reversed(labels))]
    write(tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split", *rows)
    listing = read_listing(f"kinetics{count}", tmp_path)
    assert list(listing.classes) == labels
    assert len(labels) == count


def test_sports1m_names_come_in_index_order(shared_data: Path, tmp_path: Path) -> None:
    labels = (shared_data / "splits/sports1m/labels.txt").read_text(encoding="utf-8")
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    lines = [f"https://www.youtube.com/watch?v={i:011d} {i},{(i + 1) % 487}" for i in range(487)]
    write(tmp_path / "train_partition.txt", *lines)
    listing = read_listing("sports1m", tmp_path)
    assert listing.classes == tuple(labels.split("\n")[:487])
    assert listing.entries[486].labels == (486, 0)
