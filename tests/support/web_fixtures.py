"""A folder of videos, their index and its page, for the tests of the search page."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.support.clips import decoded
from tests.support.index_fixtures import embeddings, identity, record, video_vectors
from tests.support.rendered_videos import KINDS, render
from vidfeat.encoders.reading import ClipNetwork
from vidfeat.encoders.spec import EncoderSpec
from vidfeat.index import VideoIndex
from vidfeat.index.query import QuerySource
from vidfeat.store.reader import Embeddings
from vidfeat.store.writer import write_store
from vidfeat.video.decode.tasks import ClipSource

SECRET = b"this is not in the index"


class FakeTexts:
    """Knows the videos by their names; any other phrase is a direction of its own."""

    scale = 100.0

    def __init__(self) -> None:
        self.known: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = []
        for text in texts:
            seed = zlib.crc32(text.encode())
            made = np.random.default_rng(seed).standard_normal(FakeEncoder.dimension)
            rows.append(self.known.get(text, made))
        return np.asarray(rows, dtype=np.float32)


def text_spec(root: Path) -> EncoderSpec:
    """An encoder whose vectors stand in the space of texts, as a feature file describes it."""
    from vidfeat.video.clip_plan import ClipPlan
    from vidfeat.video.preprocess import Preprocess

    return EncoderSpec(
        model="open_clip:tiny/made-up",
        weights="made-up",
        weights_sha256=hashlib.sha256(str(root).encode()).hexdigest(),  # no cache in common
        architecture={"source": "open_clip", "model": "tiny"},
        plan=ClipPlan(frames=4, hop_frames=4),
        preprocess=Preprocess(),
        layers=("projection",),
        pool=("mean",),
        dimension=FakeEncoder.dimension,
        precision="fp32",
        engine="torch",
        modality="frame",
        aggregate="mean",
    )


class FakeEncoder:
    """Embeds a clip as a fixed projection of its mean picture: fast, and the same everywhere."""

    dimension = 16
    batch_size = 4
    space_fingerprint = "space-1"
    run_fingerprint = "run-1"
    text: FakeTexts | None = None

    def __init__(self) -> None:
        from vidfeat.video.clip_plan import ClipPlan
        from vidfeat.video.preprocess import Preprocess

        self.plan = ClipPlan(frames=4, hop_frames=4)
        self.preprocess = Preprocess()
        rng = np.random.default_rng(0)
        self.matrix = rng.standard_normal((14 * 14 * 3, self.dimension)).astype(np.float32)

    def encode_clips(self, clips: np.ndarray) -> np.ndarray:
        small = clips[:, :, ::8, ::8].astype(np.float32).mean(axis=1).reshape(len(clips), -1)
        return (small - 110) @ self.matrix

    @property
    def reader(self) -> ClipNetwork:
        source = ClipSource(self.plan, self.preprocess)
        return ClipNetwork(self.encode_clips, source, self.batch_size)

    def embed(self, path: Path) -> Embeddings:
        clips = decoded(path, self.plan, self.preprocess).clips
        vectors = self.encode_clips(np.stack([clip.frames_THWC for clip in clips]))
        return Embeddings(
            vectors,
            np.array([clip.start_seconds for clip in clips]),
            np.array([clip.end_seconds for clip in clips]),
        )


def build_site(
    folder: Path,
    names: list[str],
    *,
    seconds: float = 2.0,
    hostile: bool = False,
    texts: bool = False,
):
    """Render videos, index them, and make the application.

    With ``texts``, the index can be searched by text: a phrase that is a video's name without its
    folder and suffix means that video.

    With ``hostile``, the index also names a missing file, a link out of the root, a folder and a
    text, and a file of the root is not in the index.
    """
    from vidfeat.web.app import create_app
    from vidfeat.web.cache import Cache
    from vidfeat.web.catalog import Catalog
    from vidfeat.web.uploads import Uploads

    root, encoder, kinds = folder / "videos", FakeEncoder(), list(KINDS)
    rows = []
    for number, name in enumerate(names):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = root / name
        render(
            path,
            kinds[number % len(kinds)],
            number,
            seconds,
            width=160,
            height=96,
            fps=20,
            codec=codec,
        )
        held, status = encoder.embed(path), path.stat()
        facts = replace(
            record(name, len(held)),
            duration_seconds=seconds,
            fps=20.0,
            width=160,
            height=96,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        rows.append((facts, held))
    if hostile:
        for name in ("gone/missing.mp4", "a/link.mp4", "a/folder.mp4", "a/text.mp4"):
            rows.append((record(name, 3), embeddings(video_vectors(len(rows), 3, 16))))
        (folder / "secret.mp4").write_bytes(SECRET * 100)
        (root / "a/link.mp4").symlink_to(folder / "secret.mp4")
        (root / "a/folder.mp4").mkdir()
        (root / "a/text.mp4").write_bytes(SECRET)
        (root / "a/not_indexed.mp4").write_bytes(SECRET)
    about = identity(16, root=str(root))
    if texts:
        spec, encoder.text = text_spec(root), FakeTexts()
        about = replace(about, encoder=spec.describe(), space_fingerprint=spec.space_fingerprint)
        encoder.space_fingerprint = spec.space_fingerprint
        encoder.text.known = {
            Path(facts.path).stem: np.asarray(held.vectors).mean(axis=0) for facts, held in rows
        }
    write_store(folder / "f.h5", about, rows)
    index = VideoIndex.build(folder / "f.h5", folder / "INDEX")
    uploads = Uploads(QuerySource(index, encoder=encoder), most_bytes=2_000_000)
    labels = {name: "even" if n % 2 == 0 else "odd" for n, name in enumerate(names)}
    cache = Cache(folder / "cache", 50_000_000)
    app = create_app(index, Catalog(index, labels=labels), cache, uploads)
    return SimpleNamespace(app=app, index=index, folder=folder, root=root, uploads=uploads)


@contextmanager
def running(app: object) -> Iterator[str]:
    """Serve an application on a free port of this machine; its address."""
    import socket
    import time

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
