"""Names that look the same, and videos of another root, in an index."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.support.index_fixtures import write_features
from vidfeat.datasets.labels import as_labels, read_labels
from vidfeat.errors import StoreError
from vidfeat.index import VideoIndex, change_index
from vidfeat.index.query import QuerySource
from vidfeat.store.reader import FeatureStore

NFC, NFD = (unicodedata.normalize(form, "café/übung.mp4") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("stored", "written"), [(NFC, NFD), (NFD, NFC)])
def test_either_form_names_a_video(stored: str, written: str, tmp_path: Path) -> None:
    features = write_features(tmp_path / "f.h5", [stored, "b/b.mp4"])
    with FeatureStore(features) as store:
        assert written in store
        assert len(store.read(written)) == 6
        labels = as_labels({written: "run", "b/b.mp4": "walk"})
        assert len(labels.resolve(store).rows) == 12
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{written},run\nb/b.mp4,walk\n", encoding="utf-8")
    with FeatureStore(features) as store:
        assert len(read_labels(table).resolve(store).rows) == 12
    VideoIndex.build(features, tmp_path / "INDEX")
    (query,) = QuerySource(VideoIndex(tmp_path / "INDEX")).make(written)
    assert query.name == stored
    for text in (written, unicodedata.normalize("NFC", "café/"), "*übung*"):
        VideoIndex.build(features, tmp_path / "OTHER", overwrite=True)
        change = change_index(tmp_path / "OTHER", remove=[text])
        assert change.removed == [stored]


def test_another_root_replaces_nothing(tmp_path: Path) -> None:
    names = ["day/0.mp4", "day/1.mp4"]
    for camera in (1, 2):
        (tmp_path / f"cam{camera}").mkdir()
    first = write_features(tmp_path / "1.h5", names, root=str(tmp_path / "cam1"))
    second = write_features(
        tmp_path / "2.h5", names, first_seed=9, root=str(tmp_path / "cam2"), mtime_ns=8
    )
    VideoIndex.build(first, tmp_path / "INDEX")
    before = {file.name: file.read_bytes() for file in (tmp_path / "INDEX").iterdir()}
    with pytest.warns(UserWarning, match="root"), pytest.raises(StoreError) as refused:
        change_index(tmp_path / "INDEX", add=[second])
    assert str(tmp_path / "cam1") in str(refused.value)
    assert str(tmp_path / "cam2") in str(refused.value)
    assert {f.name: f.read_bytes() for f in (tmp_path / "INDEX").iterdir()} == before
    # the same file elsewhere (its size and time are the same) is an update
    moved = write_features(tmp_path / "3.h5", names, first_seed=9, root=str(tmp_path / "cam2"))
    with pytest.warns(UserWarning, match="root"):
        assert change_index(tmp_path / "INDEX", add=[moved]).updated == names
