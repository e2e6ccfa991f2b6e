"""A new user's walk: an empty folder, an installed package, videos with odd names, and all of it.

The checkout is installed into an environment of its own, as ``pip install .`` does, and used from
a folder outside it, in which another folder has the name of the clone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.installs import IS_CLONE, install
from tests.support.train_fixtures import render_video

NAMES = (
    "Tänzer #1.mp4",
    "50 % (copy).mp4",
    "it's; $HOME & more.mp4",
    "-dash.mp4",
    "日本.mp4",
    "cafe\u0301 nfd.mp4",
)
CLASSES = ("fall down", "jump!")

# One process for all commands: importing torch seven times would take most of the test.
WALK = """
import json, sys, contextlib, io
from pathlib import Path
import vidfeat
from vidfeat.cli import cli

assert "site-packages" in vidfeat.__file__, vidfeat.__file__
told = {}

def run(name, *arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = cli.main([str(word) for word in arguments], standalone_mode=False)
    assert status in (0, None), (name, status)
    told[name] = out.getvalue()

run("extract", "extract", "my videos", "-o", "features.h5", "--model", "bundled", "--engine",
    "torch", "--workers", "1")
run("again", "extract", "my videos", "-o", "features.h5", "--model", "bundled", "--engine",
    "torch", "--workers", "1", "--quiet")
run("info", "info", "features.h5", "--json")
run("finetune", "finetune", "features.h5", "--labels", "my labels.csv", "--param", "C=1",
    "-o", "head", "--no-report")
run("classify", "classify", "features.h5", "--head", "head", "--json", "-k", "1")
run("index", "index", "features.h5", "-o", "index")
query = sorted(Path("my videos").rglob("*.mp4"))[0]
run("search", "search", "index", query, "-k", "3", "--json")

from starlette.testclient import TestClient
from vidfeat.index import VideoIndex
from vidfeat.web.server import ServeOptions, make_app
app = make_app(VideoIndex("index"), ServeOptions(cache=Path("cache")))
with TestClient(app, base_url="http://127.0.0.1:8765") as client:
    told["page"] = client.get("/").text
told["query"] = str(query.relative_to("my videos"))
json.dump(told, open("told.json", "w"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the checkout."""
    return install(tmp_path_factory.mktemp("environment"))


@pytest.mark.skipif(not IS_CLONE, reason="no clone of the repository")
def test_from_an_empty_folder_to_the_page(installed: Path, tmp_path: Path) -> None:
    videos = tmp_path / "my videos"
    rows = ["path,label"]
    for number, label in enumerate(CLASSES):
        for place, name in enumerate(NAMES):
            name = name if number == 0 else f"second {name}"
            (videos / label).mkdir(parents=True, exist_ok=True)
            # a fast and a slow drift
            render_video(videos / label / name, seed=place, frames=8 if number else 16)
            rows.append(f'"{name}",{label}')  # by file name alone
    (tmp_path / "my labels.csv").write_text("\n".join(rows), encoding="utf-8")
    # a clone of the sources beside the data, as after git clone
    for name in ("vidfeat", "cli"):
        (tmp_path / "vidfeat" / name).mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    environment |= {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}

    def program(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(words), cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    shown = program(str(installed / "vidfeat"), "--help")
    assert shown.returncode == 0 and "extract" in shown.stdout, shown.stderr
    done = program(str(installed / "python"), "-c", WALK)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["again"] == ""
    assert json.loads(told["info"])["videos"] == 2 * len(NAMES)
    assert json.loads(told["info"])["errors"] == 0
    assert "12 labels name a file without its folder" in done.stderr
    assert "precision" in told["finetune"]
    assert len(json.loads(told["classify"])) == 2 * len(NAMES)
    best = json.loads(told["search"])[0]
    assert best["video"] == told["query"] and best["score"] > 0.999
    assert "<html" in told["page"]
