"""Each layout read as its consumer's loader reads it, with the times of its rows.

A row's numbers are the frames that it was made from: the first, the one behind the last, the centre
between both. So what a consumer takes for the row at some second can be compared with what the row
saw. The readers below are written after the loaders that `vidfeat.store.layouts` names.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.store_fixtures import identity_of
from vidfeat.cli import cli
from vidfeat.cli.options import apply_layout_plan, layout_names
from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.file_names import file_names, without_extension
from vidfeat.store.layout_export import LayoutOptions, export_layout
from vidfeat.store.layouts import LAYOUTS, views_of
from vidfeat.store.pca import fit_pca, load_pca
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import VideoRecord
from vidfeat.store.writer import write_store
from vidfeat.video.clip_plan import ClipPlan, Timeline, plan_clips
from vidfeat.video.plan_choice import PlanChoice

FIRST, BEHIND, CENTRE = 0, 1, 2


def features_of(
    path: Path,
    videos: dict[str, tuple[int, str]],
    layout: str,
    *,
    views: int = 1,
    **choice: Any,
) -> Path:
    """A feature file of videos of so many frames at a rate, planned as a layout wants it."""
    values = {**LAYOUTS[layout].plan, **choice}
    if "clips" in choice:
        del values["hop_frames"]
    plan = PlanChoice(**values).apply(ClipPlan(frames=16))
    rows = []
    for name, (num_frames, rate) in videos.items():
        timeline = Timeline(num_frames, Fraction(rate))
        clips = [clip for clip in plan_clips(timeline, plan) for _ in range(views)]
        numbers = [
            [c.positions[0], c.positions[-1] + 1, (c.positions[0] + c.positions[-1] + 1) / 2, view]
            for view, c in ((at % views, c) for at, c in enumerate(clips))
        ]
        held = Embeddings(
            np.array(numbers, dtype=np.float32),
            np.array([clip.start_seconds for clip in clips]),
            np.array([clip.end_seconds for clip in clips]),
        )
        duration = timeline.duration_seconds
        size = (duration, float(Fraction(rate)), 320, 240, num_frames, "packets", 1000, 5)
        rows.append((VideoRecord(name, *size), held))
    encoder = {"model": "net", "weights": "none", "plan": plan.to_dict()}
    write_store(path, identity_of(encoder=encoder, dimension=4), rows)
    return path


def beside(file: Path) -> dict[str, Any]:
    return json.loads(file.with_name(file.name + ".json").read_text("utf-8"))


# ---------------------------------------------------------------------- each consumer


@pytest.mark.parametrize(
    ("layout", "stride", "window", "fps"),
    [("actionformer", 4, 16, 30.0), ("actionformer-anet", 16, 16, 15.0), ("epic", 16, 32, 30.0)],
)
def test_actionformer(tmp_path: Path, layout: str, stride: int, window: int, fps: float) -> None:
    videos = {"c/v_one.mp4": (301, "30"), "c/v_short.mp4": (15, "30")}
    source = features_of(tmp_path / "f.h5", videos, layout)
    report = export_layout(source, tmp_path / "out", layout)
    assert (report.videos, len(report.warnings)) == (1, 1)
    assert "'c/v_short.mp4'" in report.warnings[0]
    # feat_folder + file_prefix + id + file_ext; npz["feats"] for EPIC
    suffix = ".npz" if layout == "epic" else ".npy"
    loaded = np.load(tmp_path / "out" / ("v_one" + suffix))
    feats = (loaded["feats"] if layout == "epic" else loaded).astype(np.float32)
    assert not (tmp_path / "out" / ("v_short" + suffix)).exists()
    slots = 301 if fps == 30 else 151
    assert feats.shape == ((slots - window) // stride + 1, 4)
    about = beside(tmp_path / "out" / ("v_one" + suffix))
    assert about["settings"] == {"feat_stride": stride, "num_frames": window, "default_fps": fps}
    for row in (0, len(feats) // 2, len(feats) - 1):
        seconds = feats[row, CENTRE] / 30  # what this row looked at
        assert (seconds * fps - 0.5 * window) / stride == pytest.approx(row, abs=1 / stride)
        centre = about["first_centre_frames"] + row * about["stride_frames"]
        assert centre / about["fps"] == pytest.approx(seconds, abs=1 / 30)


def test_thumos_rows_have_their_centres_at_4_i_plus_8(tmp_path: Path) -> None:
    source = features_of(tmp_path / "f.h5", {"a.mp4": (100, "30000/1001")}, "actionformer")
    export_layout(source, tmp_path / "out", "actionformer")
    feats = np.load(tmp_path / "out" / "a.npy")
    assert feats[:, CENTRE].tolist() == [4 * i + 8 for i in range((100 - 16) // 4 + 1)]
    about = beside(tmp_path / "out" / "a.npy")
    assert (about["fps"], about["first_centre_frames"]) == (pytest.approx(29.97003), 8)
    assert about["largest_deviation_seconds"] < 1e-6


def test_opentad(tmp_path: Path) -> None:
    source = features_of(tmp_path / "f.h5", {"a.mp4": (120, "25")}, "opentad")
    export_layout(source, tmp_path / "out", "opentad")
    feats = np.load(tmp_path / "out" / f"{'a'}.{'npy'}").astype(np.float32)
    settings = beside(tmp_path / "out" / "a.npy")["settings"]
    centres = np.arange(len(feats)) * settings["feature_stride"] + settings["offset_frames"]
    assert feats[:, CENTRE].tolist() == centres.tolist()
    assert (settings["feature_stride"], settings["offset_frames"]) == (4, 8)


def test_tsp_is_one_file_with_a_dataset_a_video(tmp_path: Path) -> None:
    videos = {"x/v_b.mp4": (160, "30"), "v_a.mp4": (90, "25")}
    source = features_of(tmp_path / "f.h5", videos, "tsp")
    export_layout(source, tmp_path / "out", "tsp")
    with h5py.File(tmp_path / "out" / "features.hdf5") as file:
        assert sorted(file) == ["v_a", "v_b"]
        found = {name: np.asarray(file[name][()], dtype=np.float32) for name in file}
    about = beside(tmp_path / "out" / "features.hdf5")
    for name, path in (("v_a", "v_a.mp4"), ("v_b", "x/v_b.mp4")):
        num_frames, rate = videos[path]
        slots = -(-num_frames * 15 // int(rate))
        starts = [i * 16 * int(rate) // 15 for i in range((slots - 16) // 16 + 1)]
        assert found[name][:, FIRST].tolist() == starts
        assert about[name]["video"] == path


def test_qvhighlights_has_a_row_each_two_seconds(tmp_path: Path) -> None:
    videos = {"RoripwjYFp8_360.0_510.0.mp4": (3750, "25"), "tiny.mp4": (10, "25")}
    source = features_of(tmp_path / "f.h5", videos, "qvhighlights")
    export_layout(source, tmp_path / "out", "qvhighlights")
    feats = np.load(tmp_path / "out" / "RoripwjYFp8_360.0_510.0.npz")["features"][:75]
    assert feats.shape == (75, 4)  # max_v_l of 150 s
    assert len(np.load(tmp_path / "out" / "tiny.npz")["features"]) == 1
    for clip in (0, 37, 74):  # relevant_clip_ids: clip i covers 2 i to 2 i + 2 s
        assert feats[clip, FIRST] / 25 == pytest.approx(2 * clip, abs=1 / 25)
    drifting = features_of(
        tmp_path / "g.h5", {"a.mp4": (3000, "30000/1001")}, "qvhighlights", fps="native"
    )
    with pytest.raises(DataError, match=r"every 2\.002 s.*one every 2 s.*layout_plan qvhighlights"):
        export_layout(drifting, tmp_path / "drift", "qvhighlights")


def test_rtfm_has_ten_views(tmp_path: Path) -> None:
    videos = {"Abuse/Abuse001_x264.mp4": (170, "30"), "Normal_001.mp4": (9, "30")}
    source = features_of(tmp_path / "f.h5", videos, "rtfm", views=10)
    export_layout(source, tmp_path / "out", "rtfm")
    features = np.array(np.load(tmp_path / "out" / "Abuse001_x264.npy"), dtype=np.float32)
    assert features.shape == (10, 10, 4)
    crops = features.transpose(1, 0, 2)  # [10, T, F]
    for number, crop in enumerate(crops):
        assert (crop[:, 3] == number).all()
        assert crop[:, FIRST].tolist() == [16 * t for t in range(10)]
    # the ground truth repeats a row's score for its 16 frames
    assert features[9, 0, BEHIND] == 160
    assert np.load(tmp_path / "out" / "Normal_001.npy").shape == (1, 10, 4)
    for views, layout, told in (
        (1, "rtfm", "1 row, .* reads 10.*crops=10"),
        (10, "actionformer", "10 rows, .* reads one"),
    ):
        other = features_of(tmp_path / "o.h5", {"a.mp4": (64, "30")}, layout, views=views)
        with pytest.raises(DataError, match=told):
            export_layout(other, tmp_path / "no", layout)


@pytest.mark.parametrize("window", [21, 16, 1])
def test_mstcn_has_a_column_for_each_frame(tmp_path: Path, window: int) -> None:
    videos = {"rgb-01-1.avi": (60, "15"), "tiny.avi": (window - 1 or 1, "15")}
    source = features_of(tmp_path / "f.h5", videos, "mstcn", frames=window)
    export_layout(source, tmp_path / "out", "mstcn")
    features = np.load(tmp_path / "out" / (["rgb-01-1", "txt"][0] + ".npy"))
    content = ["label"] * 60  # a line for each frame
    assert np.shape(features)[1] == len(content)
    half = window // 2
    for frame in (half, 30, 60 - window + half):
        assert features[FIRST, frame] == frame - half
    assert (features[:, :half] == 0).all()
    assert (features[:, 60 - window + half + 1 :] == 0).all()
    about = beside(tmp_path / "out" / "rgb-01-1.npy")
    assert (about["stride_frames"], about["first_centre_frames"]) == (1, 0.5 * (window % 2))
    assert np.load(tmp_path / "out" / "tiny.npy").shape == (4, window - 1 or 1)


def test_soccernet_has_two_halves_and_two_rows_a_second(tmp_path: Path) -> None:
    game = "england_epl/2014-2015/2015-05-17 - 18-00 Manchester United 1 - 1 Arsenal"
    videos = {f"{game}/{half}_224p.mkv": (2500 + half, "25") for half in (1, 2)}
    source = features_of(tmp_path / "f.h5", videos, "soccernet", frames=1)
    options = LayoutOptions(feature_name="ResNET_TF2_PCA512")
    export_layout(source, tmp_path / "out", "soccernet", options)
    for half in (1, 2):
        feat = np.load(tmp_path / "out" / game / f"{half}_ResNET_TF2_PCA512.npy")
        feat = feat.reshape(-1, feat.shape[-1])
        assert len(feat) == 201  # 100 s and a frame
        for row in (0, 100, 200):  # framerate = 2
            assert feat[row, FIRST] / 25 == pytest.approx(row / 2, abs=1 / 25)
    strange = features_of(tmp_path / "g.h5", {"a.mkv": (100, "25")}, "soccernet")
    with pytest.raises(StoreError, match="not a half of a game"):
        export_layout(strange, tmp_path / "no", "soccernet")
    twice = {f"g/1_{size}.mkv": (100, "25") for size in ("224p", "720p")}
    both = features_of(tmp_path / "h.h5", twice, "soccernet")
    with pytest.raises(StoreError, match=r"'g/1_224p\.mkv' and 'g/1_720p\.mkv' would both be"):
        export_layout(both, tmp_path / "no", "soccernet")


# ---------------------------------------------------------------------- what does not fit


def test_a_last_window_off_the_grid_is_dropped(tmp_path: Path) -> None:
    source = features_of(
        tmp_path / "f.h5", {"a.mp4": (69, "25")}, "actionformer", hop_frames=16, tail="flush"
    )
    report = export_layout(source, tmp_path / "out", "actionformer")
    assert np.load(tmp_path / "out" / "a.npy")[:, FIRST].tolist() == [0, 16, 32, 48]
    dropped, other = report.warnings
    assert "'a.mp4'" in dropped
    assert "feat_stride: 16, num_frames: 16, default_fps: 25" in other
    index = json.loads((tmp_path / "out" / "index.json").read_text("utf-8"))
    assert (index["last_row_dropped"], index["videos"], index["rows"]) == (["a.mp4"], 1, 4)


def test_rows_that_are_not_evenly_spaced_are_refused(tmp_path: Path) -> None:
    clips = features_of(tmp_path / "f.h5", {"a.mp4": (99, "25")}, "actionformer", clips=3)
    with pytest.raises(DataError, match="3 clips per video are not evenly spaced"):
        export_layout(clips, tmp_path / "out", "actionformer")
    rows = Embeddings(np.ones((2, 4), np.float32), np.array([0, 7.7]), np.array([0.64, 8.34]))
    video = VideoRecord("a.mp4", 20, 25.0, 320, 240, 500, "packets", 1, 1)
    plan = ClipPlan(hop_frames=4).to_dict()
    identity = identity_of(encoder={"plan": plan}, dimension=4)
    third = Embeddings(np.ones((3, 4), np.float32), np.array([0, 7.7, 9]), np.array([1, 8.4, 9.7]))
    write_store(tmp_path / "segments.h5", identity, [(video, third)])
    with pytest.raises(DataError, match=r"row 1 of 'a\.mp4' starts at 7\.700 s, and not at 0\.160"):
        export_layout(tmp_path / "segments.h5", tmp_path / "out", "actionformer")
    assert views_of(rows) == 1
    mstcn = features_of(tmp_path / "m.h5", {"a.mp4": (99, "25")}, "mstcn", hop_frames=2)
    with pytest.raises(DataError, match=r"rows every 2 frames.*hop_frames=1"):
        export_layout(mstcn, tmp_path / "out", "mstcn")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.mp4", "a"),
        ("b c/a.3gp", "b c/a"),
        ("a.tar.webm", "a.tar"),
        ("frames/v1.5", "frames/v1.5"),
        (".mp4", ".mp4"),
        ("x.y/video", "x.y/video"),
        ("RoripwjYFp8_360.0_510.0", "RoripwjYFp8_360.0_510.0"),
        ("a.m2ts", "a"),
    ],
)
def test_names_without_extension(path: str, name: str) -> None:
    assert without_extension(path) == name


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "soccernet"])
def test_two_videos_of_one_name_are_an_error_that_names_both(tmp_path: Path, layout: str) -> None:
    videos = {"one/a.mp4": (100, "30"), "two/a.mp4": (100, "30")}
    views = LAYOUTS[layout].views
    source = features_of(tmp_path / "f.h5", videos, layout, views=views)
    with pytest.raises(StoreError, match=r"'one/a\.mp4' and 'two/a\.mp4' would both be a.*folders"):
        export_layout(source, tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()
    report = export_layout(source, tmp_path / "out", layout, LayoutOptions(keep_folders=True))
    assert report.videos == 2
    twice = {"a.avi": (90, "30"), "a.mp4": (90, "30")}
    both = features_of(tmp_path / "g.h5", twice, layout, views=views)
    with pytest.raises(StoreError, match=r"'a\.avi' and 'a\.mp4'.*keep_extensions"):
        export_layout(both, tmp_path / "no", layout)
    export_layout(both, tmp_path / "kept", layout, LayoutOptions(keep_extensions=True))
    if layout != "tsp":
        suffix = LAYOUTS[layout].suffix
        assert (tmp_path / "kept" / f"a.avi{suffix}").is_file()


def test_our_own_file_is_not_overwritten() -> None:
    with pytest.raises(StoreError, match=r"needs the name index\.json"):
        file_names(["index.mp4"], "f.h5", suffix=".json", reserved=("index.json",))


# ---------------------------------------------------------------------- PCA, commands


def test_pca_is_fitted_once_and_applied_to_new_features(tmp_path: Path) -> None:
    videos = {f"{n}.mp4": (100 + n, "25") for n in range(4)}
    source = features_of(tmp_path / "f.h5", videos, "actionformer")
    new = features_of(tmp_path / "new.h5", {"new.mp4": (90, "25")}, "actionformer")
    runner = CliRunner()
    export = ["export-features", str(source), "--layout", "actionformer", "-o"]
    fit = [str(tmp_path / "out"), "--pca", "fit", str(tmp_path / "p"), "--pca-dimensions", "2"]
    done = runner.invoke(cli, [*export, *fit], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    export = ["export-features", str(new), "--npy-per-video", str(tmp_path / "npy"), "--pca"]
    done = runner.invoke(cli, [*export, "apply", str(tmp_path / "p")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with FeatureStore(source) as store, FeatureStore(new) as later:
        X = store.to_arrays()[0]
        _, values, directions = np.linalg.svd(X - X.mean(axis=0))
        expected = (later.to_arrays()[0] - X.mean(axis=0)) @ directions[:2].T
        assert fit_pca(store, 4).dimension == 4
    found = np.load(tmp_path / "npy" / "new.npy")
    signs = np.sign((found * expected).sum(axis=0))
    assert found * signs == pytest.approx(expected, abs=2e-3)
    share = (values[:2] ** 2).sum() / (values**2).sum()
    assert load_pca(tmp_path / "p").share == pytest.approx(share, abs=1e-5)
    other = tmp_path / "other.h5"
    plan = ClipPlan().to_dict()
    write_store(other, identity_of(encoder={"plan": plan}, space_fingerprint="x", dimension=4), [])
    with pytest.raises(FingerprintError, match="fit one on these"):
        export_layout(other, tmp_path / "no", "actionformer", pca=load_pca(tmp_path / "p"))
    (tmp_path / "q").write_bytes(b"no")
    for file, told in (("none", "fit one first"), ("q", "is not a PCA")):
        with pytest.raises(StoreError, match=told):
            load_pca(tmp_path / file)


def test_plans_of_layouts_and_what_stands_over_them() -> None:
    assert layout_names() == list(LAYOUTS)
    names = ("clip_frames", "frame_stride", "fps", "hop_frames", "hop_seconds", "clips", "tail")
    names = (*names, "crops")
    for name, layout in LAYOUTS.items():
        values: dict[str, Any] = dict.fromkeys(names)
        apply_layout_plan(values, name)
        PlanChoice(**layout.plan).apply(ClipPlan(frames=8, hop_seconds=1.0))
        assert (values["hop_frames"] or values["hop_seconds"]) is not None
        assert values["crops"] == ("10" if name == "rtfm" else None)
    values = dict.fromkeys(names) | {"hop_frames": 8, "clip_frames": 32}
    apply_layout_plan(values, "actionformer")
    assert [values[name] for name in names] == [32, 1, "native", 8, None, None, "drop", None]
    with pytest.raises(UsageError, match="actionformer, actionformer-anet"):
        export_layout("f.h5", "out", "bmn")
