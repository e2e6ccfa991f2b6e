"""A scene from its numbers: plan, stage, bodies, figures, looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidfeat.datasets.synthetic_motion.figures import draw_figures
from vidfeat.datasets.synthetic_motion.looks import Frames, develop
from vidfeat.datasets.synthetic_motion.movers import draw_bodies, occluder
from vidfeat.datasets.synthetic_motion.stage import Stage, draw_camera, frame_seconds
from vidfeat.datasets.synthetic_motion.surfaces import Paint
from vidfeat.datasets.synthetic_motion.vocabulary import ScenePlan, draw_plan


def plan_of(scene: Sequence[int]) -> ScenePlan:
    """What happens in the scene of these numbers, such as (seed, part, index)."""
    return draw_plan(np.random.default_rng((*scene, 1)))


def render_clip(
    plan: ScenePlan, numbers: Sequence[int], *, frames: int = 8, size: int = 64
) -> Frames:
    """Render one clip of a scene.

    Args:
        plan: what happens.
        numbers: determine everything that the plan leaves open: looks, sizes, places, speeds.
        frames: T.
        size: height and width in pixels.

    Returns:
        uint8 (T, size, size, 3).
    """
    rng = np.random.default_rng((*numbers, 2))
    seconds = frame_seconds(rng, frames, plan.pace, plan.tempo)
    stage = Stage(
        size,
        float(rng.choice((1.0, 4 / 3, 16 / 9))),
        draw_camera(rng, plan.camera, seconds),
        seconds,
    )
    canvas = Paint.draw(rng, contrast=float(rng.uniform(0.4, 1.0))).at(*stage.ground())
    if rng.random() < 0.35:
        # another surface below a horizon: a floor in front of a wall
        x, y = stage.ground()
        below = np.clip((y - np.float32(rng.uniform(-0.3, 0.3))) / stage.pixel, 0, 1)[..., None]
        canvas += (Paint.draw(rng, contrast=0.6).at(x, y) - canvas) * below
    for body in draw_bodies(rng, stage, plan.movers, plan.pairs):
        body.paint_on(canvas, stage)
    for figure in draw_figures(rng, stage, plan):
        figure.paint_on(canvas, stage)
    if rng.random() < 0.12:
        occluder(rng).paint_on(canvas, stage)
    return develop(rng, canvas, seconds)
