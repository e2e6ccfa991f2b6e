"""A network with all that belongs to it: clips in, vectors out, and a name for what they mean.

Two fingerprints go with every vector. ``space_fingerprint`` is what makes two vectors comparable:
the tensors, the architecture, layers and pooling, the preprocessing, and the frames, stride and
rate of a clip. ``run_fingerprint`` adds where clips are laid, the precision and the engine.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.engines.base import Engine, Precision
from vidfeat.errors import UsageError, VideoError
from vidfeat.store.reader import Embeddings
from vidfeat.system.files import canonical_json
from vidfeat.video.clip_plan import ClipPlan, Stretch, Timeline, plan_clips
from vidfeat.video.clips import Clip, ClipStream
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess

_CLAIMED = (
    "this encoder is at work for extract in another thread: load another one with load_encoder, or "
    "wait for its end"
)


class Encoder:
    """A network, its preprocessing, a clip plan, and the engine that runs it.

    Made by :func:`vidfeat.load_encoder`. ``encode``, ``encode_clips`` and ``predict_clips`` may be
    called from several threads: videos are decoded side by side, batches run one after the other.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        model_name: str,
        weights_name: str,
        weights_sha256: str,
        architecture: Mapping[str, Any],
        plan: ClipPlan,
        preprocess: Preprocess,
        layers: Sequence[str],
        pool: Sequence[str],
        dimension: int,
        precision: Precision,
        batch_size: int,
        weights_file: str = "",
        class_names: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        flops_per_clip: float = 0.0,
        flops_per_second: float = 1.0,
        recipe: Mapping[str, Any] | None = None,
        network_sha256: str = "",
    ) -> None:
        self.engine = engine
        self._one_at_a_time = threading.Lock()  # an engine works in memory of its own
        self._claimed = threading.Lock()
        self.engines: list[Engine] = [engine]
        """What extract runs batches on: the engine, or replicas of it on several devices."""
        self.model_name = model_name
        self.weights_name = weights_name
        self.weights_file = weights_file
        """Where the weights came from, if it was a file; a hint for finding them again."""
        self.weights_sha256 = weights_sha256
        self.network_sha256 = network_sha256
        """Of the file of a network that was quantised out of these weights; else nothing."""
        self.architecture = dict(architecture)
        self.plan = plan
        self.preprocess = preprocess
        self.layers = tuple(layers)
        self.pool = tuple(pool)
        self.dimension = dimension
        self.precision: Precision = precision
        self.batch_size = batch_size
        self.class_names = None if class_names is None else list(class_names)
        self.notes = tuple(notes)
        """What a user should be told before a run, a sentence each."""
        self.flops_per_clip = flops_per_clip
        """Floating-point operations of one clip; 0 where they were not counted."""
        self.flops_per_second = flops_per_second
        """What the device does in a second, roughly."""
        self.recipe = dict(recipe or {})
        """What :func:`vidfeat.load_encoder` must be told to make the same encoder elsewhere."""

    def __repr__(self) -> str:
        return (
            f"Encoder({self.model_name}, weights {self.weights_name}, {self.plan.frames} frames, "
            f"{self.dimension} dimensions)"
        )

    # -- identity ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """All that a feature file says about its encoder, as JSON."""
        return {
            "model": self.model_name,
            "weights": self.weights_name,
            "weights_file": self.weights_file,
            "weights_sha256": self.weights_sha256,
            "architecture": self.architecture,
            "layers": list(self.layers),
            "pool": list(self.pool),
            "dimension": self.dimension,
            "preprocess": self.preprocess.to_dict(),
            "plan": self.plan.to_dict(),
            "precision": self.precision,
            "engine": self.engine.name,
            **self._network_facts(),
            # no part of a fingerprint: the same numbers, made elsewhere
            "device": "cuda" if self.engine.takes_planes else "cpu",
            **({"execution": self.engine.execution} if self.engine.takes_planes else {}),
        }

    def _network_facts(self) -> dict[str, str]:
        return {"network_sha256": self.network_sha256} if self.network_sha256 else {}

    @property
    def space_fingerprint(self) -> str:
        """Equal for vectors that can be compared, whatever made them."""
        return _fingerprint(
            {
                "weights_sha256": self.weights_sha256,
                "architecture": self.architecture,
                "layers": list(self.layers),
                "pool": list(self.pool),
                "preprocess": self.preprocess.to_dict(),
                "clip": self.plan.space_dict(),
            }
        )

    @property
    def run_fingerprint(self) -> str:
        """Equal for runs whose rows may stand in one file."""
        return self.run_fingerprint_with(None)

    def run_fingerprint_with(self, segments: str | None) -> str:
        """The same, with the hash of a file of stretches where one lays the clips."""
        return _fingerprint(
            {
                "space": self.space_fingerprint,
                "plan": self.plan.to_dict(),
                "precision": self.precision,
                "engine": self.engine.name,
                **self._network_facts(),
                "segments": segments,
            }
        )

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

        batch = (self.batch_size, self.plan.frames, *self.preprocess.frame_shape)
        replicas = start_replicas(
            self.recipe, devices, batch, self.dimension, self.engine.execution
        )
        self.engines = list(replicas)
        self.flops_per_second *= len(replicas)

    def close(self) -> None:
        """End the replicas, if there are any."""
        for engine in self.engines:
            if engine is not self.engine:
                engine.close()  # type: ignore[attr-defined]
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
        expected = (self.plan.frames, *self.preprocess.frame_shape)
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


def _fingerprint(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def _stretch(value: Stretch | tuple[float, float | None]) -> Stretch:
    return value if isinstance(value, Stretch) else Stretch(*value)
