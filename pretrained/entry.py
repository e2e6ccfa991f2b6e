"""One published weights file as a value: its location, its contents and its intended use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.flow import FlowMethod
from vidfeat.video.preprocess import Preprocess

FileFormat = Literal["torch", "caffe2", "safetensors"]


@dataclass(frozen=True)
class Accuracy:
    """A published top-1 and top-5 accuracy in per cent, and how it was measured."""

    top1: float
    top5: float
    protocol: str


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """A weights file of the registry."""

    model: str
    """The network, as `build_model` names it."""
    name: str
    """Unique among the weights of its network."""
    url: str
    sha256: str = ""
    """The file's hash, or its first digits if no more was published, or empty."""
    file_format: FileFormat = "torch"
    megabytes: int
    """Size of the file in 10^6 bytes; estimated from the tensors if it was not published."""
    trained_on: str
    num_classes: int | None = 400
    """None if it was not published: it is then read off the tensors."""
    class_list: Literal["kinetics400", "activitynet200", "thumos14", ""] = "kinetics400"
    """Which list names the classes; empty if the names were never published."""
    in_channels: int = 3
    midplanes: Literal["block", "conv"] | None = None
    """The rule its (2+1)D convolutions follow; None for networks without."""
    bn_eps: float | None = None
    """Batch-norm eps it was trained with; None if torchvision's own code sets it."""
    preprocess: Preprocess
    """With two channels, mean and std are those of optical flow, and resize and crop apply to the
    frames that it is computed from."""
    flow: FlowMethod = "farneback"
    """How the optical flow of its two channels is computed."""
    plan: ClipPlan
    """Frames, stride and rate of the clips it was trained on."""
    accuracy: Accuracy | None = None
    """On Kinetics-400's validation videos (I3D's: the test videos); None for files with other
    classes, or if none was published."""
    licence: str
    source: str
    """The page where it was published."""
    saved_as: str = ""
    """The file's name in the cache, if the last part of its url is no name, or another file's."""
    by_hand: bool = False
    """Whether ``url`` is a folder that only a browser opens: users put the file into the cache."""

    def __post_init__(self) -> None:
        digits = set(self.sha256)
        if not digits <= set("0123456789abcdef") or len(self.sha256) not in (0, *range(8, 65)):
            raise ValueError(f"{self.full_name}: a sha256 is 8 to 64 hexadecimal digits, or empty")
        if not self.url.startswith("https://"):
            raise ValueError(f"{self.full_name}: the url must begin with https://")

    @property
    def full_name(self) -> str:
        """``model/name``, unique in the registry."""
        return f"{self.model}/{self.name}"

    @property
    def filename(self) -> str:
        """The file's name in the cache: the last part of its url, if no other is given."""
        return self.saved_as or self.published_name

    @property
    def published_name(self) -> str:
        """The file's name where it was published: the last part of its url."""
        return unquote(urlsplit(self.url).path).rsplit("/", 1)[-1].replace(" ", "")
