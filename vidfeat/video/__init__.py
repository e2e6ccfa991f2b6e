"""From a video file to exact frames and timed clips, and the processes that decode them."""

from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.reader import Limits, VideoInfo, VideoReader, open_video, probe, read_frames

__all__ = [
    "ClipPlan",
    "Limits",
    "VideoInfo",
    "VideoReader",
    "open_video",
    "probe",
    "read_frames",
]
