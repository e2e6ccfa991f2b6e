from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.store_fixtures import (
    DIMENSION,
    failure_of,
    identity_of,
    part_of,
    record_of,
    rows_of,
    segment_of,
)
from vidfeat.errors import DataError, FingerprintError, StoreError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import (
    DamagedPartError,
    Part,
    PartHeader,
    PartReader,
    open_parts,
    parts_folder,
    read_header,
    segments_to_columns,
    write_part,
)
from vidfeat.store.parts_summary import scan_parts, summarize, without_bad_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return open_parts(tmp_path / "features.h5", identity_of())


# ---------------------------------------------------------------------- one part


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_comes_back(folder: Path, dtype: Any) -> None:
    odd = record_of("ü%FF\n.mp4")
    segments = (segment_of("a", 3), segment_of("b", 0), segment_of(odd.path, 2, 5, complete=False))
    failures = (failure_of("a", tries=3), failure_of("x"))
    part = part_of(*segments, failures=failures)
    rows = part.embeddings
    vectors = rows.vectors.astype(dtype)
    part = Part(Embeddings(vectors, rows.start_seconds, rows.end_seconds), segments, failures)
    file = write_part(folder, part, 7)
    assert file.name == "part-00000007.part"
    header = read_header(file)
    assert header.segments == segments
    assert header.failures == failures
    assert (header.number, header.rows, header.dimension) == (7, 5, DIMENSION)
    assert (header.dtype, header.vectors_at % 64) == (dtype, 0)
    reader = PartReader(header)
    for first, count in itertools.product(range(6), range(6)):
        if first + count <= 5:
            found = reader.read(first, count)
            block = slice(first, first + count)
            assert np.array_equal(found.vectors, vectors[block])
            assert found.vectors.dtype == dtype
            assert np.array_equal(found.start_seconds, rows.start_seconds[block])
            assert np.array_equal(found.end_seconds, rows.end_seconds[block])
    reader.close()
    reader.close()


def test_rows_that_lie_apart_in_memory_are_written_in_order(folder: Path) -> None:
    rows = rows_of("a", 8)
    strided = Embeddings(rows.vectors[::2], rows.start_seconds[::2], rows.end_seconds[::2])
    header = read_header(write_part(folder, Part(strided, [segment_of("a", 4)]), 0))
    reader = PartReader(header)
    assert np.array_equal(reader.read(0, 4).vectors, rows.vectors[::2])
    reader.close()


def test_a_part_of_failures_alone_and_one_of_nothing(folder: Path) -> None:
    write_part(folder, part_of(failures=(failure_of("x"),)), 0)
    write_part(folder, part_of(), 1)
    progress = scan_parts(folder)
    assert progress.failures == {"x": failure_of("x")}
    assert progress.finished == {}
    assert progress.next_number == 2


def test_a_part_with_its_own_name_is_written_once(folder: Path) -> None:
    for number in (3, 9):
        write_part(folder, part_of(segment_of("a", 2)), number, name="0a1b")
    assert [file.name for file in sorted(folder.iterdir())] == ["part-0a1b.part", "run.json"]
    assert scan_parts(folder).next_number == 10


NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, DIMENSION - 1), NOT_FINITE), max_size=12),
    st.sampled_from(["float32", "float16"]),
)
def test_rows_that_are_no_numbers_are_left_out_wherever_they_are(
    videos: list[list[int]], places: list[tuple[int, int, float]], dtype: Any
) -> None:
    """Videos whose clips lie in one to three parts each."""
    with tempfile.TemporaryDirectory() as name:
        folder = open_parts(Path(name) / "features.h5", identity_of(dtype=dtype))
        rows, number = 0, 0
        expected: dict[str, list[bool]] = {}
        for video, counts in enumerate(videos):
            path, first = f"{video}.mp4", 0
            expected[path] = []
            for piece, count in enumerate(counts):
                last = piece == len(counts) - 1
                part = part_of(segment_of(path, count, first, complete=last))
                vectors = part.embeddings.vectors.astype(dtype)
                for row, column, value in places:
                    if rows <= row < rows + count:
                        vectors[row - rows, column] = value
                held = replace(part.embeddings, vectors=vectors)
                write_part(folder, replace(part, embeddings=held), number)
                expected[path] += np.isfinite(vectors).all(axis=1).tolist()
                rows, first, number = rows + count, first + count, number + 1
        thinned = without_bad_rows(scan_parts(folder))
    bad = {path for path, good in expected.items() if not all(good)}
    assert set(thinned) == bad
    for path in bad:
        good = expected[path]
        assert sum(piece.num_rows for piece in thinned[path].pieces) == sum(good)
        assert thinned[path].failure.kind == "not_finite"
        text = f"of {len(good) - sum(good)} of {len(good)} clips are NaN"
        assert text in thinned[path].failure.message


def test_parts_check_what_they_are_made_of() -> None:
    with pytest.raises(DataError, match="segments of 2 rows for 3 vectors"):
        Part(rows_of("a", 3), [segment_of("a", 2)])
    with pytest.raises(DataError, match="-1 clips"):
        segment_of("a", -1)
    with pytest.raises(DataError, match="record of"):
        segment_of("a", 1, record=record_of("b"))


def test_parts_that_were_cut_short_or_changed_are_dropped(folder: Path) -> None:
    whole = write_part(folder, part_of(segment_of("a", 3)), 0).read_bytes()
    write_part(folder, part_of(segment_of("b", 3)), 1)
    bad = folder / "part-00000000.part"
    changes = [whole[:size] for size in (0, 10, 24, 60, len(whole) - 1)]
    changes += [whole + b"x", b"X" + whole[1:]]
    header_end = read_header(bad).vectors_at
    for at in range(0, header_end, 7):
        flipped = bytearray(whole)
        flipped[at] ^= 0x20
        changes.append(bytes(flipped))
    for content in changes:
        bad.write_bytes(content)
        try:
            read_header(bad)
        except DamagedPartError:
            pass
        else:  # in the padding, where it changes nothing
            continue
        untouched = scan_parts(folder, sweep=False)
        assert bad.exists()
        progress = scan_parts(folder)
        assert not bad.exists()
        for found in (untouched, progress):
            assert list(found.finished) == ["b"]
            assert len(found.warnings) == 1
            assert "part-00000000.part" in found.warnings[0]


def test_a_part_of_another_run_is_dropped(folder: Path) -> None:
    wide = Embeddings(np.zeros((1, 9), np.float32), np.zeros(1), np.zeros(1))
    write_part(folder, Part(wide, [segment_of("a", 1)]), 0)
    assert "9 float32" in scan_parts(folder).warnings[0]


# ---------------------------------------------------------------------- the folder


def test_the_folder_is_gone_on_with_by_the_same_run_only(tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    folder = open_parts(output, identity_of())
    assert folder == parts_folder(output) == tmp_path / "features.h5.parts"
    write_part(folder, part_of(segment_of("a", 1)), 0)
    open_parts(output, identity_of(source_root="/elsewhere"))
    with pytest.raises(FingerprintError, match=r'precision was "fp32", is "bf16".*overwrite=True'):
        encoder = {**identity_of().encoder, "precision": "bf16"}
        open_parts(output, identity_of(encoder=encoder, run_fingerprint="other"))
    assert list(scan_parts(folder).finished) == ["a"]
    open_parts(output, identity_of(run_fingerprint="other"), overwrite=True)
    assert scan_parts(folder).finished == {}
    (folder / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"run\.json cannot be read.*overwrite=True"):
        open_parts(output, identity_of())
    (folder / "run.json").unlink()
    open_parts(output, identity_of())
    write_part(folder, part_of(segment_of("a", 1)), 0)
    (folder / "run.json").unlink()
    with pytest.raises(StoreError, match=r"no run\.json"):
        open_parts(output, identity_of())
    with pytest.raises(StoreError, match="cannot be read"):
        scan_parts(folder)


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    folder = open_parts(output, identity_of())
    for name in ("features.h5.writing-1-aa", "other.h5.writing-1-aa"):
        (tmp_path / name).touch()
    (tmp_path / "features.h5.parts.writing-1").mkdir()
    (folder / "part-00000000.part.writing-1-aa").touch()
    open_parts(output, identity_of())
    scan_parts(folder)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "features.h5.parts",
        "other.h5.writing-1-aa",
    ]
    assert [file.name for file in folder.iterdir()] == ["run.json"]
    assert scan_parts(tmp_path / "absent.parts").finished == {}


def test_a_file_that_has_the_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "features.h5.parts").touch()
    with pytest.raises(StoreError, match="is not a folder"):
        open_parts(tmp_path / "features.h5", identity_of())


# ---------------------------------------------------------------------- from segments to rows


def headers_of(*parts: Part) -> list[PartHeader]:
    return [
        PartHeader(
            Path(f"{number}.part"), number, len(part.embeddings), DIMENSION, "float32", 64,
            segments_to_columns(part.segments), tuple(part.failures),
        )
        for number, part in enumerate(parts)
    ]  # fmt: skip


def clips_of(pieces: Any, parts: tuple[Part, ...]) -> list[int]:
    """Numbers of the clips that pieces hold, read off the seconds."""
    return [
        round(float(parts[piece.source].embeddings.start_seconds[row]) * 2)
        for piece in pieces
        for row in range(piece.first_row, piece.first_row + piece.num_rows)
    ]


def test_a_long_film_over_several_parts() -> None:
    parts = (
        part_of(segment_of("a", 2), segment_of("film", 3, 0, complete=False)),
        part_of(segment_of("film", 4, 3, complete=False)),
        part_of(segment_of("film", 2, 7), segment_of("z", 1)),
    )
    progress = summarize(headers_of(*parts[:2]))
    assert list(progress.finished) == ["a"]
    assert progress.partial["film"].next_clip == 7
    assert progress.partial["film"].attempt == "1"
    progress = summarize(headers_of(*parts))
    assert progress.partial == {}
    film = progress.finished["film"]
    assert clips_of(film.pieces, parts) == list(range(9))
    assert film.count == 9
    assert progress.num_clips == 12
    progress = summarize(headers_of(parts[0], parts[2]))  # the middle has been lost
    assert "film" not in progress.finished
    assert progress.partial["film"].next_clip == 3


def test_an_end_without_clips_and_a_video_without_clips() -> None:
    parts = (
        part_of(segment_of("film", 3, 0, complete=False)),
        part_of(segment_of("film", 0, 3), segment_of("none", 0)),
    )
    progress = summarize(headers_of(*parts))
    assert clips_of(progress.finished["film"].pieces, parts) == [0, 1, 2]
    assert progress.finished["none"].pieces == ()


def test_only_the_newest_attempt_counts() -> None:
    changed = record_of("a", size=2000)
    new = {"attempt": "2", "record": changed}
    parts = (
        part_of(segment_of("a", 4)),
        part_of(segment_of("a", 2, 0, complete=False, **new)),
        part_of(segment_of("a", 3, 2, **new)),
    )
    begun = summarize(headers_of(*parts[:2]))
    assert begun.finished["a"].attempt == "1"
    assert begun.partial["a"].next_clip == 2
    assert begun.partial["a"].record == changed
    done = summarize(headers_of(*parts))
    assert done.partial == {}
    assert done.finished["a"].record == changed
    assert [piece.source for piece in done.finished["a"].pieces] == [1, 2]


@pytest.mark.parametrize(
    ("parts", "finished", "failed"),
    [
        # broke midway: rows and failure
        ([part_of(segment_of("a", 2), failures=(failure_of("a"),))], True, True),
        # failed, then read by a later try
        ([part_of(failures=(failure_of("a"),)), part_of(segment_of("a", 2))], True, False),
        # read, then tried again (the same file) and failed
        ([part_of(segment_of("a", 2)), part_of(failures=(failure_of("a"),))], True, True),
        # read, then the file changed and cannot be read any more
        ([part_of(segment_of("a", 2)), part_of(failures=(failure_of("a", size=9),))], False, True),
        # killed midway, then failed
        (
            [part_of(segment_of("a", 2, complete=False)), part_of(failures=(failure_of("a"),))],
            False,
            True,
        ),
    ],
)
def test_rows_and_failures_of_one_video(parts: Any, finished: bool, failed: bool) -> None:
    progress = summarize(headers_of(*parts))
    assert ("a" in progress.finished, "a" in progress.failures) == (finished, failed)


@settings(max_examples=300, deadline=None)
@given(
    total=st.integers(0, 12),
    cuts=st.lists(st.integers(0, 12), max_size=6),
    again=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=3),
    older=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.booleans()), max_size=3),
    lost=st.sets(st.integers(0, 12)),
    order=st.randoms(use_true_random=False),
)
def test_segments_become_rows(
    total: int, cuts: Any, again: Any, older: Any, lost: Any, order: Any
) -> None:
    """Any division of a video into segments, some done twice, some lost, beside an old attempt."""
    edges = [0, *sorted({cut for cut in cuts if cut < total} - {0}), total]
    own = [
        segment_of("v", b - a, a, complete=b == total, attempt="new")
        for a, b in itertools.pairwise(edges)
    ]
    doubles = [
        segment_of("v", min(count, total - first), first, complete=False, attempt="new")
        for first, count in again
        if first < total
    ]
    kept = [segment for index, segment in enumerate(own) if index not in lost] + doubles
    order.shuffle(kept)
    before = [
        segment_of("v", count, first, complete=ends, attempt="old") for first, count, ends in older
    ]
    parts = tuple(part_of(segment) for segment in [*before, *kept])
    progress = summarize(headers_of(*parts))

    have = {clip for s in kept for clip in range(s.first_clip, s.first_clip + s.count)}
    reached = next(clip for clip in itertools.count() if clip not in have)
    if any(segment.complete for segment in kept):
        if reached >= total:
            assert clips_of(progress.finished["v"].pieces, parts) == list(range(total))
            assert progress.finished["v"].attempt == "new"
            assert all(piece.source >= len(before) for piece in progress.finished["v"].pieces)
            assert progress.partial == {}
        else:
            assert progress.finished == {}
            assert progress.partial["v"].next_clip == reached
            assert progress.partial["v"].attempt == "new"
    elif kept:
        assert progress.partial["v"].next_clip == reached
        assert progress.partial["v"].attempt == "new"
        if progress.finished:
            assert progress.finished["v"].attempt == "old"
