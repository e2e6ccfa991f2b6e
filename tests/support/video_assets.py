"""Small videos whose every frame says its own number, and files that only pretend to be videos.

A frame carries its number as eight bright or dark blocks in its upper left corner (`draw`), which
survive compression, scaling and a change of colour space (`read_number`); a red bar at the right
edge tells which way is up and which channel is red; the rest is a moving texture.

`GOOD` names every asset that must come through, with what is to be known about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.support import video_patches

BLOCK = 10  # pixels a side of one bit
BITS = 8
COLUMNS = 4
EXACT = {"fflags": "+bitexact"}  # muxers write no random or dated fields


def draw(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """The picture of a number: uint8 (height, width, 3) RGB."""
    y, x = np.mgrid[0:height, 0:width]
    phase = number * 3
    picture = np.stack(
        [
            128 + 60 * np.sin((x + phase) / 7.0) * np.cos(y / 11.0),
            128 + 60 * np.cos((y - phase) / 9.0 + x / 23.0),
            128 + 60 * np.sin((x + y + 2 * phase) / 13.0),
        ],
        axis=-1,
    )
    picture[:, -8:] = (220, 30, 30)
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        value = 235 if number >> bit & 1 else 20
        top, left = row * BLOCK, column * BLOCK
        picture[top : top + BLOCK, left : left + BLOCK] = value
    return picture.round().astype(np.uint8)


def read_number(picture: np.ndarray) -> int:
    """The number that `draw` wrote, from uint8 (height, width, 3) at the drawn size."""
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        top, left = row * BLOCK + 3, column * BLOCK + 3
        number |= int(picture[top : top + BLOCK - 6, left : left + BLOCK - 6].mean() > 128) << bit
    return number


def red_bar_is_right(picture: np.ndarray) -> bool:
    """Whether the red bar stands at the right edge, and is red, not blue."""
    bar = picture[BLOCK * 3 :, -5:-2].reshape(-1, 3).mean(axis=0)
    return bool(bar[0] > 150 and bar[1] < 110 and bar[2] < 110)


def x264(*params: str) -> dict[str, str]:
    """Options of x264 that give the same bytes each time (its macroblock tree does not)."""
    fixed = ("threads=1", "mbtree=0", "qp=22")
    return {"preset": "veryfast", "x264-params": ":".join((*fixed, *params))}


def render(
    path: Path,
    numbers: Sequence[int] = range(30),
    *,
    codec: str = "libx264",
    rate: Fraction | int = 30,
    size: tuple[int, int] = (96, 64),
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    container_format: str | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    gop: int | None = None,
    b_frames: int | None = None,
    stored: Callable[[np.ndarray], np.ndarray] = lambda picture: picture,
    color_range: int | None = None,
    flags: int = 0,
    metadata: Mapping[str, str] | None = None,
    metadata_encoding: str = "utf-8",
    sound: bool = False,
    cover: bool = False,
) -> Path:
    """Encode the pictures of ``numbers`` to a file.

    Args:
        pts: a time stamp a frame in ``time_base`` (default: 0, 1, .. in 1/rate).
        stored: what is done to the pixels of a drawn picture before it is encoded.
        sound: one second of tones as a second stream.
        cover: a picture attached to the file, as music players show it.
    """
    rate = Fraction(rate)
    base = time_base or 1 / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(
        str(path),
        "w",
        format=container_format,
        container_options={**EXACT, **(container_options or {})},
        metadata_encoding=metadata_encoding,
    ) as container:
        for key, value in (metadata or {}).items():
            container.metadata[key] = value
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        first = stored(draw(0, *size))
        stream.width, stream.height = first.shape[1], first.shape[0]
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = base
        stream.time_base = base
        if flags:
            context.flags = int(context.flags) | flags
        if color_range is not None:
            context.color_range = color_range
        if gop is not None:
            context.gop_size = gop
        if b_frames is not None:
            context.max_b_frames = b_frames
        audio = add_sound(container) if sound else None
        picture = add_cover(container) if cover else None
        container.start_encoding()
        if picture is not None:
            container.mux(picture)
        for i, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(stored(draw(number, *size)), format="rgb24")
            frame = frame.reformat(
                format=pix_fmt, **({} if color_range is None else {"dst_color_range": color_range})
            )
            frame.pts = i if pts is None else pts[i]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            write_sound(container, audio)
    return path


def add_sound(container: Any, codec: str = "aac") -> Any:
    stream = container.add_stream(codec, rate=16000)
    stream.codec_context.layout = "mono"
    return stream


def write_sound(container: Any, stream: Any, seconds: float = 1.0) -> None:
    size = stream.codec_context.frame_size or 1024
    for i in range(int(seconds * 16000 / size)):
        wave = np.sin((np.arange(size) + i * size) * 0.17).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts = i * size
        frame.time_base = Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add_cover(container: Any) -> Any:
    """Add an attached picture; the packet to be written after the header."""
    stream = container.add_stream("png", rate=1)
    stream.width, stream.height, stream.pix_fmt = 128, 80, "rgb24"
    stream.disposition = Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(draw(255, 128, 80), format="rgb24")
    packet = stream.encode(frame)[0]
    packet.stream = stream
    return packet


# --- reading, the plain way ---------------------------------------------------------------------


@dataclass
class Reference:
    """What a plain sequential decode of a file gives.

    Attributes:
        frames: uint8 (height, width, 3) RGB as stored (not turned), in the order they came.
        times: seconds of each frame by the container, None where a frame has no time stamp.
        broken: whether decoding ended in an exception.
    """

    frames: list[np.ndarray] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)
    rotation: int = 0
    broken: bool = False

    @property
    def upright(self) -> list[np.ndarray]:
        """The frames turned as a player turns them."""
        return [np.ascontiguousarray(np.rot90(f, self.rotation // 90)) for f in self.frames]


def reference_frames(path: Path | str) -> Reference:
    """Plain sequential decode of the first real video stream, up to the first exception."""
    result = Reference()
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = next(
                s
                for s in container.streams.video
                if not s.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
            )
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                result.frames.append(frame.to_ndarray(format="rgb24"))
                result.times.append(frame.time)
                result.rotation = frame.rotation % 360
    except (av.FFmpegError, StopIteration):
        result.broken = True
    return result


# --- good videos, each odd in one way -----------------------------------------------------------


@dataclass(frozen=True)
class Asset:
    """A video that must come through, and what is to be known about it.

    Attributes:
        make: renders the file into a folder.
        numbers: the numbers of its frames, in the order they are shown.
        timing: what `probe` must call it; None where both ways are right.
        rate: frames per second, for constant ones.
        size: width and height as shown.
        times: seconds of each frame by the container's clock, for variable ones.
        coloured: whether the red bar is red.
        codec: encoder needed.
    """

    make: Callable[[Path], Path]
    numbers: tuple[int, ...] = tuple(range(30))
    timing: str | None = "constant"
    rate: Fraction | None = Fraction(30)
    size: tuple[int, int] = (96, 64)
    times: tuple[float, ...] | None = None
    coloured: bool = True
    codec: str = "libx264"


GOOD: dict[str, Asset] = {}


def good(**facts: Any) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a renderer under its own name."""

    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        GOOD[make.__name__] = Asset(make=make, **facts)
        return make

    return register


@good(numbers=tuple(range(60)))
def h264(folder: Path) -> Path:
    """Nothing odd: constant rate, B-frames as references, one key frame in 25 frames, sound."""
    return render(
        folder / "h264.mp4", range(60), options=x264("bframes=3", "b-adapt=0"), gop=25, sound=True
    )


@good(numbers=tuple(range(60)))
def h264_long_gop(folder: Path) -> Path:
    """One key frame at the very beginning: every seek must go back to it."""
    return render(
        folder / "long_gop.mp4", range(60), options=x264("bframes=2", "scenecut=0"), gop=600
    )


@good(rate=Fraction(30000, 1001))
def h264_ntsc(folder: Path) -> Path:
    """29.97 frames per second: 30000/1001, which no float holds."""
    return render(folder / "ntsc.mp4", rate=Fraction(30000, 1001), options=x264(), gop=10)


@good()
def mkv_milliseconds(folder: Path) -> Path:
    """Matroska's ticks are whole milliseconds: 0, 33, 67, 100: constant all the same."""
    return render(folder / "ms.mkv", options=x264("bframes=2"), gop=12)


@good(rate=Fraction(30000, 1001))
def mkv_ntsc(folder: Path) -> Path:
    """29.97 frames per second in whole milliseconds."""
    return render(folder / "ntsc.mkv", rate=Fraction(30000, 1001), options=x264(), gop=10)


VFR_GAPS = [20, 100, 33, 200, 20, 20, 500, 33, 33, 40] * 4
VFR_TICKS = tuple(int(t) for t in np.cumsum([0, *VFR_GAPS[:39]]))  # milliseconds


@good(
    numbers=tuple(range(40)),
    timing="variable",
    rate=None,
    times=tuple(t / 1000 for t in VFR_TICKS),
)
def vfr_mp4(folder: Path) -> Path:
    """Variable rate: gaps of 20 to 500 ms between frames."""
    return render(
        folder / "vfr.mp4",
        range(40),
        options=x264("bframes=2"),
        pts=VFR_TICKS,
        time_base=Fraction(1, 1000),
        gop=12,
    )


@good(
    numbers=tuple(range(40)),
    timing="variable",
    rate=None,
    times=tuple(t / 1000 for t in VFR_TICKS),
)
def vfr_mkv(folder: Path) -> Path:
    """Variable rate in Matroska."""
    return render(
        folder / "vfr.mkv",
        range(40),
        options=x264("bframes=2"),
        pts=VFR_TICKS,
        time_base=Fraction(1, 1000),
        gop=12,
    )


@good(timing="variable", rate=None, times=tuple(5 + t / 1000 for t in VFR_TICKS[:30]))
def vfr_late_start(folder: Path) -> Path:
    """Variable rate whose first frame stands at 5 s of the container's clock."""
    return render(
        folder / "vfr_late.mkv",
        options=x264("bframes=0"),
        pts=[5000 + t for t in VFR_TICKS[:30]],
        time_base=Fraction(1, 1000),
        gop=12,
    )


@good(timing="variable", rate=None, times=tuple(i / 30 + (2 if i >= 12 else 0) for i in range(30)))
def pause_of_two_seconds(folder: Path) -> Path:
    """Thirty frames per second with one hole of two seconds: a recording that was paused."""
    return render(
        folder / "pause.mp4",
        options=x264("bframes=2"),
        pts=[i + (60 if i >= 12 else 0) for i in range(30)],
        gop=10,
    )


@good()
def late_start_mkv(folder: Path) -> Path:
    """The first frame's time stamp is 2.5 s."""
    return render(folder / "late.mkv", options=x264("bframes=2"), pts=range(75, 105), gop=10)


@good()
def late_start_ts(folder: Path) -> Path:
    """An MPEG transport stream begins at 1.4 s and has no index and no count."""
    return render(folder / "late.ts", options=x264("bframes=2"), gop=10, sound=True)


@good()
def late_start_mp4(folder: Path) -> Path:
    """An mp4 with an empty edit before the first frame: it is shown a second late."""
    return render(
        folder / "late.mp4", options=x264("bframes=2"), pts=range(30, 60), gop=10, sound=True
    )


def _edited(path: Path, first: int, count: int, total: int = 60) -> Path:
    render(path, range(total), options=x264("bframes=2", "b-adapt=0"), gop=15)
    movie, media, edits = video_patches.read_edits(path)
    start = edits[0][1] + first * media // 30
    return video_patches.set_edits(path, [(count * movie // 30, start)])


@good(numbers=tuple(range(22, 60)))
def edit_list_skips_lead(folder: Path) -> Path:
    """An edit list that begins in the middle of a group of pictures: frames 0 to 21 are decoded
    but never shown."""
    return _edited(folder / "edit_lead.mp4", 22, 38)


@good(numbers=tuple(range(10, 40)))
def edit_list_cuts_both_ends(folder: Path) -> Path:
    """An edit list that shows frames 10 to 39 of 60."""
    return _edited(folder / "edit_both.mp4", 10, 30)


@good(numbers=(*range(5, 20), *range(40, 55)))
def edit_list_two_segments(folder: Path) -> Path:
    """Two edits: frames 5 to 19, then 40 to 54."""
    path = folder / "edit_two.mp4"
    # written with a late start, so that the muxer makes room for two entries
    render(path, range(60), options=x264("bframes=0"), gop=20, pts=range(30, 90))
    movie, media, edits = video_patches.read_edits(path)
    assert len(edits) == 2, edits
    tick = media // 30
    at = edits[1][1]
    return video_patches.set_edits(
        path, [(movie // 2, at + 5 * tick), (movie // 2, at + 40 * tick)]
    )


@good(numbers=tuple(range(50)))
def h264_open_gop(folder: Path) -> Path:
    """Open groups of pictures: B-frames after a key frame refer to the group before it, so that
    a decoder that starts there shows fewer or other frames."""
    return render(
        folder / "open_gop.mp4",
        range(50),
        options=x264("open-gop=1", "bframes=3", "b-adapt=0", "keyint=10", "min-keyint=5"),
    )


@good(numbers=tuple(range(50)))
def h264_open_gop_mkv(folder: Path) -> Path:
    """Open groups of pictures in Matroska."""
    return render(
        folder / "open_gop.mkv",
        range(50),
        options=x264("open-gop=1", "bframes=3", "b-adapt=0", "keyint=10", "min-keyint=5"),
    )


@good(numbers=tuple(range(50)))
def h264_intra_refresh(folder: Path) -> Path:
    """No key frame after the first: a moving column of intra blocks instead, and recovery points
    marked as key frames from which the picture is whole only ten frames later."""
    return render(
        folder / "intra_refresh.mp4",
        range(50),
        options=x264("intra-refresh=1", "keyint=10", "bframes=0"),
    )


@good(codec="libx265", numbers=tuple(range(50)), size=(128, 96))
def hevc_open_gop(folder: Path) -> Path:
    """HEVC with open groups of pictures (CRA pictures and skipped leading ones)."""
    return render(
        folder / "hevc.mp4",
        range(50),
        codec="libx265",
        size=(128, 96),
        options={
            "preset": "veryfast",
            "x265-params": "open-gop=1:keyint=12:min-keyint=6:bframes=3:b-adapt=0:"
            "pools=none:frame-threads=1:log-level=none",
        },
    )


@good(codec="libvpx")
def vp8(folder: Path) -> Path:
    """VP8 in WebM."""
    return render(
        folder / "vp8.webm",
        codec="libvpx",
        options={"deadline": "realtime", "cpu-used": "8"},
        gop=12,
    )


HIDDEN = (5, 6, 17)
SHOWN = tuple(n for n in range(30) if n not in HIDDEN)


@good(
    codec="libvpx",
    numbers=SHOWN,
    timing="variable",
    rate=None,
    times=tuple(round(n * 1000 / 30) / 1000 for n in SHOWN),
)
def vp8_hidden_frames(folder: Path) -> Path:
    """VP8 with packets that are decoded but not shown (alternate references): made by clearing
    the show bit of three packets."""
    source = render(
        folder / "work" / "vp8.webm",
        codec="libvpx",
        options={"deadline": "realtime", "cpu-used": "8"},
        gop=12,
    )

    def hide(i: int, data: bytes) -> bytes:
        return bytes([data[0] & ~0x10]) + data[1:] if i in HIDDEN else data

    return remux(source, folder / "vp8_hidden.webm", hide)


@good(codec="libvpx-vp9")
def vp9(folder: Path) -> Path:
    """VP9 with alternate references inside superframes."""
    return render(
        folder / "vp9.webm",
        codec="libvpx-vp9",
        options={"cpu-used": "8", "deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "16"},
        gop=12,
    )


@good(codec="libsvtav1", size=(128, 96))
def av1(folder: Path) -> Path:
    """AV1 in mp4, with hidden frames inside temporal units."""
    return render(
        folder / "av1.mp4",
        codec="libsvtav1",
        size=(128, 96),
        options={"preset": "12", "svtav1-params": "lp=1"},
        gop=12,
    )


@good(codec="mjpeg")
def mjpeg(folder: Path) -> Path:
    """Motion JPEG in AVI: full range, every frame a key frame."""
    return render(
        folder / "mjpeg.avi", codec="mjpeg", pix_fmt="yuvj420p", options={"q": "3"}, color_range=2
    )


@good(codec="mpeg4")
def mpeg4_b_frames(folder: Path) -> Path:
    """MPEG-4 part 2 in AVI with B-frames; AVI keeps decoding times only."""
    return render(folder / "mpeg4.avi", codec="mpeg4", options={"b": "600k"}, gop=12, b_frames=2)


@good(codec="mpeg4", numbers=tuple(range(29)), timing="disordered")
def mpeg4_packed(folder: Path) -> Path:
    """MPEG-4 part 2 as DivX wrote it: a P- and a B-frame in one packet, then a packet with an
    empty frame; the time stamps come out of order, and there is a packet too many."""
    source = render(
        folder / "work" / "mpeg4.avi",
        range(29),
        codec="mpeg4",
        options={"b": "600k", "sc_threshold": "1000000000"},
        gop=300,
        b_frames=1,
    )
    return pack_b_frames(source, folder / "mpeg4_packed.avi")


@good(codec="mpeg1video", timing=None)
def mpeg1(folder: Path) -> Path:
    """MPEG-1 in a program stream: no frame count in any header, starts at 0.5 s, and a time stamp
    out of order where a packet of the stream carries none of its own."""
    return render(folder / "mpeg1.mpg", codec="mpeg1video", gop=12, b_frames=2, options={"b": "1M"})


@good(codec="mpeg2video", rate=Fraction(25))
def mpeg2(folder: Path) -> Path:
    """MPEG-2 in a transport stream."""
    return render(
        folder / "mpeg2.ts", codec="mpeg2video", rate=25, gop=12, b_frames=2, options={"b": "1M"}
    )


@good(codec="mpeg2video", rate=Fraction(25))
def mpeg2_interlaced(folder: Path) -> Path:
    """MPEG-2 with interlaced coding tools."""
    return render(
        folder / "interlaced.mpg",
        codec="mpeg2video",
        rate=25,
        gop=12,
        b_frames=2,
        options={"b": "1M"},
        flags=int(av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me),
    )


@good()
def h264_interlaced(folder: Path) -> Path:
    """H.264 with interlaced macroblocks."""
    return render(folder / "mbaff.mkv", options=x264("interlaced=1", "bframes=2"), gop=12)


def _rotated(folder: Path, degrees: int) -> Path:
    path = render(
        folder / f"rotated_{degrees}.mp4",
        options=x264("bframes=2"),
        gop=12,
        stored=lambda picture: np.rot90(picture, degrees // 90).copy(),
    )
    return video_patches.set_rotation(path, degrees)


@good()
def rotated_90(folder: Path) -> Path:
    """A telephone held upright: stored lying, to be turned by 90 degrees clockwise."""
    return _rotated(folder, 90)


@good()
def rotated_180(folder: Path) -> Path:
    """A telephone held upside down."""
    return _rotated(folder, 180)


@good()
def rotated_270(folder: Path) -> Path:
    """To be turned by 270 degrees clockwise."""
    return _rotated(folder, 270)


@good(size=(97, 63))
def odd_size_444(folder: Path) -> Path:
    """97 by 63 pixels without chroma subsampling."""
    return render(folder / "odd444.mp4", size=(97, 63), pix_fmt="yuv444p", options=x264(), gop=12)


@good(codec="mpeg4", size=(97, 63))
def odd_size_420(folder: Path) -> Path:
    """97 by 63 pixels with halved chroma: 49 by 32 samples."""
    return render(
        folder / "odd420.mp4", codec="mpeg4", size=(97, 63), gop=12, options={"b": "600k"}
    )


@good()
def ten_bit_420(folder: Path) -> Path:
    """Ten bits a sample, 4:2:0."""
    return render(folder / "ten420.mp4", pix_fmt="yuv420p10le", options=x264("bframes=2"), gop=12)


@good()
def ten_bit_444(folder: Path) -> Path:
    """Ten bits a sample, 4:4:4."""
    return render(folder / "ten444.mkv", pix_fmt="yuv444p10le", options=x264(), gop=12)


@good()
def full_range(folder: Path) -> Path:
    """Luma of 0 to 255 instead of 16 to 235."""
    return render(
        folder / "full.mp4", pix_fmt="yuvj420p", options=x264("fullrange=on"), color_range=2, gop=12
    )


@good(codec="ffv1", coloured=False)
def grey(folder: Path) -> Path:
    """Luma only."""
    return render(folder / "grey.mkv", codec="ffv1", pix_fmt="gray")


@good(codec="libx264rgb")
def h264_rgb(folder: Path) -> Path:
    """H.264 of RGB samples."""
    return render(folder / "rgb.mp4", codec="libx264rgb", pix_fmt="rgb24", options=x264(), gop=12)


@good(codec="ffv1")
def ffv1(folder: Path) -> Path:
    """FFV1: lossless, RGB."""
    return render(folder / "ffv1.mkv", codec="ffv1", pix_fmt="bgr0")


@good()
def cover_then_video(folder: Path) -> Path:
    """A cover picture is the file's first video stream; the film is the second."""
    path = render(folder / "cover.mp4", options=x264(), gop=12, sound=True, cover=True)
    return video_patches.cover_first(path)


@good(codec="mpeg4")
def header_counts_too_many(folder: Path) -> Path:
    """Both headers of an AVI say 37 frames; 30 are there."""
    path = render(folder / "count.avi", codec="mpeg4", options={"b": "600k"}, gop=12)
    return video_patches.set_avi_frame_count(path, 37)


@good(codec="mpeg4")
def header_counts_too_few(folder: Path) -> Path:
    """Both headers of an AVI say 3 frames; 30 are there."""
    path = render(folder / "few.avi", codec="mpeg4", options={"b": "600k"}, gop=12)
    return video_patches.set_avi_frame_count(path, 3)


@good(codec="mpeg4")
def latin_metadata(folder: Path) -> Path:
    """A title in Latin-1, which is no valid UTF-8."""
    return render(
        folder / "latin.avi",
        codec="mpeg4",
        options={"b": "600k"},
        gop=12,
        metadata={"title": "Bj\xf6rk \xe9t\xe9"},
        metadata_encoding="latin-1",
    )


@good(numbers=(7,), rate=None, timing=None)
def one_frame(folder: Path) -> Path:
    """A video of a single frame."""
    return render(folder / "one.mp4", [7], options=x264("bframes=0"))


@good(numbers=(1, 2, 3))
def three_frames(folder: Path) -> Path:
    """Shorter than any clip."""
    return render(folder / "three.mp4", [1, 2, 3], options=x264("bframes=0"))


@good()
def faststart(folder: Path) -> Path:
    """The index stands before the media data."""
    return render(
        folder / "fast.mp4", options=x264(), gop=12, container_options={"movflags": "faststart"}
    )


@good()
def fragmented(folder: Path) -> Path:
    """A fragmented mp4: the header's index is empty, each fragment has its own."""
    return render(
        folder / "frag.mp4",
        options=x264("bframes=2"),
        gop=10,
        container_options={"movflags": "frag_keyframe+empty_moov"},
    )


def remux(source: Path, target: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """Copy the video packets of a file, changed, into another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=EXACT) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [p for p in old.demux(stream) if p.size]
        for i, packet in enumerate(packets):
            changed = av.Packet(change(i, bytes(packet)))
            changed.pts, changed.dts = packet.pts, packet.dts
            changed.duration = packet.duration
            changed.time_base = packet.time_base
            changed.is_keyframe = packet.is_keyframe
            changed.stream = copy
            new.mux(changed)
    return target


def pack_b_frames(source: Path, target: Path) -> Path:
    """Rewrite an MPEG-4 AVI of one B-frame between P-frames the way DivX packed it."""
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=EXACT) as new:
        stream = old.streams.video[0]
        packets = [bytes(p) for p in old.demux(stream) if p.size]
        # the name by which decoders know packed streams
        first = packets[0]
        at = first.index(b"\x00\x00\x01\xb2") + 4
        after = first.index(b"\x00\x00\x01\xb6")
        first = first[:at] + b"DivX503b1393p" + first[after:]
        packed = [first]
        for i in range(1, len(packets) - 1, 2):
            packed += [packets[i] + packets[i + 1], _empty_vop(i)]
        packed.append(_empty_vop(0))
        copy = new.add_stream_from_template(stream)
        for i, data in enumerate(packed):
            packet = av.Packet(data)
            packet.pts = packet.dts = i
            packet.duration = 1
            packet.time_base = Fraction(1, 30)
            packet.is_keyframe = i == 0
            packet.stream = copy
            new.mux(packet)
    return target


def _empty_vop(increment: int) -> bytes:
    """A P-VOP that is not coded, as fills the slot of a B-VOP packed before it."""
    # type 01, modulo 0, marker 1, increment in 5 bits, marker 1, coded 0, stuffing
    bits = f"0101{increment:05b}10"
    bits = (bits + "0" + "1" * 7)[:16]
    return b"\x00\x00\x01\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def repeat_video(source: Path, target: Path, times: int) -> Path:
    """Copy the packets of a file several times in a row: a long video for little work."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=EXACT) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [p for p in old.demux(stream) if p.size]
        assert stream.time_base is not None
        assert stream.average_rate is not None
        length = round(len(packets) / stream.average_rate / stream.time_base)
        for i in range(times):
            for packet in packets:
                data = av.Packet(bytes(packet))
                data.dts = packet.dts + i * length
                data.pts = (packet.dts if packet.pts is None else packet.pts) + i * length
                data.duration = packet.duration
                data.time_base = packet.time_base
                data.is_keyframe = packet.is_keyframe
                data.stream = copy
                new.mux(data)
    return target
