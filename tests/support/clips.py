"""The clips of a video, decoded in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidfeat.video.clip_plan import ClipPlan, VideoSegment
from vidfeat.video.clips import Clip
from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.preprocess import Preprocess


@dataclass
class Decoded:
    """The clips that hold, and what was announced of them last."""

    clips: list[Clip] = field(default_factory=list)
    starts: list[Started] = field(default_factory=list)
    finished: Finished = field(default_factory=Finished)


def decoded(
    path: Path, plan: ClipPlan, preprocess: Preprocess, segments: Sequence[VideoSegment] = ()
) -> Decoded:
    """All clips of a video; raises the error that it ends with."""
    found = Decoded()
    source = ClipSource(plan, preprocess)
    for _, event in decode_inline(source, [VideoTask(str(path), tuple(segments))]):
        if isinstance(event, Started):
            found.starts.append(event)
            found.clips = []
        elif isinstance(event, Clip):
            assert event.index == len(found.clips)
            found.clips.append(event)
        else:
            found.finished = event
    if found.finished.error is not None:
        raise found.finished.error
    assert len(found.starts) <= 2
    return found
