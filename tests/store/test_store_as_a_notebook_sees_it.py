"""A feature file in a notebook: length, items, tables, and what is printed of things."""

import sys

import numpy as np
import pytest

from tests.support.heads_fixtures import three_classes
from vidfeat.datasets.labels import read_labels
from vidfeat.errors import MissingExtraError, StoreError
from vidfeat.heads.finetuning import FinetuneOptions, finetune
from vidfeat.heads.head import Head
from vidfeat.heads.selection import HeadOptions
from vidfeat.index.match import Match
from vidfeat.store.reader import FeatureStore


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return three_classes(tmp_path_factory.mktemp("store"))


def test_a_store_is_a_container_of_videos(features):
    with FeatureStore(features) as store:
        assert len(store) == len(list(store)) == store.num_videos == 36
        for path, clips in store:
            np.testing.assert_array_equal(store[path].vectors, clips.vectors)
        with pytest.raises(StoreError, match=r"has no video 'no\.mp4'"):
            store["no.mp4"]


def test_a_store_as_a_table(features, monkeypatch):
    with FeatureStore(features) as store:
        table = store.to_pandas()
        assert list(table.columns[:4]) == ["path", "start_seconds", "end_seconds", "v0"]
        assert len(table) == store.num_clips
        path = store.paths[5]
        own = table[table["path"] == path]
        np.testing.assert_array_equal(own.iloc[:, 3:].to_numpy(np.float32), store[path].vectors)
        np.testing.assert_array_equal(own["end_seconds"], store[path].end_seconds)
        assert list(store.to_pandas(vectors=False).columns) == list(table.columns[:3])
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingExtraError, match=r"vidfeat\[pandas\]"):
            store.to_pandas()


def test_folders_are_labels_of_any_file(features):
    labels = read_labels("folders")
    with FeatureStore(features) as store:
        _, y, _ = store.to_arrays(labels)
        assert sorted(set(y)) == ["jump", "run", "walk"]
    options = FinetuneOptions(head=HeadOptions(params={"C": 0.1}), report=False)
    assert finetune(features, labels, options).parts[0].outcome.head.classes[0] == "jump"


def test_what_is_printed_is_one_short_line(features, tmp_path):
    options = FinetuneOptions(head=HeadOptions(params={"C": 0.1}), report=False)
    finetune(features, "folders", options, out=tmp_path / "head")
    store = FeatureStore(features)
    shown = [
        repr(store),
        repr(store[store.paths[0]]),
        repr(Head.load(tmp_path / "head")),
        repr(Match("run/a.mp4", 1.0, 2.5, 0.8765)),
    ]
    store.close()
    shown.append(repr(store))
    assert all(len(text) < 200 and "\n" not in text for text in shown)
    assert "36 videos, 144 clips of 16 dimensions, by r2plus1d_18" in shown[0]
    assert shown[1].startswith("Embeddings(vectors (4, 16) float32, 0.00 s to 8.00 s")
    assert shown[2].startswith("Head(linear: 3 classes (jump, run, walk), 16 dimensions, accuracy")
    assert shown[3] == "Match('run/a.mp4', 1.00 to 2.50 s, score 0.876)"
    assert "closed" in shown[4]
