"""A user's choices about clips, which override the weights' own entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import ClipPlan


@dataclass(frozen=True)
class PlanChoice:
    """A user's choices for the plan; the rest comes from the weights' own entry.

    Not a `ClipPlan`: here None leaves a value to the entry, which is known only once the network
    is, while in a `ClipPlan` None is a value of its own, such as each video's own rate.
    """

    frames: int | None = None
    stride: int | None = None
    fps: Fraction | str | None = None
    """A rate, or ``native`` for each video's own."""
    hop_frames: int | None = None
    hop_seconds: float | None = None
    clips: int | None = None
    short: str | None = None
    tail: str | None = None
    stream: int | None = None
    frames_fps: Fraction | str | None = None
    """Rate of folders of frames, which are then read as videos."""

    def __post_init__(self) -> None:
        self.apply(ClipPlan())  # invalid values are refused before any weights are loaded

    def apply(self, published: ClipPlan) -> ClipPlan:
        """The plan of a run.

        Raises:
            UsageError: invalid values.
        """
        values: dict[str, Any] = {
            name: value for name, value in vars(self).items() if value is not None
        }
        for name in {"fps", "frames_fps"} & values.keys():
            values[name] = parse_rate(values[name], name)
        if values.keys() & {"hop_frames", "hop_seconds", "clips"}:
            published = replace(published, hop_frames=None, hop_seconds=None, clips=None)
        return replace(published, **values)


def parse_rate(text: Fraction | str | float, name: str = "fps") -> Fraction | None:
    """A frame rate from ``15``, ``29.97``, ``30000/1001`` or ``native`` (None).

    Args:
        text: what was given.
        name: name of the setting, for messages; only ``fps`` may be ``native``.

    Raises:
        UsageError: it is none of these.
    """
    may_be_native = name == "fps"
    if may_be_native and isinstance(text, str) and text.strip().lower() == "native":
        return None
    try:
        return Fraction(text.strip() if isinstance(text, str) else text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"{name} must be a rate such as 15, 29.97 or 30000/1001"
            f"{', or native' if may_be_native else ''}, not {text!r}",
            field=name,
        ) from None
