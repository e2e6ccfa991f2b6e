"""Describe files of every kind, for ``vidfeat info``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidfeat.errors import StoreError, UsageError, VidfeatError
from vidfeat.pretrained import bundled
from vidfeat.system.urls import is_url, shown_path
from vidfeat.system.wording import counted

_HDF5 = b"\x89HDF\r\n\x1a\n"
_WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".pkl"})


def describe(
    path: str | os.PathLike[str], *, verify: bool = False, stream: int | None = None
) -> dict[str, Any]:
    """Describe a file or folder as JSON values; ``kind`` says what it is.

    Args:
        path: a video, a feature file, weights, a score file, a head, an index, a training run; or
            ``bundled``, the network that comes with vidfeat.
        verify: for an index, compare its files with their hashes.
        stream: which video stream of a video with several, from 0.

    Raises:
        UsageError: nothing is there, or nothing of a known kind.
        VidfeatError: it cannot be read.
    """
    from vidfeat.index.databases.address import is_address

    if is_address(path):
        return _database(os.fspath(path))
    if is_url(path):
        return _video(os.fspath(path), stream)
    path = Path(path)
    if path == Path(bundled.NAME) and not os.path.lexists(path):
        return {**_weights(bundled.WEIGHTS_FILE), "path": bundled.NAME, "card": bundled.card()}
    if not os.path.lexists(path) or (path.is_dir() and path.name.endswith(".parts")):
        from vidfeat.store.describe import describe_begun

        begun = describe_begun(path)
        if begun is None and path.is_file():  # finished a moment ago
            return _hdf5(path)
        if begun is None:
            raise UsageError(f"{path}: no such file or folder")
        return begun
    if path.is_dir():
        return _folder(path, verify)
    if path.suffix.lower() in _WEIGHTS:
        return _weights(path)
    if _begins_with_hdf5(path):
        return _hdf5(path)
    return _video(path, stream)


def in_words(described: dict[str, Any]) -> list[str]:
    """A description from `describe` as lines of text."""
    if described["kind"] == "features":
        from vidfeat.store.describe import store_in_words

        lines = store_in_words(described)
        begun = described.get("going_on")
        if begun is not None:
            lines.insert(
                1,
                "  an extraction is running, or was interrupted: "
                f"{counted(begun['videos'], 'more video')} and "
                f"{counted(begun['clips'], 'more clip')} are finished",
            )
        return lines
    if described["kind"] == "video":
        return _video_in_words(described)
    from vidfeat.cli.describe_words import first_lines

    first = first_lines(described)
    plain = {k: v for k, v in described.items() if not (first and k in _SAID)}
    hashes = {key: plain.pop(key) for key in [*plain] if _is_hash(key)}
    return [*first, *([""] if first else []), *_lines(plain), *_lines(hashes)]


# already in the first lines of a head, an index, a run or weights
_SAID = ("kind", "path")


def _is_hash(key: str) -> bool:
    return "sha256" in key or key.endswith("_fingerprint")


def _folder(path: Path, verify: bool) -> dict[str, Any]:
    if (path / "index.json").is_file():
        from vidfeat.index.folder import describe_index, verify_index

        described = describe_index(path)
        described |= {"kind": "index", "path": str(path), "faiss_kind": described["kind"]}
        if verify:
            problems = verify_index(path)
            if problems:
                raise StoreError(f"{path} is damaged: {'; '.join(problems)}: build it again")
            described["verified"] = True
        return described
    kinds: list[tuple[str, str, Callable[[Path], dict[str, Any]]]] = [
        ("head.json", "head", _json_of),
        ("net.json", "quantised network", _json_of),
        ("recipe.toml", "training run", _run),
    ]
    for name, kind, read in kinds:
        if (path / name).is_file():
            found = read(path / name)
            own = {"head": found.pop("kind")} if kind == "head" and "kind" in found else {}
            return {"kind": kind, "path": str(path), **own, **found}
    raise UsageError(
        f"{path} is a folder without index.json, head.json, net.json or recipe.toml: neither an "
        "index, a head, a quantised network nor a training run"
    )


def _database(address: str) -> dict[str, Any]:
    from vidfeat.index.databases.opened import describe_database

    return {"kind": "index", "path": address, **describe_database(address)}


def _json_of(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{file} cannot be read: {error}") from None
    return value if isinstance(value, dict) else {"content": value}


def _run(recipe: Path) -> dict[str, Any]:
    import tomllib

    try:
        described: dict[str, Any] = {"recipe": tomllib.loads(recipe.read_text(encoding="utf-8"))}
    except ValueError as error:
        raise StoreError(f"{recipe} cannot be read: {error}") from None
    folder = recipe.parent
    data = folder / "data.json"
    if data.is_file():
        described["data"] = _json_of(data)
    steps = sorted(name.name for name in (folder / "checkpoints").glob("step-*"))
    described["finished"] = (folder / "model.safetensors").is_file()
    described["checkpoints"] = steps
    log = folder / "log.jsonl"
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines()
        if lines:
            described["last"] = json.loads(lines[-1])
    return described


def _weights(path: Path) -> dict[str, Any]:
    from vidfeat.weights.load import read_tensors, tensor_hash

    tensors, metadata = read_tensors(path)
    return {
        "kind": "weights",
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "tensors": len(tensors),
        "parameters": sum(t.numel() for t in tensors.values() if t.is_floating_point()),
        "sha256_of_tensors": tensor_hash(tensors),
        **{key: value for key, value in metadata.items() if key != "kind"},
    }


def _begins_with_hdf5(path: Path) -> bool:
    try:
        if not path.is_file():
            return False  # a pipe would wait for a writer
        with path.open("rb") as file:
            return file.read(len(_HDF5)) == _HDF5
    except OSError:
        return False  # the video reader reports why


def _hdf5(path: Path) -> dict[str, Any]:
    from vidfeat.store.describe import describe_begun, describe_store

    try:
        described = describe_store(path)
        begun = describe_begun(path)
        # a run that extends the file keeps new videos in parts until it ends
        return described if begun is None else {**described, "going_on": begun}
    except StoreError as not_features:
        from vidfeat.evaluation.scores import read_scores

        try:
            scores = read_scores(path)
        except VidfeatError:
            raise not_features from None
        return {
            "kind": "scores",
            "path": str(path),
            "videos": len(scores.paths),
            "classes": list(scores.classes),
        }


def _video(path: str | Path, stream: int | None = None) -> dict[str, Any]:
    from vidfeat.video.reader import open_video

    with open_video(path, stream=stream) as video:
        info = video.info
        return {
            "kind": "video",
            "path": shown_path(str(path)),
            "duration_seconds": info.duration_seconds,
            "fps": float(info.fps),
            "fps_exact": str(info.fps),
            "timing": info.timing,
            "num_frames": info.num_frames,
            "num_frames_source": info.num_frames_source,
            "width": info.width,
            "height": info.height,
            "rotation": info.rotation,
            "mirrored": info.mirrored,
            "stream": info.stream,
            "num_streams": info.num_streams,
            "repaired_timestamps": info.repaired_timestamps,
            "remarks": list(info.remarks),
            "codec": info.codec,
            "container": info.container,
            "size_bytes": info.size_bytes,
            "damage": None if video.damage is None else video.damage.message,
        }


def _video_in_words(video: dict[str, Any]) -> list[str]:
    rate = f"{video['fps']:.5g} frames/s"
    if "/" in video["fps_exact"] and video["timing"] != "variable":
        rate += f" ({video['fps_exact']})"
    counted = "their packets" if video["num_frames_source"] == "packets" else "decoding them"
    turned = f", turned by {video['rotation']} degrees" if video["rotation"] else ""
    turned = f", mirrored{turned}" if video["mirrored"] else turned
    clock = {
        "constant": "constant rate",
        "variable": "variable rate: frames are identified by the time at which they are shown",
        "disordered": "timestamps out of order: frames are identified by their index",
    }[video["timing"]]
    lines = [
        f"{video['path']}: a video of {video['duration_seconds']:.3f} s",
        f"  {video['num_frames']} frames (counted by {counted}) at {rate}, {clock}",
        f"  {video['width']} x {video['height']} as shown{turned}, {video['codec']} in "
        f"{video['container']}, {video['size_bytes']:,} bytes",
    ]
    lines += [f"  note: {remark}" for remark in video["remarks"]]
    if video["damage"]:
        lines.append(f"  damaged: {video['damage']}")
    return lines


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """Nested values as an indented list; long lists are cut."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
            continue
        if isinstance(item, list) and item and all(isinstance(entry, dict) for entry in item):
            lines += [f"{indent}{key}:", *(f"{indent}  {_on_a_line(entry)}" for entry in item)]
            continue
        if isinstance(item, list):
            shown = ", ".join(str(entry) for entry in item[:8])
            item = shown + (f", ... ({len(item)} in all)" if len(item) > 8 else "")
        lines.append(f"{indent}{key}: {_in_short(item)}")
    return lines


def _on_a_line(value: dict[str, Any]) -> str:
    """One item of a list, such as a trial: ``C 0.1, accuracy 0.42``."""
    parts = []
    for key, item in value.items():
        nested = isinstance(item, dict)
        parts.append(_on_a_line(item) if nested else f"{key} {_in_short(item)}")
    return ", ".join(parts)


def _in_short(item: object) -> str:
    if item is None:
        return "none"
    return f"{item:g}" if isinstance(item, float) else str(item)
