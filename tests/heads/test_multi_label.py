"""Several labels per sample: one against the rest, judged by mean average precision."""

import csv
import json
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.support.heads_fixtures import embeddings, identity, record
from vidfeat.cli.finetune import command
from vidfeat.datasets.labels import read_labels
from vidfeat.datasets.samples import summary
from vidfeat.errors import DataError, UsageError
from vidfeat.evaluation.ranking import average_precision, mean_average_precision
from vidfeat.heads.classify import HeadJudge, classify_clips
from vidfeat.heads.finetuning import FinetuneOptions, finetune
from vidfeat.heads.head import Head
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store

NAMES = ("dog", "rain", "run")
QUICK = FinetuneOptions(head=HeadOptions(params={"C": (0.1, 1.0)}))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=40
    )
)
def test_average_precision_is_scikit_learns(pairs):
    scores, positive = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    if positive.any():
        expected = average_precision_score(positive, scores)
        assert average_precision(scores, positive) == pytest.approx(expected)
        both = np.stack([scores, scores], axis=1), np.stack([positive, 0 * positive > 0], axis=1)
        assert mean_average_precision(*both) == pytest.approx(expected)
    else:
        assert np.isnan(average_precision(scores, positive))


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """60 videos; each class moves the vectors along an axis of its own."""
    folder = tmp_path_factory.mktemp("tagged")
    random = np.random.default_rng(0)
    videos, rows = [], ["path,labels,group"]
    for number in range(60):
        has = random.random(3) < 0.4
        has[random.integers(3)] = True
        vectors = random.normal(size=(3, 12)) * 0.7
        vectors[:, :3] += 2.0 * has
        path = f"v/{number:02d}.mp4"
        videos.append((record(path, 6.0), embeddings(vectors)))
        names = "|".join(name for name, own in zip(NAMES, has, strict=True) if own)
        rows.append(f"{path},{names},g{number // 2}")
    write_store(folder / "f.h5", identity(12), videos)
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize("kind", ["linear", "svm"])
def test_each_class_is_told_from_the_rest(tagged, kind, tmp_path):
    result = finetune(
        tagged / "f.h5", tagged / "labels.csv", QUICK, head=kind, out=tmp_path / "head"
    )
    found = result.multi_label
    assert ", 3 classes of 31 to 44 samples, 30 groups" in summary(found.samples)[0]
    assert found.mean_average_precision.value > 0.9 > found.chance + 0.2
    assert found.mean_average_precision.method == "bootstrap over groups"
    rows = found.samples.rows
    shared = {rows[i].group for i in found.train} & {rows[i].group for i in found.test}
    assert not shared
    values = json.loads((tmp_path / "head/results.json").read_text())
    assert [row["name"] for row in values["classes"]] == list(NAMES)
    page = (tmp_path / "head/report.html").read_text()
    assert "mean average precision" in page and "dog" in page
    with open(tmp_path / "head/predictions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(found.test)
    right = [set(line["predicted"].split("|")) == set(line["labels"].split("|")) for line in lines]
    assert np.mean(right) > 0.6

    # the head scores as it was judged, each class for itself
    head = Head.load(tmp_path / "head")
    assert json.loads((tmp_path / "head/head.json").read_text())["format_version"] == 2
    assert "mAP" in repr(head)
    with FeatureStore(tagged / "f.h5") as store:
        path = rows[found.test[0]].path
        np.testing.assert_allclose(head.scores(store[path].vectors), found.scores[0], rtol=1e-5)
        told = classify_clips(HeadJudge(head), path, store[path], every_seconds=2.0)
        assert len(told.segments) == 3 and told.scores.sum() != pytest.approx(1.0)


def test_the_command_prints_map_and_classes(tagged):
    arguments = [str(tagged / "f.h5"), "--labels", str(tagged / "labels.csv"), "--param", "C=1"]
    ungrouped = (tagged / "labels.csv").read_text().replace(",group", ",note")
    (tagged / "ungrouped.csv").write_text(ungrouped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of scikit-learn, about groups that are none
        finetune(tagged / "f.h5", tagged / "ungrouped.csv", QUICK)
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.return_value == 0, done.exception
    assert done.stdout.startswith("mAP ") and "guessing gets" in done.stdout
    assert "average precision" in done.stdout


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": HeadOptions(kind="knn")}, UsageError, "need a head of kind linear or svm"),
        ({"head": HeadOptions(), "shots": (1,)}, UsageError, "judged on one test part"),
    ],
)
def test_what_several_labels_do_not_go_with(tagged, options, error, message):
    with pytest.raises(error, match=message):
        finetune(tagged / "f.h5", tagged / "labels.csv", FinetuneOptions(**options))


def test_tables_with_several_labels(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,labels\na.mp4, run | dog\nb.mp4,run\nc.mp4,dog|run|dog\n")
    labels = read_labels(table)
    assert labels.several
    assert [row.labels for row in labels.rows] == [("dog", "run"), ("run",), ("dog", "run")]
    table.write_text("path,labels\na.mp4,|\n")
    with pytest.raises(DataError, match="line 2: the column labels is empty"):
        read_labels(table)
    table.write_text("path,labels\na.mp4,run|dog\nb.mp4,Run\n")
    with pytest.raises(DataError, match="differ only in case"):
        read_labels(table)
    assert [row.label for row in read_labels(table, ignore_case=True).rows][1] in ("Run", "run")
    # with one label a row, a | is a letter as any other
    table.write_text("path,label\na.mp4,run|dog\n")
    assert not read_labels(table).several
    assert read_labels(table).notes[0].startswith("1 label has a |, which is literal here")
    assert read_labels(table).classes == ("run|dog",)


def test_a_class_without_training_samples_is_named(tagged, tmp_path):
    rows = (tagged / "labels.csv").read_text().splitlines()
    split = [f"{rows[0]},split"]
    for number, row in enumerate(rows[1:]):
        path, labels, group = row.split(",")
        part = "test" if number < 20 else "train"
        if number == 0:
            labels += "|snow"
        split.append(f"{path},{labels},{group},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(split))
    with pytest.raises(DataError, match="no training sample has the class 'snow'"):
        finetune(tagged / "f.h5", tmp_path / "labels.csv", QUICK)
