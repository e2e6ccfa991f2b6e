"""What a run would have to do, and how long that may take: nothing is decoded or written."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vidfeat.encoders.encoder import Encoder
from vidfeat.extraction.run import DECODED_FRAMES_PER_WORKER, ExtractOptions
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.tasks import ClipSource, Finished, Started, VideoTask
from vidfeat.video.listing import Listing, total_bytes

_MOST_CLIPS_TIMED = 256
_SECONDS_TIMED = 10.0
_MOST_SAMPLED = 30
_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class DryRun:
    """The outcome."""

    videos: int
    bytes: int
    """Of the video files."""
    video_seconds: float
    clips: int
    output_bytes: int
    seconds: float
    """That a run may take on this machine."""
    clips_per_second: float
    gflops_per_clip: float
    """Floating-point operations of the network, two a multiply-add; 0 where not counted."""
    failures: tuple[tuple[str, str], ...]
    """(path, reason) of videos that cannot be read."""


def dry_run(
    listing: Listing,
    encoder: Encoder,
    *,
    options: ExtractOptions | None = None,
) -> DryRun:
    """Measure all videos (packets only, where they suffice) and one batch of the network."""
    options = options or ExtractOptions()
    if options.shard is not None:
        listing = listing.shard(*options.shard)
    source = ClipSource(encoder.plan, encoder.preprocess, options.limits)
    tasks = [VideoTask(video.path, video.stretches, probe_only=True) for video in listing.videos]
    identity_of = {video.path: video.identity for video in listing.videos}
    clips = 0
    seconds = 0.0
    failures: list[tuple[str, str]] = []
    decoder = make_decoder(source, options.num_workers, timeout_seconds=options.video_timeout)
    with decoder:
        for task, event in decoder.run(tasks):
            if isinstance(event, Started):
                clips += event.num_clips
                seconds += event.info.duration_seconds
            elif isinstance(event, Finished) and event.error is not None:
                failures.append((identity_of[task.path], str(event.error)))
    rate = _clips_per_second(encoder, source)
    workers = max(1, options.num_workers)
    decoding = clips * encoder.plan.frames / (DECODED_FRAMES_PER_WORKER * workers)
    width = encoder.dimension * (2 if options.dtype == "float16" else 4)
    return DryRun(
        videos=len(listing.videos),
        bytes=total_bytes(listing.videos),
        video_seconds=seconds,
        clips=clips,
        output_bytes=clips * (width + 24) + len(listing.videos) * 160,
        seconds=max(clips / rate, decoding),
        clips_per_second=rate,
        gflops_per_clip=encoder.spec.flops_per_clip / 1e9,
        failures=tuple(failures),
    )


def clips_estimated(listing: Listing, encoder: Encoder, options: ExtractOptions) -> int:
    """Clips of a job as a dry run would count them, from some of its videos and their share."""
    videos = listing.videos
    chosen = videos[:: max(1, len(videos) // _MOST_SAMPLED)]
    source = ClipSource(encoder.plan, encoder.preprocess, options.limits)
    tasks = [VideoTask(video.path, video.stretches, probe_only=True) for video in chosen]
    size_of = {video.path: max(0, video.size_bytes) for video in chosen}
    clips = looked_at = looked_bytes = 0
    began = time.monotonic()
    with make_decoder(source, 1, timeout_seconds=options.video_timeout) as decoder:
        for task, event in decoder.run(tasks):
            if isinstance(event, Started):
                clips += event.num_clips
            elif isinstance(event, Finished):
                looked_at += 1
                looked_bytes += size_of[task.path]
                if time.monotonic() - began > _SAMPLE_SECONDS:
                    break
    shares = len(videos) / max(1, looked_at), total_bytes(videos) / max(1, looked_bytes)
    return round(clips * (shares[1] if looked_bytes else shares[0]))


def _clips_per_second(encoder: Encoder, source: ClipSource) -> float:
    """Speed of the network on its second batch: the first one allocates and tunes.

    A batch that would take long is made smaller, and where its first run takes long already, that
    is the measurement: of ten seconds, the start is a small part.
    """
    expected = encoder.spec.flops_per_clip / encoder.flops_per_second
    clips = min(encoder.batch_size, _MOST_CLIPS_TIMED)
    if expected > 0:
        clips = max(1, min(clips, int(_SECONDS_TIMED / expected)))
    batch = np.zeros((clips, *source.clip_shape), np.uint8)
    took = 0.0
    for _ in range(2):
        began = time.monotonic()
        encoder.engine.embed(batch)
        took = time.monotonic() - began
        if took > _SECONDS_TIMED:
            break
    return len(batch) / max(1e-9, took)
