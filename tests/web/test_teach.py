"""Teaching by the page's routes: labels, orders, precision, the saved head, what is refused."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
from click.testing import CliRunner
from starlette.testclient import TestClient

from tests.support.teach_fixtures import CLASSES, Teacher, build_page, class_of, write_taught
from vidfeat import finetune
from vidfeat.cli import cli
from vidfeat.datasets.labels import read_labels
from vidfeat.heads import Head
from vidfeat.heads.results import FinetuneOptions
from vidfeat.index import VideoIndex, change_index
from vidfeat.store.reader import FeatureStore
from vidfeat.web import teach_clips

BASE = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_taught(folder)
    return folder


@contextmanager
def taught_page(original: Path, folder: Path):
    shutil.copytree(original, folder, dirs_exist_ok=True)
    made = build_page(folder, VideoIndex(folder / "INDEX"))
    with TestClient(made.app, base_url=BASE, raise_server_exceptions=True) as client:
        made.client, made.teacher = client, Teacher(client)
        made.labels = folder / "INDEX/labels.csv"
        yield made


@pytest.fixture
def page(original: Path, tmp_path: Path):
    with taught_page(original, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def refusing(original: Path, tmp_path_factory: pytest.TempPathFactory):
    """A page with some labels that no test may change."""
    with taught_page(original, tmp_path_factory.mktemp("refusing")) as made:
        teach_some(made, 9)
        made.before = tree_of(made.folder)
        yield made
        assert tree_of(made.folder) == made.before


def tree_of(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if "cache" not in path.parts and path.suffix != ".lock"
    }


def judged(client: TestClient) -> dict:
    for _ in range(200):
        found = client.get("/api/teach/quality").json()
        if found["judged"] == found["revision"]:
            return found
        time.sleep(0.02)
    raise AssertionError("the labels were not judged")


def test_a_lesson(page):
    """Label the clip on top, again and again: the head learns, and everything follows."""
    teacher, client = page.teacher, page.client
    start = teacher.clips(count=500)
    assert (start["has_head"], start["total"], len(start["clips"])) == (False, 96, 96)
    assert len({clip["clip"] for clip in start["clips"]}) == 96
    for _ in range(15):
        top = teacher.clips()["clips"][0]
        assert top["taught"] is None
        teacher.teach(top)
    said = read_labels(page.labels).rows
    assert len(said) == 15
    assert all(row.label == class_of(row.path) for row in said)
    state = client.get("/api/teach", params={"tab": "teacher"}).json()
    assert state["labels"] == 15
    assert {one["name"] for one in state["classes"]} == set(CLASSES)
    assert sum(one["labels"] for one in state["classes"]) == 15
    assert state["can_undo"]
    assert state["file"] == "INDEX/labels.csv"
    left = teacher.clips(count=500)
    assert left["total"] == len({clip["clip"] for clip in left["clips"]}) == 96 - 15
    right = [clip["guess"] == class_of(clip["path"]) for clip in left["clips"]]
    assert np.mean(right) > 0.95
    sure = teacher.clips("certain", 10, "jump")["clips"]
    assert {class_of(clip["path"]) for clip in sure} == {"jump"}
    scores = [clip["score"] for clip in sure]
    assert scores == sorted(scores, reverse=True)
    assert teacher.clips("labelled", 50)["total"] == 15
    assert teacher.clips("uncertain", 500, folder="run")["total"] < 40


def test_every_clip_is_in_the_order_before_and_after_the_first_labels(page, monkeypatch):
    monkeypatch.setattr(teach_clips, "_CANDIDATES", 30)
    teacher, seen = page.teacher, set()
    for done in range(24):
        clips = [clip["clip"] for clip in teacher.clips(count=500)["clips"]]
        assert sorted([*clips, *seen]) == list(range(96)), done
        teacher.teach({"clip": clips[0], "path": teacher.clips()["clips"][0]["path"]})
        seen.add(clips[0])
    inside = teacher.clips("uncertain", 500, folder="run")["clips"]
    assert {class_of(clip["path"]) for clip in inside} == {"run"}


def test_precision_curve_and_mistakes(page):
    teacher, client = page.teacher, page.client
    clips = teacher.clips(count=96)["clips"]
    assert judged(client)["quality"] is None
    teach_some(page, 24)
    found = judged(client)["quality"]
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert found["accuracy"]["value"] > 0.8
    assert {one["name"] for one in found["classes"]} == set(CLASSES)
    for one in found["classes"]:
        assert one["precision"]["low"] <= one["precision"]["value"] <= one["precision"]["high"]
    counts = [point["labels"] for point in found["curve"]]
    assert counts == sorted(counts)
    assert counts[-1] == 24
    wrong = clips[30]
    teacher.teach(wrong, next(name for name in CLASSES if name != class_of(wrong["path"])))
    judged(client)
    assert teacher.clips("mistakes")["clips"][0]["clip"] == wrong["clip"]


def test_undo_and_two_tabs(page):
    one, two = page.teacher, Teacher(page.client, "other")
    clips = one.clips(count=6)["clips"]
    one.teach(clips[0], "run")
    two.teach(clips[1], "rest")
    again = one.label([{"clip": clips[1]["clip"]}], "jump").json()
    assert again["replaced"] == [{"path": clips[1]["path"], "label": "rest"}]
    assert one.label([{"clip": clips[1]["clip"]}], "rest").json()["replaced"] == []
    said = {(row.path, row.label) for row in read_labels(page.labels).rows}
    assert said == {(clips[0]["path"], "run"), (clips[1]["path"], "rest")}
    for labels in (2, 2, 1):
        answer = page.client.post("/api/teach/undo", json={"tab": "teacher"}).json()
        assert answer["labels"] == labels, answer
    assert not answer["can_undo"]
    assert read_labels(page.labels).rows[0].label == "rest"
    # A label is taken away where it stands.
    gone = two.label([{"clip": clips[1]["clip"]}], None).json()
    assert gone["labels"] == 0
    assert two.clips(count=1)["total"] == 96


def test_a_segment_labels_the_clips_whose_middle_lies_in_it(page):
    number = page.index.videos.row_of["run/v00000.mp4"]  # clips at 0, 0.5, 1, 1.5 s of 1 s each
    segment = {"video": number, "start": 0.9, "end": 2.0}
    assert page.teacher.label([segment], "run").json()["labels"] == 1
    held = page.teacher.clips("labelled", 50)["clips"]
    assert sorted(clip["start"] for clip in held) == [0.5, 1.0]
    # What is said of a clip alone holds for it, and taking that away brings the segment's back.
    inner = next(clip for clip in held if clip["start"] == 1.0)
    page.teacher.teach(inner, "jump")
    held = {c["start"]: c["taught"] for c in page.teacher.clips("labelled", 50)["clips"]}
    assert held == {0.5: "run", 1.0: "jump"}
    page.teacher.label([{"clip": inner["clip"]}], None)
    held = {c["start"]: c["taught"] for c in page.teacher.clips("labelled", 50)["clips"]}
    assert held == {0.5: "run", 1.0: "run"}
    page.teacher.label([{"clip": inner["clip"]}], None)
    assert page.teacher.clips("labelled")["total"] == 0


def teach_some(page, count: int = 18) -> None:
    clips = page.teacher.clips(count=count)["clips"]
    for name in CLASSES:
        spans = [{"clip": clip["clip"]} for clip in clips if class_of(clip["path"]) == name]
        page.teacher.label(spans, name)


@pytest.mark.parametrize("build", [{}, {"center": True}, {"whiten": True}], ids=str)
def test_the_saved_head_scores_as_the_page_does(tmp_path, build):
    """Also where the index moves or whitens its vectors: the head takes the encoder's own."""
    index = write_taught(tmp_path, **build)
    page = build_page(tmp_path, index)
    with TestClient(page.app, base_url=BASE) as client:
        page.client, page.teacher = client, Teacher(client)
        teach_some(page)
        shown = page.teacher.clips(count=500)["clips"]
        answer = client.post("/api/teach/head", json={"name": "my head"})
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()["classes"]) == sorted(CLASSES)
        assert client.post("/api/teach/head", json={"name": "my head"}).status_code == 409
        again = client.post("/api/teach/head", json={"name": "my head", "replace": True})
        assert again.status_code == 200
    head = Head.load(tmp_path / "INDEX/heads/my head")
    with FeatureStore(tmp_path / "f.h5") as store:
        vectors = {path: store.read(path).vectors for path in store.paths}
    for clip in shown[:20]:
        scores = head.clip_scores(vectors[clip["path"]])
        row = scores[round(clip["start"] / 0.5)]
        assert head.classes[row.argmax()] == clip["guess"]
        assert row.max() == pytest.approx(clip["score"], abs=2e-3)
    found = tmp_path / "INDEX/heads/my head"
    assert json.loads((found / "head.json").read_text())["format_version"] == (
        2 if "whiten" in build else 1
    )
    command = ["classify", str(tmp_path / "f.h5"), "--head", str(found)]
    told = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert "run/v00000.mp4" in told.output


def test_finetune_reads_the_labels(page):
    teach_some(page)
    result = finetune(page.folder / "f.h5", page.labels, FinetuneOptions(report=False))
    assert len(result.parts[0].samples) == 18


def test_find_all_and_its_table(page):
    client = page.client
    assert client.get("/api/teach/found", params={"class": "run"}).status_code == 400
    teach_some(page)
    found = client.get("/api/teach/found", params={"class": "run", "count": 500}).json()
    assert found["total"] == len(found["segments"]) >= 7
    assert {class_of(one["path"]) for one in found["segments"]} == {"run"}
    whole = [one for one in found["segments"] if one["clips"] == 4]
    assert whole
    assert all((one["start"], one["end"]) == (0.0, 2.5) for one in whole)
    scores = [one["score"] for one in found["segments"]]
    assert scores == sorted(scores, reverse=True)
    table = client.get("/api/teach/found", params={"class": "run", "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert "attachment" in table.headers["content-disposition"]
    (page.folder / "found.csv").write_text(table.text)
    rows = read_labels(page.folder / "found.csv").rows
    assert len(rows) == found["total"]
    assert {row.label for row in rows} == {"run"}
    few = client.get("/api/teach/found", params={"class": "run", "threshold": 0.999}).json()
    assert few["total"] <= found["total"]


def test_labels_outlast_the_server_and_an_index_that_is_built_anew(page, tmp_path):
    teach_some(page)
    page.client.post("/api/teach/head", json={"name": "h"})
    before = page.labels.read_bytes()
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX", overwrite=True, center=True)
    assert page.labels.read_bytes() == before
    (tmp_path / "INDEX/vectors-2.npy").write_bytes(b"")  # a damaged one is replaced as a folder
    VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX", overwrite=True)
    assert page.labels.read_bytes() == before
    assert set(Head.load(tmp_path / "INDEX/heads/h").classes) == set(CLASSES)
    change_index(tmp_path / "INDEX", remove=["run/"])
    page.client.__exit__(None, None, None)
    again = build_page(tmp_path, VideoIndex(tmp_path / "INDEX"))
    with TestClient(again.app, base_url=BASE) as client:
        found = Teacher(client).clips("labelled", 50)
        assert {class_of(clip["path"]) for clip in found["clips"]} == {"jump", "rest"}
        assert client.get("/api/teach").json()["labels"] == 18
    page.client.__enter__()


def test_one_class_alone_is_ordered_by_likeness(page):
    first = next(c for c in page.teacher.clips(count=96)["clips"] if class_of(c["path"]) == "jump")
    page.teacher.teach(first)
    found = page.teacher.clips("certain", 8, "jump")
    assert not found["has_head"]
    assert np.mean([class_of(clip["path"]) == "jump" for clip in found["clips"]]) > 0.7
    assert page.teacher.clips("certain", 8, "no such class")["total"] == 95


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("path", ["label", "undo", "head"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": ""}, 415),
    ],
)
def test_other_sites_write_nothing(refusing, path, headers, status):
    body = {"spans": [{"clip": 0}], "label": "evil", "tab": "x", "name": "evil"}
    sent = {"content-type": "application/json", **headers}
    answer = refusing.client.post(f"/api/teach/{path}", content=json.dumps(body), headers=sent)
    assert answer.status_code == status
    assert tree_of(refusing.folder) == refusing.before


def test_read_only(tmp_path):
    index = write_taught(tmp_path, 4)
    before = sorted(path.name for path in (tmp_path / "INDEX").iterdir())
    page = build_page(tmp_path, index, read_only=True)
    with TestClient(page.app, base_url=BASE) as client:
        assert client.get("/api/index").json()["read_only"] is True
        for route in page.app.routes:
            if "GET" in route.methods:
                continue
            answer = client.post(
                route.path, json={"spans": [{"clip": 0}], "label": "a", "tab": "x"}
            )
            assert answer.status_code == 403, route.path
            assert "read-only" in answer.json()["error"]
        for path in ("", "/clips", "/quality", "/found"):
            assert client.get(f"/api/teach{path}").status_code == 400
        assert client.get("/api/search?video=0").status_code == 200
    assert sorted(path.name for path in (tmp_path / "INDEX").iterdir()) == before


SPAN = {"clip": 0}
BODIES = [
    b"",
    b"[]",
    b"null",
    b"{",
    b'{"spans": NaN}',
    b"[" * 5000,
    b"\xff\xfe",
    *(
        json.dumps({"tab": "x", "label": "a", "spans": [SPAN], **change}).encode()
        for change in (
            {"spans": []},
            {"spans": None},
            {"spans": [1]},
            {"spans": [SPAN] * 2001},
            {"spans": [{"clip": -1}]},
            {"spans": [{"clip": 10**30}]},
            {"spans": [{"clip": True}]},
            {"spans": [{"clip": 1.5}]},
            {"spans": [{"clip": "0"}]},
            {"spans": [{}]},
            {"spans": [{"video": 0, "start": 1}]},
            {"spans": [{"video": 0, "start": 2, "end": 1}]},
            {"spans": [{"video": 0, "start": -1, "end": 1}]},
            {"spans": [{"video": 0, "start": 0, "end": 1e300}]},
            {"spans": [{"video": 99, "start": 0, "end": 1}]},
            {"spans": [{"video": [0], "start": 0, "end": 1}]},
            {"label": ""},
            {"label": 3},
            {"label": "a\nb\x00"},
            {"label": "x" * 200},
            {"label": "\ud800"},
            {"tab": ""},
            {"tab": "../x"},
            {"tab": 4},
            {"revision": "1"},
        )
    ),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[-40:]))
def test_hostile_labels(refusing, body):
    headers = {"content-type": "application/json"}
    answer = refusing.client.post("/api/teach/label", content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]
    assert refusing.labels.read_bytes() == refusing.before[refusing.labels]


NAMES = [
    "",
    "..",
    "../out",
    "a/b",
    "a\\b",
    "/absolute",
    ".hidden",
    "a\x00",
    "x" * 61,
    "a.",
    None,
    3,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_heads_are_written_below_the_index_alone(refusing, name):
    answer = refusing.client.post("/api/teach/head", json={"name": name})
    assert 400 <= answer.status_code < 500
    assert tree_of(refusing.folder) == refusing.before


def test_a_large_body_is_refused(refusing):
    body = b'{"label": "' + b"x" * (1 << 20) + b'"}'
    headers = {"content-type": "application/json"}
    assert (
        refusing.client.post("/api/teach/label", content=body, headers=headers).status_code == 413
    )


@pytest.mark.parametrize(
    "query",
    [
        "order=best",
        "first=-1",
        "count=0",
        "count=501",
        "revision=x",
        "revision=-1",
    ],
)
def test_hostile_orders(refusing, query):
    assert refusing.client.get(f"/api/teach/clips?{query}").status_code == 400


def test_a_full_disk_and_a_folder_that_cannot_be_written(page, monkeypatch):
    def fails(number):
        def write(*_args: object) -> None:
            raise OSError(number, "no", "labels.csv")

        return write

    for number, status in ((28, 507), (30, 403)):
        with monkeypatch.context() as patch:
            patch.setattr("vidfeat.web.label_book.write_label_rows", fails(number))
            answer = page.teacher.label([SPAN], "a")
            assert answer.status_code == status
            assert answer.json()["error"]
    assert not page.labels.exists()
    assert page.client.get("/api/teach").json()["labels"] == 0


def test_a_second_server_is_told_who_has_the_labels(page):
    page.teacher.teach(page.teacher.clips()["clips"][0])
    other = build_page(page.folder, VideoIndex(page.folder / "INDEX"))
    with TestClient(other.app, base_url=BASE) as client:
        answer = Teacher(client).label([SPAN], "a")
        assert answer.status_code == 409
        assert "is being written by process" in answer.json()["error"]


def test_damaged_labels_are_left_alone(page):
    page.labels.write_text("path;label\na.mp4\n")
    for path in ("/api/teach", "/api/teach/clips"):
        answer = page.client.get(path)
        assert answer.status_code == 400
        assert "labels.csv, line 2" in answer.json()["error"]
    assert page.teacher.label([SPAN], "a").status_code == 400
    assert page.labels.read_text() == "path;label\na.mp4\n"
