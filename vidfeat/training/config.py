"""A recipe: everything that decides what a training run computes, as frozen dataclasses.

A recipe is made by a function of ``recipes.py``, changed by ``section.key=value`` settings
(``settings.py`` checks their names and types) and written into its run as TOML (``toml.py``).
Settings of the machine (workers, checkpoints) are in a separate section, ``run``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from vidfeat.errors import UsageError

Modality = Literal["rgb", "flow"]
CropMode = Literal["random", "resized", "center"]
Schedule = Literal["step", "cosine"]
Optimizer = Literal["sgd", "adamw"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Midplanes = Literal["default", "block", "conv"]
Labels = Literal["draw", "all"]
ShortVideos = Literal["repeat", "leave_out"]
CropOrigin = Literal["round", "floor"]
Scaler = Literal["torchvision", "swscale"]

RANDOM = "random"  # model.init: no weights to start from
NATIVE = "native"  # data.fps: each video's own rate, whatever the initial weights name


@dataclass(frozen=True)
class DataConfig:
    """Which videos, and how a clip is cut out of one."""

    dataset: str = "auto"
    """One of ``vidfeat.datasets.DATASETS``, or ``auto``: a labels.csv, or a folder per class."""
    split: int = 1
    """Official split of UCF101 and HMDB51."""
    holdout: float = 0.2
    """Share held out for testing if a dataset has no parts of its own."""
    labels: Labels = "draw"
    """Of a sample with several labels, ``draw`` picks one each time it is shown; ``all`` shares the
    target evenly among them: with classes in groups, one softmax learns every group."""
    modality: Modality = "rgb"
    """``flow``: Farneback's optical flow between neighbouring frames, two channels."""
    frames: int = 16
    """Frames of a clip (flow fields, if the modality is flow)."""
    stride: int = 1
    """Slots from one frame to the next."""
    fps: str = ""
    """Target frame rate, such as "15" or "30000/1001". Empty: that of the initial weights, or each
    video's own where they name none or the weights are random; "native": each video's own."""
    frames_fps: str = ""
    """Rate of folders of frames (``img_00001.jpg`` and so on), which are then videos too."""
    scale: tuple[int, ...] = (128, 171)
    """Height and width that frames are scaled to; one number is the short side."""
    crop: int = 112
    """Side of the square that the network sees."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, subtracted from the input; empty: that of Kinetics, or of flow."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, to divide by; empty: that of Kinetics, or of flow."""

    def __post_init__(self) -> None:
        _positive("data", self, "split", "frames", "stride", "crop")
        _within("data.holdout", self.holdout, 0.0, 0.9)
        if len(self.scale) not in (1, 2) or min(self.scale) < self.crop:
            raise UsageError(
                f"data.scale is a short side or a height and a width of at least data.crop "
                f"({self.crop}), not {list(self.scale)}"
            )
        channels = 2 if self.modality == "flow" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, channels):
                raise UsageError(
                    f"data.{name} needs one number for each of {channels} channels, or none"
                )
        if min(self.std, default=1.0) <= 0:
            raise UsageError(f"data.std must be above 0, not {list(self.std)}")
        try:
            sane = not self.frames_fps or Fraction(self.frames_fps) > 0
        except (ValueError, ZeroDivisionError):
            sane = False
        if not sane:
            raise UsageError(f"data.frames_fps is a rate such as 12, not {self.frames_fps!r}")
        try:
            sane = self.fps in ("", NATIVE) or Fraction(self.fps) > 0
        except (ValueError, ZeroDivisionError):
            sane = False
        if not sane:
            raise UsageError(
                f"data.fps is a rate such as 15 or 30000/1001, or native, not {self.fps!r}"
            )

    @property
    def folder_fps(self) -> Fraction | None:
        """The rate of folders of frames; None where only files are videos."""
        return Fraction(self.frames_fps) if self.frames_fps else None

    @property
    def clip_fps(self) -> str:
        """The rate that clips are made at; empty for each video's own."""
        return "" if self.fps == NATIVE else self.fps


@dataclass(frozen=True)
class AugmentConfig:
    """What is varied each time a video is shown."""

    temporal_jitter: bool = True
    """A clip starts anywhere in the video; off: in the middle."""
    crop: CropMode = "random"
    """``random``: a square of ``data.crop`` out of the scaled frame; ``resized``: a random area and
    shape of the frame, scaled to it; ``center``."""
    area: tuple[float, ...] = (0.4, 1.0)
    """Range of the share of the frame that ``resized`` takes."""
    aspect: tuple[float, ...] = (0.75, 1.3333)
    """Range of width over height for ``resized``."""
    flip: float = 0.5
    """Probability of mirroring a clip. Set it to 0 if classes differ in left and right."""
    randaugment: int = 0
    """Operations of RandAugment on each clip, the same for all its frames; 0 turns it off."""
    randaugment_magnitude: float = 9.0
    """Their strength, 0 to 30."""
    mixup: float = 0.0
    """Alpha of mixup's beta distribution; 0 turns it off."""
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _within("augment.flip", self.flip, 0.0, 1.0)
        _within("augment.label_smoothing", self.label_smoothing, 0.0, 0.99)
        _within("augment.mixup", self.mixup, 0.0, 100.0)
        _within("augment.randaugment", self.randaugment, 0, 20)
        _within("augment.randaugment_magnitude", self.randaugment_magnitude, 0.0, 30.0)
        for name in ("area", "aspect"):
            low, high = (*getattr(self, name), 0.0, 0.0)[:2]
            if len(getattr(self, name)) != 2 or not 0 < low <= high:
                raise UsageError(f"augment.{name} is a range of two numbers above 0")
        if self.area[1] > 1:
            raise UsageError(f"augment.area is a share of the frame, up to 1, not {self.area[1]}")


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and what it starts from."""

    name: str = "r2plus1d_18"
    midplanes: Midplanes = "default"
    """Rule for the channels between the two parts of a (2+1)D convolution."""
    bn_eps: float = 0.0
    """Batch norm's epsilon; 0 takes that of the initial weights, or the network's own."""
    init: str = ""
    """Weights to start from: a name, a file, a run, or ``random``. Empty: the bundled weights for
    their network (``r2plus1d_10_w16``), random ones for others. The last layer is kept only for the
    same class names."""
    needs_init: bool = False
    """Whether the recipe is meaningless without ``init``."""
    freeze: tuple[str, ...] = ()
    """Parts whose weights are not trained: ``stem``, ``layer1`` and so on."""
    freeze_batch_norm: bool = False
    """Batch norm keeps its running statistics, weights and biases."""
    motion_stem: bool = False
    """Random weights, except for a first layer that responds to directions of motion (in networks
    whose first layer spans frames): with little data, training finds motion many times sooner."""

    def __post_init__(self) -> None:
        _within("model.bn_eps", self.bn_eps, 0.0, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation: determines the weights, whatever the number of processes."""

    seed: int = 0
    epochs: int = 45
    epoch_clips: int = 1_000_000
    """Clips of an epoch, over all processes; 0: one for each training video."""
    batch: int = 0
    """Clips of an optimiser step, over all processes; 0: ``micro_batch`` times the number of
    processes that the run is started with."""
    micro_batch: int = 32
    """Clips that one process sends through the network at once; a larger share of ``batch`` is
    accumulated."""
    lr: float = 0.01
    """Learning rate for a batch of ``lr_batch`` clips; scaled in proportion for others."""
    lr_batch: int = 32
    schedule: Schedule = "step"
    milestones: tuple[int, ...] = (20, 30, 40)
    """Epochs at which the learning rate is multiplied by ``gamma``."""
    gamma: float = 0.1
    cosine_cycles: int = 1
    """Half cosines of equal length that make up the run: each starts at the full learning rate
    again, with no second warm-up (SGDR)."""
    warmup_epochs: float = 10.0
    """Epochs over which the learning rate rises linearly from 0."""
    optimizer: Optimizer = "sgd"
    """``adamw`` takes steps of similar size in all layers, which small networks with random weights
    need to find motion; the paper's recipes use ``sgd``."""
    momentum: float = 0.9
    """Momentum of ``sgd``."""
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_biases: bool = True
    """Whether weight decay applies to biases too; Caffe2's trainer excludes them."""
    layer_lr: dict[str, float] = field(default_factory=dict)
    """Learning rate of parts, as a factor of ``lr``: ``{stem = 0.0, fc = 10.0}``. At 0 the weights
    stay, but batch norm still updates its statistics; ``model.freeze`` stops both."""
    clip_gradient: float = 0.0
    """Maximum norm of the gradient; 0 turns clipping off."""
    ema_decay: float = 0.0
    """Decay per step of the averaged weights, which are evaluated and saved; 0 turns them off."""
    precision: Precision = "fp32"
    """``bf16`` and ``fp16`` are automatic mixed precision; ``tf32`` rounds the operands of float32
    products on a GPU, ``fp32`` does not."""
    channels_last: bool = False
    """Memory format channels_last_3d; always used for mixed precision on a GPU."""
    sync_batch_norm: bool = False
    """Batch norm over the clips of all processes (CUDA)."""
    compile: bool = False
    """torch.compile: faster after minutes of compiling."""

    def __post_init__(self) -> None:
        _positive("train", self, "epochs", "micro_batch", "lr_batch", "cosine_cycles")
        _not_negative("train", self, "seed", "epoch_clips", "batch", "warmup_epochs")
        _not_negative("train", self, "lr", "weight_decay", "clip_gradient", "gamma")
        _within("train.momentum", self.momentum, 0.0, 0.9999)
        _within("train.ema_decay", self.ema_decay, 0.0, 0.999999)
        if list(self.milestones) != sorted(self.milestones):
            raise UsageError(f"train.milestones must increase, not {self.milestones}")
        cycle = self.epochs / self.cosine_cycles
        if self.cosine_cycles > 1 and (cycle % 1 or cycle <= self.warmup_epochs):
            raise UsageError(
                f"train.cosine_cycles must divide train.epochs evenly, each cycle longer than "
                f"train.warmup_epochs: {self.epochs} epochs, {self.cosine_cycles} cycles; "
                f"train.cosine_cycles=1 is one cycle over the whole run"
            )
        if self.nesterov and self.momentum == 0:
            raise UsageError("train.nesterov needs train.momentum above 0")


@dataclass(frozen=True)
class EvaluateConfig:
    """The paper's protocol: uniform clips of a video, their scores averaged."""

    clips: int = 10
    crops: int = 1
    """1: the centre; 3: left, centre and right (top and bottom of an upright video)."""
    every_epochs: int = 1
    """Epochs from one evaluation during training to the next; 0: only at the end."""
    videos: int = 0
    """Videos in the evaluations during training, spread evenly over the part; 0: all."""
    short: ShortVideos = "repeat"
    """Videos shorter than a clip: ``repeat`` their last frame, or ``leave_out``, as VMZ does."""
    crop_origin: CropOrigin = "round"
    """How a crop that starts at half a pixel is rounded: ``round`` as torchvision (column 30 of
    171), ``floor`` as VMZ (column 29)."""
    scaler: Scaler = "torchvision"
    """What scales frames: ``torchvision`` (bilinear, on RGB), or ``swscale``, as VMZ does: FFmpeg's
    fast bilinear scaler, on the way to RGB."""

    def __post_init__(self) -> None:
        _positive("evaluate", self, "clips")
        _not_negative("evaluate", self, "every_epochs", "videos")
        if self.crops not in (1, 3):
            raise UsageError(f"evaluate.crops is 1 or 3, not {self.crops}")


@dataclass(frozen=True)
class RunConfig:
    """Settings of the machine: only ``threads`` affects the bits of the weights."""

    workers: int = -1
    """Decode processes of each training process; -1 uses the processors of the machine, 0 decodes
    in the training process itself."""
    threads: int = 0
    """CPU threads of torch in each process; 0: its share of the machine's cores, less one for
    decoding. The run keeps the number that it started with, since sums depend on it in their last
    bits."""
    checkpoint_every: int = 500
    """Steps from one checkpoint to the next; one more is written at the end of each epoch."""
    read_every: int = 0
    """Steps whose loss and accuracy are read, checked and logged together; 0: each step on a CPU,
    20 steps on a GPU, so that it does not wait for them."""
    keep: int = 3
    """Checkpoints kept in addition to the best one."""
    scan: bool = True
    """Look through all videos before the first step (once: the result is cached) and leave out
    those that cannot be read."""
    tensorboard: bool = True
    """Also write for TensorBoard, if it is installed."""
    seconds_per_video: float = 120.0
    """A decode process that is silent for this long is abandoned, and its clip replaced."""

    def __post_init__(self) -> None:
        _positive("run", self, "checkpoint_every", "keep", "seconds_per_video")
        _within("run.workers", self.workers, -1, 4096)
        _within("run.threads", self.threads, 0, 4096)
        _within("run.read_every", self.read_every, 0, 10_000)


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str = "custom"
    about: str = ""
    """What it reproduces, in one line."""
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def in_channels(self) -> int:
        """Channels of a frame: 3, or 2 of flow."""
        return 2 if self.data.modality == "flow" else 3


def _positive(section: str, config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise UsageError(f"{section}.{name} must be above 0, not {getattr(config, name)}")


def _not_negative(section: str, config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise UsageError(f"{section}.{name} must not be below 0, not {getattr(config, name)}")


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{key} must be between {low} and {high}, not {value}")
