"""The map of a feature file: a picture of its clips, coloured by folder or by labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.index_fixtures import video_vectors, write_features
from tests.support.store_fixtures import make_store
from vidfeat.cli.plot import command
from vidfeat.errors import DataError
from vidfeat.evaluation.feature_map import save_map


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return make_store(tmp_path / "features.h5", {"run/a.mp4": 9, "jump/b.mp4": 8, "c.mp4": 3})


@pytest.mark.parametrize("name", ["map.png", "map.svg"])
def test_all_clips_are_drawn(features: Path, tmp_path: Path, name: str) -> None:
    assert save_map(features, tmp_path / name) == 20
    assert (tmp_path / name).stat().st_size > 2000


def test_labels_name_the_colours(features: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nrun/a.mp4,fast\njump/b.mp4,high\n")
    assert save_map(features, tmp_path / "map.svg", table) == 17
    assert "fast" in (tmp_path / "map.svg").read_text()


def test_too_few_clips_are_told(tmp_path: Path) -> None:
    features = make_store(tmp_path / "few.h5", {"a.mp4": 2})
    with pytest.raises(DataError, match="2 clips are too few for a map"):
        save_map(features, tmp_path / "map.png")


def test_the_command_names_the_picture(features: Path) -> None:
    done = CliRunner().invoke(command, [str(features)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(features.with_suffix(".png"))
    assert features.with_suffix(".png").is_file()


@pytest.mark.parametrize("with_labels", [False, True])
def test_vectors_that_are_no_numbers_are_refused_or_left_out(
    tmp_path: Path, with_labels: bool
) -> None:
    names = [f"{'ab'[n % 2]}/{n}.mp4" for n in range(4)]
    bad = video_vectors(3, 6, 32)
    bad[2, 1], bad[4, 0] = np.nan, np.inf
    features = write_features(tmp_path / "f.h5", names, replace={"a/2.mp4": bad})
    labels = "folders" if with_labels else None
    with pytest.raises(DataError, match=r"2 vectors of 1 video hold NaN .*first: a/2\.mp4"):
        save_map(features, tmp_path / "map.png", labels)
    assert save_map(features, tmp_path / "map.png", labels, skip_bad_rows=True) == 22
