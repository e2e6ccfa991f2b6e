"""docs/formats.md and docs/recipes.md: their commands run, in one process, and give what they say.

``test_docs.py`` starts a process for each command, which costs seconds; these pages have many.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

from tests.support.cli_session import Session
from tests.support.rendered_videos import KINDS, render
from vidfeat.store.reader import FeatureStore

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(page: str, heading: str = "") -> list[list[str]]:
    """The vidfeat commands of a page, or of the section under a heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if heading:
        text = re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("vidfeat ")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the videos that the pages speak of: 2 s at 20 frames per second."""
    folder = tmp_path_factory.mktemp("pages")
    for number, kind in enumerate(list(KINDS)[:4]):
        render(folder / "videos" / f"{kind}.mp4", kind, number, 2, width=96, height=64, fps=20)
    return folder


@pytest.fixture(scope="module")
def vidfeat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def run(vidfeat: Session, stage: Path, words: list[str]) -> str:
    if "r2plus1d_18" in words:  # a download: a narrow one of its kind has the same rows
        words = ["r2plus1d_10_w16" if word == "r2plus1d_18" else word for word in words]
        words += ["--weights", "random"]
    if words[0] == "extract":
        words = [*words, "--workers", "0", "--device", "cpu"]
    done = vidfeat(*words, cwd=stage)
    assert done.status == 0, f"vidfeat {shlex.join(words)}\n{done.errors}"
    return done.out


@pytest.fixture(scope="module")
def formats(vidfeat: Session, stage: Path) -> Path:
    """The stage after all commands of docs/formats.md."""
    found = commands("formats.md")
    assert len(found) >= 3
    for words in found:
        run(vidfeat, stage, words)
    return stage


def test_all_later_commands_take_a_joined_file(vidfeat: Session, formats: Path) -> None:
    shown = json.loads(run(vidfeat, formats, ["info", "joined.h5", "--json"]))
    assert [part["layers"] for part in shown["encoder"]["joined"]] == [["layer4"], ["layer2"]]
    run(vidfeat, formats, ["export-features", "joined.h5", "--npy-per-video", "npy-joined"])
    run(vidfeat, formats, ["index", "joined.h5", "-o", "index", "-q"])
    name = f"{list(KINDS)[1]}.mp4"
    stored = run(vidfeat, formats, ["search", "index", name, "-k", "1", "--json"])
    assert json.loads(stored)[0]["score"] == pytest.approx(1)
    (formats / "new.mp4").write_bytes((formats / "videos" / name).read_bytes())
    query = ["search", "index", "new.mp4", "-k", "1", "--json", "--device", "cpu"]
    found = json.loads(run(vidfeat, formats, query))[0]  # through both networks
    assert (found["video"], found["score"]) == (name, pytest.approx(1, abs=1e-4))
    refused = vidfeat(*query, "--weights", "random", cwd=formats)
    assert (refused.status, "several networks" in refused.errors) == (2, True)

    rows = "".join(f"{kind}.mp4,{number % 2}\n" for number, kind in enumerate(KINDS))
    (formats / "labels.csv").write_text(f"path,label\n{rows}")
    head = ["finetune", "joined.h5", "--labels", "labels.csv", "-o", "head", "--no-report"]
    run(vidfeat, formats, [*head, "--head", "knn", "--test-share", "0", "--folds", "2"])
    judge = ["--head", "head", "--json", "--device", "cpu"]
    assert len(json.loads(run(vidfeat, formats, ["classify", "joined.h5", *judge]))) == 4
    refused = vidfeat("classify", "new.mp4", *judge, cwd=formats)
    assert (refused.status, "give the joined file" in refused.errors) == (2, True)


# ---------------------------------------------------------------------- docs/recipes.md

FRAMES = {"a.mp4": 40, "b.mp4": 27, "short.mp4": 10}
RATE = 20


def recipes() -> list[str]:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def few_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    for number, (name, frames) in enumerate(FRAMES.items()):
        file = folder / "videos" / name
        render(file, "balls", number, frames / RATE, width=64, height=48, fps=RATE)
    return folder


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_gives_the_rows_that_it_says(
    vidfeat: Session, few_frames: Path, recipe: str
) -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8").split(f"## {recipe}\n", 1)[1]
    (words,) = commands("recipes.md", recipe)
    said = re.search(r"^`rows = (.+)`$", text, re.MULTILINE)
    assert said is not None
    run(vidfeat, few_frames, words)
    with FeatureStore(few_frames / words[words.index("-o") + 1]) as store:
        counts = dict(zip(store.paths, store.videos["count"].tolist(), strict=True))
        assert store.videos["num_frames"].tolist() == list(FRAMES.values())
        pooled = store.to_arrays(pooled="mean")[0]
    assert len(pooled) == len(FRAMES)
    names = {"ceil": ceil, "max": max, "r": RATE}
    assert counts == {path: eval(said[1], {**names, "n": n}) for path, n in FRAMES.items()}
