"""The checkout installed into an environment of its own, both ways that pip knows."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

CLONE = Path(__file__).parents[2]
IS_CLONE = (CLONE / ".git").exists()
PARTS = ("vidfeat", "cli", "pretrained", "pyproject.toml", "README.md")


def install(place: Path, *, editable: bool = False) -> Path:
    """The folder of programs of an environment with the checkout, and all that this one has.

    An editable install is finished as the Makefile does it: the root of the sources on the path.
    """
    venv.create(place / "venv", system_site_packages=True, with_pip=False, symlinks=True)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    above = [path for path in sys.path if path.endswith("site-packages")]
    (site / "above.pth").write_text("\n".join(above) + "\n")
    copy = place / "clone"  # pip builds where the sources are
    listed = subprocess.run(
        ["git", "ls-files", *PARTS], cwd=CLONE, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in (*listed, "LICENSE"):
        if (CLONE / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CLONE / name).read_bytes())
    python = place / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    pip += ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    done = subprocess.run(
        [*pip, *(["--editable"] if editable else []), str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if editable:
        found = re.search(
            r"^ROOT_ON_PATH := (.*)$", (CLONE / "Makefile").read_text(encoding="utf-8"), re.M
        )
        assert found is not None
        subprocess.run([str(python), "-c", found[1]], cwd=copy, check=True)
    return python.parent
