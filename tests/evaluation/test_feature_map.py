"""The map of a feature file: a picture of its clips, coloured by folder or by labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

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
    with pytest.raises(DataError, match="2 clips make no map"):
        save_map(features, tmp_path / "map.png")


def test_the_command_names_the_picture(features: Path) -> None:
    done = CliRunner().invoke(command, [str(features)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(features.with_suffix(".png"))
    assert features.with_suffix(".png").is_file()
