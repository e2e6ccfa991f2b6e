"""What a killed run leaves beside its output goes with the next run, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.index_fixtures import write_features
from vidfeat.index import VideoIndex
from vidfeat.system import files
from vidfeat.system.files import remove_dead_leftovers, temporary_name


def test_the_folder_of_a_killed_build_is_removed_by_the_next(tmp_path):
    features = write_features(tmp_path / "f.h5", 20)
    script = (
        "import os, sys; from pathlib import Path; from vidfeat.index import build\n"
        "build.finish_base = lambda *args: os.kill(os.getpid(), 9)\n"
        "build.build_index(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    target = tmp_path / "INDEX"
    done = subprocess.run([sys.executable, "-c", script, str(features), str(target)], check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.glob("INDEX.writing-*"))) == 1
    VideoIndex.build(features, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["INDEX", "f.h5"]


def test_what_others_write_stays(tmp_path, monkeypatch):
    """A running process, another machine, another output."""
    target = tmp_path / "INDEX"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [temporary_name(target), tmp_path / f"INDEX.writing-{dead.pid}-note"]
    monkeypatch.setattr(os, "getpid", lambda: dead.pid)
    kept.append(temporary_name(Path(tmp_path / "OTHER")))
    gone = [temporary_name(target), temporary_name(target)]
    monkeypatch.setattr(files, "_machine", lambda: "0000")
    kept.append(temporary_name(target))
    monkeypatch.undo()
    for path in kept + gone[:1]:
        path.mkdir()
        (path / "part").touch()
    gone[1].touch()
    remove_dead_leftovers(target)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_the_file_of_a_killed_writer_is_removed_by_the_next(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from vidfeat.system.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    for name in ("scores.h5", "other.h5"):
        command = [sys.executable, "-c", script, str(tmp_path / name)]
        assert subprocess.run(command, check=False).returncode == -9
    files._temporary_files_of.cache_clear()
    with files.atomic_write(tmp_path / "scores.h5") as file:
        file.write_bytes(b"whole")
    names = sorted(path.name.partition(".writing-")[0] for path in tmp_path.iterdir())
    assert names == ["other.h5", "scores.h5"]
    assert (tmp_path / "scores.h5").read_bytes() == b"whole"


def test_a_folder_that_was_being_replaced_comes_back(tmp_path):
    """Killed between the two renames: what was there is not lost, and is replaced in the end."""
    script = (
        "import os, sys; from pathlib import Path; from vidfeat.system.files import atomic_folder\n"
        "target = Path(sys.argv[1])\n"
        "with atomic_folder(target) as folder:\n"
        "    (folder / 'new').touch()\n"
        "    replace = Path.replace\n"
        "    def killed(self, other):\n"
        "        if other == target: os.kill(os.getpid(), 9)\n"
        "        return replace(self, other)\n"
        "    Path.replace = killed"
    )
    target = tmp_path / "head"
    target.mkdir()
    (target / "old").touch()
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -9
    assert not target.exists()
    with pytest.raises(FileExistsError, match="head"), files.atomic_folder(target, replace=False):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["head", "old"]
    with files.atomic_folder(target) as folder:
        (folder / "newer").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["head", "newer"]
