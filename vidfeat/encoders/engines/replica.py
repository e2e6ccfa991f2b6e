"""The child process of ``replicas.py``: one network on one device, batch by batch."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from vidfeat.errors import VidfeatError
from vidfeat.system.processes import die_with_parent


def serve(channel: Connection, memory: mmap.mmap) -> None:
    """Load the parent's network, then embed what it puts into the memory."""
    from vidfeat.encoders.load import load_choice

    _, recipe, batch_shape, execution = channel.recv()
    try:
        engine = load_choice(recipe).engine
    except VidfeatError as error:
        channel.send(("error", error))
        return
    engine.execution = execution
    channel.send(("ready", None))
    slot = np.frombuffer(memory, np.uint8).reshape(batch_shape)
    while True:
        _, count = channel.recv()
        try:
            vectors = engine.embed(slot[:count])
        except VidfeatError as error:
            channel.send(("error", error))
            return
        facts = engine.precision_error, engine.largest_batch, engine.batches_recomputed
        channel.send(("vectors", (vectors.tobytes(), *facts)))


def main(arguments: Sequence[str]) -> None:
    """Serve the parent; the arguments are the descriptors of channel and memory, and its size."""
    channel_fd, memory_fd, size = map(int, arguments)
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    memory = mmap.mmap(memory_fd, size)
    os.close(memory_fd)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(channel_fd), memory)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
