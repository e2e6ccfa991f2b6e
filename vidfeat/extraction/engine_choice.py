"""The default engine for a job of many clips on a processor.

OpenVINO is faster there than a network's own forward pass in torch, with vectors that agree to
1e-5, after some seconds of building its graph. A job uses it if it is installed and there is enough
work, unless torch runs the network clip by clip, which is faster still. A run resumes with the
engine it started with: rows of two engines do not mix.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.base import PRECISIONS, Precision
from vidfeat.errors import ExportError, StoreError, UsageError
from vidfeat.store.parts import parts_folder, read_run
from vidfeat.store.reader import FeatureStore
from vidfeat.video.listing import Listing, total_bytes

# From this many seconds of work, roughly estimated, OpenVINO saves more than its graph costs. These
# are constants, not measurements, so that the same command takes the same engine each time.
PAYS_FROM_SECONDS = 60.0
_BYTES_PER_CLIP = 1 << 20  # more than half a second of video has, for a low count of clips
_MEASURED_ON = ("x86_64", "AMD64")


def described(output: str | os.PathLike[str]) -> dict[str, Any]:
    """The encoder of the existing parts, or else of the existing feature file."""
    folder = parts_folder(output)
    if folder.is_dir():
        try:
            return dict(read_run(folder).encoder)
        except StoreError:
            pass  # opening the parts will report the problem and the remedy
    if Path(output).is_file():
        with FeatureStore(output) as store:
            return dict(store.identity.encoder)
    return {}


def engine_begun(output: str | os.PathLike[str]) -> str | None:
    """The engine of the existing output; None if there is no output."""
    engine = described(output).get("engine")
    return None if engine is None else str(engine)


def precision_begun(
    output: str | os.PathLike[str], asked: Precision | None, *, on_gpu: bool
) -> tuple[Precision | None, Precision | None]:
    """The precision to compute with, and the one to record, for an output that may exist.

    An output keeps the precision it was started with. Until version 0.2 "fp32" on a GPU was TF32,
    and the file does not record its device: such an output resumes on a GPU only with ``tf32``.

    Args:
        output: the feature file.
        asked: what the caller asks for; None leaves it open.
        on_gpu: the network will run on a GPU.

    Raises:
        UsageError: how the output was made cannot be determined.
    """
    begun = described(output)
    precision = begun.get("precision")
    if precision not in PRECISIONS:
        return asked, None
    ambiguous = (
        on_gpu
        and precision == "fp32"
        and begun.get("engine") == "torch"
        and "device" not in begun  # recorded since 0.2
    )
    if not ambiguous:
        return asked or precision, None
    if asked == "tf32":
        return "tf32", "fp32"
    raise UsageError(
        f"{output} was started in fp32 by an earlier version, which used TF32 on a GPU: resume "
        "it with precision tf32 if it was started on a GPU, with device cpu if not; or start over "
        "with overwrite, or another output",
        field=("precision", "device", "overwrite"),
    )


def clips_at_least(listing: Listing, encoder: Encoder) -> int:
    """A low estimate of the clips of a job, from its list only."""
    videos = len(listing.videos)
    if encoder.plan.clips is not None:
        return videos * encoder.plan.clips
    return max(videos, total_bytes(listing.videos) // _BYTES_PER_CLIP)


def with_quickest_engine(
    encoder: Encoder, clips: int, output: str | os.PathLike[str] | None = None
) -> Encoder:
    """The encoder, or the same encoder on OpenVINO if that pays off.

    Args:
        encoder: as :func:`vidfeat.load_encoder` returns it, with the engine left open.
        clips: the number of clips, at least.
        output: resumes with the engine that it was started with; None starts again.
    """
    begun = None if output is None else engine_begun(output)
    if not _may_change(encoder) or begun == encoder.engine.name:
        return encoder
    seconds = clips * encoder.spec.flops_per_clip / encoder.flops_per_second
    pays = (
        seconds >= PAYS_FROM_SECONDS
        and platform.machine() in _MEASURED_ON
        and not encoder.engine.clip_by_clip
    )
    if begun is None and not pays:
        return encoder
    from vidfeat.encoders.load import load_choice

    assert encoder.recipe is not None
    try:
        return load_choice(replace(encoder.recipe, engine="openvino", device="cpu"))
    except ExportError:
        return encoder  # a network that OpenVINO cannot take, or computes differently


def resume_execution(encoder: Encoder, output: str | os.PathLike[str]) -> None:
    """Run a network on a GPU the way the output was started: the same kernels give the same bits.

    A new output takes a CUDA graph of cuDNN's kernels unless ``compiled`` asks for others. Compiled
    kernels ran r2plus1d_18 at 3,650 clips per second instead of 3,420 on an H100, and at 3,694
    instead of 3,751 on an H200, after 14 s of compiling: no job is long enough to choose them.

    Args:
        encoder: on a GPU; others are left unchanged.
        output: the feature file, which may not exist yet.
    """
    if encoder.engine.takes_planes:
        begun = described(output).get("execution")
        if begun in ("eager", "graph", "compile"):
            encoder.engine.execution = begun


def _may_change(encoder: Encoder) -> bool:
    """Whether OpenVINO is installed and could run the encoder."""
    return (
        encoder.engine.name == "torch"
        and encoder.engine.device_type == "cpu"
        and encoder.spec.precision == "fp32"
        and encoder.recipe is not None
        and not encoder.recipe.compiled
        and importlib.util.find_spec("openvino") is not None
    )
