"""Build an index, search it, change it: what comes back is checked against exact arithmetic."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.index_fixtures import (
    CLIP_SECONDS,
    HOP_SECONDS,
    embeddings,
    identity,
    record,
    video_vectors,
    write_features,
)
from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.index import VideoIndex, change_index, copy_index, describe_index, verify_index
from vidfeat.index.choose import KINDS, choose, count_lists, parse_size
from vidfeat.index.vectors import Normalisation
from vidfeat.store.reader import Embeddings, FeatureStore
from vidfeat.store.writer import write_store

COMPRESSED = ("ivfsq", "ivfpq", "opq")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("features") / "f.h5", 300)


@pytest.fixture(scope="module")
def flat(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "INDEX"
    VideoIndex.build(features, path)
    return path


@pytest.fixture
def index(flat: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    copy_index(flat, tmp_path / "INDEX")
    return tmp_path / "INDEX"


def exact_best(features: Path, vectors: np.ndarray, removed: frozenset[str] = frozenset()):
    """Each video's mean over the query's clips of the best cosine, by plain arithmetic."""
    queries = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = {}
    with FeatureStore(features) as store:
        for path, held in store:
            if path in removed:
                continue
            rows = held.vectors / np.linalg.norm(held.vectors, axis=1, keepdims=True)
            best[path] = float((queries @ rows.T).max(axis=1).mean())
    return sorted(best.items(), key=lambda entry: -entry[1])


# ---------------------------------------------------------------------- answers


def test_answers_are_the_exact_best_videos(features, flat):
    vectors = video_vectors(5001, 4, 32)
    found = VideoIndex(flat).search(embeddings(vectors), k=12)
    expected = exact_best(features, vectors)[:12]
    assert [match.video for match in found] == [path for path, _ in expected]
    np.testing.assert_allclose(
        [m.score for m in found], [score for _, score in expected], rtol=1e-5
    )
    assert len({match.video for match in found}) == 12


def test_stored_video_finds_itself_with_its_whole_length(flat):
    index = VideoIndex(flat)
    best = index.search("b/v005.mp4", k=1)[0]
    assert best.video == "b/v005.mp4"
    assert best.score == pytest.approx(1, abs=1e-6)
    assert (best.start_seconds, best.end_seconds) == (0.0, 5 * HOP_SECONDS + CLIP_SECONDS)
    others = index.search("b/v005.mp4", k=3, exclude_self=True)
    assert "b/v005.mp4" not in {match.video for match in others}


@pytest.mark.parametrize(("start", "end"), [(0.5, 1.5), (1.1, 2.3), (2.2, 3.5), (1.4, 1.5)])
def test_segment_finds_its_second(flat, start, end):
    best = VideoIndex(flat).search("c/v006.mp4", k=1, start_seconds=start, end_seconds=end)[0]
    assert best.video == "c/v006.mp4"
    assert abs(best.start_seconds - start) <= HOP_SECONDS


def test_segment_off_the_grid_and_blurred_finds_its_second(features, flat):
    """Clips between two stored ones, with noise: the segment is found by running in step."""
    rng = np.random.default_rng(3)
    index = VideoIndex(flat)
    for number in range(0, 300, 15):
        path = f"{'abcd'[number % 4]}/v{number:03d}.mp4"
        with FeatureStore(features) as store:
            held = store.read(path).vectors
        between = 0.6 * held[1:5] + 0.4 * held[2:6]  # starts 0.7 s, 1.2 s, ...
        query = (between + 0.2 * rng.standard_normal(between.shape)).astype(np.float32)
        best = index.search(embeddings(query), k=1)[0]
        assert best.video == path
        assert abs((best.start_seconds - best.query_start_seconds) - 0.7) <= HOP_SECONDS


def test_clips_are_all_near_clips(features, flat):
    index = VideoIndex(flat)
    found = index.search("a/v000.mp4", k=6, clips=True)
    assert [match.video for match in found] == ["a/v000.mp4"] * 6
    assert sorted(match.start_seconds for match in found) == [n * HOP_SECONDS for n in range(6)]


def test_segments_of_one_video_do_not_overlap(flat):
    found = VideoIndex(flat).search("a/v000.mp4", k=50, per_video=3, start_seconds=0, end_seconds=1)
    by_video: dict[str, list[tuple[float, float]]] = {}
    for match in found:
        by_video.setdefault(match.video, []).append((match.start_seconds, match.end_seconds))
    assert any(len(segments) > 1 for segments in by_video.values())
    for segments in by_video.values():
        assert len(segments) <= 3
        ordered = sorted(segments)
        assert all(a[1] <= b[0] for a, b in pairwise(ordered))
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)


def test_normalised_scores_subtract_the_level_of_anything(flat):
    index = VideoIndex(flat)
    plain = index.search("a/v000.mp4", k=5)
    level = index.search("a/v000.mp4", k=5, normalize_scores=True)
    assert index.search("a/v000.mp4", k=5, normalise_scores=True) == level
    with pytest.raises(TypeError, match="normalize"):
        index.search("a/v000.mp4", normalize=True)
    assert level[0].video == plain[0].video
    rows = index.searcher.background
    query = index.query("a/v000.mp4").vectors
    expected = (query @ rows.T).mean(axis=1)
    assert 1 - level[0].score == pytest.approx(expected.mean(), abs=1e-4)


def test_filter_of_videos(flat):
    index = VideoIndex(flat)
    allowed = np.array([path.startswith("d/") for path in index.videos.paths])
    found = index.search("a/v000.mp4", k=8, allowed=allowed)
    assert len(found) == 8
    assert all(match.video.startswith("d/") for match in found)
    assert index.search("a/v000.mp4", allowed=np.zeros(300, dtype=bool)) == []


def test_more_answers_than_videos(flat):
    assert len(VideoIndex(flat).search("a/v000.mp4", k=1000)) == 300


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), clips=st.integers(1, 5), k=st.integers(1, 20))
def test_any_query_gets_the_exact_answer_with_exact(flat, features, seed, clips, k):
    vectors = video_vectors(90_000 + seed, clips, 32)
    found = VideoIndex(flat).search(embeddings(vectors), k=min(k, 300), exact=True)
    expected = exact_best(features, vectors)[:k]
    np.testing.assert_allclose(
        [m.score for m in found], [score for _, score in expected], atol=1e-5
    )


def test_centred_index_centres_its_queries(features, tmp_path):
    shifted = tmp_path / "shifted.h5"
    with FeatureStore(features) as store:
        rows = [
            (
                record(path, len(held)),
                Embeddings((held.vectors + 40).astype(np.float32), *_times(held)),
            )
            for path, held in store
        ]
    write_store(shifted, identity(32), rows)
    index = VideoIndex.build(shifted, tmp_path / "I", center=True)
    vectors = video_vectors(5001, 1, 32) + 40
    found = index.search(embeddings(vectors), k=10)
    plain = VideoIndex.build(features, tmp_path / "J", center=True).search(
        embeddings(vectors - 40), k=10
    )
    assert [match.video for match in found] == [match.video for match in plain]
    assert describe_index(tmp_path / "I")["metric"] == "cosine, minus the mean"


def test_whitening_finds_what_a_common_change_hides(tmp_path):
    """Brightness moves every vector along one direction, further than scenes are apart."""
    rng = np.random.default_rng(0)
    light = rng.standard_normal(32)
    scenes = rng.standard_normal((200, 6, 32)) * 0.2
    moved = scenes + light * rng.standard_normal((200, 1, 1)) * 3
    rows = [
        (record(f"v{n:03d}.mp4", 6), embeddings(moved[n].astype(np.float32))) for n in range(200)
    ]
    write_store(tmp_path / "f.h5", identity(32), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I", whiten=True)
    assert describe_index(tmp_path / "I")["metric"] == "cosine, whitened"
    plain = VideoIndex.build(tmp_path / "f.h5", tmp_path / "J")
    found = {"whitened": 0, "plain": 0}
    for n in range(0, 200, 10):
        query = embeddings((moved[n][:2] + light * rng.standard_normal() * 2).astype(np.float32))
        found["whitened"] += index.search(query, k=1)[0].video == f"v{n:03d}.mp4"
        found["plain"] += plain.search(query, k=1)[0].video == f"v{n:03d}.mp4"
    assert found["whitened"] >= 18
    assert found["whitened"] > found["plain"]
    index.add(write_part_of(tmp_path, moved))
    assert index.search("w000.mp4", k=1)[0].score == pytest.approx(1, abs=1e-5)


def write_part_of(tmp_path: Path, moved: np.ndarray) -> Path:
    rows = [(record("w000.mp4", 6), embeddings((moved[0] + 1).astype(np.float32)))]
    write_store(tmp_path / "w.h5", identity(32), rows)
    return tmp_path / "w.h5"


def _times(held: Embeddings):
    return held.start_seconds, held.end_seconds


# ---------------------------------------------------------------------- kinds


@pytest.mark.parametrize("kind", ["hnsw", "ivfsq", "ivfpq"])
def test_kinds_find_what_flat_finds(features, flat, tmp_path, kind):
    index = VideoIndex.build(features, tmp_path / kind, kind=kind)
    assert index.head.kind == kind
    assert index.head.recall["at_10"] >= 0.95
    exact = VideoIndex(flat)
    same = 0
    for seed in range(20):
        query = embeddings(video_vectors(7000 + seed, 1, 32))
        wanted = exact.search(query, k=10)
        got = index.search(query, k=10)
        same += len({m.video for m in wanted} & {m.video for m in got})
        scores = {m.video: m.score for m in wanted}
        right = [abs(m.score - scores[m.video]) < 1e-5 for m in got if m.video in scores]
        assert sum(right) >= len(right) - 1  # re-ranked: a score is the cosine itself
    assert same >= 0.95 * 200
    assert len(index.search(query, k=10, exact=True)) == 10


def test_wide_vectors_in_many_lists_open_again(tmp_path):
    """FAISS checks the size of a table that it never makes: the check must not refuse our own."""
    rng = np.random.default_rng(0)
    rows = [
        (record(f"{n:04d}.mp4", 10), embeddings(rng.standard_normal((10, 256)).astype(np.float32)))
        for n in range(1000)
    ]
    write_store(tmp_path / "f.h5", identity(256), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "I", kind="ivfpq")
    assert index.head.factory == "IVF256,PQ64x4fs"
    assert index.search("0007.mp4", k=1)[0].video == "0007.mp4"


@pytest.mark.slow
def test_opq(tmp_path):
    features = write_features(tmp_path / "big.h5", 2000, clips=5, dimension=16)
    index = VideoIndex.build(features, tmp_path / "opq", kind="opq")
    assert index.head.factory == "OPQ4_16,IVF256,PQ4"
    assert index.head.recall["at_10"] >= 0.95
    assert index.search("a/v000.mp4", k=1)[0].video == "a/v000.mp4"


def test_lists_on_disk(features, flat, tmp_path):
    index = VideoIndex.build(features, tmp_path / "I", kind="ivfsq", max_memory=10_000)
    assert {"lists", "list_table"} <= set(index.head.files)
    assert index.head.recall["at_10"] >= 0.95
    query = embeddings(video_vectors(7000, 1, 32))
    got = index.search(query, k=10)
    assert len({m.video for m in VideoIndex(flat).search(query)} & {m.video for m in got}) >= 9
    copy_index(tmp_path / "I", tmp_path / "moved")
    shutil.rmtree(tmp_path / "I")
    moved = VideoIndex(tmp_path / "moved")
    assert moved.search("b/v001.mp4", k=1)[0].video == "b/v001.mp4"
    _spoil(tmp_path / "moved", "list_table", lambda table: table * 1000)
    with pytest.raises(StoreError, match="does not fit"):
        VideoIndex(tmp_path / "moved")


def _spoil(folder: Path, role: str, change) -> None:
    head = json.loads((folder / "index.json").read_text())
    path = folder / head["files"][role]["name"]
    np.save(path, change(np.load(path)))


@pytest.mark.parametrize(
    ("clips", "dimension", "memory", "kind"),
    [
        (500, 512, 1 << 40, "flat"),
        (100_000, 512, 1 << 40, "flat"),
        (100_000, 512, 50 << 20, "ivfpq"),
        (1_000_000, 512, 4 << 30, "ivfpq"),
        (100_000_000, 512, 8 << 30, "ivfpq"),
        (100_000_000, 512, 1 << 30, "opq"),
        (1_000_000, 8, 4 << 30, "ivfsq"),
    ],
)
def test_auto_by_size_and_memory(clips, dimension, memory, kind):
    plan = choose(clips, dimension, max_memory_bytes=memory)
    assert plan.kind == kind
    assert plan.lists_on_disk == (plan.memory_bytes > memory)


def test_factories_of_the_sizes():
    assert choose(1_000_000, 512, kind="ivfpq", max_memory_bytes=1 << 40).factory == (
        "IVF4096,PQ128x4fs"
    )
    assert choose(10_000_000, 512, kind="opq", max_memory_bytes=1 << 40).factory == (
        "OPQ64_256,IVF65536_HNSW32,PQ64"
    )
    for clips in (1, 39, 500, 10_000, 1_000_000):
        assert 1 <= count_lists(clips) <= max(1, clips // 39)


@pytest.mark.parametrize("dimension", [7, 30, 33, 48, 500, 2048])
def test_every_dimension_has_a_factory(dimension):
    import faiss

    for kind in KINDS[1:]:
        plan = choose(20_000, dimension, kind=kind, max_memory_bytes=1 << 40)
        assert faiss.index_factory(dimension, plan.factory, faiss.METRIC_INNER_PRODUCT) is not None


@pytest.mark.parametrize(
    ("kind", "memory", "message"),
    [
        ("annoy", None, "kind must be one of auto, flat"),
        ("ivfpq", None, "at least 1000"),
        ("flat", 100, "allowed by max_memory: raise it"),
    ],
)
def test_kinds_that_cannot_be(features, tmp_path, kind, memory, message):
    small = write_features(tmp_path / "small.h5", 10)
    with pytest.raises(UsageError, match=message):
        VideoIndex.build(small, tmp_path / "I", kind=kind, max_memory=memory)
    assert not (tmp_path / "I").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("4GB", 4 * 10**9), ("2GiB", 2 << 30), ("500m", 5 * 10**8), ("1024", 1024), ("1.5k", 1500)],
)
def test_memory(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "many", "-1GB", "4XB", "nan", "inf"])
def test_memory_that_is_none(text):
    with pytest.raises(UsageError, match="max_memory"):
        parse_size(text)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_bad_vectors_are_refused_by_name(tmp_path, value):
    vectors = video_vectors(1, 6, 32)
    vectors[3] = value
    features = write_features(tmp_path / "f.h5", 8, replace={"c/v006.mp4": vectors})
    with pytest.raises(DataError, match=r"c/v006.mp4, clip at 1\.50 s"):
        VideoIndex.build(features, tmp_path / "I")
    assert not (tmp_path / "I").exists()
    index = VideoIndex.build(features, tmp_path / "I", skip_bad_rows=True)
    assert len(index) == 8 * 6 - 1
    assert list(index.times("c/v006.mp4")[0]) == [0.0, 0.5, 1.0, 2.0, 2.5]
    with pytest.raises(DataError, match="the query, clip at"):
        index.search(embeddings(vectors))


def test_queries_of_another_encoder_are_refused(flat, tmp_path):
    index = VideoIndex(flat)
    with pytest.raises(FingerprintError, match="another encoder"):
        index.search(embeddings(video_vectors(1, 1, 32)), space_fingerprint="space-2")
    with pytest.raises(DataError, match="needs"):
        index.search(np.ones(31, dtype=np.float32))
    other = write_features(tmp_path / "o.h5", 2, space="space-2")
    with pytest.raises(FingerprintError, match="another encoder"):
        change_index(flat, add=[other])
    near = write_features(tmp_path / "n.h5", ["x/new.mp4"], run="run-2")
    copy_index(flat, tmp_path / "I")
    with pytest.warns(UserWarning, match="another hop, precision or engine"):
        change_index(tmp_path / "I", add=[near])


def test_unknown_video_names_the_nearest(flat):
    with pytest.raises(StoreError, match=r"did you mean 'a/v000.mp4'"):
        VideoIndex(flat).search("a/v0000.mp4")


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(2.0, 1.0, "empty"), (100.0, 101.0, "outside"), (1.0, 1.0, "empty"), (-2.0, -1.0, "empty")],
)
def test_segments_that_cannot_be(flat, start, end, message):
    with pytest.raises(UsageError, match=message):
        VideoIndex(flat).search("a/v000.mp4", start_seconds=start, end_seconds=end)


def test_what_is_there_is_not_overwritten(features, index, tmp_path):
    with pytest.raises(UsageError, match="overwrite=True"):
        VideoIndex.build(features, index)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="is not an index"):
        VideoIndex.build(features, tmp_path / "mine", overwrite=True)
    again = VideoIndex.build(features, index, overwrite=True)
    assert again.head.generation == 2
    assert verify_index(index) == []


def test_features_without_clips(tmp_path):
    write_store(tmp_path / "none.h5", identity(32), [])
    with pytest.raises(DataError, match="no clip"):
        VideoIndex.build(tmp_path / "none.h5", tmp_path / "I")


# ---------------------------------------------------------------------- changes


def test_add_update_and_remove(features, index, tmp_path):
    more = write_features(
        tmp_path / "more.h5", ["a/v000.mp4", "a/v004.mp4", "z/new.mp4"], first_seed=700
    )
    change = change_index(index, add=[more], remove=["b/v001.mp4"])
    assert change.added == ["z/new.mp4"]
    assert change.updated == ["a/v000.mp4", "a/v004.mp4"]
    assert change.removed == ["b/v001.mp4"]
    opened = VideoIndex(index)
    assert (opened.head.num_videos, len(opened)) == (300, 1800)
    assert "b/v001.mp4" not in opened
    assert verify_index(index) == []
    for path, seed in (("a/v000.mp4", 700), ("a/v004.mp4", 701), ("z/new.mp4", 702)):
        best = opened.search(embeddings(video_vectors(seed, 6, 32)), k=1)[0]
        assert (best.video, best.end_seconds) == (path, 3.5)
    old = opened.search(embeddings(video_vectors(0, 6, 32)), k=1)[0]
    assert old.score < 0.9  # the former clips of the updated video are gone
    assert change_index(index, add=[more]).unchanged == ["a/v000.mp4", "a/v004.mp4", "z/new.mp4"]
    assert VideoIndex(index).head.generation == opened.head.generation


def test_videos_of_another_root_are_told_of(index, tmp_path):
    more = write_features(tmp_path / "more.h5", ["z/new.mp4"], first_seed=700, root="/elsewhere")
    with pytest.warns(UserWarning, match="below /elsewhere"):
        assert change_index(index, add=[more]).added == ["z/new.mp4"]


def test_another_root_replaces_nothing(index, tmp_path):
    """The same relative name below another root is another video; both roots are named."""
    before = json.loads((index / "index.json").read_text())
    names = ["a/v000.mp4", "z/new.mp4"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    more = write_features(tmp_path / "more.h5", names, first_seed=700, root=str(other))
    with FeatureStore(more) as store:
        rows = [(replace(record(path, 6), size_bytes=5), held) for path, held in store]
    write_store(tmp_path / "sized.h5", identity(32, root=str(other)), rows)
    with (
        pytest.warns(UserWarning, match="below"),
        pytest.raises(StoreError, match=rf"below {other} .* below /videos in"),
    ):
        change_index(index, add=[tmp_path / "sized.h5"])
    assert json.loads((index / "index.json").read_text()) == before


@pytest.mark.parametrize("centred", [False, True])
def test_the_same_file_with_bad_rows_is_unchanged(tmp_path, centred):
    """What was left out the first time is left out again, which is no change."""
    some, none = video_vectors(1, 6, 32), np.zeros((6, 32), dtype=np.float32)
    some[2], none[0] = np.nan, np.inf
    names = ["a.mp4", "some.mp4", "none.mp4"]
    bad = {"some.mp4": some, "none.mp4": none}
    features = write_features(tmp_path / "f.h5", names, replace=bad)
    VideoIndex.build(features, tmp_path / "I", skip_bad_rows=True, center=centred)
    generation = VideoIndex(tmp_path / "I").head.generation
    change = change_index(tmp_path / "I", add=[features], skip_bad_rows=True)
    assert sorted(change.unchanged) == sorted(names)
    assert not change.updated
    assert not change.rebuilt
    assert VideoIndex(tmp_path / "I").head.generation == generation
    with pytest.raises(DataError, match="skip_bad_rows=True"):
        change_index(tmp_path / "I", add=[features])
    some[4] = 0
    again = write_features(tmp_path / "again.h5", names, replace=bad)
    assert change_index(tmp_path / "I", add=[again], skip_bad_rows=True).updated == ["some.mp4"]


def test_added_is_as_if_built_at_once(tmp_path):
    parts = [
        write_features(
            tmp_path / f"{n}.h5", [f"p{n}/{m}.mp4" for m in range(20)], first_seed=n * 20
        )
        for n in range(3)
    ]
    index = VideoIndex.build(parts[0], tmp_path / "I")
    index.add(parts[1])
    index.add(parts[2])
    index.remove(["p1/"])
    assert len(index.paths) == 40
    query = embeddings(video_vectors(5001, 3, 32))
    with FeatureStore(parts[0]) as one, FeatureStore(parts[2]) as two:
        rows = [(record(path, len(held)), held) for store in (one, two) for path, held in store]
    write_store(tmp_path / "all.h5", identity(32), rows)
    whole = VideoIndex.build(tmp_path / "all.h5", tmp_path / "J")
    for k in (1, 10, 40):
        ours, theirs = index.search(query, k=k), whole.search(query, k=k)
        assert [match.to_dict() for match in ours] == [match.to_dict() for match in theirs]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfsq", "ivfpq"])
def test_removed_are_never_found_and_a_large_share_rebuilds(features, tmp_path, kind):
    index = VideoIndex.build(features, tmp_path / "I", kind=kind)
    assert index.remove(["a/*"]).rebuilt is False
    everything = index.search("b/v001.mp4", k=300)
    assert everything
    assert not [match.video for match in everything if match.video.startswith("a/")]
    if kind == "flat":
        assert len(everything) == 225
    change = index.remove(["c/"])
    assert change.rebuilt
    assert index.head.num_base == len(index) == 150 * 6
    assert index.search("b/v001.mp4", k=1)[0].video == "b/v001.mp4"
    assert verify_index(tmp_path / "I") == []


def test_a_long_tail_is_built_in(index, tmp_path):
    more = write_features(tmp_path / "m.h5", [f"t/{n}.mp4" for n in range(50)], first_seed=4000)
    from vidfeat.index import update

    old = update.TAIL_ROWS
    update.TAIL_ROWS = 100
    try:
        change = change_index(index, add=[more])
    finally:
        update.TAIL_ROWS = old
    assert change.rebuilt
    opened = VideoIndex(index)
    assert (opened.head.num_tail, opened.head.num_base) == (0, 350 * 6)
    assert opened.search("t/7.mp4", k=1)[0].video == "t/7.mp4"


def test_changes_that_cannot_be(index, features):
    before = (index / "index.json").read_bytes()
    for wanted in ("nothing.mp4", "q/", "q*"):
        with pytest.raises(StoreError, match="no video"):
            change_index(index, remove=["a/v000.mp4", wanted])
    with pytest.raises(DataError, match="no clip left"):
        change_index(index, remove=["*"])
    assert (index / "index.json").read_bytes() == before
    assert verify_index(index) == []


def test_an_open_index_outlives_a_change(index):
    opened = VideoIndex(index)
    change_index(index, remove=["a/*", "b/*"])
    assert opened.search("a/v000.mp4", k=1)[0].video == "a/v000.mp4"
    assert "a/v000.mp4" not in VideoIndex(index)


def test_two_writers(index):
    from vidfeat.errors import LockedError
    from vidfeat.index.folder import writing

    with writing(index), pytest.raises(LockedError):
        change_index(index, remove=["a/v000.mp4"])


# ---------------------------------------------------------------------- files


def test_verify_sees_a_changed_byte_and_opening_a_short_file(index):
    path = index / "vectors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "vectors.npy" in verify_index(index)[0]
    with pytest.raises(StoreError, match="sha256"):
        copy_index(index, index.with_name("copy"))
    assert not index.with_name("copy").exists()
    path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match="incomplete"):
        VideoIndex(index)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        VideoIndex(index)


def test_an_index_opens_at_another_place(index, tmp_path):
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    index.rename(moved)
    assert VideoIndex(moved).search("a/v000.mp4", k=1)[0].video == "a/v000.mp4"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"format_version": 99},
        {"dimension": "many"},
        {"dimension": 31},
        {"num_base": 7},
        {"kind": "ivfpq"},
        {"search": {"nprobe": -1}},
        {"metric": "euclid"},
        {"num_tail": 4},
        {"centred": True},
        {"files": []},
        {"files": {}},
    ],
)
def test_heads_that_lie(index, change):
    head = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps(head | change))
    with pytest.raises(StoreError):
        VideoIndex(index)


@pytest.mark.parametrize("name", ["../f.npy", "/etc/passwd", "a/vectors.npy", ".npy", "vectors.py"])
def test_heads_that_point_elsewhere(index, name):
    head = json.loads((index / "index.json").read_text())
    head["files"]["vectors"]["name"] = name
    (index / "index.json").write_text(json.dumps(head))
    with pytest.raises(StoreError, match="damaged"):
        VideoIndex(index)


def test_links_are_refused(index, tmp_path):
    (index / "vectors.npy").rename(tmp_path / "real.npy")
    (index / "vectors.npy").symlink_to(tmp_path / "real.npy")
    with pytest.raises(StoreError, match="missing"):
        VideoIndex(index)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfsq", "ivfpq"])
def test_crafted_faiss_files_are_errors(features, tmp_path, kind):
    """Cut, doubled or scrambled FAISS files end in an error; what opens must not crash."""
    VideoIndex.build(features, tmp_path / "I", kind=kind)
    script = """
import json, sys, numpy as np
from vidfeat.errors import VidfeatError
from vidfeat.index import VideoIndex
folder, seed = sys.argv[1], int(sys.argv[2])
path = folder + "/index.faiss"
data = open(path, "rb").read()
rng = np.random.default_rng(seed)
head = json.load(open(folder + "/index.json"))
refused = 0
for number in range(25):
    bad = bytearray(data)
    if number % 5 == 0:
        bad = bad[: int(rng.integers(0, len(bad)))]
    elif number % 5 == 1:
        bad = bytearray(data + data)
    else:
        at = int(rng.integers(4, 60))
        bad[at : at + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()
    open(path, "wb").write(bad)
    head["files"]["index"]["bytes"] = len(bad)
    json.dump(head, open(folder + "/index.json", "w"))
    try:
        VideoIndex(folder)
    except VidfeatError as error:
        refused += 1
        assert "\\n" not in str(error)
print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "I"), "5"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert int(done.stdout) >= 10


def test_stored_search_imports_no_torch(flat):
    script = (
        "import sys; from vidfeat import VideoIndex;"
        f"VideoIndex({str(flat)!r}).search('a/v000.mp4');"
        "assert not {'torch', 'sklearn', 'av', 'matplotlib', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e30, 1e38])
@pytest.mark.parametrize("mean", [None, np.full(8, 1e-3, dtype=np.float32)])
def test_vectors_of_any_length_keep_their_direction(size, mean):
    """Weights that diverge make features of 1e28 and more, whose squares float32 does not hold."""
    unit = np.random.default_rng(0).uniform(-1, 1, (5, 8))
    vectors = (unit * size).astype(np.float32)
    scaled, bad = Normalisation(mean).apply_to_good(vectors)
    assert not len(bad)
    expected = vectors.astype(np.float64) - (0 if mean is None else mean)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
