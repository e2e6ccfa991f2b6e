"""Textured shapes that move: eighteen motions of one shape, eight of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.synthetic_motion.stage import Stage, Track, tremor
from vidfeat.datasets.synthetic_motion.surfaces import Paint, Pixels

Random = np.random.Generator


@dataclass(frozen=True)
class Course:
    """How a shape moves: offsets from its place and factors of its size, (T,) or one number."""

    x: Track | float = 0.0
    y: Track | float = 0.0
    swelling: Track | float = 0.0
    """Logarithm of the factor of its size."""
    turn: Track | float = 0.0
    stretching: Track | float = 0.0
    """Logarithm of the factor of its width; its height shrinks as much."""
    slide: Track | float = 0.0
    """How far its surface moves within it."""


def _line(angle: float) -> Callable[[Track, Random], Course]:
    def course(t: Track, rng: Random) -> Course:
        speed = rng.uniform(0.25, 0.7)
        heading = angle + rng.uniform(-0.3, 0.3)
        way = speed * (t - 0.5 * t.max())
        return Course(x=np.cos(heading) * way, y=np.sin(heading) * way)

    return course


def _drop(t: Track, rng: Random) -> Course:
    start = rng.uniform(0.0, 0.4) * t.max()
    fallen = np.minimum(rng.uniform(1.5, 3.5) * np.maximum(t - start, 0) ** 2, 0.7)
    return Course(x=rng.uniform(-0.3, 0.3) * t, y=fallen - rng.uniform(0.2, 0.4))


def _growth(sign: int) -> Callable[[Track, Random], Course]:
    return lambda t, rng: Course(swelling=sign * rng.uniform(0.6, 1.4) * (t - 0.5 * t.max()))


def _turning(sign: int) -> Callable[[Track, Random], Course]:
    return lambda t, rng: Course(turn=sign * rng.uniform(1.5, 6.0) * t)


def _wave(t: Track, rng: Random, low: float = 1.0, high: float = 2.4) -> Track:
    result: Track = np.sin(2 * np.pi * (rng.uniform(low, high) * t + rng.random()))
    return result


def _sway(t: Track, rng: Random) -> Course:
    return Course(x=rng.uniform(0.06, 0.2) * _wave(t, rng), y=rng.uniform(-0.1, 0.1) * t)


def _bob(t: Track, rng: Random) -> Course:
    return Course(y=rng.uniform(0.06, 0.2) * _wave(t, rng), x=rng.uniform(-0.1, 0.1) * t)


def _bounce(t: Track, rng: Random) -> Course:
    share = (rng.uniform(1.2, 2.2) * t + rng.random()) % 1.0
    return Course(
        x=rng.uniform(-0.35, 0.35) * (t - 0.5 * t.max()),
        y=-rng.uniform(0.15, 0.4) * 4 * share * (1 - share),
    )


def _orbit(t: Track, rng: Random) -> Course:
    angle = 2 * np.pi * (rng.choice((-1, 1)) * rng.uniform(0.8, 1.8) * t + rng.random())
    radius = rng.uniform(0.08, 0.22)
    return Course(x=radius * np.cos(angle), y=radius * np.sin(angle))


def _tremble(t: Track, rng: Random) -> Course:
    strength = rng.uniform(0.015, 0.05)
    return Course(
        x=strength * tremor(rng, t),
        y=strength * tremor(rng, t),
        turn=4 * strength * tremor(rng, t) * rng.integers(2),
    )


def _stretch(t: Track, rng: Random) -> Course:
    return Course(stretching=rng.uniform(0.2, 0.5) * _wave(t, rng))


def _pulse(t: Track, rng: Random) -> Course:
    return Course(swelling=rng.uniform(0.2, 0.45) * _wave(t, rng))


def _slide(t: Track, rng: Random) -> Course:
    return Course(slide=rng.choice((-1, 1)) * rng.uniform(0.3, 0.8) * t)


_SINGLE: dict[str, Callable[[Track, Random], Course]] = {
    "still": lambda _t, _rng: Course(),
    "left": _line(np.pi),
    "right": _line(0.0),
    "up": _line(-np.pi / 2),
    "down": _line(np.pi / 2),
    "drop": _drop,
    "grow": _growth(1),
    "shrink": _growth(-1),
    "spin_left": _turning(-1),
    "spin_right": _turning(1),
    "sway": _sway,
    "bob": _bob,
    "bounce": _bounce,
    "orbit": _orbit,
    "tremble": _tremble,
    "stretch": _stretch,
    "pulse": _pulse,
    "slide": _slide,
}


def _pair(name: str, t: Track, rng: Random) -> list[Course]:
    """Courses of the shapes of one of ``PAIRS``; the first one is at the back."""
    heading = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(heading), np.sin(heading)
    speed = rng.uniform(0.4, 0.9)
    event = rng.uniform(0.35, 0.6) * t.max()

    def along(*ways: Track) -> list[Course]:
        return [Course(x=cos * way, y=sin * way) for way in ways]

    if name == "collide":
        apart = 0.11 + speed * np.abs(t - event)
        return along(apart, -apart)
    if name == "meet":
        apart = 0.11 + speed * np.maximum(event - t, 0)
        return along(apart, -apart)
    if name == "part":
        apart = 0.06 + speed * np.maximum(t - event * 0.5, 0)
        return along(apart, -apart)
    if name == "chase":
        way = speed * (t - 0.5 * t.max())
        side = 0.08 * _wave(t, rng)
        lag = rng.uniform(0.12, 0.25)
        return [
            Course(x=cos * w - sin * s, y=sin * w + cos * s)
            for w, s in ((way, side), (way - lag, np.roll(side, 1)))
        ]
    if name == "cover":
        return [Course(), *along(speed * (t - event))]
    if name == "circle":
        angle = heading + rng.choice((-1, 1)) * 2 * np.pi * rng.uniform(0.6, 1.4) * t
        radius = rng.uniform(0.12, 0.22)
        return [
            Course(x=sign * radius * np.cos(angle), y=sign * radius * np.sin(angle))
            for sign in (1, -1)
        ]
    way = 0.03 + 0.8 * speed * (t if name == "scatter" else t.max() - t)
    courses = []
    for number in range(4):
        angle = heading + np.pi / 2 * number + rng.uniform(-0.4, 0.4)
        courses.append(
            Course(x=np.cos(angle) * way, y=np.sin(angle) * way, turn=rng.uniform(-4, 4) * t)
        )
    return courses


@dataclass(frozen=True)
class Outline:
    """A random closed shape: below 1 inside, above outside, in units of its radius."""

    kind: str
    numbers: NDArray[np.float64] = field(repr=False)

    @classmethod
    def draw(cls, rng: Random) -> Outline:
        """Draw one of five kinds."""
        kind = str(rng.choice(("ellipse", "box", "polygon", "blob", "ring")))
        return cls(kind, rng.random(8))

    def __call__(self, u: Pixels, v: Pixels) -> Pixels:
        """The value at points of the shape's own plane."""
        value: Pixels = np.asarray(self._value(u, v), np.float32)
        return value

    def _value(self, u: Pixels, v: Pixels) -> Any:
        numbers = self.numbers
        if self.kind == "box":
            long = np.float32(0.55 + 0.45 * numbers[0])
            return np.maximum(np.abs(u) * np.float32(1.1), np.abs(v) / long)
        if self.kind == "polygon":
            sides = 3 + int(numbers[0] * 4)
            angles = 2 * np.pi * (np.arange(sides) + 0.4 * numbers[:sides]) / sides
            value = np.full_like(u, -9)
            for angle in angles:
                cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
                np.maximum(value, u * cos + v * sin, out=value)
            return value * np.float32(1.5)
        if self.kind == "blob":
            angle = np.arctan2(v, u)
            edge = np.full_like(u, 0.85)
            for wave, share, phase in ((2, 0.12, 0), (3, 0.15, 1), (5, 0.1, 2)):
                shift = np.float32(2 * np.pi * numbers[phase])
                edge += np.float32(share * numbers[phase + 3]) * np.cos(wave * angle + shift)
            return np.hypot(u, v) / edge
        if self.kind == "ring":
            thick = np.float32(0.2 + 0.2 * numbers[0])
            return np.abs(np.hypot(u, v) - (1 - thick)) / thick
        long = np.float32(0.5 + 0.5 * numbers[0])
        return np.hypot(u, v / long)


@dataclass(frozen=True)
class Body:
    """A shape with its surface, its place and its course."""

    outline: Outline
    paint: Paint
    x: float
    y: float
    radius: float
    turn: float
    course: Course

    def paint_on(self, canvas: Pixels, stage: Stage) -> None:
        """Draw it into all frames of a canvas (T, size, size, 3)."""
        course, camera = self.course, stage.camera
        frames = np.zeros(stage.frames)
        x, y = camera.view(self.x + frames + course.x, self.y + frames + course.y)
        radius = self.radius * np.exp(frames + course.swelling) * camera.zoom
        turn = self.turn + course.turn + camera.roll
        wide = np.exp(frames + course.stretching)

        def column(values: Track) -> NDArray[Any]:
            return values.astype(np.float32)[:, None, None]

        dx = stage.columns[None, None] - column(x)
        dy = stage.rows[None, :, None] - column(y)
        cos, sin = column(np.cos(turn) / radius), column(np.sin(turn) / radius)
        u = (dx * cos + dy * sin) / column(wide)
        v = (dy * cos - dx * sin) * column(wide)
        sharp = column(radius * (0.9 / stage.pixel))
        cover = np.clip((1 - self.outline(u, v)) * sharp + np.float32(0.5), 0, 1)
        top = np.nonzero(cover.max(axis=(0, 2)))[0]
        side = np.nonzero(cover.max(axis=(0, 1)))[0]
        if len(top) == 0:
            return
        box = (slice(None), slice(top[0], top[-1] + 1), slice(side[0], side[-1] + 1))
        size = np.float32(self.radius)
        slide = column(frames + course.slide)
        colours = self.paint.at(u[box] * size + slide, v[box] * size)
        part = canvas[box]
        part += (colours - part) * cover[box][..., None]


def draw_body(rng: Random, course: Course, *, small: bool = False) -> Body:
    """A body with random looks for a course."""
    low, high = (0.06, 0.14) if small else (0.1, 0.28)
    return Body(
        Outline.draw(rng),
        Paint.draw(rng),
        x=float(rng.uniform(-0.35, 0.35)),
        y=float(rng.uniform(-0.28, 0.28)),
        radius=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        turn=float(rng.uniform(-np.pi, np.pi)),
        course=course,
    )


def draw_bodies(
    rng: Random, stage: Stage, movers: tuple[str, ...], pairs: tuple[str, ...]
) -> list[Body]:
    """All shapes of a scene."""
    t = stage.seconds
    bodies = [draw_body(rng, _SINGLE[name](t, rng)) for name in movers]
    for name in pairs:
        courses = _pair(name, t, rng)
        x, y = rng.uniform(-0.2, 0.2, 2)
        for course in courses:
            body = draw_body(rng, course, small=name in ("scatter", "gather"))
            bodies.append(replace(body, x=float(x), y=float(y)))
    return bodies


def occluder(rng: Random) -> Body:
    """An object in front of everything: a post or a box at the edge."""
    numbers = rng.random(8)
    numbers[0] *= 0.2
    return Body(
        Outline("box", numbers),
        Paint.draw(rng),
        x=float(rng.uniform(-0.6, 0.6)),
        y=float(rng.uniform(-0.1, 0.6)),
        radius=float(rng.uniform(0.12, 0.5)),
        turn=float(rng.choice((0.0, np.pi / 2))),
        course=Course(),
    )
