"""Copies within an index, the literature's protocol, and the commands of retrieval."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import (
    HOP_SECONDS,
    embeddings,
    identity,
    record,
    video_vectors,
    write_features,
)
from vidfeat.cli import cli
from vidfeat.datasets.labels import LabelRow, Labels
from vidfeat.errors import DataError, UsageError
from vidfeat.index import VideoIndex
from vidfeat.index.align import align
from vidfeat.index.duplicates import find_duplicates
from vidfeat.index.report import clock
from vidfeat.index.retrieval_protocol import evaluate_retrieval, rank_scores
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store


def run(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.stdout


# ---------------------------------------------------------------------- copies


def copies(path: Path, videos: int, clips: int = 12) -> Path:
    """Every tenth video is copied: a part of it, from its fourth clip on, with some noise."""
    rng = np.random.default_rng(8)
    rows = []
    for number in range(videos):
        vectors = video_vectors(number, clips, 32)
        rows.append((record(f"v{number:04d}.mp4", clips), embeddings(vectors)))
        if number % 10 == 0:
            part = vectors[4:10] + 0.05 * rng.standard_normal((6, 32)).astype(np.float32)
            before = video_vectors(50_000 + number, 3, 32)
            both = np.concatenate([before, part])
            rows.append((record(f"copy{number:04d}.mp4", len(both)), embeddings(both)))
    write_store(path, identity(32), rows)
    return path


@pytest.mark.parametrize(("videos", "kind"), [(60, "flat"), (600, "flat"), (600, "ivfpq")])
def test_copies_with_their_seconds(tmp_path, videos, kind):
    features = copies(tmp_path / "f.h5", videos, clips=12)
    if kind == "ivfpq":
        index = VideoIndex.build(features, tmp_path / "I", kind=kind)
    else:
        index = VideoIndex.build(features, tmp_path / "I")
    found = find_duplicates(index, 0.98)
    expected = {(f"copy{n:04d}.mp4", f"v{n:04d}.mp4") for n in range(0, videos, 10)}
    assert {pair.videos for pair in found.pairs} == expected
    assert {tuple(sorted(group)) for group in found.groups} == expected
    for pair in found.pairs:
        longest = pair.segments[0]
        assert longest.first == (3 * HOP_SECONDS, 3 * HOP_SECONDS + 3.5)
        assert longest.second == (4 * HOP_SECONDS, 4 * HOP_SECONDS + 3.5)
    if videos == 600:
        assert found.comparisons < 0.35 * len(index) ** 2


def test_comparisons_grow_slower_than_all_with_all(tmp_path):
    shares = []
    for videos in (500, 2000):
        index = VideoIndex.build(copies(tmp_path / f"{videos}.h5", videos), tmp_path / f"{videos}")
        shares.append(find_duplicates(index, 0.98).comparisons / len(index) ** 2)
    assert shares[1] < 0.75 * shares[0]


def test_still_scenes_do_not_hide_a_copy(tmp_path):
    """A still video's own clips fill every list of neighbours: its copy is found all the same."""
    rng = np.random.default_rng(2)
    still = rng.standard_normal(32) + 0.001 * rng.standard_normal((300, 32))
    rows = [(record("still.mp4", 300), embeddings(still.astype(np.float32)))]
    copy = (still[:4] * 1.5).astype(np.float32)
    rows.append((record("copy.mp4", 4), embeddings(copy)))
    rows += [(record(f"v{n}.mp4", 6), embeddings(video_vectors(n, 6, 32))) for n in range(20)]
    write_store(tmp_path / "f.h5", identity(32), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I")
    found = find_duplicates(index, 0.99)
    assert [set(pair.videos) for pair in found.pairs] == [{"still.mp4", "copy.mp4"}]


def test_removed_videos_are_no_copies(tmp_path):
    index = VideoIndex.build(copies(tmp_path / "f.h5", 40), tmp_path / "I")
    index.remove(["copy0010.mp4"])
    names = {name for pair in find_duplicates(index, 0.98).pairs for name in pair.videos}
    assert "v0010.mp4" not in names
    assert "v0020.mp4" in names


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
def test_thresholds_that_cannot_be(tmp_path, threshold):
    index = VideoIndex.build(write_features(tmp_path / "f.h5", 3), tmp_path / "I")
    with pytest.raises(UsageError, match="threshold is"):
        find_duplicates(index, threshold)


# ---------------------------------------------------------------------- running in step


def test_alignment_by_the_diagonal():
    scores = np.full((4, 20), 0.3, dtype=np.float32)
    for clip in range(4):
        scores[clip, 9 + clip] = 0.9
    scores[2, 1] = 0.95  # one pair is better, and stands alone
    times = np.arange(20) * 0.5
    query = np.arange(4) * 0.5
    found = align(scores, query, times, times + 1, np.full(4, 0.25))
    assert found[0].rows == (9, 10, 11, 12)
    assert found[0].clips == (0, 1, 2, 3)
    assert found[0].best == pytest.approx(0.95)
    two = align(scores, query, times, times + 1, np.full(4, 0.25), most=2)
    assert two[1].rows == (1,)


def test_alignment_off_the_grid_takes_the_nearest_clips():
    times = np.arange(30) * 0.5
    query = np.arange(5) * 0.5
    for shift in (3.0, 3.1, 3.24, 3.26, 3.4):
        distance = np.abs(times[None, :] - (query[:, None] + shift))
        scores = np.exp(-distance).astype(np.float32)
        best = align(scores, query, times, times + 1, np.full(5, 0.1))[0]
        assert abs(times[best.rows[0]] - shift) <= 0.25
        assert len(best.clips) == 5


def test_clock():
    assert [clock(seconds) for seconds in (0, 9.96, 65.3, 3600, 3725.04)] == [
        "0:00.0",
        "0:10.0",
        "1:05.3",
        "1:00:00.0",
        "1:02:05.0",
    ]


# ---------------------------------------------------------------------- the protocol


def test_rank_scores_by_hand():
    gallery = np.array([[1, 0], [0, 1], [0.8, 0.6]])
    queries = np.array([[1, 0], [0, 1.0]])
    # query 0 (class 1): ranking 0, 2, 1 -> classes 0, 1, 1; query 1 (class 0): 1, 2, 0 -> 1, 1, 0
    recall, precision = rank_scores(
        gallery, np.array([0, 1, 1]), queries, np.array([1, 0]), [1, 2, 3]
    )
    assert recall == {1: 0.0, 2: 0.5, 3: 1.0}
    assert precision == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 3) / 2)


def test_rank_scores_agree_with_sklearn():
    from sklearn.metrics import average_precision_score
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    gallery, queries = rng.standard_normal((80, 16)), rng.standard_normal((30, 16))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    gallery_y, queries_y = rng.integers(0, 5, 80), rng.integers(0, 5, 30)
    recall, precision = rank_scores(gallery, gallery_y, queries, queries_y, (1, 5, 10))
    near = NearestNeighbors(metric="cosine").fit(gallery).kneighbors(queries, 10)[1]
    for k in (1, 5, 10):
        hit = (gallery_y[near[:, :k]] == queries_y[:, None]).any(axis=1)
        assert recall[k] == pytest.approx(hit.mean())
    expected = [
        average_precision_score(gallery_y == label, query @ gallery.T)
        for query, label in zip(queries, queries_y, strict=True)
    ]
    assert precision == pytest.approx(np.mean(expected))


def labelled(tmp_path: Path, clips: int = 10) -> tuple[Path, Labels]:
    """Classes are directions: videos of a class stand around one, more or less."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((4, 32))
    rows, labels = [], []
    for number in range(60):
        label = number % 4
        vectors = centres[label] * 0.5 + rng.standard_normal(32) + 3
        vectors = vectors + 0.2 * rng.standard_normal((clips, 32))
        path = f"v{number:03d}.mp4"
        rows.append((record(path, clips), embeddings(vectors.astype(np.float32))))
        labels.append(LabelRow(path, f"class{label}", split="test" if number >= 40 else "train"))
    write_store(tmp_path / "f.h5", identity(32), rows)
    return tmp_path / "f.h5", Labels(tuple(labels), "labels.csv")


def test_protocol_is_the_mean_of_clips_and_cosine(tmp_path):
    path, labels = labelled(tmp_path)
    with FeatureStore(path) as store:
        scores = evaluate_retrieval(store, labels)
        means = np.stack([held.vectors.mean(axis=0) for _, held in store])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    near = np.argsort(-(means[40:] @ means[:40].T), axis=1, kind="stable")
    for k in (1, 5, 10, 20, 50):
        hit = (near[:, :k] % 4 == np.arange(40, 60)[:, None] % 4).any(axis=1)
        assert scores.recall[k] == pytest.approx(hit.mean())
    assert (scores.num_gallery, scores.num_queries, scores.notes) == (40, 20, ())
    assert "10 clips per video" in scores.variant


def test_protocol_says_what_departs_from_it(tmp_path):
    path, labels = labelled(tmp_path, clips=3)
    more = (*labels.rows, LabelRow("gone.mp4", "class0", split="train"))
    with FeatureStore(path) as store:
        scores = evaluate_retrieval(store, Labels(more, "labels.csv"), center=True)
    assert any("clips=10" in note for note in scores.notes)
    assert any("no features" in note for note in scores.notes)
    assert "minus the mean of the gallery" in scores.variant
    only = tuple(row for row in labels.rows if row.split == "train")
    with FeatureStore(path) as store, pytest.raises(DataError, match="test part"):
        evaluate_retrieval(store, Labels(only, "labels.csv"))


def test_official_split_has_all_its_videos(tmp_path, shared_data):
    """UCF101 split 1: 9,537 in the gallery, 3,783 queries; not one is dropped."""
    lists = shared_data / "splits" / "ucf101_splits"
    names = []
    for part in ("trainlist01.txt", "testlist01.txt"):
        names += [line.split()[0] for line in (lists / part).read_text().splitlines() if line]
    rng = np.random.default_rng(0)
    rows = [
        (record(name, 10), embeddings(rng.standard_normal((10, 8)).astype(np.float32)))
        for name in names
    ]
    write_store(tmp_path / "f.h5", identity(8), rows)
    output = run(
        "evaluate-retrieval", tmp_path / "f.h5", "--dataset", "ucf101", "--lists", lists, "--json"
    )
    scores = json.loads(output)
    assert (scores["gallery"], scores["queries"]) == (9537, 3783)
    assert scores["recall"]["1"] < 0.05


def test_all_official_splits_and_their_mean(tmp_path):
    names = [
        f"{kind}/v_{kind}_g{n:02d}_c01.avi" for kind in ("Archery", "Bowling") for n in range(9)
    ]
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
    for split in range(3):
        held = [name for n, name in enumerate(names) if n % 3 == split]
        rest = [name for name in names if name not in held]
        (lists / f"testlist0{split + 1}.txt").write_text("\n".join(held))
        lines = [f"{name} {1 + (name[0] == 'B')}" for name in rest]
        (lists / f"trainlist0{split + 1}.txt").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    rows = [
        (record(name, 10), embeddings(rng.standard_normal((10, 8)).astype(np.float32)))
        for name in names
    ]
    write_store(tmp_path / "f.h5", identity(8), rows)
    options = ["evaluate-retrieval", tmp_path / "f.h5", "--dataset", "ucf101", "--lists", lists]
    found = json.loads(run(*options, "--split", "all", "--json"))
    alone = [json.loads(run(*options, "--split", n, "--json")) for n in (1, 2, 3)]
    assert found["splits"] == alone
    assert found["recall"]["1"] == pytest.approx(np.mean([one["recall"]["1"] for one in alone]))
    table = run(*options, "--split", "all").splitlines()
    assert table[-1].endswith("mean")
    assert [len(line.split()) for line in table[-4:-1]] == [6, 6, 6]


# ---------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    features = write_features(folder / "f.h5", 60, root=str(folder / "videos"))
    run("index", features, "-o", folder / "INDEX", "-q")
    return folder / "INDEX"


def test_search_json_is_the_contract(index):
    rows = json.loads(run("search", index, "a/v000.mp4", "-k", 4, "--json"))
    assert [list(row) for row in rows] == [["video", "start_seconds", "end_seconds", "score"]] * 4
    assert rows[0] == {
        "video": "a/v000.mp4",
        "start_seconds": 0.0,
        "end_seconds": 3.5,
        "score": 1.0,
    }
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_search_table_and_several(index):
    table = run("search", index, "a/v000.mp4", "b/v001.mp4", "-k", 3)
    assert len(table.splitlines()) == 2 * 5 + 1
    rows = json.loads(run("search", index, "a/v000.mp4", "b/v001.mp4", "-k", 3, "--json"))
    assert [row["query"] for row in rows] == ["a/v000.mp4"] * 3 + ["b/v001.mp4"] * 3


def test_search_with_a_feature_file(index, tmp_path):
    query = write_features(tmp_path / "q.h5", ["q.mp4"], first_seed=2)
    rows = json.loads(run("search", index, query, "-k", 1, "--json"))
    assert rows[0]["video"] == "c/v002.mp4"


def test_html_page_needs_nothing_else(index, tmp_path):
    page = tmp_path / "page.html"
    run("search", index, "a/v000.mp4", "--html", page)
    text = page.read_text()
    assert text.count("<li>") == 10
    assert "http" not in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "{index}", "nothing.mp4"], "neither a video of"),
        (["search", "{index}", "a/v000.mp4", "--start", "9"], "outside of"),
        (["search", "{index}", "a/v000.mp4", "b/v001.mp4", "--start", "1"], "give only one"),
        (["search", "{index}", "a/v000.mp4", "-k", "0"], "-k is 0"),
        (["search", "nowhere", "a/v000.mp4"], "vidfeat index"),
        (["search", "{index}", "{other}"], "another encoder"),
        (["index", "nowhere.h5", "-o", "new"], "nowhere.h5"),
        (["index", "-o", "{index}"], "feature file"),
        (["index", "-o", "{index}", "--remove", "a/v00.mp4"], "did you mean"),
        (["duplicates", "{index}", "--threshold", "2"], "--threshold"),
        (["evaluate-retrieval", "{other}"], "--labels"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(index, tmp_path, arguments, message):
    other = write_features(tmp_path / "o.h5", 2, space="space-2")
    words = [word.format(index=index, other=other) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "vidfeat", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("vidfeat:")]) <= 1


def test_index_command_adds_and_removes(index, tmp_path):
    from vidfeat.index import copy_index

    copy_index(index, tmp_path / "I")
    more = write_features(tmp_path / "m.h5", ["new/a.mp4"], first_seed=900)
    run("index", "-o", tmp_path / "I", "--add", more, "--remove", "a/")
    rows = json.loads(run("search", tmp_path / "I", "new/a.mp4", "--json", "-k", 100))
    assert rows[0]["video"] == "new/a.mp4"
    assert len(rows) == 46
    assert not [row for row in rows if row["video"].startswith("a/")]


def test_duplicates_command(tmp_path):
    features = copies(tmp_path / "f.h5", 30)
    run("index", features, "-o", tmp_path / "I", "-q")
    found = json.loads(run("duplicates", tmp_path / "I", "--threshold", 0.98, "--json"))
    assert len(found["pairs"]) == len(found["groups"]) == 3
    assert "copy0010.mp4" in run("duplicates", tmp_path / "I", "--threshold", 0.98)
    assert "no two videos" in run("duplicates", tmp_path / "I", "--threshold", 1)
