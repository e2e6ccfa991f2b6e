"""Pixels made from the decoder's planes: those of ``FramePreprocessor.frame``, every one."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.video_assets import GOOD
from tests.support.video_fixtures import REAL_VIDEOS, asset, has_encoder  # noqa: F401
from vidfeat.encoders.engines.planes_torch import PlaneConverter
from vidfeat.errors import UsageError
from vidfeat.video.frame_parts import DirectPart, FrameParts, ScaledPart
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.orientation import Orientation
from vidfeat.video.plane_tables import PlaneCut, cut_tables
from vidfeat.video.planes import PlaneCutter
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video
from vidfeat.video.yuv import TABLES, Colour, colour_of, direct_to_rgb

PREPROCESSES = {
    "128x171": Preprocess(),
    "short 256": Preprocess(256, (224, 224)),
    "64x64": Preprocess((64, 64), (64, 64)),
    "short 40, odd crop": Preprocess(40, (37, 23)),
}
EVEN_SIZES = [(240, 320), (360, 640), (64, 96), (98, 147), (2, 3), (2, 1), (34, 301), (720, 1280)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_frame(
    height: int, width: int, pixel_format: str = "yuv420p", seed: int = 0, kind: str = "noise"
) -> av.VideoFrame:
    random = np.random.default_rng(seed)
    frame = av.VideoFrame(width, height, pixel_format)
    wide = "10le" in pixel_format
    most, sample = (1023, "<u2") if wide else (255, "u1")
    for plane in frame.planes:
        shape = (plane.height, plane.line_size // np.dtype(sample).itemsize)
        values = random.integers(0, most + 1, shape)
        if kind == "extremes":
            values = values // (most // 2 + 1) * most
        elif kind == "steps":
            values = values // (most // 2 + 1) + most // 5 * 2
        values <<= 6 if pixel_format == "p010le" else 0
        plane.update(values.astype(sample).tobytes())
    return frame


def plane_cut(frame: av.VideoFrame, preprocess: Preprocess) -> PlaneCut | None:
    return PlaneCutter(preprocess).cut(frame)


def planes_of(frames: list[av.VideoFrame], cut: PlaneCut) -> torch.Tensor:
    planes = np.full((len(frames), cut.nbytes), 99, np.uint8)
    for frame, row in zip(frames, planes, strict=True):
        cut.copy(frame, row)
    return torch.from_numpy(planes)


def by_planes(frame: av.VideoFrame, preprocess: Preprocess) -> np.ndarray:
    cut = plane_cut(frame, preprocess)
    assert cut is not None
    return PlaneConverter("cpu").convert(planes_of([frame], cut), cut)[0].numpy()


def by_frame(frame: av.VideoFrame, preprocess: Preprocess) -> np.ndarray:
    return FramePreprocessor(preprocess).whole(frame)


# --- the conversion ------------------------------------------------------------------------------


def every_triple(lumas: np.ndarray) -> tuple[av.VideoFrame, list[np.ndarray]]:
    """A frame that holds each of the given lumas with every pair of U and V."""
    side = 256 * int(np.sqrt(len(lumas)))
    cells = np.arange((side // 2) ** 2).reshape(side // 2, side // 2)
    groups = len(lumas) // 4
    pairs = cells // groups
    u, v = (pairs >> 8).astype(np.uint8), (pairs & 255).astype(np.uint8)
    y = np.empty((side, side), np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            y[row::2, column::2] = lumas[cells % groups * 4 + 2 * row + column]
    frame = av.VideoFrame(side, side, "yuv420p")
    for plane, values in zip(frame.planes, (y, u, v), strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : values.shape[1]] = values
        plane.update(padded.tobytes())
    return frame, [y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)]


@pytest.fixture(scope="module")
def all_triples() -> tuple[av.VideoFrame, list[np.ndarray]]:
    return every_triple(np.arange(256, dtype=np.uint8))


def assert_converted(triples: tuple[av.VideoFrame, list[np.ndarray]], colour: Colour) -> None:
    frame, samples = triples
    frame.colorspace, frame.color_range = colour.table, 2 if colour.full_range else 1
    assert colour_of(frame) == colour
    found = VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray()
    rows = len(found) // 8
    for top in range(0, len(found), rows):
        part = [plane[top : top + rows] for plane in samples]
        assert np.array_equal(direct_to_rgb(*part, colour), found[top : top + rows]), colour


BT601 = Colour(5, full_range=False)
QUICK = [BT601, Colour(1, full_range=True)]
COLOURS = [Colour(table, full) for table in TABLES for full in (False, True)]


@pytest.mark.parametrize("colour", QUICK, ids=str)
def test_all_triples(colour: Colour, all_triples: tuple[av.VideoFrame, list[np.ndarray]]) -> None:
    assert_converted(all_triples, colour)


@pytest.mark.slow
@pytest.mark.parametrize("colour", [c for c in COLOURS if c not in QUICK], ids=str)
def test_all_triples_of_every_colour(
    colour: Colour, all_triples: tuple[av.VideoFrame, list[np.ndarray]]
) -> None:
    assert_converted(all_triples, colour)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_some_lumas_with_every_chroma(colour: Colour) -> None:
    lumas = np.array([0, 1, 15, 16, 17, 80, 127, 128, 129, 190, 234, 235, 236, 250, 254, 255])
    assert_converted(every_triple(lumas.astype(np.uint8)), colour)


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize(("height", "width"), EVEN_SIZES)
def test_frames_of_many_sizes(name: str, height: int, width: int) -> None:
    preprocess = PREPROCESSES[name]
    frame = random_frame(height, width, seed=height + width)
    assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("space", range(18))
def test_every_colour_tag(pixel_format: str, space: int) -> None:
    preprocess = PREPROCESSES["64x64"]
    for color_range in (0, 1, 2):
        frame = random_frame(90, 160, pixel_format, seed=space)
        frame.colorspace, frame.color_range = space, color_range
        if plane_cut(frame, preprocess) is None:
            with pytest.raises(OSError):  # FFmpeg does not convert it either
                by_frame(frame, preprocess)
            continue
        assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


@given(
    height=st.integers(1, 300).map(lambda half: 2 * half),
    width=st.integers(1, 700),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["noise", "extremes", "steps"]),
    name=st.sampled_from(list(PREPROCESSES)),
    colour=st.sampled_from(COLOURS),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_frames_of_any_size(
    height: int, width: int, seed: int, kind: str, name: str, colour: Colour
) -> None:
    if max(height, width) > 20 * min(height, width):
        return  # the short side's rule would make a frame of gigabytes
    preprocess = PREPROCESSES[name]
    frame = random_frame(height, width, seed=seed, kind=kind)
    frame.colorspace, frame.color_range = colour.table, 2 if colour.full_range else 1
    assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


@pytest.mark.parametrize("file", REAL_VIDEOS)
@pytest.mark.parametrize("name", PREPROCESSES)
def test_real_videos(name: str, file: str, shared_data: Path) -> None:
    preprocess = PREPROCESSES[name]
    with open_video(shared_data / "videos" / file) as video:
        frames = [frame for _, frame in video.frames([0, video.info.num_frames // 2])]
    cut = plane_cut(frames[0], preprocess)
    assert cut is not None
    assert plane_cut(frames[1], preprocess) == cut
    found = PlaneConverter("cpu").convert(planes_of(frames, cut), cut).numpy()
    expected = np.stack([by_frame(frame, preprocess) for frame in frames])
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize(("height", "width"), [(180, 320), (320, 180), (1080, 1920)])
def test_orientations(height: int, width: int, name: str, turns: int, mirrored: bool) -> None:
    preprocess = PREPROCESSES[name]
    frame = random_frame(height, width, seed=turns)
    cut = PlaneCut(
        height, width, BT601, preprocess.resize, preprocess.crop,
        Orientation(turns, mirrored),
    )  # fmt: skip
    found = PlaneConverter("cpu").convert(planes_of([frame], cut), cut)[0].numpy()
    rgb = frame.to_ndarray(format="rgb24")
    upright = np.rot90(rgb[:, ::-1] if mirrored else rgb, turns)
    assert np.array_equal(found, FramePreprocessor(preprocess).rgb(upright))


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize(("height", "width"), [(180, 322), (1080, 1920)])
def test_interleaved_chroma_of_a_hardware_decoder(name: str, height: int, width: int) -> None:
    """The same samples as NV12 give the same pixels as FFmpeg's yuv420p."""
    preprocess = PREPROCESSES[name]
    frame = random_frame(height, width)
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    interleaved = np.stack([u, v], -1).reshape(len(u), -1)
    software = plane_cut(frame, preprocess)
    assert software is not None
    cut = software.from_hardware()
    row = np.empty(cut.nbytes, np.uint8)
    cut.copy_arrays([np.ascontiguousarray(y), interleaved], row)
    found = PlaneConverter("cpu").convert(torch.from_numpy(row)[None], cut)[0].numpy()
    assert np.array_equal(found, by_frame(frame, preprocess))


def encoded_frames(
    codec: str, pixel_format: str, options: dict[str, str], height: int, width: int
) -> list[av.VideoFrame]:
    """Frames of noise out of a decoder, with the tags that it sets."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for number in range(2):
            frame = random_frame(height, width, pixel_format, seed=number)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("height", [96, 98])
def test_interlaced_frames(name: str, height: int) -> None:
    """FFmpeg converts each field alone: a row's chroma is two rows further on than elsewhere."""
    preprocess = PREPROCESSES[name]
    options = {"flags": "+ildct+ilme", "b": "20M"}
    frame = encoded_frames("mpeg2video", "yuv420p", options, height, 130)[1]
    assert frame.interlaced_frame
    cut = plane_cut(frame, preprocess)
    if height % 4:  # fields of odd height
        assert cut is None
        return
    assert cut is not None
    assert cut.interlaced
    assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


# --- chroma that FFmpeg interpolates: 10 bits, odd heights, NV12 ---------------------------------

SCALED = ["yuv420p10le", "p010le", "nv12", "yuv420p", "yuvj420p"]


@pytest.mark.parametrize("pixel_format", SCALED)
@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("size", [(241, 320), (361, 642), (65, 96), (17, 18), (1081, 64)])
def test_interpolated_chroma(pixel_format: str, name: str, size: tuple[int, int]) -> None:
    preprocess = PREPROCESSES[name]
    if max(size) > 10 * min(size) and not isinstance(preprocess.resize, tuple):
        return
    for height in (size[0], size[0] + 1):
        if height % 2 == 0 and pixel_format in ("yuv420p", "yuvj420p"):
            continue
        frame = random_frame(height, size[1], pixel_format, seed=height)
        cut = plane_cut(frame, preprocess)
        assert cut is not None
        assert cut.location == 2
        assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "nv12"])
@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("kind", ["noise", "extremes", "steps"])
def test_interpolated_chroma_of_every_colour(pixel_format: str, colour: Colour, kind: str) -> None:
    """Without a resize, so that every pixel of the conversion is compared."""
    preprocess = Preprocess((200, 320), (200, 320))
    frame = random_frame(200, 320, pixel_format, seed=colour.table, kind=kind)
    frame.colorspace, frame.color_range = colour.table, 2 if colour.full_range else 1
    assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("chromaloc", range(6))
@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv420p"])
def test_chroma_locations(pixel_format: str, chromaloc: int, interlaced: int) -> None:
    """A decoder's frames say where chroma lies; FFmpeg minds it where it interpolates."""
    if not has_encoder("libx264"):
        pytest.skip("no libx264")
    options = {"x264-params": f"chromaloc={chromaloc}:interlaced={interlaced}", "crf": "1"}
    frame = encoded_frames("libx264", pixel_format, options, 96, 130)[1]
    assert frame.interlaced_frame == bool(interlaced)
    for preprocess in PREPROCESSES.values():
        cut = plane_cut(frame, preprocess)
        assert cut is not None
        if pixel_format == "yuv420p":
            assert cut.location is None
        else:
            assert cut.location == chromaloc + 1 or (cut.location, chromaloc) == (1, 0)
        assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))
        planes = [
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            for plane in frame.planes
        ]
        hardware = cut.from_hardware()
        row = np.empty(hardware.nbytes, np.uint8)
        hardware.copy_arrays(as_hardware(planes, frame), row)
        found = PlaneConverter("cpu").convert(torch.from_numpy(row)[None], hardware)[0].numpy()
        assert np.array_equal(found, by_frame(frame, preprocess))


def as_hardware(planes: list[np.ndarray], frame: av.VideoFrame) -> list[np.ndarray]:
    """Planes as NVDEC gives them: NV12, or P010."""
    wide = "10le" in frame.format.name
    y, u, v = (
        np.ascontiguousarray(plane).view("<u2" if wide else "u1")[:, :width]
        for plane, width in zip(planes, (frame.width, *[(frame.width + 1) // 2] * 2), strict=True)
    )
    interleaved = np.stack([u, v], -1).reshape(len(u), -1)
    shift = 6 if wide else 0
    return [np.ascontiguousarray(part << shift).view(np.uint8) for part in (y, interleaved)]


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "libsvtav1"])
def test_ten_bit_codecs(codec: str) -> None:
    if not has_encoder(codec):
        pytest.skip(f"no {codec}")
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    try:
        frames = encoded_frames(codec, "yuv420p10le", options, 130, 192)
    except av.FFmpegError:
        pytest.skip(f"{codec} takes no 10 bits here")
    for preprocess in PREPROCESSES.values():
        cutter = PlaneCutter(preprocess)
        for frame in frames:
            cut = cutter.cut(frame)
            assert cut is not None
            found = PlaneConverter("cpu").convert(planes_of([frame], cut), cut)[0].numpy()
            assert np.array_equal(found, by_frame(frame, preprocess))


@pytest.mark.parametrize("name", GOOD)
def test_frames_of_every_asset(name: str, asset: Callable[[str], Path]) -> None:  # noqa: F811
    """Turned, odd, interlaced or not: where there is a cut, it is exact."""
    with open_video(asset(name)) as video:
        frames = [frame for _, frame in video.frames([0, video.info.num_frames - 1])]
    for preprocess in (PREPROCESSES["128x171"], PREPROCESSES["short 40, odd crop"]):
        for frame in frames:
            if plane_cut(frame, preprocess) is not None:
                assert np.array_equal(by_planes(frame, preprocess), by_frame(frame, preprocess))


# --- where it is not exact, it is not used -------------------------------------------------------


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "gray", "rgb24", "yuv410p"])
def test_other_formats_have_no_cut(pixel_format: str) -> None:
    assert plane_cut(av.VideoFrame(64, 64, pixel_format), Preprocess()) is None


@pytest.mark.parametrize("height", [64, 65])
def test_another_ffmpeg_has_no_cut(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that rounds otherwise is found out, and planes are not used."""
    from vidfeat.video import yuv

    cached = (yuv.direct_rule_holds, yuv.direct_coefficients, yuv.scaled_coefficients)
    for function in cached:
        function.cache_clear()
    monkeypatch.setitem(yuv._TABLES, 5, (104597, 132201, 25675, 53279 + 80))
    try:
        assert plane_cut(random_frame(height, 64), Preprocess()) is None
    finally:
        monkeypatch.undo()
        for function in cached:
            function.cache_clear()
    assert plane_cut(random_frame(height, 64), Preprocess()) is not None


@pytest.mark.parametrize(
    ("height", "width", "pixel_format"),
    [(65, 67, "yuv420p"), (64, 67, "yuv420p10le"), (15, 64, "yuv420p"), (64, 14, "nv12")],
)
def test_sizes_that_ffmpeg_converts_in_yet_another_way(
    height: int, width: int, pixel_format: str
) -> None:
    assert plane_cut(random_frame(height, width, pixel_format), Preprocess()) is None


# --- the cut -------------------------------------------------------------------------------------


def test_a_cut_is_a_small_key() -> None:
    frame = random_frame(360, 640)
    cut = plane_cut(frame, Preprocess())
    assert cut is not None
    again = pickle.loads(pickle.dumps(cut))
    assert again == cut
    assert hash(again) == hash(cut)
    assert len(pickle.dumps(cut)) < 500
    # of the other statistics, none changes a sample
    assert plane_cut(frame, Preprocess(mean=(0, 0, 0), std=(1, 1, 1))) == cut
    assert plane_cut(frame, Preprocess(crop=(100, 112))) != cut


def test_a_cut_is_smaller_than_the_frame() -> None:
    for size, most in (((360, 640), 160_000), ((1080, 1920), 110_000)):
        cut = plane_cut(random_frame(*size), Preprocess())
        assert cut is not None
        assert cut.nbytes <= most
        assert cut.nbytes == cut_tables(cut).blocks[-1].end


def test_planes_need_no_torch() -> None:
    code = "import sys, vidfeat.video.planes, vidfeat.video.yuv; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# --- the converter -------------------------------------------------------------------------------


def test_many_frames_into_a_given_tensor() -> None:
    preprocess = PREPROCESSES["64x64"]
    frames = [random_frame(90, 160, seed=seed) for seed in range(300)]  # more than one chunk
    cut = plane_cut(frames[0], preprocess)
    assert cut is not None
    out = torch.zeros((len(frames), 64, 64, 3), dtype=torch.uint8)
    assert PlaneConverter("cpu").convert(planes_of(frames, cut), cut, out=out) is out
    for frame, pixels in zip(frames, out.numpy(), strict=True):
        assert np.array_equal(pixels, by_frame(frame, preprocess))


def test_no_frames() -> None:
    cut = plane_cut(random_frame(90, 160), Preprocess())
    assert cut is not None
    none = PlaneConverter("cpu").convert(torch.empty((0, cut.nbytes), dtype=torch.uint8), cut)
    assert none.shape == (0, 112, 112, 3)


def test_shapes_that_do_not_fit() -> None:
    cut = plane_cut(random_frame(90, 160), Preprocess())
    assert cut is not None
    converter = PlaneConverter("cpu")
    with pytest.raises(UsageError, match=r"this cut needs uint8 \(frames, \d+\)"):
        converter.convert(torch.zeros((1, cut.nbytes - 1), dtype=torch.uint8), cut)
    planes = torch.zeros((1, cut.nbytes), dtype=torch.uint8)
    with pytest.raises(UsageError, match="not contiguous uint8"):
        converter.convert(planes, cut, out=torch.zeros((1, 112, 113, 3), dtype=torch.uint8))


def test_several_threads_share_a_converter() -> None:
    converter = PlaneConverter("cpu")
    preprocess = PREPROCESSES["64x64"]
    frames = [random_frame(66, width, seed=width) for width in range(64, 94)]
    expected = [by_frame(frame, preprocess) for frame in frames]
    wrong: list[int] = []

    def work(first: int) -> None:
        for number in range(first, len(frames)):  # more cuts than are kept
            cut = plane_cut(frames[number], preprocess)
            assert cut is not None
            found = converter.convert(planes_of([frames[number]], cut), cut)[0].numpy()
            if not np.array_equal(found, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- parts of frames on the CPU -----------------------------------------------------------------


def assert_part(frame: av.VideoFrame, preprocess: Preprocess) -> None:
    cut = plane_cut(frame, preprocess)
    assert cut is not None
    part = ScaledPart(cut) if cut.location else DirectPart(cut, frame.format.name)
    for _ in range(2):  # its buffers are used again
        assert np.array_equal(part.frame(frame), by_frame(frame, preprocess))


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("pixel_format", SCALED)
@pytest.mark.parametrize("size", [(240, 320), (360, 642), (66, 96), (17, 18), (720, 1280)])
def test_parts_of_frames(name: str, pixel_format: str, size: tuple[int, int]) -> None:
    for more in (0, 1):
        height = size[0] + more
        assert_part(random_frame(height, size[1], pixel_format, seed=height), PREPROCESSES[name])


@given(
    height=st.integers(1, 300).map(lambda half: 2 * half),
    width=st.integers(1, 700),
    seed=st.integers(0, 10**6),
    name=st.sampled_from(list(PREPROCESSES)),
    colour=st.sampled_from(COLOURS),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_parts_of_any_size(height: int, width: int, seed: int, name: str, colour: Colour) -> None:
    if max(height, width) > 20 * min(height, width):
        return
    frame = random_frame(height, width, seed=seed)
    frame.colorspace, frame.color_range = colour.table, 2 if colour.full_range else 1
    assert_part(frame, PREPROCESSES[name])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("location", [None, 1])
def test_parts_of_turned_frames(turns: int, mirrored: bool, location: int | None) -> None:
    preprocess = PREPROCESSES["short 40, odd crop"]
    if location is None:
        frame = random_frame(180, 322, seed=turns)
    else:
        frame = encoded_frames("libx264", "yuv420p10le", {"crf": "1"}, 180, 322)[0]
    cut = plane_cut(frame, preprocess)
    assert cut is not None
    assert cut.location == location
    cut = replace(cut, orientation=Orientation(turns, mirrored))
    part = DirectPart(cut, "yuv420p") if location is None else ScaledPart(cut)
    rgb = frame.to_ndarray(format="rgb24")
    upright = np.rot90(rgb[:, ::-1] if mirrored else rgb, turns)
    assert np.array_equal(part.frame(frame), FramePreprocessor(preprocess).rgb(upright))


def test_parts_are_used_where_they_are_quicker() -> None:
    parts = FrameParts(PREPROCESSES["128x171"])
    assert isinstance(parts.of(random_frame(1080, 1920)), DirectPart)
    assert isinstance(parts.of(random_frame(360, 640, "yuv420p10le")), ScaledPart)
    assert parts.of(random_frame(240, 320)) is None
    assert parts.of(random_frame(240, 321, "yuv420p10le")) is None


def test_frames_of_one_kind_with_other_chroma() -> None:
    """Videos that differ in nothing but where chroma lies, one after the other."""
    if not has_encoder("libx264"):
        pytest.skip("no libx264")
    frames = [
        encoded_frames("libx264", "yuv420p10le", {"x264-params": f"chromaloc={place}"}, 360, 640)[0]
        for place in (0, 2, 5)
    ]
    preprocess = PREPROCESSES["64x64"]
    preprocessor, cutter = FramePreprocessor(preprocess), PlaneCutter(preprocess)
    for frame in frames * 2:
        expected = by_frame(frame, preprocess)
        assert np.array_equal(preprocessor.frame(frame), expected)
        cut = cutter.cut(frame)
        assert cut is not None
        found = PlaneConverter("cpu").convert(planes_of([frame], cut), cut)[0].numpy()
        assert np.array_equal(found, expected)
    assert len({cutter.cut(frame) for frame in frames}) == 3


def test_preprocessors_in_several_threads() -> None:
    """Each with a preprocessor of its own, for frames of one size: they share no buffers."""
    preprocess = PREPROCESSES["short 256"]
    frames = [random_frame(240, 320, seed=seed) for seed in range(3)]
    expected = [by_frame(frame, preprocess) for frame in frames]
    wrong: list[int] = []

    def work(number: int) -> None:
        preprocessor = FramePreprocessor(preprocess)
        pixels = [preprocessor.frame(frames[number]) for _ in range(40)]
        if not all(np.array_equal(found, expected[number]) for found in pixels):
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- Triton --------------------------------------------------------------------------------------

INTERPRETED = """
import sys
import torch
from tests.video.test_planes import *

torch.set_num_threads(1)
converter = PlaneConverter("cpu", triton=True)
cases = [
    ("noise", 90, 160, "64x64", BT601),
    ("extremes", 66, 301, "64x64", Colour(9, full_range=True)),
    ("steps", 66, 301, "short 40, odd crop", BT601),
    ("noise", 2, 3, "short 40, odd crop", Colour(1, full_range=False)),
    ("noise", 65, 98, "short 40, odd crop", BT601),
    ("extremes", 64, 98, "short 40, odd crop", Colour(9, full_range=True)),
    ("noise", 64, 98, "short 40, odd crop", Colour(9, full_range=False)),
]
formats = ["yuv420p"] * 5 + ["yuv420p10le", "p010le"]
for (kind, height, width, name, colour), pixel_format in zip(cases, formats):
    frames = [random_frame(height, width, pixel_format, seed, kind) for seed in (0, 1)]
    for frame in frames:
        frame.colorspace = colour.table
        frame.color_range = 2 if colour.full_range else 1
    cut = plane_cut(frames[0], PREPROCESSES[name])
    found = converter.convert(planes_of(frames, cut), cut).numpy()
    for frame, pixels in zip(frames, found):
        assert np.array_equal(pixels, by_frame(frame, PREPROCESSES[name])), cut
"""


def test_triton_kernel_interpreted() -> None:
    """The kernel's own operations, one by one, on the CPU."""
    pytest.importorskip("triton")
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("bits", [8, 10])
def test_triton_kernel_compiles_for_an_h100(bits: int) -> None:
    """To machine code: no GPU is needed for it."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vidfeat.encoders.engines.planes_triton import _planes_kernel

    constants = {"HEIGHT": 112, "WIDTH": 112, "CHROMA_OFFSET": 1024, "HEAD": 12, "BLOCK": 256}
    constants |= {"SCALED": bits > 8, "BITS": bits, "LOW_BITS": 0}
    signature = {"planes": "*u8", "numbers": "*i32", "weights": "*fp32", "out": "*u8"}
    source = ASTSource(
        fn=_planes_kernel,
        signature={**signature, "frame_stride": "i32", **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert kernel.asm["cubin"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("triton", [False, True])
def test_on_cuda(triton: bool) -> None:
    converter = PlaneConverter("cuda", triton=triton)
    for pixel_format in ("yuv420p", *SCALED):
        for height, width in EVEN_SIZES:
            for preprocess in PREPROCESSES.values():
                frames = [random_frame(height, width, pixel_format, seed) for seed in range(5)]
                cut = plane_cut(frames[0], preprocess)
                if cut is None:
                    assert pixel_format in SCALED
                    continue
                found = converter.convert(planes_of(frames, cut).cuda(), cut).cpu().numpy()
                for frame, pixels in zip(frames, found, strict=True):
                    assert np.array_equal(pixels, by_frame(frame, preprocess))
