"""Copies as they occur: a last clip that ends with the video, and many equal videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import embeddings, identity, record, video_vectors, write_features
from vidfeat.cli import cli
from vidfeat.errors import UsageError
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
    assert [(shared.first, shared.second) for shared in pair.segments] == [(whole, whole)]


def test_segments_that_are_not_printed_are_counted(tmp_path):
    """Seven shared pairs of clips with others between them: seven segments, five printed."""
    one, two = np.random.default_rng(7).standard_normal((2, 70, 32)).astype(np.float32)
    for first in range(0, 70, 10):
        two[first : first + 2] = one[first : first + 2]
    index = index_of(tmp_path, {"a.mp4": embeddings(one), "b.mp4": embeddings(two)})
    done = CliRunner().invoke(cli, ["duplicates", str(index.path), "--threshold", "0.9999"])
    assert "and 2 more segments" in done.stdout


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


@pytest.mark.parametrize("leader", [1, 2, 3, 8])
def test_a_black_leader_makes_no_copies(tmp_path, leader):
    black = np.tile(video_vectors(999, 1, 32), (leader, 1))
    videos = {
        f"{n}.mp4": embeddings(np.concatenate([black, video_vectors(n, 24, 32)])) for n in range(6)
    }
    videos["copy.mp4"] = videos["0.mp4"]
    index = index_of(tmp_path, videos)
    found = find_duplicates(index)
    assert [pair.videos for pair in found.pairs] == [("0.mp4", "copy.mp4")]
    assert found.num_left_out == 20
    assert len(find_duplicates(index, min_share=0).pairs) == 21
    assert len(find_duplicates(index, min_share=0.9).pairs) == 1
    done = CliRunner().invoke(cli, ["duplicates", str(index.path)])
    assert "left out 20 pairs of videos that share only a still segment" in done.stderr
    done = CliRunner().invoke(cli, ["duplicates", str(index.path), "--min-share", "0", "--json"])
    assert len(json.loads(done.stdout)["pairs"]) == 21
    assert "left out" not in done.stderr


def grainy(picture: np.ndarray, clips: int, cosine: float, seed: int) -> np.ndarray:
    """Clips of one picture whose grain differs, so that any two have about that cosine."""
    noise = np.random.default_rng(seed).standard_normal((clips, picture.shape[1]))
    size = np.linalg.norm(picture) * np.sqrt((1 - cosine) / cosine)
    grain = noise / np.linalg.norm(noise, axis=1, keepdims=True) * size
    return (picture + grain).astype(np.float32)


@pytest.mark.parametrize("cosine", [1.0, 0.998, 0.99, 0.98])
@pytest.mark.parametrize("pictures", [(3,), (8,), (3, 4), (2, 3, 4)])
def test_grain_and_several_still_pictures_make_no_copies(tmp_path, cosine, pictures):
    """Bars, then black, then a title; film grain is another in each video."""
    videos = {}
    for number in range(3):
        leader = [
            grainy(video_vectors(900 + place, 1, 32), clips, cosine, 50 * number + place)
            for place, clips in enumerate(pictures)
        ]
        videos[f"{number}.mp4"] = embeddings(
            np.concatenate([*leader, video_vectors(number, 30, 32)])
        )
    found = find_duplicates(index_of(tmp_path, videos), 0.9)
    assert found.pairs == ()
    assert found.num_left_out == 3


@pytest.mark.parametrize("cosine", [1.0, 0.99, 0.97, 0.95])
@pytest.mark.parametrize("clips", [4, 12])
def test_a_part_that_moves_is_a_copy_however_degraded(tmp_path, cosine, clips):
    shared = video_vectors(7, clips, 32)
    worse = np.concatenate([grainy(row[None], 1, cosine, seed) for seed, row in enumerate(shared)])
    one = np.concatenate([shared, video_vectors(1, 30, 32)])
    two = np.concatenate([video_vectors(2, 40, 32), worse])
    index = index_of(tmp_path, {"a.mp4": embeddings(one), "b.mp4": embeddings(two)})
    assert [pair.videos for pair in find_duplicates(index, 0.9).pairs] == [("a.mp4", "b.mp4")]


def test_slides_are_copies_although_each_is_still(tmp_path):
    slides = np.repeat(video_vectors(70, 6, 32) * np.array([[1], [-1]] * 3), 4, axis=0)
    one = np.concatenate([slides, video_vectors(1, 60, 32)]).astype(np.float32)
    two = np.concatenate([video_vectors(2, 60, 32), slides]).astype(np.float32)
    index = index_of(tmp_path, {"a.mp4": embeddings(one), "b.mp4": embeddings(two)})
    assert len(find_duplicates(index, 0.9).pairs) == 1


def test_a_still_video_is_the_copy_of_its_copy(tmp_path):
    still = embeddings(np.tile(video_vectors(5, 1, 32), (6, 1)))
    found = find_duplicates(index_of(tmp_path, {"a.mp4": still, "b.mp4": still}))
    assert len(found.pairs) == 1
    assert found.num_left_out == 0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_an_invalid_share_is_refused(tmp_path, share):
    held = embeddings(video_vectors(5, 3, 32))
    index = index_of(tmp_path, {"a.mp4": held})
    with pytest.raises(UsageError, match="expected 0 to 1") as caught:
        find_duplicates(index, min_share=share)
    assert caught.value.fields == ("min_share",)
