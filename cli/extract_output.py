"""What ``vidfeat extract`` prints: a live line, one line per failure, the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from vidfeat.system.wording import counted

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.extraction.dry_run import DryRun
    from vidfeat.extraction.report import ExtractProgress, ExtractReport
    from vidfeat.store.records import VideoFailure

_PLAIN_SECONDS = 10.0


class Show(Protocol):
    """Shows where a run stands, and prints lines above that."""

    def __call__(self, state: ExtractProgress) -> None:
        """Show the state."""

    def line(self, text: str) -> None:
        """Print a line that stays."""


@contextmanager
def live() -> Iterator[Show]:
    """A bar on a terminal, a plain line now and then elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        BarColumn(bar_width=10),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("extract", total=1.0, text="")

        class Bar:
            def __call__(self, state: ExtractProgress) -> None:
                done = 1 - _share_left(state)
                progress.update(task, completed=done, text=short_line(state))

            def line(self, text: str) -> None:
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield Bar()


def _share_left(state: ExtractProgress) -> float:
    if state.seconds_left is None:
        return 1.0
    return state.seconds_left / max(1e-9, state.seconds + state.seconds_left)


class _Plain:
    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, state: ExtractProgress) -> None:
        if time.monotonic() - self._said >= _PLAIN_SECONDS:
            self._said = time.monotonic()
            click.echo(f"extract: {state_line(state)}", err=True)

    def line(self, text: str) -> None:
        click.echo(text, err=True)


def state_line(state: ExtractProgress) -> str:
    """Where a run stands, in one line."""
    left = "" if state.seconds_left is None else f", {duration(state.seconds_left)} left"
    errors = f", {state.failures} failed" if state.failures else ""
    return (
        f"{state.videos_done}/{state.videos_total} videos{errors}, "
        f"{state.clips_done} clips at {state.clips_per_second:.1f}/s "
        f"({state.frames_per_second:.0f} frames/s), "
        f"network idle {state.network_waited_share:.0%}, "
        f"decoders held back {state.decoding_blocked_share:.0%}{left}"
    )


def short_line(state: ExtractProgress) -> str:
    """The same for a terminal, what matters most first: narrow ones cut the end."""
    left = "" if state.seconds_left is None else f"{duration(state.seconds_left)} left  "
    errors = f" {state.failures} failed" if state.failures else ""
    return (
        f"{left}{state.videos_done}/{state.videos_total} videos{errors}  "
        f"{state.clips_per_second:.1f} clips/s {state.frames_per_second:.0f} frames/s  "
        f"idle: network {state.network_waited_share:.0%} decoders "
        f"{state.decoding_blocked_share:.0%}"
    )


class FailureLines:
    """Prints a line for each video that could not be read."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def __call__(self, failure: VideoFailure) -> None:
        """Print it."""
        self._show.line(f"vidfeat: {one_line(failure.path)}: {failure.message}")


def one_line(path: str) -> str:
    """A path without the line breaks that file names may have."""
    return path.encode("unicode_escape").decode() if any(c in path for c in "\r\n\t") else path


def duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def say_summary(output: Path, report: ExtractReport, encoder: Encoder) -> None:
    """Print what was done."""
    from vidfeat.pretrained import bundled

    size = megabytes(output.stat().st_size)
    click.echo(
        f"{output}: {report.videos} videos, {report.clips} clips x {encoder.dimension} "
        f"({encoder.spec.model}, weights {encoder.spec.weights}), {size}"
    )
    if report.clips_encoded:
        seconds = max(report.seconds, 1e-9)
        waited = report.assembly["network_waited_seconds"] / seconds
        click.echo(
            f"  encoded {report.clips_encoded} clips in {duration(seconds)} "
            f"({report.clips_encoded / seconds:.1f} clips/s; the network waited for decoding "
            f"{waited:.0%} of the time)"
        )
    if report.videos_reused:
        click.echo(f"  {report.videos_reused} videos were there already, unchanged")
    if report.videos_dropped:
        click.echo(
            f"  {report.videos_dropped} videos or failures were dropped: their files are gone"
        )
    if encoder.spec.weights == bundled.NAME:
        click.echo(f"  {bundled.HINT}")
    for note in report.notes:
        click.echo(f"  note: {note}")
    if report.failures:
        click.echo(
            f"  {counted(len(report.failures), 'video')} failed, or broke midway: one line each "
            "above, and in /errors of the file"
        )


def say_dry_run(estimate: DryRun) -> None:
    """Print what there would be to do."""
    click.echo(
        f"{estimate.videos} videos ({megabytes(estimate.bytes)}, "
        f"{duration(estimate.video_seconds)} of video), {estimate.clips} clips, "
        f"a file of about {megabytes(estimate.output_bytes)}"
    )
    work = f" of {estimate.gflops_per_clip:,.3g} GFLOPs" if estimate.gflops_per_clip else ""
    click.echo(
        f"  about {duration(estimate.seconds)} here: {estimate.clips_per_second:.3g} clips/s"
        f"{work} through the network, measured on one batch"
    )
    for path, message in estimate.failures:
        click.echo(f"  cannot be read: {one_line(path)}: {message}")
