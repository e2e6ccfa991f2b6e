"""Weights by name, file, training run or seed: tensors that fit a network, and their facts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vidfeat.errors import StateDictError, UsageError, WeightsError
from vidfeat.models import VideoNetwork, build_model, check_name
from vidfeat.models.catalog import CAFFE2_EPS, DESIGNS, TORCHVISION_EPS, default_bn_eps
from vidfeat.pretrained import (
    ENTRIES,
    WeightsEntry,
    bundled,
    default_entry,
    entries_of,
    find_entry,
    read_class_list,
)
from vidfeat.system.callbacks import Progress
from vidfeat.system.download import Source, fetch, file_sha256
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.flow import FlowMethod
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.files import read_tensors, save_weights
from vidfeat.weights.statedict import CLASSIFIERS, check_fit, read_facts, shapes_of, tensor_hash

__all__ = ["LoadedWeights", "load_weights", "read_tensors", "save_weights", "tensor_hash"]

DEFAULT_FRAMES = 16  # of clips, where nothing else is specified
RUN_FILE = "model.safetensors"  # in the folder of a training run


@dataclass(frozen=True)
class LoadedWeights:
    """Tensors that fit a network, and what is known about them."""

    model: str
    """The network they were loaded for."""
    state_dict: Mapping[str, Tensor] = field(repr=False)
    name: str
    """Name of the entry or the file, ``bundled``, or ``random`` with its seed."""
    num_classes: int
    in_channels: int = 3
    class_names: tuple[str, ...] | None = field(default=None, repr=False)
    midplanes: Literal["block", "conv"] | None = None
    """None for networks other than R(2+1)D."""
    bn_eps: float | None = None
    """None for networks that are not the paper's."""
    clip_frames: int | None = None
    """Clip length of R2D, which takes no other."""
    preprocess: Preprocess | None = None
    """None if unknown, and for optical flow."""
    plan: ClipPlan | None = None
    """None if unknown."""
    flow: FlowMethod = "farneback"
    """How the optical flow of two channels is computed."""
    entry: WeightsEntry | None = None
    """Set if the weights are from the registry."""

    @cached_property
    def backbone_sha256(self) -> str:
        """Hash of the tensors that embeddings depend on: all but the last layer's."""
        return tensor_hash(self.state_dict, CLASSIFIERS)

    def build(self, clip_frames: int | None = None) -> VideoNetwork:
        """The network with copies of these tensors in float32, in evaluation mode.

        Args:
            clip_frames: T of the clips it will see; only R2D and MViT depend on it.

        Raises:
            UsageError: the network takes clips of another length.
        """
        if None not in (clip_frames, self.clip_frames) and clip_frames != self.clip_frames:
            raise UsageError(
                f"{self.name} takes clips of {self.clip_frames} frames, not {clip_frames}: leave "
                "frames out",
                field="frames",
            )
        with torch.device("meta"):
            network = build_model(
                self.model,
                self.num_classes,
                clip_frames=clip_frames or self.clip_frames or DEFAULT_FRAMES,
                in_channels=self.in_channels,
                midplanes=self.midplanes,
                bn_eps=self.bn_eps,
            )
        tensors = {
            name: tensor.to(torch.float32, copy=True)
            if tensor.is_floating_point()
            else tensor.clone()
            for name, tensor in self.state_dict.items()
        }
        network.load_state_dict(tensors, strict=True, assign=True)
        return network.eval()


def load_weights(
    spec: str | os.PathLike[str] | None,
    model: str,
    seed: int = 0,
    *,
    num_classes: int = 400,
    in_channels: int = 3,
    clip_frames: int | None = None,
    progress: Progress | None = None,
) -> LoadedWeights:
    """Load weights for a network.

    Args:
        spec: None for the network's default, the name of an entry, a file, the folder of a
            training run, ``bundled`` for those that come with vidfeat, or ``random``.
        model: the network.
        seed: seed for random weights.
        num_classes: classes of random weights.
        in_channels: channels of random weights.
        clip_frames: T of random weights, 16 by default; only R2D depends on it.
        progress: called with the bytes so far and in total; None shows them on stderr.

    Raises:
        UsageError: no such network, entry or file.
        WeightsError: a file that cannot be read, or that asks to run code.
        StateDictError: tensors of another network.
        DownloadError: an entry's file cannot be fetched.
    """
    model, spec = bundled.resolve(model, spec)
    check_name(model)
    if spec is None:
        entry = default_entry(model)
        if entry is None:
            raise UsageError(
                f"no weights were ever published for {model}: give weights=FILE, or "
                "weights=random for an untrained network; model=bundled needs no download"
            )
        return _load_entry(entry, model, progress)
    text = os.fspath(spec)
    if text == "random":
        return _random(model, seed, num_classes, in_channels, clip_frames or DEFAULT_FRAMES)
    if text == bundled.NAME:
        return replace(_load_file(bundled.WEIGHTS_FILE, model), name=bundled.NAME)
    if any(text in (entry.name, entry.full_name) for entry in entries_of(model)):
        return _load_entry(find_entry(text, model), model, progress)
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / RUN_FILE).is_file():
            raise UsageError(f"{path} is a folder without {RUN_FILE}: no finished training run")
        path = path / RUN_FILE
    if path.exists():
        return _load_file(path, model)
    path_like = isinstance(spec, os.PathLike) or path.suffix or len(path.parts) > 1
    if path_like and not any(text == entry.full_name for entry in ENTRIES):
        raise UsageError(f"no weights file {path}: give a file, an entry's name, or random")
    return _load_entry(find_entry(text, model), model, progress)


def weights_path(spec: str | os.PathLike[str] | None, model: str) -> Path | None:
    """The file that `load_weights` reads for ``spec``, fetched if needed; None for random ones.

    Raises:
        UsageError, DownloadError: as `load_weights` does.
    """
    model, spec = bundled.resolve(model, spec)
    text = None if spec is None else os.fspath(spec)
    if text == "random":
        return None
    if text == bundled.NAME:
        return bundled.WEIGHTS_FILE
    path = None if text is None else Path(text).expanduser()
    named = text is None or any(text in (e.name, e.full_name) for e in entries_of(model))
    if named or path is None or not path.exists():
        entry = default_entry(model) if text is None else find_entry(text, model)
        if entry is None:
            raise UsageError(f"no weights were ever published for {model}: give weights=FILE")
        return fetch(source_of(entry))
    return path / RUN_FILE if path.is_dir() else path


def _random(
    model: str, seed: int, num_classes: int, in_channels: int, clip_frames: int
) -> LoadedWeights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(model, num_classes, clip_frames=clip_frames, in_channels=in_channels)
    return with_facts(
        LoadedWeights(model, network.state_dict(), f"random (seed {seed})", num_classes), {}
    )


def _load_entry(entry: WeightsEntry, model: str, progress: Progress | None) -> LoadedWeights:
    path = fetch(source_of(entry), progress)
    tensors, _ = read_tensors(path, entry.model)
    return _of_entry(fit_tensors(tensors, model, str(path)), entry)


def source_of(entry: WeightsEntry) -> Source:
    """What to download for an entry."""
    limit = 2 * entry.megabytes * 1_000_000 + 16_000_000  # some sizes are estimates
    return Source(entry.url, entry.filename, entry.sha256, max_bytes=limit, by_hand=entry.by_hand)


def _of_entry(loaded: LoadedWeights, entry: WeightsEntry) -> LoadedWeights:
    names = class_names(entry.class_list) if loaded.num_classes == entry.num_classes else None
    return replace(
        loaded,
        name=entry.name,
        class_names=names,
        bn_eps=entry.bn_eps if entry.bn_eps is not None else loaded.bn_eps,
        preprocess=entry.preprocess,
        plan=entry.plan,
        flow=entry.flow,
        entry=entry,
    )


def _load_file(path: Path, model: str) -> LoadedWeights:
    # A file of the registry that was fetched by hand is as good as one that we fetched.
    for entry in entries_of(model):
        named_so = entry.sha256 and entry.filename == path.name
        if named_so and file_sha256(path).startswith(entry.sha256):
            return _of_entry(fit_tensors(read_tensors(path)[0], model, str(path)), entry)
    tensors, metadata = read_tensors(path, model)
    named = metadata.get("model")
    if isinstance(named, str) and _plain(named) != _plain(model):
        raise StateDictError(f"{path} holds weights of {named}: give model={named}")
    return with_facts(fit_tensors(tensors, model, str(path)), metadata)


def _plain(model: str) -> str:
    """A name without what its tensors do not depend on, or show: max-pool and midplane rule."""
    return model.removesuffix("_pool").removesuffix("_paper")


def fit_tensors(tensors: Mapping[str, Tensor], model: str, origin: str) -> LoadedWeights:
    """Check the tensors against the network, and derive facts from them."""
    odd = [name for name, value in tensors.items() if _is_odd(value)]
    if odd:
        raise WeightsError(f"{origin}: {odd[0]} is a sparse or quantised tensor, which is not read")
    facts = read_facts(tensors, model)
    own = model in DESIGNS
    options: dict[str, Any] = {"midplanes": facts.midplanes, "in_channels": facts.in_channels}
    if facts.clip_frames is not None:
        options["clip_frames"] = facts.clip_frames
    expected = shapes_of(model, facts.num_classes, **options)
    check_fit(tensors, expected, model, origin)
    counters = {
        name: torch.tensor(0)
        for name in expected
        if name not in tensors  # counters, which old files lack
    }
    eps = default_bn_eps(model) if own else None
    if facts.midplanes is not None and facts.midplanes != DESIGNS[model].midplanes:
        eps = CAFFE2_EPS if facts.midplanes == "conv" else TORCHVISION_EPS
    return LoadedWeights(
        model=model,
        state_dict={**tensors, **counters},
        name=Path(origin).name,
        num_classes=facts.num_classes,
        in_channels=facts.in_channels,
        midplanes=facts.midplanes,
        bn_eps=eps,
        clip_frames=facts.clip_frames,
        preprocess=_preset_of(model, facts.in_channels),
        plan=_plan_of(facts.clip_frames),
    )


def _preset_of(model: str, in_channels: int) -> Preprocess | None:
    """The published preprocessing of networks that are made for one size; the paper's take any."""
    entry = default_entry(model)
    known = entry is not None and model not in DESIGNS and entry.in_channels == in_channels
    return entry.preprocess if entry is not None and known else None


def _plan_of(clip_frames: int | None) -> ClipPlan | None:
    """R2D's tensors show the length of its clips; others do not."""
    return None if clip_frames is None else ClipPlan(frames=clip_frames)


def _is_odd(value: object) -> bool:
    if not isinstance(value, Tensor):
        return False  # reported by `check_fit`
    return value.layout is not torch.strided or value.is_quantized or value.is_complex()


def with_facts(loaded: LoadedWeights, metadata: Mapping[str, Any]) -> LoadedWeights:
    """Complete weights with facts from their file, or else from their tensors."""
    facts = read_facts(loaded.state_dict, loaded.model)
    names = metadata.get("class_names") or ()
    plan, preprocess = metadata.get("plan"), metadata.get("preprocess")
    eps = loaded.bn_eps
    if eps is None and loaded.model in DESIGNS:
        eps = default_bn_eps(loaded.model)
    return replace(
        loaded,
        in_channels=facts.in_channels,
        midplanes=facts.midplanes,
        clip_frames=facts.clip_frames,
        bn_eps=metadata.get("bn_eps") or eps,
        flow="tvl1" if metadata.get("flow") == "tvl1" else loaded.flow,
        class_names=tuple(names) if len(names) == loaded.num_classes else None,
        plan=ClipPlan.from_dict(plan) if plan else loaded.plan or _plan_of(facts.clip_frames),
        preprocess=Preprocess.from_dict(preprocess)
        if preprocess
        else loaded.preprocess or _preset_of(loaded.model, facts.in_channels),
    )


def class_names(class_list: str) -> tuple[str, ...] | None:
    """The class names in a list that an entry refers to."""
    if class_list != "kinetics400":
        return read_class_list(class_list) if class_list else None
    from torchvision.models.video import R2Plus1D_18_Weights

    return tuple(R2Plus1D_18_Weights.KINETICS400_V1.meta["categories"])
