"""Clips by shots: the shots of all videos, found once and kept next to the output as a CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vidfeat.extraction.options import ExtractOptions
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import append_lines, atomic_write, beside
from vidfeat.video.clip_plan import ClipPlan, VideoSegment
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.listing import ListedVideo, Listing
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.shots import SHOT_SHAPE, Shot, ShotReading, ShotRule, shot_of

COLUMNS = (
    *("path", "start_seconds", "end_seconds"),
    *("shot", "shots", "size_bytes", "mtime_ns", "detector"),
)

Known = tuple[tuple[int, int], tuple[Shot, ...]]
"""Size and modification time of a file, and its shots."""


def shots_file(output: Path) -> Path:
    """Where the shots of an output's videos are kept: a CSV that can also be read as segments."""
    return beside(output, ".shots.csv")


def by_shots(
    listing: Listing,
    output: Path,
    fps: Fraction | None,
    *,
    rule: ShotRule | None = None,
    options: ExtractOptions | None = None,
    progress: Progress | None = None,
) -> Listing:
    """The listing with the shots of each video instead of the whole video.

    Known shots of unchanged files are not searched again. A video that cannot be read stays whole:
    the extraction reports why.

    Args:
        listing: the videos.
        output: the feature file; the shots are kept next to it.
        fps: the rate of the clips; None for each video's own. A shot then begins with the first
            slot that lies in it.
        rule: what counts as a cut.
        options: decode processes and limits.
        progress: called with the videos searched so far and in total.
    """
    rule, options = rule or ShotRule(), options or ExtractOptions()
    known = read_shots(shots_file(output), rule)
    kept = dict(known)
    found = {
        video.identity: known[video.identity][1]
        for video in listing.videos
        if known.get(video.identity, ((-1, -1), ()))[0] == (video.size_bytes, video.mtime_ns)
    }
    todo = [video for video in listing.videos if video.identity not in found]
    if todo:
        with append_lines(shots_file(output)) as lines:
            if lines.tell() == 0:
                lines.write(_line(COLUMNS))
            for done, (video, shots) in enumerate(_search(todo, rule, options), 1):
                if shots:
                    found[video.identity] = shots
                    stamp = video.size_bytes, video.mtime_ns
                    kept[video.identity] = stamp, shots
                    lines.write(_lines(video.identity, stamp, shots, rule))
                if progress is not None:
                    progress(done, len(todo))
    _tidy(shots_file(output), kept, rule)
    videos = tuple(
        replace(video, segments=segments_of(found.get(video.identity, ()), fps))
        for video in listing.videos
    )
    return replace(listing, videos=videos, laid_by=f"shots by {rule.name}")


def segments_of(shots: Sequence[Shot], fps: Fraction | None) -> tuple[VideoSegment, ...]:
    """The segments of shots, to lay clips over.

    A segment begins with the slot that is shown at its start, which at another rate may show a
    frame before the cut: the start is moved to the first slot after the cut. A shot between two
    slots has none, and no clip.
    """
    made = []
    for shot in shots:
        start = shot.start_seconds
        if fps is not None:
            start = float(math.ceil(Fraction(start) * fps - Fraction(1, 10**6)) / fps)
        if start < shot.end_seconds - 1e-6:
            made.append(VideoSegment(start, shot.end_seconds))
    return tuple(made)


def read_shots(file: Path, rule: ShotRule) -> dict[str, Known]:
    """Shots by video, with the size and modification time of its file.

    Lines of another rule, and those of a video whose lines a kill cut off, are skipped.
    """
    if not file.is_file():
        return {}
    gathered: dict[tuple[str, int, int], dict[int, tuple[int, Shot]]] = {}
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                if row["detector"] != rule.name:
                    continue
                key = (row["path"], int(row["size_bytes"]), int(row["mtime_ns"]))
                shot = Shot(float(row["start_seconds"]), float(row["end_seconds"]))
                gathered.setdefault(key, {})[int(row["shot"])] = (int(row["shots"]), shot)
            except (KeyError, TypeError, ValueError):
                continue
    known = {}
    for (path, size, mtime), shots in gathered.items():
        count = next(iter(shots.values()))[0]
        if sorted(shots) == list(range(count)):
            known[path] = ((size, mtime), tuple(shots[place][1] for place in range(count)))
    return known


def _search(
    videos: Sequence[ListedVideo], rule: ShotRule, options: ExtractOptions
) -> Iterator[tuple[ListedVideo, tuple[Shot, ...]]]:
    """Each video with its shots, none for one that cannot be read, in the order given."""
    frames, height, width, _ = SHOT_SHAPE
    source = ClipSource(
        ClipPlan(frames), Preprocess((height, width), (height, width)), options.limits
    )
    tasks = [
        VideoTask(video.path, reading=ShotReading(rule), state=video.remote_state)
        for video in videos
    ]
    workers = min(options.num_workers, len(videos))
    with make_decoder(source, workers, timeout_seconds=options.video_timeout) as decoder:
        names = iter(videos)
        shots: list[Shot] = []
        for _, event in decoder.run(tasks):
            if isinstance(event, Started):
                shots = []
            elif isinstance(event, Clip):
                shots.append(shot_of(event.frames_THWC))
                event.release()
            elif isinstance(event, Finished):
                yield next(names), () if event.error is not None else tuple(shots)
                shots = []


def _tidy(file: Path, kept: Mapping[str, Known], rule: ShotRule) -> None:
    """Rewrite the file without lines that are no longer valid: of a changed video, or cut off."""
    if not file.is_file():
        return
    text = _line(COLUMNS) + "".join(
        _lines(identity, stamp, shots, rule) for identity, (stamp, shots) in kept.items()
    )
    data = text.encode("utf-8", "surrogateescape")
    if file.read_bytes() != data:
        with atomic_write(file) as temporary:
            temporary.write_bytes(data)


def _lines(identity: str, stamp: tuple[int, int], shots: Sequence[Shot], rule: ShotRule) -> str:
    return "".join(
        _line(
            (
                *(identity, shot.start_seconds, shot.end_seconds),
                *(place, len(shots), *stamp, rule.name),
            )
        )
        for place, shot in enumerate(shots)
    )


def _line(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
