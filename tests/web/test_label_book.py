"""The labels of the page: their file is the state, whatever is done and however often undone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.datasets.labels import read_labels
from vidfeat.errors import DataError, LockedError, UsageError
from vidfeat.web.label_book import LabelBook, Span, checked_class, seconds

SPANS = [
    Span("a.mp4", 0, 1000),
    Span("a.mp4", 500, 1500),
    Span("a.mp4", 0, 4000),
    Span("a.mp4", None, None),
    Span('b/ü,"q".mp4', 0, 33),
    Span('b/ü,"q".mp4', 1001, None),
]
STEP = st.one_of(
    st.tuples(
        st.lists(st.sampled_from(SPANS), min_size=1, max_size=3),
        st.sampled_from(["run", "jump, high", "Ünü", None]),
        st.sampled_from("AB"),
    ),
    st.tuples(st.just("undo"), st.sampled_from("AB")),
)


def on_disk(path: Path) -> dict[Span, str]:
    try:
        rows = read_labels(path).rows
    except DataError:  # not one label in it
        return {}
    return {Span.of(r.path, r.start_seconds, r.end_seconds): r.label for r in rows}


def held(book: LabelBook) -> dict[Span, str]:
    return {Span.of(r.path, r.start_seconds, r.end_seconds): r.label for r in book.rows()}


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(STEP, max_size=8))
def test_the_file_is_always_the_state(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("book") / "labels.csv"
    book = LabelBook(path)
    for step in steps:
        if step[0] == "undo":
            book.undo(step[1])
        else:
            spans, label, author = step
            book.change(spans, label, author)
            last = spans[-1]
            kept = held(book)
            assert kept.get(last) == label
            inside = [one for one in kept if one.path == last.path and last.holds(one)]
            assert set(inside) <= (set() if label is None else set(spans))
        assert on_disk(path) == held(book)
        assert dict(book.classes) == {
            name: list(held(book).values()).count(name) for name in set(held(book).values())
        }
    book.close()
    again = LabelBook(path)
    assert held(again) == held(book)
    assert not list(path.parent.glob("*writing*"))


@settings(deadline=None, max_examples=20)
@given(
    steps=st.lists(st.tuples(st.sampled_from(SPANS), st.sampled_from(["x", "y", None])), max_size=6)
)
def test_undo_goes_back_through_every_state(tmp_path_factory, steps):
    book = LabelBook(tmp_path_factory.mktemp("book") / "labels.csv")
    states = []
    for span, label in steps:
        states.append(held(book))
        book.change([span], label, "A")
    while states:
        assert book.undoable("A")
        book.undo("A")
        assert held(book) == states.pop()
    assert not book.undoable("A")
    assert book.undo("A") == []


def test_two_pages_keep_each_others_labels(tmp_path):
    book = LabelBook(tmp_path / "labels.csv")
    one, two = SPANS[0], SPANS[4]
    book.change([one], "run", "A")
    book.change([two], "rest", "B")
    book.change([one], "jump", "B")
    assert held(book) == {one: "jump", two: "rest"}
    book.undo("A")  # B has said something else since: that stays
    assert held(book) == {one: "jump", two: "rest"}
    book.undo("B")
    assert held(book) == {one: "run", two: "rest"}
    assert book.changed_since(one, 1)
    assert not book.changed_since(SPANS[5], 0)


def test_one_server_an_index(tmp_path):
    book = LabelBook(tmp_path / "labels.csv")
    book.change([SPANS[0]], "run", "A")
    other = LabelBook(tmp_path / "labels.csv")
    with pytest.raises(LockedError, match="is being written"):
        other.change([SPANS[0]], "jump", "B")
    book.close()
    other.change([SPANS[0]], "jump", "B")
    assert on_disk(tmp_path / "labels.csv") == {SPANS[0]: "jump"}
    other.close()
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_an_edited_file_is_read_again_and_a_damaged_one_is_left_alone(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path,label,group,note\na.mp4,run,cam1,x\nb.mp4,jump,cam2,y\n")
    book = LabelBook(path)
    assert held(book) == {Span("a.mp4", None, None): "run", Span("b.mp4", None, None): "jump"}
    book.change([Span("a.mp4", 0, 1000)], "Jump", "A")
    assert [row.group for row in read_labels(path).rows] == ["cam1", "cam2", "cam1"]
    assert dict(book.classes) == {"run": 1, "jump": 2}, "no two classes that differ in case"
    path.write_text("path,label\nc.mp4,run\n")
    os.utime(path, ns=(1, 1))
    assert book.refresh()
    assert held(book) == {Span("c.mp4", None, None): "run"}
    assert not book.undoable("A")
    path.write_text("path,label\nc.mp4,run\nc.mp4,jump\n")
    with pytest.raises(DataError, match="keep one"):
        book.change([SPANS[0]], "run", "A")
    assert path.read_text().endswith("c.mp4,jump\n")


@pytest.mark.parametrize("name", ["", "  ", "a\x00b", "x" * 81, "\ud800", "a\u202eb"])
def test_names_that_no_class_can_have(tmp_path, name):
    book = LabelBook(tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="valid class name"):
        book.change([SPANS[0]], name, "A")
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize("path", [" a.mp4", "a.mp4\n", "a\nb.mp4", "./a.mp4", "a\u2028b.mp4"])
def test_paths_that_the_file_would_not_give_back(tmp_path, path):
    with pytest.raises(UsageError, match="rename the video"):
        LabelBook(tmp_path / "labels.csv").change([Span(path, 0, 1)], "run", "A")


def test_what_cannot_be_written_has_not_happened(tmp_path, monkeypatch):
    book = LabelBook(tmp_path / "labels.csv")
    book.change([SPANS[0]], "run", "A")

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vidfeat.web.label_book.write_label_rows", full)
        with pytest.raises(OSError, match="No space"):
            book.change([SPANS[0]], "jump", "A")
    assert held(book) == on_disk(tmp_path / "labels.csv") == {SPANS[0]: "run"}
    assert book.undo("A") == [SPANS[0]]


def test_a_cleaned_folder_is_written_again(tmp_path, monkeypatch):
    """Who changes an index removes temporary files that it does not know."""
    import vidfeat.web.label_book as module

    write, calls = module.write_label_rows, []

    def removed(path, rows):
        write(path, rows)
        calls.append(path)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(module, "write_label_rows", removed)
    book = LabelBook(tmp_path / "labels.csv")
    book.change([SPANS[0]], "run", "A")
    assert on_disk(tmp_path / "labels.csv") == {SPANS[0]: "run"}


def test_a_server_that_was_killed_leaves_no_lock(tmp_path):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from vidfeat.web.label_book import LabelBook, Span\n"
        "book = LabelBook(Path(sys.argv[1]))\n"
        "book.change([Span('a.mp4', 0, 1000)], 'run', 'A')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "labels.csv"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    book = LabelBook(path)
    book.change([SPANS[4]], "rest", "B")
    assert on_disk(path) == {SPANS[0]: "run", SPANS[4]: "rest"}


def test_small_parts():
    assert [seconds(v) for v in (None, 0.0, 1.5, 2.0004, 10.0)] == ["", "0", "1.5", "2", "10"]
    assert checked_class("  two   words ") == "two words"
    assert Span.of("a", 1.23456, 2.0) == Span("a", 1235, 2000)
