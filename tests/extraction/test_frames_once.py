"""A network of frames gets each frame once, however clips overlap, and whatever ends a run."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import vidfeat
from tests.support.clips import decoded
from tests.support.odd_videos import scene, write_video
from tests.support.store_fixtures import arrays_of
from vidfeat.encoders.encoder import Encoder
from vidfeat.errors import StoppedError, UsageError
from vidfeat.extraction import steps as steps_module
from vidfeat.extraction.joining import ClipsOfFrames
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.extraction.stopping import Stop
from vidfeat.store.parts import parts_folder, read_carried
from vidfeat.store.parts_summary import scan_parts
from vidfeat.video.clip_plan import ClipPlan, VideoSegment, plan_clips
from vidfeat.video.frame_clips import frame_positions, frames_of_clips
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.timeline import Timeline

INLINE = ExtractOptions(workers=0)
SMALL = Preprocess(16, (16, 16), antialias=True, resampler="pillow")
COUNTS = (10, 3, 23, 14)
OVERLAPPING = ClipPlan(4, stride=2, hop_frames=1)
NEEDED = sum(COUNTS) - 1  # of the shortest, whose last one is repeated, not the second


class Frames(nn.Module):
    """A few numbers of each frame; counts the frames that it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(3, 5, 16)
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.net(x).flatten(1).tanh()


def encoder_of(plan: ClipPlan = OVERLAPPING, **options: Any) -> Encoder:
    return vidfeat.Encoder.from_module(
        Frames(), input=SMALL, plan=plan, modality="frame", device="cpu", batch_size=4, **options
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("videos")
    for number, count in enumerate(COUNTS):
        write_video(folder / f"{number}.mp4", scene(count, seed=number), rate=10)
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "part_inputs", lambda *_: 8)


def clip_by_clip(encoder: Encoder, path: Path) -> np.ndarray:
    """The rows of a video by clips that are decoded and embedded one for one."""
    clips = decoded(path, encoder.plan, encoder.preprocess).clips
    return encoder.encode_clips(np.stack([clip.frames_THWC for clip in clips]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aggregate": "mean_std"},
        {"aggregate": "max", "crops": 3},
        {"crops": 5, "average_crops": True},
    ],
)
def test_frames_are_decoded_and_encoded_once(
    options: dict[str, Any], videos: Path, tmp_path: Path
) -> None:
    encoder = encoder_of(**options)
    net = encoder.engine._network.module  # type: ignore[attr-defined]
    net.seen = 0
    report = extract(videos, tmp_path / "f.h5", encoder, options=INLINE)
    frames, crops = NEEDED, encoder.preprocess.crops
    assert report.frames_decoded == frames
    assert report.assembly["frames_encoded"] == frames * crops
    assert net.seen == report.assembly["batches"] * 4  # the last batch of a part is filled up
    assert report.assembly["clips_padded"] == net.seen - frames * crops
    rows = encoder.spec.rows.rows_per_clip
    with vidfeat.FeatureStore(tmp_path / "f.h5") as store:
        assert report.clips_encoded == store.num_clips // rows
        for number in range(len(COUNTS)):
            path = videos / f"{number}.mp4"
            # the same sums in batches of other sizes
            found, alone = store.read(path.name), encoder.encode(path)
            assert np.allclose(found.vectors, clip_by_clip(encoder, path), atol=1e-6)
            assert np.allclose(found.vectors, alone.vectors, atol=1e-6)
            assert np.array_equal(found.start_seconds, alone.start_seconds)


def test_decode_processes_give_the_same(videos: Path, tmp_path: Path) -> None:
    encoder = encoder_of()
    extract(videos, tmp_path / "inline.h5", encoder, options=INLINE)
    report = extract(videos, tmp_path / "pool.h5", encoder, options=ExtractOptions(workers=1))
    assert report.frames_decoded == NEEDED
    one, two = arrays_of(tmp_path / "inline.h5"), arrays_of(tmp_path / "pool.h5")
    assert all(np.array_equal(one[name], two[name]) for name in one)


class StopAfter(Stop):
    """Asks for the end when it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def asked(self) -> bool:
        self.looks -= 1
        if self.looks <= 0:
            self.ask()
        return super().asked


@pytest.mark.parametrize("options", [{}, {"crops": 3, "aggregate": "mean_std"}])
def test_a_rerun_makes_the_same_bits_and_encodes_no_frame_again(
    options: dict[str, Any], videos: Path, tmp_path: Path
) -> None:
    encoder = encoder_of(**options)
    whole = tmp_path / "whole.h5"
    extract(videos, whole, encoder, options=INLINE)
    for looks in range(1, 40, 5):
        output = tmp_path / f"{looks}.h5"
        encoded = 0
        for again in range(8):
            stop = StopAfter(looks if again < 7 else 10**6)
            net = encoder.engine._network.module  # type: ignore[attr-defined]
            before = net.seen
            try:
                report = extract(videos, output, encoder, options=INLINE, stop=stop)
            except StoppedError:
                progress = scan_parts(parts_folder(output))
                assert sum(part.inputs for part in progress.parts) <= net.seen - before + encoded
                encoded = sum(part.inputs for part in progress.parts)
                continue
            encoded += report.assembly.get("frames_encoded", 0)
            assert report.clips_lost == 0
            break
        assert encoded == NEEDED * encoder.preprocess.crops
        one, two = arrays_of(whole), arrays_of(output)
        assert all(np.array_equal(one[name], two[name]) for name in one), looks


def test_a_part_that_is_lost_is_made_again(videos: Path, tmp_path: Path) -> None:
    encoder = encoder_of()
    whole, output = tmp_path / "whole.h5", tmp_path / "f.h5"
    extract(videos, whole, encoder, options=INLINE)
    with pytest.raises(StoppedError):
        extract(videos, output, encoder, options=INLINE, stop=StopAfter(32))
    parts = sorted(parts_folder(output).glob("*.part"))
    (last,) = [part for part in scan_parts(parts_folder(output)).parts if part.file == parts[-1]]
    assert last.carried is not None
    carried = read_carried(last)
    assert carried.outputs.shape == (len(carried.at.positions), 5)
    assert len(carried.at.positions) >= 3
    parts[-1].write_bytes(parts[-1].read_bytes()[:-4])  # a carried number is missing
    report = extract(videos, output, encoder, options=INLINE)
    assert any("dropped" in note for note in report.notes)
    one, two = arrays_of(whole), arrays_of(output)
    assert np.allclose(one.pop("vectors"), two.pop("vectors"), atol=1e-6)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_row_for_each_frame(videos: Path, tmp_path: Path) -> None:
    plan = ClipPlan(8, fps=Fraction(4))
    with pytest.raises(UsageError, match="leave clip_frames"):
        encoder_of(plan, aggregate="none")
    encoder = encoder_of(ClipPlan(1, fps=Fraction(2)), aggregate="none")
    report = extract(videos, tmp_path / "f.h5", encoder, options=INLINE)
    with vidfeat.FeatureStore(tmp_path / "f.h5") as store:
        film = store.read("2.mp4")  # 2.3 s
        assert film.start_seconds.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
        assert film.end_seconds.tolist() == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.3])
        assert report.frames_decoded == store.num_clips == 2 + 1 + 5 + 3
    described = encoder.describe()
    assert (described["aggregate"], described["plan"]["frames"]) == ("none", 1)


@st.composite
def laid(draw: st.DrawFn) -> Sequence[Any]:
    count = draw(st.integers(1, 40))
    plan = ClipPlan(
        draw(st.integers(1, 6)),
        stride=draw(st.integers(1, 4)),
        hop_frames=draw(st.one_of(st.none(), st.integers(1, 9))),
        short=draw(st.sampled_from(["repeat_last", "loop"])),
        fps=draw(st.sampled_from([None, Fraction(7), Fraction(33)])),
    )
    ends = st.tuples(st.floats(0, 1.5), st.floats(0.05, 2))
    segments = [VideoSegment(start, start + length) for start, length in draw(st.lists(ends))]
    timeline = Timeline(count, Fraction(10))
    inside = [segment for segment in segments if segment.start_seconds < count / 10]
    return plan_clips(timeline, plan, inside)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(laid(), st.integers(0, 60))
def test_clips_come_in_order_with_their_frames_wherever_it_is_cut(
    clips: Sequence[Any], cut: int
) -> None:
    positions = frame_positions(clips)
    joining = ClipsOfFrames(clips)
    complete: list[Any] = []
    for number in range(len(positions)):
        if number == cut:  # a run ends, and another goes on from what it carried
            joining = ClipsOfFrames(
                clips, joining.frames_done, joining.clips_done, dict(joining.waiting)
            )
        complete += joining.add(number)
        needed = {at for clip in clips[joining.clips_done :] for at in clip.positions}
        assert needed & set(positions[: number + 1]) <= set(joining.waiting)
        assert len(joining.waiting) <= (max(needed) - min(needed) + 1 if needed else 0)
    assert [clip for clip, _ in complete] == list(clips)
    assert [numbers for _, numbers in complete] == frames_of_clips(clips).tolist()
    assert not joining.waiting
