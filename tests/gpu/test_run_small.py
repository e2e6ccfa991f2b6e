"""The GPU checks in small sizes, on a CPU, so that they are known to work on a GPU machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xz") is None, reason="no xz")
def test_all_rows_run_on_a_processor(shared_data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "out")}
    archive = tmp_path / "pack.tar.xz"
    subprocess.run(
        [HERE / "pack.sh", "--quick", "--without-packages", "--output", archive],
        env=environment,
        check=True,
    )
    finished = subprocess.run(
        [HERE / "run.sh", "--device", "cpu", "--limit", "600"],
        env={**environment, "PACK": str(archive)},
        check=False,
        capture_output=True,
        text=True,
    )
    log = (tmp_path / "out" / "log.txt").read_text()
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}\n{log[-5000:]}"
    results = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {"machine", "pixels", "cores", "start-up", "kill"} <= set(results)
    for name, result in results.items():
        assert result.get("ok") or result.get("skipped"), (name, result)
