"""Quantise a network to int8 on a sample of the user's own clips, and measure what that costs.

NNCF's post-training quantisation: the ranges of all maps are taken from calibration clips, weights
and maps become 8-bit integers, and biases compensate for the mean error of each layer. What remains
of that mean at the outputs is the largest part of the error, and is subtracted there. The error is
measured on clips of other videos, after subtracting the mean embedding of fp32 from both: the
embeddings of one network are nearly parallel, and a plain cosine would show nothing.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.openvino_engine import OpenVinoEngine, read_network
from vidfeat.encoders.int8.folder import (
    FACTS_FILE,
    FILES,
    FORMAT,
    FORMAT_VERSION,
    MODEL_FILE,
    QuantisedNet,
    is_net,
    read_net,
)
from vidfeat.encoders.load import load_choice
from vidfeat.encoders.openvino_package import import_openvino
from vidfeat.errors import ExportError, NothingDoneError, UsageError, VideoError
from vidfeat.store.differences import settings_that_differ
from vidfeat.system.callbacks import Report, no_report
from vidfeat.system.files import atomic_folder, write_json
from vidfeat.system.files import beside as beside_file
from vidfeat.system.lock import OutputLock
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.clips import Clip
from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.tasks import ClipSource, Started, VideoTask
from vidfeat.video.listing import ListedVideo
from vidfeat.video.preprocess import Preprocess

Clips = NDArray[np.uint8]  # (N, T, H, W, 3)


@dataclass(frozen=True)
class CalibrationOptions:
    """How many clips to quantise and to check with."""

    clips: int = 32
    """Clips to quantise on."""
    check_clips: int = 64
    """Clips to measure the error on; from other videos, if there are several."""
    seed: int = 0
    """Seed for the choice of videos."""

    def __post_init__(self) -> None:
        if self.clips < 1 or self.check_clips < 0:
            raise UsageError(
                f"cannot quantise on {self.clips} clips and check on {self.check_clips}: "
                "calibration_clips must be at least 1",
                field="calibration_clips",
            )


@dataclass(frozen=True)
class Agreement:
    """Deviation of vectors from fp32 for the same clips, with the mean of fp32 subtracted."""

    clips: int
    cosine_min: float
    cosine_mean: float
    same_nearest: float
    """Share of the clips whose nearest other clip is the same in both."""


@dataclass(frozen=True)
class CalibrationClips:
    """Clips to calibrate on, and clips held out to check with."""

    calibration: Clips
    held_out: Clips
    calibration_videos: int
    held_out_videos: int
    """0 if the held-out clips are other clips of the same video."""
    unreadable: int


def quantise(
    network: EncoderChoice,
    videos: Sequence[ListedVideo],
    target: Path,
    *,
    calibration: CalibrationOptions | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> QuantisedNet:
    """Quantise a network and write the folder that ``--weights`` takes.

    Args:
        network: the network and its settings, which are fixed in the folder.
        videos: the videos to take clips from.
        target: the folder.
        calibration: how many clips.
        overwrite: replace an existing folder.
        report: called with a line for each step.

    Raises:
        UsageError: the target exists, or a setting is invalid.
        MissingExtraError: OpenVINO or NNCF is not installed.
        NothingDoneError: none of the videos can be read.
        ExportError: OpenVINO or NNCF cannot take this network.
    """
    calibration = calibration or CalibrationOptions()
    report = report or no_report
    openvino = import_openvino("precision int8", "nncf")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: give overwrite=True, or another name")
    if target.exists() and not (target / FACTS_FILE).is_file():
        raise UsageError(f"{target} is not a quantised network, and is not replaced: name another")
    encoder = _in_fp32(network, "openvino")
    report(f"quantising {encoder.spec.model} to int8: reading clips of {len(videos)} videos")
    plan = encoder.plan
    if encoder.spec.modality == "frame":
        plan = replace(plan, frames=1, stride=1)
    sample = sample_clips(videos, plan, encoder.preprocess, calibration)
    report(f"  calibrating on {len(sample.calibration)} clips")
    exact_engine = encoder.engine
    assert isinstance(exact_engine, OpenVinoEngine)
    quantised = _quantised(exact_engine.model, sample.calibration)
    quantised = _without_shift(quantised, exact_engine, sample.calibration)
    with atomic_folder(target) as folder:
        openvino.save_model(quantised, folder / MODEL_FILE, compress_to_fp16=False)
        report(f"  measuring the error on {len(sample.held_out)} other clips")
        engine = read_network(folder / MODEL_FILE, "int8")
        error = None
        if len(sample.held_out) > 2:  # of two clips, each is the other's nearest
            error = agreement(exact_engine.embed(sample.held_out), engine.embed(sample.held_out))
        write_json(folder / FACTS_FILE, _facts(encoder, folder, sample, calibration, error))
    return read_net(target)


def _in_fp32(network: EncoderChoice, engine: str) -> Encoder:
    """The encoder in fp32 on the processor, with one crop, which stands for the others."""
    return load_choice(
        replace(
            network,
            engine=engine,
            precision="fp32",
            device="cpu",
            compiled=False,
            batch_size=None,
            crops=None,
            average_crops=False,
        )
    )


def beside(output: Path) -> Path:
    """Where the quantised network of a feature file is kept."""
    return beside_file(output, ".int8")


def quantised_beside(
    output: Path,
    network: EncoderChoice,
    videos: Sequence[ListedVideo],
    *,
    sharded: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> Path:
    """The quantised network of a feature file; made if it does not exist.

    Args:
        output: the feature file.
        network: the network and its settings.
        videos: the videos of the run; a sample of them is used.
        sharded: whether the run is one of several that will be merged.
        overwrite: make it again if it was made with other settings.
        report: called with a line for each step.

    Raises:
        UsageError: it was made with other settings, or every shard would make a different one.
        VidfeatError: as :func:`quantise` does.
    """
    folder = beside(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    import_openvino("precision int8")
    with OutputLock(output):
        if is_net(folder):
            net, encoder = read_net(folder), _in_fp32(network, "torch")
            if net.space_fingerprint == encoder.space_fingerprint:
                return folder
            if not overwrite:
                now = {name: value for name, value in encoder.describe().items() if name in _FIXED}
                before = {name: net.facts[name] for name in now}
                raise UsageError(
                    f"{folder} was quantised with other settings "
                    f"({'; '.join(settings_that_differ(before, now)) or 'in its architecture'}): "
                    "give overwrite=True to start again, or another output"
                )
        if sharded:
            raise UsageError(
                "shard=K/N with precision=int8 needs one quantised network for all shards: make "
                "it with vidfeat export MODEL --precision int8 --calibrate VIDEOS -o net/, and "
                "give weights=net/"
            )
        quantise(network, videos, folder, overwrite=overwrite, report=report)
    return folder


_FIXED = ("model", "weights", "weights_sha256", "layers", "pool", "preprocess", "plan")


def sample_clips(
    videos: Sequence[ListedVideo],
    plan: ClipPlan,
    preprocess: Preprocess,
    calibration: CalibrationOptions,
) -> CalibrationClips:
    """Clips of videos in a seeded order, evenly spread over each, and split by video.

    Raises:
        NothingDoneError: none of the videos can be read.
    """
    wanted = calibration.clips, calibration.check_clips
    each = max(1, math.ceil(sum(wanted) / max(1, len(videos))))
    plan = replace(plan, hop_frames=None, hop_seconds=None, clips=each, tail=None)
    order = list(videos)
    random.Random(calibration.seed).shuffle(order)
    groups: tuple[list[Clips], list[Clips]] = ([], [])
    taken = [0, 0]
    unreadable: list[str] = []
    for video in order:
        if all(len(group) >= want for group, want in zip(groups, wanted, strict=True)):
            break
        try:
            clips = _clips_of(video, plan, preprocess)
        except VideoError as error:
            unreadable.append(f"{video.identity}: {error}")
            continue
        if len(videos) == 1:
            groups[0].extend(clips[::2])
            groups[1].extend(clips[1::2])
            taken[0] += 1
            continue
        # Each video goes to the set that lacks more, calibration first: it must not stay empty.
        lacking = [
            1 - len(group) / max(1, want) for group, want in zip(groups, wanted, strict=True)
        ]
        place = 0 if lacking[0] >= lacking[1] else 1
        groups[place].extend(clips)
        taken[place] += 1
    if not groups[0]:
        raise NothingDoneError(
            f"none of the {len(videos)} videos to calibrate on can be read; the first: "
            f"{unreadable[0] if unreadable else 'none was given'}"
        )
    shape = groups[0][0].shape
    calibration_clips, held_out = (
        np.stack(group[:want]) if group[:want] else np.empty((0, *shape), np.uint8)
        for group, want in zip(groups, wanted, strict=True)
    )
    return CalibrationClips(calibration_clips, held_out, taken[0], taken[1], len(unreadable))


def _clips_of(video: ListedVideo, plan: ClipPlan, preprocess: Preprocess) -> list[Clips]:
    source = ClipSource(plan, preprocess)
    found: list[Clips] = []
    for _, event in decode_inline(source, [VideoTask.of(video)]):
        if isinstance(event, Started):
            found = []
        elif isinstance(event, Clip):
            found.append(event.frames_THWC.copy())
        elif event.error is not None:
            raise event.error
    return found


def agreement(exact: NDArray[np.float32], other: NDArray[np.float32]) -> Agreement:
    """Compare vectors (N, D) of N clips, at least three, with those of fp32."""
    mean = exact.mean(0, dtype=np.float64)
    a, b = (_unit(vectors - mean) for vectors in (exact, other))
    cosines = (a * b).sum(1)
    nearest = []
    for vectors in (a, b):
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        nearest.append(likeness.argmax(1))
    return Agreement(
        clips=len(exact),
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        same_nearest=float((nearest[0] == nearest[1]).mean()),
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-30)
    return unit


def _quantised(model: Any, clips: Clips) -> Any:
    import nncf

    nncf.set_log_level("ERROR")
    try:
        with _bars_on_stderr():
            return nncf.quantize(
                model,
                nncf.Dataset(list(clips), lambda clip: clip[None]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(clips),
            )
    except Exception as error:  # the classes depend on NNCF's version
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(f"NNCF cannot quantise this network: {line}") from error


def _without_shift(model: Any, exact: OpenVinoEngine, clips: Clips) -> Any:
    """The model with the mean difference from fp32 over the clips subtracted from its outputs."""
    openvino = import_openvino("precision int8")
    from openvino import opset13

    outputs = range(len(model.outputs))  # embedding, and scores if there are classes
    both = (engine.run(clips, *outputs) for engine in (exact, _int8(model)))
    results = []
    for result, wanted, found in zip(model.get_results(), *both, strict=True):
        shift = (wanted - found).mean(0, dtype=np.float64).astype(np.float32)
        corrected = opset13.add(result.input_value(0), opset13.constant(shift[None]))
        results.append(opset13.result(corrected))
    return openvino.Model(results, model.get_parameters(), "net")


def _int8(model: Any) -> OpenVinoEngine:
    return OpenVinoEngine(model, precision="int8")


@contextmanager
def _bars_on_stderr() -> Iterator[None]:
    """Send NNCF's progress bars to standard error: standard output is for results."""
    if sys.stderr.isatty():
        with redirect_stdout(sys.stderr):
            yield
        return
    with open(os.devnull, "w") as null, redirect_stdout(null):
        yield


def _facts(
    encoder: Encoder,
    folder: Path,
    sample: CalibrationClips,
    calibration: CalibrationOptions,
    error: Agreement | None,
) -> dict[str, Any]:
    from importlib.metadata import version

    from vidfeat.system.download import file_sha256
    from vidfeat.version import __version__

    described = encoder.describe()
    del described["engine"]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "vidfeat_version": __version__,
        "made_by": {name: version(name) for name in ("openvino", "nncf")},
        **described,
        "precision": "int8",
        "space_fingerprint": encoder.space_fingerprint,
        "class_names": encoder.class_names,
        "flops_per_input": encoder.spec.flops_per_input,
        "files": {name: file_sha256(folder / name) for name in FILES},
        "calibration": {
            "clips": len(sample.calibration),
            "videos": sample.calibration_videos,
            "videos_unreadable": sample.unreadable,
            "seed": calibration.seed,
        },
        "error": None if error is None else {**vars(error), "videos": sample.held_out_videos},
    }
