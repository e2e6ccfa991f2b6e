"""What extract prints: a line that fits the terminal, nothing, or events for programs."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.train_fixtures import render_video
from vidfeat.cli.extract_output import BAR_WIDTH, short_line
from vidfeat.extraction.report import ExtractProgress


def state(**changes):
    values = {
        "videos_done": 12_345,
        "videos_total": 100_000,
        "clips_done": 400_000,
        "frames_per_second": 12_345.6,
        "clips_per_second": 1234.5,
        "failures": 17,
        "network_waited_share": 1.0,
        "decoding_blocked_share": 0.5,
        "seconds": 12_000.0,
        "seconds_left": 100_000.0,
        "current": "a.mp4",
    }
    return ExtractProgress(**{**values, **changes})


@settings(deadline=None)
@given(width=st.integers(1, 200), failures=st.integers(0, 10**6), left=st.floats(0, 1e7))
def test_a_line_is_cut_between_facts(width, failures, left):
    whole = short_line(state(failures=failures, seconds_left=left), 500)
    line = short_line(state(failures=failures, seconds_left=left), width)
    assert whole.startswith(line)
    assert len(line) <= width or "  " not in line
    assert line == whole or whole[len(line) :].startswith("  ")


def test_eighty_columns_show_the_bar_and_whole_facts(monkeypatch):
    """What rich makes of it: the bar is there, and nothing is cut."""
    from rich.console import Console

    from vidfeat.cli import extract_output

    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    with extract_output._bar() as bar:
        bar(state())
    drawn = [line for line in stream.getvalue().splitlines() if "left" in line]
    assert drawn and all("…" not in line for line in drawn)
    whole = short_line(state(), 80 - BAR_WIDTH - 2)
    assert all("━" in line and line.endswith(whole) for line in drawn)
    assert "clips/s" in whole


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        render_video(folder / f"{seed}.mp4", seed=seed)
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def extract(videos, output, *options):
    from vidfeat.cli.extract import command

    model = ("--model", "bundled", "--workers", "0", "--engine", "torch")
    arguments = [str(videos), "-o", str(output), *model, *options]
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def test_events_are_one_object_a_line(videos, tmp_path):
    done = extract(videos, tmp_path / "f.h5", "--json")
    assert done.return_value == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "done" and "progress" in kinds and kinds.count("failure") == 1
    failure = next(event for event in events if event["event"] == "failure")
    assert failure["path"] == "broken.mp4" and failure["kind"] and failure["message"]
    assert events[-1]["videos_in_file"] == 2 and events[-1]["output"] == str(tmp_path / "f.h5")
    progress = next(event for event in events if event["event"] == "progress")
    assert {"videos_done", "videos_total", "clips_per_second", "seconds_left"} <= progress.keys()


def test_quiet_tells_failures_alone(videos, tmp_path):
    done = extract(videos, tmp_path / "f.h5", "--quiet")
    assert done.return_value == 1 and done.stdout == ""
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["broken.mp4"]
