"""Actions of single figures: seconds in, joint angles out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidfeat.datasets.synthetic_motion.skeleton import Pose
from vidfeat.datasets.synthetic_motion.stage import Track, pulses, smooth_step

Random = np.random.Generator
TWO_PI = 2 * np.pi


def _wave(t: Track, rng: Random, low: float, high: float) -> Track:
    result: Track = np.sin(TWO_PI * (rng.uniform(low, high) * t + rng.random()))
    return result


def stand(t: Track, rng: Random) -> Pose:
    """Stand, shifting the weight a little."""
    sway = rng.uniform(0.0, 0.05)
    return Pose(
        lean=rng.uniform(-0.03, 0.1) + sway * _wave(t, rng, 0.2, 0.5),
        side=sway * _wave(t, rng, 0.2, 0.5),
        arm_l=rng.uniform(-0.2, 0.5),
        arm_r=rng.uniform(-0.2, 0.5),
        elbow_l=rng.uniform(0.0, 1.6),
        elbow_r=rng.uniform(0.0, 1.6),
        turn=rng.uniform(-0.1, 0.1) * t,
    )


def _wave_hand(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    swing = rng.uniform(0.3, 0.7) * _wave(t, rng, 1.5, 2.8)
    pose.arm_r = rng.uniform(2.2, 2.9) + 0.2 * swing
    pose.spread_r = 0.4 + swing
    pose.elbow_r = 0.3 + 0.3 * swing
    if rng.random() < 0.3:
        pose.arm_l, pose.spread_l, pose.elbow_l = pose.arm_r, pose.spread_r, pose.elbow_r
    return pose


def stride(t: Track, rng: Random, *, running: bool = False) -> Pose:
    """Walk or run, at a speed that fits the steps."""
    rate = rng.uniform(1.3, 1.7) if running else rng.uniform(0.8, 1.1)
    reach = rng.uniform(0.7, 0.95) if running else rng.uniform(0.35, 0.5)
    phase = TWO_PI * (rate * t + rng.random())
    swing = np.sin(phase)
    bend = 1.3 if running else 0.65
    knee = 0.1 + bend * np.maximum(np.cos(phase), 0)
    other = 0.1 + bend * np.maximum(-np.cos(phase), 0)
    arms = reach * rng.uniform(0.6, 1.1)
    elbow = rng.uniform(1.1, 1.6) if running else rng.uniform(0.1, 0.6)
    speed = rate * reach * (1.45 if running else 1.1)
    return Pose(
        lean=rng.uniform(0.1, 0.3) if running else rng.uniform(0.0, 0.1),
        hip_l=reach * swing + 0.15 * running,
        hip_r=-reach * swing + 0.15 * running,
        knee_l=knee,
        knee_r=other,
        arm_l=-arms * swing,
        arm_r=arms * swing,
        elbow_l=elbow,
        elbow_r=elbow,
        lift=(0.06 if running else 0.0) * np.abs(np.cos(phase)),
        forward=speed * (t - t.mean()),
    )


def _jump(t: Track, rng: Random) -> Pose:
    beat = _wave(t, rng, 1.0, 1.7)
    up, down = np.maximum(beat, 0), np.maximum(-beat, 0)
    bend = rng.uniform(0.5, 1.0) * down
    arms = 0.2 + rng.uniform(0.6, 2.2) * up
    return Pose(
        lean=0.35 * down,
        hip_l=bend,
        hip_r=bend,
        knee_l=2 * bend,
        knee_r=2 * bend,
        arm_l=arms,
        arm_r=arms,
        lift=rng.uniform(0.12, 0.3) * up,
        forward=rng.choice((0.0, rng.uniform(-0.4, 0.4))) * t,
    )


def blows(t: Track, rng: Random, rate: float) -> np.ndarray:
    """Times of blows, about ``rate`` per second, over the seconds shown and slightly beyond."""
    gaps = rng.uniform(0.6, 1.4, int(rate * (t.max() + 1.0)) + 3) / rate
    times: np.ndarray = np.cumsum(gaps) - 0.5 - rng.random() / rate
    return times


def strike(pose: Pose, t: Track, rng: Random, rate: float) -> None:
    """Add a guard and blows of both arms to a pose."""
    times = blows(t, rng, rate)
    hand = rng.random(len(times)) < 0.5
    width = rng.uniform(0.07, 0.12)
    for mark, own in (("l", times[hand]), ("r", times[~hand])):
        out = pulses(t, own, width)
        guard = rng.uniform(0.5, 1.0)
        high = rng.uniform(1.2, 2.0)
        setattr(pose, f"arm_{mark}", guard + (high - guard) * out)
        setattr(pose, f"elbow_{mark}", rng.uniform(1.6, 2.2) * (1 - out))
        setattr(pose, f"spread_{mark}", 0.15 + rng.uniform(0, 0.5) * out)
    pose.lean = pose.lean + rng.uniform(0.1, 0.35) * pulses(t, times, 1.4 * width)


def kick(pose: Pose, t: Track, rng: Random, rate: float) -> None:
    """Add kicks of the right leg to a pose."""
    times = blows(t, rng, rate)
    out, before = pulses(t, times, 0.13), pulses(t, times - 0.14, 0.13)
    pose.hip_r = pose.hip_r + rng.uniform(1.0, 1.7) * np.maximum(out, before)
    pose.knee_r = pose.knee_r + 1.4 * before * (1 - out)
    pose.lean = pose.lean - rng.uniform(0.1, 0.4) * out


def _punch(t: Track, rng: Random) -> Pose:
    pose = Pose(hip_l=0.25, hip_r=-0.25, knee_l=0.3, knee_r=0.3, lean=0.1)
    strike(pose, t, rng, rng.uniform(1.6, 3.0))
    pose.forward = 0.05 * _wave(t, rng, 0.8, 1.6)
    return pose


def _kick(t: Track, rng: Random) -> Pose:
    pose = Pose(knee_l=0.15, arm_l=0.6, arm_r=0.6, elbow_l=1.6, elbow_r=1.6)
    kick(pose, t, rng, rng.uniform(0.9, 1.6))
    return pose


def topple(pose: Pose, t: Track, rng: Random, start: float, length: float, sign: float) -> None:
    """Let a figure fall over from ``start`` on, its arms flung out."""
    share = np.clip((t - start) / length, 0, 1)
    fallen = share**2
    pose.tilt = pose.tilt + sign * 1.5 * fallen
    pose.knee_l = pose.knee_l + rng.uniform(0, 0.8) * share
    pose.knee_r = pose.knee_r + rng.uniform(0, 0.8) * share
    fling = smooth_step(t, start, 0.5 * length)
    pose.arm_l = pose.arm_l + rng.uniform(0.5, 2.2) * fling
    pose.arm_r = pose.arm_r + rng.uniform(0.5, 2.2) * fling


def _fall(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    if rng.random() < 0.4:
        pose = stride(t, rng, running=rng.random() < 0.5)
    sign = float(rng.choice((-1, 1)))
    topple(pose, t, rng, rng.uniform(0.0, 0.35) * t.max(), rng.uniform(0.4, 0.7), sign)
    return pose


def _rise(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    up = smooth_step(t, rng.uniform(-0.3, 0.2) * t.max(), rng.uniform(0.7, 1.2))
    bend = np.sin(np.pi * up)
    pose.tilt = float(rng.choice((-1, 1))) * 1.5 * (1 - up)
    pose.knee_l = pose.knee_r = 1.5 * bend
    pose.hip_l = pose.hip_r = 0.9 * bend
    return pose


def _crouch(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    if rng.random() < 0.5:
        down = smooth_step(t, rng.uniform(-0.1, 0.3) * t.max(), rng.uniform(0.4, 0.7))
        down = down if rng.random() < 0.6 else 1 - down
    else:
        down = 0.5 - 0.5 * _wave(t, rng, 0.6, 1.1)
    pose.knee_l = pose.knee_r = 2.1 * down
    pose.hip_l = pose.hip_r = 1.2 * down
    pose.lean = pose.lean + 0.4 * down
    pose.arm_l = pose.arm_r = 0.3 + 0.8 * down
    return pose


def _bend(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    down = smooth_step(t, rng.uniform(-0.1, 0.3) * t.max(), rng.uniform(0.4, 0.8))
    down = down if rng.random() < 0.6 else 1 - down
    pose.lean = pose.lean + rng.uniform(1.1, 1.7) * down
    pose.arm_l = pose.arm_r = 0.2 + 1.0 * down
    pose.knee_l = pose.knee_r = 0.4 * down
    pose.hip_l = pose.hip_r = 0.2 * down
    return pose


def _throw(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    start = rng.uniform(0.1, 0.5) * t.max()
    swing = smooth_step(t, start, rng.uniform(0.15, 0.3))
    pose.arm_r = 3.4 - 2.6 * swing
    pose.elbow_r = 1.3 * (1 - swing) + 0.1
    pose.lean = -0.25 + 0.6 * swing
    pose.hip_l, pose.hip_r = 0.35, -0.25
    pose.forward = 0.15 * swing
    return pose


def _clap(t: Track, rng: Random) -> Pose:
    pose = stand(t, rng)
    beat = 0.5 + 0.5 * _wave(t, rng, 1.8, 3.2)
    high = rng.uniform(0.9, 2.4)
    pose.arm_l = pose.arm_r = high
    pose.elbow_l = pose.elbow_r = 0.5
    pose.spread_l = pose.spread_r = 0.9 * beat - 0.3
    return pose


def _dance(t: Track, rng: Random) -> Pose:
    pose = Pose()
    for name, strength in (
        ("lean", 0.2), ("side", 0.25), ("hip_l", 0.4), ("hip_r", 0.4), ("arm_l", 1.3),
        ("arm_r", 1.3), ("spread_l", 0.6), ("spread_r", 0.6), ("turn", 0.5),
    ):  # fmt: skip
        setattr(pose, name, strength * rng.uniform(0.4, 1) * _wave(t, rng, 0.7, 1.8))
    pose.arm_l = pose.arm_l + rng.uniform(0.3, 1.8)
    pose.arm_r = pose.arm_r + rng.uniform(0.3, 1.8)
    beat = 0.4 + 0.4 * _wave(t, rng, 1.2, 2.2)
    pose.knee_l = pose.knee_r = beat
    pose.elbow_l, pose.elbow_r = rng.uniform(0, 1.5, 2)
    return pose


def _jacks(t: Track, rng: Random) -> Pose:
    beat = 0.5 + 0.5 * _wave(t, rng, 0.9, 1.5)
    spread = 0.15 + 2.5 * beat
    return Pose(
        spread_l=spread,
        spread_r=spread,
        straddle=0.06 + 0.45 * beat,
        lift=0.05 * np.sin(np.pi * beat),
        elbow_l=0.1,
        elbow_r=0.1,
    )


ACTION_POSES: dict[str, Callable[[Track, Random], Pose]] = {
    "stand": stand,
    "wave": _wave_hand,
    "walk": lambda t, rng: stride(t, rng),
    "run": lambda t, rng: stride(t, rng, running=True),
    "jump": _jump,
    "punch": _punch,
    "kick": _kick,
    "fall": _fall,
    "rise": _rise,
    "crouch": _crouch,
    "bend": _bend,
    "throw": _throw,
    "clap": _clap,
    "dance": _dance,
    "jacks": _jacks,
}
