"""A batch in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from vidfeat.errors import VidfeatError

_Part = TypeVar("_Part")


def run_in_parts(
    count: int, size: int, attempt: Callable[[slice], _Part | None], device: torch.device
) -> tuple[list[_Part], int]:
    """Run a batch in parts, half as large whenever one does not fit; the order is kept.

    Args:
        count: clips of the batch.
        size: clips of the first part.
        attempt: runs some clips; None if memory is insufficient.
        device: for the message.

    Returns:
        The results, and the clips of a part that fitted: less than ``size`` if parts were halved.

    Raises:
        VidfeatError: not even one clip fits.
    """
    parts: list[_Part] = []
    done = 0
    while done < count:
        part = attempt(slice(done, done + size))
        if part is not None:
            parts.append(part)
            done += size
        elif size > 1:
            size = (size + 1) // 2
        else:
            raise VidfeatError(
                f"one clip does not fit into the memory of {device}: take a smaller network, "
                "fewer frames per clip, precision=fp16, or device=cpu"
            )
    return parts, size
