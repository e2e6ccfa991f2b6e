"""Figures in the picture: their places, their colours, and their limbs as soft capsules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidfeat.datasets.synthetic_motion.actions import ACTION_POSES
from vidfeat.datasets.synthetic_motion.meetings import MEETING_ROLES, Role, third_fighter
from vidfeat.datasets.synthetic_motion.skeleton import ENDS, PARTS, RADII, Points, joints
from vidfeat.datasets.synthetic_motion.stage import Stage, Track
from vidfeat.datasets.synthetic_motion.surfaces import Paint, Pixels
from vidfeat.datasets.synthetic_motion.vocabulary import ScenePlan

Random = np.random.Generator


@dataclass(frozen=True)
class Perspective:
    """How a scene with figures is viewed."""

    pitch: float
    """0 looks along the ground, pi/2 down from above."""
    height: float
    """Height of a figure in the middle of the view, in scene units."""
    deeper: float
    """How much smaller figures are further up in the picture."""

    def height_at(self, y: float) -> float:
        """Height of a figure whose feet are at y."""
        return self.height * float(np.exp(self.deeper * (y - 0.2)))

    def project(self, points: Points, heading: Track, x: float, y: float) -> tuple[Track, Track]:
        """Project points (T, n, 3) of a figure into the scene: x and y, (T, n) each."""
        cos, sin = np.cos(heading)[:, None], np.sin(heading)[:, None]
        ahead, left, up = points[..., 0], points[..., 1], points[..., 2]
        across = ahead * cos - left * sin
        nearer = ahead * sin + left * cos
        size = self.height_at(y)
        return (
            x + size * across,
            y + size * (nearer * np.sin(self.pitch) - up * np.cos(self.pitch)),
        )


@dataclass(frozen=True)
class Figure:
    """One figure, ready to be drawn."""

    x: Track
    """Joints in the scene: (T, joints)."""
    y: Track
    feet: float
    """y of its place: lower figures are drawn later."""
    size: float
    """Height in scene units."""
    girth: float
    colours: Pixels
    """(limbs, 3)"""
    cloth: Paint
    pattern: float
    """How much of its cloth's pattern shows."""

    def paint_on(self, canvas: Pixels, stage: Stage) -> None:
        """Draw it into all frames of a canvas (T, size, size, 3)."""
        x, y = stage.camera.view(self.x, self.y)
        radii = RADII * self.girth * self.size
        thick = (radii * stage.camera.zoom[:, None]).astype(np.float32)
        margin = float(thick.max()) + stage.pixel
        columns = np.nonzero(
            (stage.columns > x.min() - margin) & (stage.columns < x.max() + margin)
        )[0]
        rows = np.nonzero((stage.rows > y.min() - margin) & (stage.rows < y.max() + margin))[0]
        if len(columns) == 0 or len(rows) == 0:
            return
        across = slice(columns[0], columns[-1] + 1)
        down = slice(rows[0], rows[-1] + 1)
        ax, ay = (p[:, ENDS[:, 0]].astype(np.float32) for p in (x, y))
        bx, by = (p[:, ENDS[:, 1]].astype(np.float32) for p in (x, y))
        bx, by = bx - ax, by - ay
        length = np.maximum(bx * bx + by * by, 1e-8)
        px = stage.columns[across][None, None, :] - ax[..., None]
        py = stage.rows[down][None, None, :] - ay[..., None]
        # the share of the way along each limb that is nearest to a pixel is linear in x and y
        share_x = px * (bx / length)[..., None]
        share_y = py * (by / length)[..., None]
        share = share_x[:, :, None, :] + share_y[:, :, :, None]
        np.clip(share, 0, 1, out=share)
        dx = px[:, :, None, :] - share * bx[..., None, None]
        dy = py[:, :, :, None] - share * by[..., None, None]
        dx *= dx
        dy *= dy
        dx += dy
        distance = np.sqrt(dx, out=dx)
        cover = (thick[..., None, None] - distance) * np.float32(1 / stage.pixel)
        front = cover.max(axis=1)
        np.clip(front + np.float32(0.5), 0, 1, out=front)
        np.minimum(cover, 0.5, out=cover)  # equal within limbs: argmax takes the foremost
        which = cover.argmax(axis=1)
        colours = self.colours[which]
        if self.pattern > 0:
            # the pattern moves with the body: subtract its position
            middle_x, middle_y = (p[:, -1].astype(np.float32)[:, None, None] for p in (x, y))
            wide, high = np.broadcast_arrays(
                stage.columns[across][None, None] - middle_x,
                stage.rows[down][None, :, None] - middle_y,
            )
            colours = colours + (self.cloth.at(wide, high) - 0.5) * np.float32(self.pattern)
        part = canvas[:, down, across]
        part += (colours - part) * front[..., None]


def _make(
    rng: Random, view: Perspective, role: Role, line: float, place: tuple[float, float]
) -> Figure:
    """A figure with random looks, shifted from its place as its role says.

    ``line`` is the direction that the role's heading and shifts are measured from.
    """
    frames = len(role.heading)
    points = joints(role.pose, frames)
    heading = line + role.heading + role.pose.turn
    cos, sin = np.cos(line), np.sin(line)
    right = np.zeros(frames) + role.along * cos - role.aside * sin
    nearer = np.zeros(frames) + role.along * sin + role.aside * cos
    x, y = view.project(points, heading, *place)
    size = view.height_at(place[1])
    x = x + size * right[:, None]
    y = y + size * nearer[:, None] * np.sin(view.pitch)
    feet = place[1] + size * float(nearer.mean()) * np.sin(view.pitch)
    parts = {part: rng.random(3) for part in ("skin", "sleeve", "head", "shirt", "trousers")}
    if rng.random() < 0.6:
        parts["sleeve"] = parts["shirt"]
    if rng.random() < 0.5:
        parts["skin"] = parts["head"]
    colours = np.stack([parts[part] * rng.uniform(0.85, 1.1) for part in PARTS])
    return Figure(
        x,
        y,
        feet,
        size,
        girth=float(rng.uniform(0.8, 1.35)),
        colours=(colours * rng.uniform(0.6, 1.0)).astype(np.float32),
        cloth=Paint.draw(rng, contrast=0.8, brightness=0.5),
        pattern=float(rng.choice((0.0, 0.0, rng.uniform(0.2, 0.8)))),
    )


def draw_figures(rng: Random, stage: Stage, plan: ScenePlan) -> list[Figure]:
    """All figures of a scene, the furthest first."""
    t = stage.seconds
    zero = np.zeros(len(t))
    view = Perspective(
        pitch=float(rng.uniform(0.05, 0.8)),
        height=float(np.exp(rng.uniform(np.log(0.25), np.log(0.95)))),
        deeper=float(rng.uniform(0.0, 0.8)),
    )

    def place(reach: float = 0.3) -> tuple[float, float]:
        half = 0.5 * view.height
        return float(rng.uniform(-reach, reach) * stage.aspect), float(
            rng.uniform(-0.2, 0.45 - half) + half
        )

    figures = []
    for name in plan.meetings:
        line = float(rng.uniform(0, 2 * np.pi))
        where = place(0.25)
        roles = MEETING_ROLES[name](t, rng)
        if plan.extra_fighter:
            roles.append(third_fighter(t, rng))
        figures += [_make(rng, view, role, line, where) for role in roles]
    for name in plan.actions:
        heading = zero + rng.uniform(0, 2 * np.pi)
        role = Role(ACTION_POSES[name](t, rng), along=zero, heading=heading)
        figures.append(_make(rng, view, role, 0.0, place()))
    return sorted(figures, key=lambda figure: figure.feet)
