"""The cache folder: named, the platform's, or a temporary one where the home is read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidfeat.system import cache
from vidfeat.system.cache import chosen_cache, writable_cache

MATPLOTLIB = """
import vidfeat.evaluation.plots as plots
with plots.figure(1, 1) as (made, axes):
    made.savefig('p.png')
"""
WEB = "from vidfeat.web.cache import default_folder; print(default_folder())"


@pytest.fixture(autouse=True)
def _fresh():
    cache._writable.cache_clear()
    yield
    cache._writable.cache_clear()


def test_the_variable_moves_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "here"))
    from vidfeat.datasets.scan import scan_file
    from vidfeat.encoders.sources.code_trust import record_file
    from vidfeat.system.download import cache_folder
    from vidfeat.web.cache import default_folder

    for path in (cache_folder(), default_folder(), scan_file(tmp_path), record_file()):
        assert path.is_relative_to(tmp_path / "here"), path


def test_a_read_only_cache_is_read_and_another_one_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "file" / "below"))  # cannot be made
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = writable_cache()
    assert folder.is_dir() and folder.parent == tmp_path and folder != chosen_cache()
    assert writable_cache() == folder
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "set VIDFEAT_CACHE to choose another" in told


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch, trap):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there = tmp_path / f"vidfeat-cache-{os.getuid()}"
    if trap == "link":
        (tmp_path / "theirs").mkdir()
        there.symlink_to(tmp_path / "theirs")
    else:
        there.mkdir()
        there.chmod(0o777)
    assert writable_cache() != there


@pytest.mark.parametrize("code", [MATPLOTLIB, WEB], ids=["matplotlib", "web"])
def test_a_home_that_cannot_be_written_costs_one_line(tmp_path: Path, code: str) -> None:
    """Root may write everywhere: a home below a file is one that nobody can."""
    (tmp_path / "file").touch()
    hidden = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "VIDFEAT_CACHE")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("note: the cache folder"), done.stderr
