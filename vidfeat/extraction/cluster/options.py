"""Where the machines of a run are, and how many actors they have room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidfeat.errors import ClusterError, UsageError

_CPUS_PER_ACTOR = 8  # without GPUs: networks of this size gain little from more threads


@dataclass(frozen=True)
class ClusterOptions:
    """Where the machines are, and how actors are distributed over them."""

    address: str = "auto"
    """``auto`` is the cluster that this machine belongs to, ``local`` one on this machine only;
    otherwise host:port of a cluster's head."""
    actor_cpus: int | None = None
    """Processors per actor; None divides a machine's among its GPUs, or takes up to 8."""
    device: str = "auto"
    """``auto`` takes the GPUs if the cluster has any, or else processors."""
    start_seconds: float = 300.0
    """How long to wait while no actor can work."""

    def __post_init__(self) -> None:
        if self.actor_cpus is not None and self.actor_cpus < 1:
            raise UsageError(
                f"actor_cpus must be at least 1, not {self.actor_cpus}", field="actor_cpus"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"on a Ray cluster every actor has a GPU of its own: device=auto, device=cpu or "
                f"device=cuda, not {self.device!r}"
            )
        if self.address.startswith("ray://"):
            raise UsageError(
                "address=ray://... drives a cluster from outside: run this on one of its machines, "
                "with address=auto or HOST:PORT"
            )


@dataclass(frozen=True)
class ActorSize:
    """The resources of one actor."""

    cpus: int
    gpus: int

    def places(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many actors fit on machines with these resources."""
        room = 0
        for node in nodes:
            fit = int(node.get("CPU", 0)) // self.cpus
            room += min(fit, int(node.get("GPU", 0)) // self.gpus) if self.gpus else fit
        return room


def actor_size(nodes: Sequence[Mapping[str, float]], options: ClusterOptions) -> ActorSize:
    """One GPU with its share of the processors; without GPUs, a few processors.

    Raises:
        ClusterError: the cluster has no room for a single actor.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if options.device != "cpu" and with_gpus:
        share = min(int(node.get("CPU", 0)) // int(node["GPU"]) for node in with_gpus)
        size = ActorSize(options.actor_cpus or max(1, share), 1)
    elif options.device == "cuda":
        raise ClusterError("no node of the cluster has a GPU: take device=cpu")
    else:
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        size = ActorSize(options.actor_cpus or min([_CPUS_PER_ACTOR, *cpus]), 0)
    if not size.places(nodes):
        raise ClusterError(
            f"no node of the cluster has {size.cpus} CPUs{' and a GPU' if size.gpus else ''} for "
            "an actor: see 'ray status', or give fewer actor_cpus",
            field="actor_cpus",
        )
    return size
