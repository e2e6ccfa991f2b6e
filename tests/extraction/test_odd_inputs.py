"""Inputs that once gave a wrong answer without a word, or ended a whole run."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.odd_videos import scene, write_two_streams, write_video
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import NothingDoneError, StoreError, UsageError
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.store.merge import merge_stores
from vidfeat.store.reader import FeatureStore
from vidfeat.video.listing import list_videos, read_list
from vidfeat.video.plan_choice import PlanChoice

HEADER = "path,start_seconds,end_seconds\n"
INLINE = ExtractOptions(workers=0)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)


def clip(path: Path, count: int = 12, seed: int = 0) -> Path:
    return write_video(path, scene(count, seed=seed), rate=20)


# --- two roots ------------------------------------------------------------------------------------


def test_another_root_is_another_video(encoder: Encoder, tmp_path: Path) -> None:
    for camera in (1, 2):
        for number in range(3):
            clip(tmp_path / f"cam{camera}" / "day" / f"{number}.mp4", 12 + camera, number)
    output = tmp_path / "f.h5"
    extract(tmp_path / "cam1", output, encoder, options=INLINE)
    before = output.read_bytes()
    with pytest.raises(StoreError, match=r"cam1.*cam2.*day/0\.mp4.*root=") as refused:
        extract(tmp_path / "cam2", output, encoder, options=INLINE)
    assert str(tmp_path / "cam1") in str(refused.value)
    assert output.read_bytes() == before
    # the same videos elsewhere are resumed
    (tmp_path / "cam1").rename(tmp_path / "moved")
    report = extract(tmp_path / "moved", output, encoder, options=INLINE)
    assert (report.videos_reused, report.clips_encoded) == (3, 0)
    with pytest.raises(StoreError, match="different ones below"):
        extract(tmp_path / "cam2", output, encoder, options=INLINE)


def test_the_parts_of_a_killed_run_are_of_a_root_too(encoder: Encoder, tmp_path: Path) -> None:
    for camera in (1, 2):
        clip(tmp_path / f"cam{camera}" / "0.mp4", 12 + camera)
    output = tmp_path / "f.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidfeat.extraction.run.merge_parts", _stopped)
        with pytest.raises(RuntimeError):
            extract(tmp_path / "cam1", output, encoder, options=INLINE)
    with pytest.raises(StoreError, match=r"cam1.*cam2"):
        extract(tmp_path / "cam2", output, encoder, options=INLINE)


def _stopped(*arguments: object, **others: object) -> None:
    raise RuntimeError("stopped before the merge")


# --- segments and lists ---------------------------------------------------------------------------


def test_a_bad_stretch_costs_itself(encoder: Encoder, tmp_path: Path) -> None:
    for name in "ab":
        clip(tmp_path / "v" / f"{name}.mp4", 80)
    table = tmp_path / "s.csv"
    table.write_text(HEADER + "a.mp4,0,1\na.mp4,50,52\na.mp4,2,2\nb.mp4,1,2\nb.mp4,x,2\n")
    output = tmp_path / "f.h5"
    report = extract(tmp_path / "v", output, encoder, segments=table, options=INLINE)
    assert [note for note in report.notes if "line 4" in note or "line 6" in note]
    with FeatureStore(output) as store:
        assert store.paths == ["a.mp4", "b.mp4"]
        assert store.videos["count"].tolist() == [5, 5]
        (failure,) = store.errors
    assert (failure.path, failure.kind) == ("a.mp4", "segment")
    assert "50 s" in failure.message
    again = extract(tmp_path / "v", output, encoder, segments=table, options=INLINE)
    assert (again.clips_encoded, len(again.failures)) == (0, 1)


def test_only_bad_stretchs_are_an_error(encoder: Encoder, tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    table = tmp_path / "s.csv"
    table.write_text(HEADER + "a.mp4,2,2\n")
    with pytest.raises(UsageError, match="line 2"):
        list_videos([tmp_path / "a.mp4"], segments=table)
    table.write_text(HEADER + "a.mp4,50,52\n")
    with pytest.raises(NothingDoneError, match="past the end"):
        extract(tmp_path / "a.mp4", tmp_path / "f.h5", encoder, segments=table, options=INLINE)


NFC, NFD = (unicodedata.normalize(form, "café/übung.mp4") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("between", [",", ";", " ; ", "\t", ", "])
@pytest.mark.parametrize("way", ["{}", "./{}", "{} ", "@/{}"])
def test_segments_however_they_are_written(
    mark: str, end: str, between: str, way: str, tmp_path: Path
) -> None:
    (tmp_path / "café").mkdir()
    stored = tmp_path / NFC
    stored.parent.mkdir(exist_ok=True)
    stored.write_bytes(b"-")
    path = way.format(NFD).replace("@", str(tmp_path))
    rows = [between.join(("path", "start_seconds", "end_seconds")), between.join((path, "0", "1"))]
    (tmp_path / "s.csv").write_bytes((mark + end.join(rows) + end).encode())
    listing = list_videos([tmp_path], segments=tmp_path / "s.csv")
    (video,) = listing.videos
    assert video.identity == NFC
    assert [(s.start_seconds, s.end_seconds) for s in video.segments] == [(0, 1)]


def test_a_segment_that_is_listed_twice_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"-")
    rows = ["a.mp4,0,1", "a.mp4,1,2", "./a.mp4,0.0,1.00", "a.mp4,0,1.5"]
    (tmp_path / "s.csv").write_text("\n".join(["path,start_seconds,end_seconds", *rows]))
    listing = list_videos([tmp_path], segments=tmp_path / "s.csv")
    (video,) = listing.videos
    assert [(s.start_seconds, s.end_seconds) for s in video.segments] == [(0, 1), (1, 2), (0, 1.5)]
    told = "s.csv, line 4: the same segment as line 2: this row is left out"
    assert any(note.endswith(told) for note in listing.notes)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b";\r\n", b" \n"])
def test_path_lists_however_they_are_written(mark: bytes, end: bytes, tmp_path: Path) -> None:
    (tmp_path / "café").mkdir()
    names = [tmp_path / "a.mp4", tmp_path / "with; in it.mp4", tmp_path / NFC]
    for name in names:
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(b"-")
    lines = [os.fsencode(names[0]), os.fsencode(names[1]), os.fsencode(tmp_path / NFD)]
    (tmp_path / "l.txt").write_bytes(mark + end.join(lines) + end)
    assert read_list(str(tmp_path / "l.txt")) == [str(name) for name in names]


def test_path_lists_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"caf\xe9.mp4")
    for name in ("a.mp4", "b.mp4", odd):
        Path(name).write_bytes(b"-")

    def found(data: bytes, separator: bytes = b"\n") -> list[str]:
        Path("l.txt").write_bytes(data)
        return read_list("l.txt", separator)

    assert found(b"a.mp4\rb.mp4\r") == ["a.mp4", "b.mp4"]
    assert found(b"'a.mp4'\n\"b.mp4\"\n") == ["a.mp4", "b.mp4"]
    assert found(b"a.mp4\ncaf\xe9.mp4\ngone\xe9.mp4\n")[:2] == ["a.mp4", odd]
    assert found(b"a\0b\0c\0", b"\0") == ["a", "b", "c"]
    with pytest.raises(UsageError, match=r"l\.txt, line 2: not UTF-8"):
        found("a.mp4\ngehé.mp4\n".encode("latin-1"))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(UsageError, match=r"l\.txt is UTF-16"):
            found("a.mp4\nb.mp4\n".encode(encoding))


def test_a_name_with_a_zero_byte_is_missing(encoder: Encoder, tmp_path: Path) -> None:
    listing = list_videos([], listed=[str(clip(tmp_path / "a.mp4")), str(tmp_path / "b\0c.mp4")])
    report = extract(listing, tmp_path / "f.h5", encoder, options=INLINE)
    assert [failure.message for failure in report.failures] == ["no such file"]


def test_a_listed_path_that_is_missing_is_one_error(encoder: Encoder, tmp_path: Path) -> None:
    good = [str(clip(tmp_path / f"{name}.mp4")) for name in "ab"]
    listing = list_videos([], listed=[good[0], str(tmp_path / "gone.mp4"), good[1]])
    report = extract(listing, tmp_path / "f.h5", encoder, options=INLINE)
    assert report.videos == 2
    with FeatureStore(tmp_path / "f.h5") as store:
        (failure,) = store.errors
    assert (failure.path, failure.message) == ("gone.mp4", "no such file")
    with pytest.raises(UsageError, match="no such file"):
        list_videos([tmp_path / "gone.mp4"])


def test_a_folder_says_what_was_passed_over(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.txt", "c.txt", "d"):
        (tmp_path / name).write_bytes(b"-")
    (note,) = list_videos([tmp_path]).notes
    assert "3 files" in note
    assert "2 .txt" in note


def test_a_link_to_itself_costs_one_video(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "v/sub").mkdir(parents=True)
    write_video(tmp_path / "v/a.mp4", scene(24))
    (tmp_path / "v/self.mp4").symlink_to("self.mp4")
    (tmp_path / "v/nowhere.mp4").symlink_to("nothing")
    (tmp_path / "v/sub/loop").symlink_to("..")
    (tmp_path / "v/round").symlink_to("round")
    listing = list_videos([tmp_path / "v"])
    assert [video.identity for video in listing.videos] == ["a.mp4", "nowhere.mp4", "self.mp4"]
    report = extract(tmp_path / "v", tmp_path / "f.h5", encoder, options=INLINE)
    assert report.videos == 1
    assert [f.path for f in report.failures] == ["nowhere.mp4", "self.mp4"]
    assert all(
        "a symbolic link to something that is not there" in f.message for f in report.failures
    )


def test_a_folder_that_may_not_be_read_says_so(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(tmp_path / "a.mp4")
    (tmp_path / "sub").mkdir()
    search = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return search(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = extract(tmp_path, tmp_path / "f.h5", encoder, options=INLINE)
    (failure,) = report.failures
    assert (failure.path, failure.kind) == ("sub", "unreadable")
    assert "no permission to read this folder" in failure.message


# --- shards ---------------------------------------------------------------------------------------


def test_a_missing_shard_is_an_error(encoder: Encoder, tmp_path: Path) -> None:
    for number in range(8):
        path = clip(tmp_path / "v" / f"{number}.mp4")
        if number % 4 == 3:
            path.write_text("no video\n")
    shards = [tmp_path / f"{k}.h5" for k in range(1, 5)]
    for k, shard in enumerate(shards, 1):
        options = ExtractOptions(workers=0, shard=(k, 4))
        report = extract(tmp_path / "v", shard, encoder, options=options)
        assert len(report.failures) == (2 if k == 4 else 0)
    with FeatureStore(shards[3]) as store:
        assert (store.num_videos, len(store.errors), store.shards) == (0, 2, "4/4")
    with pytest.raises(StoreError, match=r"shard 3 of 4 is missing.*allow_missing"):
        merge_stores([shards[0], shards[1], shards[3]], tmp_path / "three.h5")
    merge_stores([shards[0], shards[3]], tmp_path / "two.h5", allow_missing=True)
    with FeatureStore(tmp_path / "two.h5") as store:
        assert store.shards == "1,4/4"
    with pytest.raises(StoreError, match="shard 2 of 4 is missing"):
        merge_stores([tmp_path / "two.h5", shards[2]], tmp_path / "x.h5")
    merged = merge_stores([tmp_path / "two.h5", *shards[1:3]], tmp_path / "all.h5")
    assert (merged.videos, merged.failures) == (6, 2)
    with FeatureStore(tmp_path / "all.h5") as store:
        assert store.shards == ""
    other = ExtractOptions(workers=0, shard=(1, 2))
    extract(tmp_path / "v", tmp_path / "half.h5", encoder, options=other)
    with pytest.raises(StoreError, match=r"[24] shards, and others are of [24]"):
        merge_stores([shards[1], tmp_path / "half.h5"], tmp_path / "x.h5")


def test_shards_of_other_lists_do_not_make_a_whole(encoder: Encoder, tmp_path: Path) -> None:
    for number in range(4):
        clip(tmp_path / "v" / f"{number}.mp4")
        clip(tmp_path / "w" / f"{number}.mp4", 14)
    for folder in "vw":
        for k in (1, 2):
            options = ExtractOptions(workers=0, shard=(k, 2))
            extract(tmp_path / folder, tmp_path / f"{folder}{k}.h5", encoder, options=options)
    mixed = [tmp_path / "v1.h5", tmp_path / "w2.h5"]
    with pytest.raises(StoreError, match="different lists of videos") as refused:
        merge_stores(mixed, tmp_path / "x.h5")
    assert all(str(tmp_path / folder) in str(refused.value) for folder in "vw")
    assert merge_stores(mixed, tmp_path / "x.h5", allow_missing=True).videos == 4
    assert merge_stores([tmp_path / "v1.h5", tmp_path / "v2.h5"], tmp_path / "y.h5").videos == 4
    # the same list, of another place on another machine
    (tmp_path / "v").rename(tmp_path / "moved")
    options = ExtractOptions(workers=0, shard=(2, 2))
    extract(tmp_path / "moved", tmp_path / "m2.h5", encoder, options=options)
    merge_stores([tmp_path / "v1.h5", tmp_path / "m2.h5"], tmp_path / "z.h5")
    # a list that grew between two runs into one file
    extract(tmp_path / "moved", tmp_path / "v1.h5", encoder, options=options)
    with FeatureStore(tmp_path / "v1.h5") as store:
        assert store.shards == ""
    clip(tmp_path / "w" / "9.mp4")
    extract(tmp_path / "w", tmp_path / "w1.h5", encoder, options=options)
    with FeatureStore(tmp_path / "w1.h5") as store:
        assert store.shards == "2/2"


def test_shards_one_after_the_other_into_one_file(encoder: Encoder, tmp_path: Path) -> None:
    for number in range(3):
        clip(tmp_path / "v" / f"{number}.mp4")
    seen = []
    for k in (1, 3, 2):
        extract(
            tmp_path / "v",
            tmp_path / "f.h5",
            encoder,
            options=ExtractOptions(workers=0, shard=(k, 3)),
        )
        with FeatureStore(tmp_path / "f.h5") as store:
            seen.append((store.num_videos, store.shards))
    assert seen == [(1, "1/3"), (2, "1,3/3"), (3, "")]


# --- long pauses, streams, threads, children ------------------------------------------------------


@pytest.mark.parametrize("hours", [0.1, 10])
@pytest.mark.parametrize("plan", [PlanChoice(frames=8, fps=10), PlanChoice(frames=8, clips=10)])
def test_a_pause_of_hours_has_no_clips(hours: float, plan: PlanChoice, tmp_path: Path) -> None:
    again = 1200 + round(hours * 3_600_000)
    stamps = [start + round(n * 1000 / 30) for start in (0, again) for n in range(36)]
    path = write_video(tmp_path / "a.mp4", scene(72), stamps)
    encoder = load_encoder("r2plus1d_10_w16", "random", plan=plan, batch_size=4)
    rows = encoder.encode(path)
    assert len(rows) <= 20
    for second in (stamp / 1000 for stamp in stamps):
        inside = (rows.start_seconds <= second + 1e-3) & (second < rows.end_seconds)
        assert inside.any(), second
    assert (rows.end_seconds - rows.start_seconds).max() < 1.3
    report = extract(path, tmp_path / "f.h5", encoder, options=INLINE)
    assert any("one frame stays" in note for note in report.notes)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.videos["duration_seconds"][0] == pytest.approx(again / 1000 + 1.2, abs=0.05)


def test_the_stream_asked_for_is_read_and_remembered(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "a.mkv", (24, 40), (12, 20), ((64, 48), (96, 72)), 1)
    for workers in (0, 1):
        widths, runs = [], set()
        for stream in (None, 0, 1):
            plan = PlanChoice(frames=4, stream=stream)
            encoder = load_encoder("r2plus1d_10_w16", "random", plan=plan, batch_size=4)
            output = tmp_path / f"{workers}-{stream}.h5"
            report = extract(path, output, encoder, options=ExtractOptions(workers=workers))
            assert any("2 video streams" in note for note in report.notes)
            runs.add(encoder.run_fingerprint)
            with FeatureStore(output) as store:
                widths.append(int(store.videos["width"][0]))
        assert widths == [96, 64, 96]
        assert len(runs) == 3


def test_encode_from_several_threads(encoder: Encoder, tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        frames = [np.roll(f, 7 * number, 0) for f in scene(16, (160, 120), number)]
        paths.append(write_video(tmp_path / f"{number}.mp4", frames, rate=20))
    one = [encoder.encode(path).vectors for path in paths]
    frames_THWC = np.stack(scene(16, (160, 120)))
    of_frames = encoder.encode(frames_THWC).vectors
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for mine, theirs in zip(one, pool.map(encoder.encode, paths), strict=True):
                np.testing.assert_allclose(mine, theirs.vectors, rtol=1e-4, atol=1e-5)
            for found in pool.map(encoder.encode, [frames_THWC] * 8):
                np.testing.assert_allclose(of_frames, found.vectors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", ["random", "csv", "numpy", "av"])
@pytest.mark.parametrize("path", ["", ":"])
def test_children_do_not_import_from_the_current_folder(
    module: str, path: str, tmp_path: Path
) -> None:
    clip(tmp_path / "a.mp4")
    (tmp_path / f"{module}.py").write_text("open('imported', 'w').close()\nraise SystemExit(3)\n")
    code = (
        "from vidfeat.video.decode.pool import DecodePool\n"
        "from vidfeat.video.decode.tasks import ClipSource, VideoTask\n"
        "from vidfeat.video.clip_plan import ClipPlan\n"
        "from vidfeat.video.preprocess import Preprocess\n"
        "import os\n"
        f"os.environ['PYTHONPATH'] = {path!r} + os.environ.get('PYTHONPATH', '')\n"
        "with DecodePool(ClipSource(ClipPlan(4), Preprocess()), 1) as pool:\n"
        "    events = [e for _, e in pool.run([VideoTask('a.mp4')]) if not hasattr(e, 'release')\n"
        "              or e.release() is None]\n"
        "assert events[-1].error is None, events[-1].error\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists()


def test_extract_has_its_encoder_to_itself(tmp_path: Path) -> None:
    encoder = load_encoder("r2plus1d_10_w16", "random", plan=PlanChoice(frames=4), batch_size=4)
    path = clip(tmp_path / "a.mp4")
    with encoder.claimed():
        with pytest.raises(UsageError, match="another thread"):
            encoder.encode(path)
        with pytest.raises(UsageError, match="another thread"):
            extract(path, tmp_path / "f.h5", encoder, options=INLINE)
    extract(path, tmp_path / "f.h5", encoder, options=INLINE)
    assert len(encoder.encode(path)) == 3
