"""Labels that name a file without its folder."""

import pytest

from tests.support.heads_fixtures import write_features
from vidfeat.datasets.labels import Labels, as_labels
from vidfeat.datasets.samples import collect, summary
from vidfeat.errors import DataError
from vidfeat.store.reader import FeatureStore

PATHS = ["a/one.mp4", "a/two.mp4", "b/three.mp4", "b/caf\u00e9.mp4"]


def matched(tmp_path, labels, paths=PATHS, **options):
    file = write_features(tmp_path / "f.h5", paths, [0] * len(paths), clips=1)
    with FeatureStore(file) as store:
        return collect(store, as_labels(labels, **options))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"one.mp4": "x", "three.mp4": "y"}, ["a/one.mp4", "b/three.mp4"]),
        ({"two.mp4": "x", "cafe\u0301.mp4": "y"}, ["a/two.mp4", "b/caf\u00e9.mp4"]),
        ({"one.mp4": "x", "four.mp4": "y", "two.mp4": "y"}, ["a/one.mp4", "a/two.mp4"]),
        # a table that names folders means them
        ({"a/one.mp4": "x", "two.mp4": "y"}, ["a/one.mp4"]),
    ],
)
def test_a_file_name_alone_finds_its_video(tmp_path, labels, found):
    samples = matched(tmp_path, labels)
    assert sorted(row.path for row in samples.rows) == found
    by_name = not any("/" in path for path in labels)
    assert samples.num_by_name == (len(found) if by_name else 0)
    assert any("without its folder" in line for line in summary(samples)) == by_name


def test_a_video_at_the_top_is_itself(tmp_path):
    samples = matched(tmp_path, {"one.mp4": "x"}, ["one.mp4", "a/one.mp4", "a/two.mp4"])
    assert [row.path for row in samples.rows] == ["one.mp4"]


def test_a_name_of_two_videos_is_refused_and_names_both(tmp_path):
    with pytest.raises(DataError, match=r"2 videos are called one.mp4 \(a/one.mp4, b/one.mp4\)"):
        matched(tmp_path, {"one.mp4": "x", "two.mp4": "y"}, ["a/one.mp4", "b/one.mp4", "a/two.mp4"])


def test_case_is_ignored_on_request(tmp_path):
    labels = {"ONE.MP4": "x", "Two.mp4": "y"}
    with pytest.raises(DataError):
        matched(tmp_path, labels)
    rows = as_labels(labels).rows
    samples = matched(tmp_path, Labels(rows, "labels", ignore_case=True))
    assert [row.path for row in samples.rows] == ["a/one.mp4", "a/two.mp4"]


def test_a_label_of_a_video_that_failed_goes_to_no_other(tmp_path, monkeypatch):
    from vidfeat.datasets.matching import match_rows

    labels = as_labels({"one.mp4": "x", "two.mp4": "y"})
    found = match_rows(["a/one.mp4", "a/two.mp4"], labels, "", failed=["one.mp4"])
    assert [row.path for _, row in found.pairs] == ["a/two.mp4"]
    assert [row.path for row in found.missing] == ["one.mp4"]
