"""Files that version 0.1 wrote still open and give the answers that it gave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from vidfeat import FeatureStore, Head, VideoIndex
from vidfeat.evaluation.scores import read_scores

OLD = Path(__file__).parent / "fixtures" / "version_0_1"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, which commands may write to."""
    folder = tmp_path_factory.mktemp("old") / "old"
    shutil.copytree(OLD, folder)
    return folder


def vidfeat(place: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vidfeat", *words], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def same_predictions(found: str, wanted: Path, tolerance: float) -> None:
    answers, expected = json.loads(found), json.loads(wanted.read_text())
    assert [one["path"] for one in answers] == [one["path"] for one in expected]
    for answer, other in zip(answers, expected, strict=True):
        scores = {one["label"]: one["score"] for one in answer["predictions"]}
        for one in other["predictions"]:
            assert scores[one["label"]] == pytest.approx(one["score"], abs=tolerance)


def test_a_feature_file_opens(old: Path) -> None:
    with FeatureStore(old / "features.h5") as store, h5py.File(old / "features.h5") as plain:
        assert store.paths == [f"{kind}/v{n}.mp4" for kind in ("balls", "waves") for n in range(4)]
        assert np.array_equal(store.read_rows(slice(0, None)).vectors, plain["vectors"][:])
        assert store.space_fingerprint == plain.attrs["space_fingerprint"]


def test_a_run_on_an_old_feature_file_resumes(old: Path) -> None:
    """Both fingerprints are those of today: nothing is refused, and nothing is extracted again."""
    shutil.copy(old / "features.h5", old / "resumed.h5")
    with h5py.File(old / "resumed.h5", "r+") as file:  # as if it had been written here
        file.attrs["source_root"] = str(old / "videos")
        names = file["videos/path"].asstr()[:]
        file["videos/mtime_ns"][:] = [(old / "videos" / n).stat().st_mtime_ns for n in names]
        vectors = file["vectors"][:]
    options = ["--model", "r2d_10_w16", "--weights", "random", "--clip-frames", "4"]
    options += ["--hop-seconds", "0.4", "--dtype", "float16"]
    shown = vidfeat(old, "extract", "videos", "-o", "resumed.h5", *options)
    assert "8 videos were already there" in shown
    with h5py.File(old / "resumed.h5") as file:
        assert np.array_equal(file["vectors"][:], vectors)
    vidfeat(old, "extract", "videos", "-o", "anew.h5", *options)
    with h5py.File(old / "anew.h5") as anew, h5py.File(OLD / "features.h5") as then:
        for name in ("space_fingerprint", "run_fingerprint"):
            assert anew.attrs[name] == then.attrs[name]
        assert np.allclose(anew["vectors"][:], vectors, atol=2e-3)
        assert np.array_equal(anew["start_seconds"][:], then["start_seconds"][:])


def test_a_head_gives_the_same_scores(old: Path) -> None:
    assert Head.load(old / "head").classes == ("balls", "waves")
    found = vidfeat(old, "classify", "features.h5", "--head", "head", "--json")
    same_predictions(found, OLD / "answers/head.json", 1e-6)


def test_an_index_gives_the_same_matches(old: Path) -> None:
    expected = json.loads((OLD / "answers/search.json").read_text())
    found = VideoIndex(old / "index").search("waves/v1.mp4", k=4)
    assert [match.video for match in found] == [one["video"] for one in expected]
    for match, one in zip(found, expected, strict=True):
        assert match.score == pytest.approx(one["score"], abs=1e-5)
        assert (match.start_seconds, match.end_seconds) == (
            pytest.approx(one["start_seconds"]),
            pytest.approx(one["end_seconds"]),
        )


def test_a_training_run_classifies_and_evaluates_the_same(old: Path) -> None:
    found = vidfeat(
        old, "classify", "videos", "--model", "r2d_10_w16", "--weights", "run", "--json"
    )
    same_predictions(found, OLD / "answers/run.json", 1e-5)
    vidfeat(old, "evaluate", "run", "--data", "videos", "--scores", "scores.h5")
    now, then = read_scores(old / "scores.h5"), read_scores(OLD / "answers/scores.h5")
    assert (now.paths, now.classes) == (then.paths, then.classes)
    assert np.allclose(now.scores, then.scores, atol=1e-5)


def test_a_quantised_network_extracts_the_same(old: Path) -> None:
    pytest.importorskip("openvino")
    vidfeat(old, "extract", "videos", "--weights", "net", "-o", "net.h5")
    with h5py.File(old / "net.h5") as now, h5py.File(OLD / "answers/net.h5") as then:
        assert now.attrs["space_fingerprint"] == then.attrs["space_fingerprint"]
        one, two = now["vectors"][:], then["vectors"][:]
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosine.min() > 0.99  # processors round int8 differently
