"""The Dockerfile names what is there: it cannot be built where the tests run."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()


def test_what_is_copied_is_what_a_build_needs():
    copied = {
        name
        for line in re.findall(r"^COPY (.+)$", TEXT, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = project["tool"]["setuptools"]["package-dir"].values()
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    assert {"pyproject.toml", *folders, *files} <= copied


def test_extras_and_python_are_the_projects_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"/source\[(.+)\]", TEXT)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "vidfeat" in project["scripts"] and 'ENTRYPOINT ["vidfeat"]' in TEXT
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)", TEXT, re.MULTILINE)
    oldest = project["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, oldest.split(".")))
