"""Retrieval by captions: ranks against a slow reckoning, the files, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.index_fixtures import embeddings, identity, record, write_features
from tests.support.web_fixtures import FakeTexts, text_spec
from vidfeat.cli import cli
from vidfeat.datasets.captions import Captions, match_videos, read_captions
from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import DataError
from vidfeat.index.caption_retrieval import evaluate_captions, ranks
from vidfeat.store.reader import FeatureStore
from vidfeat.store.writer import write_store


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ranks_by_sorting(data: st.DataObject) -> None:
    videos = data.draw(st.integers(1, 6))
    owner = [*range(videos), *data.draw(st.lists(st.integers(0, videos - 1), max_size=6))]
    # few values, so that there are ties
    values = st.lists(st.integers(0, 4), min_size=videos, max_size=videos)
    scores = np.array([data.draw(values) for _ in owner], dtype=np.float64)
    to_video, to_text = ranks(scores, np.array(owner))
    for caption, video in enumerate(owner):
        others = [scores[caption, v] for v in range(videos) if v != video]
        assert to_video[caption] == 1 + sum(one >= scores[caption, video] for one in others)
    for video in range(videos):
        best = max(scores[c, video] for c, v in enumerate(owner) if v == video)
        others = [scores[c, video] for c, v in enumerate(owner) if v != video]
        own = [scores[c, video] for c, v in enumerate(owner) if v == video]
        assert to_text[video] == 1 + sum(one >= best for one in others)
        assert not [one for one in own if one > best]


def features(folder: Path, names: Sequence[str]) -> tuple[Path, FakeTexts]:
    """Videos whose names, as phrases, mean them; the first two are each other's opposite."""
    spec, tower = text_spec(folder), FakeTexts()
    about = replace(identity(16), encoder=spec.describe(), space_fingerprint=spec.space_fingerprint)
    rows = []
    for number, name in enumerate(names):
        direction = np.random.default_rng(number).standard_normal(16).astype(np.float32)
        noise = np.random.default_rng(number + 50).standard_normal((3, 16)).astype(np.float32)
        rows.append((record(name, 3), embeddings(direction + 0.05 * noise)))
        tower.known[Path(name).stem] = direction
    write_store(folder / "f.h5", about, rows)
    return folder / "f.h5", tower


NAMES = [f"video{n}.mp4" for n in range(8)]


def test_the_protocol(tmp_path: Path) -> None:
    path, tower = features(tmp_path, NAMES)
    text = "path,caption\n" + "".join(f"video{n}.mp4,video{n}\n" for n in range(6))
    # One caption is that of another video; one more says nothing; one video has no features.
    text += "video0.mp4,video5\nvideo1.mp4,what is this\ngone.mp4,video7\n"
    (tmp_path / "c.csv").write_text(text)
    told: list[tuple[int, int | None]] = []
    with FeatureStore(path) as store:
        texts = TextEncoder(store.encoder, store.space_fingerprint, tower=tower)
        found = evaluate_captions(
            store,
            read_captions(tmp_path / "c.csv"),
            texts,
            progress=lambda done, total: told.append((done, total)),
        )
    assert told[-1] == (8, 8)
    assert found.missing == ("gone.mp4",)
    assert found.text_to_video.num_queries == 8
    assert found.video_to_text.num_queries == 6
    assert 6 / 8 <= found.text_to_video.recall[1] < 1
    assert found.text_to_video.median_rank == 1
    # Its own caption is as near to video5 as video0's wrong one: equal scores count as better.
    assert found.video_to_text.recall == {1: 5 / 6, 5: 1.0, 10: 1.0}
    assert "1 to 2 captions each" in found.variant
    assert [note.split()[0] for note in found.notes] == ["1", "2"]


def test_files_of_msrvtt(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person is connecting, slowly\n"
    )
    found = read_captions(tmp_path / "a.csv")
    assert found.videos == ("video9770",)
    values = {
        "videos": [{"video_id": "video1", "split": "test"}, {"video_id": "v2", "split": "train"}],
        "sentences": [
            {"caption": "one", "video_id": "video1", "sen_id": 0},
            {"caption": "two", "video_id": "v2", "sen_id": 1},
            {"caption": "three", "video_id": "video1", "sen_id": 2},
        ],
    }
    (tmp_path / "b.json").write_text(json.dumps(values))
    found = read_captions(tmp_path / "b.json")
    assert (found.videos, found.texts) == (("video1",), ("one", "three"))
    assert match_videos(found, ["x/video1.mp4", "x/video10.mp4"]) == ["x/video1.mp4"]
    with pytest.raises(DataError, match=r"may be x/video1.mp4 or y/video1.avi"):
        match_videos(found, ["x/video1.mp4", "y/video1.avi"])
    exact = Captions(("y/video1.avi",), ("one",), (0,), "c")
    assert match_videos(exact, ["x/video1.mp4", "y/video1.avi"]) == ["y/video1.avi"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,b\n1,2\n", "expected path,caption"),
        ("c.csv", "path,caption\nv.mp4,\n", "line 2: the caption is empty"),
        ("c.csv", "path,caption\n", "no caption"),
        ("c.json", "[]", "expected MSR-VTT's videos"),
        ("c.json", "{", "expected MSR-VTT's videos"),
    ],
)
def test_files_that_cannot_be(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_captions(tmp_path / name)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tower = features(tmp_path, NAMES)
    monkeypatch.setattr("vidfeat.encoders.text.load_text_tower", lambda *_: tower)
    text = "path,caption\n" + "".join(f"video{n},video{n}\n" for n in range(8))
    (tmp_path / "c.csv").write_text(text)

    def run(*words: object) -> str:
        done = CliRunner().invoke(cli, ["evaluate-retrieval", *(str(word) for word in words)])
        return done.stdout if done.exit_code == 0 else f"{done.output} {done.exception}"

    lines = run(path, "--captions", tmp_path / "c.csv").splitlines()
    assert lines[-2].split() == ["text", "to", "video", "100.0", "100.0", "100.0", "1.0", "1.0"]
    assert lines[-1].split()[:6] == ["video", "to", "text", "100.0", "100.0", "100.0"]
    values = json.loads(run(path, "--captions", tmp_path / "c.csv", "--json"))
    assert values["text_to_video"]["recall"] == {"1": 1.0, "5": 1.0, "10": 1.0}
    assert values["video_to_text"]["queries"] == 8
    plain = write_features(tmp_path / "plain.h5", ["video0.mp4"])
    assert "has no text tower" in run(plain, "--captions", tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text("path,caption\nelsewhere,x\n")
    assert "none of its 1 videos" in run(path, "--captions", tmp_path / "d.csv")
    assert "separate protocol" in run(path, "--captions", tmp_path / "c.csv", "--center")
    assert "--captions FILE" in run(path)
