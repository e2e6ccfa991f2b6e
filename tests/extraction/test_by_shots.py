"""``extract --clips-by shots``: no clip crosses a cut, and shots are looked for once."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.edited_videos import write_edit
from vidfeat.cli.extract import command
from vidfeat.extraction import shots as module
from vidfeat.store.reader import FeatureStore
from vidfeat.video.listing import read_segments
from vidfeat.video.shots import ShotRule


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    cuts = {
        f"{name}.mp4": write_edit(folder / f"{name}.mp4", lengths, seed=10 * place)
        for place, (name, lengths) in enumerate({"a": [30, 45], "b": [50, 25, 30]}.items())
    }
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder, cuts


def extract(folder, output, *options):
    words = [str(folder), "-o", str(output), "--model", "bundled", "--workers", "0"]
    words += ["--engine", "torch", "--json", "--clips-by", "shots", *options]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.exception is None, done.exception
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_clips_stay_within_shots_and_shots_are_kept(videos, tmp_path, monkeypatch):
    folder, cuts = videos
    output = tmp_path / "f.h5"
    extract(folder, output)
    with FeatureStore(output) as store:
        assert store.encoder["clips_by"].startswith("shots by frame differences, version 1")
        assert [failure.path for failure in store.errors] == ["broken.mp4"]
        for path, clips in store:
            edges = np.array(cuts[path]) / 25
            starts = np.searchsorted(edges, clips.start_seconds + 1e-6)
            # a clip shows the slot that begins before the cut to its end: up to a tenth of a second
            ends = np.searchsorted(edges + 0.11, clips.end_seconds)
            assert (starts == ends).all(), path
            assert set(starts.tolist()) == set(range(len(edges) + 1)), path
    with open(tmp_path / "f.h5.shots.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["shot"]) for row in rows] == [
        *(("a.mp4", "0"), ("a.mp4", "1")),
        *(("b.mp4", "0"), ("b.mp4", "1"), ("b.mp4", "2")),
    ]

    # again: nothing is looked for but what could not be read
    searched = []
    whole = module._search
    monkeypatch.setattr(
        module, "_search", lambda todo, *rest: whole(searched.append(todo) or todo, *rest)
    )
    events = extract(folder, output)
    assert [[video.identity for video in todo] for todo in searched] == [["broken.mp4"]]
    assert events[-1]["videos_reused"] == 2


def test_what_a_kill_cut_off_is_looked_for_again(tmp_path):
    rule = ShotRule()
    lines = [
        ",".join(module.COLUMNS),
        f'a.mp4,0.0,1.0,0,2,10,20,"{rule.name}"',
        f'a.mp4,1.0,2.0,1,2,10,20,"{rule.name}"',
        f'b.mp4,0.0,1.0,0,2,10,20,"{rule.name}"',
        'c.mp4,0.0,1.0,0,1,10,20,"another rule"',
        "d.mp4,0.",
    ]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    assert list(module.read_shots(tmp_path / "s.csv", rule)) == ["a.mp4"]


def test_shots_of_a_changed_video_are_replaced(videos, tmp_path):
    folder, _ = videos
    (tmp_path / "v").mkdir()
    shutil.copy(folder / "a.mp4", tmp_path / "v/a.mp4")
    output, table = tmp_path / "f.h5", tmp_path / "f.h5.shots.csv"
    extract(tmp_path / "v", output)
    before = table.read_text().splitlines()
    shutil.copy(folder / "b.mp4", tmp_path / "v/a.mp4")
    with table.open("a") as file:
        file.write("d.mp4,0.")  # and a line that a kill cut off
    extract(tmp_path / "v", output)
    after = table.read_text().splitlines()
    assert (len(before), len(after)) == (3, 4) and not set(before[1:]) & set(after)
    assert len(read_segments(table)["a.mp4"]) == 3


@pytest.mark.parametrize("other", [["--segments", "s.csv"], ["--frames-fps", "5"]])
def test_two_ways_to_lay_clips_exclude_each_other(videos, tmp_path, other):
    (tmp_path / "s.csv").write_text("path,start_seconds,end_seconds\na.mp4,0,1\n")
    other = [word.replace("s.csv", str(tmp_path / "s.csv")) for word in other]
    words = [str(videos[0]), "-o", str(tmp_path / "f.h5"), "--clips-by", "shots", *other]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 2 and "exclude each other" in done.output
