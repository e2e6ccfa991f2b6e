"""Issue 18, item by item: the answers of a former commit and of this one.

    python tests/bench/before_after_index.py --before CHECKOUT [--items 1,9]

CHECKOUT is a working tree of commit 5a3c667 that ``make test`` has set up. Inputs are made here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.bench.before_after import Checkout, Done, Item, main
from tests.support.index_fixtures import embeddings, identity, record, video_vectors, write_features
from tests.support.prefix_proxy import proxied
from tests.support.rendered_videos import KINDS as SCENES
from tests.support.rendered_videos import render
from vidfeat.store.reader import Embeddings
from vidfeat.store.writer import write_store

KINDS = ("hnsw", "ivfsq", "ivfpq", "opq")

# ---------------------------------------------------------------------- inputs and requests


def clusters(path: Path, videos: int = 300, dimension: int = 32) -> Path:
    """Write features of eight folders of videos, each folder a cluster."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((8, dimension))
    rows = []
    for folder, centre in zip("abcdefgh", centres, strict=True):
        for video in range(videos):
            vectors = centre + 0.3 * rng.standard_normal((5, dimension))
            rows.append(
                (record(f"{folder}/v{video:03}.mp4", 5), embeddings(vectors.astype(np.float32)))
            )
    write_store(path, identity(dimension), rows)
    return path


def features_of(path: Path, videos: dict[str, Embeddings], root: Path | None = None) -> Path:
    """Write a feature file of the given clips."""
    rows = [(record(name, len(held)), held) for name, held in videos.items()]
    about = identity(32) if root is None else identity(32, root=str(root))
    write_store(path, about, rows)
    return path


def fetch(address: str) -> tuple[int, bytes]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def static_text(address: str) -> str:
    """The text of the page and all of its scripts."""
    text = fetch(f"{address}/")[1].decode()
    for name in sorted(set(re.findall(r"static/([a-z]+\.js)", text))):
        text += fetch(f"{address}/static/{name}")[1].decode()
    return text


def text_of(body: bytes) -> str:
    """The message of an error response."""
    try:
        return str(json.loads(body).get("error", ""))
    except ValueError:
        return body.decode(errors="replace")[:80]


def seen(done: Done, *expected: str) -> str:
    """The exit status, and which of the expected words the output contains."""
    text = done.stdout + done.stderr
    return f"exit {done.code}; says: {', '.join(w for w in expected if w in text) or 'none of it'}"


# ---------------------------------------------------------------------- the items


def filtered(at: Checkout) -> str:
    clusters(at.folder / "f.h5")
    script = """
import sys, numpy as np
from vidfeat.index import VideoIndex
index = VideoIndex(sys.argv[1])
fewest = 10
for folder in "bcdefgh":
    allowed = np.array([path[0] == folder for path in index.videos.paths])
    found = index.search("a/v000.mp4", k=10, allowed=allowed, exclude_self=True)
    fewest = min(fewest, len(found))
print(fewest)
"""
    parts = []
    for kind in KINDS:
        at.vidfeat("index", "f.h5", "-o", kind, "--kind", kind, "-q")
        fewest = at.python(script, kind).stdout.strip()
        at.vidfeat("index", "-o", kind, "--remove", "a/", "--remove", "b/", "-q")
        query = features_of_first(at)
        found = json.loads(at.vidfeat("search", kind, query, "-k", 2, "--json").stdout or "[]")
        parts.append(f"{kind} {fewest} of 10 and {len(found)} of 2")
    return "folder filter, and after --remove: " + ", ".join(parts)


def features_of_first(at: Checkout) -> Path:
    """The first video of a/, as a feature file."""
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((8, 32))[0]
    vectors = (centre + 0.3 * rng.standard_normal((5, 32))).astype(np.float32)
    return features_of(at.folder / "query.h5", {"query.mp4": embeddings(vectors)})


def copied_tail(at: Checkout) -> str:
    starts = np.append(np.arange(10) * 0.8, 7.3)
    held = Embeddings(video_vectors(1, 11, 32), starts, starts + 0.8)
    features_of(at.folder / "f.h5", {"a.mp4": held, "b.mp4": held})
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    found = json.loads(at.vidfeat("duplicates", "I", "--json").stdout)["pairs"]
    shared = found[0]["segments"]
    return f"{len(shared)} segments, the first {shared[0]['first']}"


def own_video(at: Checkout) -> str:
    for number in range(3):
        (at.folder / "videos").mkdir(exist_ok=True)
        path = at.folder / f"videos/{number}.mp4"
        render(path, list(SCENES)[number], number, 2.0, width=160, height=96, fps=20)
    at.vidfeat("extract", "videos", "-o", "f.h5", "--model", "bundled")
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    (at.folder / "link.mp4").symlink_to("videos/0.mp4")
    answers = []
    for what, path in (("touched", "videos/0.mp4"), ("through a link", "link.mp4")):
        os.utime(at.folder / "videos/0.mp4", (1, 1))
        done = at.vidfeat("search", "I", path, "--exclude-self", "--json")
        names = [match["video"] for match in json.loads(done.stdout)]
        answers.append(f"{what}: {'itself returned' if '0.mp4' in names else 'left out'}")
    return ", ".join(answers)


def addresses(at: Checkout) -> str:
    write_features(at.folder / "f.h5", ["a.mp4", "b.mp4", "c.mp4"])
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    with at.served(at.folder / "I") as page:
        status, body = fetch(f"{page}/api/find?path=b.mp4")
        old = "#v=12 " in static_text(page)
    number = json.loads(body).get("id") if status == 200 else "none"
    return f"address by {'row' if old else 'path'}; path b.mp4 leads to row {number}"


def folders(at: Checkout) -> str:
    write_features(at.folder / "f.h5", [f"top/{n:04}/v.mp4" for n in range(2500)], clips=1)
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    with at.served(at.folder / "I") as page:
        listed = json.loads(fetch(f"{page}/api/index")[1])["folders"]
        status, body = fetch(f"{page}/api/folders?parent=top")
        _, wanted = fetch(f"{page}/api/folders?text=2499")
    if isinstance(listed, list):
        return f"{len(listed)} of 2500 folders listed, no parents"
    below = len(json.loads(body)["folders"]) if status == 200 else 0
    found = json.loads(wanted)["total"]
    return f"{listed} folders, {below} below top, searching 2499 finds {found}"


def leader(at: Checkout) -> str:
    black = np.tile(video_vectors(999, 1, 32), (3, 1))
    videos = {
        f"{n}.mp4": embeddings(np.concatenate([black, video_vectors(n, 24, 32)])) for n in range(6)
    }
    features_of(at.folder / "f.h5", videos)
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    done = at.vidfeat("duplicates", "I", "--json")
    note = "says that pairs were left out" if "left out" in done.stderr else "no note"
    return f"{len(json.loads(done.stdout)['pairs'])} pairs; {note}"


def zero_clips(at: Checkout) -> str:
    nan = embeddings(np.full((3, 32), np.nan, np.float32))
    features_of(at.folder / "f.h5", {"a.mp4": embeddings(video_vectors(1, 3, 32)), "zero.mp4": nan})
    at.vidfeat("index", "f.h5", "-o", "I", "--skip-bad-rows", "-q")
    done = at.vidfeat("search", "I", "zero.mp4")
    with at.served(at.folder / "I") as page:
        status, _ = fetch(f"{page}/api/search?video=1")
    return f"{done.how}; page {status}"


def hdf5_locks(at: Checkout) -> str:
    write_features(at.folder / "f.h5", 3)
    writer = "import h5py, sys; f = h5py.File('f.h5', 'r+'); print(1, flush=True); input()"
    python = str(at.root / ".venv/bin/python")
    with subprocess.Popen(
        [python, "-c", writer],
        cwd=at.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        busy = at.vidfeat("info", "f.h5")
        process.communicate("\n")
    at.python(
        "import h5py, os; f = h5py.File('swmr.h5', 'w', libver='latest'); f['a'] = [1]\n"
        "f.swmr_mode = True; f.flush(); os.kill(os.getpid(), 9)"
    )
    flag = at.vidfeat("info", "swmr.h5")
    lockless = at.python(
        "import errno, h5py\n"
        "real = h5py.File\n"
        "def file(path, mode='r', *given, locking=None, **more):\n"
        "    if locking is not False: raise OSError(errno.ENOLCK, 'unable to lock file')\n"
        "    return real(path, mode, *given, locking=locking, **more)\n"
        "h5py.File = file\n"
        "from vidfeat import FeatureStore\n"
        "print('opened', FeatureStore('f.h5').num_videos)"
    )
    return (
        f"in use: {seen(busy, 'cut short', 'open in another program')}; killed writer: "
        f"{seen(flag, 'cut short', 'h5clear')}; no locks: {lockless.last_line}"
    )


def on_small_disk(at: Checkout, kilobytes: int, *commands: list[str]) -> list[Done]:
    """Run commands on a tmpfs of that size, mounted only for them at ``disk``."""
    (at.folder / "disk").mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs disk && "
    marked = [f"{' '.join(one)} 2>&1; echo :$?:; ls disk; echo :end:" for one in commands]
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    text = subprocess.run(
        [*enter, "sh", "-c", mount + "\n".join(marked)],
        cwd=at.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = []
    for part in text.split(":end:\n")[: len(commands)]:
        said, code, files = part.rsplit(":", 2)
        number = int(code)
        found.append(Done(128 - number if number > 128 else number, files.strip(), said))
    return found


def full_disk(at: Checkout) -> str:
    write_features(at.folder / "f.h5", 400)
    write_features(at.folder / "more.h5", 300, first_seed=900)
    build, add = (
        at.command("index", "f.h5", "-o", "disk/I", "-q"),
        at.command("index", "-o", "disk/I", "--add", "more.h5", "-q"),
    )
    (small,) = on_small_disk(at, 200, build)
    first, second = on_small_disk(at, 1000, build, add)
    if first.code:
        raise RuntimeError(first.how)
    return f"index: {_told(small)}; --add: {_told(second)}"


def _told(done: Done) -> str:
    """How a command on a small disk ended."""
    if done.code < 0:
        how = f"killed by {signal.Signals(-done.code).name}"
    else:
        says = "No space left on device" in done.stderr
        how = f"exit {done.code}, {'No space left on device' if says else done.last_line}"
    left = [name for name in done.stdout.split() if ".writing-" in name]
    return f"{how}, {len(left)} left over"


def leftovers(at: Checkout) -> str:
    write_features(at.folder / "f.h5", 20)
    at.python(
        "import faiss, os; from vidfeat import VideoIndex\n"
        "faiss.write_index = lambda *given: os.kill(os.getpid(), 9)\n"
        "VideoIndex.build('f.h5', 'I')"
    )
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    left = len(list(at.folder.glob("I.writing-*")))
    scratch = at.folder / "scratch"
    scratch.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        at.vidfeat("serve", "I", "--port", port, "--cache", "c", env={"TMPDIR": str(scratch)})
    return f"{left} of a killed index, {len(list(scratch.iterdir()))} of a failed serve"


def hosts(at: Checkout) -> str:
    write_features(at.folder / "f.h5", 3)
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    answers = []
    for host in ("[::1]", "*", "no-such-host.invalid"):
        command = at.command("serve", "I", "--host", host, "--port", "0", "--cache", "c")
        with subprocess.Popen(
            command, cwd=at.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline().strip()
            if line:
                process.terminate()
            said = "served" if line else process.stderr.read().strip().splitlines()[-1]
        answers.append(f"{host}: {said}")
    return "; ".join(answers)


def behind_a_prefix(at: Checkout) -> str:
    write_features(at.folder / "f.h5", 3)
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    with at.served(at.folder / "I") as page, proxied(page, "/user/me") as outside:
        status, body = fetch(f"{outside}/")
        base = f"{outside}/"
        names = re.findall(r"(?:href|src)=\"([^\"#]+)\"", body.decode())
        broken = [n for n in names if fetch(urllib.parse.urljoin(base, n))[0] != 200]
        scripts = static_text(page)
        absolute = len(re.findall(r"[\"'`]/(?:api|static|thumb|media|clip)/", scripts))
    return f"page {status}; {len(broken)} of its files not found, {absolute} absolute addresses"


def add_twice(at: Checkout) -> str:
    def with_bad(seed: int) -> Embeddings:
        vectors = video_vectors(seed, 4, 32)
        vectors[1] = np.nan
        return embeddings(vectors)

    write_features(at.folder / "f.h5", 10)
    features_of(at.folder / "more.h5", {f"z/{n}.mp4": with_bad(n) for n in range(3)})
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    add = ("index", "-o", "I", "--add", "more.h5", "--skip-bad-rows")
    at.vidfeat(*add)
    return at.vidfeat(*add).last_line


def linked(at: Checkout) -> str:
    (at.folder / "videos").mkdir()
    (at.folder / "outside.mp4").write_bytes(b"x")
    (at.folder / "videos/link.mp4").symlink_to(at.folder / "outside.mp4")
    held = embeddings(video_vectors(1, 3, 32))
    features_of(at.folder / "f.h5", {"link.mp4": held}, at.folder / "videos")
    at.vidfeat("index", "f.h5", "-o", "I", "-q")
    with at.served(at.folder / "I") as page:
        status, body = fetch(f"{page}/media/0")
    return f"{status}: {text_of(body)}"


ITEMS = (
    Item(1, "a filter that leaves out what is near", filtered, "(?:.* 10 of 10 and 2 of 2){4}"),
    Item(2, "a whole copy whose last clip is short", copied_tail, r"^1 segments, .*\[0\.0, 8\.1\]"),
    Item(3, "--exclude-self", own_video, "touched: left out, through a link: left out"),
    Item(4, "the page's addresses after a rebuild", addresses, "by path; path b.mp4 .* row 1"),
    Item(5, "2,500 folders", folders, "2501 folders, 2500 below top, searching 2499 finds 1"),
    Item(6, "six videos with the same black leader", leader, "^0 pairs; says"),
    Item(7, "a query without a usable clip", zero_clips, "exit [12]: (?!traceback).*; page 4"),
    Item(
        8,
        "HDF5: in use, a killed writer, no locks",
        hdf5_locks,
        "in use: exit 2; says: open in.*h5clear; no locks: opened 3",
    ),
    Item(9, "a disk that fills up", full_disk, "(exit 2, No space left on device, 0 left.*){2}"),
    Item(10, "left-overs", leftovers, "^0 of a killed index, 0 of a failed serve"),
    Item(11, "serve --host", hosts, r"\[::1\]: served; \*: served; no-such.*'no-such-host"),
    Item(12, "behind the path /user/me", behind_a_prefix, "page 200; 0 of its files.*, 0 abs"),
    Item(13, "--add FILE --skip-bad-rows twice", add_twice, "0 added, 0 updated, 3 unchanged"),
    Item(14, "a link that leads out of the folder", linked, "--follow-links"),
)

if __name__ == "__main__":
    sys.exit(main(ITEMS, __doc__, sys.argv[1:]))
