"""Running a notebook's cells in this process, and writing what comes of it as a notebook.

A kernel (ipykernel, nbclient and the twenty packages under them) would do the same in another
process, and import torch there once more: too long for a test.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Cell:
    """A cell and, of code, what it printed and what its last line gave."""

    source: str
    kind: str = "code"
    outputs: list[dict[str, Any]] = field(default_factory=list)


def run_cells(cells: list[Cell], namespace: dict[str, Any]) -> None:
    """Run the code cells in order, in one namespace, and keep their outputs."""
    for cell in cells:
        if cell.kind != "code":
            continue
        printed = io.StringIO()
        body = ast.parse(cell.source).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
            value = None
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
        cell.outputs = []
        if printed.getvalue():
            text = printed.getvalue().splitlines(keepends=True)
            cell.outputs.append({"output_type": "stream", "name": "stdout", "text": text})
        if value is not None:
            cell.outputs.append(_shown(value))


def _shown(value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if isinstance(value, bytes):  # of a PNG
        data = {"image/png": base64.b64encode(value).decode(), "text/plain": ["<picture>"]}
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    return {"output_type": "execute_result", "metadata": {}, "data": data}


def to_notebook(cells: list[Cell]) -> dict[str, Any]:
    """As nbformat 4.5 has it."""
    made: list[dict[str, Any]] = []
    count = 0
    for number, cell in enumerate(cells):
        base = {
            "id": f"cell-{number}",
            "metadata": {},
            "source": cell.source.splitlines(keepends=True),
        }
        if cell.kind == "markdown":
            made.append({"cell_type": "markdown", **base})
            continue
        count += 1
        outputs = [
            {**output, "execution_count": count}
            if output["output_type"] == "execute_result"
            else output
            for output in cell.outputs
        ]
        made.append({"cell_type": "code", "execution_count": count, "outputs": outputs, **base})
    return {
        "cells": made,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def from_notebook(notebook: dict[str, Any]) -> list[Cell]:
    """The cells of a notebook, with the outputs that stand in it."""
    return [
        Cell("".join(cell["source"]), cell["cell_type"], list(cell.get("outputs", [])))
        for cell in notebook["cells"]
    ]
