"""Where networks come from: a module for each source, found by the prefix of the model's name.

How to add one: see ``vidfeat/encoders/spec.py``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vidfeat.errors import UsageError

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice
    from vidfeat.encoders.spec import LoadedNetwork

SOURCES: dict[str, str] = {}
"""Prefix of a model's name -> module of this package with ``load(choice) -> LoadedNetwork``."""
_OWN = "registry"


def load_network(choice: EncoderChoice) -> LoadedNetwork:
    """The network that a choice names, with its tensors, from the source that has it.

    Raises:
        UsageError: no such source, or no such network.
        MissingExtraError: a package of the source is not installed.
        WeightsError: weights that are not there, or of another network.
    """
    prefix, colon, _ = (choice.model or "").partition(":")
    name = SOURCES.get(prefix) if colon else _OWN
    if name is None:
        known = ", ".join(f"{source}:" for source in SOURCES) or "none"
        raise UsageError(
            f"no source {prefix!r} for {choice.model}: networks come from {known}, or give a name "
            "that 'vidfeat models' lists",
            field="model",
        )
    module = import_module(f"vidfeat.encoders.sources.{name}")
    loaded: LoadedNetwork = module.load(choice)
    return loaded
