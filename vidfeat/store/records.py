"""Records of a video, a failure and a run: the rows and the head of a feature file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidfeat.errors import DataError, FingerprintError, UsageError
from vidfeat.store.differences import settings_that_differ
from vidfeat.system.files import canonical_json

VectorType = Literal["float32", "float16"]
FRAME_COUNT_SOURCES = ("packets", "decoding")


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One row of ``/videos``, without its place in ``/vectors``.

    It names a video by its identity and holds just what the file format keeps; `VideoInfo`, which
    lies above this package, is all that a reader found in a file.
    """

    path: str
    """Identity of the video: see `vidfeat.system.identities`."""
    duration_seconds: float
    fps: float
    """Average frames per second."""
    width: int
    """Pixels, as shown (after rotation)."""
    height: int
    num_frames: int
    num_frames_source: str
    """How the frames were counted: ``packets`` or ``decoding``."""
    size_bytes: int
    mtime_ns: int

    def __post_init__(self) -> None:
        check_identity_text(self.path)
        if self.num_frames_source not in FRAME_COUNT_SOURCES:
            raise DataError(
                f"{self.path}: num_frames_source is {self.num_frames_source!r}, expected one of "
                f"{', '.join(FRAME_COUNT_SOURCES)}"
            )

    def same_file(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether a file of this size and modification time is the one that was read."""
        return self.size_bytes == size_bytes and self.mtime_ns == mtime_ns


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """One row of ``/errors``: a video that could not be read, or not to its end."""

    path: str
    message: str
    """One line; line breaks and invalid Unicode are replaced on creation."""
    kind: str
    """See `vidfeat.errors.VideoErrorKind`."""
    size_bytes: int
    mtime_ns: int
    tries: int = 1
    """How often this state of the file was tried."""

    def __post_init__(self) -> None:
        check_identity_text(self.path)
        text = self.message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        object.__setattr__(self, "message", " ".join(text.replace("\x00", " ").split()))
        if self.tries < 1:
            raise DataError(f"{self.path}: a failure after {self.tries} tries, expected at least 1")

    def same_file(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether a file of this size and modification time is the one that was tried."""
        return self.size_bytes == size_bytes and self.mtime_ns == mtime_ns


def check_identity_text(path: str) -> None:
    """Refuse a path that is not an identity.

    Raises:
        DataError: empty, or with characters that a feature file cannot hold.
    """
    if not path:
        raise DataError("the path of a video is empty, expected its path relative to the root")
    try:
        path.encode("utf-8")
        held = "\x00" not in path
    except UnicodeEncodeError:
        held = False
    if not held:
        raise DataError(
            f"{path!a} is not the identity of a video: make one with path_to_identity of "
            "vidfeat.system.identities"
        )


@dataclass(frozen=True)
class RunIdentity:
    """The encoder and the form of the vectors: what all rows of one feature file share."""

    encoder: Mapping[str, Any]
    """For JSON: model, weights, plan, preprocessing, layer, pooling, precision, engine."""
    space_fingerprint: str
    run_fingerprint: str
    dimension: int
    dtype: VectorType = "float32"
    source_root: str = ""
    """Absolute path of the root, escaped as an identity is; a hint, which is not compared."""
    shards: str = ""
    """Which shards of a division of the videos, as ``2/4``; empty for all videos."""
    division: str = ""
    """Digest of the whole list that the shards divide; empty if unknown."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UsageError(f"dtype must be float32 or float16, not {self.dtype!r}", field="dtype")
        if self.dimension < 1:
            raise DataError(f"vectors of {self.dimension} dimensions, expected at least 1")
        canonical_json(self.encoder)  # raises now, not after hours of work

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {
            "encoder": dict(self.encoder),
            "space_fingerprint": self.space_fingerprint,
            "run_fingerprint": self.run_fingerprint,
            "dimension": self.dimension,
            "dtype": self.dtype,
            "source_root": self.source_root,
            "shards": self.shards,
            "division": self.division,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunIdentity:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: not the values of an identity.
        """
        return cls(
            encoder=dict(values["encoder"]),
            space_fingerprint=str(values["space_fingerprint"]),
            run_fingerprint=str(values["run_fingerprint"]),
            dimension=int(values["dimension"]),
            dtype=values["dtype"],
            source_root=str(values["source_root"]),
            shards=str(values.get("shards", "")),
            division=str(values.get("division", "")),
        )


def require_same_run(
    found: RunIdentity, wanted: RunIdentity, where: str, remedy: str | None = None
) -> None:
    """Refuse to put vectors of two runs into one file.

    Args:
        found: what made ``where``.
        wanted: what is to be written.
        where: the file or folder that ``found`` was read from.
        remedy: what to do about it.

    Raises:
        FingerprintError: names every setting that differs.
    """
    same = (
        found.run_fingerprint == wanted.run_fingerprint
        and found.space_fingerprint == wanted.space_fingerprint
        and found.dtype == wanted.dtype
        and found.dimension == wanted.dimension
    )
    if same:
        return
    remedy = remedy or "give overwrite=True to start again, or another output"
    raise FingerprintError(
        f"{where} was made with other settings: {_difference(found, wanted)}; {remedy}"
    )


def _difference(found: RunIdentity, wanted: RunIdentity) -> str:
    told = settings_that_differ(
        {**found.encoder, "dtype": found.dtype, "dimension": found.dimension},
        {**wanted.encoder, "dtype": wanted.dtype, "dimension": wanted.dimension},
    )
    if not told:  # the same settings, but different tensors
        told = [f"run_fingerprint was {found.run_fingerprint}, is {wanted.run_fingerprint}"]
    more = f" and {len(told) - 6} more" if len(told) > 6 else ""
    return "; ".join(told[:6]) + more
