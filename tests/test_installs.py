"""Both kinds of install, from a folder in which a clone is named vidfeat."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.installs import IS_CLONE, install

SCRIPT = """
import vidfeat
import vidfeat.cli, vidfeat.pretrained
assert vidfeat.__file__, "a namespace package"
assert callable(vidfeat.load_encoder) and callable(vidfeat.extract)
"""


@pytest.mark.skipif(not IS_CLONE, reason="no clone of the repository")
@pytest.mark.parametrize("editable", [False, True], ids=["regular", "editable"])
def test_a_clone_beside_the_script_is_not_taken_for_the_package(
    editable: bool, tmp_path: Path
) -> None:
    programs = install(tmp_path / "environment", editable=editable)
    work = tmp_path / "work"
    for name in ("vidfeat", "cli", "pretrained"):
        (work / "vidfeat" / name).mkdir(parents=True)
    (work / "script.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    python = str(programs / "python")
    for words in ((python, "script.py"), (python, "-c", SCRIPT), (str(programs / "vidfeat"), "-h")):
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
