"""A user's choices for an encoder; the rest comes from the weights' own entry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vidfeat.encoders.engines.base import PRECISIONS, Precision
from vidfeat.encoders.rows import AGGREGATES, Aggregate
from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice

_LAY_FRAMES = ("fps", "hop_frames", "hop_seconds")


@dataclass(frozen=True)
class EncoderChoice:
    """The arguments of :func:`vidfeat.load_encoder`, as one value that other processes can load.

    Raises:
        UsageError: a value that is invalid for every network.
    """

    model: str | None = None
    """A name that ``vidfeat models`` lists, or a source and a name (``timm:NAME``); None takes
    r2plus1d_18, or the model of ``weights``."""
    weights: str | os.PathLike[str] | None = None
    seed: int = 0
    """Seed for random weights."""
    plan: ClipPlan | PlanChoice | None = None
    layers: Sequence[str] | None = None
    pool: Sequence[str] | None = None
    precision: Precision | None = None
    device: str = "auto"
    engine: str | None = None
    batch_size: int | None = None
    compiled: bool = False
    aggregate: Aggregate | None = None
    """How the frames of a clip become its row; None takes the mean, for frame networks."""
    crops: int | None = None
    """Crops of each frame; None takes only the centre."""
    average_crops: bool = False
    """One row per clip, the mean of its crops, instead of one per crop."""

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UsageError(
                f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}",
                field="precision",
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(
                f"batch_size must be at least 1, not {self.batch_size}", field="batch_size"
            )
        if self.aggregate is not None and self.aggregate not in AGGREGATES:
            raise UsageError(
                f"aggregate takes {', '.join(AGGREGATES)}, not {self.aggregate!r}",
                field="aggregate",
            )

    @property
    def plan_choice(self) -> PlanChoice:
        """The single plan values that were given; empty if a whole plan was given."""
        return self.plan if isinstance(self.plan, PlanChoice) else PlanChoice()

    @property
    def clip_frames(self) -> int | None:
        """T, if given."""
        return None if self.plan is None else self.plan.frames

    def plan_over(self, published: ClipPlan) -> ClipPlan:
        """The published plan with this choice applied to it.

        Raises:
            UsageError: clips of several frames together with one row per frame.
        """
        if self.aggregate != "none":
            if isinstance(self.plan, ClipPlan):
                return self.plan
            return self.plan_choice.apply(published)
        if (self.clip_frames or 1) > 1 or (self.plan_choice.stride or 1) > 1:
            raise UsageError(
                "aggregate none gives one row per frame: leave clip_frames and frame_stride "
                "out; fps, hop_frames and hop_seconds choose the frames",
                field=("aggregate", "clip_frames", "frame_stride", *_LAY_FRAMES),
            )
        if isinstance(self.plan, ClipPlan):
            return self.plan
        return self.plan_choice.apply(replace(published, frames=1, stride=1))
