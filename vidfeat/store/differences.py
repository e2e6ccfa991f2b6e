"""Which settings of two encoders differ, for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidfeat.system.files import canonical_json

LONGEST_VALUE = 60  # characters shown of a value


def settings_that_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One text per differing setting, nested ones by dotted names: ``plan.frames was 16, is 8``."""
    old, new = flat_settings(before), flat_settings(now)
    return [
        f"{name} was {_shown(old, name)}, is {_shown(new, name)}"
        for name in dict.fromkeys([*old, *new])
        if (name in old) != (name in new) or old.get(name) != new.get(name)
    ]


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted names: ``{"plan": {"frames": 16}}`` is ``{"plan.frames": 16}``.

    The parts of a list of settings (``joined``) are numbered: ``joined.0.model``.
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            value = {str(number): part for number, part in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": part for inner, part in flat_settings(value).items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def _shown(settings: Mapping[str, Any], name: str) -> str:
    text = canonical_json(settings[name]) if name in settings else "not set"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
