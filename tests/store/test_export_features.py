from __future__ import annotations

import builtins
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.store_fixtures import (
    DIMENSION,
    failure_of,
    identity_of,
    make_store,
    record_of,
    rows_of,
)
from vidfeat.cli import cli
from vidfeat.errors import MissingExtraError, StoreError, UsageError
from vidfeat.store.clip_ids import ClipIds
from vidfeat.store.describe import describe_store, store_in_words
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.export import export_npy
from vidfeat.store.file_names import file_names
from vidfeat.store.parquet import export_parquet
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store

COUNTS = {"a/one.mp4": 3, "a/one.avi": 2, 'b c/ü, "x"\n.mp4': 1, "none.mp4": 0, "caf%E9.mp4": 2}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return make_store(tmp_path / "features.h5", COUNTS, (failure_of("bad.mp4"),))


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


# ---------------------------------------------------------------------- npy


def test_a_file_a_video_and_the_seconds_beside_it(tmp_path: Path, features: Path) -> None:
    folder = tmp_path / "deep" / "npy"
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"progress": lambda *done: told.append(done)}
    assert export_npy(features, folder, keep_extensions=True, **options) == 5
    assert told == [(n, 5) for n in range(1, 6)]
    assert files_below(folder) == {f"{path}.npy" for path in COUNTS} | {"index.csv", "index.json"}
    for path, count in COUNTS.items():
        found = np.load(folder / f"{path}.npy", allow_pickle=False)
        assert np.array_equal(found, rows_of(path, count).vectors)
    with (folder / "index.csv").open(newline="", encoding="utf-8") as index:
        lines = list(csv.DictReader(index))
    assert len(lines) == sum(COUNTS.values())
    for line in lines:
        rows = rows_of(line["path"], COUNTS[line["path"]])
        row = int(line["row"])
        assert line["file"] == f"{line['path']}.npy"
        assert float(line["start_seconds"]) == rows.start_seconds[row]
        assert float(line["end_seconds"]) == rows.end_seconds[row]
    about = json.loads((folder / "index.json").read_text("utf-8"))
    assert (about["videos"], about["clips"], about["run_fingerprint"]) == (5, 8, "run")


@pytest.mark.parametrize("path", ["../out", "/abs", "a/../../out", "a//b", "./a", "..", "a/.."])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    features = make_store(tmp_path / "bad.h5", {path: 1, "fine": 1})
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(StoreError, match="leads out"):
        export_npy(features, inside / "npy", keep_extensions=True)
    assert list(inside.iterdir()) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.h5", "inside"]


def test_names_that_collide_or_are_too_long(tmp_path: Path) -> None:
    long = "ü" * 127 + ".mp4"
    paths = ["a", "a.npy/b", "d/" + long, "d/" + "ü" * 127 + ".avi"]
    features = make_store(tmp_path / "f.h5", dict.fromkeys(paths, 1))
    names = file_names(paths, "f.h5", keep_extensions=True)
    assert len(set(names.values())) == len(paths)
    assert names["a"].startswith("a~")
    assert names["a.npy/b"] == "a.npy/b.npy"
    assert all(len(Path(name).name.encode()) <= 255 for name in names.values())
    with pytest.raises(StoreError, match="too long"):
        file_names(["x" * 256 + "/a"], "f.h5")
    with pytest.raises(StoreError, match="a file of the export itself"):
        file_names(["index.csv/x"], "f.h5", reserved=("index.csv",))
    export_npy(features, tmp_path / "npy")
    with (tmp_path / "npy" / "index.csv").open(newline="", encoding="utf-8") as index:
        for line in csv.DictReader(index):
            found = np.load(tmp_path / "npy" / line["file"], allow_pickle=False)
            assert np.array_equal(found, rows_of(line["path"], 1).vectors)


def test_folders_with_other_things_are_left_alone(tmp_path: Path, features: Path) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    export_npy(features, folder, keep_extensions=True)  # an empty one will do
    with pytest.raises(StoreError, match="overwrite=True"):
        export_npy(features, folder, keep_extensions=True)
    smaller = make_store(tmp_path / "smaller.h5", {"a/one.mp4": 1})
    export_npy(smaller, folder, overwrite=True)
    assert files_below(folder) == {"a/one.npy", "index.csv", "index.json"}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    (mine / "index.json").write_bytes(b"\xff{}")
    with pytest.raises(StoreError, match="other files"):
        export_npy(smaller, mine, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "years"
    with pytest.raises(StoreError, match="not a folder"):
        export_npy(smaller, mine / "thesis.txt", overwrite=True)


# ---------------------------------------------------------------------- parquet


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_table_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    monkeypatch.setattr("vidfeat.store.parquet._ROW_GROUP_BYTES", 3 * 4 * DIMENSION)
    features = tmp_path / "f.h5"
    videos = []
    for path, count in COUNTS.items():
        rows = rows_of(path, count)
        rows = Embeddings(rows.vectors.astype(dtype), rows.start_seconds, rows.end_seconds)
        videos.append((record_of(path), rows))
    write_store(features, identity_of(dtype=dtype), videos)
    file = tmp_path / "f.parquet"
    assert export_parquet(features, file) == 8
    assert parquet.ParquetFile(file).num_row_groups == 3
    table = parquet.read_table(file)
    assert table.column_names == ["clip_id", "path", "start_seconds", "end_seconds", "vector"]
    assert str(table.schema.field("vector").type).startswith("fixed_size_list<")
    assert len(set(table["clip_id"].to_pylist())) == 8
    with FeatureStore(features) as store:
        X, _, groups = store.to_arrays()
        assert table["path"].to_pylist() == [store.paths[video] for video in groups]
        rows = store.read_rows(slice(0, 8))
    assert np.array_equal(np.array(table["vector"].to_pylist(), dtype=np.float32), X)
    assert table["start_seconds"].to_pylist() == rows.start_seconds.tolist()
    assert table["end_seconds"].to_pylist() == rows.end_seconds.tolist()
    assert table.schema.metadata[b"vidfeat.run_fingerprint"] == b"run"
    with pytest.raises(StoreError, match="overwrite=True"):
        export_parquet(features, file)
    export_parquet(make_store(tmp_path / "none.h5", {}), file, overwrite=True)
    assert parquet.read_table(file).num_rows == 0


def test_several_files_have_the_rows_of_one(tmp_path: Path, features: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    export_parquet(features, tmp_path / "one.parquet")
    assert export_parquet(features, tmp_path / "many", rows_per_file=3) == 8
    assert files_below(tmp_path / "many") == {f"part-{n:05d}.parquet" for n in range(3)}
    whole = parquet.read_table(tmp_path / "many")  # as autofaiss and Spark read a folder
    assert whole.equals(parquet.read_table(tmp_path / "one.parquet"))
    with pytest.raises(StoreError, match="overwrite=True"):
        export_parquet(features, tmp_path / "many", rows_per_file=5)
    export_parquet(features, tmp_path / "many", rows_per_file=5, overwrite=True)
    assert len(files_below(tmp_path / "many")) == 2
    with pytest.raises(StoreError, match="is a folder"):
        export_parquet(features, tmp_path / "many", overwrite=True)
    (tmp_path / "many" / "notes.txt").touch()
    with pytest.raises(StoreError, match="other files"):
        export_parquet(features, tmp_path / "many", rows_per_file=5, overwrite=True)
    with pytest.raises(UsageError, match="1 or more"):
        export_parquet(features, tmp_path / "none", rows_per_file=0)


def test_clip_ids_are_the_same_wherever_a_clip_stands() -> None:
    paths, start, end = ["a", "a", "a", "b"], [0.0, 0.5, 0.5, 0.5], [0.5, 1.0, 1.0, 1.0]
    ids = ClipIds().of(paths, start, end)
    assert len(set(ids)) == 4  # two views of one clip are two rows
    assert ClipIds().of(paths[3:], start[3:], end[3:]) == ids[3:]
    one_by_one = ClipIds()
    rows = zip(paths, start, end, strict=True)
    assert [one_by_one.of([p], [s], [e])[0] for p, s, e in rows] == ids
    assert ids[0] == "896506a03d904a1b7e5da46a38cabebc"  # of every version: databases keep them


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return original(name, *arguments, **named)

    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"vidfeat\[parquet\]"):
        export_parquet(features, tmp_path / "f.parquet")


# ---------------------------------------------------------------------- commands and words


def test_the_commands(tmp_path: Path, features: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    runner = CliRunner()
    folder, table = tmp_path / "npy", tmp_path / "f.parquet"
    words = ["export-features", str(features), "--keep-extensions"]
    words += ["--npy-per-video", str(folder), "--parquet", str(table)]
    done = runner.invoke(
        cli,
        words,
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "5 npy files" in done.output
    assert "8 rows" in done.output
    shared = runner.invoke(cli, ["export-features", str(features), "--npy-per-video", "npy"])
    assert "'a/one.avi' and 'a/one.mp4' would both be a/one.npy" in str(shared.exception)
    nothing = runner.invoke(cli, ["export-features", str(features)])
    assert nothing.exit_code == 2
    assert "--npy-per-video" in nothing.output
    other = make_store(tmp_path / "other.h5", {"z": 2})
    merged = tmp_path / "merged.h5"
    done = runner.invoke(
        cli, ["merge", str(features), str(other), "-o", str(merged)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "6 videos, 10 clips and 1 error of 2 shards" in done.output
    with FeatureStore(merged) as store:
        assert store.paths == sorted([*COUNTS, "z"])


def test_what_a_file_holds_in_words_and_as_json(tmp_path: Path, features: Path) -> None:
    described = describe_store(features)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert (described["videos"], described["clips"], described["errors"]) == (5, 8, 1)
    assert described["clips_per_video"] == {"least": 0, "median": 2.0, "most": 3}
    assert described["errors_by_kind"] == {"damaged": 1}
    text = "\n".join(store_in_words(described))
    for told in (
        "features of 5 videos, 8 clips of 6 dimensions (float32)",
        "footage          20 s",
        "plan.hop_frames  16",
        "1 damaged",
        "'bad.mp4': bad.mp4 is broken",
    ):
        assert told in text
    empty = describe_store(make_store(tmp_path / "none.h5", {}))
    assert ["failures", "none"] in [line.split() for line in store_in_words(empty)]
    assert empty["clips_per_video"] is None
