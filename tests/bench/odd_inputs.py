"""Odd inputs, before and after: a table of commands with the expected and the actual values.

    python tests/bench/odd_inputs.py [--before DIR] [--checkout .] [--made ../shared/data/odd]
        [--work FOLDER] [CASE ...]

The inputs come from the ``make.py`` of ``--made``, whose README gives the right values; a few cases
are made here. Each checkout has its own ``.venv`` and runs its own command line, so that versions
with other module names can be compared. The exit status is 1 if a value is wrong now.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

HERE = Path(__file__).resolve().parents[2]
if str(HERE) not in sys.path:  # run as a file
    sys.path.insert(0, str(HERE))

from tests.support.odd_videos import scene, write_video  # noqa: E402

BUNDLED = ("--model", "bundled")
HEADER = "path,start_seconds,end_seconds\n"
# Without dac_override, a folder's mode applies to root too.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@dataclass(frozen=True)
class Row:
    """One command: what it should give, and what it gave."""

    what: str
    right: str
    found: str

    @property
    def passed(self) -> bool:
        """Whether the actual value is the right one."""
        return self.right == self.found


@dataclass(frozen=True)
class Answer:
    """How a command ended, and all that it printed."""

    status: int
    text: str
    seconds: float

    def says(self, pattern: str) -> bool:
        """Whether its output matches a pattern."""
        return re.search(pattern, self.text, re.DOTALL) is not None

    def then(self, *parts: str) -> str:
        """The exit status and the other parts of the value."""
        status = "no answer in time" if self.status == 124 else f"exit {self.status}"
        trace = ["a traceback"] if "Traceback" in self.text else []
        return ", ".join([status, *trace, *[part for part in parts if part]])


class Tool:
    """The command line of one checkout, in the folder of a case."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        self.bin = checkout.resolve() / ".venv" / "bin"

    def at(self, name: str) -> Tool:
        """The same tool in another folder."""
        other = Tool.__new__(Tool)
        other.folder, other.bin = self.folder / name, self.bin
        return other

    def __call__(self, *arguments: str, env: dict[str, str] | None = None, **how: float) -> Answer:
        """Run ``vidfeat`` with these arguments."""
        return self.run([self.bin / "vidfeat", *arguments], env=env, **how)

    def run(
        self,
        command: Sequence[str | Path],
        env: dict[str, str] | None = None,
        timeout: float = 240,
    ) -> Answer:
        """Run any command."""
        began = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            out = process.communicate(timeout=timeout)[0]
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, status = process.communicate()[0], 124
        return Answer(status, out.decode("utf-8", "replace"), time.monotonic() - began)

    def extract(self, *arguments: str, to: str = "f.h5", **how: float) -> Answer:
        """Run ``vidfeat extract`` with the bundled network."""
        return self("extract", *arguments, "-o", to, *BUNDLED, **how)

    def python(self, code: str) -> str:
        """The last line that some Python code prints."""
        answer = self.run([self.bin / "python", "-c", code])
        lines = answer.text.strip().splitlines()
        return lines[-1] if lines else f"exit {answer.status}"

    def held(self, name: str = "f.h5") -> str:
        """Numbers of videos, clips and errors in a feature file."""
        if not (self.folder / name).is_file():
            return "no file"
        with h5py.File(self.folder / name) as file:
            counts = len(file["videos/path"]), len(file["vectors"]), len(file["errors/path"])
        return "{} videos, {} clips, {} errors".format(*counts)

    def column(self, column: str, name: str = "f.h5") -> list[object]:
        """A column of the videos of a feature file."""
        if not (self.folder / name).is_file():
            return []
        with h5py.File(self.folder / name) as file:
            return list(file[f"videos/{column}"][:])


Case = Callable[[Tool], Iterator[Row]]
CASES: dict[str, Case] = {}
OWN: set[str] = set()


def case(function: Case) -> Case:
    """Register a case from the README of the odd inputs."""
    CASES[function.__name__] = function
    return function


def own(function: Case) -> Case:
    """Register a case that is made here."""
    OWN.add(function.__name__)
    return case(function)


# --- answers that were wrong ----------------------------------------------------------------------


@case
def dupstamp(tool: Tool) -> Iterator[Row]:
    """Item 1."""
    right = "20.000 s, 30 frames/s, 600 frames, 25 clips; info the same"
    for name in ("clean", "dup", "disordered"):
        tool.extract(f"{name}.mkv", to=f"{name}.h5")
        said = tool("info", f"{name}.mkv")
        found = (
            f"{tool.column('duration_seconds', f'{name}.h5')[0]:.3f} s, "
            f"{tool.column('fps', f'{name}.h5')[0]:.4g} frames/s, "
            f"{tool.column('num_frames', f'{name}.h5')[0]} frames, "
            f"{tool.column('count', f'{name}.h5')[0]} clips; info "
        )
        same = said.says(r"of 20\.000 s.*600 frames.*at 30 frames/s")
        found += "the same" if same else said.text.splitlines()[0].partition("of ")[2]
        yield Row(f"1 {name}.mkv", right, found)


@case
def threads(tool: Tool) -> Iterator[Row]:
    """Item 2."""
    script = tool.folder.parent / "threads.py"
    answer = tool.run([tool.bin / "python", script], timeout=400)
    found = re.findall(r": (\d+) of 20 differ", answer.text)
    yield Row(
        "2 encode in 1 and 4 threads", "0 and 0 of 20 differ", " and ".join(found) + " of 20 differ"
    )


_CORNERS = """
import vidfeat.video, numpy
try: from vidfeat.video import read_frames
except ImportError: from vidfeat.video.reader import read_frames
f = read_frames({name!r}, [0])[0]
names = {{(1,0,0): 'R', (0,1,0): 'G', (0,0,1): 'B', (1,1,1): 'W'}}
at = [(4, 4), (4, -5), (-5, 4), (-5, -5)]
print(''.join(names[tuple((f[p] > 128).astype(int))] for p in at), f.shape[1], 'x', f.shape[0])
"""


@case
def mirrored(tool: Tool) -> Iterator[Row]:
    """Item 3: all eight orientations, as read and as prepared."""
    shown = {
        "plain": "RGBW 96 x 64",
        "hflip": "GRWB 96 x 64",
        "vflip": "BWRG 96 x 64",
        "transpose": "RBGW 64 x 96",
        "transverse": "WGBR 64 x 96",
        "rot90": "BRWG 64 x 96",
        "rot180": "WBGR 96 x 64",
        "rot270": "GWRB 64 x 96",
    }
    (tool.folder / "in" / "a").mkdir(parents=True, exist_ok=True)
    for name, right in shown.items():
        yield Row(f"3 {name}.mp4", right, tool.python(_CORNERS.format(name=f"{name}.mp4")))
        shutil.copy(tool.folder / f"{name}.mp4", tool.folder / "in" / "a")
    tool("prepare", "in", "-o", "prepared", "--workers", "1")
    for name, right in shown.items():
        path = next((tool.folder / "prepared").rglob(f"{name}*"), None)
        found = "no file" if path is None else tool.python(_CORNERS.format(name=str(path)))
        yield Row(f"3 {name}.mp4, prepared", right.split()[0], found.split()[0])


@case
def folder_parts(tool: Tool) -> Iterator[Row]:
    """Item 4."""
    tests = {"usual": "test/", "valid": "test/", "training": "testing/", "higher": "dataset/test/"}
    for name, part in tests.items():
        tool.extract(name, to=f"{name}.h5")
        head = f"head-{name}"
        tool("finetune", f"{name}.h5", "--labels", "folders", "--no-report", "-o", head)
        table = tool.folder / head / "predictions.csv"
        rows = table.read_text().splitlines()[1:] if table.is_file() else []
        tested = sum(row.startswith(part) for row in rows)
        yield Row(
            f"4 {name}: finetune",
            f"8 tested, 8 of them in {part}",
            f"{len(rows)} tested, {tested} of them in {part}",
        )
        answer = tool(
            "train", "tiny", "--data", name, "-o", f"run-{name}", "--set", "train.epochs=1"
        )
        if answer.says("No such option"):
            answer = tool(
                "train", "tiny", "--data", name, "--out", f"run-{name}", "--set", "train.epochs=1"
            )
        right = "2 classes, 12 to train on, 4 to evaluate on"
        lower = answer.status == 2 and answer.says(f"{name}/dataset")
        yield Row(f"4 {name}: train", right, right if lower else _counts(answer))


def _counts(answer: Answer) -> str:
    """Numbers of classes and videos that a training run reports."""
    patterns = (r"(\d+) classes", r"train (\d+)", r"of (\d+) videos\b(?!\s*\n.*looked)")
    found = [re.findall(pattern, answer.text) for pattern in patterns]
    classes, train, evaluate = (own[-1] if own else "-" for own in found)
    return f"{classes} classes, {train} to train on, {evaluate} to evaluate on"


@case
def same_names(tool: Tool) -> Iterator[Row]:
    """Item 5."""
    for camera in ("cam1", "cam2"):
        tool.extract(camera, to=f"{camera}.h5")
    tool("index", "cam1.h5", "-o", "INDEX")
    answer = tool("index", "-o", "INDEX", "--add", "cam2.h5")
    refused = answer.status != 0 and answer.says("cam1.*cam2|cam2.*cam1")
    kept = tool("search", "INDEX", "cam1/day1/0000.mp4", "-k", "1", "--json").text
    sure = re.search(r'"score": ([\d.]+)', kept)
    found = f"refused, names both: {refused}; cam1 found by {float(sure[1]):.2f}" if sure else kept
    yield Row("5 index --add", "refused, names both: True; cam1 found by 1.00", found)
    shutil.copy(tool.folder / "cam1.h5", tool.folder / "both.h5")
    answer = tool.extract("cam2", to="both.h5")
    same = (tool.folder / "cam1.h5").read_bytes() == (tool.folder / "both.h5").read_bytes()
    refused = answer.status != 0 and answer.says("cam1.*cam2|cam2.*cam1")
    yield Row(
        "5 extract -o",
        "refused, names both: True; as before: True",
        f"refused, names both: {refused}; as before: {same}",
    )
    tool.extract("cam1", "cam2", to="x.h5")
    yield Row("5 both roots at once", "6 videos, 12 clips, 0 errors", tool.held("x.h5"))


@case
def cwd_shadow(tool: Tool) -> Iterator[Row]:
    """Item 6."""
    for name in ("random", "csv", "numpy"):
        here = tool.at(name)
        answer = here.extract("a.mp4")
        imported = "imported" if answer.says("hello from") else "not imported"
        yield Row(
            f"6 {name}.py beside the video",
            "exit 0, 1 videos, 2 clips, 0 errors, not imported",
            answer.then(here.held(), imported),
        )


@case
def search_long(tool: Tool) -> Iterator[Row]:
    """Item 7."""
    tool("index", "films.h5", "-o", "INDEX")
    answers = []
    for more in ((), ("--exact",)):
        code = (
            "import resource, subprocess, sys, time; began = time.time(); "
            f"a = subprocess.run([sys.executable, '-m', 'vidfeat', 'search', 'INDEX', 'film07.mp4',"
            f" '-k', '5', *{more!r}], capture_output=True, text=True).stdout; "
            "print(a.replace(chr(10), '|'), '#', time.time() - began, "
            "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6)"
        )
        text, _, used = tool.python(code).rpartition("#")
        answers.append((text, *(float(value) for value in used.split())))
    (mine, seconds, gigabytes), (exact, *_) = answers
    films = re.findall(r"film\d\d", exact)[:5] == ["film07", "film19", "film02", "film00", "film28"]
    found = "the answers of --exact" if mine == exact and films else "others than --exact"
    quick = "below 6 s" if seconds < 6 else f"{seconds:.0f} s"
    small = "below 0.6 GB" if gigabytes < 0.6 else f"{gigabytes:.1f} GB"
    yield Row(
        "7 search film07.mp4",
        "the answers of --exact, below 6 s, below 0.6 GB",
        f"{found}, {quick}, {small}",
    )


@case
def duplicates_missing(tool: Tool) -> Iterator[Row]:
    """Item 8."""
    tool("index", "copies.h5", "-o", "INDEX")
    answer = tool("duplicates", "INDEX", timeout=400)
    found = re.search(r"([\d,]+) pairs, (\d+) groups?", answer.text)
    value = f"{found[1].replace(',', '')} pairs, {found[2]} group" if found else answer.then()
    yield Row("8 duplicates of 110 copies", "5995 pairs, 1 group", value)


@own
def avi_gap(tool: Tool) -> Iterator[Row]:
    """Item 9."""
    stamps = [40 * (number if number < 50 else number + 75) for number in range(100)]
    for codec in ("mpeg4", "libx264"):
        for b_frames in ("0", "2"):
            name = f"{codec}_{b_frames}"
            options = {"bf": b_frames, "g": "12"}
            path = tool.folder / f"{name}.avi"
            write_video(path, scene(100), stamps, rate=25, codec=codec, options=options)
            tool.extract(path.name, to=f"{name}.h5")
            seconds = float(str(tool.column("duration_seconds", f"{name}.h5")[0]))
            found = "about 7.0 s" if abs(seconds - 7) < 0.15 else f"{seconds:.3f} s"
            yield Row(f"9 {codec} AVI, {b_frames} B-frames, pause of 3 s", "about 7.0 s", found)


@case
def second_stream(tool: Tool) -> Iterator[Row]:
    """Item 10."""
    for suffix in ("mkv", "mp4"):
        name = f"second.{suffix}"
        tool.extract(name, to=f"{suffix}.h5")
        values = [
            tool.column(column, f"{suffix}.h5")[0]
            for column in ("num_frames", "fps", "width", "height", "duration_seconds", "count")
        ]
        found = "{} frames at {:.4g} frames/s, {} x {}, {:.3f} s, {} clips".format(*values)
        told = "told" if tool("info", name).says("2 video streams") else "not told"
        right = "120 frames at 30 frames/s, 96 x 72, 4.000 s, 5 clips, told"
        yield Row(f"10 {name}", right, f"{found}, {told}")
    tool.extract("second.mkv", "--stream", "0", to="first.h5")
    frames = tool.column("num_frames", "first.h5")
    yield Row("10 second.mkv --stream 0", "4 frames", f"{frames[0] if frames else 'no'} frames")


@own
def animated(tool: Tool) -> Iterator[Row]:
    """Item 10, animations."""
    for suffix, codec, pix_fmt in (("gif", "gif", "rgb8"), ("avif", "libsvtav1", "yuv420p")):
        path = tool.folder / f"a.{suffix}"
        write_video(path, scene(60, (64, 64)), rate=20, codec=codec, pix_fmt=pix_fmt)
        tool.extract(path.name, to=f"{suffix}.h5")
        frames = tool.column("num_frames", f"{suffix}.h5")
        yield Row(f"10 animated .{suffix}", "60 frames", f"{frames[0] if frames else 'no'} frames")


@own
def unicode_names(tool: Tool) -> Iterator[Row]:
    """Item 11: the folder in NFD, everything that names it in NFC."""
    nfc, nfd = (unicodedata.normalize(form, "übung/café.mp4") for form in ("NFC", "NFD"))
    for place, name in enumerate((nfd, unicodedata.normalize("NFD", "gehé/b.mp4"))):
        write_video(tool.folder / "v" / name, scene(40, seed=place), rate=20)
    other = unicodedata.normalize("NFC", "gehé/b.mp4")
    (tool.folder / "s.csv").write_text(f"{HEADER}{nfc},0,1\n")
    answer = tool.extract("v", "--segments", "s.csv", to="s.h5")
    right = "exit 0, 1 videos, 2 clips, 0 errors"
    yield Row("11 --segments in NFC, folder in NFD", right, answer.then(tool.held("s.h5")))
    tool.extract("v", to="v.h5")
    (tool.folder / "l.csv").write_text(f"path,label\n{nfc},a\n{other},b\n")
    answer = tool(
        "finetune",
        "v.h5",
        "--labels",
        "l.csv",
        "--test-share",
        "0",
        "--param",
        "C=0.1",
        "-o",
        "head",
    )
    labelled = "2 labelled" if answer.says("2 labelled samples") else "not 2 labelled"
    yield Row("11 labels in NFC", "exit 0, 2 labelled", answer.then(labelled))
    tool("index", "v.h5", "-o", "INDEX")
    answer = tool("search", "INDEX", nfc, "-k", "1")
    yield Row("11 search by a name in NFC", "exit 0", answer.then())
    answer = tool("index", "-o", "INDEX", "--remove", nfc)
    left = tool("search", "INDEX", f"v/{nfd}", "-k", "5", "--json").text
    count = len(re.findall('"video"', left))
    yield Row("11 --remove in NFC", "exit 0, 1 video left", answer.then(f"{count} video left"))


@case
def test_only_class(tool: Tool) -> Iterator[Row]:
    """Item 12."""
    tool.extract("videos", to="t.h5")
    answer = tool("finetune", "t.h5", "--labels", "labels.csv", "-o", "head")
    told = answer.says(r"jump[^\n]*3|3[^\n]*jump") and answer.says("no training|not in training")
    yield Row(
        "12 a class of the test part alone",
        "exit 0, jump is named",
        answer.then("jump is named" if told else "nothing said"),
    )


# --- runs that stopped ----------------------------------------------------------------------------


@case
def bad_stretch(tool: Tool) -> Iterator[Row]:
    """Item 13."""
    answer = tool.extract("videos", "--segments", "behind.csv", to="behind.h5")
    counts = ", ".join(str(value) for value in tool.column("count", "behind.h5"))
    named = "named" if answer.says("50 s") else "not named"
    yield Row(
        "13 behind.csv",
        "exit 1, 2 videos, 9 clips, 1 errors, 6, 3, named",
        answer.then(tool.held("behind.h5"), counts, named),
    )
    answer = tool.extract("videos", "--segments", "empty.csv", to="empty.h5")
    named = "row named" if answer.says("line 3") else "row not named"
    yield Row(
        "13 empty.csv",
        "2 videos, 6 clips, row named",
        f"{tool.held('empty.h5').replace(', 0 errors', '')}, {named}",
    )


@case
def segments_paths(tool: Tool) -> Iterator[Row]:
    """Item 13, paths."""
    tool.extract("videos", to="all.h5")
    videos = str(tool.folder / "videos")
    for way in ("plain", "dot", "space", "header", "absolute"):
        for kind in ("segments", "labels"):
            text = (tool.folder / f"{kind}_{way}.csv").read_text().replace("@", videos)
            (tool.folder / f"{kind}.csv").write_text(text)
        answer = tool.extract("videos", "--segments", "segments.csv", to=f"{way}.h5")
        right = "exit 0, 2 videos, 4 clips, 0 errors"
        yield Row(f"13 segments, {way}", right, answer.then(tool.held(f"{way}.h5")))
        answer = tool(
            *("finetune", "all.h5", "--labels", "labels.csv", "--test-share", "0"),
            *("--param", "C=0.1", "-o", f"head-{way}"),
        )
        both = "2 labelled" if answer.says("2 labelled samples") else "not 2 labelled"
        yield Row(f"13 labels, {way}", "exit 0, 2 labelled", answer.then(both))


@case
def list_file(tool: Tool) -> Iterator[Row]:
    """Item 14."""
    right = {
        "plain": "exit 0, 3 videos, 6 clips, 0 errors",
        "missing": "exit 1, 3 videos, 6 clips, 1 errors",
        "bom": "exit 0, 3 videos, 6 clips, 0 errors",
    }
    for name, value in right.items():
        answer = tool.extract("--list", f"{name}.txt", to=f"{name}.h5")
        yield Row(f"14 --list {name}.txt", value, answer.then(tool.held(f"{name}.h5")))


@case
def dataset_lists(tool: Tool) -> Iterator[Row]:
    """Item 14, lists of datasets."""
    for name in ("hmdb51", "ucf101"):
        tool.extract(f"{name}/videos", to=f"{name}.h5")
        for lists in ("plain", "bom"):
            answer = tool(
                *("finetune", f"{name}.h5", "--dataset", name, "--splits", f"{name}/{lists}"),
                *("-o", f"head-{name}-{lists}"),
            )
            twelve = re.search(r"(\d+) labelled samples", answer.text)
            parts = re.search(r"(\d+) to train on[^\d]*(\d+)", answer.text)
            found = f"{twelve[1]} samples" if twelve else "no samples"
            found += f", {parts[1]} / {parts[2]}" if parts else ""
            yield Row(f"14 {name}, {lists}", "exit 0, 12 samples, 8 / 4", answer.then(found))
    for lists in ("plain", "bom", "utf8", "latin1"):
        answer = tool(
            *("train", "tiny", "--data", "kinetics/videos", "--splits", f"kinetics/{lists}"),
            *("--set", "data.dataset=kinetics400", "--set", "train.epochs=1"),
            *("--out", f"run-{lists}"),
        )
        if lists == "latin1":
            one = "one line, names the file" if answer.says(r"kinetics\.csv.*UTF-8") else ""
            yield Row("14 kinetics, latin1", "exit 2, one line, names the file", answer.then(one))
            continue
        right = "exit 0, 2 classes, 6 to train on, 2 to evaluate on"
        yield Row(f"14 kinetics, {lists}", right, answer.then(_counts(answer)))


@case
def prepare_long_name(tool: Tool) -> Iterator[Row]:
    """Item 15."""
    answer = tool("prepare", "videos", "-o", "prepared", "--workers", "1")
    made = len(list((tool.folder / "prepared").rglob("*.mp4")))
    yield Row("15 prepare, a name of 240 bytes", "exit 0, 3 videos", answer.then(f"{made} videos"))


@case
def merge_missing(tool: Tool) -> Iterator[Row]:
    """Item 16."""
    for k in range(1, 5):
        tool.extract("videos", "--shard", f"{k}/4", to=f"s{k}.h5")
        tool.extract("some_bad", "--shard", f"{k}/4", to=f"b{k}.h5")
    answer = tool("merge", "s1.h5", "s2.h5", "s4.h5", "-o", "three.h5")
    named = "shard 3 of 4 is named" if answer.says("shard 3 of 4") else "nothing said"
    yield Row("16 merge without shard 3", "exit 2, shard 3 of 4 is named", answer.then(named))
    answer = tool("merge", "s1.h5", "s2.h5", "s4.h5", "-o", "three.h5", "--allow-missing")
    right = "exit 0, 6 videos, 12 clips, 0 errors"
    yield Row("16 the same with --allow-missing", right, answer.then(tool.held("three.h5")))
    there = [f"b{k}.h5" for k in range(1, 5) if (tool.folder / f"b{k}.h5").exists()]
    answer = tool("merge", *there, "-o", "bad.h5")
    right = "4 shards, exit 0, 6 videos, 12 clips, 2 errors"
    found = f"{len(there)} shards, {answer.then(tool.held('bad.h5'))}"
    yield Row("16 merge, all of shard 4 failed", right, found)


@case
def long_gap(tool: Tool) -> Iterator[Row]:
    """Item 17."""
    for name, more in (("gap", ()), ("ten", ("--clips", "10"))):
        answer = tool.extract("gap.mp4", *more, to=f"{name}.h5", timeout=90)
        found = answer.then()
        if (tool.folder / f"{name}.h5").is_file():
            with h5py.File(tool.folder / f"{name}.h5") as file:
                start, end = file["start_seconds"][:], file["end_seconds"][:]
                seconds = file["videos/duration_seconds"][0]
            stamps = [at + n / 30 for at in (0, 36001.2) for n in range(36)]
            seen = sum(bool(((start <= s + 1e-3) & (s < end)).any()) for s in stamps)
            few = "few clips" if len(start) <= 20 else f"{len(start)} clips"
            found = answer.then(f"{seconds:.1f} s", few, f"{seen} of 72 frames seen")
        right = "exit 0, 36002.4 s, few clips, 72 of 72 frames seen"
        yield Row(f"17 {' '.join(('gap.mp4', *more))}", right, found)


@case
def mjpeg(tool: Tool) -> Iterator[Row]:
    """Item 18."""
    answer = tool.extract("camera.mjpeg", to="c.h5")
    yield Row(
        "18 camera.mjpeg", "exit 0, 1 videos, 2 clips, 0 errors", answer.then(tool.held("c.h5"))
    )
    answer = tool.extract("folder", to="f.h5")
    lengths = sorted({f"{float(str(value)):.3f} s" for value in tool.column("duration_seconds")})
    yield Row(
        "18 folder of five",
        "exit 0, 5 videos, 10 clips, 0 errors, 1.600 s",
        answer.then(tool.held(), *lengths),
    )
    answer = tool.extract("folder/four.m1v", to="m.h5")
    lengths = [f"{float(str(value)):.3f} s" for value in tool.column("duration_seconds", "m.h5")]
    yield Row("18 four.m1v", "exit 0, 1.600 s", answer.then(*lengths))
    data = (tool.folder / "camera.mjpeg").read_bytes()
    (tool.folder / "one.mjpeg").write_bytes(data[: data.index(b"\xff\xd8\xff", 3)])
    answer = tool.extract("one.mjpeg", to="one.h5")
    refused = "a JPEG picture" if answer.says("a JPEG picture") else ""
    yield Row("18 one JPEG picture", "exit 2, a JPEG picture", answer.then(refused))
    (tool.folder / "mixed").mkdir(exist_ok=True)
    shutil.copy(tool.folder / "folder" / "five.mp4", tool.folder / "mixed")
    for name in ("a.txt", "b.txt", "c.srt"):
        (tool.folder / "mixed" / name).write_text("-")
    counted = tool.extract("mixed", to="mixed.h5").says(r"3 files.*2 \.txt")
    yield Row("18 files passed over", "counted", "counted" if counted else "nothing said")


@own
def interrupted(tool: Tool) -> Iterator[Row]:
    """Item 19."""
    for place in range(8):
        write_video(tool.folder / "v" / f"{place}.mp4", scene(48, seed=place), rate=20)
    slow = ("--model", "r2plus1d_18", "--weights", "random", "--clip-frames", "8")
    slow += ("--batch-size", "2", "--engine", "torch", "--workers", "1")
    whole = tool("extract", "v", "-o", "whole.h5", *slow, timeout=400)
    for number in (signal.SIGINT, signal.SIGTERM):
        output = f"{number.name}.h5"
        process = subprocess.Popen(
            [tool.bin / "vidfeat", "extract", "v", "-o", output, *slow],
            cwd=tool.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        journal = tool.folder / f"{output}.parts" / "encoded.log"
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (
            journal.is_file() and journal.stat().st_size > 30
        ):
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=400)[0].decode()
        encoded = journal.stat().st_size // 2 if journal.is_file() else 0
        kept = re.search(r"([\d,]+) clips, ([\d,]+) whole videos?", said)
        videos = int(kept[2].replace(",", "")) if kept else 0
        again = tool("extract", "v", "-o", output, *slow, timeout=400)
        equal = whole.status == 0 and _equal(tool.folder / "whole.h5", tool.folder / output)
        found = (
            f"finished videos kept: {encoded > 0 and videos > 0}, {again.then()}, equal: {equal}"
        )
        right = "finished videos kept: True, exit 0, equal: True"
        yield Row(f"19 {number.name}, then the same command", right, found)


def _equal(one: Path, other: Path) -> bool:
    with h5py.File(one) as first, h5py.File(other) as second:
        names = ("vectors", "start_seconds", "end_seconds", "video", "videos/path")
        return all((first[name][:] == second[name][:]).all() for name in names)


# --- index, search, duplicates --------------------------------------------------------------------


@case
def filtered(tool: Tool) -> Iterator[Row]:
    """Case 21 of the README."""
    tool("index", "folders.h5", "-o", "INDEX", "--kind", "ivfsq")
    tool("index", "-o", "INDEX", "--remove", "a/", "--remove", "b/")
    found = [
        re.findall(r"[c-h]/v\d{4}\.mp4", tool("search", "INDEX", "query.h5", "-k", "2", *more).text)
        for more in ((), ("--exact",))
    ]
    same = "as --exact" if found[0] == found[1] else "others than --exact"
    yield Row("search after --remove", "2 answers, as --exact", f"{len(found[0])} answers, {same}")


@case
def copied_tail(tool: Tool) -> Iterator[Row]:
    """Case 22 of the README."""
    tool("index", "tail.h5", "-o", "INDEX")
    text = tool("duplicates", "INDEX", "--json").text
    pieces = re.findall(r'"first": \[\s*([\d.]+),\s*([\d.]+)', text)
    numbers = [float(value) for piece in pieces for value in piece]
    span = f"{min(numbers)} to {max(numbers)}" if numbers else "nothing"
    right = "1 segment, 0.0 to 8.1"
    yield Row("duplicates with a last clip", right, f"{len(pieces)} segment, {span}")


@case
def zero_clips(tool: Tool) -> Iterator[Row]:
    """Case 23 of the README."""
    tool("index", "zero.h5", "-o", "INDEX", "--skip-bad-rows")
    answer = tool("search", "INDEX", "zero.mp4")
    one = (
        "one line, names it" if answer.says(r"zero\.mp4") and "Traceback" not in answer.text else ""
    )
    yield Row("search by a video of zeros", "exit 2, one line, names it", answer.then(one))


# --- the last paragraph ---------------------------------------------------------------------------


@own
def huge_batch(tool: Tool) -> Iterator[Row]:
    """A batch that does not fit into any memory."""
    write_video(tool.folder / "five.mp4", scene(40), rate=25)
    answer = tool.extract("five.mp4", "--batch-size", "100000")
    right = "exit 0, 1 videos, 2 clips, 0 errors"
    yield Row("--batch-size 100000 on a CPU", right, answer.then(tool.held()))


@own
def latin_terminal(tool: Tool) -> Iterator[Row]:
    """A terminal whose encoding lacks characters of a file name."""
    names = ("a/映像.mp4", "a/b.mp4", "c/d.mp4", "c/é.mp4")
    for place, name in enumerate(names):
        write_video(tool.folder / "v" / name, scene(40, seed=place), rate=20)
    tool.extract("v")
    tool("index", "f.h5", "-o", "INDEX")
    tool(
        "finetune",
        "f.h5",
        "--labels",
        "folders",
        "--test-share",
        "0",
        "--param",
        "C=0.1",
        "-o",
        "h",
    )
    commands = (
        ("search", "INDEX", "v/a/b.mp4"),
        ("duplicates", "INDEX", "--threshold", "0.01"),
        ("classify", "f.h5", "--head", "h"),
        ("info", "v/a/映像.mp4"),
    )
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for place, env in {"ISO-8859-1": {"PYTHONIOENCODING": "iso-8859-1"}, "C": c_locale}.items():
        for command in commands:
            answer = tool(*command, env=env)
            yield Row(f"{command[0]}, a terminal in {place}", "exit 0", answer.then())


@own
def closed_folder(tool: Tool) -> Iterator[Row]:
    """A sub-folder that may not be read."""
    write_video(tool.folder / "v" / "a.mp4", scene(40), rate=20)
    closed = tool.folder / "v" / "sub"
    closed.mkdir(exist_ok=True)
    closed.chmod(0)
    command = [str(tool.bin / "vidfeat"), "extract", "v", "-o", "f.h5", *BUNDLED]
    answer = tool.run([*UNPRIVILEGED, *command] if os.geteuid() == 0 else command)
    closed.chmod(0o755)
    said = "no permission" if answer.says(r"sub: .*permission") else "something else said"
    right = "exit 1, 1 videos, 3 clips, 1 errors, no permission"
    yield Row("a sub-folder that may not be read", right, answer.then(tool.held(), said))


@own
def missing_folder(tool: Tool) -> Iterator[Row]:
    """-o into a folder that does not exist."""
    for name in ("0.mp4", "1.mp4"):
        write_video(tool.folder / "v" / name, scene(40), rate=20)
        write_video(tool.folder / "d" / name[0] / name, scene(40), rate=20)
    tool.extract("v")
    labels = ("--labels", "l.csv", "--test-share", "0", "--param", "C=0.1")
    (tool.folder / "l.csv").write_text("path,label\n0.mp4,a\n1.mp4,b\n")
    commands: dict[str, tuple[str, ...]] = {
        "extract": ("extract", "v", *BUNDLED, "-o", "typo/f.h5"),
        "index": ("index", "f.h5", "-o", "typo/INDEX"),
        "finetune": ("finetune", "f.h5", *labels, "-o", "typo/head"),
        "merge": ("merge", "f.h5", "-o", "typo/m.h5"),
        "prepare": ("prepare", "d", "-o", "typo/p", "--workers", "1"),
        "export-features": ("export-features", "f.h5", "--npy-per-video", "typo/npy"),
        "plot": ("plot", "f.h5", "-o", "typo/map.png"),
    }
    for name, command in commands.items():
        answer = tool(*command)
        there = (tool.folder / "typo").exists()
        shutil.rmtree(tool.folder / "typo", ignore_errors=True)
        named = "the folder is named" if answer.says("typo") else "not named"
        found = answer.then(named, "created" if there else "not created")
        yield Row(f"{name}, output in typo/", "exit 2, the folder is named, not created", found)
        answer = tool(*command, "--make-parents")
        there = any((tool.folder / "typo").glob("*"))
        shutil.rmtree(tool.folder / "typo", ignore_errors=True)
        found = answer.then("written" if there else "not written")
        yield Row(f"{name}, the same with --make-parents", "exit 0, written", found)


# --- running --------------------------------------------------------------------------------------


def measure(checkout: Path, names: Sequence[str], made: Path, work: Path) -> dict[str, list[Row]]:
    """All rows of the cases in one checkout."""
    found: dict[str, list[Row]] = {}
    for name in names:
        folder = work / name
        folder.mkdir(parents=True)
        if name not in OWN:
            shutil.copytree(made / name, folder, dirs_exist_ok=True)
        rows: list[Row] = []
        began = time.monotonic()
        try:
            for row in CASES[name](Tool(checkout, folder)):
                rows.append(row)
                print(f"  {row.what}: {row.found}", file=sys.stderr, flush=True)
        except (IndexError, OSError, ValueError) as error:  # a command produced no output to check
            rows.append(Row(f"{name}: the rest", "an answer", f"none ({error})"))
        found[name] = rows
        print(f"{checkout.name} {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        shutil.rmtree(folder)
    return found


def make(script: Path, out: Path, names: Sequence[str]) -> None:
    """Make the inputs with the shared folder's script; all eight orientations of ``mirrored``."""
    wanted = [name for name in names if name not in OWN]
    if not wanted:
        return
    subprocess.run([sys.executable, script, out, *wanted], check=True, stdout=subprocess.DEVNULL)
    if "mirrored" in wanted:
        more = (
            f"import make; from pathlib import Path; make.mirrored(Path({str(out / 'mirrored')!r})"
        )
        more += ", tuple(make.MATRICES))"
        subprocess.run([sys.executable, "-c", more], check=True, cwd=script.parent)


def table(before: dict[str, list[Row]], now: dict[str, list[Row]]) -> tuple[list[str], int]:
    """The lines of the table, and how many values are wrong now."""
    lines, wrong = ["| case | right | before | now | |", "|---|---|---|---|---|"], 0
    for name, rows in now.items():
        earlier = {row.what: row for row in before.get(name, ())}
        for row in rows:
            old = earlier.get(row.what)
            was = "-" if old is None else "right" if old.passed else old.found
            here = "right" if row.passed else row.found
            wrong += not row.passed
            cells = (row.what, row.right, was, here, "pass" if row.passed else "FAIL")
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--before", type=Path, help="an older checkout, with its .venv")
    parser.add_argument("--checkout", type=Path, default=HERE)
    parser.add_argument("--made", type=Path, default=HERE.parent / "shared" / "data" / "odd")
    parser.add_argument("--work", type=Path, help="where to work; a temporary folder else")
    given = parser.parse_args(arguments)
    unknown = set(given.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {min(unknown)}: the cases are {', '.join(CASES)}")
    names = given.cases or list(CASES)
    with tempfile.TemporaryDirectory(dir=given.work) as place:
        work = Path(place)
        make(given.made / "make.py", work / "made", names)
        before: dict[str, list[Row]] = {}
        for which in ("before", "checkout"):
            shutil.copy(given.made / "threads.py", work / "made")
            (work / which).mkdir()
            for script in ("make.py", "threads.py"):
                shutil.copy(given.made / script, work / which)
        if given.before is not None:
            before = measure(given.before, names, work / "made", work / "before")
        now = measure(given.checkout, names, work / "made", work / "checkout")
        lines, wrong = table(before, now)
    print("\n".join(lines))
    count = sum(len(rows) for rows in now.values())
    print(f"\n{count - wrong} of {count} right now")
    if given.before is not None:
        rows = [row for found in before.values() for row in found]
        print(f"{sum(row.passed for row in rows)} of {len(rows)} right before")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
