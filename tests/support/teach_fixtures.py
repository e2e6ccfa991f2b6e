"""An index of videos of known classes, and its page, for the tests of teaching."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.support.index_fixtures import embeddings, identity, record
from vidfeat.index import VideoIndex
from vidfeat.store.writer import write_store

CLASSES = ("run", "jump", "rest")


def class_of(path: str) -> str:
    return path.split("/")[0]


def write_taught(
    folder: Path,
    videos: int = 24,
    *,
    clips: int = 4,
    dimension: int = 16,
    noise: float = 0.5,
    rare: float | None = None,
    **build: bool,
) -> VideoIndex:
    """An index whose videos ``CLASS/vNNN.mp4`` gather around one centre a class.

    With ``rare``, this share of the videos is of the class ``rare`` and the others are ``common``,
    of several kinds.
    """
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((7, dimension))
    rows = []
    for number in range(videos):
        if rare is None:
            place, name = number % len(CLASSES), CLASSES[number % len(CLASSES)]
        else:
            is_rare = number % round(1 / rare) == 3
            place, name = (6, "rare") if is_rare else (number % 6, "common")
        own = centres[place] + noise * 0.6 * rng.standard_normal(dimension)
        vectors = own + noise * 0.5 * rng.standard_normal((clips, dimension)) + 1.0
        path = f"{name}/v{number:05d}.mp4"
        rows.append((record(path, clips), embeddings(vectors.astype(np.float32))))
    write_store(folder / "f.h5", identity(dimension, root=str(folder / "videos")), rows)
    return VideoIndex.build(folder / "f.h5", folder / "INDEX", kind="flat", **build)


def build_page(folder: Path, index: VideoIndex, **options: bool) -> SimpleNamespace:
    """The application of an index."""
    from vidfeat.web.server import ServeOptions, make_app

    app = make_app(index, ServeOptions(cache=folder / "cache", **options))
    return SimpleNamespace(app=app, index=index, folder=folder)


class Teacher:
    """Labels by the true classes, through the page's own routes."""

    def __init__(self, client, tab: str = "teacher") -> None:
        self.client, self.tab, self.revision = client, tab, 0

    def clips(self, order: str = "uncertain", count: int = 1, name: str = "", **more):
        asked = {"order": order, "count": count, "class": name, "revision": self.revision, **more}
        answer = self.client.get("/api/teach/clips", params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def label(self, spans: list[dict], label: str | None):
        asked = {"spans": spans, "label": label, "tab": self.tab, "revision": self.revision}
        answer = self.client.post("/api/teach/label", json=asked)
        if answer.status_code == 200:
            self.revision = answer.json()["revision"]
        return answer

    def teach(self, clip: dict, label: str | None = None):
        answer = self.label([{"clip": clip["clip"]}], label or class_of(clip["path"]))
        assert answer.status_code == 200, answer.text
        return answer.json()
