from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.store_fixtures import (
    DIMENSION,
    ENCODER,
    failure_of,
    identity_of,
    make_store,
    record_of,
    rows_of,
)
from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.store.arrays import RowLabels
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import VideoFailure, VideoRecord, require_same_run
from vidfeat.store.writer import StoreWriter, chunk_shape, write_store, writing_store

COUNTS = {"b/two.mp4": 3, "a/one.mp4": 5, "c.mp4": 1, "none.mp4": 0, "ü/ü.mp4": 2}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return make_store(tmp_path / "features.h5", COUNTS, (failure_of("bad.mp4", tries=2),))


# ---------------------------------------------------------------------- the contract, by h5py


def test_the_file_is_what_the_contract_says(features: Path) -> None:
    with h5py.File(features) as file:
        assert file.attrs["format"] == "vidfeat-features"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["encoder"]) == ENCODER
        for name, value in {
            "space_fingerprint": "space",
            "run_fingerprint": "run",
            "source_root": "/videos",
        }.items():
            assert file.attrs[name] == value
        assert file.attrs["vidfeat_version"]
        assert file.attrs["created"].endswith("+00:00")
        assert set(file) == {"vectors", "start_seconds", "end_seconds", "video", "videos", "errors"}
        assert file["vectors"].shape == (11, DIMENSION)
        assert file["vectors"].dtype == np.float32
        assert file["vectors"].compression is None
        assert not file["vectors"].fletcher32
        assert file["start_seconds"].dtype == file["end_seconds"].dtype == np.float64
        paths = file["videos/path"]
        assert h5py.check_string_dtype(paths.dtype).length is None
        assert h5py.check_string_dtype(paths.dtype).encoding == "utf-8"
        assert paths.asstr()[:].tolist() == sorted(COUNTS)
        counts = [COUNTS[path] for path in sorted(COUNTS)]
        assert file["videos/count"][:].tolist() == counts
        assert file["videos/offset"][:].tolist() == [0, 5, 8, 9, 9]
        assert file["video"][:].tolist() == np.repeat(np.arange(5), counts).tolist()
        assert file["video"].dtype == np.int64
        for name in ("offset", "count", "width", "height", "num_frames", "size_bytes", "mtime_ns"):
            assert file[f"videos/{name}"].dtype == np.int64, name
        for name in ("duration_seconds", "fps"):
            assert file[f"videos/{name}"].dtype == np.float64, name
        assert file["videos/num_frames_source"].asstr()[0] == "packets"
        assert {k: v[()].tolist() for k, v in file["errors"].items()} == {
            "path": [b"bad.mp4"],
            "message": [b"bad.mp4 is broken"],
            "kind": [b"damaged"],
            "size_bytes": [1000],
            "mtime_ns": [5],
            "tries": [2],
        }
        for video, path in enumerate(sorted(COUNTS)):
            start = int(file["videos/offset"][video])
            block = file["vectors"][start : start + int(file["videos/count"][video])]
            assert np.array_equal(block, rows_of(path, COUNTS[path]).vectors)


@pytest.mark.parametrize("rows", [1, 5, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("dimension", [1, 8, 512, 2048, 100_000, 1_000_000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_are_neither_tiny_nor_huge(rows: int, dimension: int, dtype: str) -> None:
    shape = chunk_shape(rows, dimension, dtype)
    assert shape is not None
    item = np.dtype(dtype).itemsize
    size = shape[0] * shape[1] * item
    assert size <= 1 << 20
    assert size >= min(10 << 10, rows * dimension * item)


# ---------------------------------------------------------------------- reading


def test_rows_of_a_video(features: Path) -> None:
    with FeatureStore(features) as store:
        assert store.paths == sorted(COUNTS)
        assert (store.num_videos, store.num_clips, store.dimension) == (5, 11, DIMENSION)
        for path, count in COUNTS.items():
            found, wanted = store.read(path), rows_of(path, count)
            assert np.array_equal(found.vectors, wanted.vectors)
            assert np.array_equal(found.start_seconds, wanted.start_seconds)
            assert np.array_equal(found.end_seconds, wanted.end_seconds)
            assert len(range(*store.rows(path).indices(store.num_clips))) == count
            assert path in store
        assert "bad.mp4" not in store
        assert "a/one" not in store
        assert "\udcff" not in store
        assert 3 not in store
        assert store.videos["fps"].tolist() == [25.0] * 5
        assert set(store.videos) >= {"path", "offset", "count", "mtime_ns"}
        assert store.records() == [record_of(path) for path in sorted(COUNTS)]
        assert store.errors == [failure_of("bad.mp4", tries=2)]
        assert store.identity == identity_of()
        assert store.dtype == "float32"
        assert "5 videos, 11 clips" in repr(store)


def test_iteration_gives_every_video_whatever_the_block(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (1, 2, 4, 100):
        monkeypatch.setattr(FeatureStore, "block_rows", lambda self, size=size: size)
        with FeatureStore(features) as store:
            found = dict(store)
            assert list(found) == sorted(COUNTS)
            for path, embeddings in found.items():
                assert np.array_equal(embeddings.vectors, rows_of(path, COUNTS[path]).vectors)
            chunks = list(store.iter_chunks())
            whole = np.concatenate([vectors for _, vectors in chunks])
            assert np.array_equal(whole, store.read_rows(slice(0, 11)).vectors)
            assert [first for first, _ in chunks] == list(range(0, 11, size))


def test_unknown_and_failed_videos_are_told_apart(features: Path) -> None:
    with FeatureStore(features) as store:
        with pytest.raises(StoreError, match=r"relative to the root.*a/one\.mp4"):
            store.read("one.mp4")
        with pytest.raises(StoreError, match="could not be read"):
            store.read("bad.mp4")


def test_a_closed_store_says_so(features: Path) -> None:
    store = FeatureStore(features)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read("c.mp4")


def test_an_empty_store(tmp_path: Path) -> None:
    with FeatureStore(make_store(tmp_path / "none.h5", {})) as store:
        assert store.paths == []
        assert list(store) == []
        assert list(store.iter_chunks()) == []
        X, y, groups = store.to_arrays()
        assert X.shape == (0, DIMENSION)
        assert y is None
        assert len(groups) == 0
        with pytest.raises(StoreError, match="no video"):
            store.read("a.mp4")


def test_float16_is_kept_and_arrays_are_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.h5"
    half = rows_of("a", 4).vectors.astype(np.float16)
    seconds = np.arange(4.0)
    write_store(
        path, identity_of(dtype="float16"), [(record_of("a"), Embeddings(half, seconds, seconds))]
    )
    with FeatureStore(path) as store:
        assert store.dtype == "float16"
        assert store.read("a").vectors.dtype == np.float16
        X, _, _ = store.to_arrays()
        assert X.dtype == np.float32
        assert np.array_equal(X, half.astype(np.float32))
    with h5py.File(path) as file:
        assert file["vectors"].dtype == np.float16


def _read_elsewhere(store: FeatureStore) -> Any:
    return store.read("c.mp4").vectors.tolist()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_another_process_opens_the_file_itself(features: Path, method: str) -> None:
    with FeatureStore(features) as store:
        wanted = store.read("c.mp4").vectors.tolist()
        with multiprocessing.get_context(method).Pool(1) as pool:
            # a task whose process ends is never answered
            assert pool.apply_async(_read_elsewhere, (store,)).get(timeout=120) == wanted
        assert store.read("c.mp4").vectors.tolist() == wanted
    with pickle.loads(pickle.dumps(FeatureStore(features))) as again:
        assert again.read("c.mp4").vectors.tolist() == wanted


def test_where_the_file_of_a_video_is(tmp_path: Path) -> None:
    counts = {"caf%E9.mp4": 1, "../out.mp4": 1, "/etc/x.mp4": 1}
    with FeatureStore(make_store(tmp_path / "f.h5", counts)) as store:
        assert store.local_path("caf%E9.mp4") == Path("/videos/caf\udce9.mp4")
        assert store.local_path("caf%E9.mp4", "/else") == Path("/else/caf\udce9.mp4")
        for path in ("../out.mp4", "/etc/x.mp4"):
            with pytest.raises(StoreError, match="leads out"):
                store.local_path(path)


# ---------------------------------------------------------------------- arrays


def test_arrays_with_and_without_labels(features: Path) -> None:
    with FeatureStore(features) as store:
        whole = store.read_rows(slice(0, 11)).vectors
        X, y, groups = store.to_arrays()
        assert np.array_equal(X, whole)
        assert y is None
        assert groups.tolist() == [0] * 5 + [1] * 3 + [2] + [4] * 2

        X, y, groups = store.to_arrays({"ü/ü.mp4": "u", "a/one.mp4": "a", "gone.mp4": "x"})
        assert y is not None
        assert np.array_equal(X, np.concatenate([whole[:5], whole[9:]]))
        assert y.tolist() == ["a"] * 5 + ["u"] * 2
        assert groups.tolist() == [0] * 5 + [4] * 2

        X, y, groups = store.to_arrays({"ü/ü.mp4": 1, "a/one.mp4": 0}, pooled="mean")
        assert y is not None
        assert np.allclose(X, [whole[:5].mean(axis=0), whole[9:].mean(axis=0)], atol=1e-6)
        assert y.tolist() == [0, 1]
        assert groups.tolist() == [0, 4]

        X, y, _ = store.to_arrays(pooled="mean")
        assert X.shape == (4, DIMENSION)  # the video without clips has no mean
        assert y is None


class _Rows:
    def __init__(self, *values: Any) -> None:
        self.values = values

    def resolve(self, store: FeatureStore) -> RowLabels:
        return RowLabels(*self.values)


def test_labels_that_know_their_rows(features: Path) -> None:
    rows = np.array([7, 0, 1, 10])
    with FeatureStore(features) as store:
        whole = store.read_rows(slice(0, 11)).vectors
        X, y, groups = store.to_arrays(_Rows(rows, np.array(list("abbc")), np.array([9, 8, 8, 7])))
        assert y is not None
        assert np.array_equal(X, whole[rows])
        assert (y.tolist(), groups.tolist()) == (list("abbc"), [9, 8, 8, 7])
        X, y, groups = store.to_arrays(_Rows(rows, np.array(list("abbc"))), pooled="mean")
        assert y is not None
        assert np.allclose(X, [whole[:2].mean(axis=0), whole[7], whole[10]], atol=1e-6)
        assert (y.tolist(), groups.tolist()) == (["b", "a", "c"], [0, 1, 4])
        with pytest.raises(DataError, match="several labels"):
            store.to_arrays(_Rows(rows, np.array(list("abcd"))), pooled="mean")
        with pytest.raises(DataError, match="row 11 was requested"):
            store.to_arrays(_Rows(np.array([11]), np.array(["a"])))
        with pytest.raises(DataError, match="3 labels for 4 rows"):
            store.to_arrays(_Rows(rows, np.array(list("abc"))))


def test_labels_that_fit_nothing(features: Path) -> None:
    with FeatureStore(features) as store:
        with pytest.raises(DataError, match=r"none of the 1 labelled paths.*relative to the root"):
            store.to_arrays({"one.mp4": "a"})
        with pytest.raises(DataError, match="mapping"):
            store.to_arrays([1, 2])
        with pytest.raises(UsageError, match="pooled"):
            store.to_arrays(pooled="max")  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_rows_in_any_order(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.h5"
    if not path.exists():
        make_store(path, {f"{n:03d}.mp4": n % 7 for n in range(300)})
    with FeatureStore(path) as store:
        rows = np.array(
            data.draw(st.lists(st.integers(0, store.num_clips - 1), max_size=40)), dtype=np.int64
        )
        X, _, groups = store.to_arrays(_Rows(rows, np.zeros(len(rows))))
        assert np.array_equal(X, store.read_rows(slice(None)).vectors[rows])
        assert np.array_equal(groups, store.read_column("video")[rows])


# ---------------------------------------------------------------------- refused


def _edit(path: Path, change: Any) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _replace(file: Any, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


def _external_link(file: Any) -> None:
    del file["vectors"]
    file["vectors"] = h5py.ExternalLink("/etc/passwd", "/x")


def _soft_link(file: Any) -> None:
    del file["video"]
    file["video"] = h5py.SoftLink("/videos/path")


def _external_storage(file: Any) -> None:
    del file["end_seconds"]
    file.create_dataset("end_seconds", (11,), "float64", external=[("/etc/hostname", 0, 88)])


def _virtual(file: Any) -> None:
    del file["end_seconds"]
    layout = h5py.VirtualLayout((11,), "float64")
    layout[:] = h5py.VirtualSource("other.h5", "x", (11,))
    file.create_virtual_dataset("end_seconds", layout)


def _unwritten(file: Any) -> None:
    del file["vectors"]
    file.create_dataset("vectors", (11, 1 << 40), "float32", chunks=(1, 1024))


HOSTILE: dict[str, tuple[Any, str]] = {
    "another format": (lambda f: f.attrs.__setitem__("format", "other"), "not a feature file"),
    "no format": (lambda f: f.attrs.__delitem__("format"), "not a feature file"),
    "newer": (lambda f: f.attrs.__setitem__("format_version", 2), "update vidfeat"),
    "odd version": (lambda f: f.attrs.__setitem__("format_version", "1"), "format_version"),
    "no fingerprint": (lambda f: f.attrs.__delitem__("run_fingerprint"), "run_fingerprint"),
    "encoder is a list": (lambda f: f.attrs.__setitem__("encoder", "[1]"), "not a JSON object"),
    "encoder is no JSON": (lambda f: f.attrs.__setitem__("encoder", "{"), "damaged"),
    "external link": (_external_link, "is a link"),
    "soft link": (_soft_link, "is a link"),
    "external storage": (_external_storage, "another file"),
    "virtual": (_virtual, "another file"),
    "claims more than is there": (_unwritten, "claims"),
    "no vectors": (lambda f: f.__delitem__("vectors"), "no /vectors"),
    "vectors of another type": (lambda f: _replace(f, "vectors", np.zeros((11, 2))), "float64"),
    "flat vectors": (lambda f: _replace(f, "vectors", np.zeros(11, np.float32)), r"shape \(11,\)"),
    "a row too few": (lambda f: _replace(f, "start_seconds", np.zeros(10)), r"\(10,\)"),
    "a video too few": (lambda f: _replace(f, "videos/fps", np.zeros(4)), r"\(4,\)"),
    "text for numbers": (lambda f: _replace(f, "videos/width", np.zeros(5)), "float64"),
    "numbers for text": (lambda f: _replace(f, "videos/path", np.arange(5)), "expected strings"),
    "a scalar": (lambda f: _replace(f, "videos/fps", 1.0), "not a column"),
    "a group for a column": (
        lambda f: (f.__delitem__("video"), f.create_group("video")),
        "not a column",
    ),
    "a column for a group": (lambda f: _replace(f, "errors", np.zeros(1)), "not a group"),
    "outside": (lambda f: f["videos/offset"].__setitem__(4, 10), "outside"),
    "negative": (lambda f: f["videos/offset"].__setitem__(0, -1), "outside"),
    "negative count": (lambda f: f["videos/count"].__setitem__(0, -1), "outside"),
    "overflow": (lambda f: f["videos/count"].__setitem__(4, 2**63 - 1), "outside"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_a_line(features: Path, name: str) -> None:
    change, told = HOSTILE[name]
    _edit(features, change)
    with pytest.raises(StoreError, match=told) as caught:
        FeatureStore(features)
    assert "\n" not in str(caught.value)
    assert "features.h5" in str(caught.value)


def test_files_that_are_no_stores(tmp_path: Path, features: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "empty.h5").touch()
    short = tmp_path / "short.h5"
    short.write_bytes(features.read_bytes()[:3000])
    for name, told in {
        "text.h5": "not an HDF5",
        "folder.h5": "is not a file",
        "empty.h5": "not an HDF5",
        "short.h5": "cut short",
        "absent.h5": "does not exist",
    }.items():
        with pytest.raises(StoreError, match=told):
            FeatureStore(tmp_path / name)


def _read_damaged(whole: bytes, path: Path, seeds: range, told: Any) -> None:
    """In a child process: HDF5 itself may crash on such a file, and that is not ours to test."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        bad = bytearray(whole)
        for at in generator.integers(0, len(whole), 8):
            bad[at] ^= int(generator.integers(1, 256))
        path.write_bytes(bad)
        try:
            with FeatureStore(path) as store:
                dict(store)
                _ = store.errors, store.records(), store.videos["path"]
        except StoreError as error:
            assert "\n" not in str(error)
        except Exception as error:
            told.put(f"{seed}: {error!r}")
            return


def test_flipped_bytes_raise_nothing_but_our_error(tmp_path: Path, features: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    child = context.Process(
        target=_read_damaged, args=(features.read_bytes(), tmp_path / "bad.h5", range(60), told)
    )
    child.start()
    child.join(60)
    child.kill()
    child.join()
    assert told.empty(), told.get()


def test_a_path_that_occurs_twice_is_told(features: Path) -> None:
    _edit(features, lambda f: f["videos/path"].__setitem__(1, "a/one.mp4"))
    with FeatureStore(features) as store, pytest.raises(StoreError, match="twice"):
        store.read("c.mp4")


# ---------------------------------------------------------------------- size


def test_a_store_of_100_000_videos_is_opened_without_its_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = 100_000
    path = tmp_path / "large.h5"
    records = [record_of(f"class {n % 97:02d}/video {n:06d}.mp4") for n in range(videos)]
    records.sort(key=lambda record: record.path)
    identity = identity_of()
    seconds = np.arange(videos * 2, dtype=np.float64)
    with writing_store(path, identity, records, [2] * videos) as writer:
        vectors = np.repeat(seconds[:, None], DIMENSION, axis=1).astype(np.float32)
        writer.append(vectors, seconds, seconds + 1)

    read: list[tuple[str, int]] = []
    original = h5py.Dataset.__getitem__

    def counted(self: Any, *arguments: Any) -> Any:
        values = original(self, *arguments)
        read.append((self.name, np.size(values)))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    with FeatureStore(path) as store:
        assert {name for name, _ in read} <= {"/videos/offset", "/videos/count"}
        read.clear()
        wanted = 12_345
        found = store.read(records[wanted].path)
        assert found.vectors[:, 0].tolist() == [2 * wanted, 2 * wanted + 1]
        assert sorted(read) == [
            ("/end_seconds", 2),
            ("/start_seconds", 2),
            ("/vectors", 2 * DIMENSION),
            ("/videos/count", videos),
            ("/videos/offset", videos),
            ("/videos/path", videos),
        ]
        read.clear()
        for number in range(0, videos, 1000):
            store.read(records[number].path)
        assert sum(size for _, size in read) == 100 * (2 + 2 + 2 * DIMENSION)


# ---------------------------------------------------------------------- small things


def test_embeddings_check_their_shapes() -> None:
    good = rows_of("a", 3)
    assert repr(good) == f"Embeddings(vectors (3, {DIMENSION}) float32, 0.00 s to 1.50 s)"
    assert np.allclose(good.mean(), good.vectors.mean(axis=0), atol=1e-6)
    assert good.mean().dtype == np.float32
    for vectors, seconds, told in (
        (np.zeros(3, np.float32), np.zeros(3), r"shape \(3,\)"),
        (np.zeros((3, 2)), np.zeros(3), "float64"),
        (np.zeros((3, 2), np.float32), np.zeros(2), r"start_seconds has shape \(2,\)"),
    ):
        with pytest.raises(DataError, match=told):
            Embeddings(vectors, seconds, np.zeros(3))
    with pytest.raises(DataError, match="without embeddings"):
        rows_of("a", 0).mean()


def test_records_and_failures_check_their_text() -> None:
    with pytest.raises(DataError, match="path_to_identity"):
        record_of("caf\udce9.mp4")
    with pytest.raises(DataError, match="empty"):
        failure_of("")
    with pytest.raises(DataError, match="num_frames_source"):
        VideoRecord("a", 1.0, 1.0, 1, 1, 1, "header", 1, 1)
    with pytest.raises(DataError, match="0 tries"):
        failure_of("a", tries=0)
    message = VideoFailure("a", "two\nlines\x00 and \udcff", "damaged", 1, 1).message
    assert message == "two lines and \ufffd"


def test_what_differs_between_two_runs_is_named() -> None:
    changed = {**ENCODER, "plan": {"frames": 32, "stride": 1, "hop_seconds": 1.0}}
    with pytest.raises(FingerprintError) as caught:
        require_same_run(
            identity_of(), identity_of(run_fingerprint="other", encoder=changed), "old.h5"
        )
    told = str(caught.value)
    assert told.startswith("old.h5 was made with other settings: plan.frames was 16, is 32")
    assert "plan.hop_frames was 16, is not set" in told
    assert "plan.hop_seconds was not set, is 1.0" in told
    assert "overwrite=True" in told
    with pytest.raises(FingerprintError, match='dtype was "float32", is "float16"'):
        require_same_run(identity_of(), identity_of(dtype="float16"), "old.h5")
    with pytest.raises(FingerprintError, match="run_fingerprint was run, is other"):
        require_same_run(identity_of(), identity_of(run_fingerprint="other"), "old.h5")
    require_same_run(identity_of(), identity_of(source_root="/else"), "old.h5")


def test_a_writer_that_gets_too_few_or_too_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    rows = rows_of("a", 3)
    for wanted, told in ((4, "3 rows were written"), (2, "more rows than the 2")):
        with (
            pytest.raises(DataError, match=told),
            writing_store(path, identity_of(), [record_of("a")], [wanted]) as writer,
        ):
            writer.append(rows.vectors, rows.start_seconds, rows.end_seconds)
    with (
        pytest.raises(DataError, match="sorted"),
        writing_store(path, identity_of(), [record_of("b"), record_of("a")], [0, 0]),
    ):
        pass
    with pytest.raises(DataError, match="expected 7"):
        write_store(path, identity_of(dimension=7), [(record_of("a"), rows)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sizes", [[7, 1, 500, 3], [1] * 50, [256], [255, 2, 300]])
def test_blocks_of_any_size_give_the_same_file(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidfeat.store.writer.CHUNK_BYTES", 256 * DIMENSION * 4)
    monkeypatch.setattr("vidfeat.store.writer._Seconds.BLOCK", 100)
    rows = rows_of("a", sum(sizes))
    path = tmp_path / "f.h5"
    with writing_store(path, identity_of(), [record_of("a")], [len(rows)]) as writer:
        assert isinstance(writer, StoreWriter)
        at = 0
        for size in sizes:
            block = slice(at, at + size)
            writer.append(rows.vectors[block], rows.start_seconds[block], rows.end_seconds[block])
            at += size
    with FeatureStore(path) as store:
        found = store.read("a")
        assert np.array_equal(found.vectors, rows.vectors)
        assert np.array_equal(found.start_seconds, rows.start_seconds)
