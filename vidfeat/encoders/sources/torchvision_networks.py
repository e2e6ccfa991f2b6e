"""Image networks of torchvision: ``torchvision:NAME``; vectors are the input of the last layer."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from vidfeat.encoders.sources.frame_networks import VectorNetwork
from vidfeat.encoders.sources.hf import FRAME_PLAN
from vidfeat.encoders.sources.weights_of import (
    UNTRAINED,
    asks_for_random,
    load_strictly,
    seeded,
    weights_file,
)
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import UsageError, WeightsError
from vidfeat.models import MODEL_NAMES
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.statedict import tensor_hash

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

PREFIX = "torchvision"


def load(choice: EncoderChoice) -> LoadedNetwork:
    """The network, with torchvision's newest weights, a safetensors file, or random ones.

    Raises:
        UsageError: torchvision has no such image network.
        WeightsError: weights that do not exist, or belong to another network.
    """
    import torchvision
    from torchvision import models

    assert choice.model is not None
    name = choice.model.partition(":")[2]
    names = models.list_models(module=models)
    if name not in names:
        if name in MODEL_NAMES:
            remedy = f"it is a video network: give {name} without torchvision:"
        else:
            near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
            remedy = f"it has {', '.join(near)}" if near else "see torchvision.models.list_models()"
        raise UsageError(
            f"torchvision {torchvision.__version__} has no image network {name!r}: {remedy}",
            field="model",
        )
    random, given = asks_for_random(choice), weights_file(choice)
    entry = models.get_model_weights(name).DEFAULT
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net = seeded(lambda: models.get_model(name, weights=None, **options), choice.seed)
    if given is not None:
        from safetensors.torch import load_file

        load_strictly(net, load_file(given), str(given))
    elif not random:
        load_strictly(net, _published(entry), entry.name)
    width = _drop_classifier(net, name)
    network = VectorNetwork(net.eval(), width)
    return LoadedNetwork(
        network,
        model=f"{PREFIX}:{name}",
        weights=f"random (seed {choice.seed})" if random else given.name if given else entry.name,
        weights_sha256=tensor_hash(network.state_dict()),
        architecture={"source": PREFIX, "model": name},
        plan=FRAME_PLAN,
        preprocess=_preprocess(entry.transforms()),
        weights_given="random" if random else None if given is None else str(given),
        weights_file="" if given is None else str(given),
        notes=(UNTRAINED,) if random else (),
    )


def _published(entry: Any) -> dict[str, Any]:
    """The tensors of torchvision's own file, from torch's cache or fetched into it."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        # plain tensors: torch.load uses weights_only
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights {entry} cannot be fetched ({type(error).__name__}): put {entry.url} "
            f"into {folder}"
        ) from None


def _drop_classifier(net: nn.Module, name: str) -> int:
    """Replace the last layer by the identity, and return the length of its input."""
    linear = [key for key, module in net.named_modules() if isinstance(module, nn.Linear)]
    last = [key for key in linear if not key.startswith(("aux", "AuxLogits"))]
    found = net.get_submodule(last[-1]) if last else None
    if not isinstance(found, nn.Linear) or found.out_features != 1000:
        raise UsageError(f"{name} has no linear layer at its end: take another network")
    parent, _, attribute = last[-1].rpartition(".")
    setattr(net.get_submodule(parent), attribute, nn.Identity())
    return found.in_features


def _preprocess(preset: Any) -> Preprocess:
    """Torchvision's preset for images, as it treats Pillow images."""
    return Preprocess(
        int(preset.resize_size[0]),
        (int(preset.crop_size[0]),) * 2,
        tuple(preset.mean),
        tuple(preset.std),
        interpolation=preset.interpolation.value,
        antialias=True,
        resampler="pillow",
    )
