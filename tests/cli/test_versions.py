"""``vidfeat --version --verbose``: versions, and the check of the bundled network."""

import numpy as np
import pytest
from click.testing import CliRunner

from vidfeat.cli import cli
from vidfeat.encoders import self_check
from vidfeat.version import __version__


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "--verbose"]])
def test_versions(arguments):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0 and done.output.splitlines()[0] == f"vidfeat {__version__}"
    verbose = "--verbose" in arguments
    for name in ("torch ", "FFmpeg", "CUDA", "openvino", "vector as stored"):
        assert (name in done.output) == verbose, name


def test_another_vector_is_told(monkeypatch):
    vector = self_check.stored_vector()
    monkeypatch.setattr(self_check, "bundled_vector", lambda: np.roll(vector, 1))
    done = CliRunner().invoke(cli, ["--verbose", "--version"])
    assert done.exit_code == 1 and "DIFFERS" in done.output


def test_verbose_alone_is_refused():
    done = CliRunner().invoke(cli, ["--verbose", "models"])
    assert done.exit_code == 2 and "--verbose goes with --version" in done.output


def test_nothing_asked_shows_the_help():
    assert "Usage" in CliRunner().invoke(cli, []).output
