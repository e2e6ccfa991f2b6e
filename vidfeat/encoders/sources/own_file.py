"""A user's own network from a Python file: ``FILE.py:build``."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import nn

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.sources import code_trust
from vidfeat.encoders.sources.own_module import network_of_module
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

_FORM = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)", re.DOTALL)


def load(choice: EncoderChoice) -> LoadedNetwork:
    """Run the file and its function.

    Raises:
        UsageError: the file does not exist, fails, or returns no network.
        WeightsError: a feature file asks for it, and this user has never run it.
    """
    assert choice.model is not None
    path, code, function = _read(choice.model)
    named = f"{path}:{function}"
    if not code_trust.may_run(code):
        raise WeightsError(
            f"the vectors were made by {named}, which this user has not run in its present form: "
            f"look at it, then give model={named}"
        )
    made = _run(path, code, function)
    code_trust.remember(code)
    if isinstance(made, Encoder):
        if made.loaded is None:
            raise UsageError(f"{named} returns an encoder that was not made by Encoder.from_module")
        loaded = made.loaded
    elif not isinstance(made, nn.Module):
        raise UsageError(
            f"{named} returned {type(made).__name__}, expected a torch module or an Encoder",
            field="model",
        )
    else:
        loaded = network_of_module(
            made, preprocess=None, plan=None, name=path.stem, modality="clip"
        )
    return replace(
        loaded,
        model=named,
        weights=path.name,
        weights_given=None,
        notes=(f"runs the code of {path}", *loaded.notes),
    )


def _read(model: str) -> tuple[Path, bytes, str]:
    found = _FORM.fullmatch(model)
    if found is None:
        raise UsageError(f"expected FILE.py:FUNCTION, not {model!r}", field="model")
    path = Path(found["file"]).expanduser().resolve()
    try:
        return path, path.read_bytes(), found["function"]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="model") from None


def _run(path: Path, code: bytes, function: str) -> Any:
    """Run exactly the bytes that were checked, and return the function's result."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.path.insert(0, str(path.parent))  # files next to it can be imported, as in python FILE.py
    try:
        exec(compile(code, str(path), "exec"), module.__dict__)
        build = getattr(module, function, None)
        if not callable(build):
            raise UsageError(f"{path} has no function {function}")
        return build()
    except UsageError:
        raise
    except Exception as error:
        where = f"{path}:{function}"
        raise UsageError(
            f"{where} failed: {type(error).__name__}: {error}", field="model"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
