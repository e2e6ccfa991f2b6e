"""Rendered videos whose classes differ only by motion, in time-reversed pairs.

Each scene is rendered once and written twice: forwards for the first class of its pair, backwards
for the second. The two videos have the same frames, to the bit, since every frame is compressed
independently: single frames, however many, do not reveal which of the two it is. A network that
cannot see the order of frames is right half of the time within a pair.

Mirroring a video keeps its class, so that the usual augmentation does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.textures import (
    SHAPES,
    Pixels,
    noise_texture,
    paint,
    shape_mask,
    shifted,
)
from vidfeat.system.files import atomic_write

Frames = NDArray[np.uint8]

PAIRS: dict[str, tuple[str, str]] = {
    "vertical": ("rise", "fall"),
    "size": ("grow", "shrink"),
    "distance": ("part", "meet"),
    "curtain": ("cover", "uncover"),
}
CLASSES = tuple(sorted(name for pair in PAIRS.values() for name in pair))


class _Scene:
    """Random looks of one video: background, its drift, the mover and its texture."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        self.background = noise_texture(rng, height, width)
        self.drift = rng.uniform(-0.6, 0.6, 2)
        self.offset = rng.uniform(0, (height, width))
        self.texture = noise_texture(rng, height, width)
        self.second = noise_texture(rng, height, width)
        self.shape = SHAPES[int(rng.integers(len(SHAPES)))]
        self.middle = np.array([height * rng.uniform(0.44, 0.56), width * rng.uniform(0.42, 0.58)])
        self.radius = height * float(rng.uniform(0.12, 0.2))
        self.side = 1 if rng.random() < 0.5 else -1
        self.extent = float(rng.uniform(0.85, 1.1))

    def canvas(self, frame: int) -> Pixels:
        """The background in a frame."""
        down, right = self.offset + self.drift * frame
        return shifted(self.background, float(down), float(right))

    def draw(
        self, canvas: Pixels, y: float, x: float, radius: float, *, second: bool = False
    ) -> None:
        """Draw the mover; its texture moves with it."""
        mask = shape_mask(self.shape, self.height, self.width, y, x, radius)
        paint(canvas, shifted(self.second if second else self.texture, y, x), mask)


def _vertical(scene: _Scene, canvas: Pixels, t: float) -> None:
    y = scene.middle[0] + scene.height * 0.3 * scene.extent * (0.5 - t)
    scene.draw(canvas, y, scene.middle[1], scene.radius)


def _size(scene: _Scene, canvas: Pixels, t: float) -> None:
    scene.draw(
        canvas, scene.middle[0], scene.middle[1], scene.radius * (0.5 + scene.extent * 1.2 * t)
    )


def _distance(scene: _Scene, canvas: Pixels, t: float) -> None:
    apart = scene.radius * (0.1 + 1.5 * scene.extent * t)
    for side in (-1, 1):
        x = scene.middle[1] + side * apart
        scene.draw(canvas, scene.middle[0], x, scene.radius * 0.8, second=side > 0)


def _curtain(scene: _Scene, canvas: Pixels, t: float) -> None:
    scene.draw(canvas, scene.middle[0], scene.middle[1], scene.radius * 1.3)
    edge = scene.radius * 1.6 * scene.extent * (1 - 2 * t)
    columns = (np.arange(scene.width) + 0.5 - scene.middle[1]) * scene.side
    mask = np.clip(columns - edge + 0.5, 0, 1).astype(np.float32)
    right = scene.middle[1] + scene.side * edge
    hanging = shifted(scene.second, 0.0, float(right))
    paint(canvas, hanging, np.broadcast_to(mask, (scene.height, scene.width)))


_MOTIONS: dict[str, Callable[[_Scene, Pixels, float], None]] = {
    "vertical": _vertical,
    "size": _size,
    "distance": _distance,
    "curtain": _curtain,
}


def render_scene(
    pair: str, rng: np.random.Generator, *, frames: int = 16, size: tuple[int, int] = (48, 64)
) -> Frames:
    """Render the first class of a pair; the second is the same array backwards.

    Args:
        pair: a key of ``PAIRS``.
        rng: source of the random looks.
        frames: T.
        size: height and width of a frame.

    Returns:
        uint8 (T, height, width, 3).
    """
    scene = _Scene(rng, *size)
    result = np.empty((frames, *size, 3), np.uint8)
    for index in range(frames):
        canvas = scene.canvas(index)
        _MOTIONS[pair](scene, canvas, index / max(1, frames - 1))
        result[index] = np.clip(canvas * 255 + 0.5, 0, 255)
    return result


def write_motion_pairs(
    folder: Path,
    *,
    train: int = 60,
    val: int = 20,
    seed: int = 0,
    frames: int = 16,
    size: tuple[int, int] = (48, 64),
    fps: int = 15,
) -> list[Path]:
    """Write the dataset: ``train/<class>/0000.mp4`` and ``val/<class>/0000.mp4``.

    Existing videos are kept, so that an interrupted call is resumed.

    Args:
        folder: where to write.
        train: videos per class for training.
        val: videos per class for evaluation.
        seed: determines how the scenes look.
        frames: of a video.
        size: height and width of a frame, both even.
        fps: frames per second.

    Returns:
        The videos.
    """
    written = []
    for part, (name, count) in enumerate((("train", train), ("val", val))):
        for number, (pair, classes) in enumerate(PAIRS.items()):
            for index in range(count):
                files = [folder / name / label / f"{index:04d}.mp4" for label in classes]
                written += files
                if all(file.is_file() for file in files):
                    continue
                rng = np.random.default_rng((seed, part, number, index))
                forwards = render_scene(pair, rng, frames=frames, size=size)
                for file, order in zip(files, (forwards, forwards[::-1]), strict=True):
                    write_video(file, order, fps=fps)
    return sorted(written)


def write_video(
    path: Path, frames_THWC: Frames, *, fps: int | Fraction = 15, quality: int = 16
) -> None:
    """Encode frames as H.264, each independently and with a fixed quantiser.

    A frame's bytes then depend only on the frame, not on its place in the video.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames_THWC.shape[1:3]
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {
            "qp": str(quality),
            "g": "1",
            "preset": "veryfast",
            "aq-mode": "0",
            "x264-params": "scenecut=0:keyint=1:rc-lookahead=0:mbtree=0:bframes=0",
        }
        for image in frames_THWC:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
