"""The README and the pages of docs/: every command and every Python block in them runs.

Commands stand in plain fences (no language named), one a line, or after a `$` in console fences,
which show what they print. They run page by page, in order, in a folder with the files that the
pages speak of. Weights cannot be downloaded where tests run: where a command takes the default
network, a narrow untrained one is put in its place.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.video_assets import render, x264

ROOT = Path(__file__).resolve().parents[1]
# Their commands run in one process: tests/cli/test_formats_pages.py.
ELSEWHERE = ("formats.md", "recipes.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name not in ELSEWHERE]
NETWORK = ["--model", "r2plus1d_10_w16", "--weights", "random"]

# What a page shows and no test of pages can run: words that mark it, with the reason.
NOT_RUN = {
    "serve": "runs until it is stopped; the tests of the page start it",
    "train": "hours of work; the tests of training run recipes",
    "evaluate": "needs a trained network; tested with training",
    "evaluate-retrieval": "needs a dataset; tested with retrieval",
    "plot": "needs a training run; tested with training",
    "prepare": "needs a dataset; tested with training",
    "weights": "downloads; tested against a local server",
    "export": "tested by itself",
    "demo": "tested by itself",
    "cuda": "needs a GPU",
    "ray": "tested with a cluster",
    "int8": "tested by itself",
    "openvino": "tested by itself",
    "ig65m_kinetics_32f": "a download",
    "NAME": "a place to fill in",
    "INDEX/heads/NAME": "a place to fill in",
    "lance://s3://BUCKET/vectors": "object storage",
    "s3://BUCKET/videos": "object storage",
    "https://HOST/run/a.mp4": "a server; tested against a local one",
    "urls.txt": "the same",
    "--prompts": "a network with a text tower; tested with small ones",
    "--text": "a network with a text tower; tested with small ones",
    "old/": "a folder that no longer is",
    "UCF-101/": "a dataset",
    "fights/": "a dataset",
    "ucf101.h5": "a dataset",
    "hmdb51.h5": "a dataset",
}


def fences(page: Path, language: str) -> list[str]:
    """The contents of a page's fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The vidfeat commands of a page; comments and continued lines are understood."""
    found = []
    blocks = fences(page, "")
    for block in fences(page, "console"):
        typed = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        blocks.append("\n".join(typed))
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;", line.split(" #")[0]):
                words = part.split()  # the shell reads quotes and globs
                if words[:1] == ["vidfeat"] and len(words) > 1:
                    found.append(words[1:])
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    rows = ["path,label"]
    for index, name in enumerate("abcdefgh"):
        label = ("run", "jump")[index % 2]
        numbers = range(index * 7, index * 7 + 20)
        render(folder / "videos" / label / f"{name}.mp4", numbers, gop=10, options=x264())
        rows.append(f"{label}/{name}.mp4,{label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "new").mkdir()
    for name in ("video.mp4", "clip.mp4", "query.mp4", "match.mp4", "holiday.mp4", "new/one.mp4"):
        shutil.copy(folder / "videos" / "run" / "a.mp4", folder / name)
    done = run(["extract", "videos", "-o", "features.h5"], folder)
    assert done.returncode == 0, done.stderr
    for k in (1, 2):
        shard = ["extract", "videos", "-o", f"shard-{k}.h5", "--shard", f"{k}/2"]
        assert run(shard, folder).returncode == 0
    done = run(["index", "features.h5", "-o", "index"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def run(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """One command, with a network that needs no download."""
    if words[0] in {"extract", "classify"} and not {"--weights", "--head"} & set(words):
        own = "bundled" in words
        words = [*words, *([] if own else [*NETWORK, "--clip-frames", "8"])]
        if words[0] == "extract" and "--dry-run" not in words:
            words += ["--overwrite"]
    if words[0] == "finetune" and "-o" in words:
        words = [*words, "--overwrite"]
    return subprocess.run(
        ["bash", "-c", f'exec "$0" -m vidfeat {" ".join(words)}', sys.executable],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_runs(page: Path, stage: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(stage, place)
    for words in commands(page):
        if any(part in NOT_RUN for word in words for part in (word, word.split("=")[-1])):
            continue
        if {"index"} & set(words[:1]):
            shutil.rmtree(place / "index", ignore_errors=True)
        done = run(words, place)
        assert done.returncode == 0, f"vidfeat {shlex.join(words)}\n{done.stderr}"
    for block in fences(page, "python"):
        shutil.rmtree(place / "INDEX", ignore_errors=True)  # blocks build it themselves
        # a narrow network in place of the published one: the block is the same, the wait is not
        code = block.replace('"r2plus1d_18"', '"r2plus1d_10_w16"')
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
