"""Where commands write, and in what letters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.index_fixtures import write_features
from vidfeat.cli import COMMANDS, cli
from vidfeat.cli.options import OutputPath


def run(
    *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "vidfeat", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "command", [["merge", "f.h5"], ["index", "f.h5"], ["export-features", "f.h5"]]
)
def test_a_folder_that_is_not_there_is_an_error(command: list[str], tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", 4)
    option = "--npy-per-video" if command[0] == "export-features" else "-o"
    done = run(*command, option, "typo/here/out", cwd=tmp_path)
    assert done.returncode == 2
    assert b"there is no folder typo/here" in done.stderr
    assert b"--make-parents" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "typo").exists()
    done = run(*command, option, "typo/here/out", "--make-parents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "typo" / "here" / "out").exists()


def test_all_that_write_can_make_folders() -> None:
    import click

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        names = {param.name for param in command.params}
        writes = any(isinstance(param.type, OutputPath) for param in command.params)
        assert ("make_parents" in names) == writes, name
        assert {"output", "out"}.isdisjoint(names) or writes, name


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_letters_that_a_terminal_lacks_are_escaped(encoding: str, tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", ["映像.mp4", "b.mp4", "\U0001f600.mp4"])
    made = run("index", "f.h5", "-o", "INDEX", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert made.returncode == 0, made.stderr
    duplicates = ["duplicates", "INDEX", "--threshold", "0.001"]
    for arguments in (["search", "INDEX", "b.mp4"], duplicates):
        done = run(*arguments, cwd=tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode(encoding)
        assert ("映像.mp4" in text) == (encoding == "utf-8")
        assert ("\\u6620\\u50cf.mp4" in text) == (encoding != "utf-8")
        assert ("\\ud83d\\ude00.mp4" in text) == (encoding != "utf-8")


def test_a_locale_without_unicode(tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", ["映像.mp4", "b.mp4"])
    run("index", "f.h5", "-o", "INDEX", cwd=tmp_path)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("search", "INDEX", "b.mp4", cwd=tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert b"b.mp4" in done.stdout
