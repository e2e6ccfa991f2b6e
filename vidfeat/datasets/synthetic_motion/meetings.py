"""Interactions of two figures: the poses and places of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidfeat.datasets.synthetic_motion.actions import (
    ACTION_POSES,
    blows,
    kick,
    stand,
    stride,
    strike,
    topple,
)
from vidfeat.datasets.synthetic_motion.skeleton import Pose
from vidfeat.datasets.synthetic_motion.stage import Track, pulses, smooth_step, tremor

Random = np.random.Generator


@dataclass
class Role:
    """One figure of a meeting."""

    pose: Pose
    along: Track
    """Place on the line between the two, in body heights from its middle: (T,)."""
    heading: Track
    """0 along the line, pi against it: (T,)."""
    aside: float = 0.0
    """Distance from the line, to one side, in body heights."""


def _standing(t: Track, rng: Random, where: float, heading: float) -> Role:
    zero = np.zeros(len(t))
    return Role(stand(t, rng), zero + where, zero + heading)


def _gesture(pose: Pose, t: Track, rng: Random) -> None:
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.4, 1.1) * t + rng.random()))
    pose.arm_r = 0.2 + rng.uniform(0.1, 0.7) * beat
    pose.elbow_r = 1.0 + 0.5 * beat


def _talk(t: Track, rng: Random) -> list[Role]:
    apart = rng.uniform(0.25, 0.5)
    roles = [_standing(t, rng, -apart, 0.0), _standing(t, rng, apart, np.pi)]
    for role in roles:
        if rng.random() < 0.6:
            _gesture(role.pose, t, rng)
    return roles


def _pass(t: Track, rng: Random) -> list[Role]:
    zero = np.zeros(len(t))
    shift = rng.uniform(-0.2, 0.2)
    return [
        Role(stride(t, rng), zero + shift, zero, aside=-rng.uniform(0.1, 0.25)),
        Role(stride(t, rng), zero - shift, zero + np.pi, aside=rng.uniform(0.1, 0.25)),
    ]


def _approach(t: Track, rng: Random, near: float) -> tuple[list[Role], Track]:
    """Two figures that walk up to each other and stop; also the progress of that, 0 to 1."""
    event = rng.uniform(0.1, 0.5) * t.max()
    speed = rng.uniform(0.5, 0.9)
    apart = near + speed * np.maximum(event - t, 0)
    roles = []
    for sign, heading in ((-1, 0.0), (1, np.pi)):
        pose = stride(t, rng)
        pose.forward = 0.0
        going = 1 - smooth_step(t, event - 0.2, 0.3)
        for name in ("hip_l", "hip_r", "knee_l", "knee_r", "arm_l", "arm_r", "lift"):
            setattr(pose, name, getattr(pose, name) * going)
        roles.append(Role(pose, sign * apart, np.zeros(len(t)) + heading))
    return roles, smooth_step(t, event - 0.15, 0.35)


def _greet(t: Track, rng: Random) -> list[Role]:
    roles, near = _approach(t, rng, rng.uniform(0.2, 0.26))
    shake = 0.15 * np.sin(2 * np.pi * rng.uniform(1.8, 2.6) * t) * near
    for role in roles:
        role.pose.arm_r = role.pose.arm_r + (1.1 + shake) * near
        role.pose.elbow_r = 0.3
    return roles


def _hug(t: Track, rng: Random) -> list[Role]:
    roles, near = _approach(t, rng, rng.uniform(0.07, 0.12))
    rock = 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * t) * near
    for role in roles:
        role.pose.arm_l = role.pose.arm_l + 1.3 * near
        role.pose.arm_r = role.pose.arm_r + 1.3 * near
        role.pose.elbow_l = role.pose.elbow_r = 0.2 + 0.9 * near
        role.pose.lean = role.pose.lean + 0.15 * near
        role.pose.side = rock
    return roles


def _pursue(t: Track, rng: Random) -> list[Role]:
    gap = rng.uniform(0.3, 0.7)
    zero = np.zeros(len(t))
    return [
        Role(stride(t, rng, running=True), zero - gap, zero),
        Role(stride(t, rng, running=True), zero + gap, zero),
    ]


def _stroll(t: Track, rng: Random) -> list[Role]:
    beside, zero = rng.uniform(0.12, 0.22), np.zeros(len(t))
    first, second = stride(t, rng), stride(t, rng)
    second.forward = first.forward
    return [Role(first, zero, zero, aside=-beside), Role(second, zero, zero, aside=beside)]


def _push(t: Track, rng: Random) -> list[Role]:
    start = rng.uniform(0.1, 0.5) * t.max()
    shove = pulses(t, np.array([start]), rng.uniform(0.1, 0.16))
    thrown = np.clip(t - start, 0, 0.5)
    away = rng.uniform(0.5, 1.3) * (thrown - 0.8 * thrown**2)
    pusher = stride(t, rng)
    pusher.forward = 0.0
    pusher.lean = 0.1 + 0.4 * shove
    for name in ("arm_l", "arm_r"):
        setattr(pusher, name, 0.7 + 0.9 * shove)
    pusher.elbow_l = pusher.elbow_r = 1.5 * (1 - shove)
    pushed = stand(t, rng)
    reel = smooth_step(t, start, 0.15) * (1 - smooth_step(t, start + 0.3, 0.4))
    pushed.lean = pushed.lean - rng.uniform(0.2, 0.5) * reel
    pushed.arm_l = pushed.arm_r = 0.3 + rng.uniform(0.8, 1.8) * reel
    pushed.hip_l, pushed.hip_r = -0.5 * reel, 0.4 * reel
    if rng.random() < 0.5:
        topple(pushed, t, rng, start + 0.05, rng.uniform(0.4, 0.6), -1.0)
    near = rng.uniform(0.16, 0.22)
    follow = smooth_step(t, start - 0.3, 0.4) * 0.15
    zero = np.zeros(len(t))
    return [Role(pusher, -near - 0.15 + follow, zero), Role(pushed, near + away, zero + np.pi)]


def _fury(t: Track, rng: Random, near: float, restless: float) -> list[Role]:
    """Two figures that face each other, driving each other to and fro and around."""
    drive = restless * tremor(rng, t, 0.5, 2.2)
    around = rng.uniform(-0.8, 0.8) * t + 1.5 * restless * tremor(rng, t, 0.4, 1.5)
    roles = []
    for sign, heading in ((-1, 0.0), (1, np.pi)):
        own = 0.5 * restless * tremor(rng, t, 1.0, 3.0)
        step = rng.uniform(0.15, 0.5) * np.sin(
            2 * np.pi * (rng.uniform(1.0, 2.2) * t + rng.random())
        )
        pose = Pose(
            hip_l=0.25 + step,
            hip_r=-0.25 - step,
            knee_l=0.25 + 0.4 * np.abs(step),
            knee_r=0.25 + 0.4 * np.abs(step),
            side=restless * tremor(rng, t, 0.8, 2.5),
            straddle=0.15,
        )
        roles.append(Role(pose, sign * near + drive + own, heading + around))
    return roles


def _fight(t: Track, rng: Random) -> list[Role]:
    roles = _fury(t, rng, rng.uniform(0.13, 0.26), rng.uniform(0.03, 0.1))
    rates = [rng.uniform(1.2, 3.2), rng.choice((0.3, rng.uniform(1.0, 3.0)))]
    for index, role in enumerate(roles):
        strike(role.pose, t, rng, rates[index])
        if rng.random() < 0.35:
            kick(role.pose, t, rng, rng.uniform(0.6, 1.3))
        hit = pulses(t, blows(t, rng, rates[1 - index]), 0.13)
        role.pose.lean = role.pose.lean - rng.uniform(0.15, 0.6) * hit
        role.along = role.along + (1 if index else -1) * rng.uniform(0.02, 0.1) * hit
    if rng.random() < 0.25:
        topple(roles[1].pose, t, rng, rng.uniform(-0.8, 0.7) * t.max(), rng.uniform(0.4, 0.7), -1.0)
        roles[0].pose.lean = roles[0].pose.lean + 0.5
    return roles


def _wrestle(t: Track, rng: Random) -> list[Role]:
    roles = _fury(t, rng, rng.uniform(0.07, 0.13), rng.uniform(0.04, 0.1))
    for role in roles:
        heave = tremor(rng, t, 0.8, 2.4)
        role.pose.lean = rng.uniform(0.3, 0.8) + 0.15 * heave
        for name in ("arm_l", "arm_r"):
            setattr(role.pose, name, rng.uniform(0.8, 1.4) + 0.25 * tremor(rng, t, 1.0, 3.0))
        role.pose.elbow_l = role.pose.elbow_r = rng.uniform(0.3, 1.2)
    if rng.random() < 0.3:
        for role in roles:
            role.pose.tilt = rng.choice((-1, 1)) * rng.uniform(1.0, 1.5)
    return roles


MEETING_ROLES: dict[str, Callable[[Track, Random], list[Role]]] = {
    "talk": _talk,
    "pass": _pass,
    "greet": _greet,
    "hug": _hug,
    "pursue": _pursue,
    "stroll": _stroll,
    "push": _push,
    "wrestle": _wrestle,
    "fight": _fight,
}


def third_fighter(t: Track, rng: Random) -> Role:
    """A figure that joins a fight from the side."""
    pose = ACTION_POSES[str(rng.choice(("punch", "kick")))](t, rng)
    place = rng.uniform(-0.3, 0.3) + 0.05 * tremor(rng, t, 0.5, 2.0)
    side = float(rng.choice((-1, 1)))
    heading = -side * np.pi / 2 + 0.2 * tremor(rng, t, 0.5, 1.5)
    return Role(pose, place, heading, aside=side * rng.uniform(0.15, 0.3))
