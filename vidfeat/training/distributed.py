"""The processes of a run: a single one, or those that torchrun started.

Counters are exchanged over gloo on the CPU, whatever carries the gradients, so that no step waits
for the GPU because of them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from vidfeat.errors import UsageError
from vidfeat.system.wording import counted

_TIMEOUT = timedelta(hours=2)  # a first scan of a large dataset keeps the others waiting


@dataclass(frozen=True)
class World:
    """One process among those of a run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    restarts: int = 0
    """How often torchrun has restarted the processes."""
    control: Any = None
    """Process group for numbers and objects; None for a single process."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, the same bits on each."""
        if self.control is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        result: list[float] = tensor.tolist()
        return result

    def broadcast(self, value: Any) -> Any:
        """The first process's value, on all of them."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes by rank, on all of them."""
        if self.control is None:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value, group=self.control)
        return box

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.control is not None:
            dist.barrier(group=self.control)


@contextmanager
def join(device: str = "auto") -> Iterator[World]:
    """Join the processes that torchrun started, or run as a single one.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: a GPU for each process if there are enough.

    Raises:
        UsageError: CUDA is requested but not available, or has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    chosen = _device(device, local_rank, local_size)
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if size == 1 and "RANK" not in os.environ:
        yield World(device=chosen, local_size=1)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store, rank, size = next(iter(rendezvous("env://", timeout=_TIMEOUT)))
        fresh = dist.PrefixStore(agreed_name(store, rank, size), store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=_TIMEOUT)
    else:
        dist.init_process_group(backend, timeout=_TIMEOUT)
    control = dist.new_group(backend="gloo", timeout=_TIMEOUT)
    try:
        yield World(dist.get_rank(), size, local_rank, local_size, chosen, restarts, control)
    finally:
        dist.destroy_process_group()


class KeyStore(Protocol):
    """The methods used of a torch.distributed store."""

    def set(self, key: str, value: str, /) -> None:
        """Write a value."""

    def get(self, key: str, /) -> bytes:
        """Read a value, waiting until it is set."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all keys are set."""


def agreed_name(store: KeyStore, rank: int, size: int, pause_seconds: float = 0.05) -> str:
    """A name that all processes of this start share, and that no earlier start used.

    torchrun keeps one store over all restarts, and with it the addresses of dead processes: a
    process that reads one before it is overwritten fails. The number of restarts cannot be the
    name, since each node counts separately. So each process writes a new random number; the first
    process publishes the list of all numbers until every process has found its own in it.

    Args:
        store: shared by all processes; it may hold entries of earlier starts.
        rank: of this process.
        size: number of processes.
        pause_seconds: between two reads of the store.
    """
    own = secrets.token_hex(8)
    store.set(f"vidfeat/hello/{rank}", own)

    def held(key: str) -> str:
        return str(store.get(key).decode()) if store.check([key]) else ""

    others = range(1, size)
    while True:
        if rank == 0:
            numbers = [own, *(held(f"vidfeat/hello/{other}") for other in others)]
            called = ",".join(numbers)
            if held("vidfeat/called") != called:
                store.set("vidfeat/called", called)
            agreed = all(held(f"vidfeat/heard/{other}") == called for other in others)
            if agreed:
                store.set(f"vidfeat/agreed/{called}", "")
        else:
            called = held("vidfeat/called")
            agreed = False
            if called.split(",")[rank : rank + 1] == [own]:
                store.set(f"vidfeat/heard/{rank}", called)
                agreed = store.check([f"vidfeat/agreed/{called}"])
        if agreed:
            return hashlib.sha256(called.encode()).hexdigest()
        time.sleep(pause_seconds)


def _device(name: str, local_rank: int, local_size: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device is auto, cpu or cuda, not {name!r}", field="device")
    gpus = torch.cuda.device_count() if name != "cpu" else 0
    if name == "cuda" and gpus < local_size:
        raise UsageError(
            f"device cuda: {counted(gpus, 'GPU')} for "
            f"{counted(local_size, 'process', 'processes')} on this machine; start at most one "
            "process per GPU, or use device cpu",
            field="device",
        )
    return torch.device("cuda", local_rank) if gpus >= local_size else torch.device("cpu")


def cores_per_process(local_size: int) -> int:
    """CPU cores that this process may use, shared with the others of its machine."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no such call on this system
        cores = os.cpu_count() or 1
    return max(1, cores // local_size)
