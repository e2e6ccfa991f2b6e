"""The frame clock: the constant rate of a video, or the times of its frames if it has none.

The rate is constant if every timestamp lies within one tick or half a frame of n / rate. Then the
index identifies a frame, in integers, since containers round times (Matroska to a millisecond) and
resampling by rounded times picks other frames. Everything else is truly variable, and a frame is
identified by the time at which it is shown.

Timestamps that are missing, repeated or out of order do not invalidate the others: the longest
ascending run of them is kept, and the rest is repaired from their neighbours. Where most are out
of order, as in AVI files with B-frames, the decoding times in output order give the time instead,
and where these are unusable too, the index does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.timeline import Timeline

_FALLBACK_RATE = Fraction(25)
_NTSC = (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001))
# Presentation times are trusted if at least this share of them ascends; so are decoding times.
_MOSTLY_GOOD = 0.8
_HALF_GOOD = 0.5
# A run of this many frames that repeats earlier times means that the clock was set back.
_RESET_FRAMES = 10
# Share of a frame: rounding to milliseconds shifts a time by less, a wrong rate by more.
_ROUNDING = 0.05
# A frame shown for longer is a pause, which does not count for the usual duration of a frame.
_STILL_SECONDS = 60.0

Timing = Literal["constant", "variable", "disordered"]


@dataclass(frozen=True)
class Clock:
    """A timeline and its class of timing."""

    timeline: Timeline
    timing: Timing
    repaired: int = 0
    """Timestamps that were missing, repeated or out of order, and were replaced."""


def clock_from_ticks(
    ticks: Sequence[int | None],
    time_base: Fraction,
    header_rates: Sequence[Fraction | None],
    last_duration: int = 0,
    decode_ticks: Sequence[int | None] = (),
) -> Clock:
    """Find the clock of a video's frames.

    Args:
        ticks: presentation time of each shown frame in display order, None where it is unknown.
        time_base: seconds per tick.
        header_rates: rates that the container claims, the most trusted first.
        last_duration: ticks that the last frame lasts, 0 if unknown.
        decode_ticks: decoding time that came with each of these frames, None where unknown.
    """
    claimed = [rate for rate in header_rates if rate is not None and rate > 0]
    count = len(ticks)
    by_header = claimed[0] if claimed else _FALLBACK_RATE
    if count == 1:
        return Clock(Timeline(1, by_header), "constant")
    if all(tick is None for tick in ticks):
        return Clock(Timeline(count, by_header), "constant")
    if _ascend(ticks):
        shown = np.array(ticks, dtype=np.int64)
        shown -= shown[0]
        return _clock(shown, time_base, claimed, last_duration)
    ticks, moved = _continued(ticks)
    good = _ascending(ticks)
    by_decoding = _ascending(decode_ticks) if len(decode_ticks) == count else []
    if len(good) < _MOSTLY_GOOD * count and len(by_decoding) >= _MOSTLY_GOOD * count:
        found = _repaired(decode_ticks, by_decoding, time_base, claimed, last_duration)
        timing: Timing = "disordered" if found.timeline.times is None else "variable"
        return Clock(found.timeline, timing)
    if len(good) >= max(2, _HALF_GOOD * count):
        found = _repaired(ticks, good, time_base, claimed, last_duration)
        return replace(found, repaired=min(count, found.repaired + moved))
    return Clock(Timeline(count, _rate_over(ticks, good, time_base, by_header)), "disordered")


def _clock(
    shown: NDArray[np.int64] | NDArray[np.float64],
    time_base: Fraction,
    claimed: Sequence[Fraction],
    last_duration: int,
) -> Clock:
    """The clock of ascending times, in ticks from the first frame."""
    count = len(shown)
    average = Fraction(count - 1) / (Fraction(float(shown[-1])) * time_base)
    for rate in [*claimed, *_near(average)]:
        off = _largest_error(shown, time_base, rate)
        if off <= _allowed(time_base, rate):
            errors = {near: _largest_error(shown, time_base, near) for near in _usual_near(rate)}
            nearest = min(errors, key=errors.__getitem__, default=rate)
            if errors.get(nearest, math.inf) <= off:
                return Clock(Timeline(count, nearest), "constant")
            return Clock(Timeline(count, rate), "constant")
    times = (shown * float(time_base)).tolist()
    last = last_duration * float(time_base) if last_duration > 0 else _usual_seconds(times, average)
    timeline = Timeline(count, average.limit_denominator(1_000_000), tuple(times), times[-1] + last)
    return Clock(timeline, "variable")


def _usual_seconds(times: Sequence[float], average: Fraction) -> float:
    """How long a frame is shown on average, pauses left out."""
    steps = np.diff(np.array(times))
    moving = steps[steps <= _STILL_SECONDS]
    return float(moving.mean()) if 0 < len(moving) < len(steps) else float(1 / average)


def _ascend(ticks: Sequence[int | None]) -> bool:
    if any(tick is None for tick in ticks):
        return False
    return bool((np.diff(np.array(ticks, dtype=np.int64)) > 0).all())


# -- repair ------------------------------------------------------------------------------------


def _continued(ticks: Sequence[int | None]) -> tuple[list[int | None], int]:
    """Make times that start over (two joined recordings, say) continue from where they were.

    Returns:
        The times, and how many were moved.
    """
    starts = [0]
    for place in range(1, len(ticks)):
        before, here = ticks[place - 1], ticks[place]
        if before is not None and here is not None and here <= before:
            starts.append(place)
    fixed = list(ticks)
    shift = moved = 0
    bounds = [*starts, len(ticks)]
    for number in range(1, len(starts)):
        begin, end = bounds[number], bounds[number + 1]
        earlier = [tick for tick in ticks[bounds[number - 1] : begin] if tick is not None]
        own = [tick for tick in ticks[begin:end] if tick is not None]
        if (
            len(earlier) >= _RESET_FRAMES
            and len(own) >= _RESET_FRAMES
            and own[_RESET_FRAMES - 1] <= earlier[-4]
        ):
            step = max(1, int(np.median(np.diff(earlier))))
            shift += earlier[-1] + step - own[0]
        for place in range(begin, end):
            tick = ticks[place]
            fixed[place] = None if tick is None else tick + shift
            moved += bool(shift) and tick is not None
    return fixed, moved


def _ascending(ticks: Sequence[int | None]) -> list[int]:
    """Places of the longest strictly ascending subsequence, of equally long ones the earliest."""
    tails: list[int] = []  # the lowest last tick of a subsequence of each length
    ends: list[int] = []  # and its place
    before: dict[int, int] = {}
    for place, tick in enumerate(ticks):
        if tick is None:
            continue
        length = bisect_left(tails, tick)
        if length == len(tails):
            tails.append(tick)
            ends.append(place)
        elif tails[length] == tick:
            continue  # of two equal times the first is kept
        else:
            tails[length], ends[length] = tick, place
        before[place] = ends[length - 1] if length else -1
    chain: list[int] = []
    place = ends[-1] if ends else -1
    while place >= 0:
        chain.append(place)
        place = before[place]
    return chain[::-1]


def _repaired(
    ticks: Sequence[int | None],
    good: Sequence[int],
    time_base: Fraction,
    claimed: Sequence[Fraction],
    last_duration: int,
) -> Clock:
    """The clock of the good times, with the others filled in from their neighbours."""
    places = np.array(good, dtype=np.int64)
    kept = np.array([ticks[place] for place in good], dtype=np.int64)
    count = len(ticks)
    steps = np.diff(kept)[np.diff(places) == 1]
    step = float(np.median(steps)) if len(steps) else float(kept[-1] - kept[0]) / (count - 1)
    # A time next to a bad one may be the wrong one of the two: it does not count for the rate.
    sure = np.ones(len(places), dtype=bool)
    gaps = np.flatnonzero(np.diff(places) > 1)
    sure[gaps] = sure[gaps + 1] = False
    rates = [*claimed, *_near(1 / (Fraction(step) * time_base))]
    anchors = places[sure]
    if len(anchors) >= 2 and anchors[-1] - anchors[0] >= _HALF_GOOD * count:
        average = Fraction(int(places[-1] - places[0])) / (
            Fraction(int(kept[-1] - kept[0])) * time_base
        )
        candidates = [*rates, *_near(average)]
        # A header's rate may come from the very times that are wrong: try close fits first.
        for rate, share in [(r, _ROUNDING) for r in candidates] + [(r, 0.5) for r in candidates]:
            frame = float(1 / (rate * time_base))
            off = kept[sure] - places[sure] * frame
            middle = (off.max() + off.min()) / 2
            if float(np.abs(off - middle).max()) <= max(1.0, share * frame) + 1e-6:
                allowed = max(1.0, frame / 2) + 1e-6
                wrong = sum(
                    tick is None or abs(tick - place * frame - middle) > 2 * allowed
                    for place, tick in enumerate(ticks)
                )
                bad = count - len(good)
                return Clock(Timeline(count, rate), "constant", max(wrong, bad))
    times = _filled(places, kept, count, step)
    found = _clock(times - times[0], time_base, claimed, last_duration or round(step))
    return Clock(found.timeline, found.timing, count - len(good))


def _filled(
    places: NDArray[np.int64], kept: NDArray[np.int64], count: int, step: float
) -> NDArray[np.float64]:
    """Times of all frames: those between two good ones follow the first at the usual step.

    Where the next good time comes too early for that, they are spread evenly between the two.
    """
    times = np.empty(count, np.float64)
    times[places] = kept
    first, last = int(places[0]), int(places[-1])
    times[:first] = kept[0] - step * np.arange(first, 0, -1)
    times[last + 1 :] = kept[-1] + step * np.arange(1, count - last)
    for at in np.flatnonzero(np.diff(places) > 1):
        begin, end = int(places[at]), int(places[at + 1])
        even = float(kept[at + 1] - kept[at]) / (end - begin)
        own = even if even < 1.5 * step else step
        times[begin + 1 : end] = kept[at] + own * np.arange(1, end - begin)
    return times


def _rate_over(
    ticks: Sequence[int | None], good: Sequence[int], time_base: Fraction, by_header: Fraction
) -> Fraction:
    """The header's rate, unless the disordered times span far more or less than it implies."""
    if len(good) < 2:
        return by_header
    known = [(place, tick) for place, tick in enumerate(ticks) if tick is not None]
    low, high = np.quantile([tick for _, tick in known], [0.1, 0.9])
    if high <= low:
        return by_header
    average = Fraction(0.8 * len(ticks)) / (Fraction(float(high - low)) * time_base)
    if abs(average - by_header) * 5 <= average:
        return by_header
    return _near(average.limit_denominator(1_000_000))[0]


# -- rates -------------------------------------------------------------------------------------


def _largest_error(
    shown: NDArray[np.int64] | NDArray[np.float64], tick: Fraction, rate: Fraction
) -> float:
    """The largest difference, in ticks, between the time of a frame and its place at a rate."""
    frame = float(1 / (rate * tick))  # ticks per frame
    return float(np.abs(shown - np.arange(shown.size) * frame).max())


def _allowed(tick: Fraction, rate: Fraction) -> float:
    return max(1.0, float(1 / (rate * tick)) / 2) + 1e-6


def _usual_near(rate: Fraction) -> list[Fraction]:
    """Whole and NTSC rates that a header's rate, computed from rounded times, may stand for.

    An MP4 of 30 frames per second whose times are whole milliseconds claims 29.998; at that rate,
    every third frame would be shown a hair too late, and resampling would pick the one before it.
    """
    usual = (Fraction(max(1, round(rate))), *_NTSC)
    return [] if rate in usual else [near for near in usual if abs(near - rate) * 500 <= rate]


def _near(average: Fraction) -> list[Fraction]:
    """Rates near a measured one, usual and simple ones first, for files with wrong headers."""
    whole = Fraction(max(1, round(average)))
    usual = [rate for rate in (whole, *_NTSC) if abs(rate - average) * 1000 <= average]
    usual.sort(key=lambda rate: abs(rate - average))
    simple = [average.limit_denominator(bound) for bound in (1, 2, 10, 100, 1001)]
    return [rate for rate in [*usual, *simple, average] if rate > 0]
