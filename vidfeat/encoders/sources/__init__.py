"""Where networks come from: a module for each source, found by the prefix of the model's name.

How to add one: see ``vidfeat/encoders/spec.py``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.encoders.sources.recommended import resolved
from vidfeat.errors import UsageError

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice
    from vidfeat.encoders.spec import LoadedNetwork

SOURCES: dict[str, str] = {
    "hf": "hf",
    "open_clip": "open_clip_networks",
    "timm": "timm_networks",
    "torchvision": "torchvision_networks",
    "module": "own_module",
}
"""Prefix of a model's name -> module of this package with ``load(choice) -> LoadedNetwork``."""
_REGISTRY = "registry"
_OWN_FILE = "own_file"
_FILE = re.compile(r".+\.py:[A-Za-z_]\w*", re.DOTALL)


def is_file(model: str) -> bool:
    """Whether a model's name is ``FILE.py:FUNCTION``."""
    return _FILE.fullmatch(model) is not None


def stored_name(model: str | None) -> str | None:
    """A model's name as feature files store it: short names in full, paths absolute."""
    model = resolved(model)
    if model is None:
        return None
    if is_file(model):
        file, _, function = model.rpartition(":")
        return f"{Path(file).expanduser().resolve()}:{function}"
    prefix, colon, name = model.partition(":")
    if colon and prefix in SOURCES and name and Path(name).expanduser().is_dir():
        return f"{prefix}:{Path(name).expanduser().resolve()}"
    return model


def load_network(choice: EncoderChoice) -> LoadedNetwork:
    """The network that a choice names, with its tensors, from the source that has it.

    Raises:
        UsageError: no such source, or no such network.
        MissingExtraError: a package of the source is not installed.
        WeightsError: weights that do not exist, or belong to another network.
    """
    choice = replace(choice, model=resolved(choice.model))
    if (choice.model or "").endswith(".py"):
        raise UsageError(
            f"{choice.model} is a file: say which of its functions builds the network, such as "
            f"{choice.model}:build",
            field="model",
        )
    prefix, colon, _ = (choice.model or "").partition(":")
    name = SOURCES.get(prefix) if colon else _REGISTRY
    if is_file(choice.model or ""):
        name = _OWN_FILE
    if name is None:
        known = ", ".join(f"{source}:" for source in SOURCES if source != "module")
        raise UsageError(
            f"no source {prefix!r} for {choice.model}: networks come from {known}, FILE.py:build, "
            "or give a name that 'vidfeat models' lists",
            field="model",
        )
    module = import_module(f"vidfeat.encoders.sources.{name}")
    loaded: LoadedNetwork = module.load(choice)
    return loaded
