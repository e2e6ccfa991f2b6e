"""One rule for the frame clock: which rate a video has, or that it has none.

Constant: every timestamp lies within one tick or half a frame of n / rate. Then frames are told by
their index, in integers, since containers round times (Matroska to a millisecond) and resampling
by rounded times picks other frames. Timestamps out of order say nothing: by index too. All else is
truly variable, and goes by the time at which a frame is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from vidfeat.video.clip_plan import Timeline

_FALLBACK_RATE = Fraction(25)
_NTSC = (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001))


@dataclass(frozen=True)
class Clock:
    """A timeline and the class of timing it came from."""

    timeline: Timeline
    timing: Literal["constant", "variable", "disordered"]


def clock_from_ticks(
    ticks: Sequence[int | None],
    time_base: Fraction,
    header_rates: Sequence[Fraction | None],
    last_duration: int = 0,
) -> Clock:
    """Find the clock of a video's frames.

    Args:
        ticks: presentation time of each shown frame in display order, None where it is unknown.
        time_base: seconds of a tick.
        header_rates: rates that the container claims, the most trusted first.
        last_duration: ticks that the last frame lasts, 0 if unknown.
    """
    claimed = [rate for rate in header_rates if rate is not None and rate > 0]
    count = len(ticks)
    if count == 1 or any(tick is None for tick in ticks):
        timing: Literal["constant", "disordered"] = "constant" if count == 1 else "disordered"
        return Clock(Timeline(count, claimed[0] if claimed else _FALLBACK_RATE), timing)
    shown = np.array(ticks, dtype=np.int64)
    shown -= shown[0]
    if (np.diff(shown) <= 0).any():
        return Clock(Timeline(count, claimed[0] if claimed else _FALLBACK_RATE), "disordered")
    average = Fraction(count - 1) / (Fraction(int(shown[-1])) * time_base)
    for rate in [*claimed, *_near(average)]:
        if _is_constant(shown, time_base, rate):
            return Clock(Timeline(count, rate), "constant")
    times = (shown * float(time_base)).tolist()
    last = last_duration * float(time_base) if last_duration > 0 else float(1 / average)
    timeline = Timeline(count, average.limit_denominator(1_000_000), tuple(times), times[-1] + last)
    return Clock(timeline, "variable")


def _is_constant(
    shown: np.ndarray[tuple[int], np.dtype[np.int64]], tick: Fraction, rate: Fraction
) -> bool:
    frame = float(1 / (rate * tick))  # ticks of a frame
    off = np.abs(shown - np.arange(shown.size) * frame)
    return bool(off.max() <= max(1.0, frame / 2) + 1e-6)


def _near(average: Fraction) -> list[Fraction]:
    """Rates near a measured one, the usual and the simple first, for headers that lie."""
    whole = Fraction(max(1, round(average)))
    usual = [rate for rate in (whole, *_NTSC) if abs(rate - average) * 1000 <= average]
    usual.sort(key=lambda rate: abs(rate - average))
    simple = [average.limit_denominator(bound) for bound in (1, 2, 10, 100, 1001)]
    return [rate for rate in [*usual, *simple, average] if rate > 0]
