"""Videos that are drawn by formulas: kinds of moving scenes, each seed another one of its kind.

They stand in for real recordings where a test needs many different videos, long ones, or
pictures that may be shown. ``render_folder`` makes a folder a kind, as datasets do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Scene = Callable[[float], Picture]


def _palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Three colours that go together: neighbouring hues, dark to bright. (3, 3) in 0..1."""
    hue = rng.random()
    colours = []
    for offset, value, strength in ((0.0, 0.16, 0.75), (0.09, 0.62, 0.7), (0.2, 1.0, 0.45)):
        angle = 2 * np.pi * (hue + offset + np.array([0, 1 / 3, 2 / 3]))
        colours.append(value * (1 - strength / 2 + strength / 2 * np.cos(angle)))
    return np.array(colours, dtype=np.float32)


def _shade(values: Picture, palette: NDArray[np.float32]) -> Picture:
    """Values of 0..1 as colours along a palette: (H, W) to (H, W, 3)."""
    at = np.clip(values, 0, 1) * 2
    low = np.minimum(at.astype(np.int32), 1)
    part = (at - low)[..., None]
    return palette[low] * (1 - part) + palette[low + 1] * part


def _grid(width: int, height: int) -> tuple[Picture, Picture]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return (x - width / 2) / height, (y - height / 2) / height


def waves(rng: np.random.Generator, width: int, height: int) -> Scene:
    x, y = _grid(width, height)
    colours = _palette(rng)
    sources = rng.uniform(-0.8, 0.8, (4, 2))
    speed, length = rng.uniform(2, 5, 4), rng.uniform(14, 34, 4)
    distances = [np.hypot(x - a, y - b) for a, b in sources]

    def at(seconds: float) -> Picture:
        total = sum(
            np.sin(distance * segment - seconds * rate)
            for distance, segment, rate in zip(distances, length, speed, strict=True)
        )
        return _shade(0.5 + 0.16 * total, colours)

    return at


def balls(rng: np.random.Generator, width: int, height: int) -> Scene:
    x, y = _grid(width, height)
    colours = _palette(rng)
    count = int(rng.integers(4, 9))
    phase, speed = rng.uniform(0, 6.28, (count, 2)), rng.uniform(0.5, 2.2, (count, 2))
    size = rng.uniform(0.06, 0.16, count)
    tint = np.stack([_palette(rng)[2] for _ in range(count)])
    back = _shade(0.35 + 0.35 * y, colours)

    def at(seconds: float) -> Picture:
        picture = back.copy()
        for number in range(count):
            a, b = np.sin(phase[number] + speed[number] * seconds) * (0.75, 0.42)
            distance = np.hypot(x - a, y - b) / size[number]
            light = np.hypot(x - a + 0.03, y - b + 0.03) / size[number]
            cover = np.clip((1 - distance) * 12, 0, 1)[..., None]
            picture += cover * (tint[number] * np.clip(1.25 - light, 0.2, 1)[..., None] - picture)
        return picture

    return at


def stars(rng: np.random.Generator, width: int, height: int) -> Scene:
    colours = _palette(rng)
    count = 260
    place = rng.uniform(-1, 1, (count, 2))
    depth = rng.uniform(0, 1, count)
    speed = rng.uniform(0.15, 0.5)
    x, y = _grid(width, height)
    back = _shade(0.24 - 0.2 * np.hypot(x, y), colours)

    def at(seconds: float) -> Picture:
        picture = back.copy()
        near = (depth - speed * seconds) % 1 + 0.04
        column = (width / 2 + place[:, 0] / near * height * 0.22).astype(int)
        row = (height / 2 + place[:, 1] / near * height * 0.22).astype(int)
        bright = np.clip(1.15 - near, 0, 1)
        for big in (0, 1, 2):
            chosen = bright > (0.0, 0.6, 0.85)[big]
            for down in range(big + 1):
                for right in range(big + 1):
                    r, c = row[chosen] + down, column[chosen] + right
                    held = (r >= 0) & (r < height) & (c >= 0) & (c < width)
                    picture[r[held], c[held]] = bright[chosen][held, None] * (
                        0.4 * colours[2] + 0.6
                    )
        return picture

    return at


def spiral(rng: np.random.Generator, width: int, height: int) -> Scene:
    x, y = _grid(width, height)
    colours = _palette(rng)
    arms, twist = int(rng.integers(2, 7)), rng.uniform(5, 16)
    rate = rng.uniform(1, 3.5) * rng.choice([-1, 1])
    a, b = rng.uniform(-0.25, 0.25, 2)
    distance, angle = np.hypot(x - a, y - b), np.arctan2(y - b, x - a)

    def at(seconds: float) -> Picture:
        turn = np.sin(arms * angle + twist * distance - rate * seconds)
        return _shade((0.5 + 0.5 * turn) * np.exp(-0.6 * distance), colours)

    return at


def rain(rng: np.random.Generator, width: int, height: int) -> Scene:
    x, y = _grid(width, height)
    colours = _palette(rng)
    slant, rate = rng.uniform(-0.35, 0.35), rng.uniform(1.0, 2.6)
    lines = rng.random(160).astype(np.float32)
    offset = rng.random(160).astype(np.float32)
    lane = ((x + slant * y + 1) * 60).astype(int) % 160
    hills = 0.25 + 0.06 * np.sin(7 * x + rng.uniform(0, 6)) + 0.04 * np.sin(17 * x)

    def at(seconds: float) -> Picture:
        along = (y * 0.9 - seconds * rate * (0.6 + 0.8 * lines[lane]) + offset[lane]) % 1
        drops = np.clip(1 - along * 7, 0, 1) * (lines[lane] > 0.35)
        value = 0.42 - 0.3 * y + 0.45 * drops
        return _shade(np.where(y > hills, 0.08 + 0.1 * drops, value), colours)

    return at


def tiles(rng: np.random.Generator, width: int, height: int) -> Scene:
    x, y = _grid(width, height)
    colours = _palette(rng)
    count = int(rng.integers(4, 9))
    shift = rng.uniform(0, 6.28, (count * 3, count * 3)).astype(np.float32)
    rate = rng.uniform(0.8, 2.4)
    turn = rng.uniform(0, 1.5)
    a = x * np.cos(turn) - y * np.sin(turn)
    b = x * np.sin(turn) + y * np.cos(turn)
    column = ((a + 1.3) * count).astype(int) % (count * 3)
    row = ((b + 1.3) * count).astype(int) % (count * 3)
    edge = np.minimum(((a + 1.3) * count) % 1, ((b + 1.3) * count) % 1) > 0.06

    def at(seconds: float) -> Picture:
        value = 0.5 + 0.5 * np.sin(shift[row, column] + rate * seconds)
        return _shade(np.where(edge, value, 0.05), colours)

    return at


KINDS: dict[str, Callable[[np.random.Generator, int, int], Scene]] = {
    "balls": balls,
    "rain": rain,
    "spiral": spiral,
    "stars": stars,
    "tiles": tiles,
    "waves": waves,
}


def frames(
    kind: str, seed: int, seconds: float, *, width: int = 256, height: int = 144, fps: int = 25
) -> Iterator[NDArray[np.uint8]]:
    """Pictures of one scene, uint8 (H, W, 3); every eight seconds the scene is another one."""
    scene: Scene | None = None
    length = 8 * fps
    for number in range(round(seconds * fps)):
        if scene is None or number % length == 0:
            rng = np.random.default_rng([seed, number // length, len(kind)])
            scene = KINDS[kind](rng, width, height)
        picture = scene(number / fps)
        yield (np.clip(picture, 0, 1) ** 0.8 * 255).astype(np.uint8)


def film(
    seed: int, seconds: float, *, width: int = 256, height: int = 144, fps: int = 25
) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a film: scenes of every kind, one to three seconds each, none of them twice."""
    rng = np.random.default_rng([seed, 77])
    until, number, scene = 0, 0, None
    while number < round(seconds * fps):
        if number >= until:
            kind = str(rng.choice(list(KINDS)))
            scene = KINDS[kind](np.random.default_rng(int(rng.integers(1 << 40))), width, height)
            until = number + int(rng.uniform(1.0, 3.0) * fps)
        assert scene is not None
        yield (np.clip(scene(number / fps), 0, 1) ** 0.8 * 255).astype(np.uint8)
        number += 1


def render(
    path: Path,
    kind: str,
    seed: int,
    seconds: float,
    *,
    width: int = 256,
    height: int = 144,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Write one video; the kind ``film`` is a row of scenes of every kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libx264" and options is None:
        options = {"crf": "20", "preset": "veryfast", "g": str(2 * fps)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if codec == "mpeg4":
            stream.bit_rate = 900_000
        size = {"width": width, "height": height, "fps": fps}
        pictures = (
            film(seed, seconds, **size) if kind == "film" else frames(kind, seed, seconds, **size)
        )
        for pixels in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def render_folder(root: Path, each: int = 6, seconds: float = 4.0, **options: int) -> list[Path]:
    """A folder a kind with ``each`` videos; one of the first kind is an AVI (MPEG-4, as UCF101)."""
    made = []
    for place, kind in enumerate(KINDS):
        for number in range(each):
            avi = place == 0 and number == 0
            path = root / kind / f"{kind}_{number:02d}.{'avi' if avi else 'mp4'}"
            seed = 1000 * place + number
            long = seconds * (1 + number % 3)
            made.append(
                render(path, kind, seed, long, codec="mpeg4" if avi else "libx264", **options)
            )
    return made
