"""What is in a feature file, as a dictionary for programs and in words for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidfeat.store.differences import flat_settings
from vidfeat.store.licence import with_remark
from vidfeat.store.reader import FORMAT_VERSION, FeatureStore
from vidfeat.system.wording import counted

_ERRORS_SHOWN = 5
_SETTINGS_SHOWN = 24


def describe_store(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a feature file holds, in values that JSON can hold. No vector is read.

    Raises:
        StoreError: it is no feature file.
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
            "error_examples": [
                {"path": error.path, "kind": error.kind, "message": error.message}
                for error in errors[:_ERRORS_SHOWN]
            ],
            "encoder": store.encoder,
            "space_fingerprint": store.space_fingerprint,
            "run_fingerprint": store.run_fingerprint,
            "source_root": store.source_root,
            "shards": store.shards,
        }


def _spread(counts: np.ndarray[Any, Any]) -> dict[str, float] | None:
    if not len(counts):
        return None
    return {
        "least": int(counts.min()),
        "median": float(np.median(counts)),
        "most": int(counts.max()),
    }


def _size(size: float) -> str:
    units = ["bytes", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:,} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _rows_of_a_clip(encoder: Mapping[str, Any]) -> str:
    """What a clip's rows are, where it has several or one of several crops; empty elsewhere."""
    parts = []
    if encoder.get("time_steps", 1) > 1:
        parts.append(f"{encoder['time_steps']} time steps")
    crops = encoder.get("preprocess", {}).get("crops", 1)
    if crops > 1:
        average = encoder.get("average_crops")
        parts.append(f"the mean of {crops} crops" if average else f"{crops} crops")
    return ", each of ".join(parts)


def store_in_words(described: dict[str, Any]) -> list[str]:
    """Lines that say what `describe_store` found."""
    facts = {"footage": _duration(described["duration_seconds"])}
    spread = described["clips_per_video"]
    if spread is not None:
        facts["clips a video"] = (
            f"{spread['least']} to {spread['most']}, median {spread['median']:g}"
        )
    if described["videos_without_clips"]:
        facts["without clips"] = counted(described["videos_without_clips"], "video")
    facts["root"] = described["source_root"] or "not recorded"
    if described["shards"]:
        facts["shards"] = f"{described['shards']}: the other videos are in other files"
    for name, value in list(flat_settings(described["encoder"]).items())[:_SETTINGS_SHOWN]:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        facts[name] = "none" if shown is None or shown == "" else str(shown)
    rows = _rows_of_a_clip(described["encoder"])
    if rows:
        facts["rows a clip"] = rows
    licence = described["encoder"].get("licence")
    if licence:
        facts["licence"] = with_remark(str(licence))
    facts["space"] = described["space_fingerprint"]
    facts["run"] = described["run_fingerprint"]
    facts["written"] = (
        f"{described['created']} by vidfeat {described['vidfeat_version']}, "
        f"format {described['format_version']}"
    )
    kinds = ", ".join(f"{n} {kind}" for kind, n in described["errors_by_kind"].items())
    facts["errors"] = f"{described['errors']} ({kinds})" if kinds else "none"
    width = max(map(len, facts))
    lines = [
        f"{described['path']}: features of {counted(described['videos'], 'video')}, "
        f"{counted(described['clips'], 'clip')} of {described['dimension']} dimensions "
        f"({described['dtype']}), {_size(described['size_bytes'])}",
        *(f"  {name:<{width}}  {fact}" for name, fact in facts.items()),
        *(f"    {error['path']!r}: {error['message']}" for error in described["error_examples"]),
    ]
    more = described["errors"] - len(described["error_examples"])
    if more:
        lines.append(f"    and {more:,} more, in /errors of the file")
    return lines
