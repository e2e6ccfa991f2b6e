"""A network with all that belongs to it: clips in, vectors out, and a name for what they mean.

Two fingerprints go with every vector. ``space_fingerprint`` is what makes two vectors comparable:
the tensors, the architecture, layers and pooling, the preprocessing, and the frames, stride and
rate of a clip. ``run_fingerprint`` adds where clips are laid, the precision and the engine.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.clips import Clip, ClipStream
from vidfeat.engines.base import PRECISIONS, Engine, Precision
from vidfeat.errors import FingerprintError, UsageError, VideoError, WeightsError
from vidfeat.files import canonical_json
from vidfeat.preprocess import FramePreprocessor, Preprocess
from vidfeat.sampling import ClipPlan, Stretch, Timeline, plan_clips
from vidfeat.store import Embeddings

if TYPE_CHECKING:
    from vidfeat.models.base import VideoNetwork
    from vidfeat.weights import LoadedWeights

DEFAULT_MODEL = "r2plus1d_18"
_CPU_BATCH = 4
_GPU_BATCH = 32


@dataclass(frozen=True)
class PlanChoice:
    """What a user says of the plan; the rest comes from the weights' own entry."""

    frames: int | None = None
    stride: int | None = None
    fps: Fraction | str | None = None
    """A rate, or ``native`` for each video's own."""
    hop_frames: int | None = None
    hop_seconds: float | None = None
    clips: int | None = None
    short: str | None = None
    tail: str | None = None

    def __post_init__(self) -> None:
        self.apply(ClipPlan())  # what cannot be meant is said before any weights are loaded

    def apply(self, published: ClipPlan) -> ClipPlan:
        """The plan of a run.

        Raises:
            UsageError: values that cannot be meant.
        """
        values: dict[str, Any] = {
            name: value for name, value in vars(self).items() if value is not None
        }
        if "fps" in values:
            values["fps"] = parse_rate(values["fps"])
        if values.keys() & {"hop_frames", "hop_seconds", "clips"}:
            published = replace(published, hop_frames=None, hop_seconds=None, clips=None)
        return replace(published, **values)


def parse_rate(text: Fraction | str | float) -> Fraction | None:
    """A frame rate out of ``15``, ``29.97``, ``30000/1001`` or ``native`` (None).

    Raises:
        UsageError: none of these.
    """
    if isinstance(text, str) and text.strip().lower() == "native":
        return None
    try:
        return Fraction(text.strip() if isinstance(text, str) else text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"--fps takes a rate as 15, 29.97 or 30000/1001, or native, not {text!r}"
        ) from None


class Encoder:
    """A network, its preprocessing, a clip plan, and the engine that runs it.

    Made by :func:`load_encoder`.
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
        """Arguments of :func:`load_encoder` that make the same encoder in another process."""

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

    def spread(self, devices: Sequence[str]) -> None:
        """Put a replica of the network on each device, in a process of its own, for extract.

        Raises:
            VidfeatError: a device that cannot be used.
        """
        from vidfeat.engines.replicas import start_replicas

        batch = (self.batch_size, self.plan.frames, *self.preprocess.crop, 3)
        replicas = start_replicas(self.recipe, devices, batch, self.dimension)
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
        expected = (self.plan.frames, *self.preprocess.crop, 3)
        if clips_NTHWC.dtype != np.uint8 or clips_NTHWC.shape[1:] != expected:
            raise UsageError(
                f"clips of {clips_NTHWC.dtype} {clips_NTHWC.shape[1:]}: expected uint8 {expected}"
            )
        size = self.batch_size
        parts = [run(clips_NTHWC[at : at + size]) for at in range(0, len(clips_NTHWC), size)]
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


def load_encoder(
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    plan: ClipPlan | PlanChoice | None = None,
    layers: Sequence[str] | None = None,
    pool: Sequence[str] | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    engine: str | None = None,
    batch_size: int | None = None,
    compiled: bool = False,
) -> Encoder:
    """Load a network with its weights, ready to encode.

    Args:
        model: a name that ``vidfeat models`` lists; None takes r2plus1d_18, or that of ``weights``.
        weights: a name that ``vidfeat weights list`` shows, a file, the folder of a training run
            or of a quantised network, or ``random``; None takes the model's default.
        seed: of random weights.
        plan: how clips are laid; a :class:`PlanChoice` changes single values of the published one.
        layers: to embed with; None takes the last one before the classifier.
        pool: ``mean``, ``max`` or both, joined; None takes the mean.
        precision: fp32, fp16 and bf16 where the device does them well, or int8 of a network that
            is quantised; None takes fp32, or that of ``weights``.
        device: ``auto`` takes the first GPU where there is one.
        engine: what runs the network; None takes torch, or openvino for int8.
        batch_size: clips at a time; None chooses by device.
        compiled: let ``torch.compile`` make it faster; takes a minute at the start.

    Raises:
        UsageError: a name or value that cannot be meant.
        WeightsError: weights that are not there, or of another network.
    """
    from vidfeat.engines import make_engine
    from vidfeat.engines.cost import flops_per_clip, flops_per_second
    from vidfeat.engines.torch_engine import choose_device
    from vidfeat.models import check_pools
    from vidfeat.net_folder import is_net
    from vidfeat.weights import load_weights

    if precision is not None and precision not in PRECISIONS:
        raise UsageError(f"--precision takes {', '.join(PRECISIONS)}, not {precision!r}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
    if is_net(weights):
        from vidfeat.net import encoder_of_net

        assert weights is not None
        return encoder_of_net(
            weights,
            model=model,
            plan=plan,
            layers=layers,
            pool=pool,
            precision=precision,
            device=device,
            engine=engine,
            batch_size=batch_size,
            compiled=compiled,
        )
    model = model or DEFAULT_MODEL
    engine = engine or ("openvino" if precision == "int8" else "torch")
    precision = precision or "fp32"
    if engine == "openvino" and device == "auto":
        device = "cpu"
    chosen_device = choose_device(device)
    choice = PlanChoice() if plan is None else plan
    loaded = load_weights(weights, model, seed=seed, clip_frames=choice.frames or 16)
    final = plan if isinstance(plan, ClipPlan) else _plan(choice, loaded)
    preprocess = loaded.preprocess or default_preprocess(model)
    network = loaded.build()
    if loaded.in_channels != 3:
        network, preprocess = _of_flow(network, loaded, precision)
    chosen_layers = network.check_layers(layers or ())
    chosen_pool = check_pools(pool or ("mean",))
    clip_shape = (final.frames, *preprocess.crop, 3)
    runner = make_engine(
        engine,
        network,
        chosen_layers,
        chosen_pool,
        preprocess,
        precision=precision,
        device=chosen_device,
        clip_frames=final.frames,
        compiled=compiled,
    )
    own_batch = getattr(runner, "preferred_batch", _CPU_BATCH)
    return Encoder(
        runner,
        model_name=model,
        weights_name=loaded.name if loaded.entry or _is_random(weights) else Path(loaded.name).name,
        weights_file=_file_of(weights, loaded),
        weights_sha256=loaded.backbone_sha256,
        architecture={
            "model": model,
            "midplanes": loaded.midplanes,
            "bn_eps": loaded.bn_eps,
            "in_channels": loaded.in_channels,
            **_flow_facts(loaded),
        },
        plan=final,
        preprocess=preprocess,
        layers=chosen_layers,
        pool=chosen_pool,
        dimension=network.embedding_size(chosen_layers, chosen_pool),
        precision=precision,
        batch_size=batch_size or (_GPU_BATCH if chosen_device.type == "cuda" else own_batch),
        class_names=loaded.class_names,
        notes=_notes(loaded, weights),
        flops_per_clip=flops_per_clip(network, chosen_layers, clip_shape),
        flops_per_second=flops_per_second(chosen_device),
        recipe={
            "model": model,
            "weights": None if weights is None else os.fspath(weights),
            "seed": seed,
            "plan": final,
            "layers": chosen_layers,
            "pool": chosen_pool,
            "precision": precision,
            "engine": engine,
            "batch_size": batch_size,
            "compiled": compiled,
        },
    )


def encoder_from_description(
    description: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    plan: PlanChoice | None = None,
    precision: Precision | None = None,
    batch_size: int | None = None,
) -> Encoder:
    """The encoder that a feature file, an index or a head was made with, ready for new videos.

    Args:
        description: as :meth:`Encoder.describe` gives it.
        weights: where the weights are, if not where they were.
        device: where to run; the vectors stay comparable.
        plan: another layout of the clips.
        precision: None takes fp32, whatever the vectors were made with: they stay comparable.
        batch_size: clips at a time; None chooses by device.

    Raises:
        WeightsError: the weights are not where they were: ``weights`` says where they are.
        FingerprintError: what was found there are other tensors.
    """
    from vidfeat.net_folder import is_net

    spec: str | os.PathLike[str] | None = weights
    name = str(description["weights"])
    seed = re.fullmatch(r"random \(seed (\d+)\)", name)
    if spec is None:
        spec = "random" if seed else (description.get("weights_file") or name)
    published = ClipPlan.from_dict(dict(description["plan"]))
    try:
        encoder = load_encoder(
            str(description["model"]),
            spec,
            seed=int(seed[1]) if seed else 0,
            plan=published if plan is None else plan.apply(published),
            layers=list(description["layers"]),
            pool=list(description["pool"]),
            device=device,
            precision=precision or (None if is_net(spec) else "fp32"),
            batch_size=batch_size,
        )
    except UsageError as error:
        raise WeightsError(f"{error} (or say where they are now with --weights FILE)") from None
    if encoder.weights_sha256 != description["weights_sha256"]:
        raise FingerprintError(
            f"the weights {encoder.weights_name} are not those of {description['model']} "
            f"{name}: their tensors differ; say where the right ones are with --weights FILE"
        )
    return encoder


def default_preprocess(model: str) -> Preprocess:
    """What a network is fed where its weights say nothing: what its published weights are fed."""
    from vidfeat.pretrained import default_entry

    entry = default_entry(model)
    return entry.preprocess if entry is not None and entry.preprocess else Preprocess()


def _plan(choice: ClipPlan | PlanChoice, loaded: LoadedWeights) -> ClipPlan:
    assert isinstance(choice, PlanChoice)
    published = loaded.plan or ClipPlan(frames=loaded.clip_frames or 16)
    if loaded.in_channels == 2:  # a field of flow lies between two frames
        published = replace(published, frames=published.frames + 1)
    return choice.apply(published)


def _of_flow(
    network: VideoNetwork, loaded: LoadedWeights, precision: Precision
) -> tuple[VideoNetwork, Preprocess]:
    """A network of optical flow, wrapped so that it takes RGB clips of one frame more."""
    from vidfeat.flow_network import FlowNetwork, frames_preprocess

    if loaded.in_channels != 2 or loaded.preprocess is None:
        raise WeightsError(
            f"{loaded.name} takes {loaded.in_channels} channels, and does not say how they are "
            "made: networks of optical flow trained by vidfeat do"
        )
    if precision == "bf16":
        raise UsageError("--precision bf16 is too coarse for pixels that flow is made of: fp16")
    return FlowNetwork(network, loaded.preprocess), frames_preprocess(loaded.preprocess)


def _flow_facts(loaded: LoadedWeights) -> dict[str, Any]:
    """What the vectors of a network of optical flow depend on besides."""
    if loaded.in_channels != 2 or loaded.preprocess is None:
        return {}
    return {"flow_mean": list(loaded.preprocess.mean), "flow_std": list(loaded.preprocess.std)}


def _is_random(weights: str | os.PathLike[str] | None) -> bool:
    return weights is not None and os.fspath(weights) == "random"


def _file_of(weights: str | os.PathLike[str] | None, loaded: LoadedWeights) -> str:
    """The file that was given, absolute; nothing for entries of the registry and random ones."""
    if weights is None or loaded.entry is not None or _is_random(weights):
        return ""
    return str(Path(weights).expanduser().resolve())


def _notes(loaded: LoadedWeights, asked: str | os.PathLike[str] | None) -> list[str]:
    """What a user should be told about the weights before hours of work."""
    notes = []
    if _is_random(asked):
        notes.append(
            "the network is UNTRAINED (--weights random): its vectors tell videos apart poorly"
        )
    elif loaded.plan is None:
        notes.append(
            f"{loaded.name} says nothing about its clips: 16 frames at each video's own rate, "
            "unless --clip-frames, --frame-stride and --fps say otherwise"
        )
    return notes


def _fingerprint(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def _stretch(value: Stretch | tuple[float, float | None]) -> Stretch:
    return value if isinstance(value, Stretch) else Stretch(*value)
