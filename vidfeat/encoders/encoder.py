"""A network with all that belongs to it: clips in, vectors out.

What the vectors mean, and which of them can be compared, is in its ``EncoderSpec`` (``spec.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.spec import EncoderSpec
from vidfeat.errors import UsageError, VideoError
from vidfeat.store.reader import Embeddings
from vidfeat.video.clip_plan import ClipPlan, Stretch, Timeline, plan_clips
from vidfeat.video.clips import Clip, ClipStream
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess

_CLAIMED = (
    "this encoder is at work for extract in another thread: load another one with load_encoder, or "
    "wait for its end"
)


class Encoder:
    """A network, described by its ``spec``, and the engine that runs it.

    Made by :func:`vidfeat.load_encoder`. ``encode``, ``encode_clips`` and ``predict_clips`` may be
    called from several threads: videos are decoded side by side, batches run one after the other.
    """

    def __init__(
        self,
        engine: Engine,
        spec: EncoderSpec,
        *,
        batch_size: int,
        recipe: EncoderChoice | None = None,
    ) -> None:
        self.engine = engine
        self.spec = spec
        self.batch_size = batch_size
        self.recipe = recipe
        """What loads the same encoder in another process, on a device of its own; None where
        nothing can: the network was given as a module."""
        self._one_at_a_time = threading.Lock()  # an engine works in memory of its own
        self._claimed = threading.Lock()
        self.engines: list[Engine] = [engine]
        """What extract runs batches on: the engine, or replicas of it on several devices."""

    def __repr__(self) -> str:
        return (
            f"Encoder({self.spec.model}, weights {self.spec.weights}, {self.plan.frames} frames, "
            f"{self.dimension} dimensions)"
        )

    @property
    def plan(self) -> ClipPlan:
        """How clips are laid over a video."""
        return self.spec.plan

    @property
    def preprocess(self) -> Preprocess:
        """How frames are resized, cropped and normalised."""
        return self.spec.preprocess

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self.spec.dimension

    @property
    def class_names(self) -> list[str] | None:
        """The classes that ``predict_clips`` scores; None where the weights do not name them."""
        return None if self.spec.class_names is None else list(self.spec.class_names)

    @property
    def flops_per_second(self) -> float:
        """What the devices do in a second, roughly: a constant of each kind of device."""
        return sum(engine.flops_per_second for engine in self.engines)

    # -- identity ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """All that a feature file says about its encoder, as JSON."""
        # what the engine adds is no part of a fingerprint: the same numbers, made elsewhere
        return {**self.spec.describe(), **self.engine.facts()}

    @property
    def space_fingerprint(self) -> str:
        """Equal for vectors that can be compared, whatever made them."""
        return self.spec.space_fingerprint

    @property
    def run_fingerprint(self) -> str:
        """Equal for runs whose rows may stand in one file."""
        return self.spec.run_fingerprint

    # -- work ----------------------------------------------------------------------------------

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Have the engines to oneself, as extract needs them: others are refused meanwhile.

        Raises:
            UsageError: another thread has them.
        """
        if not self._claimed.acquire(blocking=False):
            raise UsageError(_CLAIMED)
        try:
            with self._one_at_a_time:
                pass  # a batch of another thread ends first
            yield
        finally:
            self._claimed.release()

    def spread(self, devices: Sequence[str]) -> None:
        """Put a replica of the network on each device, in a process of its own, for extract.

        Raises:
            VidfeatError: a device that cannot be used.
        """
        from vidfeat.encoders.engines.replicas import start_replicas

        if self.recipe is None:
            raise UsageError(
                f"{self.spec.model} was given as a module, which other processes cannot load: "
                "take one device",
                field="devices",
            )
        batch = (self.batch_size, *self.spec.input_shape)
        self.engines = list(
            start_replicas(self.recipe, devices, batch, self.dimension, self.engine)
        )

    def close(self) -> None:
        """End the replicas, if there are any."""
        for engine in self.engines:
            if engine is not self.engine:
                engine.close()
        self.engines = [self.engine]

    def encode(
        self,
        video: str | os.PathLike[str] | NDArray[np.uint8],
        *,
        fps: float | Fraction | None = None,
        stretch: Stretch | tuple[float, float | None] | None = None,
    ) -> Embeddings:
        """Embed the clips of one video.

        Args:
            video: a path, or upright RGB frames, uint8 (T, H, W, 3).
            fps: rate of the frames; needed where the plan has a rate of its own.
            stretch: only this part, in seconds from the first shown frame.

        Returns:
            Vectors (N, D) float32, and the seconds that each covers.

        Raises:
            VideoError: the file cannot be read; one that breaks midway gives the clips before.
            UsageError: frames of another shape or type, or without the rate that is needed.
        """
        stretches = () if stretch is None else (_stretch(stretch),)
        if isinstance(video, np.ndarray):
            return self._encode_clips(list(self._clips_of_frames(video, fps, stretches)))
        stream = ClipStream(video, self.plan, self.preprocess, stretches)
        restarts = 0
        done: list[Embeddings] = []
        batch: list[Clip] = []
        for clip in stream:
            if stream.restarts != restarts:
                restarts, done, batch = stream.restarts, [], []
            batch.append(clip)
            if len(batch) == self.batch_size:
                done.append(self._encode_clips(batch))
                batch = []
        if batch:
            done.append(self._encode_clips(batch))
        return Embeddings(
            np.concatenate([part.vectors for part in done]),
            np.concatenate([part.start_seconds for part in done]),
            np.concatenate([part.end_seconds for part in done]),
        )

    def encode_clips(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of clips that are resized and cropped already: uint8 (N, T, H, W, 3)."""
        return self._batched(clips_NTHWC, self.engine.embed)

    def predict_clips(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax, of clips as in :meth:`encode_clips`."""
        return self._batched(clips_NTHWC, self.engine.predict)

    def _batched(self, clips_NTHWC: NDArray[np.uint8], run: Any) -> NDArray[np.float32]:
        expected = self.spec.input_shape
        if clips_NTHWC.dtype != np.uint8 or clips_NTHWC.shape[1:] != expected:
            raise UsageError(
                f"clips of {clips_NTHWC.dtype} {clips_NTHWC.shape[1:]}: expected uint8 {expected}"
            )
        size = self.batch_size
        parts = []
        for at in range(0, len(clips_NTHWC), size):
            if self._claimed.locked():
                raise UsageError(_CLAIMED)
            with self._one_at_a_time:
                parts.append(run(clips_NTHWC[at : at + size]))
        if not parts:
            return np.empty((0, self.dimension), np.float32)
        return np.concatenate(parts)

    def _encode_clips(self, clips: Sequence[Clip]) -> Embeddings:
        return Embeddings(
            self.encode_clips(np.stack([clip.frames_THWC for clip in clips])),
            np.array([clip.start_seconds for clip in clips], np.float64),
            np.array([clip.end_seconds for clip in clips], np.float64),
        )

    def _clips_of_frames(
        self,
        frames_THWC: NDArray[np.uint8],
        fps: float | Fraction | None,
        stretches: Sequence[Stretch],
    ) -> list[Clip]:
        if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != np.uint8:
            raise UsageError(
                f"frames of {frames_THWC.dtype} {frames_THWC.shape}: expected uint8 (T, H, W, 3)"
            )
        if fps is None and (self.plan.fps is not None or self.plan.hop_seconds or stretches):
            raise UsageError("frames without their rate: give fps= (the plan goes by seconds)")
        if len(frames_THWC) == 0:
            raise VideoError("no frames were given", kind="no_frames")
        rate = Fraction(25) if fps is None else Fraction(fps).limit_denominator(1_000_000)
        preprocessor = FramePreprocessor(self.preprocess)
        small = preprocessor.frames(frames_THWC)
        planned = plan_clips(Timeline(len(frames_THWC), rate), self.plan, stretches)
        return [
            Clip(index, small[list(clip.positions)], clip.start_seconds, clip.end_seconds)
            for index, clip in enumerate(planned)
        ]


def _stretch(value: Stretch | tuple[float, float | None]) -> Stretch:
    return value if isinstance(value, Stretch) else Stretch(*value)
