"""The main job on many machines: a driver that leases videos to actors of a Ray cluster.

The driver lists, compares with existing results, leases, and merges; actors (``actor.py``) decode,
embed and write parts, straight to the output's folder on a file system that all machines share.
Neither frames nor vectors pass through Ray: only leases, counts, failures, and once the bytes of
the weights file. Parts are named by their content, so a lease that is done twice, because its actor
was thought lost, does no harm.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.errors import ClusterError, MissingExtraError, UsageError
from vidfeat.extraction.cluster.actor import stop_file
from vidfeat.extraction.cluster.driver import Driver
from vidfeat.extraction.cluster.options import ClusterOptions
from vidfeat.extraction.steps import Run
from vidfeat.extraction.stopping import handlers_kept
from vidfeat.system.wording import counted

__all__ = ["ClusterOptions", "await_parts", "import_ray", "work_on_cluster"]

_SHOWN_SECONDS = 120.0  # for parts written elsewhere to show up in a cached listing
_LOCAL_MEMORY = 256 << 20


def import_ray(address: str = "auto") -> Any:
    """The ray package, which reads some settings when it is first imported.

    Args:
        address: as in `ClusterOptions`; a ``local`` cluster listens to this machine only.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":  # else Ray replaces 127.0.0.1 by the machine's address in the network
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "a Ray cluster") from None
    return ray


def work_on_cluster(
    encoder: Encoder, options: ClusterOptions | None = None
) -> Callable[[Run, Path, int], None]:
    """What :func:`vidfeat.extract` takes as ``work`` to run on the machines of a Ray cluster.

    ::

        vidfeat.extract(videos, output, encoder, work=work_on_cluster(encoder))

    The output and the videos must be on a file system that all machines see under one path. A
    feature file that was started on one machine can be resumed on many, and vice versa.
    ``ExtractOptions.workers`` then applies to each actor, and ``stop`` ends each actor at its next
    batch boundary.

    Args:
        encoder: the encoder that actors load; here it only describes theirs, so a CPU is enough.
        options: which machines.

    Raises:
        ClusterError: raised by ``extract``: no machine can do the work, or one lacks what it needs;
            finished parts stay.
        MissingExtraError: ray is not installed.
        UsageError: an encoder that runs on an engine other than torch.
    """
    if encoder.engine.name != "torch":
        raise UsageError(
            f"a Ray cluster runs networks with torch, not {encoder.engine.name}: for that, extract "
            "shard=K/N on every machine and merge the files"
        )
    options = options or ClusterOptions()
    return partial(_work, import_ray(options.address), options)


def _work(ray: Any, options: ClusterOptions, run: Run, folder: Path, first_number: int) -> None:
    with _connected(ray, options.address), _token(folder) as token:
        driver = Driver(ray, options, run, folder, first_number, token)
        try:
            driver.work()
        finally:
            driver.dismiss()
    await_parts(folder, driver.parts)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to the cluster; an existing one is used and left open."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        quiet |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        quiet |= {"object_store_memory": _LOCAL_MEMORY}
    try:
        with handlers_kept():
            ray.init(address=address, **quiet)
    except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no Ray cluster at address={address} ({str(error).partition('. ')[0]}): start one "
            "with 'ray start --head' here and 'ray start --address HOST:6379' on the other "
            "machines, or take address=local"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _token(folder: Path) -> Iterator[str]:
    """The name of a file that exists during the run, by which actors recognise the folder."""
    file = folder / f"run-{uuid.uuid4().hex}.token"
    file.touch()
    try:
        yield file.name
    finally:
        file.unlink(missing_ok=True)
        stop_file(folder, file.name).unlink(missing_ok=True)


def await_parts(folder: Path, files: Sequence[Path], seconds: float = _SHOWN_SECONDS) -> None:
    """Wait until a folder lists files that other machines have written to it.

    Raises:
        ClusterError: some are still missing after that time.
    """
    deadline = time.monotonic() + seconds
    while missing := {file.name for file in files} - set(os.listdir(folder)):  # noqa: PTH208
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{counted(len(missing), 'part')} written by other machines cannot be seen in "
                f"{folder}, such as {min(missing)}: run the same command again, and check that the "
                "path is the same folder on all machines"
            )
        time.sleep(0.5)
