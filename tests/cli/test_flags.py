"""Arguments in messages become flags."""

from __future__ import annotations

import pickle

import click
import pytest

from vidfeat.cli import cli
from vidfeat.cli.flags import with_flags
from vidfeat.errors import MissingExtraError, UsageError


@pytest.mark.parametrize(
    ("message", "fields", "expected"),
    [
        (
            "hop_seconds must be above 0, not -1",
            ("hop_seconds",),
            "--hop-seconds must be above 0, not -1",
        ),
        ("frames must be 1 or more", ("frames",), "--clip-frames must be 1 or more"),
        ("give hop_seconds or clips", ("hop_seconds", "clips"), "give --hop-seconds or --clips"),
        ("must be positive", ("workers",), "--workers: must be positive"),
        ("a path with_hop_seconds stays", (), "a path with_hop_seconds stays"),
    ],
)
def test_fields_become_flags(message: str, fields: tuple[str, ...], expected: str) -> None:
    assert with_flags(message, fields) == expected


def test_a_command_knows_its_own_flags() -> None:
    import click

    command = cli.get_command(click.Context(cli), "extract")
    assert with_flags("not here", ("compiled",), command) == "--compile: not here"


@pytest.mark.parametrize(
    "error", [UsageError("x must be 1", field="x"), MissingExtraError("ray", "ray", "a cluster")]
)
def test_errors_survive_pickling(error: UsageError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.fields == error.fields


@pytest.mark.parametrize("name", sorted(cli.list_commands(click.Context(cli))))
def test_no_option_is_declared_twice(name: str) -> None:
    """click warns of it at every call, and the last declaration counts."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = [option for parameter in command.params for option in parameter.opts]
    assert sorted(set(options)) == sorted(options)
