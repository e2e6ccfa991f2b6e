"""Recipes as TOML: readable, with each setting's meaning above it, and read back exactly."""

from __future__ import annotations

import inspect
import re
import textwrap
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from vidfeat.errors import UsageError
from vidfeat.system.files import atomic_write
from vidfeat.training.config import Recipe
from vidfeat.training.settings import recipe_from_dict, recipe_to_dict

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def recipe_to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML text, each setting below its description."""
    values = recipe_to_dict(recipe)
    lines = [f"{name} = {_value(values[name])}" for name in ("name", "about")]
    for section, members in values.items():
        if not isinstance(members, dict):
            continue
        notes = _docstrings(type(getattr(recipe, section)))
        lines += ["", f"[{section}]"]
        if section == "model":
            lines += _parameter_note(recipe)
        for name, value in members.items():
            if name in notes:
                lines += textwrap.wrap(notes[name], 98, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"{name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _parameter_note(recipe: Recipe) -> list[str]:
    """A comment with the network's exact number of parameters; none for an unknown network."""
    from vidfeat.datasets import DATASETS
    from vidfeat.errors import VidfeatError
    from vidfeat.models import count_parameters

    model, classes = recipe.model, DATASETS.get(recipe.data.dataset) or 400
    try:
        count = count_parameters(
            model.name,
            classes,
            clip_frames=recipe.data.frames,
            in_channels=recipe.in_channels,
            midplanes=None if model.midplanes == "default" else model.midplanes,
        )
    except VidfeatError:
        return []
    return [f"# {count:,} parameters with {classes} classes"]


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as TOML, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(recipe_to_toml(recipe), encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        UsageError: no such file, not TOML, or settings that a recipe does not have.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a recipe as TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    return recipe_from_dict(values)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_key(name)} = {_value(item)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    # JSON's escapes are valid TOML; only DEL needs one more
    import json

    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.match(name) else _value(name)


def _docstrings(section: type[Any]) -> dict[str, str]:
    """Each field's docstring, read from the class's source."""
    try:
        source = inspect.getsource(section)
    except (OSError, TypeError):  # only bytecode, without its source
        return {}
    notes = {}
    for member in fields(section):
        found = re.search(
            rf'^    {member.name}: [^\n]*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL
        )
        if found:
            notes[member.name] = " ".join(found[1].replace("``", "").split())
    return notes
