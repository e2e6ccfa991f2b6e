"""Which Python files this user has chosen to run as networks.

A feature file may name a ``FILE.py:build``. Reading one must not run code automatically: the file
is run again only if it is, byte for byte, one that this user has named on a command line before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from vidfeat.system.cache import writable_cache
from vidfeat.system.files import write_json

_MOST = 1000
_only_known: ContextVar[bool] = ContextVar("only_known", default=False)


def record_file() -> Path:
    """Where the hashes are kept: the user's cache folder."""
    return writable_cache() / "own_networks.json"


@contextmanager
def only_known_files() -> Iterator[None]:
    """Run files only if they have been run before, because no user has asked for them now."""
    token = _only_known.set(True)
    try:
        yield
    finally:
        _only_known.reset(token)


def may_run(code: bytes) -> bool:
    """Whether a file's content may be run."""
    return not _only_known.get() or hashlib.sha256(code).hexdigest() in _known()


def remember(code: bytes) -> None:
    """Record that a user has chosen to run this code; if that fails, the user is asked again."""
    known = _known()
    digest = hashlib.sha256(code).hexdigest()
    if digest in known:
        return
    path = record_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, [*known[1 - _MOST :], digest])
    except OSError:
        return


def _known() -> list[str]:
    try:
        values = json.loads(record_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
