"""Arguments of the library by the flags of the command line, for messages."""

from __future__ import annotations

import re

import click

# Arguments whose flag is not their own name with hyphens.
FLAGS = {
    "frames": "--clip-frames",
    "stride": "--frame-stride",
    "layers": "--layer",
    "lists": "--splits",
    "plan": "--clip-frames",
    "skip_bad_rows": "--skip-bad-rows",
}


def flag_of(field: str, command: click.Command | None = None) -> str:
    """The flag of an argument: as the command declares it, else by its name."""
    for parameter in command.params if command is not None else ():
        if parameter.name == field and parameter.opts:
            return max(parameter.opts, key=len)
    return FLAGS.get(field, "--" + field.replace("_", "-"))


def with_flags(message: str, fields: tuple[str, ...], command: click.Command | None = None) -> str:
    """A message with each of its arguments shown as a flag."""
    for field in fields:
        flag = flag_of(field, command)
        message, count = re.subn(rf"(?<![\w/.-]){re.escape(field)}(?![\w/]|\.\w)", flag, message)
        if not count:
            message = f"{flag}: {message}"
    return message
