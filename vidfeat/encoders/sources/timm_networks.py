"""Image networks of timm: ``timm:NAME``, ``timm:NAME.TAG`` or ``timm:FOLDER``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfeat.encoders.sources.frame_networks import TimmNetwork
from vidfeat.encoders.sources.hf import FRAME_PLAN
from vidfeat.encoders.sources.hub import SMALL_FILES, Repository, repository
from vidfeat.encoders.sources.weights_of import (
    UNTRAINED,
    asks_for_random,
    load_strictly,
    seeded,
    weights_file,
)
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import MissingExtraError, UsageError, WeightsError
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.statedict import tensor_hash

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

PREFIX = "timm"
_WEIGHTS = "model.safetensors"
_FILES = (*SMALL_FILES, _WEIGHTS)


def load(choice: EncoderChoice) -> LoadedNetwork:
    """The network, with the weights that timm publishes, a safetensors file, or random ones.

    Raises:
        UsageError: timm has no such network.
        MissingExtraError: timm is not installed.
        WeightsError: weights that do not exist, or belong to another network.
    """
    try:
        import timm
    except ImportError:
        raise MissingExtraError("timm", "timm", str(choice.model)) from None
    assert choice.model is not None
    name = choice.model.partition(":")[2]
    random = asks_for_random(choice)
    given = None if _is_folder(choice.weights) else weights_file(choice)
    folder = str(choice.weights) if _is_folder(choice.weights) else name
    repo: Repository | None = None
    if _is_folder(folder):
        repo = repository(folder, None, _FILES, source=PREFIX)
        repo.json("config.json")
        if given is not None:
            raise UsageError(
                f"{name} is a folder with weights of its own: leave weights out", field="weights"
            )
        architecture = f"local-dir:{repo.folder}"
    else:
        architecture = name
        if not timm.is_model(name.partition(".")[0]):
            near = ", ".join(timm.list_models(f"*{name.partition('.')[0][:8]}*")[:5])
            raise UsageError(
                f"timm {timm.__version__} has no network {name!r}"
                + (f": it has {near}" if near else "; see timm.list_models()"),
                field="model",
            )
    net = seeded(lambda: _make(timm, architecture, {}), choice.seed)
    if not random:
        path = given
        if path is None:
            repo = repo or _published(net, name)
            repo.check_safetensors(_WEIGHTS)
            path = repo.folder / _WEIGHTS
        net = _trained(timm, architecture, net, path)
    net = net.eval()
    network = TimmNetwork(net, nhwc=getattr(net, "output_fmt", "NCHW") == "NHWC")
    facts = net.pretrained_cfg or {}
    return LoadedNetwork(
        network,
        model=f"{PREFIX}:{repo.name if repo is not None and repo.is_folder else name}",
        weights=_weights_name(choice, repo, given),
        weights_sha256=tensor_hash(network.state_dict()),
        architecture={
            "source": PREFIX,
            "model": str(facts.get("architecture") or name),
            **({"revision": repo.revision} if repo is not None and repo.revision else {}),
        },
        plan=FRAME_PLAN,
        preprocess=_preprocess(net),
        weights_given="random" if random else None if given is None else str(given),
        weights_file=str(given) if given else repo.name if repo and repo.is_folder else "",
        licence=(repo.licence if repo else "") or str(facts.get("license") or ""),
        notes=(UNTRAINED,) if random else (),
    )


def _is_folder(value: Any) -> bool:
    return value is not None and Path(value).expanduser().is_dir()


def _make(timm: Any, architecture: str, overlay: dict[str, Any]) -> Any:
    return timm.create_model(
        architecture, pretrained=bool(overlay), num_classes=0, pretrained_cfg_overlay=overlay
    )


def _published(net: Any, name: str) -> Repository:
    """The hub's repository of a network's weights."""
    hub_id = (net.pretrained_cfg or {}).get("hf_hub_id")
    if not hub_id:
        raise WeightsError(
            f"timm publishes no weights on the hub for {name}: give weights=FILE.safetensors"
        )
    return repository(hub_id, None, _FILES, source=PREFIX)


def _trained(timm: Any, architecture: str, net: Any, path: Path) -> Any:
    """The network with a file's tensors; timm drops the classifier, and adapts older files."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    if set(tensors) == set(net.state_dict()):
        load_strictly(net, tensors, str(path))
        return net
    try:
        if architecture.startswith("local-dir:"):
            return timm.create_model(architecture, pretrained=True, num_classes=0)
        return _make(timm, architecture, {"file": str(path), "custom_load": False})
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} holds the weights of another network than {architecture}: "
            f"{str(error).splitlines()[0][:200]}"
        ) from None


def _weights_name(choice: EncoderChoice, repo: Repository | None, given: Path | None) -> str:
    if asks_for_random(choice):
        return f"random (seed {choice.seed})"
    if given is not None:
        return given.name
    assert repo is not None
    return repo.revision or repo.folder.name


def _preprocess(net: Any) -> Preprocess:
    """Timm's own preprocessing of images for evaluation."""
    from timm.data import resolve_model_data_config

    facts = resolve_model_data_config(net)
    height, width = (int(side) for side in facts["input_size"][-2:])
    share = float(facts["crop_pct"])
    scaled = (math.floor(height / share), math.floor(width / share))
    mode, interpolation = facts["crop_mode"], facts["interpolation"]
    if interpolation not in ("bilinear", "bicubic", "lanczos"):
        raise UsageError(f"timm resizes by {interpolation} here, which is not supported")
    fit = {"squash": "exact", "border": "contain"}.get(mode, "cover")
    short_side = fit == "cover" and scaled[0] == scaled[1]
    border = tuple(round(255 * value) for value in facts["mean"])
    return Preprocess(
        scaled[0] if short_side else scaled,
        (height, width),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        interpolation=interpolation,
        antialias=True,
        resampler="pillow",
        fit="exact" if short_side else fit,  # type: ignore[arg-type]
        fill=border if mode == "border" else (0, 0, 0),
    )
