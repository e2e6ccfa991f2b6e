"""Hyper-parameters and clip plans in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_params(params: dict[str, Any]) -> str:
    """Hyper-parameters in a few words: ``C = 0.01``."""
    return ", ".join(f"{name} = {value}" for name, value in params.items())


def describe_plan(plan: Mapping[str, Any]) -> str:
    """A clip plan in a few words: ``16 frames at 15 per second, 10 per video``."""
    frames = f"{plan.get('frames', '?')} frames"
    if plan.get("stride", 1) != 1:
        frames += f", every {plan['stride']}th"
    frames += f" at {plan['fps']} per second" if plan.get("fps") else " at the video's own rate"
    for name, text in (
        ("clips", "{} per video"),
        ("hop_frames", "one every {} frames"),
        ("hop_seconds", "one every {} s"),
    ):
        if plan.get(name) is not None:
            return f"{frames}, {text.format(plan[name])}"
    return f"{frames}, side by side"
