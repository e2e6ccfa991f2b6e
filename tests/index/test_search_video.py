"""A video file as the query: it goes through the encoder that the index describes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.rendered_videos import render
from tests.support.segment_queries import cut_worse
from vidfeat.cli import cli
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import FingerprintError
from vidfeat.extraction.run import extract
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.video.plan_choice import PlanChoice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five films of three seconds, their features by an untrained network, their index."""
    found = tmp_path_factory.mktemp("search")
    for number in range(5):
        render(found / "videos" / f"f{number}.mp4", "film", number, 3.0, width=128, height=96)
    encoder = load_encoder("r2d_10", "random", plan=PlanChoice(hop_frames=8))
    extract([found / "videos"], found / "features.h5", encoder)
    VideoIndex.build(found / "features.h5", found / "INDEX", whiten=True)
    return found


def run(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.stdout


def test_a_segment_in_another_codec_finds_its_source_and_second(folder, tmp_path):
    cut_worse(folder / "videos/f3.mp4", tmp_path / "q.avi", 0.9, 1.6, codec="mpeg4", brightness=6)
    rows = json.loads(run("search", folder / "INDEX", tmp_path / "q.avi", "--json", "-k", 3))
    assert rows[0]["video"] == "f3.mp4"
    assert abs(rows[0]["start_seconds"] - 0.9) <= 8 / 25 + 1e-6


def test_start_and_end_of_a_file(folder, tmp_path):
    shutil.copy(folder / "videos/f1.mp4", tmp_path / "copy.mp4")
    rows = json.loads(
        run("search", folder / "INDEX", tmp_path / "copy.mp4", "--start", 1, "--end", 2, "--json")
    )
    assert rows[0]["video"] == "f1.mp4"
    assert abs(rows[0]["start_seconds"] - 1) <= 8 / 25 + 1e-6
    assert rows[0]["score"] > 0.5


def test_an_indexed_file_takes_its_stored_clips(folder):
    """The path of an unchanged file needs no network; after a change it is read again."""
    path = folder / "videos/f2.mp4"
    script = (
        "import sys; from vidfeat.index import VideoIndex;"
        "from vidfeat.index.query import QuerySource;"
        f"q = QuerySource(VideoIndex({str(folder / 'INDEX')!r})).make({str(path)!r});"
        "assert q[0].name == 'f2.mp4' and q[0].normalised;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    source = QuerySource(VideoIndex(folder / "INDEX"))
    stamp = path.stat().st_mtime_ns
    path.touch()
    query = source.make(str(path))[0]
    assert not query.normalised
    import os

    os.utime(path, ns=(stamp, stamp))
    found = source.index.search(query, k=1)[0]
    assert (found.video, found.score) == ("f2.mp4", pytest.approx(1, abs=1e-4))


def test_a_stored_query_from_the_shell_loads_no_torch(folder):
    script = (
        "import sys; sys.argv = ['vidfeat', 'search', sys.argv[1], 'f0.mp4', '--json'];"
        "from vidfeat.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'av', 'sklearn', 'rich', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(folder / "INDEX")], check=True)


def test_other_weights_are_refused_and_another_layout_warns(folder, tmp_path):
    index = VideoIndex(folder / "INDEX")
    other = load_encoder("r2d_10", "random", seed=1, plan=PlanChoice(hop_frames=8))
    with pytest.raises(FingerprintError, match="another encoder"):
        QuerySource(index, encoder=other).of_file(folder / "videos/f0.mp4")
    denser = load_encoder("r2d_10", "random", plan=PlanChoice(hop_frames=4))
    with pytest.warns(UserWarning, match="another hop, precision or engine"):
        query = QuerySource(index, encoder=denser).of_file(folder / "videos/f0.mp4")
    assert index.search(query, k=1)[0].video == "f0.mp4"


def test_html_has_pictures(folder, tmp_path):
    run("search", folder / "INDEX", "f0.mp4", "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 6  # the query's, and five results
    shutil.copytree(folder / "INDEX", tmp_path / "I")
    done = CliRunner().invoke(
        cli,
        [
            "search",
            str(tmp_path / "I"),
            "f0.mp4",
            "--html",
            str(tmp_path / "p.html"),
            "--root",
            str(tmp_path),
        ],
    )
    assert done.exit_code == 0
    assert "--root" in done.stderr
    assert (tmp_path / "p.html").read_text().count('class="none"') == 6


@pytest.mark.slow
def test_hundred_segments(shared_data):
    """The benchmark of segments at its full size: 95 of 100 find source and second."""
    from tests.bench.bench_segments import main

    rows = {name: figure for name, figure, _ in main(["--data", str(shared_data / "fights")])}
    assert int(rows["whitened: both"].split()[0]) >= 95
