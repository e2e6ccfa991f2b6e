"""Counts the inputs that runs have encoded, in a file next to their parts."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_JOURNAL = "encoded.log"


def journal_name(name: str | None) -> str:
    """Name of the file: concurrent runs on several machines must not share one."""
    return _JOURNAL if name is None else f"{socket.gethostname()}-{os.getpid()}-{_JOURNAL}"


def inputs_in_journal(folder: Path) -> int:
    """How many inputs all runs on this folder have encoded, including those lost to kills."""
    lines: list[bytes] = []
    for file in folder.glob(f"*{_JOURNAL}"):
        with suppress(OSError):
            lines += file.read_bytes().split()
    return sum(int(line) for line in lines if line.isdigit())
