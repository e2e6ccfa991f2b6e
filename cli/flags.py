"""Translate arguments of the library to flags of the command line, in messages."""

from __future__ import annotations

import re

import click

# Arguments that messages of every command may name, and their flags.
FLAGS = {
    "frames": "--clip-frames",
    "stride": "--frame-stride",
    "layers": "--layer",
    "lists": "--splits",
    "plan": "--clip-frames",
    "skip_bad_rows": "--skip-bad-rows",
    "overwrite": "--overwrite",
    "root": "--root",
    "workers": "--workers",
    "buffer_bytes": "--buffer-mb",
    "processes_per_card": "--nvdec-processes",
    "start_seconds": "--start",
    "end_seconds": "--end",
    "most_upload_bytes": "--max-upload",
    "most_cache_bytes": "--max-cache",
    "model": "--model",
    "weights": "--weights",
    "precision": "--precision",
    "device": "--device",
    "engine": "--engine",
    "address": "--address",
    "kind": "--kind",
    "compiled": "--compile",
}


def flag_of(field: str, command: click.Command | None = None) -> str:
    """The flag of an argument: as the command declares it, or else derived from its name."""
    for parameter in command.params if command is not None else ():
        if parameter.name == field and parameter.opts:
            return max(parameter.opts, key=len)
    return FLAGS.get(field, "--" + field.replace("_", "-"))


# ``overwrite=True``, ``device=cpu``, ``weights=FILE``: an argument and what to give it
_ASSIGNED = re.compile(r"(?<![\w./-])([a-z_]+)=(True\b|'[^']*'|[^\s,;)]*[^\s,;:.)])")


def with_flags(message: str, fields: tuple[str, ...], command: click.Command | None = None) -> str:
    """A message with each of its arguments shown as a flag.

    ``name=VALUE`` becomes ``--name VALUE`` wherever the command has such an argument. The bare
    names of ``fields`` become flags too.
    """
    known = {*FLAGS, *fields}
    if command is not None:
        known |= {parameter.name for parameter in command.params if parameter.name}

    def shown(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in known:
            return match.group()
        flag = flag_of(name, command)
        return flag if value == "True" else f"{flag} {value}"

    changed = _ASSIGNED.sub(shown, message)
    for field in fields:
        flag = flag_of(field, command)
        changed, count = re.subn(rf"(?<![\w/.-]){re.escape(field)}(?![\w/=]|\.\w)", flag, changed)
        if not count and flag not in changed:
            changed = f"{flag}: {changed}"
    return changed
