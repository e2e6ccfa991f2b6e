"""Bad input through the command line, in processes of its own: one line and the remedy."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.support.bad_videos import BAD, bad_folder, opened
from tests.support.cli_session import Outcome, Session, environment
from tests.support.video_assets import render, repeat_video, x264

TINY = ("--model", "r2d_10", "--weights", "random", "--clip-frames", "4", "--device", "cpu")
ROWS_OF_TEN = 3  # clips of 4 in 10 frames: 0, 4, and 6, moved back to end on the last


def fresh(
    *arguments: str | Path,
    cwd: Path | None = None,
    given: bytes = b"",
    limit_bytes: int | None = None,
) -> Outcome:
    """Run the command line in a process of its own."""

    def limit() -> None:
        assert limit_bytes is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "vidfeat", *map(os.fspath, arguments)],
        cwd=cwd,
        input=given,
        capture_output=True,
        timeout=300,
        check=False,
        env=environment(),
        preexec_fn=limit if limit_bytes is not None else None,
    )
    return Outcome(done.returncode, done.stderr, done.stdout)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """The command line in a process that is kept."""
    session = Session()
    yield session
    session.close()


def file_name(identity: str) -> bytes:
    """The bytes of a file name out of its identity: what the README says of the escapes."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes.fromhex(m[1].decode()), identity.encode())


def identities(file: h5py.File, group: str) -> list[str]:
    return [path.decode() for path in file[f"{group}/path"]]


def check_whole(file: h5py.File) -> None:
    """The contract of the feature file: rows of all videos, in order, none twice."""
    counts, offsets = file["videos/count"][:], file["videos/offset"][:]
    total = len(file["vectors"])
    assert offsets.tolist() == [0, *np.cumsum(counts)[:-1].tolist()]
    assert counts.sum() == total
    assert file["video"][:].tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
    assert np.isfinite(file["vectors"][:]).all()
    assert (file["start_seconds"][:] < file["end_seconds"][:]).all()
    assert file.attrs["format"] == "vidfeat-features"


# --- the folder of everything --------------------------------------------------------------------


def test_each_good_video_comes_through_and_each_bad_one_is_a_line(tmp_path: Path) -> None:
    folder = bad_folder(tmp_path)
    output = tmp_path / "features.h5"
    with opened(folder.secrets[0]) as was_opened:
        outcome = fresh("extract", folder.root, "-o", output, *TINY)
        assert not was_opened()
    assert outcome.status == 1
    with h5py.File(output) as file:
        check_whole(file)
        found = identities(file, "videos")
        assert len(set(found)) == len(found)
        by_name = {file_name(identity): row for row, identity in enumerate(found)}
        assert set(by_name) == {*folder.good, *folder.damaged}
        for name, count in folder.good.items():
            row = by_name[name]
            assert file["videos/num_frames"][row] == count, name
            assert file["videos/count"][row] == (ROWS_OF_TEN if count == 10 else 4), name
            assert (file["videos/width"][row], file["videos/height"][row]) == (96, 64)
            assert file["videos/fps"][row] == 30
            status_of = (folder.root / os.fsdecode(name)).stat()
            assert file["videos/size_bytes"][row] == status_of.st_size
            assert file["videos/mtime_ns"][row] == status_of.st_mtime_ns
        for name, count in folder.damaged.items():
            row = by_name[name]
            assert file["videos/num_frames"][row] == count, name
            assert file["videos/count"][row] == -(-count // 4), name
        same = [n for n in folder.good if b"same" in n]
        assert len(same) == 4

        failed = identities(file, "errors")
        assert {file_name(identity) for identity in failed} == {*folder.bad, *folder.damaged}
        assert len(failed) == len(set(failed))
        kinds = [kind.decode() for kind in file["errors/kind"]]
        messages = [message.decode() for message in file["errors/message"]]
        for identity, kind, message in zip(failed, kinds, messages, strict=True):
            name = file_name(identity)
            assert kind in folder.bad.get(name, {"damaged"}), (name, kind, message)
            assert 10 < len(message) < 400
            assert "\n" not in message
            assert "Errno" not in message
            if name in folder.damaged:
                assert re.search(r"\d\.\d+ s", message), message
        # standard error: a line each, with the name and the reason
        for identity, message in zip(failed, messages, strict=True):
            shown = identity.replace("\n", "\\n")
            mine = [line for line in outcome.lines if shown in line and message in line]
            assert len(mine) == 1, (identity, message, outcome.lines)


def test_names_given_one_by_one(session: Session, tmp_path: Path) -> None:
    """Relative names that look like addresses and options, as a shell hands them on."""
    names = ["clip:one.mp4", "http:a.mp4", "with space.mp4", "-dash.mp4", "100%.mp4"]
    source = render(tmp_path / "source.mp4", range(10), options=x264("bframes=0"))
    for name in names:
        shutil.copyfile(source, tmp_path / name)
    outcome = session("extract", "-o", "out.h5", *TINY, "--", *names, cwd=tmp_path)
    assert outcome.status == 0, outcome.lines
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(identities(file, "videos")) == sorted(names)


def test_names_in_a_list_between_zero_bytes(tmp_path: Path) -> None:
    names = [b"new\nline.mp4", b"latin-\xe9.mp4", b"plain.mp4"]
    source = render(tmp_path / "source.mp4", range(10), options=x264("bframes=0"))
    for name in names:
        shutil.copyfile(source, tmp_path / os.fsdecode(name))
    outcome = fresh(
        *("extract", "--list0", "-", "-o", tmp_path / "out.h5", *TINY),
        given=b"\0".join(names),
        cwd=tmp_path,
    )
    assert outcome.status == 0, outcome.lines
    with h5py.File(tmp_path / "out.h5") as file:
        assert {file_name(i) for i in identities(file, "videos")} == set(names)


# --- nothing can be done -------------------------------------------------------------------------


def test_all_inputs_bad(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("text", "empty", "truncated"):
        BAD[name].make(folder)
    outcome = session("extract", folder, "-o", tmp_path / "features.h5", *TINY)
    assert outcome.status == 2
    for name in ("text.mp4", "empty.mp4", "truncated.mp4"):
        starts = [line.startswith(f"vidfeat: {name}: ") for line in outcome.lines]
        assert sum(starts) == 1, outcome.lines
    assert len(outcome.lines) == 4  # and one that says what that comes to


def test_all_inputs_bad_keeps_what_was_there(session: Session, tmp_path: Path) -> None:
    """A video of an earlier run that has gone bad since: the old file is not thrown away."""
    folder = tmp_path / "videos"
    render(folder / "one.mp4", range(10), options=x264("bframes=0"))
    output = tmp_path / "features.h5"
    assert session("extract", folder, "-o", output, *TINY).status == 0
    before = output.read_bytes()
    (folder / "one.mp4").write_bytes(b"no longer a video")
    outcome = session("extract", folder, "-o", output, *TINY)
    assert outcome.status == 2, outcome.lines
    assert any("one.mp4" in line for line in outcome.lines)
    assert output.read_bytes() == before


def test_no_such_path(session: Session, tmp_path: Path) -> None:
    session("extract", tmp_path / "nowhere.mp4", "-o", tmp_path / "out.h5", *TINY).one_line(
        "nowhere.mp4"
    )
    assert list(tmp_path.iterdir()) == []


def test_no_video_found(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing to see")
    session("extract", folder, "-o", tmp_path / "out.h5", *TINY).one_line("videos", ".mp4")
    assert not (tmp_path / "out.h5").exists()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of one video of three clips."""
    render(tmp_path / "videos" / "one.mp4", range(10), options=x264("bframes=0"))
    return tmp_path / "videos"


@pytest.mark.parametrize("content", [b"my thesis\n" * 50, b"", b"\x89HDF\r\n\x1a\n broken", "h5"])
def test_output_that_is_no_feature_file(
    content: bytes | str, videos: Path, session: Session, tmp_path: Path
) -> None:
    output = tmp_path / "thesis.h5"
    if isinstance(content, bytes):
        output.write_bytes(content)
    else:
        with h5py.File(output, "w") as file:
            file["results"] = np.arange(5)
    before = output.read_bytes()
    session("extract", videos, "-o", output, *TINY).one_line("thesis.h5")
    assert output.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([output, videos])


def test_output_that_is_an_input(videos: Path, session: Session) -> None:
    before = (videos / "one.mp4").read_bytes()
    session("extract", videos, "-o", videos / "one.mp4", *TINY).one_line("one.mp4")
    assert (videos / "one.mp4").read_bytes() == before


def test_output_that_is_a_folder(videos: Path, session: Session, tmp_path: Path) -> None:
    (tmp_path / "out.h5").mkdir()
    session("extract", videos, "-o", tmp_path / "out.h5", *TINY).one_line("out.h5")
    assert (tmp_path / "out.h5").is_dir()


def test_output_in_a_folder_that_is_not_there(
    videos: Path, session: Session, tmp_path: Path
) -> None:
    outcome = session("extract", videos, "-o", tmp_path / "none" / "out.h5", *TINY)
    if outcome.status == 0:  # made for the user
        assert (tmp_path / "none" / "out.h5").is_file()
    else:
        outcome.one_line("none")


def test_output_that_another_run_is_writing(videos: Path, session: Session, tmp_path: Path) -> None:
    from vidfeat.system.lock import OutputLock

    output = tmp_path / "features.h5"
    assert session("extract", videos, "-o", output, *TINY).status == 0
    before = output.read_bytes()
    render(videos / "two.mp4", range(10), options=x264("bframes=0"))
    with OutputLock(output):
        outcome = session("extract", videos, "-o", output, *TINY)
    outcome.one_line("features.h5", str(os.getpid()))
    assert output.read_bytes() == before
    # and once the other is gone, the run goes on
    assert session("extract", videos, "-o", output, *TINY).status == 0
    with h5py.File(output) as file:
        assert identities(file, "videos") == ["one.mp4", "two.mp4"]


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own that holds so much and no more."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes the superuser")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("how", ["small disk", "small files"])
def test_full_disk(how: str, videos: Path, session: Session, tmp_path: Path) -> None:
    """The second run wants some 800 kB where 250 are: the first run's file stays."""
    if how == "small files":
        folder = tmp_path / "disk"
        folder.mkdir()
        _fill(videos, folder, session, limit_bytes=250_000)
    else:
        with small_disk(tmp_path / "disk", 500) as folder:
            _fill(videos, folder, session)


def _fill(videos: Path, folder: Path, session: Session, limit_bytes: int | None = None) -> None:
    output = folder / "features.h5"
    wide = ("--layer", "layer1,layer2,layer3,layer4", "--pool", "mean,max")  # 7,680 bytes per clip
    arguments = ("extract", videos, "-o", output, *TINY, "--hop-frames", "1", *wide)
    assert session(*arguments).status == 0
    before = output.read_bytes()
    repeat_video(videos / "one.mp4", videos / "two.mp4", 11)
    if limit_bytes is None:
        outcome = session(*arguments)
    else:
        outcome = fresh(*arguments, limit_bytes=limit_bytes)
    outcome.one_line("disk")
    reason = outcome.lines[0].lower()
    assert "space" in reason or "too large" in reason
    assert output.read_bytes() == before
    if limit_bytes is None:
        return
    # with room again the run goes on and ends
    assert session(*arguments).status == 0
    with h5py.File(output) as file:
        check_whole(file)
        assert identities(file, "videos") == ["one.mp4", "two.mp4"]


# --- the other commands --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["truncated", "text", "broken_link", "missing", "pipe"])
def test_info_of_a_bad_file(name: str, session: Session, tmp_path: Path) -> None:
    path = BAD[name].make(tmp_path)
    session("info", path).one_line(path.name)
