"""The specification of an encoder: the network, its pooling, the clips, and the identity.

How an encoder is made::

    EncoderChoice --source--> LoadedNetwork --load_encoder--> Encoder(engine, EncoderSpec)

* :class:`EncoderChoice` (``choice.py``) is what a user asks for: the arguments of ``load_encoder``.
* A *source* turns a choice into a :class:`LoadedNetwork`: a module with its tensors, its published
  clip plan and preprocessing, and what is known about it.
* ``load_encoder`` puts the module on an engine and records everything else in an
  :class:`EncoderSpec`, which owns both fingerprints, ``describe`` and equality.

Adding a source of networks
---------------------------
1. Write ``vidfeat/encoders/sources/NAME.py`` with a function ``load(choice) -> LoadedNetwork``.
   ``choice.model`` is ``prefix:REST`` as given; raise ``UsageError`` for a name that does not exist
   and ``MissingExtraError`` if a package is missing. Import packages inside the function.
2. Register it in ``vidfeat/encoders/sources/__init__.py``: ``SOURCES["prefix"] = "NAME"``.
3. Wrap the module in a subclass of :class:`vidfeat.models.base.VideoNetwork`:

   * ``modality``: ``clip`` for networks over (N, 3, T, H, W), ``frame`` for image networks. A frame
     network gets x of (N, 3, 1, H, W), a batch of frames; its vectors are combined into clips by
     :class:`vidfeat.encoders.rows.RowLayout`, outside of the network.
   * ``features(x, layers)`` returns for each name in ``layer_names`` a map (N, C, T, H, W) or a
     vector (N, C). Tokens are reshaped to a map; T and H, W are what is left of time and space.
   * ``poolings`` are the names that ``pool`` may take. ``mean`` and ``max`` (over time and space)
     work on every map. The network's own pooling (``cls``, ``attention``, ``projection``) is a name
     in ``poolings`` and a branch of ``own_pooling(x, name)``. ``default_pool`` is the network's own
     projection if it has one, else ``("mean",)``.
   * ``layer_widths`` and ``pool_widths`` give the length of each layer and of its own poolings.

The normalised input is ``preprocess.normalize(clips_NTHWC)``, as for every other network. Nothing
downstream depends on where a network comes from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.engines.base import Precision
from vidfeat.encoders.rows import Aggregate, RowLayout
from vidfeat.errors import UsageError
from vidfeat.system.files import canonical_json
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.decode.tasks import ClipSource
from vidfeat.video.preprocess import Preprocess, clip_shape
from vidfeat.video.reader import Limits

if TYPE_CHECKING:
    from vidfeat.models.base import VideoNetwork

Modality = Literal["clip", "frame"]


class TextTower(Protocol):
    """The part of a network that embeds text into the space of its clips or frames."""

    @property
    def scale(self) -> float:
        """Factor for cosines before a softmax: the inverse of the learned temperature."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of N texts."""
        ...


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its tensors, as its source returns it."""

    network: VideoNetwork
    """In float32 on the CPU. It defines its modality, its layers and its poolings."""
    model: str
    """The name under which ``load_encoder`` finds it again."""
    weights: str
    """Name of the weights: of an entry, a file, a revision, or ``random (seed N)``."""
    weights_sha256: str
    """Hash of the tensors that embeddings depend on
    (:func:`vidfeat.weights.statedict.tensor_hash`)."""
    architecture: Mapping[str, Any]
    """What else the vectors depend on, as JSON: the model's name, a revision, ..."""
    plan: ClipPlan
    """The published plan; a choice changes single values of it."""
    preprocess: Preprocess
    weights_given: str | os.PathLike[str] | None = None
    """The ``weights`` that, with ``model``, load the same network in another process."""
    weights_file: str = ""
    """Absolute path of the weights, if a file or folder was given; a hint."""
    class_names: tuple[str, ...] | None = None
    licence: str = ""
    """Licence of the weights, in their publisher's words."""
    notes: tuple[str, ...] = ()
    """What a user should know before a run, one sentence each."""
    layers: tuple[str, ...] = ()
    """Default layers; none takes the network's last."""
    pool: tuple[str, ...] = ()
    """Default poolings; none takes the network's own default."""
    text: TextTower | None = None


@dataclass(frozen=True, eq=False)
class EncoderSpec:
    """What an encoder computes. Equal specs make rows that may share a file.

    Two fingerprints go with every vector. ``space_fingerprint`` covers what makes two vectors
    comparable: the tensors, the architecture, layers and pooling, the preprocessing, and the
    frames, stride and rate of a clip. ``run_fingerprint`` adds the positions of clips, the
    precision and the engine.
    """

    model: str
    weights: str
    """Name of the weights."""
    weights_sha256: str
    architecture: Mapping[str, Any]
    plan: ClipPlan
    preprocess: Preprocess
    layers: tuple[str, ...]
    pool: tuple[str, ...]
    dimension: int
    """D, the length of a row."""
    precision: Precision
    engine: str
    """Name of the engine."""
    modality: Modality = "clip"
    aggregate: Aggregate | None = None
    """How the frames of a clip become its row; None for clip networks."""
    average_crops: bool = False
    """Whether all crops of a clip share one row, their mean."""
    time_steps: int = 1
    """Consecutive rows of a clip, or of one of its crops."""
    network_sha256: str = ""
    """Hash of the files of a network that was quantised from these weights."""
    weights_file: str = ""
    """Where the weights came from, if it was a file; a hint for finding them again."""
    class_names: tuple[str, ...] | None = field(default=None, repr=False)
    licence: str = ""
    notes: tuple[str, ...] = field(default=(), repr=False)
    """What a user should know before a run, one sentence each."""
    flops_per_input: float = 0.0
    """Floating-point operations of one input, two per multiply-add; 0 if not counted."""

    def __post_init__(self) -> None:
        if (self.modality == "frame") != (self.aggregate is not None):
            raise UsageError(
                f"{self.model} is a {self.modality} network: only frame networks have an aggregate",
                field="aggregate",
            )
        if self.average_crops and self.preprocess.crops == 1:
            raise UsageError(
                "average_crops averages over crops: give crops 3, 5 or 10",
                field=("average_crops", "crops"),
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EncoderSpec):
            return NotImplemented
        return self.run_fingerprint == other.run_fingerprint

    def __hash__(self) -> int:
        return hash(self.run_fingerprint)

    # -- shapes --------------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, bytes of a pixel) of one input of the network: a clip, or a frame (T = 1)."""
        return (1 if self.modality == "frame" else self.plan.frames, *self.preprocess.frame_shape)

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """(T, H, W, bytes of a pixel) of one clip; with several crops (crops, T, H, W, ...)."""
        return clip_shape(self.preprocess, self.plan.frames)

    @property
    def inputs_per_clip(self) -> int:
        """Inputs per clip: its frames, for a frame network, times its crops."""
        return self.preprocess.crops * (self.plan.frames if self.modality == "frame" else 1)

    @property
    def flops_per_clip(self) -> float:
        """Floating-point operations of a clip that shares no frame with another."""
        return self.flops_per_input * self.inputs_per_clip

    @property
    def rows(self) -> RowLayout:
        """How the network's outputs become rows."""
        return RowLayout(self.aggregate, self.preprocess.crops, self.average_crops, self.time_steps)

    def clip_source(self, limits: Limits | None = None, *, planes: bool = False) -> ClipSource:
        """What decode processes produce: clips, or each frame once for a frame network.

        Args:
            limits: limits for the videos.
            planes: whether clips may arrive as planes.
        """
        return ClipSource(
            self.plan,
            self.preprocess,
            limits or Limits(),
            planes,
            frame_by_frame=self.modality == "frame",
            steps=self.time_steps,
        )

    @property
    def output_width(self) -> int:
        """Length of the network's output for one input."""
        width = self.dimension * self.time_steps
        return width // 2 if self.aggregate == "mean_std" else width

    # -- identity ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The description of the encoder in feature files, as JSON."""
        return {
            "model": self.model,
            "weights": self.weights,
            "weights_file": self.weights_file,
            "weights_sha256": self.weights_sha256,
            "architecture": dict(self.architecture),
            "layers": list(self.layers),
            "pool": list(self.pool),
            "dimension": self.dimension,
            "preprocess": self.preprocess.to_dict(),
            "plan": self.plan.to_dict(),
            "precision": self.precision,
            "engine": self.engine,
            **self._if_set("network_sha256", *_SPACE_IF_SET, *_RUN_IF_SET, "licence"),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any], **others: Any) -> EncoderSpec:
        """The inverse of :meth:`describe`.

        Args:
            description: what ``describe`` returned.
            others: fields that it does not hold: class names, notes, FLOPs.
        """
        values = {name: description[name] for name in _DESCRIBED}
        values |= {
            "architecture": dict(values["architecture"]),
            "layers": tuple(values["layers"]),
            "pool": tuple(values["pool"]),
            "preprocess": Preprocess.from_dict(dict(values["preprocess"])),
            "plan": ClipPlan.from_dict(dict(values["plan"])),
        }
        for name in ("weights_file", "network_sha256", *_SPACE_IF_SET, *_RUN_IF_SET, "licence"):
            if name in description:
                values[name] = description[name]
        return cls(**values, **others)

    @property
    def space_fingerprint(self) -> str:
        """Equal for encoders whose vectors can be compared."""
        return _fingerprint(
            {
                "weights_sha256": self.weights_sha256,
                "architecture": dict(self.architecture),
                "layers": list(self.layers),
                "pool": list(self.pool),
                # crops are inputs of the network: their vectors share a space, wherever they lie
                "preprocess": replace(self.preprocess, crops=1).to_dict(),
                "clip": self.plan.space_dict(),
                **self._if_set(*_SPACE_IF_SET),
            }
        )

    @property
    def run_fingerprint(self) -> str:
        """Equal for runs whose rows may share a file."""
        return self.run_fingerprint_with(None)

    def run_fingerprint_with(self, segments_sha256: str | None) -> str:
        """The run fingerprint, with the hash of a file of segments if clips are laid over one."""
        return _fingerprint(
            {
                "space": self.space_fingerprint,
                "plan": self.plan.to_dict(),
                "precision": self.precision,
                "engine": self.engine,
                **self._if_set("network_sha256", *_RUN_IF_SET),
                **({} if self.preprocess.crops == 1 else {"crops": self.preprocess.crops}),
                "segments": segments_sha256,
            }
        )

    def _if_set(self, *names: str) -> dict[str, Any]:
        """Fields that differ from their defaults: files made before a field existed lack it."""
        defaults = EncoderSpec.__dataclass_fields__
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value != defaults[name].default}


_DESCRIBED = (
    "model",
    "weights",
    "weights_sha256",
    "architecture",
    "plan",
    "preprocess",
    "layers",
    "pool",
    "dimension",
    "precision",
    "engine",
)
_SPACE_IF_SET = ("modality", "aggregate")
_RUN_IF_SET = ("average_crops", "time_steps")


def _fingerprint(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()
