"""A search answers wherever an answer exists: filters, removals, exclusions, against exact."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.index_fixtures import embeddings, identity, record
from vidfeat.index import VideoIndex, change_index
from vidfeat.index import engine as engine_module
from vidfeat.store.writer import write_store

KINDS = ("flat", "hnsw", "ivfsq", "ivfpq", "opq")
FOLDERS = "abcdefgh"
CLIPS = 5


def write_clusters(path: Path, videos: int = 250, dimension: int = 16) -> Path:
    """Folders whose videos lie in one cluster each: a filter leaves out all that is near."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((len(FOLDERS), dimension))
    rows = []
    for number, folder in enumerate(FOLDERS):
        for video in range(videos):
            vectors = centres[number] + 0.3 * rng.standard_normal((CLIPS, dimension))
            name = f"{folder}/v{video:03d}.mp4"
            rows.append((record(name, CLIPS), embeddings(vectors.astype(np.float32))))
    write_store(path, identity(dimension), rows)
    return path


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], VideoIndex]:
    """Each kind, whole and with the folders a and b removed."""
    folder = tmp_path_factory.mktemp("clusters")
    features = write_clusters(folder / "f.h5")
    made: dict[tuple[str, bool], VideoIndex] = {}
    for kind in KINDS:
        made[kind, False] = VideoIndex.build(features, folder / kind, kind=kind)
        holed = folder / f"{kind}-holed"
        shutil.copytree(folder / kind, holed)
        change_index(holed, remove=["a/", "b/"])
        made[kind, True] = VideoIndex(holed)
    return made


@pytest.mark.parametrize("few_rows", [engine_module._FEW_ROWS, 0])
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_as_many_answers_as_are_allowed(indexes, kind, few_rows, data):
    """Also where FAISS has to find the few allowed rows itself, as it does in large indexes."""
    removed = data.draw(st.booleans())
    index = indexes[kind, removed]
    paths = index.paths
    video = data.draw(st.sampled_from(paths))
    k = data.draw(st.sampled_from([1, 2, 10, 50, 200]))
    folders = data.draw(st.sets(st.sampled_from(FOLDERS)))
    share = data.draw(st.sampled_from([1.0, 0.3, 0.01]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    allowed = np.array([path[0] not in folders for path in index.videos.paths])
    allowed &= rng.random(len(allowed)) < share
    ways = {
        "k": k,
        "clips": data.draw(st.booleans()),
        "exclude_self": data.draw(st.booleans()),
        "allowed": allowed if data.draw(st.booleans()) else None,
    }
    query = index.query(video, *data.draw(st.sampled_from([(None, None), (0.0, 0.9)])))
    with mock.patch.object(engine_module, "_FEW_ROWS", few_rows):
        found = index.search(query, **ways)
    best = index.search(query, exact=True, **ways)
    assert len(found) == len(best)
    held = index.videos["alive"].copy()
    if ways["allowed"] is not None:
        held &= allowed
    if ways["exclude_self"]:
        held[query.video_id] = False
    most = int(held.sum()) * (CLIPS if ways["clips"] else 1)
    assert len(found) == min(k, most)
    assert all(held[match.video_id] for match in found)


@pytest.mark.parametrize("few_rows", [engine_module._FEW_ROWS, 0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left_out", ["", "own", "near"])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_recall_with_a_filter_is_the_one_shown(indexes, kind, few_rows, left_out, k):
    """``near`` leaves out the folder of the query and two others."""
    hits = 0
    index = indexes[kind, False]
    rng = np.random.default_rng(5)
    queries = rng.choice(index.paths, 40, replace=False).tolist()
    for video in queries:
        others = rng.choice(list(FOLDERS), 2)
        allowed = np.array(
            [left_out != "near" or path[0] not in (video[0], *others) for path in index.paths]
        )
        ways = {"allowed": allowed, "exclude_self": bool(left_out), "k": k}
        query = index.query(video, 0.0, 0.9)
        with mock.patch.object(engine_module, "_FEW_ROWS", few_rows):
            found = {match.video for match in index.search(query, **ways)}
        hits += len(found & {match.video for match in index.search(query, exact=True, **ways)})
    shown = index.head.recall["at_10"]
    assert hits / (k * len(queries)) >= shown - 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_folder_filters_never_come_back_empty(indexes, kind):
    """A search from a folder that was left out for each of the others alone."""
    index = indexes[kind, False]
    with mock.patch.object(engine_module, "_FEW_ROWS", 0):
        for folder in FOLDERS:
            allowed = np.array([path[0] == folder for path in index.videos.paths])
            found = index.search("a/v000.mp4", k=10, allowed=allowed, exclude_self=True)
            assert len(found) == 10


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.booleans(), st.one_of(st.none(), st.sets(st.integers(0, 1999), max_size=150)))
def test_rows_that_may_be_found_are_those_of_allowed_videos(indexes, removed, left_out):
    """Whether few videos or many are left out, and whatever was removed before."""
    searcher = indexes["flat", removed].searcher
    allowed = None if left_out is None else np.ones(len(searcher.videos), dtype=bool)
    if allowed is not None and left_out:
        allowed[sorted(left_out)] = False
    held = searcher.videos["alive"] if allowed is None else searcher.videos["alive"] & allowed
    rows = searcher.rows_of(allowed)
    expected = held[searcher.clips["video"]]
    assert expected.all() if rows is None else np.array_equal(rows, expected)


def test_one_video_that_takes_all_places_does_not_hide_the_others(tmp_path):
    """A film of 400 equal clips is nearest; the answer still has all videos."""
    rng = np.random.default_rng(1)
    still = np.tile(rng.standard_normal(16), (400, 1)).astype(np.float32)
    rows = [(record("still.mp4", 400), embeddings(still))]
    for number in range(200):
        vectors = rng.standard_normal((5, 16)).astype(np.float32)
        rows.append((record(f"v{number:03d}.mp4", 5), embeddings(vectors)))
    write_store(tmp_path / "f.h5", identity(16), rows)
    for kind in ("flat", "ivfsq"):
        index = VideoIndex.build(tmp_path / "f.h5", tmp_path / kind, kind=kind)
        for clips in (1, 40, 400):
            query = embeddings(still[:clips])
            assert len(index.search(query, k=150)) == 150
            assert len(index.search(query, k=1000)) == 201
