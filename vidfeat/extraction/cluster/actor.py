"""The actor: an encoder and decode processes on one machine of a cluster, working on leases.

It reads the videos and writes the parts itself, through the shared file system; only counts and
failures are sent to the driver.
"""

from __future__ import annotations

import errno
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_choice
from vidfeat.errors import VidfeatError
from vidfeat.extraction.assembly import AssemblyStats
from vidfeat.extraction.cluster.lease import Lease
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.resume import WorkPlan
from vidfeat.extraction.steps import Run
from vidfeat.extraction.stopping import StopFile
from vidfeat.store.records import VideoFailure
from vidfeat.system.urls import is_url
from vidfeat.video.decode.decoder import Decoder
from vidfeat.video.decode.pool import PoolStats
from vidfeat.video.listing import ListedVideo

_UPDATE_SECONDS = 1.0
_VISIBLE_SECONDS = 15.0  # for files that another machine has just written to show up
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Errand:
    """What all actors of a run share."""

    recipe: EncoderChoice
    weights_name: str | None
    """Name of the file whose bytes are sent along; None if the recipe needs no file."""
    run_fingerprint: str
    options: ExtractOptions
    device: str
    threads: int | None
    """Threads for the network on a CPU."""
    folder: str
    """Folder of the parts, on the shared file system."""
    token: str
    """Name of a file that the driver has written there; it is gone when the run is over."""
    first_number: int
    sample: ListedVideo | None
    """A video that the driver sees, for actors to look for."""


@dataclass(frozen=True)
class Ready:
    """The actor can work."""

    node: str
    """Its machine, by the id that the cluster gives it."""


@dataclass(frozen=True)
class Problem:
    """The actor cannot work, nor could another one on its machine, or on any machine."""

    message: str
    errno: int | None = None


@dataclass(frozen=True)
class Update:
    """Progress of a lease."""

    stats: AssemblyStats
    frames: int


@dataclass(frozen=True)
class Done:
    """A lease is finished, and its parts are on the disk."""

    stats: AssemblyStats
    frames: int
    failures: tuple[VideoFailure, ...]
    decoding: PoolStats
    engine: Mapping[str, Any]
    stopped: bool = False
    """The run was asked to end before the lease was finished; finished work is on the disk."""


class LeaseWorker:
    """One of the actors of a run."""

    def __init__(self) -> None:
        self._errand: Errand | None = None
        self._encoder: Encoder | None = None
        self._pool: Decoder | None = None
        self._decoded = PoolStats()

    def prepare(self, errand: Errand, weights: NDArray[np.uint8] | None) -> Ready | Problem:
        """Load the network, and check that this machine has all that the driver has.

        Args:
            errand: the run.
            weights: the bytes of the weights file.
        """
        where = socket.gethostname()
        try:
            self._check_shared(errand)
            self._encoder = encoder_of(errand, weights)
        except (VidfeatError, OSError, ImportError, RuntimeError) as error:
            return Problem(f"node {where}: {error}")
        if self._encoder.run_fingerprint != errand.run_fingerprint:
            return Problem(
                f"node {where} makes a different encoder from the same settings: install the same "
                "versions of vidfeat and torch on all nodes"
            )
        self._errand = errand
        if errand.options.num_workers:
            run = Run(self._encoder, errand.options, WorkPlan(()))
            self._pool = run.decoder(errand.options.num_workers).__enter__()
        import ray

        return Ready(ray.get_runtime_context().get_node_id())

    def work(self, lease: Lease) -> Iterator[Update | Done | Problem]:
        """Embed the videos of a lease and write their parts; the last answer is not an `Update`."""
        assert self._errand is not None and self._encoder is not None
        errand = self._errand
        stop = StopFile(stop_file(Path(errand.folder), errand.token))
        run = Run(self._encoder, errand.options, WorkPlan(lease.todo), stop=stop)
        told = 0.0
        try:
            steps = run.steps(
                Path(errand.folder),
                lease.first_number(errand.first_number),
                name=lease.name,
                decoder=self._pool,
            )
            for stats in steps:
                if time.monotonic() - told > _UPDATE_SECONDS:
                    told = time.monotonic()
                    self._check_wanted()
                    yield Update(stats, run.meter.frames)
        except VidfeatError as error:
            yield Problem(f"node {socket.gethostname()}: {error}")
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise  # an error of this machine: another one may succeed
            yield Problem(str(error), error.errno)
            return
        yield Done(
            AssemblyStats(**run.report.assembly),
            run.meter.frames,
            tuple(run.report.failures),
            self._newly_decoded(run.report.decoding),
            run.report.engine,
            run.stopped,
        )

    def _check_shared(self, errand: Errand) -> None:
        """Check that the output and the videos are where the driver has them.

        Raises:
            VidfeatError: a folder is not shared; the message names it.
        """
        token = Path(errand.folder) / errand.token
        deadline = time.monotonic() + _VISIBLE_SECONDS
        while not token.exists():
            if time.monotonic() > deadline:
                raise VidfeatError(
                    f"does not see files written to {errand.folder}: a Ray cluster needs an "
                    "output on a file system that all nodes share under one path"
                )
            time.sleep(0.2)
        sample = errand.sample
        if sample is None:
            return
        if is_url(sample.path):
            return  # each node contacts the server itself
        path = Path(sample.path)
        if not path.exists() or path.stat().st_size != sample.size_bytes:
            raise VidfeatError(
                f"does not see the video {sample.identity} at {path.parent}: a Ray cluster needs "
                "videos on a file system that all nodes share under one path"
            )

    def _check_wanted(self) -> None:
        """Stop if the run has ended without this actor being notified."""
        assert self._errand is not None
        if not (Path(self._errand.folder) / self._errand.token).exists():
            raise FileNotFoundError(errno.ENOENT, "the run is over", self._errand.token)

    def _newly_decoded(self, stats: PoolStats) -> PoolStats:
        """Statistics of the decode processes since the last lease, which they outlive."""
        if self._pool is None:
            return stats
        before, self._decoded = self._decoded, replace(stats)
        since: dict[str, Any] = {
            name: value if isinstance(value, str) else value - getattr(before, name)
            for name, value in asdict(stats).items()
        }
        return PoolStats(**since)


def stop_file(folder: Path, token: str) -> Path:
    """File that the driver writes next to its token to end leases at their next batch boundary."""
    return folder / f"{token}.stop"


def encoder_of(errand: Errand, weights: NDArray[np.uint8] | None) -> Encoder:
    """The encoder of a run, with weights from the bytes that were sent along."""
    if errand.threads is not None:
        import torch

        torch.set_num_threads(errand.threads)
    recipe = replace(errand.recipe, device=errand.device)
    with tempfile.TemporaryDirectory(prefix="vidfeat-") as folder:
        if errand.weights_name is not None and weights is not None:
            file = Path(folder) / errand.weights_name
            file.write_bytes(weights.tobytes())
            recipe = replace(recipe, weights=str(file))
        return load_choice(recipe)
