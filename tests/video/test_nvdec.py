"""Reading by a card's decoders: the frames of the processors, or a refusal; never another frame."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.gpu.made import KINDS, make_file
from tests.support.card_fixtures import FakeCard, interleaved
from vidfeat.video import ClipPlan, open_video
from vidfeat.video.clips import Clip
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.nvdec import Likeness, Refused, fill_planes, open_video_on_card, same_samples
from vidfeat.video.planes import PlaneClip
from vidfeat.video.planes_numpy import clip_to_rgb
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import Limits, to_rgb

TAKEN = (
    *("h264.mp4", "h264_full_range.mp4", "h264_open_group.mkv", "h264_refresh.mp4"),
    *("h264_cropped.mp4", "h264_10bit.mp4", "hevc.mp4", "hevc_10bit.mp4"),
    *("vp9.webm", "vp9_odd.webm", "av1.mp4", "av1_10bit.mkv"),
)
REFUSED = ("h264_fields.mp4", "h264_422.mp4", "h264_444.mp4", "hevc_12bit.mp4", "mpeg4.avi")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes the files asked for, each once."""
    folder = tmp_path_factory.mktemp("made")

    def get(name: str) -> Path:
        path = folder / name
        if not path.exists():
            if KINDS[name][0] not in av.codecs_available:
                pytest.skip(f"this FFmpeg has no {KINDS[name][0]}")
            make_file(path)
        return path

    return get


def described(frame: av.VideoFrame) -> tuple[Any, ...]:
    return (
        *(frame.pts, frame.format.name, frame.width, frame.height, frame.rotation),
        *(frame.colorspace, frame.color_range),
    )


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("positions", [range(40), range(0, 40, 3), (27, 28, 31, 39), (5,)])
def test_frames_are_those_of_ffmpeg(files: Any, name: str, positions: Any) -> None:
    path = files(name)
    card = FakeCard()
    with open_video(path) as plain, open_video_on_card(path, card) as video:
        assert video.known.info == plain.known.info
        expected = list(plain.frames(positions))
        found = list(video.frames(positions))
    assert card.sessions or list(positions) == [0]
    assert [p for p, _ in found] == [p for p, _ in expected]
    for (_, frame), (_, other) in zip(found, expected, strict=True):
        assert described(frame) == described(other)
        assert same_samples(frame, other)
        assert np.array_equal(to_rgb(frame), to_rgb(other))


@pytest.mark.parametrize("name", ["hflip", "plain", "transpose", "transverse", "vflip"])
def test_turned_and_mirrored(shared_data: Path, name: str) -> None:
    path = shared_data / "odd" / "mirrored" / f"{name}.mp4"
    with open_video(path) as plain, open_video_on_card(path, FakeCard()) as video:
        positions = range(plain.info.num_frames)
        for (_, frame), (_, other) in zip(
            video.frames(positions), plain.frames(positions), strict=True
        ):
            assert described(frame) == described(other)
            assert np.array_equal(to_rgb(frame), to_rgb(other))


def test_planes_of_the_card_go_to_a_function_of_the_callers(files: Any) -> None:
    positions = [0, 5, 6, 30]

    def make(picture: Any, model: av.VideoFrame) -> Any:
        frame = Likeness(model).frame(picture.pts)
        fill_planes(frame, picture.luma, picture.chroma)
        return to_rgb(frame)

    with (
        open_video(files("h264_10bit.mp4")) as plain,
        open_video_on_card(files("h264_10bit.mp4"), FakeCard(), make=make) as video,
    ):
        for (place, made), (position, frame) in zip(
            video.frames(positions), plain.frames(positions), strict=True
        ):
            assert place == position
            assert np.array_equal(made, to_rgb(frame))


def test_only_wanted_samples_are_fetched(files: Any) -> None:
    card = FakeCard()
    with open_video_on_card(files("h264.mp4"), card) as video:
        list(video.frames([9, 11]))
    assert card.fetched == 3  # and the first, which is compared


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused(files: Any, name: str) -> None:
    card = FakeCard()
    with pytest.raises(Refused), open_video_on_card(files(name), card) as video:
        list(video.frames(range(40)))
    assert not card.sessions


@pytest.mark.parametrize("trouble", ["error:20", "skip:20", "sample:0", "size"])
@pytest.mark.parametrize("name", ["h264.mp4", "hevc_10bit.mp4", "vp9.webm"])
def test_whatever_is_wrong_is_refused(files: Any, name: str, trouble: str) -> None:
    path = files(name)
    with open_video(path) as plain:
        expected = dict(plain.frames(range(40)))
    came = []
    with (
        pytest.raises(Refused),
        open_video_on_card(path, FakeCard(trouble)) as video,
    ):
        for position, frame in video.frames(range(40)):
            assert same_samples(frame, expected[position])
            came.append(position)
    assert came == list(range(len(came)))
    assert len(came) <= 20


def test_first_frame_is_compared_wherever_reading_begins(files: Any) -> None:
    with (
        pytest.raises(Refused),
        open_video_on_card(files("h264.mp4"), FakeCard("sample:0")) as video,
    ):
        list(video.frames([30]))
    with open_video_on_card(files("h264.mp4"), FakeCard()) as video:
        known = video.known
    with (
        pytest.raises(Refused),
        open_video_on_card(files("h264.mp4"), FakeCard("sample:0"), known=known) as video,
    ):
        list(video.frames([30]))


def test_damage_is_refused(files: Any, tmp_path: Path) -> None:
    """Damage that FFmpeg's own strict reading tells, told by the card too."""
    path = tmp_path / "damaged.mkv"
    content = bytearray(files("h264_open_group.mkv").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)  # three zeros in a row are in no slice
    path.write_bytes(content)
    with open_video(files("h264_open_group.mkv")) as whole:
        expected = dict(whole.frames(range(40)))
    came = 0
    with pytest.raises(Refused), open_video_on_card(path, FakeCard()) as video:
        for position, frame in video.frames(range(video.info.num_frames)):
            assert same_samples(frame, expected[position])
            came += 1
    assert 0 < came < 40


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("size", [(64, 48), (66, 50), (321, 241)])
def test_planes_survive_the_way_through_a_card(pixels: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(*size, pixels)
    wide = pixels.endswith("10le")
    for plane in frame.planes:
        values = rng.integers(0, 1024 if wide else 256, plane.buffer_size // (2 if wide else 1))
        plane.update(values.astype("<u2" if wide else "u1").tobytes())
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    other = Likeness(frame).frame(7)
    fill_planes(other, *interleaved(frame, 10 if wide else 8))
    assert same_samples(frame, other)


# -- processes ---------------------------------------------------------------------------------

PLAN = ClipPlan(frames=8, hop_frames=4)
SOURCE = ClipSource(PLAN, Preprocess(resize=(36, 48), crop=(32, 32)), Limits())


def pixels_of(clip: Clip) -> np.ndarray:
    return clip_to_rgb(clip.frames) if isinstance(clip.frames, PlaneClip) else clip.frames_THWC


def clips_of(tasks: list[VideoTask], pool: DecodePool) -> dict[str, list[tuple[int, bytes]]]:
    """Clips as a run consumes them: a second start voids what lies behind its first clip."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    for task, event in pool.run(tasks):
        clips = found.setdefault(task.path, [])
        if isinstance(event, Started):
            del clips[event.first_clip :]
        elif isinstance(event, Clip):
            assert event.index == len(clips)
            clips.append((event.index, pixels_of(event).tobytes()))
            event.release()
        else:
            assert isinstance(event, Finished)
            assert event.error is None, event.error
    return found


@pytest.fixture
def fake_card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decode processes with a card get the one for tests."""

    def install(trouble: str) -> None:
        root = Path(__file__).resolve().parents[2]
        paths = [
            str(root / "tests" / "support" / "fake_card"),
            str(root),
            os.environ.get("PYTHONPATH", ""),
        ]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        monkeypatch.setenv("VIDFEAT_FAKE_CARD", trouble)

    return install


@pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
@pytest.mark.parametrize("trouble", ["", "none", "error:13", "sample:0", "skip:17", "die:11"])
def test_pool_gives_the_same_with_a_card(
    files: Any, fake_card: Any, trouble: str, planes: bool
) -> None:
    names = ("h264.mp4", "hevc.mp4", "mpeg4.avi", "vp9.webm", "h264_10bit.mp4", "h264_422.mp4")
    tasks = [VideoTask(str(files(name))) for name in names]
    # Few slots, so that long videos are cut into pieces.
    small = 6 * int(np.prod(SOURCE.clip_shape))
    with DecodePool(SOURCE, 1, buffer_bytes=small) as pool:
        expected = clips_of(tasks, pool)
    fake_card(trouble)
    source = replace(SOURCE, planes=planes)
    small = 6 * source.clip_bytes
    with DecodePool(source, 1, cards=(0, 0), buffer_bytes=3 * small) as pool:
        found = clips_of(tasks, pool)
    assert found == expected
    stats = pool.stats
    if trouble == "none":
        assert stats.card_trouble
    elif trouble:
        assert stats.card_refused >= 2
    else:
        assert stats.card_videos
    if trouble != "die:11":
        assert stats.processes_lost == 0


def test_hung_card_costs_no_video(files: Any, fake_card: Any) -> None:
    tasks = [VideoTask(str(files(name))) for name in ("h264.mp4", "vp9.webm")]
    with DecodePool(SOURCE, 1) as pool:
        expected = clips_of(tasks, pool)
    fake_card("hang:9")
    with DecodePool(SOURCE, 1, cards=(0,), timeout_seconds=2.0) as pool:
        pool._children[1].started = True  # its start does not count
        assert clips_of(tasks, pool) == expected
