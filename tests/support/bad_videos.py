"""Files that only pretend to be videos, files that break midway, and a folder of all of them."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.support import video_patches
from tests.support.video_assets import (
    add_cover,
    add_sound,
    draw,
    reference_frames,
    render,
    write_sound,
    x264,
)


@dataclass(frozen=True)
class BadFile:
    """A file from which no clip can come.

    Attributes:
        make: writes the file into a folder and gives its path.
        kinds: the classes of error that describe it.
    """

    make: Callable[[Path], Path]
    kinds: frozenset[str]


@dataclass(frozen=True)
class DamagedFile:
    """A file that begins well and breaks midway.

    Attributes:
        make: writes the file into a folder and gives its path.
        raises: whether a plain decode ends in an exception, and not just early.
    """

    make: Callable[[Path], Path]
    raises: bool


BAD: dict[str, BadFile] = {}
DAMAGED: dict[str, DamagedFile] = {}


def bad(*kinds: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a file from which nothing can come, with the kinds of error that fit."""

    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        BAD[make.__name__] = BadFile(make, frozenset(kinds))
        return make

    return register


def damaged(*, raises: bool) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a file that breaks midway."""

    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        DAMAGED[make.__name__] = DamagedFile(make, raises)
        return make

    return register


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@bad("not_video", "damaged")
def truncated(folder: Path) -> Path:
    """An mp4 whose end, with the index, is cut off."""
    return video_patches.cut(render(folder / "truncated.mp4", options=x264()), 0.6)


@bad("not_video", "no_frames")
def empty(folder: Path) -> Path:
    """No bytes at all."""
    return _write(folder / "empty.mp4", b"")


@bad("not_video")
def text(folder: Path) -> Path:
    """A text file."""
    return _write(folder / "text.mp4", "No moving pictures in here.\n" * 40)


@bad("not_video")
def noise(folder: Path) -> Path:
    """Bytes without meaning."""
    return _write(folder / "noise.mp4", bytes(i * i * 31 % 251 for i in range(5000)))


@bad("not_video")
def ffconcat(folder: Path) -> Path:
    """A playlist of the ffconcat format that names a real video elsewhere."""
    outside(folder)
    return _write(
        folder / "ffconcat.mp4", "ffconcat version 1.0\nfile 'outside.d/other.bin'\nduration 1\n"
    )


@bad("not_video")
def hls(folder: Path) -> Path:
    """An HLS playlist that names a real video elsewhere."""
    outside(folder)
    return _write(
        folder / "hls.mp4",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n"
        "outside.d/other.bin\n#EXT-X-ENDLIST\n",
    )


@bad("not_video")
def hls_absolute(folder: Path) -> Path:
    """An HLS playlist that names a real video by its full path as a URL."""
    other = outside(folder)
    return _write(
        folder / "hls_absolute.mp4",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n"
        f"file://{other.resolve()}\n#EXT-X-ENDLIST\n",
    )


@bad("not_video")
def session_description(folder: Path) -> Path:
    """An SDP text, which makes a player listen on the network."""
    return _write(
        folder / "sdp.mp4",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=No Name\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 49170 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    )


def outside(folder: Path) -> Path:
    """The real video that the playlists name; its own name is not that of a video."""
    path = folder / "outside.d" / "other.bin"
    if not path.exists():
        render(path, range(8), options=x264("bframes=0"), container_format="mpegts")
    return path


@bad("not_video")
def audio_only(folder: Path) -> Path:
    """Sound without pictures."""
    path = folder / "audio.mp4"
    with av.open(str(path), "w") as container:
        write_sound(container, add_sound(container))
    return path


@bad("not_video")
def song_with_cover(folder: Path) -> Path:
    """Sound with a cover picture, which is no video."""
    path = folder / "song.mp4"
    with av.open(str(path), "w") as container:
        audio = add_sound(container)
        cover = add_cover(container)
        container.start_encoding()
        container.mux(cover)
        write_sound(container, audio)
    return path


@bad("not_video")
def mp3_with_cover(folder: Path) -> Path:
    """An MP3 with a cover picture."""
    path = folder / "song.mp3"
    with av.open(str(path), "w") as container:
        audio = add_sound(container, "libmp3lame")
        cover = add_cover(container)
        container.start_encoding()
        container.mux(cover)
        write_sound(container, audio)
    return path


@bad("not_video")
def png(folder: Path) -> Path:
    """A PNG picture named .mp4."""
    return _picture(folder / "png.mp4", "png", "rgb24")


@bad("not_video")
def jpeg(folder: Path) -> Path:
    """A JPEG picture named .mp4."""
    return _picture(folder / "jpeg.mp4", "mjpeg", "yuvj420p")


@bad("not_video")
def bmp(folder: Path) -> Path:
    """A BMP picture named .avi."""
    return _picture(folder / "bmp.avi", "bmp", "bgr24")


def _picture(path: Path, codec: str, pix_fmt: str) -> Path:
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 96, 64, pix_fmt
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(draw(5), format="rgb24").reformat(format=pix_fmt)
    packets = [*context.encode(frame), *context.encode(None)]
    return _write(path, b"".join(bytes(packet) for packet in packets))


@bad("no_frames", "not_video", "damaged")
def zero_frames(folder: Path) -> Path:
    """A video track without a single frame (Matroska)."""
    path = folder / "zero.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return path


@bad("no_frames", "not_video", "damaged")
def zero_frames_mp4(folder: Path) -> Path:
    """A video track without a single frame (mp4)."""
    path = folder / "zero.mp4"
    with av.open(str(path), "w", container_options={"movflags": "empty_moov"}) as container:
        stream: Any = container.add_stream("libx264", rate=30, options=x264())
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return path


@bad("no_frames", "damaged")
def cut_in_first_frame(folder: Path) -> Path:
    """An mp4 with its index in front, cut in the first frame's bytes."""
    path = _faststart(folder / "cut_first.mp4", 30)
    data = path.read_bytes()
    start = next(a for kind, a, _ in video_patches.boxes(data) if kind == b"mdat")
    return _write(path, data[: start + 20])


@bad("no_frames", "damaged")
def no_media_data(folder: Path) -> Path:
    """An mp4 with its index and not one byte of media data."""
    path = _faststart(folder / "no_data.mp4", 30)
    data = path.read_bytes()
    start = next(a for kind, a, _ in video_patches.boxes(data) if kind == b"mdat")
    return _write(path, data[: start + 8])


@bad("unreadable")
def broken_link(folder: Path) -> Path:
    """A symbolic link to nothing."""
    path = folder / "broken_link.mp4"
    path.symlink_to(folder / "never.mp4")
    return path


@bad("unreadable")
def pipe(folder: Path) -> Path:
    """A named pipe that nobody writes to: opening it would wait for ever."""
    path = folder / "pipe.mp4"
    os.mkfifo(path)
    return path


@bad("unreadable", "not_video")
def folder_named_video(folder: Path) -> Path:
    """A folder whose name ends in .mp4."""
    path = folder / "folder.mp4"
    path.mkdir()
    return path


@bad("unreadable")
def missing(folder: Path) -> Path:
    """No such file."""
    return folder / "missing.mp4"


def forbidden(folder: Path) -> Path:
    """A good video that nobody may read; not in `BAD`, because the superuser may."""
    path = render(folder / "forbidden.mp4", range(8), options=x264())
    path.chmod(0)
    return path


# --- broken midway ------------------------------------------------------------------------------


def _faststart(path: Path, count: int) -> Path:
    return render(
        path,
        range(count),
        options=x264("bframes=2", "b-adapt=0"),
        gop=10,
        container_options={"movflags": "faststart"},
    )


@damaged(raises=True)
def broken_packets(folder: Path) -> Path:
    """An mp4 whose media data is zeros from the middle on."""
    path = _faststart(folder / "zeros.mp4", 60)

    def change(data: bytearray) -> None:
        start, end = next((a, b) for kind, a, b in video_patches.boxes(data) if kind == b"mdat")
        middle = (start + end) // 2
        data[middle:end] = bytes(end - middle)

    return video_patches.patch(path, change)


@damaged(raises=True)
def flipped_bytes(folder: Path) -> Path:
    """An mp4 with 400 inverted bytes in the middle of its media data."""
    return video_patches.flip_bytes(_faststart(folder / "flipped.mp4", 60), 0.5, 400)


@damaged(raises=False)
def flipped_few(folder: Path) -> Path:
    """An mp4 with 12 inverted bytes."""
    return video_patches.flip_bytes(_faststart(folder / "flipped_few.mp4", 60), 0.55, 12)


@damaged(raises=True)
def cut_midway(folder: Path) -> Path:
    """An mp4 with its index in front, of which the last 40 % are missing."""
    return video_patches.cut(_faststart(folder / "cut_midway.mp4", 60), 0.6)


@damaged(raises=False)
def cut_matroska(folder: Path) -> Path:
    """A Matroska file of which the last 40 % are missing."""
    return video_patches.cut(render(folder / "cut.mkv", range(60), options=x264(), gop=10), 0.6)


@damaged(raises=False)
def cut_avi(folder: Path) -> Path:
    """An AVI whose second half, with the index, is missing."""
    path = render(folder / "cut.avi", range(60), codec="mpeg4", options={"b": "600k"}, gop=12)
    return video_patches.cut(path, 0.5)


@damaged(raises=False)
def cut_transport_stream(folder: Path) -> Path:
    """A transport stream cut within a packet."""
    return video_patches.cut(render(folder / "cut.ts", range(60), options=x264(), gop=10), 0.55)


# --- who opens what -----------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether anybody has opened the file since (Linux, inotify)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        if libc.inotify_add_watch(descriptor, os.fsencode(path), 0x20) < 0:  # IN_OPEN
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

        def was_opened() -> bool:
            try:
                return len(os.read(descriptor, 4096)) >= struct.calcsize("iIII")
            except BlockingIOError:
                return False

        yield was_opened
    finally:
        os.close(descriptor)


# --- a folder of everything ---------------------------------------------------------------------

# Names that upset shells, URLs, text files and HDF5; bytes, because not all are UTF-8.
NAMES = [
    b"plain.mp4",
    b"with space.mp4",
    b"quote'single.mp4",
    b'quote"double.mp4',
    b"clip:one.mp4",
    b"http:a.mp4",
    b"concat:a.mp4|b.mp4",
    b"new\nline.mp4",
    b"tab\tin.mp4",
    "größe-動画-🎬.mp4".encode(),
    b"latin-\xe9t\xe9.mp4",
    b"latin-%E9t%E9.mp4",  # what a careless escape of the name before would be called
    b"percent%20d%03d.mp4",
    b"-dash.mp4",
    b"#hash,comma;semi.mp4",
    b"UPPER.MP4",
]
SAME_STEM = [b"a/same.mp4", b"b/same.mp4", b"b/same.mkv", b"b/same.avi"]
INSIDE = b"filled.mp4/inside.mp4"  # a folder named as a video, and a video in it
LONGER = 14  # frames of the second video of one stem, 10 of the others


@dataclass
class BadFolder:
    """The folder of `bad_folder`.

    Attributes:
        root: the folder to extract.
        good: relative path (bytes, as the file system has it) to the number of frames.
        bad: relative path to the kinds of error that fit.
        damaged: relative path to the number of frames before the break.
        secrets: real videos outside that no reader may open.
    """

    root: Path
    good: dict[bytes, int] = field(default_factory=dict)
    bad: dict[bytes, frozenset[str]] = field(default_factory=dict)
    damaged: dict[bytes, int] = field(default_factory=dict)
    secrets: list[Path] = field(default_factory=list)


def bad_folder(tmp_path: Path, *, names: list[bytes] | None = None) -> BadFolder:
    """Build a folder of good videos with awkward names and of all kinds of bad files."""
    root = tmp_path / "bad folder"
    work = tmp_path / "work"
    root.mkdir()
    work.mkdir()
    result = BadFolder(root)
    short = render(work / "short.mp4", range(10), options=x264("bframes=2"))
    longer = render(work / "longer.mp4", range(LONGER), options=x264("bframes=2"))
    mkv = render(work / "short.mkv", range(10), options=x264("bframes=2"))
    avi = render(work / "short.avi", range(10), codec="mpeg4", options={"b": "600k"})
    for name in [*(NAMES if names is None else names), *SAME_STEM, INSIDE]:
        target = root / os.fsdecode(name)
        target.parent.mkdir(exist_ok=True)
        source = {".mkv": mkv, ".avi": avi}.get(target.suffix, short)
        if name == b"b/same.mp4":
            source = longer
        shutil.copyfile(source, target)
        result.good[name] = LONGER if source is longer else 10
    skipped = {"missing", "mp3_with_cover"}
    for label, file in BAD.items():
        if label in skipped:
            continue
        made = file.make(work)
        target_path = root / made.name
        if not made.is_file():
            made.rename(target_path)
        else:
            shutil.copyfile(made, target_path)
        result.bad[os.fsencode(made.name)] = file.kinds
    for damaged_file in DAMAGED.values():
        if damaged_file.raises:
            made = damaged_file.make(work)
            shutil.copyfile(made, root / made.name)
            result.damaged[os.fsencode(made.name)] = len(reference_frames(made).frames)
    # the playlists' target stands where their relative paths point to
    (root / "outside.d").mkdir()
    secret = root / "outside.d" / "other.bin"
    (work / "outside.d" / "other.bin").rename(secret)
    result.secrets.append(secret)
    shutil.copyfile(work / "text.mp4", root / "two\nlines.mp4")
    result.bad[b"two\nlines.mp4"] = BAD["text"].kinds
    locked = forbidden(root)
    if os.access(locked, os.R_OK):
        locked.unlink()
    else:
        result.bad[b"forbidden.mp4"] = frozenset({"unreadable"})
    return result
