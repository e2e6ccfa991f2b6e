"""Every error that vidfeat raises on purpose, in one tree.

::

    VidfeatError
    ├── UsageError            an argument is invalid
    │   └── MissingExtraError a package of an optional extra is not installed
    ├── VideoError            one video cannot be read (kind says why)
    ├── WeightsError          weights that are unknown, missing, or belong to another network
    │   ├── StateDictError    the tensors do not fit the network
    │   └── DownloadError     a file could not be fetched, or its hash is wrong
    ├── StoreError            a feature file, index or head that cannot be used
    │   ├── FingerprintError  made by another encoder
    │   └── LockedError       another run is writing it
    ├── DataError             labels or a dataset that do not match their description
    ├── TrainingError         a training run that cannot continue
    ├── ClusterError          the machines of a cluster cannot do the work
    ├── StoppedError          a run that was asked to stop; what was finished is kept
    ├── ExportError           an exported network that does not compute what torch computes
    ├── PrecisionError        a reduced precision gives wrong numbers on this device
    ├── ReplicaError          the process of one of several devices ended
    └── NothingDoneError      a run that ended without a single result

A message says what was given, what was expected and what to try, in one line: the command line
prints it as it is.
"""

from __future__ import annotations

from typing import Literal

VideoErrorKind = Literal[
    "unreadable",  # cannot be opened: no such file, no permission, not a regular file
    "not_video",  # opened, but not a container with moving pictures
    "no_frames",  # a video stream from which no frame can be decoded
    "damaged",  # broke midway; the clips before the break are kept
    "too_short",  # shorter than a clip, which the plan treats as an error
    "segment",  # some of its segments lie past its end; the clips of the others are kept
    "limit",  # larger than the limits on pixels, frames or seconds
    "timeout",  # the decode process made no progress for too long
    "crashed",  # the decode process died
    "memory",  # the decode process ran out of memory
    "gone",  # disappeared during the run
    "network",  # the server did not deliver the file in several attempts
    "not_finite",  # the network gave NaN or infinity; the clips with other vectors are kept
]


class VidfeatError(Exception):
    """Base of every error that vidfeat raises on purpose.

    A message names arguments as Python does (``hop_seconds``), never as command-line flags. The
    command line shows each of ``fields`` as its flag instead.

    Args:
        message: what was given, what was expected, what to try.
        field: the argument, or arguments, that the message names, spelled as in it.

    Attributes:
        fields: the arguments that the message names.
    """

    def __init__(self, message: str = "", *, field: str | tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fields = (field,) if isinstance(field, str) else tuple(field)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_error, (type(self), self.args, self.__dict__))


def _rebuild_error(
    kind: type[VidfeatError], args: tuple[object, ...], state: dict[str, object]
) -> VidfeatError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(VidfeatError):
    """An argument is invalid."""


class MissingExtraError(UsageError):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, package: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}: install it with pip install 'vidfeat[{extra}]'"
        )
        self.extra = extra


class VideoError(VidfeatError):
    """One video cannot be read, or not to its end.

    Attributes:
        kind: the class of failure, as written to ``/errors/kind``.
        path: the file, as it was given.
        at_seconds: where a damaged video broke; None for other kinds.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: VideoErrorKind,
        path: str = "",
        at_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: VideoErrorKind = kind
        self.path = path
        self.at_seconds = at_seconds

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_video_error, (str(self), self.kind, self.path, self.at_seconds))


def _rebuild_video_error(
    message: str, kind: VideoErrorKind, path: str, at_seconds: float | None
) -> VideoError:
    return VideoError(message, kind=kind, path=path, at_seconds=at_seconds)


class WeightsError(VidfeatError):
    """Weights that are unknown, missing, or belong to another network."""


class StateDictError(WeightsError):
    """The tensors of a weights file do not fit the network."""


class DownloadError(WeightsError):
    """A weights file could not be fetched, or has the wrong hash."""


class StoreError(VidfeatError):
    """A feature file, index or head that cannot be used."""


class FingerprintError(StoreError):
    """Vectors come from another encoder and cannot be compared with these."""


class LockedError(StoreError):
    """Another run is writing this output."""


class DataError(VidfeatError):
    """Labels or a dataset that do not match their description."""


class TrainingError(VidfeatError):
    """A training run that cannot continue; its last checkpoint remains."""


class ExportError(VidfeatError):
    """An exported network could not be written, or does not compute what torch computes."""


class StoppedError(VidfeatError):
    """A run was asked to stop, by Ctrl-C or a signal; what was finished is kept.

    Attributes:
        signal_number: the signal.
    """

    def __init__(self, message: str = "", signal_number: int = 2) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class ClusterError(VidfeatError):
    """The machines of a cluster cannot do the work; finished parts are kept."""


class PrecisionError(VidfeatError):
    """A reduced precision gives wrong numbers on this device, compared with fp32."""


class ReplicaError(VidfeatError):
    """The process of one of several devices ended; finished parts are kept."""


class NothingDoneError(VidfeatError):
    """A run that ended without a single result, because every input failed."""
