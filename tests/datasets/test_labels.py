"""Labels, and the rows of a feature file that belong to them."""

import numpy as np
import pytest

from tests.support.heads_fixtures import (
    embeddings,
    identity,
    names_of,
    record,
    three_classes,
    write_features,
)
from vidfeat.datasets.labels import (
    Labels,
    as_labels,
    labels_from_folders,
    labels_from_split,
    read_labels,
)
from vidfeat.datasets.samples import collect, summary
from vidfeat.errors import DataError
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store


@pytest.fixture
def features(tmp_path):
    return three_classes(tmp_path)


def write_csv(folder, text):
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_column_is_read(tmp_path):
    file = write_csv(
        tmp_path,
        "\ufeffgroup, path ,label,start_seconds,end_seconds,split,note\n"
        "g1,./a/b.mp4,run,1.5,3,Train,hello\n"
        ',"c, d.mp4",jump,,,test,\n',
    )
    first, second = read_labels(file).rows
    assert (first.path, first.label, first.group, first.split) == ("a/b.mp4", "run", "g1", "train")
    assert (first.start_seconds, first.end_seconds, first.is_segment) == (1.5, 3.0, True)
    assert (second.path, second.is_segment, second.line) == ("c, d.mp4", False, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("file,label\na.mp4,x\n", "no column 'path'"),
        ("path,label\n", "no label in it"),
        ("path,label\na.mp4,\n", "line 2: the column label is empty"),
        ("path,label\n,run\n", "line 2: the column path is empty"),
        ("path,label,labels\na.mp4,run,run|walk\n", "keep label for one class per row, or labels"),
        ('path,label\na.mp4,"run\nb.mp4,walk\n', "line 2: a quotation mark is never closed"),
        ('path,label\na.mp4,"run\nb.mp4,"walk\n', "the label .* spans lines"),
        ('path,label\na.mp4,run\n"b.mp4,walk', "line 3: a quotation mark is never closed"),
        ("path,label,start_seconds\na.mp4,run,soon\n", "start_seconds is 'soon'"),
        ("path,label,start_seconds\na.mp4,run,-1\n", "start_seconds is '-1'"),
        ("path,label,end_seconds\na.mp4,run,inf\n", "end_seconds is 'inf'"),
        ("path,label,start_seconds,end_seconds\na.mp4,run,3,2\n", "the segment 3 to 2 s is empty"),
        ("path,label\na.mp4,Run\nb.mp4,run\n", "differ only in case.*ignore_case"),
        ("path,label\na.mp4,jump\na.mp4,run\n", "'jump' in line 2 and 'run' in line 3"),
    ],
)
def test_what_cannot_be_meant_is_one_line_with_the_remedy(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        read_labels(write_csv(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none.csv", "."])
def test_what_is_no_file_is_told_with_what_labels_are(tmp_path, name):
    with pytest.raises(DataError, match="a CSV with the columns path,label, or the word folders"):
        read_labels(tmp_path / name)


def test_what_is_no_text_is_told(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"path,label\ncaf\xe9.mp4,run\n")
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_labels(tmp_path / "labels.csv")


def test_the_commoner_spelling_wins_when_case_is_ignored(tmp_path):
    file = write_csv(tmp_path, "path,label\na.mp4,Run\nb.mp4,run\nc.mp4,run\nd.mp4,jump\n")
    assert read_labels(file, ignore_case=True).classes == ("jump", "run")


def test_the_same_row_twice_counts_once(tmp_path):
    assert len(read_labels(write_csv(tmp_path, "path,label\na.mp4,run\na.mp4,run\n"))) == 1


def test_folders_name_classes_and_parts():
    labels = labels_from_folders(
        ["run/a.mp4", "x/jump/b.mp4", "train/run/c.mp4", "test/run/d.mp4", "e.mp4", "train/f.mp4"]
    )
    assert [(r.path, r.label, r.split) for r in labels.rows] == [
        ("run/a.mp4", "run", ""),
        ("x/jump/b.mp4", "jump", ""),
        ("train/run/c.mp4", "run", "train"),
        ("test/run/d.mp4", "run", "test"),
    ]
    with pytest.raises(DataError, match="a CSV as labels"):
        labels_from_folders(["a.mp4"])


def test_samples_are_the_clips_of_their_videos(features):
    with FeatureStore(features) as store:
        samples = collect(
            store, as_labels({"run/video_01.mp4": "run", "jump/video_00.mp4": "jump"})
        )
        assert samples.classes == ("jump", "run")
        assert samples.y.tolist() == [1, 0]
        expected = [store.read("run/video_01.mp4"), store.read("jump/video_00.mp4")]
    np.testing.assert_array_equal(
        samples.vectors, np.concatenate([part.vectors for part in expected])
    )
    np.testing.assert_allclose(samples.pooled(), [part.mean() for part in expected], rtol=1e-6)
    np.testing.assert_array_equal(samples.start_seconds, [0, 2, 4, 6, 0, 2, 4, 6])
    assert len(samples.unlabelled) == 34
    assert not samples.has_groups


def test_samples_can_be_taken_in_any_order(features):
    with FeatureStore(features) as store:
        samples = collect(store, labels_from_folders(store.paths))
    chosen = samples.take([30, 2, 17])
    assert [row.path for row in chosen.rows] == [samples.rows[i].path for i in (30, 2, 17)]
    np.testing.assert_array_equal(chosen.pooled(), samples.pooled()[[30, 2, 17]])
    np.testing.assert_array_equal(chosen.first, [0, 4, 8, 12])
    assert chosen.y.tolist() == [2, 0, 1]


def test_a_segment_takes_the_clips_whose_middle_lies_in_it(tmp_path):
    vectors = np.arange(12.0).reshape(6, 2)
    write_store(tmp_path / "f.h5", identity(2), [(record("a.mp4", 12.0), embeddings(vectors))])
    file = write_csv(
        tmp_path,
        "path,label,start_seconds,end_seconds\n"
        "a.mp4,run,,4.5\na.mp4,jump,4.5,9\na.mp4,rest,9,\na.mp4,none,11.5,11.9\n",
    )
    with FeatureStore(tmp_path / "f.h5") as store:
        samples = collect(store, read_labels(file))
    assert samples.counts.tolist() == [2, 2, 2]
    assert samples.store_rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert samples.classes == ("jump", "rest", "run")
    assert samples.missing == ("a.mp4 [11.5, 11.9]",)
    assert samples.has_groups and samples.num_groups == 1, "segments of one video stay together"


def test_videos_without_labels_and_labels_without_videos_are_counted_and_named(features, tmp_path):
    rows = "".join(f"run/video_{i:02d}.mp4,run\n" for i in range(20)) + "jump/video_00.mp4,jump\n"
    labels = read_labels(write_csv(tmp_path, "path,label\n" + rows))
    with FeatureStore(features) as store:
        lines = summary(collect(store, labels))
    assert lines[0].startswith("13 labelled samples, 52 clips, 2 classes of 1 to 12 samples")
    assert lines[1].startswith("23 videos without a label: jump/video_01.mp4")
    assert lines[2].startswith("8 labels without a video: run/video_12.mp4")
    assert lines[2].endswith("and 3 more")


def test_paths_below_the_source_root_match(tmp_path):
    names, classes = names_of(["jump", "run"], 2)
    root = identity(16).__class__(**{**identity(16).to_dict(), "source_root": "/videos/all"})
    write_features(tmp_path / "f.h5", names, classes, of=root)
    with FeatureStore(tmp_path / "f.h5") as store:
        samples = collect(store, as_labels({"/videos/all/run/video_00.mp4": "run"}))
    assert samples.rows[0].path == "run/video_00.mp4"


def test_paths_in_another_case_are_told_and_matched_on_request(features, tmp_path):
    file = write_csv(tmp_path, "path,label\nRun/Video_00.MP4,run\nJUMP/video_00.mp4,jump\n")
    with FeatureStore(features) as store:
        with pytest.raises(DataError, match=r"in another case only.*ignore_case"):
            collect(store, read_labels(file))
        assert len(collect(store, read_labels(file, ignore_case=True))) == 2


def test_paths_of_another_folder_are_told(features, tmp_path):
    file = write_csv(tmp_path, "path,label\nvideos/run/video_00.mp4,run\n")
    with FeatureStore(features) as store, pytest.raises(DataError, match="none of its 1 paths"):
        collect(store, read_labels(file))


def test_a_file_without_videos_is_told(tmp_path):
    write_features(tmp_path / "f.h5", [], [])
    with FeatureStore(tmp_path / "f.h5") as store, pytest.raises(DataError, match="no videos"):
        collect(store, as_labels({"a.mp4": "run"}))


def test_vectors_that_are_not_finite_are_refused_or_left_out(tmp_path):
    names, classes = names_of(["jump", "run"], 3)

    def spoil(name, vectors):
        if name == "run/video_01.mp4":
            vectors[2, 5] = np.nan
        if name == "run/video_02.mp4":
            vectors[:, 0] = np.inf

    write_features(tmp_path / "f.h5", names, classes, spoil=spoil)
    with FeatureStore(tmp_path / "f.h5") as store:
        labels = labels_from_folders(store.paths)
        with pytest.raises(DataError, match=r"5 vectors of 2 videos.*run/video_01.*fp32"):
            collect(store, labels)
        samples = collect(store, labels, skip_bad_rows=True)
    assert [row.path for row in samples.rows] == [n for n in names if n != "run/video_02.mp4"]
    assert samples.counts.tolist() == [4, 4, 4, 4, 3]


def test_to_arrays_takes_labels(features):
    with FeatureStore(features) as store:
        X, y, groups = store.to_arrays(labels_from_folders(store.paths), pooled="mean")
    assert X.shape == (36, 16)
    assert set(y) == {"jump", "run", "walk"}
    assert len(set(groups)) == 36


def test_official_lists_meet_renamed_and_converted_videos(shared_data):
    lists = shared_data / "splits" / "ucf101_splits"
    paths = ["HandStandPushups/v_HandStandPushups_g01_c01.mp4", "v_Archery_g08_c01.mkv", "x/y.mp4"]
    labels = labels_from_split("ucf101", lists, 1, paths)
    assert [(r.path, r.label, r.split) for r in sorted(labels.rows, key=lambda r: r.label)] == [
        (paths[1], "Archery", "train"),
        (paths[0], "HandstandPushups", "test"),
    ]
    assert len(labels.classes) == 101
    assert len(labels.missing) == 13320 - 2


def test_labels_keep_the_index_order_they_are_given():
    rows = as_labels({"a.mp4": "run", "b.mp4": "jump"}).rows
    assert Labels(rows=rows, source="x", classes=("run", "jump")).classes == ("run", "jump")
