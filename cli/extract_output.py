"""What ``vidfeat extract`` prints: a live line, one line per failure, the summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from vidfeat.cli.flags import with_flags
from vidfeat.system.wording import counted, duration, one_line, size_text

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.extraction.dry_run import DryRun
    from vidfeat.extraction.report import ExtractProgress, ExtractReport
    from vidfeat.store.records import VideoFailure

_PLAIN_SECONDS = 10.0
_EVENT_SECONDS = 1.0
BAR_WIDTH = 10


class Show(Protocol):
    """Shows the state of a run, and prints lines above it."""

    def __call__(self, state: ExtractProgress) -> None:
        """Show the state."""

    def line(self, text: str) -> None:
        """Print a permanent line."""

    def failure(self, failure: VideoFailure) -> None:
        """Name a video that could not be read."""


@contextmanager
def shown(*, quiet: bool = False, events: Events | None = None) -> Iterator[Show]:
    """Display for a run.

    A progress bar on a terminal, a plain line every ten seconds elsewhere; both on standard error.

    Args:
        quiet: show only failures.
        events: receives everything instead, for programs.
    """
    if events is not None:
        yield events
    elif quiet or not sys.stderr.isatty():
        yield _Plain(quiet=quiet)
    else:
        with _bar() as bar:
            yield bar


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    progress = Progress(
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("extract", total=1.0, text="")

        class Bar:
            def __call__(self, state: ExtractProgress) -> None:
                done = 1 - _share_left(state)
                text = short_line(state, console.width - BAR_WIDTH - 2)
                progress.update(task, completed=done, text=text)

            def line(self, text: str) -> None:
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

            def failure(self, failure: VideoFailure) -> None:
                self.line(failure_line(failure))

        yield Bar()


def _share_left(state: ExtractProgress) -> float:
    if state.seconds_left is None:
        return 1.0
    return state.seconds_left / max(1e-9, state.seconds + state.seconds_left)


class _Plain:
    def __init__(self, *, quiet: bool) -> None:
        self._said = time.monotonic()
        self._quiet = quiet

    def __call__(self, state: ExtractProgress) -> None:
        if not self._quiet and time.monotonic() - self._said >= _PLAIN_SECONDS:
            self._said = time.monotonic()
            click.echo(f"extract: {state_line(state)}", err=True)

    def line(self, text: str) -> None:
        click.echo(text, err=True)

    def failure(self, failure: VideoFailure) -> None:
        self.line(failure_line(failure))


class Events:
    """One JSON object per line on standard output, for programs: ``{"event": "progress", ...}``.

    Events are ``note``, ``progress`` (once a second at most), ``failure`` and, last, ``done``.
    """

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, state: ExtractProgress) -> None:
        """A ``progress`` event, if the last one was at least a second ago."""
        if time.monotonic() - self._said >= _EVENT_SECONDS:
            self._said = time.monotonic()
            self.write("progress", **asdict(state))

    def line(self, text: str) -> None:
        """A ``note`` event."""
        self.write("note", text=text)

    def failure(self, failure: VideoFailure) -> None:
        """A ``failure`` event: a video that could not be read, or not to its end."""
        self.write("failure", path=failure.path, kind=failure.kind, message=failure.message)

    def write(self, event: str, **values: Any) -> None:
        """Print an event of any kind."""
        click.echo(json.dumps({"event": event, **values}, ensure_ascii=False))


def state_line(state: ExtractProgress) -> str:
    """The state of a run, in one line."""
    left = "" if state.seconds_left is None else f", {duration(state.seconds_left)} left"
    errors = f", {state.failures} failed" if state.failures else ""
    return (
        f"{state.videos_done}/{state.videos_total} videos{errors}, "
        f"{state.clips_done} clips at {state.clips_per_second:.1f}/s "
        f"({state.frames_per_second:.0f} frames/s), "
        f"network idle {state.network_waited_share:.0%}, "
        f"decoders held back {state.decoding_blocked_share:.0%}{left}"
    )


def short_line(state: ExtractProgress, width: int) -> str:
    """The state for a terminal, most important facts first; those that do not fit are left out."""
    facts = [f"{state.videos_done}/{state.videos_total} videos"]
    if state.seconds_left is not None:
        facts.insert(0, f"{duration(state.seconds_left)} left")
    if state.failures:
        facts.append(f"{state.failures} failed")
    facts += [
        f"{state.clips_per_second:.1f} clips/s",
        f"{state.frames_per_second:.0f} frames/s",
        f"idle: network {state.network_waited_share:.0%}",
        f"decoders {state.decoding_blocked_share:.0%}",
    ]
    text = facts[0]
    for fact in facts[1:]:
        if len(text) + 2 + len(fact) > width:
            break
        text += f"  {fact}"
    return text


def failure_line(failure: VideoFailure) -> str:
    """A line for a video that could not be read."""
    return f"vidfeat: {one_line(failure.path)}: {failure.message}"


def say_summary(output: Path, report: ExtractReport, encoder: Encoder) -> None:
    """Print the summary of a run."""
    from vidfeat.pretrained import bundled

    size = size_text(output.stat().st_size)
    click.echo(
        f"{output}: {counted(report.videos, 'video')}, {counted(report.clips, 'clip')} x "
        f"{encoder.dimension} "
        f"({encoder.spec.model}, weights {encoder.spec.weights}), {size}"
    )
    if report.clips_encoded:
        seconds = max(report.seconds, 1e-9)
        waited = report.assembly["network_waited_seconds"] / seconds
        click.echo(
            f"  encoded {counted(report.clips_encoded, 'clip')} in {duration(seconds)} "
            f"({report.clips_encoded / seconds:.1f} clips/s; the network waited for decoding "
            f"{waited:.0%} of the time)"
        )
    if report.videos_reused:
        reused = counted(report.videos_reused, "video was", "videos were")
        click.echo(f"  {reused} already there, unchanged")
    if report.videos_dropped:
        dropped = report.videos_dropped
        told = counted(dropped, "video or failure was", "videos or failures were")
        whose = "its file is" if dropped == 1 else "their files are"
        click.echo(f"  {told} dropped: {whose} gone")
    if encoder.spec.weights == bundled.NAME:
        click.echo(f"  {with_flags(bundled.HINT, ())}")
    for note in report.notes:
        click.echo(f"  note: {note}")
    if report.failures:
        click.echo(
            f"  {counted(len(report.failures), 'video')} failed, or broke midway: one line each "
            "above, and in /errors of the file"
        )


def say_dry_run(estimate: DryRun) -> None:
    """Print the estimate of a dry run."""
    click.echo(
        f"{counted(estimate.videos, 'video')} ({size_text(estimate.bytes)}, "
        f"{duration(estimate.video_seconds)} of video), {counted(estimate.clips, 'clip')}, "
        f"a file of about {size_text(estimate.output_bytes)}"
    )
    work = f" of {estimate.gflops_per_clip:,.3g} GFLOPs" if estimate.gflops_per_clip else ""
    click.echo(
        f"  about {duration(estimate.seconds)} here: {estimate.clips_per_second:.3g} clips/s"
        f"{work} through the network, measured on one batch"
    )
    for path, message in estimate.failures:
        click.echo(f"  cannot be read: {one_line(path)}: {message}")
