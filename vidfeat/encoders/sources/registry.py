"""Networks of ``vidfeat models``, with weights by name, file, training run or seed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.sources.weights_of import UNTRAINED
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import UsageError, WeightsError
from vidfeat.models.base import VideoNetwork
from vidfeat.pretrained import bundled, default_entry
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.files import model_in
from vidfeat.weights.load import RUN_FILE, LoadedWeights, load_weights

DEFAULT_MODEL = "r2plus1d_18"


def load(choice: EncoderChoice) -> LoadedNetwork:
    """The network with its weights; optical-flow networks take RGB clips with one more frame.

    Raises:
        UsageError: an invalid name or value.
        WeightsError: weights that do not exist, or belong to another network.
    """
    is_bundled = choice.model == bundled.NAME
    chosen = choice.model or _model_of(choice.weights) or DEFAULT_MODEL
    model, weights = bundled.resolve(chosen, choice.weights)
    loaded = load_weights(weights, model, seed=choice.seed, clip_frames=choice.clip_frames or 16)
    network: VideoNetwork = loaded.build()
    preprocess = loaded.preprocess or default_preprocess(model)
    if loaded.in_channels != 3:
        network, preprocess = _of_flow(network, loaded, choice)
    named = loaded.entry is not None or _is_random(weights)
    return LoadedNetwork(
        network,
        model=model,
        weights=loaded.name if named else Path(loaded.name).name,
        weights_sha256=loaded.backbone_sha256,
        architecture={
            "model": model,
            "midplanes": loaded.midplanes,
            "bn_eps": loaded.bn_eps,
            "in_channels": loaded.in_channels,
            **_flow_facts(loaded),
        },
        plan=_published_plan(loaded),
        preprocess=preprocess,
        weights_given=None if weights is None else os.fspath(weights),
        weights_file=_file_of(weights, loaded),
        class_names=None if loaded.class_names is None else tuple(loaded.class_names),
        licence="" if loaded.entry is None else loaded.entry.licence,
        notes=tuple(_notes(loaded, weights)),
        layers=bundled.LAYERS if is_bundled else (),
        pool=bundled.POOLS if is_bundled else (),
    )


def _model_of(weights: str | os.PathLike[str] | None) -> str | None:
    """The network that a training run, or a file written by vidfeat, names."""
    if weights is None:
        return None
    path = Path(weights).expanduser()
    return model_in(path / RUN_FILE if path.is_dir() else path)


def default_preprocess(model: str) -> Preprocess:
    """The preprocessing for weights that specify none: that of the published weights."""
    entry = default_entry(model)
    return entry.preprocess if entry is not None and entry.preprocess else Preprocess()


def _published_plan(loaded: LoadedWeights) -> ClipPlan:
    published = loaded.plan or ClipPlan(frames=loaded.clip_frames or 16)
    if loaded.in_channels == 2:  # a field of flow lies between two frames
        published = replace(published, frames=published.frames + 1)
    return published


def _of_flow(
    network: VideoNetwork, loaded: LoadedWeights, choice: EncoderChoice
) -> tuple[VideoNetwork, Preprocess]:
    """An optical-flow network, wrapped so that it takes RGB clips with one more frame."""
    from vidfeat.models.flow_network import FlowNetwork, frames_preprocess

    if loaded.in_channels != 2 or loaded.preprocess is None:
        raise WeightsError(
            f"{loaded.name} takes {loaded.in_channels} channels, and does not record how they are "
            "made: optical-flow networks trained by vidfeat do"
        )
    if choice.precision == "bf16":
        raise UsageError(
            "precision=bf16 is too coarse for pixels that flow is computed from: give "
            "precision=fp16"
        )
    wrapped = FlowNetwork(network, loaded.preprocess, loaded.flow)
    return wrapped, frames_preprocess(loaded.preprocess)


def _flow_facts(loaded: LoadedWeights) -> dict[str, Any]:
    """What else the vectors of an optical-flow network depend on."""
    if loaded.in_channels != 2 or loaded.preprocess is None:
        return {}
    facts = {"flow_mean": list(loaded.preprocess.mean), "flow_std": list(loaded.preprocess.std)}
    return facts if loaded.flow == "farneback" else {**facts, "flow": loaded.flow}


def _is_random(weights: str | os.PathLike[str] | None) -> bool:
    return weights is not None and os.fspath(weights) == "random"


def _file_of(weights: str | os.PathLike[str] | None, loaded: LoadedWeights) -> str:
    """The given file, absolute; empty for weights that a name identifies."""
    if weights is None or loaded.entry is not None:
        return ""
    if os.fspath(weights) in ("random", bundled.NAME):
        return ""
    return str(Path(weights).expanduser().resolve())


def _notes(loaded: LoadedWeights, asked: str | os.PathLike[str] | None) -> list[str]:
    """Notes about the weights, for the user before a long run."""
    if _is_random(asked):
        return [UNTRAINED]
    if loaded.plan is None:
        return [
            f"{loaded.name} does not specify its clips: 16 frames at each video's own rate, "
            "unless frames, stride and fps say otherwise"
        ]
    return []
