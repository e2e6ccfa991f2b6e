"""Temporary names fit wherever the final name fits; names match in either Unicode form."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from vidfeat.system.files import (
    atomic_folder,
    atomic_write,
    beside,
    is_temporary_of,
    temporary_name,
)
from vidfeat.system.identities import Names, existing_spelling
from vidfeat.system.lock import OutputLock
from vidfeat.system.written_names import written_identity


@pytest.mark.parametrize("length", [1, 200, 214, 215, 216, 230, 254, 255])
@pytest.mark.parametrize("letter", ["b", "é", "映", "\U0001f600"])
def test_names_of_every_length(length: int, letter: str, tmp_path: Path) -> None:
    size = len(letter.encode())
    name = letter * (length // size) + "b" * (length % size)
    path = tmp_path / name
    with atomic_write(path) as temporary:
        assert is_temporary_of(temporary, path)
        assert len(os.fsencode(temporary.name)) <= 255
        temporary.name.encode("utf-8")  # no letter is cut
        temporary.write_text("x")
    assert path.read_text() == "x"
    assert [file.name for file in tmp_path.iterdir()] == [name]
    path.unlink()
    with atomic_folder(path) as folder:
        (folder / "a").write_text("x")
    for suffix in (".parts", ".lock", ".lock-exclusive"):
        other = temporary_name(beside(path, suffix))
        assert len(os.fsencode(other.name)) <= 255
    with OutputLock(path):
        pass


def test_long_names_stay_apart() -> None:
    first, second = (Path("b" * 250 + end) for end in ("c", "d"))
    assert beside(first, ".parts") != beside(second, ".parts")
    assert beside(first, ".parts") == beside(first, ".parts")
    assert not is_temporary_of(temporary_name(first), second)
    assert beside(Path("f.h5"), ".parts") == Path("f.h5.parts")


NFC, NFD = (unicodedata.normalize(form, "café/ü.mp4") for form in ("NFC", "NFD"))


def test_names_that_look_the_same_are_found() -> None:
    assert Names([NFC]).find(NFD) == NFC
    assert Names([NFD]).find(NFC) == NFD
    both = Names([NFC, NFD, "a"])
    assert [both.find(name) for name in (NFC, NFD, "a", "b")] == [NFC, NFD, "a", None]


def test_existing_spelling(tmp_path: Path) -> None:
    (tmp_path / NFD).parent.mkdir()
    (tmp_path / NFD).write_text("x")
    assert existing_spelling(str(tmp_path / NFC)) == str(tmp_path / NFD)
    assert existing_spelling("gone.mp4") == "gone.mp4"


@pytest.mark.parametrize(
    ("text", "root", "found"),
    [
        (" ./run/a.mp4 ", "", "run/a.mp4"),
        ("run//a.mp4", "", "run/a.mp4"),
        ("/data/v/run/a.mp4", "/data/v", "run/a.mp4"),
        ("/data/v/run/a.mp4", "/data/v/", "run/a.mp4"),
        ("/data/v2/a.mp4", "/data/v", "/data/v2/a.mp4"),
        ("", "/data", ""),
    ],
)
def test_what_a_person_writes(text: str, root: str, found: str) -> None:
    assert written_identity(text, root) == found


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_do_not_depend_on_the_locale(locale: dict[str, str], tmp_path: Path) -> None:
    """A name out of a feature file, on a system whose own names are ASCII or ISO-8859-1."""
    code = (
        "import pathlib, sys\n"
        "from vidfeat.datasets.prepare import new_names\n"
        "from vidfeat.system.identities import text_to_path\n"
        "(name,) = new_names(['\\u6620\\u50cf.avi']).values()\n"
        "assert name == '\\u6620\\u50cf.mp4', ascii(name)\n"
        "assert sys.getfilesystemencoding() != 'utf-8'\n"
        "pathlib.Path(text_to_path(name)).touch()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | locale, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["映像.mp4"]


def test_errors_name_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    """Not the temporary one, which nobody has heard of."""
    with pytest.raises(OSError, match="full") as caught, atomic_folder(tmp_path / "head") as folder:
        raise OSError(28, "full", str(folder / "a/b.npy"))
    assert caught.value.filename == str(tmp_path / "head/a/b.npy")
    with pytest.raises(OSError, match="full") as caught, atomic_write(tmp_path / "f.h5") as file:
        raise OSError(28, "full", str(file))
    assert caught.value.filename == str(tmp_path / "f.h5")
    other = str(tmp_path / "other")
    with pytest.raises(OSError, match="full") as caught, atomic_write(tmp_path / "f.h5"):
        raise OSError(28, "full", other)
    assert caught.value.filename == other
