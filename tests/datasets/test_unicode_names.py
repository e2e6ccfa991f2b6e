"""Names that look the same are the same, whichever form their accents have (NFC, NFD)."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfeat.datasets import open_dataset
from vidfeat.datasets.label_rows import LabelRow
from vidfeat.datasets.labels import Labels, labels_from_folders, read_labels, relative_to
from vidfeat.errors import DataError
from vidfeat.system.identities import existing_spelling, normal_form, one_spelling
from vidfeat.system.written_names import written_identity
from vidfeat.training.class_names import order_of
from vidfeat.video.listing import list_videos, read_list

FORMS = ("NFC", "NFD")
NFC, NFD = (unicodedata.normalize(form, "café") for form in FORMS)
ACCENTED = st.text("aéüçñ", min_size=1, max_size=6)


@pytest.mark.parametrize("folder", FORMS)
@pytest.mark.parametrize("file", FORMS)
@pytest.mark.parametrize("written", FORMS)
def test_a_path_is_found_part_by_part(
    folder: str, file: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of a Mac with a file in it that came from elsewhere."""
    root = tmp_path / unicodedata.normalize(folder, "übung")
    stored = root / unicodedata.normalize(file, "café.mp4")
    root.mkdir()
    stored.write_bytes(b"-")
    asked = unicodedata.normalize(written, "übung/café.mp4")
    assert existing_spelling(str(tmp_path / asked)) == str(stored)
    (tmp_path / "l.txt").write_text(f"{asked}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_list("l.txt") == [str(stored.relative_to(tmp_path))]
    given_root = tmp_path / unicodedata.normalize(written, "übung")
    table = tmp_path / "s.csv"
    for path in (asked.partition("/")[2], str(tmp_path / asked)):
        table.write_text(f"path,start_seconds,end_seconds\n{path},0,1\n", encoding="utf-8")
        (video,) = list_videos([], given_root, table).videos
        assert (video.identity, video.path) == (stored.name, str(stored))


@given(st.lists(ACCENTED, max_size=8), st.data())
def test_one_spelling_for_what_looks_the_same(names: list[str], data: st.DataObject) -> None:
    mixed = [unicodedata.normalize(data.draw(st.sampled_from(FORMS)), name) for name in names]
    chosen = one_spelling(mixed)
    assert set(chosen) == set(mixed)
    assert len(set(chosen.values())) == len({normal_form(name) for name in mixed})
    for name, spelling in chosen.items():
        assert normal_form(spelling) == normal_form(name)
        if sum(normal_form(other) == normal_form(name) for other in set(mixed)) == 1:
            assert spelling == name  # nothing else is touched


def test_a_class_in_both_forms_is_one_class(tmp_path: Path) -> None:
    paths = [f"train/{NFC}/a.mp4", f"test/{NFD}/b.mp4", "train/x/c.mp4", "test/x/d.mp4"]
    assert labels_from_folders(paths).classes == (NFC, "x")
    for path in paths:
        (tmp_path / "v" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / path).write_bytes(b"-")
    dataset = open_dataset("folder", tmp_path / "v")
    assert dataset.classes == (NFC, "x")
    assert {sample.labels for sample in dataset.samples} == {(0,), (1,)}
    table = tmp_path / "l.csv"
    table.write_text(f"path,label\na.mp4,{NFC}\nb.mp4,{NFD}\nc.mp4,x\n", encoding="utf-8")
    labels = read_labels(table)
    assert labels.classes == (NFC, "x")
    assert [row.label for row in labels.rows] == [NFC, NFC, "x"]
    table.write_text(f"path,label\na.mp4,{NFC.upper()}\nb.mp4,{NFD}\n", encoding="utf-8")
    with pytest.raises(DataError, match="differ only in case"):
        read_labels(table)


def test_a_network_knows_its_classes_in_the_other_form() -> None:
    assert order_of((NFD, "x"), ("x", NFC)) == [1, 0]


def test_roots_are_left_off_in_either_form() -> None:
    assert written_identity(f"/d/{NFC}/a.mp4", f"/d/{NFD}") == "a.mp4"
    assert written_identity(f"/d/{NFC}2/a.mp4", f"/d/{NFC}") == f"/d/{NFC}2/a.mp4"
    labels = Labels((LabelRow(f"/d/{NFC}/a.mp4", "a"),), "x")
    assert [row.path for row in relative_to(labels, "/e", f"/d/{NFD}").rows] == ["a.mp4"]
