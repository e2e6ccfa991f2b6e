"""Converts published weights files to safetensors that carry what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidfeat.errors import StateDictError, UsageError
from vidfeat.models import check_name
from vidfeat.pretrained import ENTRIES, WeightsEntry
from vidfeat.weights.files import WeightsFacts, save_weights
from vidfeat.weights.layouts import unwrap
from vidfeat.weights.load import (
    LoadedWeights,
    class_names,
    fit_tensors,
    read_tensors,
    with_facts,
)
from vidfeat.weights.statedict import recognise


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion."""

    path: Path
    loaded: LoadedWeights
    entry: WeightsEntry | None
    """The registry's entry for a file of that name, whose plan and preprocessing were used."""


def convert_file(
    source: Path, target: Path, model: str | None = None, *, overwrite: bool = False
) -> Conversion:
    """Convert a Caffe2 pickle, or unwrap a torch checkpoint, into a safetensors file.

    Names lose the ``module.`` of DDP, and the weights are taken out of a training checkpoint.

    Args:
        source: the file.
        target: the file to write, completely or not at all.
        model: the network, if the tensors leave it open.
        overwrite: replace a target that exists.

    Raises:
        UsageError: the target exists, or is not named .safetensors.
        WeightsError: the source cannot be read, asks to run code, or fits no network here.
    """
    if model is not None:
        check_name(model)
    if target.suffix != ".safetensors":
        raise UsageError(f"the output is a safetensors file: name it {target.stem}.safetensors")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: give overwrite=True, or another name")
    if not source.is_file():
        raise UsageError(f"no weights file {source}")
    content, facts = read_tensors(source, model)
    tensors = unwrap(content)
    network = model or facts.get("model") or _named_so(source, facts.get("networks", ()))
    if network is None and facts.get("networks"):
        raise UsageError(
            f"{source} may be any of {', '.join(facts['networks'])}, whose tensors are alike: name "
            "the network with model=NAME"
        )
    if network is None:
        layout = recognise(tensors)
        if layout is None or layout.network is None:
            raise StateDictError(
                f"{source} holds no network that vidfeat knows: if it is one, name it with "
                "model=NAME"
            )
        network = layout.network
    loaded = with_facts(fit_tensors(tensors, network, str(source)), facts)
    entry = _entry_of(source, loaded)
    if entry is not None:
        names = class_names(entry.class_list)
        loaded = replace(
            loaded,
            plan=entry.plan,
            preprocess=entry.preprocess,
            class_names=names,
            flow=entry.flow,
        )
    save_weights(
        target,
        loaded.state_dict,
        WeightsFacts(
            model=network,
            class_names=loaded.class_names or (),
            bn_eps=loaded.bn_eps,
            preprocess=loaded.preprocess,
            plan=loaded.plan,
            source=source.name if entry is None else entry.url,
            licence="" if entry is None else entry.licence,
            more={} if loaded.flow == "farneback" else {"flow": loaded.flow},
        ),
    )
    return Conversion(target, loaded, entry)


def _named_so(source: Path, networks: Sequence[str]) -> str | None:
    """The network among ``networks`` that a published file of this name belongs to."""
    models = {entry.model for entry in ENTRIES if _is_named(entry, source)}
    return next((model for model in models if model in networks), None)


def _entry_of(source: Path, loaded: LoadedWeights) -> WeightsEntry | None:
    """The entry with this file name, and with the network, classes and channels of the weights."""
    for entry in ENTRIES:
        same_network = loaded.model.removesuffix("_pool") == entry.model
        same_classes = entry.num_classes in (None, loaded.num_classes)
        same_channels = entry.in_channels == loaded.in_channels
        if _is_named(entry, source) and same_network and same_classes and same_channels:
            return entry
    return None


def _is_named(entry: WeightsEntry, source: Path) -> bool:
    return source.name in (entry.filename, entry.published_name)
