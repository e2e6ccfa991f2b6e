"""Weights files on disk: three formats that are read, one that is written.

Nothing from a file is executed: safetensors, torch files with ``weights_only``, and Caffe2
pickles through `vidfeat.weights.safe_pickle`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidfeat.errors import WeightsError
from vidfeat.models.catalog import CSN, DESIGNS
from vidfeat.system.files import atomic_write
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.flow import FLOW_MEAN, FLOW_STD
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights import caffe2, layouts
from vidfeat.weights.statedict import fitting_networks

METADATA_KEY = "vidfeat"


class _Kept:
    """Placeholder for options that a trainer saved with its weights: kept, but never used."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


# Objects that trainers save with the weights, by their names in pickles; none is imported.
# argparse.Namespace: torchvision's reference script and VMZ's PyTorch trainer, under "args".
_STAND_INS: list[Any] = [
    (_Kept, f"{module}.{name}")
    for module, name in (
        ("argparse", "Namespace"),
        ("pathlib", "Path"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
        ("pathlib._local", "Path"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "WindowsPath"),
        # numpy scalars, such as the best accuracy so far
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),
    )
]
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how torch files began before 1.6


def read_tensors(path: Path, model: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, and its facts about them.

    Args:
        path: safetensors, a torch file, or one of the authors' Caffe2 pickles.
        model: the network, for a Caffe2 pickle whose shapes leave it open.

    Raises:
        WeightsError: an unknown format, a damaged file, or one that asks to run code.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(16)
    if begin[8:9] == b"{":
        return _read_safetensors(path)
    if begin.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return _by_layout(_read_torch(path))
    if begin.startswith(b"\x80") or path.suffix == ".pkl":
        state, facts = _convert(caffe2.read_blobs(path), model)
        found: dict[str, Any] = {"model": facts.model, "bn_eps": facts.bn_eps}
        if facts.in_channels == 2:  # the authors had one way to make flow
            found["preprocess"] = Preprocess(mean=FLOW_MEAN, std=FLOW_STD).to_dict()
        return state, found
    raise WeightsError(
        f"{path} is not a weights file: expected safetensors, a torch file or a Caffe2 pickle"
    )


def _by_layout(content: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under our names if a published layout is recognised, unchanged otherwise."""
    understood = layouts.understand(content)
    if understood is None:
        return content, {}
    networks = fitting_networks(understood.tensors, understood.layout.networks)
    facts: dict[str, Any] = {"networks": networks}
    if len(networks) == 1:
        facts["model"] = networks[0]
        facts["bn_eps"] = understood.layout.bn_eps.get(networks[0])
    return understood.tensors, facts


def _convert(
    blobs: caffe2.Blobs, model: str | None
) -> tuple[dict[str, Tensor], caffe2.Caffe2Facts]:
    """Convert as the named network if the shapes allow it, else as the one they show."""
    if model in DESIGNS and not model.startswith(tuple(CSN)):
        try:
            return caffe2.convert(blobs, model)
        except WeightsError:  # reported below, or when the names are compared
            pass
    return caffe2.convert(blobs)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    try:
        facts = json.loads(metadata.get(METADATA_KEY, "{}"))
    except ValueError:
        facts = {}
    return tensors, facts if isinstance(facts, dict) else {}


def model_in(path: Path) -> str | None:
    """The network that a safetensors file names; None for any other file."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, OSError, ValueError):
        return None  # the actual reading will report what is wrong
    named = facts.get("model") if isinstance(facts, dict) else None
    return named if isinstance(named, str) else None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises all sorts of errors for damaged and hostile files
        found = re.search(
            r"(?:Unsupported global: GLOBAL|Trying to \w+ .*?GLOBAL) (\S+)", str(error)
        )
        if found:
            wanted = found[1].rstrip(",")
            raise WeightsError(f"{path}: refused: it asks for {wanted}, not for tensors") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{path} cannot be read as a torch file: {reason}") from None
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not tensors by name")
    return dict(content)


@dataclass(frozen=True)
class WeightsFacts:
    """The facts in a weights file about its tensors."""

    model: str
    """Name of the network."""
    class_names: Sequence[str] = ()
    """Classes of its last layer, in order."""
    bn_eps: float | None = None
    """Set if it is not the network's own."""
    preprocess: Preprocess | None = None
    """Preprocessing of its input."""
    plan: ClipPlan | None = None
    """Plan of its clips."""
    source: str = ""
    """Where the weights came from."""
    licence: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further facts, as JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The facts that are known, as JSON."""
        facts = {
            **self.more,
            "model": self.model,
            "class_names": list(self.class_names),
            "bn_eps": self.bn_eps,
            "preprocess": None if self.preprocess is None else self.preprocess.to_dict(),
            "plan": None if self.plan is None else self.plan.to_dict(),
            "source": self.source,
            "licence": self.licence,
        }
        return {name: value for name, value in facts.items() if value not in (None, "", [])}


def save_weights(
    path: Path,
    state_dict: Mapping[str, Tensor],
    facts: WeightsFacts,
) -> None:
    """Write tensors as safetensors with their facts, so that the file is self-contained.

    Args:
        path: the file, written completely or not at all.
        state_dict: the network's tensors.
        facts: the facts about them.
    """
    from safetensors.torch import save

    # Tensors that share memory are refused by safetensors: each gets its own.
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in state_dict.items()}
    metadata = {METADATA_KEY: json.dumps(facts.to_dict(), sort_keys=True, ensure_ascii=False)}
    with atomic_write(path) as temporary:
        # Not save_file: it makes files that only their owner may read, whatever the umask is.
        temporary.write_bytes(save(tensors, metadata=metadata))
