"""Estimates the work of a run and its duration: nothing is decoded or written."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vidfeat.encoders.encoder import Encoder
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.steps import DECODED_FRAMES_PER_WORKER
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.tasks import Finished, Started, VideoTask
from vidfeat.video.listing import Listing, total_bytes

_MOST_INPUTS_TIMED = 256
_SECONDS_TIMED = 10.0
_MOST_SAMPLED = 30
_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class DryRun:
    """The estimates."""

    videos: int
    bytes: int
    """Size of the video files."""
    video_seconds: float
    clips: int
    output_bytes: int
    seconds: float
    """How long a run may take on this machine."""
    clips_per_second: float
    gflops_per_clip: float
    """Floating-point operations of the network, two per multiply-add; 0 if not counted. Frames that
    clips share count once."""
    failures: tuple[tuple[str, str], ...]
    """(path, reason) of videos that cannot be read."""


def dry_run(
    listing: Listing,
    encoder: Encoder,
    *,
    options: ExtractOptions | None = None,
) -> DryRun:
    """Measure all videos (packets only, if they suffice) and one batch of the network."""
    options = options or ExtractOptions()
    if options.shard is not None:
        listing = listing.shard(*options.shard)
    source = encoder.spec.clip_source(options.limits)
    tasks = [VideoTask.of(video, probe_only=True) for video in listing.videos]
    video_of = {video.path: video for video in listing.videos}
    clips = inputs = 0
    crops = encoder.preprocess.crops
    seconds = 0.0
    failures: list[tuple[str, str]] = []
    decoder = make_decoder(source, options.num_workers, timeout_seconds=options.video_timeout)
    with decoder:
        for task, event in decoder.run(tasks):
            if isinstance(event, Started):
                clips += len(event.clips) if source.frame_by_frame else event.num_clips
                inputs += event.num_clips * crops
                seconds += event.info.duration_seconds
            elif isinstance(event, Finished) and event.error is not None:
                video = video_of[task.path]
                never_there = event.error.kind == "gone" and video.size_bytes < 0
                reason = "no such file" if never_there else str(event.error)
                failures.append((video.identity, reason))
    rate = _inputs_per_second(encoder)
    workers = max(1, options.num_workers)
    decoding = inputs / crops * source.clip_frames / (DECODED_FRAMES_PER_WORKER * workers)
    took = max(inputs / rate, decoding)
    rows = clips * encoder.spec.rows.rows_per_clip
    width = encoder.dimension * (2 if options.dtype == "float16" else 4)
    return DryRun(
        videos=len(listing.videos),
        bytes=total_bytes(listing.videos),
        video_seconds=seconds,
        clips=clips,
        output_bytes=rows * (width + 24) + len(listing.videos) * 160,
        seconds=took,
        clips_per_second=rate * clips / inputs if inputs else 0.0,
        gflops_per_clip=encoder.spec.flops_per_input * inputs / max(1, clips) / 1e9,
        failures=tuple(failures),
    )


def clips_estimated(listing: Listing, encoder: Encoder, options: ExtractOptions) -> int:
    """The clips that a dry run would count, estimated from some of the videos."""
    videos = listing.videos
    chosen = videos[:: max(1, len(videos) // _MOST_SAMPLED)]
    source = encoder.spec.clip_source(options.limits)
    tasks = [VideoTask.of(video, probe_only=True) for video in chosen]
    size_of = {video.path: max(0, video.size_bytes) for video in chosen}
    clips = looked_at = looked_bytes = 0
    began = time.monotonic()
    with make_decoder(source, 1, timeout_seconds=options.video_timeout) as decoder:
        for task, event in decoder.run(tasks):
            if isinstance(event, Started):
                clips += len(event.clips) if source.frame_by_frame else event.num_clips
            elif isinstance(event, Finished):
                looked_at += 1
                looked_bytes += size_of[task.path]
                if time.monotonic() - began > _SAMPLE_SECONDS:
                    break
    shares = len(videos) / max(1, looked_at), total_bytes(videos) / max(1, looked_bytes)
    return round(clips * (shares[1] if looked_bytes else shares[0]))


def _inputs_per_second(encoder: Encoder) -> float:
    """Speed of the network on its second batch: the first one allocates and tunes.

    A batch that would take long is made smaller. If its first run still takes long, that run is the
    measurement: the start is a small part of ten seconds.
    """
    expected = encoder.spec.flops_per_input / encoder.flops_per_second
    inputs = min(encoder.batch_size, _MOST_INPUTS_TIMED)
    if expected > 0:
        inputs = max(1, min(inputs, int(_SECONDS_TIMED / expected)))
    batch = np.zeros((inputs, *encoder.spec.input_shape), np.uint8)
    took = 0.0
    for _ in range(2):
        began = time.monotonic()
        encoder.engine.embed(batch)
        took = time.monotonic() - began
        if took > _SECONDS_TIMED:
            break
    return len(batch) / max(1e-9, took)
