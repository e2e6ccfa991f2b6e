"""A network with everything that belongs to it: clips in, vectors out.

What the vectors mean, and which of them can be compared, is in its ``EncoderSpec`` (``spec.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.reading import ClipNetwork, read_videos, rows_of, rows_of_frames
from vidfeat.encoders.spec import EncoderSpec, LoadedNetwork, Modality, TextTower
from vidfeat.errors import DataError, UsageError, VideoError
from vidfeat.store.reader import Embeddings
from vidfeat.video.clip_plan import ClipPlan, VideoSegment
from vidfeat.video.decode.tasks import VideoTask
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    from torch import nn


_CLAIMED = (
    "this encoder is in use by extract in another thread: load another one with load_encoder, or "
    "wait until it ends"
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
        loaded: LoadedNetwork | None = None,
    ) -> None:
        self.engine = engine
        self.loaded = loaded
        """The network as its source gave it, for encoders made by :meth:`from_module`."""
        self.text: TextTower | None = None if loaded is None else loaded.text
        """Embeds phrases into the space of the clips; None for networks without a text tower."""
        self.spec = spec
        self.batch_size = batch_size
        self.recipe = recipe
        """Loads the same encoder in another process, on another device; None if that is impossible,
        because the network was given as a module."""
        self._one_at_a_time = threading.Lock()  # an engine reuses its own memory
        self._claimed = threading.Lock()
        self.engines: list[Engine] = [engine]
        """The engines that extract runs on: ``engine``, or its replicas on several devices."""

    @classmethod
    def of_network(cls, loaded: LoadedNetwork, choice: EncoderChoice) -> Encoder:
        """An encoder from a source's network and a user's choice.

        Raises:
            UsageError: a device, engine, layer or pooling that does not exist.
        """
        from vidfeat.encoders.building import build

        built = build(loaded, choice)
        encoder = cls(built.engine, built.spec, batch_size=built.batch_size, recipe=built.recipe)
        encoder.text = loaded.text
        return encoder

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        input: Preprocess | None = None,  # noqa: A002 (the word that everyone looks for)
        plan: ClipPlan | None = None,
        name: str | None = None,
        modality: Modality = "clip",
        **options: Any,
    ) -> Encoder:
        """An encoder from your own network.

        Args:
            module: from normalised clips (N, 3, T, H, W) to vectors (N, D) or a map
                (N, D, T, H, W); with ``modality="frame"`` from frames (N, 3, H, W) to vectors or a
                map (N, D, H, W). It is copied.
            input: how frames are resized, cropped and normalised; None resizes to 128 x 171, crops
                112 x 112, and uses Kinetics' mean and standard deviation.
            plan: how clips are laid over a video; None takes 16 frames at each video's own rate.
            name: its name in feature files; None takes the name of the module's class.
            modality: what one input of the module is: ``clip`` or ``frame``.
            options: ``pool``, ``aggregate``, ``crops``, ``average_crops``, ``device``,
                ``precision``, ``engine``, ``batch_size`` and ``compiled`` as
                :func:`vidfeat.load_encoder` takes them.

        Raises:
            UsageError: a module with another output, or an unknown option.
        """
        from vidfeat.encoders.sources.own_module import network_of_module

        loaded = network_of_module(
            module, preprocess=input, plan=plan, name=name, modality=modality
        )
        encoder = cls.of_network(loaded, EncoderChoice(plan=plan, **options))
        encoder.loaded, encoder.recipe = loaded, None
        return encoder

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
        """The classes that ``predict_clips`` scores; None if the weights do not name them."""
        return None if self.spec.class_names is None else list(self.spec.class_names)

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of the devices: a constant for each kind."""
        return sum(engine.flops_per_second for engine in self.engines)

    # -- identity ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The description of the encoder in feature files, as JSON."""
        # no fingerprint includes the engine's facts: they only say where vectors were computed
        return {**self.spec.describe(), **self.engine.facts()}

    @property
    def space_fingerprint(self) -> str:
        """Equal for encoders whose vectors can be compared."""
        return self.spec.space_fingerprint

    @property
    def run_fingerprint(self) -> str:
        """Equal for runs whose rows may share a file."""
        return self.spec.run_fingerprint

    # -- work ----------------------------------------------------------------------------------

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Claim the engines for extract; calls from other threads are refused meanwhile.

        Raises:
            UsageError: another thread has claimed them.
        """
        if not self._claimed.acquire(blocking=False):
            raise UsageError(_CLAIMED)
        try:
            with self._one_at_a_time:
                pass  # wait until a batch of another thread ends
            yield
        finally:
            self._claimed.release()

    def spread(self, devices: Sequence[str]) -> None:
        """Put a replica of the network on each device, in separate processes, for extract.

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
            start_replicas(self.recipe, devices, batch, self.spec.output_width, self.engine)
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
        segment: VideoSegment | tuple[float, float | None] | None = None,
    ) -> Embeddings:
        """Embed the clips of one video.

        A frame network gets each frame once, however clips overlap.

        Args:
            video: a path or URL, or upright RGB frames, uint8 (T, H, W, 3).
            fps: rate of the frames; required if the plan sets a rate.
            segment: only this part, in seconds from the first shown frame.

        Returns:
            Vectors (N, D) float32, and the seconds that each covers.

        Raises:
            VideoError: the file cannot be read; if it breaks midway, the clips before are returned.
            UsageError: frames of the wrong shape or type, or without a required rate.
            DataError: a vector is NaN or infinite.
        """
        segments = () if segment is None else (_segment(segment),)
        if isinstance(video, np.ndarray):
            return self._finite(self._encode_frames(video, fps, segments))
        (read,) = read_videos(self.reader, [VideoTask(os.fspath(video), segments)], workers=0)
        if read.clips is None:
            assert read.error is not None
            raise read.error
        return self._finite(read.clips)

    @property
    def reader(self) -> ClipNetwork:
        """The encoder's network, as :func:`vidfeat.encoders.reading.read_videos` takes it."""
        return ClipNetwork(
            self._outputs,
            self.spec.clip_source(),
            max(1, self.batch_size // self.preprocess.crops),
            self.spec.rows,
        )

    def encode_clips(
        self, clips_NTHWC: NDArray[np.uint8], *, require_finite: bool = True
    ) -> NDArray[np.float32]:
        """Vectors (N R, D) of clips that are already resized and cropped.

        Args:
            clips_NTHWC: uint8 (N, T, H, W, 3), or (N, crops, T, H, W, 3) for several crops.
            require_finite: False returns rows that are NaN or infinite as they are.

        Returns:
            R = ``spec.rows.rows_per_clip`` rows for each clip, one after the other.

        Raises:
            DataError: a vector is NaN or infinite.
            UsageError: clips of the wrong shape or type.
        """
        self._check_clips(clips_NTHWC)
        count, rows, frames = len(clips_NTHWC), self.spec.rows, self.plan.frames
        if self.spec.modality == "clip":
            vectors = rows.of_clips(self._outputs(clips_NTHWC))
        else:
            clips_NVTHWC = clips_NTHWC.reshape(count, rows.crops, frames, *clips_NTHWC.shape[-3:])
            outputs = self._outputs(clips_NVTHWC.swapaxes(1, 2))
            vectors = rows.of_frames(outputs, np.arange(count * frames).reshape(count, frames))
        return self._finite_rows(vectors, "vectors") if require_finite else vectors

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of N phrases, comparable with clip vectors by cosine.

        Raises:
            UsageError: the network has no text tower, this encoder does not use its projection, or
                a phrase is empty.
            DataError: a vector is NaN or infinite.
        """
        from vidfeat.encoders.phrases import check_phrases, encoded, require_text

        phrases = check_phrases(texts)
        require_text(self.spec.describe(), self.spec.model)
        if self.text is None:
            raise UsageError(
                f"{self.spec.model} was loaded without its text tower: a quantised network has "
                "none, and a folder needs its tokenizer files next to the weights"
            )
        if not phrases:
            return np.empty((0, self.dimension), np.float32)
        with self._one_at_a_time:
            return encoded(self.text, phrases, self.dimension)

    def predict_clips(
        self, clips_NTHWC: NDArray[np.uint8], *, require_finite: bool = True
    ) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax, of clips; see :meth:`encode_clips`.

        The scores of several crops are averaged.
        """
        self._check_clips(clips_NTHWC)
        scores = self._batched(clips_NTHWC, self.engine.predict)
        each = self.preprocess.crops
        if each > 1:
            scores = scores.reshape(-1, each, scores.shape[1]).mean(axis=1)
        return self._finite_rows(scores, "scores") if require_finite else scores

    def _finite_rows(self, rows: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise DataError(
                f"the {what} of {len(bad)} of {len(rows)} clips (the first: number {bad[0]}) "
                f"{self._not_finite}"
            )
        return rows

    @property
    def _not_finite(self) -> str:
        return (
            "are NaN or infinite: the network's weights are damaged, or "
            f"{self.spec.precision} is too low a precision for them; try precision='fp32'"
        )

    def _check_clips(self, clips_NTHWC: NDArray[np.uint8]) -> None:
        expected = self.spec.clip_shape
        if clips_NTHWC.dtype != np.uint8 or clips_NTHWC.shape[1:] != expected:
            raise UsageError(
                f"clips of {clips_NTHWC.dtype} {clips_NTHWC.shape[1:]}: expected uint8 {expected}"
            )

    def _batched(self, clips: NDArray[np.uint8], run: Any) -> NDArray[np.float32]:
        """The engine's output for each input in an array of clips, in order."""
        inputs_NTHWC = clips.reshape(-1, *self.spec.input_shape)
        size = self.batch_size
        parts = []
        for at in range(0, len(inputs_NTHWC), size):
            if self._claimed.locked():
                raise UsageError(_CLAIMED)
            with self._one_at_a_time:
                parts.append(run(inputs_NTHWC[at : at + size]))
        if not parts:
            return np.empty((0, self.spec.output_width), np.float32)
        return np.concatenate(parts)

    def _outputs(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._batched(clips, self.engine.embed)

    def _finite(self, clips: Embeddings) -> Embeddings:
        bad = np.flatnonzero(~np.isfinite(clips.vectors).all(axis=1))
        if len(bad):
            first = int(bad[0])
            raise DataError(
                f"values in the vector of the clip from {clips.start_seconds[first]:.3f} to "
                f"{clips.end_seconds[first]:.3f} s {self._not_finite}"
            )
        return clips

    def _encode_frames(
        self,
        frames_THWC: NDArray[np.uint8],
        fps: float | Fraction | None,
        segments: Sequence[VideoSegment],
    ) -> Embeddings:
        if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != np.uint8:
            raise UsageError(
                f"frames of {frames_THWC.dtype} {frames_THWC.shape}: expected uint8 (T, H, W, 3)"
            )
        if fps is None and (self.plan.fps is not None or self.plan.hop_seconds or segments):
            raise UsageError("frames without their rate: give fps= (the plan is in seconds)")
        if len(frames_THWC) == 0:
            raise VideoError("no frames were given", kind="no_frames")
        rate = Fraction(25) if fps is None else Fraction(fps).limit_denominator(1_000_000)
        small = FramePreprocessor(self.preprocess).frames(frames_THWC)
        timeline = Timeline(len(frames_THWC), rate)
        planned, clips = self.spec.clip_source().planned(timeline, segments)
        given = np.stack([small[list(clip.positions)] for clip in clips])
        if self.preprocess.crops > 1:
            given = given.swapaxes(1, 2)
        outputs = self._outputs(given)
        if self.spec.modality == "frame":
            return rows_of_frames(outputs, planned, self.spec.rows, len(clips))
        return rows_of(outputs, planned, self.spec.rows)


def _segment(value: VideoSegment | tuple[float, float | None]) -> VideoSegment:
    return value if isinstance(value, VideoSegment) else VideoSegment(*value)
