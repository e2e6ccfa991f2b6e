"""One process per GPU: replicas of a network, each on its own device.

A replica is ``python -m vidfeat.encoders.engines.replica``, which builds the encoder again on its
device and answers batch by batch; clips travel through shared memory. A process has one interpreter
lock: two GPUs fed from one process would wait for each other.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.engines.base import Engine
from vidfeat.errors import ReplicaError, UsageError
from vidfeat.system.children import child_environment, python_module
from vidfeat.system.processes import nameless_memory


class Replica(Engine):
    """A network in a separate process.

    Args:
        recipe: the encoder to load.
        device: where to run it.
        batch_shape: (B, T, H, W, 3) of the largest batch.
        dimension: D of the vectors.
        like: an engine of the same network in this process; a replica runs as it would.
    """

    name = "torch"

    def __init__(
        self,
        recipe: EncoderChoice,
        device: str,
        batch_shape: tuple[int, int, int, int, int],
        dimension: int,
        like: Engine,
    ) -> None:
        self.device = device
        self.device_type = like.device_type
        self.execution = like.execution
        self._flops_per_second = like.flops_per_second
        self.precision_error: float | None = None
        self.largest_batch: int | None = None
        self._dimension = dimension
        size = int(np.prod(batch_shape))
        memory_fd = nameless_memory(size)
        ours, theirs = Pipe()
        try:
            self._memory = mmap.mmap(memory_fd, size)
            view: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
            self._slot = view.reshape(batch_shape)
            self._process = subprocess.Popen(
                [
                    *python_module("vidfeat.encoders.engines.replica"),
                    *map(str, (theirs.fileno(), memory_fd, size)),
                ],
                pass_fds=(theirs.fileno(), memory_fd),
                stdin=subprocess.DEVNULL,
                env=child_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(memory_fd)
            theirs.close()
        self._channel: Connection = ours
        self._ready = False
        self._send(("load", replace(recipe, device=device), batch_shape, like.execution))

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of its device."""
        return self._flops_per_second

    def wait(self) -> None:
        """Wait until the network is on its device.

        Raises:
            VidfeatError: raised while loading it there.
        """
        if not self._ready:
            self._receive()
            self._ready = True

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3)."""
        self.wait()
        count = len(clips_NTHWC)
        self._slot[:count] = clips_NTHWC
        self._send(("embed", count))
        data, *facts = self._receive()
        self.precision_error, self.largest_batch, self.batches_recomputed = facts
        vectors: NDArray[np.float32] = np.frombuffer(data, np.float32)
        return vectors.reshape(count, self._dimension)

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:  # noqa: ARG002
        """Not supported: replicas only embed."""
        raise UsageError("several devices are for extract only", field="devices")

    def close(self) -> None:
        """End the process."""
        self._channel.close()
        with suppress(OSError):
            self._process.kill()
        self._process.wait()

    def _send(self, message: tuple[Any, ...]) -> None:
        with suppress(OSError):  # _receive reports why
            self._channel.send(message)

    def _receive(self) -> Any:
        try:
            kind, value = self._channel.recv()
        except (EOFError, OSError):
            status = self._process.wait()
            raise ReplicaError(
                f"the process of device {self.device} ended with status {status}: what is finished "
                "is kept; run the same command again, without that device if need be"
            ) from None
        if kind == "error":
            raise value
        return value


def parse_devices(text: str, device: str) -> list[str]:
    """Devices from ``0,1`` (of the kind that ``--device`` names) or ``cuda:0,cuda:1``.

    A device may be repeated: it then has two processes, which take turns.

    Raises:
        UsageError: no device is given.
    """
    kind = "cuda" if device == "auto" else device.split(":")[0]
    names = [part.strip() for part in text.split(",") if part.strip()]
    devices = [f"{kind}:{name}" if name.isdigit() else name for name in names]
    if not devices:
        raise UsageError(
            f"devices must be numbers or names such as 0,1 or cuda:0,cuda:1 (0,0: two processes on "
            f"one), not "
            f"{text!r}"
        )
    return devices


def start_replicas(
    recipe: EncoderChoice,
    devices: Sequence[str],
    batch_shape: tuple[int, int, int, int, int],
    dimension: int,
    like: Engine,
) -> list[Replica]:
    """Start a replica on each device, and wait until all are loaded.

    Raises:
        VidfeatError: a replica could not be loaded; all are ended.
    """
    replicas = [Replica(recipe, device, batch_shape, dimension, like) for device in devices]
    try:
        for replica in replicas:
            replica.wait()
    except BaseException:
        for replica in replicas:
            replica.close()
        raise
    return replicas
