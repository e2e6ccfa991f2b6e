"""Several queries, and queries of several examples, against the formula written out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.index_fixtures import video_vectors, write_features
from tests.support.rendered_videos import KINDS, render
from vidfeat.cli import cli
from vidfeat.errors import DataError, UsageError
from vidfeat.index import VideoIndex
from vidfeat.index.examples import combine
from vidfeat.index.match import Query

CLIPS, DIMENSION, VIDEOS = 6, 32, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("examples")
    write_features(place / "f.h5", VIDEOS, clips=CLIPS, dimension=DIMENSION)
    for kind in ("flat", "ivfsq"):
        VideoIndex.build(place / "f.h5", place / kind, kind=kind)
    return place


@pytest.fixture(scope="module")
def index(folder: Path) -> VideoIndex:
    return VideoIndex(folder / "flat")


def run(*words: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.output if status else done.stdout


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def by_hand(
    index: VideoIndex, positive: list[str], negative: list[str], weight: float
) -> dict[str, float]:
    """Best clip of each video by the mean cosine with the examples less that with the others."""

    def direction(path: str) -> np.ndarray:
        return unit(index.query(path).vectors.astype(np.float64).mean(axis=0))

    towards = np.mean([direction(path) for path in positive], axis=0)
    if negative:
        towards = towards - weight * np.mean([direction(path) for path in negative], axis=0)
    return {path: float((index.query(path).vectors @ towards).max()) for path in index.paths}


@pytest.mark.parametrize("kind", ["flat", "ivfsq"])
def test_scores_are_mean_cosines(folder: Path, kind: str) -> None:
    index = VideoIndex(folder / kind)
    positive, negative = ["a/v000.mp4", "b/v001.mp4", "c/v002.mp4"], ["d/v003.mp4", "a/v004.mp4"]
    wanted = by_hand(index, positive, negative, 0.5)
    found = index.search(positive, 5, negative=negative, together=True, exact=True)
    assert [match.video for match in found] == sorted(wanted, key=wanted.__getitem__)[:-6:-1]
    for match in found:
        assert match.score == pytest.approx(wanted[match.video], abs=1e-5)
        assert match.query == 0
    near = index.search(positive, 5, negative=negative, together=True)
    assert near[0].video == found[0].video
    without = index.search(positive, VIDEOS, together=True, exclude_self=True)
    assert {match.video for match in without} == set(index.paths) - set(positive)


def test_one_example_keeps_its_clips(index: VideoIndex) -> None:
    """Less the negative direction, each clip of the query still runs in step with a segment."""
    (query,) = index.combined("a/v000.mp4", "b/v001.mp4", weight=0.25)
    assert len(query.vectors) == CLIPS
    plain, away = index.query("a/v000.mp4").vectors, index.query("b/v001.mp4").vectors
    wanted = plain - 0.25 * unit(away.mean(axis=0))
    np.testing.assert_allclose(query.vectors * query.scale, wanted, atol=1e-5)
    best = index.search("a/v000.mp4", 1, negative="b/v001.mp4", negative_weight=0.25)[0]
    assert (best.video, best.start_seconds, best.end_seconds) == ("a/v000.mp4", 0.0, 3.5)
    assert query.video_ids == sorted(index.videos.row_of[p] for p in ("a/v000.mp4", "b/v001.mp4"))
    (same,) = index.combined("a/v000.mp4")
    assert same.scale == 1.0
    assert not same.positive


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=4),
    st.lists(st.integers(0, 20), max_size=3),
    st.floats(0, 2),
    st.integers(0, 50),
)
def test_any_examples_give_the_mean_of_their_cosines(
    positive: list[int], negative: list[int], weight: float, seed: int
) -> None:
    def example(number: int) -> Query:
        rows = unit(video_vectors(number, 3, 8))
        return Query(rows, np.arange(3.0), np.arange(3.0) + 1, normalised=True, name=str(number))

    background = unit(video_vectors(seed + 100, 40, 8))
    try:
        made = combine(
            [example(n) for n in positive], [example(n) for n in negative], background, weight
        )
    except DataError as error:
        assert "cancel each other" in str(error)
        return

    def direction(number: int) -> np.ndarray:
        return unit(example(number).vectors.astype(np.float64).mean(axis=0))

    away = weight * np.mean([direction(n) for n in negative], axis=0) if negative else 0
    if len(positive) == 1:
        wanted = example(positive[0]).vectors - away
    else:
        wanted = (np.mean([direction(n) for n in positive], axis=0) - away)[None]
    np.testing.assert_allclose(made.vectors * made.scale, wanted, atol=1e-5)
    assert np.linalg.norm(made.vectors, axis=1).mean() == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_combined(index: VideoIndex) -> None:
    with pytest.raises(UsageError, match="at least one query"):
        index.search([])
    with pytest.raises(UsageError, match="negative_weight is -1"):
        index.search("a/v000.mp4", negative="b/v001.mp4", negative_weight=-1)
    vector = index.query("a/v000.mp4").vectors[0]
    with pytest.raises(DataError, match="cancel each other"):
        index.search(vector, negative=vector, negative_weight=1)
    with pytest.raises(DataError, match="take a segment"):
        index.search([np.stack([vector, -vector]), vector], together=True)
    with pytest.raises(UsageError, match="only negative"):
        combine([], [index.query("a/v000.mp4")], index.searcher.background)


def test_every_query_has_k_results(index: VideoIndex) -> None:
    found = index.search(["a/v000.mp4", "b/v001.mp4"], k=4, exclude_self=True)
    assert [match.query for match in found] == [0] * 4 + [1] * 4
    for number, path in enumerate(["a/v000.mp4", "b/v001.mp4"]):
        alone = index.search(path, k=4, exclude_self=True)
        own = [match for match in found if match.query == number]
        assert [(m.video, m.score) for m in own] == [(m.video, m.score) for m in alone]


def test_phrases_find_their_nearest_in_compressed_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phrases lie apart from all clips; settings are tuned for queries among them."""
    rng = np.random.default_rng(0)
    dimension, videos, clips = 16, 150, 20
    means = unit(rng.standard_normal((2, dimension)))
    concepts = rng.standard_normal((40, dimension)) / np.sqrt(dimension)

    def made(mean: np.ndarray, count: int, length: float) -> np.ndarray:
        noise = 0.3 * rng.standard_normal((count, dimension)) / np.sqrt(dimension)
        return unit(length * mean + 0.7 * concepts[rng.integers(0, 40, count)] + noise)

    rows = {f"v{n}.mp4": made(means[0], clips, 1.0).astype(np.float32) for n in range(videos)}
    write_features(tmp_path / "f.h5", list(rows), dimension=dimension, replace=rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX", kind="ivfsq")
    index.head.search.update(nprobe=2, candidates=10)
    phrases = made(means[1], 20, 1.5).astype(np.float32)

    def recall(text: str) -> float:
        hits = 0
        for phrase in phrases:
            query = Query(phrase[None], np.zeros(1), np.zeros(1), normalised=True, text=text)
            wanted = {m.video_id: m.start_seconds for m in index.search(query, 10, exact=True)}
            found = index.search(query, 10)
            hits += sum(wanted.get(m.video_id) == m.start_seconds for m in found)
        return hits / 200

    assert recall("") < 0.9  # as a clip would be searched
    assert recall("a phrase") == 1.0
    monkeypatch.setattr("vidfeat.index.search._APART_EXACT_PAIRS", 0)
    assert recall("a phrase") > 0.97


# --- the command line ----------------------------------------------------------------------------


def test_examples_on_the_command_line(folder: Path, index: VideoIndex) -> None:
    place = folder / "flat"
    words = ["a/v000.mp4", "b/v001.mp4#t=0,1.2", "--together", "--not", "c/v002.mp4", "-k", 5]
    rows = json.loads(run("search", place, *words, "--json", "--negative-weight", 0.3))
    parts = ["a/v000.mp4", index.query("b/v001.mp4", 0, 1.2)]
    found = index.search(parts, 5, negative="c/v002.mp4", together=True, negative_weight=0.3)
    assert [row["video"] for row in rows] == [match.video for match in found]
    assert "query" not in rows[0]
    table = run("search", place, "a/v000.mp4", "b/v001.mp4", "-k", 3)
    assert len(table.splitlines()) == 2 * 5 + 1
    assert table.index("a/v000.mp4\n") < table.index("\n\nb/v001.mp4\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/v000.mp4#t=3,1"], "is empty"),
        (["a/v000.mp4#t=1.2.3"], "expected seconds"),
        (["a/v000.mp4#t=1,2", "--start", "1"], "names its own seconds"),
        (["a/v000.mp4", "--not", "gone.mp4"], "gone.mp4"),
        (["--not", "a/v000.mp4"], "--text"),
        (["a/v000.mp4", "--text", "rain"], "no text tower"),
        (["a/v000.mp4", "--not", "b/v001.mp4", "--negative-weight", "-1"], "negative_weight"),
    ],
)
def test_queries_that_cannot_be(folder: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["search", str(folder / "flat"), *words])
    assert done.exit_code != 0
    assert message in f"{done.output} {done.exception}"


def test_a_path_that_looks_like_a_segment_wins(tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", ["odd#t=0,1", "odd", "b.mp4"])
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX")
    rows = json.loads(run("search", tmp_path / "INDEX", "odd#t=0,1", "-k", 1, "--json"))
    assert (rows[0]["video"], rows[0]["end_seconds"]) == ("odd#t=0,1", 3.5)


def test_each_query_stands_above_its_own_results(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for number, kind in enumerate(list(KINDS)[:3]):
        render(root / f"v{number}.mp4", kind, number, 3.5, width=64, height=48, fps=10)
    names = ["v0.mp4", "v1.mp4", "v2.mp4"]
    write_features(tmp_path / "f.h5", names, root=str(root))
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX")
    page = tmp_path / "page.html"
    run("search", tmp_path / "INDEX", "v0.mp4", "v1.mp4", "-k", 2, "--html", page)
    sections = page.read_text().split("<section>")[1:]
    assert len(sections) == 2
    pictures = [re.findall(r"base64,([^\"]+)", section) for section in sections]
    assert [len(found) for found in pictures] == [3, 3]
    # Its own best match is itself: the same picture, from the same second.
    assert all(found[0] == found[1] for found in pictures)
    assert pictures[0][0] != pictures[1][0]
    words = ["v0.mp4", "v1.mp4", "--together", "--not", "v2.mp4"]
    run("search", tmp_path / "INDEX", *words, "--html", page)
    (section,) = page.read_text().split("<section>")[1:]
    assert section.count("<figure>") == 2
    assert section.count('<figure class="not">') == 1
