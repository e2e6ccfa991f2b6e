"""Lists and tables as editors and spreadsheets save them: the same rows come out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.errors import DataError, UsageError
from vidfeat.system.text_tables import read_lines, read_table

CELL = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters=',;"\t'),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    between=st.sampled_from([",", ";", "\t", " , ", "; "]),
    last=st.booleans(),
)
def test_the_same_rows_come_out(
    rows: list[tuple[str, str, str]],
    mark: str,
    end: str,
    between: str,
    last: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("t") / "t.csv"
    lines = [between.join(row) for row in [("Path", "LABEL ", "split"), *rows]]
    file.write_bytes((mark + end.join(lines) + (end if last else "")).encode())
    table = read_table(file)
    assert table.columns == ("path", "label", "split")
    assert [(row["path"], row["label"], row["split"]) for row in table.rows] == rows


def test_short_and_long_rows_quotes_and_commas(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('path;start_seconds;note\na.mp4;1,5;"x;y"\n\nb.mp4\nc.mp4;2.25;n;more;\n')
    table = read_table(file)
    assert [row.line for row in table.rows] == [2, 4, 5]
    assert [row.seconds("start_seconds") for row in table.rows] == [1.5, None, 2.25]
    assert table.rows[0]["note"] == "x;y"
    assert table.rows[1]["note"] == table.rows[1]["unknown"] == ""
    file.write_text("path;start_seconds\na;inf\nb;x\nc;00:01\n")
    for row in read_table(file).rows:
        with pytest.raises(ValueError, match=r"start_seconds is .* expected seconds"):
            row.seconds("start_seconds")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"path,label\na,b\ncaf\xe9,c\n", "line 3: not UTF-8"),
        ("path,label\n".encode("utf-16"), "UTF-16"),
        ("path,label\na,b\n".encode("utf-16-le"), "UTF-16"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_names_the_file(data: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    if data is not None:
        file.write_bytes(data)
    for error in (DataError, UsageError):
        with pytest.raises(error, match=said) as raised:
            read_table(file, error)
        assert str(file) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_line_with_which_excel_names_its_separator(separator: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [f"sep={separator}", separator.join(("path", "label")), separator.join(("a.mp4", "b"))]
    file.write_bytes(("\ufeff" + "\r\n".join(rows)).encode())
    table = read_table(file)
    assert table.columns == ("path", "label")
    assert [(row.line, row["label"]) for row in table.rows] == [(3, "b")]


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "l.txt"
    file.write_bytes("\ufeffa.avi 1 ;\r\n\r\n b.avi 2\r\n".encode())
    assert list(read_lines(file)) == [(1, "a.avi 1"), (3, "b.avi 2")]
