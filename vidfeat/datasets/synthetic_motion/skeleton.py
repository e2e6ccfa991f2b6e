"""Jointed figures: angles of joints in, points of the body in the scene out.

A figure of height 1 stands on the ground; its own axes are forward, left and up. Angles are in
radians, (T,) or one number; 0 everywhere is standing upright with the arms down. The lowest foot
rests on the ground unless ``lift`` says otherwise, so that bent knees lower the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.synthetic_motion.stage import Track

Angle = Track | float
Points = NDArray[np.float64]

JOINTS = ("neck", "crown", "elbow_l", "elbow_r", "hand_l", "hand_r", "shoulder_l", "shoulder_r",
          "hip_l", "hip_r", "knee_l", "knee_r", "foot_l", "foot_r", "waist")  # fmt: skip
_AT = {name: number for number, name in enumerate(JOINTS)}

# front to back where limbs overlap: the two ends, the radius, what colours it
LIMBS: tuple[tuple[str, str, float, str], ...] = (
    ("elbow_l", "hand_l", 0.030, "skin"),
    ("shoulder_l", "elbow_l", 0.036, "sleeve"),
    ("neck", "crown", 0.068, "head"),
    ("elbow_r", "hand_r", 0.030, "skin"),
    ("shoulder_r", "elbow_r", 0.036, "sleeve"),
    ("neck", "waist", 0.085, "shirt"),
    ("hip_l", "knee_l", 0.056, "trousers"),
    ("knee_l", "foot_l", 0.042, "trousers"),
    ("hip_r", "knee_r", 0.056, "trousers"),
    ("knee_r", "foot_r", 0.042, "trousers"),
)
ENDS = np.array([(_AT[first], _AT[last]) for first, last, _, _ in LIMBS])
RADII = np.array([radius for _, _, radius, _ in LIMBS])
PARTS = tuple(part for _, _, _, part in LIMBS)


@dataclass
class Pose:
    """Angles and displacements over time; forward bends are positive."""

    lean: Angle = 0.0
    """Of the trunk, forward."""
    side: Angle = 0.0
    """Of the trunk, to the left."""
    hip_l: Angle = 0.0
    hip_r: Angle = 0.0
    knee_l: Angle = 0.0
    knee_r: Angle = 0.0
    arm_l: Angle = 0.0
    """Forward; pi is straight up."""
    arm_r: Angle = 0.0
    spread_l: Angle = 0.12
    """Of the arm, away from the body."""
    spread_r: Angle = 0.12
    elbow_l: Angle = 0.15
    elbow_r: Angle = 0.15
    straddle: Angle = 0.06
    """Of both legs, away from each other."""
    lift: Angle = 0.0
    """Height of the feet above the ground."""
    tilt: Angle = 0.0
    """Of the whole body about its feet, forward; at pi/2 it lies on its face."""
    forward: Angle = 0.0
    """Distance moved in its own direction, in body heights."""
    aside: Angle = 0.0
    turn: Angle = 0.0
    """Change of heading."""


def joints(pose: Pose, frames: int) -> Points:
    """Points (T, joints, 3) of a figure of height 1 that stands at (0, 0, 0): see the module."""

    def full(angle: Angle) -> Track:
        return np.zeros(frames) + angle

    points = np.zeros((frames, len(JOINTS), 3))

    def direction(angle: Track, aside: Track) -> Points:
        """Down for 0, forward for pi/2; ``aside`` turns it to the left."""
        return np.stack(
            [np.sin(angle) * np.cos(aside), np.sin(aside), -np.cos(angle) * np.cos(aside)], axis=1
        )

    def put(name: str, place: Points) -> Points:
        points[:, _AT[name]] = place
        return place

    lean, side = full(pose.lean), full(pose.side)
    hips = put("waist", np.zeros((frames, 3)))
    up = np.stack([np.sin(lean) * np.cos(side), np.sin(side), np.cos(lean) * np.cos(side)], axis=1)
    neck = put("neck", hips + 0.31 * up)
    put("crown", neck + 0.12 * up)
    left = np.array([0.0, 1.0, 0.0])
    for mark, sign in (("l", 1.0), ("r", -1.0)):
        arm, spread = full(getattr(pose, f"arm_{mark}")), full(getattr(pose, f"spread_{mark}"))
        bend = full(getattr(pose, f"elbow_{mark}"))
        shoulder = put(f"shoulder_{mark}", neck - 0.03 * up + sign * 0.105 * left)
        elbow = put(f"elbow_{mark}", shoulder + 0.17 * direction(arm + lean, sign * spread))
        put(f"hand_{mark}", elbow + 0.18 * direction(arm + lean + bend, sign * spread * 0.6))
        hip, knee = full(getattr(pose, f"hip_{mark}")), full(getattr(pose, f"knee_{mark}"))
        straddle = sign * full(pose.straddle)
        start = put(f"hip_{mark}", hips + sign * 0.055 * left)
        middle = put(f"knee_{mark}", start + 0.25 * direction(hip, straddle))
        put(f"foot_{mark}", middle + 0.26 * direction(hip - knee, straddle))
    lowest = points[:, [_AT["foot_l"], _AT["foot_r"]], 2].min(axis=1)
    points[:, :, 2] += (full(pose.lift) - lowest)[:, None]
    tilt = full(pose.tilt)[:, None]
    ahead, high = points[..., 0].copy(), points[..., 2].copy()
    points[..., 0] = ahead * np.cos(tilt) + high * np.sin(tilt)
    points[..., 2] = np.maximum(high * np.cos(tilt) - ahead * np.sin(tilt), 0.03)
    points[..., 0] += full(pose.forward)[:, None]
    points[..., 1] += full(pose.aside)[:, None]
    return points
