"""Joining the features of several networks: rows by video and seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.store_fixtures import failure_of, identity_of, make_store, record_of, rows_of
from vidfeat.datasets.labels import LabelRow, Labels
from vidfeat.datasets.samples import collect
from vidfeat.errors import StoreError, UsageError
from vidfeat.store import join
from vidfeat.store.describe import describe_store, store_in_words
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.join import join_stores
from vidfeat.store.matching import Spans, match_rows
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store

SECOND = {
    "encoder": {"model": "clip", "weights": "openai", "plan": {"frames": 1}, "licence": "mit"},
    "space_fingerprint": "space-2",
    "run_fingerprint": "run-2",
}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def spans(*pairs: tuple[float, float]) -> Spans:
    values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Spans(0, values[:, 0], values[:, 1])


# ---------------------------------------------------------------------- which rows are partners


@pytest.mark.parametrize(
    ("left", "right", "match", "tolerance", "expected"),
    [
        # the same grid
        ([(0, 1), (1, 2)], [(0, 1), (1, 2)], "span", 0.04, [(0, 0), (1, 1)]),
        # a row is missing at the start: the others do not shift
        ([(0, 1), (1, 2), (2, 3)], [(1, 2), (2, 3)], "span", 1.0, [(1, 0), (2, 1)]),
        # every second row
        ([(0, 1), (0.5, 1.5), (1, 2)], [(0, 1), (1, 2)], "span", 0.04, [(0, 0), (2, 1)]),
        # windows of other lengths
        ([(0, 2), (2, 4)], [(0, 2.13), (2, 4.13)], "span", 0.04, []),
        ([(0, 2), (2, 4)], [(0, 2.13), (2, 4.13)], "start", 0.04, [(0, 0), (1, 1)]),
        ([(0, 2), (2, 4)], [(0.9, 1.1), (2.9, 3.1)], "centre", 0.04, [(0, 0), (1, 1)]),
        # ten crops of one clip: one by one, in their order
        ([(0, 1)] * 3 + [(1, 2)], [(0, 1)] * 2 + [(1, 2)], "span", 0, [(0, 0), (1, 1), (3, 2)]),
        # segments in the order of a file
        ([(3, 4), (0, 1)], [(0, 1), (3, 4)], "span", 0.04, [(0, 1), (1, 0)]),
        ([], [(0, 1)], "span", 0.04, []),
    ],
)
def test_partners(left: Any, right: Any, match: Any, tolerance: float, expected: Any) -> None:
    found = match_rows([spans(*left), spans(*right)], match, tolerance)
    assert found.T.tolist() == [list(pair) for pair in expected]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12),
    st.lists(st.integers(0, 30), unique=True, max_size=12),
    st.lists(st.integers(0, 30), unique=True, max_size=12),
    st.floats(0, 0.9),
)
def test_partners_of_a_grid_are_what_is_in_all(
    first: list[int], second: list[int], third: list[int], tolerance: float
) -> None:
    files = [sorted(first), sorted(second), sorted(third)]
    held = [spans(*[(n * 0.64, n * 0.64 + 1.28) for n in file]) for file in files]
    found = match_rows(held, "span", tolerance * 0.64)
    together = [[file[row] for row in rows] for file, rows in zip(files, found, strict=True)]
    shared = sorted(set(first) & set(second) & set(third))
    assert together == [shared] * 3


# ---------------------------------------------------------------------- the file


@pytest.mark.parametrize("scale", ["unit", "none"])
def test_rows_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    monkeypatch.setattr(FeatureStore, "block_rows", lambda self: 4)  # several blocks
    counts = {"a": 3, "b": 0, "c": 11, "d": 2, "only": 1}
    first = make_store(tmp_path / "a.h5", counts, (failure_of("bad"),))
    counts.pop("only")
    second = make_store(
        tmp_path / "b.h5", counts | {"0": 2}, (failure_of("bad"), failure_of("only")), 9, **SECOND
    )
    told: list[tuple[int, int]] = []
    report = join_stores(
        [first, second],
        tmp_path / "ab.h5",
        scale=scale,
        progress=lambda done, total: told.append((done, total)),
    )
    assert (report.videos, report.clips, report.dimension) == (4, 16, 12)
    assert told[-1] == (16, 16)
    with FeatureStore(tmp_path / "ab.h5") as store:
        assert store.paths == ["a", "b", "c", "d"]
        for path in store.paths:
            held = store.read(path)
            parts = [rows_of(path, counts[path], 0, seed).vectors for seed in (0, 9)]
            if scale == "unit":
                parts = [unit(part) for part in parts]
            assert held.vectors == pytest.approx(np.concatenate(parts, axis=1), abs=1e-6)
            assert held.start_seconds == pytest.approx(np.arange(counts[path]) * 0.5)
        assert {failure.path for failure in store.errors} == {"bad", "only"}
        assert store.encoder["scale"] == scale
        assert store.encoder["model"] == "r2plus1d_18 + clip"
        labels = Labels(tuple(LabelRow(path=path, label=path) for path in "acd"), source="x")
        assert collect(store, labels).parts == (6, 6)
        assert [part["space_fingerprint"] for part in store.encoder["joined"]] == [
            "space",
            "space-2",
        ]
    assert any("1 video left out" in line and "'only'" in line for line in report.warnings)
    assert any("1 video left out" in line and "'0'" in line for line in report.warnings)
    words = "\n".join(store_in_words(describe_store(tmp_path / "ab.h5")))
    assert "clip, weights openai: numbers 6 to 11" in words
    assert "mit (of the weights)" in words


def test_fingerprints_tell_order_scale_and_parts(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.h5", {"a": 2})
    second = make_store(tmp_path / "b.h5", {"a": 2}, **SECOND)
    other = make_store(tmp_path / "c.h5", {"a": 2}, **SECOND | {"run_fingerprint": "run-3"})

    def prints(*files: Path, scale: str = "unit") -> tuple[str, str]:
        join_stores(files, tmp_path / "out.h5", scale=scale, overwrite=True)
        with FeatureStore(tmp_path / "out.h5") as store:
            return store.space_fingerprint, store.run_fingerprint

    base = prints(first, second)
    assert base == prints(first, second)
    assert len({base[0], prints(second, first)[0], prints(first, second, scale="none")[0]}) == 3
    space, run = prints(first, other)  # another hop or precision: comparable, another run
    assert (space == base[0], run == base[1]) == (True, False)


def shifted(path: Path, rows: list[tuple[float, float]], size: int = 1000) -> Path:
    times = np.array(rows)
    vectors = np.random.default_rng(0).standard_normal((len(rows), 6)).astype(np.float32)
    video = (record_of("a", size), Embeddings(vectors, times[:, 0], times[:, 1]))
    write_store(path, identity_of(**SECOND), [video])
    return path


def test_rows_without_a_partner_are_told(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.h5", {"a": 4})  # 0.5 s side by side
    second = shifted(tmp_path / "b.h5", [(0, 0.5), (0.5, 1), (1.5, 2), (1.7, 2.2)], size=999)
    report = join_stores([first, second], tmp_path / "ab.h5")
    assert report.clips == 3
    told = "\n".join(report.warnings)
    assert f"{first}: 1 row left out, without a partner: 'a' at 1.000 to 1.500 s" in told
    assert f"{second}: 1 row left out, without a partner: 'a' at 1.700 to 2.200 s" in told
    assert "another size" in told


def test_inputs_of_one_network_are_reported(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.h5", {"a": 2})
    second = make_store(tmp_path / "b.h5", {"a": 2}, run_fingerprint="bf16")
    third = make_store(tmp_path / "c.h5", {"a": 2}, **SECOND)
    report = join_stores([third, first, second], tmp_path / "abc.h5")
    (warning,) = report.warnings
    assert warning.startswith(f"{first} and {second} are from the same network")


def test_other_grids_are_refused(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.h5", {"a": 4})
    second = shifted(tmp_path / "b.h5", [(n * 0.5, n * 0.5 + 0.8) for n in range(4)])
    told = r"every 0\.500 s, 0\.500 s long.*0\.800 s long.*match=start"
    with pytest.raises(StoreError, match=told):
        join_stores([first, second], tmp_path / "ab.h5")
    assert not (tmp_path / "ab.h5").exists()
    assert join_stores([first, second], tmp_path / "ab.h5", match="start").clips == 4
    with FeatureStore(tmp_path / "ab.h5") as store:  # what both cover
        assert store.read("a").end_seconds == pytest.approx([0.8, 1.3, 1.8, 2.3])


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.h5", {"a": 2}, shards="1/2")
    second = make_store(tmp_path / "b.h5", {"a": 2}, shards="2/2", **SECOND)
    strange = make_store(tmp_path / "c.h5", {"x/a": 2}, **SECOND)
    out = tmp_path / "out.h5"
    for inputs, options, kind, message in (
        ([first], {}, UsageError, "two or more"),
        ([first, second, tmp_path / "x" / ".." / "a.h5"], {}, UsageError, "a.h5 is given twice"),
        ([first, out], {}, UsageError, "choose another output"),
        ([first, second], {"scale": "l1"}, UsageError, "unit or none"),
        ([first, second], {"match": "end"}, UsageError, "span, start, centre"),
        ([first, second], {"tolerance_seconds": -1.0}, UsageError, "0 or more"),
        ([first, second], {}, StoreError, "merge the shards"),
        ([first, strange], {}, StoreError, "no video in common"),
    ):
        with pytest.raises(kind, match=message):
            join_stores(inputs, out, **options)  # type: ignore[arg-type]
    make_store(out, {"a": 1})
    with pytest.raises(StoreError, match="overwrite=True"):
        join_stores([first, make_store(tmp_path / "d.h5", {"a": 2}, **SECOND)], out)


def test_zero_vectors_stay_zero() -> None:
    found = join.join_vectors([np.zeros((1, 2)), np.array([[3.0, 4.0]])], unit=True)
    assert found.tolist() == [[0, 0, pytest.approx(0.6), pytest.approx(0.8)]]
