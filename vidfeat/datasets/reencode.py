"""Re-encoding one video for training, in a separate process (``-m vidfeat.datasets.reencode``).

The process reads one task per line (JSON) from its standard input and answers each with a line; a
broken file that crashes a decoder crashes only this process.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidfeat.errors import VideoError
from vidfeat.system.files import atomic_write
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import VideoReader, open_video


@dataclass(frozen=True)
class Encoding:
    """How videos are written."""

    size: tuple[int, ...] = (128, 171)
    """Height and width, or only the short side."""
    key_every: int = 12
    """Frames from one key frame to the next: the most that a random seek decodes needlessly."""
    quality: int = 18
    """x264's crf: 0 is lossless, 18 hard to tell from the original, 28 coarse."""


def reencode(source: Path, target: Path, encoding: Encoding) -> int:
    """Write a video scaled, upright, without sound, with frequent key frames.

    Every frame keeps its time. Scaling is that of the published preprocessing, so that only
    cropping remains to be done.

    Returns:
        The number of frames.

    Raises:
        VideoError: the source cannot be read.
        OSError: the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_video(source) as video, atomic_write(target) as temporary:
        video.settled(lambda: _write(video, temporary, encoding))
        return video.timeline.num_frames


def _write(video: VideoReader, target: Path, encoding: Encoding) -> None:
    import av

    info, timeline = video.info, video.timeline
    size = encoding.size
    asked = Preprocess(resize=(size[0], size[1]) if len(size) == 2 else size[0], crop=(1, 1))
    height, width = asked.resized(info.height, info.width)
    scale = FramePreprocessor(Preprocess(resize=(height, width), crop=(height, width)))
    with av.open(str(target), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=info.fps.limit_denominator(1_000_000))
        stream.height, stream.width = height, width
        # an odd width (171) needs colour at full resolution
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        stream.codec_context.thread_count = 1
        stream.options = {
            "crf": str(encoding.quality),
            "preset": "veryfast",
            "g": str(encoding.key_every),
            "keyint_min": str(encoding.key_every),
            "sc_threshold": "0",
            "bf": "0",
        }
        ticks = None
        if timeline.times is not None:
            ticks = np.round(np.asarray(timeline.times) * 90_000).astype(np.int64)
            stream.codec_context.time_base = Fraction(1, 90_000)
        for position, frame in video.frames(range(timeline.num_frames)):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(scale.frame(frame)), format="rgb24"
            )
            picture.pts = position if ticks is None else int(ticks[position])
            picture.time_base = stream.codec_context.time_base or 1 / info.fps
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def main() -> None:
    """Answer tasks until the input ends."""
    import av.logging

    av.logging.set_level(None)
    for line in sys.stdin:
        task = json.loads(line)
        answer: dict[str, object]
        try:
            encoding = Encoding(tuple(task["size"]), task["key_every"], task["quality"])
            frames = reencode(Path(task["source"]), Path(task["target"]), encoding)
            answer = {"frames": frames, "error": ""}
        except VideoError as error:
            answer = {"frames": 0, "error": str(error)}
        except OSError as error:
            reason = error.strerror or str(error)
            known = {"errno": error.errno, "filename": error.filename}
            answer = {"frames": 0, "error": reason, "fatal": True, **known}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)
