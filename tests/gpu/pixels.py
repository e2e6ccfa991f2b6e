"""The same clips in every way: decoded on the CPU, from planes on the device, by NVDEC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from checks import Context, Result, skipped

POSITIONS = 24
Count = int | str


def equal_pixels(context: Context) -> Result:
    """Compare the network's input, pixel by pixel, over all files of the archive.

    The reference is ``FramePreprocessor`` on frames that FFmpeg decodes.
    """
    from vidfeat.errors import VideoError
    from vidfeat.video import open_video
    from vidfeat.video.frame_preprocessor import FramePreprocessor
    from vidfeat.video.preprocess import Preprocess

    card = _card(context)
    folders = [context.pack / name for name in ("videos", "made", "clips")]
    paths = [path for folder in folders for path in sorted(folder.glob("*.*"))]
    if context.small:
        paths = paths[:12]
    files: dict[str, Any] = {}
    compared = {"frames": 0, "from_planes": 0, "by_card": 0, "by_card_from_planes": 0}
    wrong: list[str] = []
    planes: Planes | None = None
    for path in paths:
        about = files[path.name] = {}
        for preprocess in (Preprocess(), Preprocess(resize=256, crop=(224, 224))):
            reference = FramePreprocessor(preprocess)
            try:
                with open_video(path) as video:
                    step = max(1, video.info.num_frames // POSITIONS)
                    positions = range(0, video.info.num_frames, step)
                    frames = dict(video.frames(positions))
            except VideoError as error:
                about["refused"] = str(error)
                continue
            expected = {position: reference.whole(frame) for position, frame in frames.items()}
            compared["frames"] += len(frames)
            planes = _planes(context, preprocess)
            about["from_planes"] = _from_planes(planes, frames, expected)
            about["by_card"] = _by_card(path, card, None, reference.frame, expected)
            if planes is not None:
                about["by_card_from_planes"] = _by_card(
                    path, card, planes.of_picture, lambda pixels: pixels, expected
                )
            for way in set(about) & set(compared):
                if isinstance(about[way], int):
                    compared[way] += about[way]
                elif about[way].startswith("OTHER"):
                    wrong.append(f"{path.name} {way}")
        print(path.name, about, flush=True)
    figure = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in compared.items())
    if wrong:
        figure = f"{len(wrong)} differ: {wrong[:3]}; {figure}"
    if planes is None:
        figure += "; the device makes no pixels of planes here"
        if card is None:
            return skipped("neither a card nor pixels of planes here") | {"files": files}
    enough = (planes is None or compared["from_planes"] > 0) and (
        card is None or compared["by_card"] > 0
    )
    return {"ok": enough and not wrong, "figure": figure, "files": files}


def _planes(context: Context, preprocess: Any) -> Planes | None:
    try:
        return Planes(context, preprocess)
    except ModuleNotFoundError as error:
        print(error)
        return None


def _card(context: Context) -> Any:
    if not context.gpu:
        return None
    from vidfeat.video.nvcuvid import Card

    return Card(0)


class Planes:
    """Makes pixels from planes, on the device."""

    def __init__(self, context: Context, preprocess: Any) -> None:
        from vidfeat.encoders.engines.planes_torch import PlaneConverter
        from vidfeat.video.planes import PlaneCutter

        self.cutter = PlaneCutter(preprocess)
        self.converter = PlaneConverter(context.device)

    def pixels(self, cut: Any, copy: Callable[[Any], None]) -> Any:
        import numpy as np
        import torch

        samples = np.empty((1, cut.nbytes), np.uint8)
        copy(samples[0])
        there = torch.from_numpy(samples).to(self.converter.device)
        return self.converter.convert(there, cut).cpu().numpy()[0]

    def of_frame(self, frame: Any) -> Any:
        """Pixels of a frame that FFmpeg decoded; None if its planes are not supported."""
        cut = self.cutter.cut(frame)
        return None if cut is None else self.pixels(cut, lambda out: cut.copy(frame, out))

    def of_picture(self, picture: Any, model: Any) -> Any:
        """Pixels of the card's own planes."""
        cut = self.cutter.cut(model)
        if cut is None:
            return None
        cut = cut.from_hardware()
        planes = [plane.view("u1") for plane in (picture.luma, picture.chroma)]
        return self.pixels(cut, lambda out: cut.copy_arrays(planes, out))


def _from_planes(planes: Planes | None, frames: dict[int, Any], expected: dict[int, Any]) -> Count:
    """The number of frames with the same pixels from planes on the device, or what is wrong."""
    import numpy as np

    if planes is None:
        return "not there"
    equal = 0
    for position, frame in frames.items():
        pixels = planes.of_frame(frame)
        if pixels is None:
            continue
        if not np.array_equal(pixels, expected[position]):
            return f"OTHER PIXELS in frame {position}"
        equal += 1
    return equal or "not from planes"


def _by_card(
    path: Path, card: Any, make: Callable[[Any, Any], Any] | None, pixels_of: Any, expected: Any
) -> Count:
    """The number of frames that the card decoded to the same pixels, or what is wrong."""
    import numpy as np

    from vidfeat.video.nvdec import Refused, open_video_on_card

    if card is None:
        return "no card"
    equal = 0
    try:
        with open_video_on_card(path, card, make=make) as video:
            for position, frame in video.frames(sorted(expected)):
                pixels = pixels_of(frame)
                if pixels is None:
                    continue
                if not np.array_equal(pixels, expected[position]):
                    return f"OTHER PIXELS in frame {position}"
                equal += 1
    except Refused as why:
        return f"refused: {why}"
    return equal or "not from planes"
