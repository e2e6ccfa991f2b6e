"""Indexes in databases: the answers of a FAISS index, from LanceDB and from Milvus."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import write_features
from vidfeat.cli import cli
from vidfeat.errors import (
    DataError,
    FingerprintError,
    MissingExtraError,
    StoreError,
    UsageError,
)
from vidfeat.index import Query, VideoIndex
from vidfeat.index.databases import open_index
from vidfeat.index.databases.address import connect, is_address
from vidfeat.index.databases.engine import spans_of
from vidfeat.index.databases.opened import DatabaseIndex
from vidfeat.index.databases.push import push
from vidfeat.index.query import QuerySource

VIDEOS = 24


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("features") / "f.h5", VIDEOS)


@pytest.fixture(scope="module")
def index(features: Path) -> VideoIndex:
    return VideoIndex.build(features)


LABELS = {f"{'abcd'[n % 4]}/v{n:03d}.mp4": ("run", "jump")[n % 2] for n in range(VIDEOS)}


@pytest.fixture(scope="module", params=["lance", "milvus"])
def pushed(
    request: pytest.FixtureRequest, features: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DatabaseIndex]:
    """The same features in a database."""
    pytest.importorskip({"lance": "lancedb", "milvus": "milvus_lite"}[request.param])
    place = tmp_path_factory.mktemp("database")
    address = f"lance://{place}/vectors" if request.param == "lance" else f"milvus://{place}/v.db"
    told: list[str] = []
    change = push(features, address, labels=LABELS, report=told.append)
    assert (len(change.added), len(change.updated)) == (VIDEOS, 0)
    assert "recall@10 1.000" in told[-1]
    opened = open_index(address)
    assert isinstance(opened, DatabaseIndex)
    yield opened
    opened.close()


def answers(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(m.start_seconds, m.end_seconds, *ranked(m)) for m in found]


def ranked(match: Any) -> tuple[Any, ...]:
    """Where segments end depends on a sample of the clips, and so on how an index came about."""
    return match.video, pytest.approx(match.score, abs=1e-4)


# ---------------------------------------------------------------------- the same answers


def test_examples_and_phrases_answer_as_in_an_index(
    pushed: DatabaseIndex, index: VideoIndex
) -> None:
    examples = {"negative": "c/v002.mp4", "together": True, "exclude_self": True}
    queries = ["a/v000.mp4", "b/v001.mp4"]
    found, wanted = (one.search(queries, 5, **examples) for one in (pushed, index))
    # The background sample differs, but only phrases beside clips are scaled by it.
    assert [ranked(match) for match in found] == [ranked(match) for match in wanted]
    vector = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    vector /= np.linalg.norm(vector)
    phrase = Query(vector, np.zeros(1), np.zeros(1), normalised=True, text="a phrase")
    found, wanted = (one.search([phrase, queries[0]], 5) for one in (pushed, index))
    assert [ranked(match) for match in found] == [ranked(match) for match in wanted]
    assert [match.query for match in found] == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 30},
        {"per_video": 3},
        {"exact": True},
        {"rank_by": "best"},
        {"exclude_self": True},
        {"between_seconds": (1.0, 2.6)},
        {"between_seconds": (1.0, 2.6), "clips": True, "k": 50},
        {"between_seconds": (90.0, 91.0)},
        {"start_seconds": 0.5, "end_seconds": 1.5},
    ],
)
def test_answers_are_those_of_an_index(
    index: VideoIndex, pushed: DatabaseIndex, options: dict[str, Any]
) -> None:
    for video in ("a/v000.mp4", "c/v006.mp4"):
        expected, found = index.search(video, **options), pushed.search(video, **options)
        if options.get("clips"):  # equal scores come in any order
            assert {m.start_seconds for m in found} <= {1.0, 1.5}
            expected, found = (
                sorted(part, key=lambda m: (m.video, m.start_seconds)) for part in (expected, found)
            )
        assert answers(found) == answers(expected)


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        (["b/"], []),
        (["*/v00*"], []),
        (["a/v000.mp4", "d/v003.mp4"], []),
        ([], ["jump"]),
        (["b/", "c/"], ["run"]),
    ],
)
def test_filters_are_those_of_an_index(
    index: VideoIndex, pushed: DatabaseIndex, only: list[str], labels: list[str]
) -> None:
    allowed = index.allowed(only, labels, LABELS)
    stored = pushed.allowed(only, labels)  # the labels that were pushed
    assert allowed is not None
    assert np.array_equal(allowed, stored)
    expected = index.search("c/v006.mp4", 20, allowed=allowed)
    assert answers(pushed.search("c/v006.mp4", 20, allowed=stored)) == answers(expected)
    assert {index.videos.row_of[m.video] for m in expected} <= set(np.flatnonzero(allowed))


def test_scattered_filters_are_sifted_or_asked_in_parts(
    index: VideoIndex, pushed: DatabaseIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "vidfeat.index.databases.engine"
    monkeypatch.setattr(f"{module}._FEW_ROWS", 0)
    monkeypatch.setattr(f"{module}._MOST_SPANS", 2)
    allowed = np.arange(VIDEOS) % 3 == 0
    expected = answers(index.search("c/v006.mp4", 5, allowed=allowed))
    assert answers(pushed.search("c/v006.mp4", 5, allowed=allowed)) == expected
    monkeypatch.setattr(f"{module}._MOST_ASKED", 1)  # no number of answers is enough
    assert answers(pushed.search("c/v006.mp4", 5, allowed=allowed)) == expected


def test_features_as_queries(index: VideoIndex, pushed: DatabaseIndex, tmp_path: Path) -> None:
    other = write_features(tmp_path / "q.h5", ["new.mp4"], first_seed=3)
    found = [ix.search(QuerySource(ix).make(str(other))) for ix in (index, pushed)]
    assert answers(found[1]) == answers(found[0])
    strange = write_features(tmp_path / "s.h5", ["new.mp4"], space="space-2")
    with pytest.raises(FingerprintError, match=pushed.address):
        QuerySource(pushed).make(str(strange))
    with pytest.raises(StoreError, match=pushed.address):
        pushed.search("nothing.mp4")


def test_the_page_over_a_database(pushed: DatabaseIndex, tmp_path: Path) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from vidfeat.web.server import ServeOptions, make_app

    app: Any = make_app(pushed, ServeOptions(cache=tmp_path / "cache", root=tmp_path))
    with testclient.TestClient(app, base_url="http://127.0.0.1") as site:
        about = site.get("/api/index").json()
        assert (about["videos"], about["clips"]) == (VIDEOS, pushed.head.num_clips)
        assert dict(about["labels"]) == {"run": VIDEOS // 2, "jump": VIDEOS // 2}
        found = site.get("/api/search", params={"video": 0, "folder": "b", "k": 3}).json()
        assert {answer["folder"] for answer in found["results"]} == {"b"}
        assert len(site.get("/api/videos/3").json()["clips"]) == 6


# ---------------------------------------------------------------------- changes


@pytest.fixture(params=["lance", "milvus"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    pytest.importorskip({"lance": "lancedb", "milvus": "milvus_lite"}[request.param])
    return (
        f"lance://{tmp_path}/vectors" if request.param == "lance" else f"milvus://{tmp_path}/v.db"
    )


def test_add_replace_and_remove(address: str, tmp_path: Path) -> None:
    names = [f"a/{n}.mp4" for n in range(6)]
    push(write_features(tmp_path / "1.h5", names), address)
    more = write_features(tmp_path / "2.h5", [*names[:2], "b/new.mp4"], mtime_ns=8, first_seed=50)
    change = push(more, address, remove=["a/5.mp4"])
    assert (change.added, change.updated, change.removed) == (["b/new.mp4"], names[:2], ["a/5.mp4"])
    change = push(more, address)
    assert (len(change.unchanged), change.added, change.updated) == (3, [], [])
    # the state of an index that saw the same
    twin = VideoIndex.build(tmp_path / "1.h5", tmp_path / "twin")
    twin.add(more)
    twin.remove(["a/5.mp4"])
    opened = open_index(address)
    assert sorted(opened.paths) == sorted(twin.paths)
    for name in ("a/0.mp4", "a/3.mp4", "b/new.mp4"):
        assert [*map(ranked, opened.search(name))] == [*map(ranked, twin.search(name))]
    opened.remove(["a/*"])
    assert opened.paths == ["b/new.mp4"]
    assert {match.video for match in opened.search("b/new.mp4")} == {"b/new.mp4"}
    with pytest.raises(StoreError, match="no video that fits"):
        opened.remove(["a/"])
    with pytest.raises(DataError, match="no clip left"):
        opened.remove(["b/"])
    opened.close()
    other = write_features(tmp_path / "3.h5", names, space="space-2")
    with pytest.raises(FingerprintError, match="another encoder"):
        push(other, address)
    push(other, address, overwrite=True)
    opened = open_index(address)
    assert (len(opened.paths), opened.space_fingerprint) == (6, "space-2")
    opened.close()


def test_a_killed_push_leaves_the_old_state_and_the_next_one_mends_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a/{n}.mp4" for n in range(4)]
    first = write_features(tmp_path / "1.h5", names)
    push(first, address)
    more = write_features(tmp_path / "2.h5", [*names[:2], "b/new.mp4"], mtime_ns=8, first_seed=50)
    database = connect(address)
    kind = type(database)
    database.close()
    for step in ("add_clips", "add_videos", "write_head", "remove", "index_clips"):

        def dies(*given: Any, **named: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(kind, step, dies)
            with pytest.raises(KeyboardInterrupt):
                push(more, address)
        opened = open_index(address)  # whole, before or after
        seen = {match.video for match in opened.search("a/3.mp4", 20)}
        opened.close()
        assert seen in ({*names}, {*names, "b/new.mp4"}), step
    push(more, address)
    expected = VideoIndex.build(first, tmp_path / "twin")
    expected.add(more)
    opened = open_index(address)
    assert sorted(opened.paths) == [*names, "b/new.mp4"]
    assert opened.head.num_clips == 5 * 6
    found = opened.search("b/new.mp4"), expected.search("b/new.mp4")
    assert [*map(ranked, found[0])] == [*map(ranked, found[1])]
    opened.close()


def test_bad_rows_are_named_or_left_out(address: str, tmp_path: Path) -> None:
    vectors = np.ones((4, 32), np.float32)
    vectors[2] = 0
    bad = write_features(tmp_path / "1.h5", ["a.mp4", "b.mp4"], replace={"b.mp4": vectors})
    with pytest.raises(DataError, match=r"b\.mp4, clip at 1\.00 s has no direction"):
        push(bad, address)
    change = push(bad, address, skip_bad_rows=True)
    assert change.skipped == ["b.mp4, clip at 1.00 s"]
    opened = open_index(address)
    assert opened.times("b.mp4")[0].tolist() == [0, 0.5, 1.5]
    opened.close()


# ---------------------------------------------------------------------- addresses, commands


def test_tables_of_another_program_are_left_alone(address: str, tmp_path: Path) -> None:
    features = write_features(tmp_path / "f.h5", 2)
    if address.startswith("lance"):
        import lancedb
        import pyarrow as pa

        place = lancedb.connect(address.removeprefix("lance://"))
        place.create_table("clips", data=pa.table({"mine": [1, 2, 3]}))
    else:
        from pymilvus import MilvusClient

        client = MilvusClient(address.removeprefix("milvus://"))
        client.create_collection("vidfeat", dimension=4)
        client.close()
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="another program"):
            push(features, address, overwrite=overwrite)


def test_addresses() -> None:
    assert is_address("lance://a") and is_address("milvus://h/c") and not is_address("a/b")
    for text, told in (
        ("milvus://host:19530", "names no collection"),
        ("milvus://host/a-b", "names no collection"),
        ("qdrant://x", "not the address"),
    ):
        with pytest.raises(UsageError, match=told):
            connect(text)
    with pytest.raises(StoreError, match="give a folder, lance://PATH"):
        open_index("qdrant://x")


def test_nothing_there(address: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="vidfeat push"):
        open_index(address)
    with pytest.raises(StoreError, match="nothing to remove"):
        push(None, address, remove=["a"])
    with pytest.raises(UsageError, match="a feature file"):
        push(None, address)
    with pytest.raises(DataError, match="no clip to push"):
        push(write_features(tmp_path / "none.h5", []), address)


@pytest.mark.parametrize(
    ("package", "address", "extra"),
    [
        ("lancedb", "lance://x", "lance"),
        ("pymilvus", "milvus://h/c", "milvus"),
        ("milvus_lite", "milvus://x.db", "milvus"),
    ],
)
def test_a_missing_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, package: str, address: str, extra: str
) -> None:
    if package == "milvus_lite":
        pytest.importorskip("pymilvus")
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *arguments, **named)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf"vidfeat\[{extra}\]"):
        connect(address)


def test_the_commands(features: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    address = f"lance://{tmp_path}/vectors"
    rows = "".join(f"{path},{label}\n" for path, label in LABELS.items())
    (tmp_path / "labels.csv").write_text(f"path,label\n{rows}")
    runner = CliRunner()
    words = ["push", str(features), address, "--labels", str(tmp_path / "labels.csv")]
    done = runner.invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"{VIDEOS} added, 0 updated, 0 unchanged, 0 removed" in done.output
    query = ["search", address, "a/v000.mp4", "--json", "--only", "b/", "--only-label", "jump"]
    found = runner.invoke(cli, [*query, "--between-seconds", "0", "2"], catch_exceptions=False)
    matches = json.loads(found.stdout)
    assert matches
    assert all(m["video"].startswith("b/") and m["end_seconds"] <= 2 for m in matches)
    shown = runner.invoke(cli, ["info", address], catch_exceptions=False)
    assert f"videos: {VIDEOS}" in shown.output
    gone = runner.invoke(cli, ["push", address, "--remove", "a/", "-q"], catch_exceptions=False)
    assert (gone.exit_code, gone.output) == (0, "")
    refused = runner.invoke(cli, [*query[:3], "--only-label", "swim"])
    assert isinstance(refused.exception, UsageError)
    assert "jump, run" in str(refused.exception)


def test_another_process_opens_a_file_of_milvus_lite_once_all_have_closed_it(
    features: Path, tmp_path: Path
) -> None:
    pytest.importorskip("milvus_lite")
    address = f"milvus://{tmp_path}/v.db"
    push(features, address)
    one, two = open_index(address), open_index(address)
    assert isinstance(one, DatabaseIndex)
    assert isinstance(two, DatabaseIndex)
    info = [sys.executable, "-m", "vidfeat", "info", address]
    one.close()
    assert two.search("a/v000.mp4", 3)
    done = subprocess.run(info, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "open in one process at a time" in done.stderr
    two.close()
    done = subprocess.run(info, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{VIDEOS} videos" in done.stdout


def test_spans() -> None:
    assert spans_of(np.array([1, 2, 3, 7, 9, 10])) == [(1, 4), (7, 8), (9, 11)]
    assert spans_of(np.array([], dtype=np.int64)) == []
