"""docs/tour.ipynb runs, and shows what it was written to show."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.notebook import from_notebook, run_cells

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"


@pytest.fixture
def _in_an_empty_folder(tmp_path: Path):
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def test_it_is_a_notebook_with_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    assert "image/png" in json.dumps(notebook)
    assert "/home" not in json.dumps(notebook) and "/tmp" not in json.dumps(notebook)


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_it_runs_as_written() -> None:
    """With fewer videos, so that it takes seconds: numbers differ, kinds of outputs do not."""
    cells = from_notebook(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    expected = [[output["output_type"] for output in cell.outputs] for cell in cells]
    for cell in cells:
        cell.source = cell.source.replace("per_class=8", "per_class=5")
    run_cells(cells, {"__name__": "__main__"})
    assert [[output["output_type"] for output in cell.outputs] for cell in cells] == expected
