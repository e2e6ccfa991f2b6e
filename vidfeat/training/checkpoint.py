"""Checkpoints: a new folder each time, complete or absent, tensors and readable JSON.

``checkpoints/step-00000500/`` holds ``model.safetensors``, ``optimizer.pt`` (plain tensors and
numbers, readable with ``weights_only=True``), ``average.safetensors`` if weights are averaged,
and ``state.json`` with the sizes and SHA-256 of the others. A folder is written under a temporary
name, flushed and renamed; it is read back before an older one is removed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidfeat.errors import StoreError
from vidfeat.system.files import TEMPORARY_MARK, atomic_folder

FORMAT = "vidfeat-checkpoint"
FORMAT_VERSION = 1
MODEL, OPTIMIZER, AVERAGE, STATE = (
    "model.safetensors",
    "optimizer.pt",
    "average.safetensors",
    "state.json",
)
_NAME = re.compile(r"step-(\d{8,})\Z")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps."""

    step: int
    """Optimiser steps done."""
    model: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    average: Mapping[str, Tensor] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the gradient scaler of fp16."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts for readers: epoch, batch, threads, best accuracy and the like."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``folder`` and read it back.

    Raises:
        OSError: it could not be written (a full disk, for example); the error names the
            checkpoint, and nothing is left behind.
        StoreError: the data read back differ from the data written.
    """
    from safetensors.torch import save

    target = folder / f"step-{checkpoint.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as temporary:
        # not by save_file, whose files only their owner can read
        (temporary / MODEL).write_bytes(save(_owned(checkpoint.model)))
        if checkpoint.average is not None:
            (temporary / AVERAGE).write_bytes(save(_owned(checkpoint.average)))
        _save(_on_cpu(checkpoint.optimizer), temporary / OPTIMIZER)
        state = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "step": checkpoint.step,
            "scaler": checkpoint.scaler,
            "facts": checkpoint.facts,
            "files": {
                file.name: {"size": file.stat().st_size, "sha256": _sha256(file)}
                for file in sorted(temporary.iterdir())
            },
        }
        text = json.dumps(state, indent=2, sort_keys=True, ensure_ascii=False)
        (temporary / STATE).write_text(text + "\n", encoding="utf-8")
    check(target)
    return target


def check(folder: Path) -> dict[str, Any]:
    """Verify sizes and hashes of a checkpoint's files; return its ``state.json``.

    Raises:
        StoreError: it is incomplete or damaged; the message says which file.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise StoreError(f"{folder} is not a checkpoint of vidfeat")
        if state["format_version"] > FORMAT_VERSION:
            raise StoreError(f"{folder} is of a newer version: upgrade vidfeat to read it")
        for name, expected in state["files"].items():
            file = folder / name
            if file.stat().st_size != expected["size"] or _sha256(file) != expected["sha256"]:
                raise StoreError(f"{file} is damaged: its size or hash is not that of {STATE}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} is not a complete checkpoint: {error}") from error
    assert isinstance(state, dict)
    return state


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        StoreError: it is incomplete or damaged.
    """
    from safetensors.torch import load_file

    state = check(folder)
    average = folder / AVERAGE
    return Checkpoint(
        step=int(state["step"]),
        model=load_file(folder / MODEL),
        optimizer=torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True),
        average=load_file(average) if average.is_file() else None,
        scaler=state["scaler"],
        facts=state["facts"],
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first; nothing is verified."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), path) for path in folder.iterdir() if (m := _NAME.match(path.name))]
    return [path for _, path in sorted(found)]


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint, and why newer ones were skipped."""
    passed_over = []
    for path in reversed(list_checkpoints(folder)):
        try:
            check(path)
        except StoreError as error:
            passed_over.append(str(error))
        else:
            return path, passed_over
    return None, passed_over


def purge(folder: Path, keep: int, spare: Sequence[int] = ()) -> list[Path]:
    """Remove all checkpoints but the newest ``keep`` and those of the steps ``spare``.

    Nothing is removed unless the newest one is complete. Leftovers of interrupted writes are
    removed too.

    Returns:
        The removed paths.
    """
    paths = list_checkpoints(folder)
    if not paths:
        return []
    check(paths[-1])
    spared = {f"step-{step:08d}" for step in spare}
    gone = [path for path in paths[:-keep] if path.name not in spared]
    gone += [path for path in folder.iterdir() if TEMPORARY_MARK in path.name]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone


def _save(value: Any, path: Path) -> None:
    """``torch.save``, but a failed write raises the ``OSError`` behind it."""
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            # torch writes from C++, which reports a full disk as "unexpected pos"
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU: safetensors takes no views of shared memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
