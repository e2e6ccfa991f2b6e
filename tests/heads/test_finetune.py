"""From features and labels to a head and its report: the library call and the command."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.model_selection import GridSearchCV, GroupKFold

from tests.support.heads_fixtures import identity, names_of, three_classes, write_features
from tests.support.video_assets import render
from vidfeat.cli.finetune import command, parse_params
from vidfeat.cli.flags import with_flags
from vidfeat.datasets.labels import labels_from_folders
from vidfeat.errors import DataError, StoreError, UsageError
from vidfeat.evaluation import plots
from vidfeat.evaluation.metrics import calibration
from vidfeat.evaluation.projection import project
from vidfeat.heads.estimators import KNNHead
from vidfeat.heads.finetuning import FinetuneOptions, finetune
from vidfeat.heads.head import Head
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.reader import FeatureStore
from vidfeat.video.thumbnails import clip_frames, jpeg

QUICK = HeadOptions(params={"C": 0.1})


def run(*arguments):
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, texts, standalone_mode=False)


# ---------------------------------------------------------------- the folder of results


def test_a_head_with_its_results(tmp_path):
    features = three_classes(tmp_path)
    result = finetune(features, "folders", FinetuneOptions(head=QUICK), out=tmp_path / "head")
    names = sorted(entry.name for entry in (tmp_path / "head").iterdir())
    assert names == [
        *("head.json", "head.safetensors", "predictions.csv", "report.html", "results.json")
    ]
    head = Head.load(tmp_path / "head")
    assert head.classes == ("jump", "run", "walk")
    accuracy = result.parts[0].outcome.evaluation.accuracy.value
    assert head.training["test"]["accuracy"]["value"] == accuracy
    values = json.loads((tmp_path / "head" / "results.json").read_text())
    assert values["parts"][0]["video"]["accuracy"]["value"] == accuracy
    assert values["space_fingerprint"] == "space-a"
    lines = (tmp_path / "head" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "path,start_seconds,end_seconds,label,predicted,score,correct"
    assert len(lines) == 1 + len(result.parts[0].outcome.test)
    right = sum(line.endswith(",1") for line in lines)
    assert right == result.parts[0].outcome.evaluation.correct.sum()


def test_the_same_command_twice_writes_the_same_head(tmp_path):
    features = three_classes(tmp_path)
    options = FinetuneOptions(head=QUICK, map="none")
    for name in ("one", "two"):
        finetune(features, "folders", options, out=tmp_path / name)
    for file in ("head.safetensors", "head.json", "results.json", "predictions.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_output_that_is_no_head_is_kept(tmp_path):
    features = three_classes(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").touch()
    with pytest.raises(StoreError, match="choose another output"):
        finetune(features, "folders", FinetuneOptions(head=QUICK), out=tmp_path / "out")
    assert (tmp_path / "out" / "thesis.doc").exists()


def test_a_head_is_replaced_on_request_only(tmp_path):
    features = three_classes(tmp_path)
    arguments = (features, "--labels", "folders", "--param", "C=0.1", "-o", tmp_path / "head")
    assert run(*arguments).return_value == 0
    before = (tmp_path / "head" / "head.json").read_bytes()
    error = run(*arguments).exception
    assert isinstance(error, StoreError)
    assert "replace it with --overwrite" in with_flags(str(error), error.fields, command)
    assert (tmp_path / "head" / "head.json").read_bytes() == before
    assert run(*arguments, "--seed", "3", "--overwrite").return_value == 0
    assert Head.load(tmp_path / "head").training["seed"] == 3


def copied(tmp_path, labels, *, column=""):
    """Twelve videos per class; each is there twice; labels.csv says which recording it is of."""
    names, classes = names_of(("jump", "run"), 12)
    seen = {}

    def spoil(name, vectors):
        vectors[:] = seen.setdefault(int(name[-6:-4]) // 2 + 100 * ("run" in name), vectors.copy())

    features = write_features(tmp_path / "f.h5", names, classes, spoil=spoil)
    lines = [f"path,label,split{column and ',group'}"]
    for name in names:
        place = int(name[-6:-4])
        part = labels(place)
        group = f",{name.split('/')[0]} {place // 2}" if column else ""
        lines.append(f"{name},{name.split('/')[0]},{part}{group}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return features, tmp_path / "labels.csv"


@pytest.mark.parametrize(
    ("part", "group", "warned"),
    [
        (lambda place: "train" if place % 2 else "test", "", "12 of 12 test videos have a near"),
        (lambda place: "train" if place < 8 else "test", "", ""),
        (lambda place: "", "group", ""),
    ],
    ids=["one of each pair", "whole pairs", "by group"],
)
def test_near_copies_on_both_sides_of_a_split_are_told(tmp_path, part, group, warned):
    features, labels = copied(tmp_path, part, column=group)
    notes = finetune(features, labels, FinetuneOptions(head=QUICK)).parts[0].notes
    told = [note for note in notes if "near copy" in note]
    assert bool(told) == bool(warned)
    if warned:
        assert warned in told[0] and "give the labels a group column" in told[0]


def test_heads_are_compared_and_the_best_is_trained(tmp_path):
    names, classes = names_of(("no", "yes"), 20)
    features = write_features(tmp_path / "f.h5", names, classes, distance=1.0)
    done = run(
        *(features, "--labels", "folders", "--head", "knn,linear", "--param", "C=0.01,0.1"),
        *("--map", "none", "-o", tmp_path / "head"),
    )
    text = done.stdout
    assert "Heads on the same 5 folds of the training part" in text
    for row in ("majority", "ROC AUC", "no: precision", "yes: recall", "bootstrap over videos"):
        assert row in text, row
    values = json.loads((tmp_path / "head" / "results.json").read_text())["parts"][0]
    assert list(values["compared"]) == ["linear", "knn"]
    found = {kind: one["accuracy"]["value"] for kind, one in values["compared"].items()}
    assert values["head"] == max(found, key=found.get) == Head.load(tmp_path / "head").scorer.kind
    assert values["compared"]["knn"]["majority_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert "Heads on the same 5 folds" in (tmp_path / "head" / "report.html").read_text()
    # the table is computed from the training part alone
    again = finetune(features, "folders", head=("linear", "knn")).parts[0]
    assert sum(len(one.correct) for one in again.comparison.found.values()) == 2 * 32


def test_one_head_is_told_with_what_guessing_gets(tmp_path):
    names, classes = names_of(("no", "yes"), 20)
    features = write_features(tmp_path / "f.h5", names, classes, distance=1.0)
    done = run(features, "--labels", "folders", "--param", "C=0.1")
    assert "always predicting 'no' would get 50.0 %; ROC AUC" in done.stdout
    assert "95 % interval (Wilson)" in done.stdout
    assert re.search(r"class +precision +recall +videos", done.stdout)
    part = finetune(features, "folders", head="svm").parts[0]
    assert part.outcome.head.scorer.kind == "svm"
    evaluation = part.outcome.evaluation
    from sklearn.metrics import classification_report, roc_auc_score

    table = classification_report(evaluation.y, evaluation.predicted, output_dict=True)
    for place, row in enumerate(evaluation.per_class):
        assert row.precision == pytest.approx(table[str(place)]["precision"])
        assert row.recall == pytest.approx(table[str(place)]["recall"])
    area = evaluation.roc_auc
    assert area.value == pytest.approx(roc_auc_score(evaluation.y, evaluation.scores[:, 1]))
    assert area.low <= area.value <= area.high


def test_without_a_test_part_there_is_a_head_and_no_report(tmp_path):
    options = FinetuneOptions(head=QUICK, test_share=0)
    result = finetune(three_classes(tmp_path), "folders", options, out=tmp_path / "head")
    assert result.parts[0].outcome.evaluation is None
    assert not (tmp_path / "head" / "report.html").exists()
    assert json.loads((tmp_path / "head" / "results.json").read_text())["parts"][0]["video"] is None
    assert Head.load(tmp_path / "head").training["samples"] == 36


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (None, {}, UsageError, "give labels .*or dataset with lists"),
        ("folders", {"dataset": "ucf101", "lists": "x"}, UsageError, "exclude each other"),
        (None, {"dataset": "ucf101"}, UsageError, "needs lists"),
        ("folders", {"lists": "x"}, UsageError, "lists belongs to dataset"),
        ("folders", {"test_share": 0.7}, UsageError, "test_share is from 0"),
        ("folders", {"split": "4"}, UsageError, "split is 1, 2, 3"),
        ("folders", {"cross_validation": 1}, UsageError, "2 folds or more"),
        ("folders", {"shots": (1,), "draws": 1}, UsageError, "draws must be 2"),
        ("folders", {"shots": (50,)}, DataError, "50 samples per class"),
        ("folders", {"min_per_class": 13}, DataError, "min_per_class"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, labels, options, error, message):
    features = three_classes(tmp_path)
    with pytest.raises(error, match=message) as caught:
        finetune(features, labels, FinetuneOptions(**{"head": QUICK, **options}))
    assert "\n" not in str(caught.value)


def test_one_class_alone_is_told_before_folds_are(tmp_path):
    features = three_classes(tmp_path)
    labels = {f"run/video_{i:02d}.mp4": "run" for i in range(12)}
    with pytest.raises(DataError, match=r"only one class to train on \(run\) in labelled videos"):
        finetune(features, labels, FinetuneOptions(head=QUICK))


def test_a_file_of_no_videos_is_told_whatever_the_labels_are(tmp_path):
    features = write_features(tmp_path / "none.h5", [], [])
    with pytest.raises(DataError, match="holds no videos: vidfeat info"):
        finetune(features, "folders", FinetuneOptions(head=QUICK))


def test_few_classes_have_no_column_of_the_best_five(tmp_path):
    features = three_classes(tmp_path)
    done = run(features, "--labels", "folders", "--param", "C=0.1", "--shots", "1,5")
    assert "top 5" not in done.stdout
    shots = re.findall(r"per class: [\d.]+% \[([\d.]+)%, ([\d.]+)%\]", done.stdout)
    assert len(shots) == 2
    assert all(0 <= float(low) <= float(high) <= 100 for low, high in shots)


# ---------------------------------------------------------------- the report


class Reader(HTMLParser):
    """Notes what a browser would load or run, and whether tags close in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loads, self.images, self.text = [], [], [], 0, []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.loads.append(value)
            assert not name.startswith("on"), f"{tag} runs {name}"
        assert tag not in ("script", "link", "iframe", "object")
        self.images += tag == "img"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_page(path):
    reader = Reader()
    reader.feed(Path(path).read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture
def page(tmp_path):
    """A report with hostile names, some mistakes, one video there and the others gone."""
    hostile = ["<script>alert(1)</script>", "a & b $x^2$", 'quote" onload="x']
    names, classes = names_of(hostile, 12)
    names = [name.replace("/script>", "script>") for name in names]
    features = write_features(tmp_path / "f.h5", names, classes, distance=0.5)
    labels = {name: hostile[c] for name, c in zip(names, classes, strict=True)}
    root = tmp_path / "videos"
    quick = FinetuneOptions(head=QUICK, map="none", report=False)
    first = finetune(features, labels, quick)
    outcome, samples = first.parts[0].outcome, first.parts[0].samples
    wrong = samples.rows[outcome.test[outcome.evaluation.mistakes(1)[0]]].path
    render(root / wrong, range(40), rate=5)
    options = FinetuneOptions(head=QUICK, map="pca", root=str(root), shots=(1, 2), draws=2)
    finetune(features, labels, options, out=tmp_path / "head")
    return tmp_path / "head" / "report.html"


def test_a_report_is_one_file_that_loads_and_runs_nothing(page):
    reader = read_page(page)
    assert reader.loads == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids)), "ids of two pictures collide"


def test_a_report_shows_what_was_asked_for(page):
    reader = read_page(page)
    text = "".join(reader.text)
    for heading in (
        "Confusion matrix",
        "Class by class",
        "The most confident mistakes",
        "Calibration",
        "A map of the embeddings",
        "With few training videos",
        "How it was made",
    ):
        assert heading in text
    assert "<script>alert(1)</script>" in text, "the hostile name is text"
    assert reader.images == 3, "three frames of the one video that is there"
    assert "video not found" in text
    assert "interval" in text


def test_a_report_follows_the_page_in_light_and_dark(page):
    text = page.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert plots.INK not in text.split("</style>")[1]
    assert 'name="viewport"' in text


def test_a_damaged_video_is_a_tile(tmp_path):
    names, classes = names_of(["jump", "run"], 10)
    features = write_features(tmp_path / "f.h5", names, classes, distance=0.1)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no video")
    options = FinetuneOptions(head=QUICK, map="none", root=str(tmp_path))
    finetune(features, "folders", options, out=tmp_path / "head")
    assert "video cannot be read" in (tmp_path / "head" / "report.html").read_text()


def test_a_head_without_mistakes_says_so(tmp_path):
    names, classes = names_of(["jump", "run"], 10)
    features = write_features(tmp_path / "f.h5", names, classes, distance=30.0)
    options = FinetuneOptions(head=QUICK, map="none")
    finetune(features, "folders", options, out=tmp_path / "head")
    assert "There are none." in (tmp_path / "head" / "report.html").read_text()


def test_thumbnails_are_frames_of_the_clip(tmp_path):
    video = render(tmp_path / "v.mp4", range(30), rate=10)
    from tests.support.video_assets import read_number

    numbers = [read_number(frame) for frame in clip_frames(video, 1.0, 2.5, 3)]
    assert numbers == [12, 17, 22]
    small = jpeg(clip_frames(video, 0.0, 1.0, 1)[0], 48)
    assert small.startswith(b"\xff\xd8")


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("count", [2, 16, 101])
def test_pictures_of_any_number_of_classes(count):
    random = np.random.default_rng(0)
    y = random.integers(count, size=300)
    scores = random.dirichlet(np.ones(count), size=300)
    from vidfeat.evaluation.metrics import Evaluation

    result = Evaluation(scores, y, tuple(f"class number {i}" for i in range(count)))
    with plots.figure(4, 4) as (made, (axes,)):
        plots.confusion(axes, result.confusion, result.classes)
        assert plots.to_svg(made, name="a", description="x").startswith("<svg ")
    with plots.figure(4, 4) as (made, (axes,)):
        plots.class_bars(axes, result.per_class)
        assert len(axes.get_yticks()) == min(count, plots.MOST_BARS)
    with plots.figure(4, 4) as (made, (axes,)):
        plots.embedding_map(axes, random.normal(size=(300, 2)), y, result.classes)
        assert len(axes.get_legend().get_texts()) == (count if count <= 16 else 8)
    with plots.figure(4, 4) as (made, (axes,)):
        plots.reliability(axes, calibration(scores, y))


def test_one_figure_is_one_text():
    texts = []
    for _ in range(2):
        with plots.figure(3, 3) as (made, (axes,)):
            plots.label_bars(axes, ["a", "b"], [0.7, 0.3])
            texts.append(plots.to_svg(made, name="same", description="a"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_keeps_far_classes_apart_and_repeats(method):
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    vectors = random.normal(size=(40, 8)) + 20 * y[:, None]
    points = project(vectors, method=method)
    np.testing.assert_array_equal(points, project(vectors, method=method))
    centres = [points[y == c].mean(axis=0) for c in (0, 1)]
    spread = max(points[y == c].std(axis=0).max() for c in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13])
def test_a_map_of_few_vectors(count):
    vectors = np.random.default_rng(0).normal(size=(count, 4))
    assert project(vectors).shape == (count, 2)
    assert project(np.ones((count, 4))).shape == (count, 2)


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_table(tmp_path):
    features = three_classes(tmp_path)
    done = run(features, "--labels", "folders", "-o", tmp_path / "head", "--param", "C=0.1")
    assert done.return_value == 0, done.output
    assert re.search(r"test part +[\d.]+ % +[\d.]+ %", done.stdout)
    assert "36 labelled samples, 144 clips, 3 classes" in done.stderr


def test_the_command_prints_json(tmp_path):
    features = three_classes(tmp_path)
    done = run(
        *(features, "--labels", "folders", "--json", "--head", "knn"),
        *("--shots", "1,2", "--draws", 2, "--cross-validate", 3),
    )
    values = json.loads(done.stdout)
    assert values["parts"][0]["head"] == "knn"
    assert [row["shots"] for row in values["parts"][0]["few_shot"]] == [1, 2]
    assert len(values["cross_validation"]["folds"][0]) == 3


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("C=0.1",), {"C": 0.1}),
        (("C=0.1,1",), {"C": (0.1, 1)}),
        (("hidden=256,64", "epochs=5"), {"hidden": ((256, 64),), "epochs": 5}),
        (
            ("weighting=uniform", "class_weight=none"),
            {"weighting": "uniform", "class_weight": None},
        ),
    ],
)
def test_parameters_from_texts(texts, expected):
    assert parse_params(texts) == expected


def test_anyones_grid_search_runs_on_the_arrays(tmp_path):
    with FeatureStore(three_classes(tmp_path)) as store:
        X, y, groups = store.to_arrays(labels_from_folders(store.paths))
    search = GridSearchCV(KNNHead(), {"n_neighbors": [1, 5]}, cv=GroupKFold(3))
    assert search.fit(X, y, groups=groups).best_score_ > 0.8


# ---------------------------------------------------------------- official splits


def listed_ucf101(lists):
    lines = (lists / "trainlist01.txt").read_text().split("\n")
    lines += (lists / "testlist01.txt").read_text().split("\n")
    return sorted(line.split()[0] for line in lines if line.strip())


def listed_hmdb51(lists):
    return sorted(
        f"{file.name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for file in lists.glob("*_test_split1.txt")
        for line in file.read_text().split("\n")
        if line.strip()
    )


@pytest.mark.parametrize(
    ("dataset", "listed", "videos", "train_and_test"),
    [
        ("ucf101", listed_ucf101, 13320, [(9537, 3783), (9586, 3734), (9624, 3696)]),
        ("hmdb51", listed_hmdb51, 6766, [(3570, 1530)] * 3),
    ],
)
def test_full_official_lists_through_all_splits(
    shared_data, tmp_path, dataset, listed, videos, train_and_test
):
    lists = shared_data / "splits" / f"{dataset}_splits"
    names = listed(lists)
    assert len(names) == videos
    folders = sorted({name.split("/")[0] for name in names})
    classes = [folders.index(name.split("/")[0]) for name in names]
    features = write_features(tmp_path / "f.h5", names, classes, clips=1, dimension=12)
    done = run(
        *(features, "--dataset", dataset, "--splits", lists, "--split", "all"),
        *("--head", "knn", "--param", "n_neighbors=10", "--folds", 2),
        *("-o", tmp_path / "head", "--no-report", "--json"),
    )
    assert done.return_value == 0, done.output
    values = json.loads(done.stdout)
    assert [(part["train"], part["test"]) for part in values["parts"]] == train_and_test
    accuracies = [part["video"]["accuracy"]["value"] for part in values["parts"]]
    assert values["video_accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert values["video_accuracy"]["standard_deviation"] == pytest.approx(
        np.std(accuracies, ddof=1)
    )
    assert min(accuracies) > 0.5 > 0.05 > 1 / len(folders)
    assert len(Head.load(tmp_path / "head" / "split2").classes) == len(folders)
    assert {entry.name for entry in (tmp_path / "head").iterdir()} == {
        *("split1", "split2", "split3", "results.json")
    }


def stand_ins_ucf101(lists):
    """Four videos per class: groups 1 and 22, say, are test in one split and train elsewhere."""
    folders = ("Archery", "Biking", "HandstandPushups")
    # Files and folders of this class differ in case.
    return {
        folder: [
            f"v_{folder.replace('standP', 'StandP')}_g{group:02d}_c01" for group in (1, 8, 15, 22)
        ]
        for folder in folders
    }


def stand_ins_hmdb51(lists):
    """Three videos per class, each tested on in another split and trained on in the other two."""
    wanted = {}
    for folder in ("cartwheel", "sword", "wave"):
        flags = {}
        for split in (1, 2, 3):
            for line in (lists / f"{folder}_test_split{split}.txt").read_text().splitlines():
                if line.strip():
                    name, flag = line.split()
                    flags.setdefault(name, []).append(flag)
        patterns = (["2", "1", "1"], ["1", "2", "1"], ["1", "1", "2"])
        # The strangest names first: some hold # and !, which are no part of a URL or a glob.
        names = sorted(
            flags, key=lambda name: (name.replace("_", "").removesuffix(".avi").isalnum(), name)
        )
        wanted[folder] = [
            Path(next(name for name in names if flags[name] == pattern)).stem
            for pattern in patterns
        ]
    return wanted


@pytest.mark.parametrize(
    ("dataset", "stand_ins", "listed", "train_and_test"),
    [
        ("ucf101", stand_ins_ucf101, 13320, (9, 3)),
        ("hmdb51", stand_ins_hmdb51, 6766, (6, 3)),
    ],
)
def test_rendered_stand_ins_through_all_splits(
    shared_data, tmp_path, dataset, stand_ins, listed, train_and_test
):
    """Video files under official names, one tint a class, extracted and judged by the book."""
    from vidfeat.encoders.load import load_encoder
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.extraction.run import extract
    from vidfeat.video.plan_choice import PlanChoice

    lists = shared_data / "splits" / f"{dataset}_splits"
    tints = ((0.3, 0.6, 1.0), (1.0, 0.6, 0.3), (0.2, 1, 0.2))
    videos = stand_ins(lists)
    for (folder, stems), tint in zip(videos.items(), tints, strict=True):
        for number, stem in enumerate(stems):
            render(
                tmp_path / "videos" / folder / f"{stem}.avi",
                range(7 * number, 7 * number + 20),
                codec="mpeg4",
                size=(48, 32),
                stored=lambda picture, tint=tint: (picture * np.array(tint)).astype(np.uint8),
            )
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(frames=4, clips=10))
    extract(tmp_path / "videos", tmp_path / "f.h5", encoder, options=ExtractOptions(workers=0))
    done = run(
        *(tmp_path / "f.h5", "--dataset", dataset, "--split", "all", "--splits", lists),
        *("-o", tmp_path / "head", "--map", "pca", "--param", "C=0.01"),
    )
    assert done.return_value == 0, done.output
    assert "mean ± deviation" in done.stdout
    count = sum(map(len, videos.values()))
    assert f"{listed - count:,} labels without a video" in done.stderr
    values = json.loads((tmp_path / "head" / "results.json").read_text())
    assert [(part["train"], part["test"]) for part in values["parts"]] == [train_and_test] * 3
    assert values["video_accuracy"]["mean"] > 0.9
    assert values["clip_accuracy"]["mean"] > 0.9
    assert (tmp_path / "head" / "split3" / "report.html").is_file()


def test_a_head_on_float16_features_and_another_identity(tmp_path):
    names, classes = names_of(["jump", "run"], 8)
    features = write_features(tmp_path / "f.h5", names, classes, of=identity(16, space="other"))
    finetune(features, "folders", FinetuneOptions(head=QUICK, map="none"), out=tmp_path / "head")
    assert Head.load(tmp_path / "head").space_fingerprint == "other"
