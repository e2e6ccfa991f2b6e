"""Which settings of two encoders differ, for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidfeat.files import canonical_json

LONGEST_VALUE = 60  # characters shown of a value


def settings_that_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One text a differing setting, nested ones by dotted names: ``plan.frames was 16, is 8``."""
    old, new = _flat("", before), _flat("", now)
    return [
        f"{name} was {_shown(old, name)}, is {_shown(new, name)}"
        for name in dict.fromkeys([*old, *new])
        if (name in old) != (name in new) or old.get(name) != new.get(name)
    ]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(f"{prefix}.{name}" if prefix else str(name), part)
    return flat


def _shown(settings: Mapping[str, Any], name: str) -> str:
    text = canonical_json(settings[name]) if name in settings else "not set"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
