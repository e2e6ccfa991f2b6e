"""The registry of published weights, and the network that comes with vidfeat."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from vidfeat.errors import UsageError
from vidfeat.pretrained.entry import Accuracy, WeightsEntry
from vidfeat.pretrained.registry import ENTRIES

__all__ = [
    "ENTRIES",
    "Accuracy",
    "WeightsEntry",
    "default_entry",
    "entries_of",
    "find_entry",
    "read_class_list",
]


def entries_of(model: str) -> tuple[WeightsEntry, ...]:
    """The weights of one network, its default first.

    A max-pool has no weights: the ``_pool`` form of a network shares the other form's files.
    """
    plain = model.removesuffix("_pool")
    return tuple(entry for entry in ENTRIES if entry.model == plain)


def default_entry(model: str) -> WeightsEntry | None:
    """The weights to use if none are named; None if none were ever published."""
    return next(iter(entries_of(model)), None)


def find_entry(name: str, model: str | None = None) -> WeightsEntry:
    """Find an entry by name: of one network, or of all if the name is ``model/name`` or unique.

    Raises:
        UsageError: no such entry, or several; the message lists what there is.
    """
    among = ENTRIES if model is None else entries_of(model)
    found = [entry for entry in among if name in (entry.name, entry.full_name)]
    if len(found) == 1:
        return found[0]
    if found:
        options = ", ".join(entry.full_name for entry in found)
        raise UsageError(f"several networks have weights {name!r}: name one of {options}")
    if model is not None:
        others = [entry.model for entry in ENTRIES if name in (entry.name, entry.full_name)]
        hint = f"they are of {', '.join(others)}: give model={others[0]}; " if others else ""
        known = ", ".join(entry.name for entry in among) or "none"
        raise UsageError(
            f"no weights {name!r} for {model}: {hint}published for it: {known}; "
            "or give a file, a training run's folder, or random"
        )
    full_names = [entry.full_name for entry in ENTRIES]
    near = difflib.get_close_matches(name, full_names, n=3)
    listed = ", ".join(near or full_names)
    raise UsageError(f"no weights {name!r}: {'near it are' if near else 'there are'} {listed}")


def read_class_list(name: str) -> tuple[str, ...]:
    """The class names of a list that came with published weights: activitynet200, thumos14."""
    file = Path(__file__).with_name("class_lists.json")
    return tuple(json.loads(file.read_text(encoding="utf-8"))[name])
