"""The weights that a choice names for a network built by a library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidfeat.errors import WeightsError

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

Made = TypeVar("Made")

UNTRAINED = "the network is UNTRAINED (random weights): its vectors separate videos poorly"


def asks_for_random(choice: EncoderChoice) -> bool:
    """Whether random weights were requested, as a user or a feature file writes it."""
    weights = "" if choice.weights is None else str(choice.weights)
    return weights == "random" or weights.startswith("random (seed ")


def seeded(make: Callable[[], Made], seed: int) -> Made:
    """A network with random weights from a seed; the caller's generator is unchanged."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def weights_file(choice: EncoderChoice) -> Path | None:
    """The file given as weights, absolute; None if none was given.

    Raises:
        WeightsError: it does not exist, or its format cannot be read without running code.
    """
    if choice.weights is None or asks_for_random(choice):
        return None
    path = Path(choice.weights).expanduser().resolve()
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{choice.weights} is not a safetensors file: {choice.model} takes FILE.safetensors, "
            "or random, or its published weights if none are given"
        )
    if not path.is_file():
        raise WeightsError(f"there is no file {choice.weights}")
    return path


def load_strictly(module: Any, state_dict: dict[str, Any], name: str) -> None:
    """Load all tensors.

    Raises:
        WeightsError: tensors that are missing, left over, or of another shape.
    """
    try:
        module.load_state_dict(state_dict)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise WeightsError(
            f"{name} are the weights of another network: {lines[min(1, len(lines) - 1)][:200]}"
        ) from None
