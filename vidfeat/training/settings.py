"""Settings of a recipe by name: changed, compared, and converted from and to plain dicts."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vidfeat.errors import UsageError
from vidfeat.training.config import Recipe


def change(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Apply ``section.key=value`` settings; values are written as in TOML; the last one counts.

    Text needs no quotes: ``model.name=r3d_18`` and ``train.milestones=[2,4]`` both work.

    Raises:
        UsageError: no such key, a value of another type, or one that the section refuses.
    """
    gathered: dict[str, dict[str, Any]] = {}  # settings of a section may need each other
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(
                f"a setting is section.key=value, such as train.lr=0.02, not {setting!r}"
            )
        section, _, name = key.partition(".")
        if section not in _sections(recipe):
            raise UsageError(f"{key}: no such setting{_near(key, recipe)}")
        config = getattr(recipe, section)
        values = gathered.setdefault(section, {})
        value = _literal(text)
        if name.startswith("layer_lr."):
            value = {**values.get("layer_lr", config.layer_lr), name.partition(".")[2]: value}
            name = "layer_lr"
        hints = get_type_hints(type(config))
        if name not in hints:
            raise UsageError(f"{key}: no such setting{_near(key, recipe)}")
        values[name] = _as_type(value, hints[name], key)
    changed = {
        section: replace(getattr(recipe, section), **values) for section, values in gathered.items()
    }
    return replace(recipe, **changed)


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Make a recipe from nested dicts, as read from TOML; missing values keep their defaults.

    Raises:
        UsageError: an unknown key, or a value of another type.
    """
    recipe = Recipe()
    for section, members in values.items():
        if section == "name":
            recipe = replace(recipe, name=str(members))
            continue
        if section == "about":
            recipe = replace(recipe, about=str(members))
            continue
        if section not in _sections(recipe) or not isinstance(members, Mapping):
            raise UsageError(f"{section}: no such section of a recipe{_near(section, recipe)}")
        config = getattr(recipe, section)
        hints = get_type_hints(type(config))
        checked = {}
        for name, value in members.items():
            if name not in hints:
                key = f"{section}.{name}"
                raise UsageError(f"{key}: no such setting{_near(key, recipe)}")
            checked[name] = _as_type(value, hints[name], f"{section}.{name}")
        recipe = replace(recipe, **{section: replace(config, **checked)})
    return recipe


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The inverse of :func:`recipe_from_dict`: plain dicts, lists and scalars."""
    values: dict[str, Any] = {"name": recipe.name, "about": recipe.about}
    for section in _sections(recipe):
        config = getattr(recipe, section)
        values[section] = {
            member.name: _plain(getattr(config, member.name)) for member in fields(config)
        }
    return values


def differences(first: Recipe, second: Recipe, *, but: Iterable[str] = ()) -> list[str]:
    """The settings in which two recipes differ, as ``section.key``, except those in ``but``."""
    a, b = recipe_to_dict(first), recipe_to_dict(second)
    skipped = set(but)
    found = []
    for section in _sections(first):
        for name, value in a[section].items():
            key = f"{section}.{name}"
            if section not in skipped and key not in skipped and b[section][name] != value:
                found.append(key)
    return found


def _literal(text: str) -> Any:
    """A value written as in TOML, or plain text."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _as_type(value: Any, hint: Any, key: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            known = ", ".join(map(str, get_args(hint)))
            raise UsageError(f"{key} is one of {known}, not {value!r}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_as_type(item, get_args(hint)[0], key) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(name): _as_type(item, float, f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if origin is None and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    name = str(hint).replace("typing.", "") if origin else hint.__name__
    raise UsageError(f"{key} is of type {name}; {value!r} is not")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _sections(recipe: Recipe) -> list[str]:
    return [member.name for member in fields(recipe) if is_dataclass(getattr(recipe, member.name))]


def _near(key: str, recipe: Recipe) -> str:
    known = [
        f"{section}.{member.name}"
        for section in _sections(recipe)
        for member in fields(getattr(recipe, section))
    ]
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    close += [name for name in known if name.endswith(f".{key}")]
    return (
        f"; did you mean {', '.join(dict.fromkeys(close))}?"
        if close
        else (f"; the sections are {', '.join(_sections(recipe))}")
    )
