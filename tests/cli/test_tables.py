"""Tables fit the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfeat.cli.tables import show_table

WORDS = st.text("abcdefgh ", max_size=24).map(str.strip)


@given(st.lists(WORDS, min_size=2, max_size=9), st.integers(0, 3), st.data())
def test_a_wide_table_is_printed_in_blocks_and_loses_nothing(columns, count, data):
    rows = [[data.draw(WORDS) for _ in columns] for _ in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("click.echo", said.append)
        patch.setenv("COLUMNS", "80")
        show_table(columns, rows)
    lines = "\n".join(said).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    together = "\n".join(lines)
    assert all(cell in together for cell in columns)
    for row in rows:
        assert all(cell in together for cell in row)


def test_five_heads_are_two_blocks(capsys):
    columns = ["", "majority", "linear", "svm", "knn", "mlp", "attentive"]
    rows = [["95 % interval", "", *["0.000 to 0.562"] * 5]]
    show_table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert sum("95 % interval" in line for line in lines) == 2
    assert max(map(len, lines)) <= 80
