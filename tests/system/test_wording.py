"""Counts with their nouns, in messages too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vidfeat.cli.classify import _show
from vidfeat.cli.search import _print_answers
from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.datasets.label_rows import LabelRow, shared_videos
from vidfeat.datasets.part_names import understand_folders
from vidfeat.heads.classify import Prediction, VideoPrediction
from vidfeat.index.match import Match
from vidfeat.system.wording import counted, one_line
from vidfeat.training.setup import _in_both_parts, _left_out_notes
from vidfeat.training.start import length_note


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((1, "video"), "1 video"),
        ((0, "video"), "0 videos"),
        ((1200, "video"), "1,200 videos"),
        ((1, "class", "classes"), "1 class"),
        ((2, "row has", "rows have"), "2 rows have"),
    ],
)
def test_counted(given, text):
    assert counted(*given) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a b.mp4", "a b.mp4"), ("a\nb\t.mp4", r"a\nb\t.mp4"), ("é😀.mp4", "é😀.mp4")],
)
def test_names_stay_on_their_line(name, shown):
    assert one_line(name) == shown


def test_tables_show_names_on_one_line(capsys):
    match = Match("a\nb.mp4", 0.0, 1.0, 0.5)
    _print_answers([match])
    _show(VideoPrediction("a\nb.mp4", (Prediction("x\ty", 0.5),)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].endswith(r"a\nb.mp4") and lines[2] == r"a\nb.mp4"


def test_messages_about_one(tmp_path):
    one = Sample("a.mp4", (0,), "train")
    alone = VideoDataset("folder", tmp_path, ("a",), (one,), unlisted=("x.mp4",))
    assert alone.summary() == "folder: 1 class, 1 video (train 1), 1 file not listed"
    assert _left_out_notes(alone, ["a.mp4", "b.mp4 [1, 2]"]) == [
        "1 video cannot be read and is left out (the first: a.mp4)",
        "1 segment starts past the end of its video and is left out (the first: b.mp4 [1, 2])",
    ]
    rows = [LabelRow("a.mp4", "x", 0.0, 1.0, split) for split in ("train", "test")]
    assert shared_videos(rows)[0].startswith("1 video has segments in more than one part")
    assert length_note(1, 1).startswith("1 optimiser step is few")
    beside = understand_folders(["train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "c/4.mp4"]).notes
    assert any("1 video is in no part's folder and is left out" in note for note in beside)
    both = replace(alone, samples=(one, replace(one, part="val"), replace(one, part="test")))
    assert _in_both_parts(both) == [
        "warning: 1 video is in train and in val (the first: a.mp4): the accuracy is inflated"
    ]
    assert _in_both_parts(alone) == []
    two = replace(alone, samples=(one, replace(one, path="b.mp4")), unlisted=("x", "y"))
    assert two.summary() == "folder: 1 class, 2 videos (train 2), 2 files not listed"
