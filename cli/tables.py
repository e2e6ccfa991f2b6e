"""Tables that fit the width of the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click

NARROW = 80
"""Columns of a plain terminal, and of output that goes to a file."""


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; one that is too wide is printed in blocks, each with the first column.

    Cells are folded only if a single column next to the first is too wide for the terminal.
    """
    from rich.console import Console

    width = Console().width if Console().is_terminal else NARROW
    widths = [max(_width(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    gap = 3 if _needs(widths, 3) <= width else 2
    start = 1
    while True:
        stop = start + 1
        while stop < len(columns) and _needs([widths[0], *widths[start : stop + 1]], gap) <= width:
            stop += 1
        chosen = [0, *range(start, min(stop, len(columns)))]
        needed = _needs([widths[i] for i in chosen], gap)
        if not Console().is_terminal:
            width = max(width, needed)
        _print([columns[i] for i in chosen], [[row[i] for i in chosen] for row in rows], gap, width)
        if stop >= len(columns):
            return
        start = stop


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for line in cell.splitlines()), default=0)


def _needs(widths: Sequence[int], gap: int) -> int:
    return sum(width + gap for width in widths) + 1


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], gap: int, width: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, gap - 2, 0, 1))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table)
    # rich pads lines to the right edge, and they would wrap in a window made narrower
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
