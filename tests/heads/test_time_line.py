"""All classes along a video: its segments, the picture, and the table."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.heads_fixtures import three_classes
from vidfeat.cli.classify import command
from vidfeat.evaluation import plots
from vidfeat.heads.classify import classify_clips
from vidfeat.heads.finetuning import FinetuneOptions, finetune
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.embeddings import Embeddings


class Echo:
    """A judge whose rows are scores already."""

    classes = ("a", "b", "c")

    def scores(self, rows):
        return np.asarray(rows, dtype=np.float64).mean(axis=0)


ROWS = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]])


@pytest.mark.parametrize(
    ("end", "every", "edges"),
    [
        (8.0, 2.0, [0, 2, 4, 6, 8]),
        (7.0, 2.0, [0, 2, 4, 6, 7]),  # half a segment is one
        (6.9, 2.0, [0, 2, 4, 6.9]),
        (0.5, 2.0, [0, 0.5]),
        (60.06, 20.0, [0, 20, 40, 60.06]),
    ],
)
def test_no_segment_is_a_sliver(end, every, edges):
    clips = Embeddings(ROWS.astype(np.float32), np.linspace(0, end - 0.2, 4), np.full(4, end))
    segments = classify_clips(Echo(), "v", clips, every_seconds=every).segments
    assert [s.start_seconds for s in segments] == pytest.approx(edges[:-1])
    assert [s.end_seconds for s in segments] == pytest.approx(edges[1:])


@pytest.mark.parametrize("classes", [3, 12])
def test_a_time_line_shows_all_classes_in_the_colours_of_the_map(classes):
    names = [f"class {i}" for i in range(classes)]
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(classes), size=6)
    with plots.figure(6, 3) as (_, (axes,)):
        plots.time_line(axes, range(7), scores, names, plots.class_colours(names))
        lanes = [label.get_text() for label in axes.get_yticklabels()]
        shown = [patch.get_facecolor()[:3] for patch in axes.patches]
    with plots.figure(6, 6) as (_, (axes,)):
        points, y = random.normal(size=(classes, 2)), np.arange(classes)
        plots.embedding_map(axes, points, y, names)
        handles, titles = axes.get_legend_handles_labels()
        on_the_map = {
            title: handle.get_facecolor()[0][:3]
            for title, handle in zip(titles, handles, strict=True)
        }
    assert lanes == (names if classes <= 8 else [*lanes[:7], "5 others"])
    for lane in lanes[:7]:
        assert any(np.allclose(colour, on_the_map[lane]) for colour in shown), lane


def test_all_scores_as_a_table(tmp_path):
    features = three_classes(tmp_path)
    options = FinetuneOptions(head=HeadOptions(params={"C": 0.1}), report=False)
    finetune(features, "folders", options, out=tmp_path / "head")

    def run(*arguments):
        texts = [str(argument) for argument in (features, "--head", tmp_path / "head", *arguments)]
        assert CliRunner().invoke(command, texts, standalone_mode=False).return_value == 0

    run("--every-seconds", 4, "--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.png")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "start_seconds", "end_seconds", "best", "jump", "run", "walk"]
    assert len(rows) == 72 and rows[1]["start_seconds"] == "4.0"
    for row in rows:
        scores = {name: float(row[name]) for name in ("jump", "run", "walk")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row["best"] == max(scores, key=scores.get)
    assert (tmp_path / "t.png").stat().st_size > 10_000
    run("--csv", tmp_path / "whole.csv")
    assert len((tmp_path / "whole.csv").read_text().splitlines()) == 37
