"""What is in a feature file, as a dictionary for programs and in words for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidfeat.store.differences import flat_settings
from vidfeat.store.licence import with_remark
from vidfeat.store.parts import RUN_FILE, parts_folder, read_run
from vidfeat.store.parts_summary import scan_parts
from vidfeat.store.reader import FORMAT_VERSION, FeatureStore
from vidfeat.store.records import VideoFailure
from vidfeat.system.wording import counted, duration, size_text

_ERRORS_SHOWN = 5
_SETTINGS_SHOWN = 24


def describe_store(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a feature file holds, as JSON values. No vectors are read.

    Raises:
        StoreError: it is not a feature file.
    """
    with FeatureStore(path) as store:
        counts = store.videos["count"]
        seconds = store.videos["duration_seconds"]
        errors = store.errors
        sources = Counter(store.videos["num_frames_source"].tolist())
        return {
            "kind": "features",
            "path": str(store.path),
            "size_bytes": Path(path).stat().st_size,
            "format_version": FORMAT_VERSION,
            "vidfeat_version": store.vidfeat_version,
            "created": store.created,
            "videos": store.num_videos,
            "clips": store.num_clips,
            "dimension": store.dimension,
            "dtype": store.dtype,
            "duration_seconds": float(np.nansum(seconds)),
            "clips_per_video": _spread(counts),
            "videos_without_clips": int((counts == 0).sum()),
            "num_frames_sources": dict(sorted(sources.items())),
            "errors": len(errors),
            "errors_by_kind": dict(Counter(error.kind for error in errors).most_common()),
            "error_examples": _examples(errors),
            "encoder": store.encoder,
            "space_fingerprint": store.space_fingerprint,
            "run_fingerprint": store.run_fingerprint,
            "source_root": store.source_root,
            "shards": store.shards,
        }


def _joined_parts(parts: list[dict[str, Any]]) -> dict[str, str]:
    """The networks of a joined file, each with its columns."""
    facts, first = {}, 0
    for number, part in enumerate(parts, 1):
        stop = first + int(part["dimension"])
        facts[f"part {number}"] = (
            f"{part.get('model', '?')}, weights {part.get('weights', '?')}: numbers {first} to "
            f"{stop - 1}"
        )
        first = stop
    return facts


def _spread(counts: np.ndarray[Any, Any]) -> dict[str, float] | None:
    if not len(counts):
        return None
    return {
        "least": int(counts.min()),
        "median": float(np.median(counts)),
        "most": int(counts.max()),
    }


def describe_begun(output: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What a running or interrupted extraction has finished; None if there is none.

    Nothing is changed, and a running extraction is not disturbed.

    Args:
        output: the feature file that is being made, or its folder of parts.

    Raises:
        StoreError: the folder of parts is damaged.
    """
    output = Path(output)
    folder = output if output.name.endswith(".parts") else parts_folder(output)
    if not (folder / RUN_FILE).is_file():
        return None
    try:
        identity, progress = read_run(folder), scan_parts(folder, sweep=False)
    except FileNotFoundError:  # finished a moment ago
        return None
    finished = progress.finished.values()
    failures = [*progress.failures.values()]
    return {
        "kind": "features",
        "path": str(folder).removesuffix(".parts"),
        "unfinished": True,
        "size_bytes": sum(part.size_bytes for part in progress.parts),
        "videos": len(finished),
        "videos_begun": len(progress.partial),
        "clips": progress.num_clips,
        "dimension": identity.dimension,
        "dtype": identity.dtype,
        "duration_seconds": float(np.nansum([one.record.duration_seconds for one in finished])),
        "errors": len(failures),
        "errors_by_kind": dict(Counter(error.kind for error in failures).most_common()),
        "error_examples": _examples(failures),
        "encoder": dict(identity.encoder),
        "space_fingerprint": identity.space_fingerprint,
        "run_fingerprint": identity.run_fingerprint,
        "source_root": identity.source_root,
        "shards": identity.shards,
    }


def _examples(errors: Sequence[VideoFailure]) -> list[dict[str, str]]:
    return [
        {"path": error.path, "kind": error.kind, "message": error.message}
        for error in errors[:_ERRORS_SHOWN]
    ]


def _rows_of_a_clip(encoder: Mapping[str, Any]) -> str:
    """What a clip's rows are, if it has several or averages several crops; empty otherwise."""
    parts = []
    if encoder.get("time_steps", 1) > 1:
        parts.append(f"{encoder['time_steps']} time steps")
    crops = encoder.get("preprocess", {}).get("crops", 1)
    if crops > 1:
        average = encoder.get("average_crops")
        parts.append(f"the mean of {crops} crops" if average else f"{crops} crops")
    return ", each of ".join(parts)


def store_in_words(described: dict[str, Any]) -> list[str]:
    """The findings of `describe_store` or `describe_begun` as lines; hashes come last."""
    encoder = dict(described["encoder"])
    title = (
        f"{described['path']}: features of {counted(described['videos'], 'video')}, "
        f"{counted(described['clips'], 'clip')} of {described['dimension']} dimensions "
        f"({described['dtype']}), {size_text(described['size_bytes'])}"
    )
    facts: dict[str, str] = {}
    if described.get("unfinished"):
        begun = described["videos_begun"]
        more = f"; {counted(begun, 'video')} begun" if begun else ""
        facts["not finished"] = f"an extraction is running, or the same command resumes it{more}"
    facts["footage"] = duration(described["duration_seconds"])
    spread = described.get("clips_per_video")
    if spread is not None:
        facts["clips per video"] = (
            f"{spread['least']} to {spread['most']}, median {spread['median']:g}"
            if spread["least"] != spread["most"]
            else str(spread["most"])
        )
    facts["network"] = f"{encoder.get('model', '?')}, weights {encoder.get('weights', '?')}"
    licence = encoder.get("licence")
    if licence:
        facts["licence"] = with_remark(str(licence))
    kinds = ", ".join(f"{n} {kind}" for kind, n in described["errors_by_kind"].items())
    facts["failures"] = f"{described['errors']} ({kinds})" if kinds else "none"
    if described.get("videos_without_clips"):
        facts["without clips"] = counted(described["videos_without_clips"], "video")
    facts["root"] = described["source_root"] or "not recorded"
    if described["shards"]:
        facts["shards"] = f"{described['shards']}: the other videos are in other files"
    facts |= _joined_parts(encoder.pop("joined", []))
    rows = _rows_of_a_clip(encoder)
    if rows:
        facts["rows per clip"] = rows
    settings = {
        name: value
        for name, value in flat_settings(encoder).items()
        if name not in ("model", "weights", "licence")
    }
    hashes = [name for name in settings if "sha256" in name]
    shown = [name for name in settings if name not in hashes][:_SETTINGS_SHOWN]
    for name in shown:
        facts[name] = _plain(settings[name])
    if "created" in described:
        facts["written"] = (
            f"{described['created']} by vidfeat {described['vidfeat_version']}, "
            f"format {described['format_version']}"
        )
    for name in hashes:
        facts[name] = _plain(settings[name])
    facts["space"] = described["space_fingerprint"]
    facts["run"] = described["run_fingerprint"]
    width = max(map(len, facts))
    lines = [title]
    for name, fact in facts.items():
        lines.append(f"  {name:<{width}}  {fact}")
        if name == "failures":
            lines += [
                f"    {error['path']!r}: {error['message']}"
                for error in described["error_examples"]
            ]
            more_errors = described["errors"] - len(described["error_examples"])
            if more_errors:
                lines.append(f"    and {more_errors:,} more, in /errors of the file")
    return lines


def _plain(value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list) else value
    return "none" if shown is None or shown == "" else str(shown)
