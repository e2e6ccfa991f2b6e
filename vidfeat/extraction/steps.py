"""One run over the videos that remain to be done: decoding, batches, parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.engines.batches import Pin
from vidfeat.encoders.engines.feeds import feed_of
from vidfeat.errors import VideoError
from vidfeat.extraction.assembly import Assembly, AssemblyStats
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.part_writing import PartsTarget
from vidfeat.extraction.report import ExtractProgress, ExtractReport, Meter
from vidfeat.extraction.resume import (
    Todo,
    WorkPlan,
)
from vidfeat.extraction.stopping import Stop
from vidfeat.store.records import VideoFailure
from vidfeat.system.wording import size_text
from vidfeat.video.clip_plan import describe_behind_end, segments_behind_end
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import Decoder, make_decoder
from vidfeat.video.decode.tasks import Event, Finished, Started
from vidfeat.video.listing import ListedVideo, total_bytes
from vidfeat.video.reader import VideoInfo

_PART_SECONDS = 30.0
_PART_BYTES = 64 << 20
# Small frames per second; a constant, so that two runs of one command cut the same parts.
DECODED_FRAMES_PER_WORKER = 1000.0
# A card's processes each make a CUDA context first: less than this is done sooner without them.
_CARD_BYTES = 64 << 20


class Run:
    """One run over the work that remains to be done."""

    def __init__(
        self,
        encoder: Encoder,
        options: ExtractOptions,
        plan: WorkPlan,
        progress: Callable[[ExtractProgress], None] | None = None,
        on_failure: Callable[[VideoFailure], None] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.encoder = encoder
        self.stopped = False
        self.stop = stop or Stop()
        self.options = options
        self.todo = plan.todo
        planes = len(encoder.engines) == 1 and encoder.engine.takes_planes
        self.source = encoder.spec.clip_source(options.limits, planes=planes)
        self.report = ExtractReport(
            videos_reused=plan.reused_videos,
            clips_reused=plan.reused_clips,
        )
        self.meter = Meter(len(plan.todo), total_bytes(item.video for item in plan.todo), progress)
        self._on_failure = on_failure
        self._info: VideoInfo | None = None  # of the video whose clips are arriving

    def note_failure(self, failure: VideoFailure) -> None:
        """Record and report a failed video."""
        self.report.failures.append(failure)
        self.meter.failures += 1
        if self._on_failure is not None:
            self._on_failure(failure)

    def note_traffic(self) -> None:
        """Note how much of the remote videos was fetched."""
        fetched = self.report.decoding.bytes_fetched
        if fetched:
            whole = size_text(total_bytes(item.video for item in self.todo))
            self.report.notes.append(f"fetched {size_text(fetched)} of {whole} of video files")

    def work(self, folder: Path, first_number: int) -> None:
        """Decode and encode all that is to be done, into parts."""
        for _ in self.steps(folder, first_number):
            pass

    def steps(
        self,
        folder: Path,
        first_number: int,
        *,
        name: str | None = None,
        decoder: Decoder | None = None,
    ) -> Iterator[AssemblyStats]:
        """Like :meth:`work`, step by step: yields after each decode event.

        Args:
            folder: folder of the parts.
            first_number: number of the first part.
            name: name of the parts' files, instead of their numbers.
            decoder: decode processes that outlive this run; None starts and ends its own.
        """
        encoder = self.encoder
        feed = feed_of(encoder.engines, (encoder.batch_size, *encoder.spec.input_shape))
        assembly = Assembly(
            feed,
            PartsTarget(folder, encoder.dimension, self.options.dtype, first_number, name),
            encoder.spec.rows,
            batch_size=encoder.batch_size,
            part_inputs=part_inputs(encoder, self.options),
            frames_per_input=self.source.clip_frames,
        )
        began = time.monotonic()
        try:
            with ExitStack() as stack:
                for item, event in self._events(stack, decoder, feed.pin):
                    self._take(assembly, item, event)
                    if isinstance(event, Clip):
                        self.report.seconds_to_last_clip = time.monotonic() - began
                        self.report.seconds_to_first_clip = (
                            self.report.seconds_to_first_clip or self.report.seconds_to_last_clip
                        )
                    self.meter.tick(assembly.stats)
                    if self.stop.asked and assembly.at_batch_boundary:
                        self.stopped = True
                        break
                    yield assembly.stats
                assembly.close()
        except BaseException:
            assembly.abort()
            raise
        self.meter.tick(assembly.stats, now=True)
        self.report.seconds = time.monotonic() - began
        self.report.assembly = asdict(assembly.stats)
        self.report.frames_decoded = self.meter.frames
        if self.report.decoding.card_trouble:
            self.report.notes.append(
                f"the card's video decoders were left out: {self.report.decoding.card_trouble}"
            )
        self.report.engine = engine_facts(encoder.engines)

    def decoder(self, tasks: int, pin: Pin | None = None) -> Decoder:
        """The decoder for this number of videos, by the options."""
        cards: tuple[int, ...] = ()
        if sum(max(0, item.video.size_bytes) for item in self.todo) >= _CARD_BYTES:
            cards = self.options.cards * self.options.processes_per_card
        return make_decoder(
            self.source,
            min(self.options.num_workers, max(2, tasks)),
            cards=cards,
            buffer_bytes=self.options.buffer_bytes,
            timeout_seconds=self.options.video_timeout,
            pin=pin,
        )

    def _events(
        self, stack: ExitStack, decoder: Decoder | None, pin: Pin | None
    ) -> Iterator[tuple[Todo, Event]]:
        """The events of all tasks, in order, each with its item."""
        tasks = [item.task for item in self.todo]
        if decoder is None:
            decoder = self.decoder(len(tasks), pin)
            stack.enter_context(decoder)
        self.report.decoding = decoder.stats
        place = 0
        for task, event in decoder.run(tasks):
            while self.todo[place].task is not task:
                place += 1
            yield self.todo[place], event

    def _take(self, assembly: Assembly, item: Todo, event: Event) -> None:
        if isinstance(event, Started):
            self._info = event.info
            assembly.start(item.video.identity, event, item.carrier)
            self.meter.start(item.video.identity, event.info.num_frames, event.num_clips)
            self.report.remark(item.video.identity, event.info.remarks)
        elif isinstance(event, Clip):
            assembly.clip(event)
            self.meter.clip(event.new_frames)
        else:
            failure = _failure_of(item, event, self._info)
            self._info = None
            assembly.finish(failure, keep=event.error is None)
            if failure is not None:
                self.note_failure(failure)
            self.meter.finish(max(0, item.video.size_bytes))


def _failure_of(item: Todo, event: Finished, info: VideoInfo | None) -> VideoFailure | None:
    error: VideoError | None = event.error
    if event.damage is not None:
        error = VideoError(event.damage.message, kind="damaged")
    elif error is None and info is not None:
        behind = segments_behind_end(item.task.segments, info.duration_seconds)
        if behind:
            error = VideoError(describe_behind_end(behind, info.duration_seconds), kind="segment")
    if error is None:
        return None
    video: ListedVideo = item.video
    return VideoFailure(
        path=video.identity,
        # listed, but missing from the start: it did not disappear
        message="no such file" if error.kind == "gone" and video.size_bytes < 0 else str(error),
        kind=error.kind,
        size_bytes=video.size_bytes,
        mtime_ns=video.mtime_ns,
        tries=item.tries + 1,
    )


def part_inputs(encoder: Encoder, options: ExtractOptions) -> int:
    """Inputs of a part: about half a minute of work, at most 64 MB, whole batches."""
    spec = encoder.spec
    frames = spec.input_shape[0]
    per_second = DECODED_FRAMES_PER_WORKER * max(1, options.num_workers) / frames
    if spec.flops_per_input:
        per_second = min(per_second, encoder.flops_per_second / spec.flops_per_input)
    width = encoder.dimension * (2 if options.dtype == "float16" else 4) * spec.time_steps
    inputs = min(int(per_second * _PART_SECONDS), _PART_BYTES // width)
    return max(1, inputs // encoder.batch_size) * encoder.batch_size


def engine_facts(engines: Sequence[Engine]) -> dict[str, Any]:
    """Facts of the engine, or of its replicas together, for the report."""
    errors = [e.precision_error for e in engines if e.precision_error is not None]
    batches = [e.largest_batch for e in engines if e.largest_batch is not None]
    return {
        "precision_error": max(errors, default=None),
        "largest_batch": min(batches, default=None),
        "execution": engines[0].execution,
        "batches_recomputed": sum(engine.batches_recomputed for engine in engines),
    }
