"""Copies as they occur: a last clip that ends with the video, and many equal videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import embeddings, identity, record, video_vectors, write_features
from vidfeat.cli import cli
from vidfeat.index import VideoIndex
from vidfeat.index import duplicates as duplicates_module
from vidfeat.index.duplicates import find_duplicates
from vidfeat.store.reader import Embeddings
from vidfeat.store.writer import write_store


def index_of(folder: Path, videos: dict[str, Embeddings]) -> VideoIndex:
    rows = [(record(name, len(held)), held) for name, held in videos.items()]
    write_store(folder / "f.h5", identity(32), rows)
    return VideoIndex.build(folder / "f.h5", folder / "I")


@pytest.mark.parametrize("tail", [7.21, 7.3, 7.6, 7.9])
@pytest.mark.parametrize("steps", [2, 10])
def test_a_whole_copy_is_one_segment_whatever_its_last_clip(tmp_path, steps, tail):
    """The last clip ends with the video, and may start just behind the one before."""
    starts = np.append(np.arange(steps) * 0.8, tail - (10 - steps) * 0.8)
    held = Embeddings(video_vectors(1, steps + 1, 32), starts, starts + 0.8)
    found = find_duplicates(index_of(tmp_path, {"a.mp4": held, "b.mp4": held}), 0.99)
    (pair,) = found.pairs
    whole = (0.0, pytest.approx(starts[-1] + 0.8))
    assert [(shared.first, shared.second) for shared in pair.stretches] == [(whole, whole)]


def test_stretches_that_are_not_printed_are_counted(tmp_path):
    """Seven shared clips with others between them: seven stretches, five of them printed."""
    one, two = video_vectors(1, 70, 32), video_vectors(2, 70, 32)
    two[::10] = one[::10]
    index = index_of(tmp_path, {"a.mp4": embeddings(one), "b.mp4": embeddings(two)})
    done = CliRunner().invoke(cli, ["duplicates", str(index.path), "--threshold", "0.9999"])
    assert "and 2 more stretches" in done.stdout


def test_all_pairs_of_many_equal_videos(tmp_path):
    still = np.ones((40, 8), dtype=np.float32)
    names = [f"v{number:02d}.mp4" for number in range(55)]
    write_features(tmp_path / "f.h5", names, dimension=8, replace=dict.fromkeys(names, still))
    found = find_duplicates(VideoIndex.build(tmp_path / "f.h5", tmp_path / "I"))
    assert len(found.pairs) == 55 * 54 / 2
    assert found.groups == (tuple(names),)
    assert found.num_cut == 0


def test_pairs_that_were_left_out_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates_module, "_MOST_NEIGHBOURS", 64)
    still = np.ones((20, 8), dtype=np.float32)
    names = [f"v{number:02d}.mp4" for number in range(10)]
    write_features(tmp_path / "f.h5", names, dimension=8, replace=dict.fromkeys(names, still))
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "I")
    done = CliRunner().invoke(cli, ["duplicates", str(tmp_path / "I")])
    assert "200 clips have more near neighbours than can be listed" in done.stderr
    done = CliRunner().invoke(cli, ["duplicates", str(tmp_path / "I"), "--json"])
    assert json.loads(done.stdout)["clips_with_pairs_left_out"] == 200
