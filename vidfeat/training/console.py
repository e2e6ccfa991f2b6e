"""Console output of a run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import IO, Any

from vidfeat.system.wording import counted, duration

_PLAIN_SECONDS = 20.0
_LIVE_SECONDS = 0.2


class Console:
    """Prints the lines of a run's log to a stream, standard error by default."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._said = time.monotonic()
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=50)
        self._shown = 0

    def __call__(self, line: dict[str, Any]) -> None:
        """Print what one line of the log reports."""
        event = line["event"]
        if event == "step":
            self._step(line)
        elif event == "start":
            self.say(
                f"{line['data']}\n{line['model']}, {line['parameters'] / 1e6:.1f} M parameters, "
                f"from {line['init']} weights; {counted(line['steps'], 'step')} of "
                f"{counted(line['batch'], 'clip')}, {line['steps_per_epoch']:,} per epoch; "
                f"{counted(line['processes'], 'process', 'processes')} on {line['device']}, "
                f"{counted(line['threads'], 'thread')}"
            )
            for note in line.get("notes", ()):
                self.say(f"note: {note}")
        elif event == "evaluation":
            self.say(
                f"step {line['step']:,}: clip@1 {line['clip@1']:.1%}, video@1 "
                f"{line['video@1']:.1%}"
                + (f", video@5 {line['video@5']:.1%}" if "video@5" in line else "")
                + f" of {counted(line['videos'], 'video')}"
                + (f", {line['failed']} could not be read" if line["failed"] else "")
            )
        elif event == "resume":
            again = line["repeated_steps"]
            self.say(
                f"resumed at step {line['step']:,}"
                + (f"; {counted(again, 'step is', 'steps are')} repeated" if again else "")
            )
            for reason in line.get("passed_over", ()):
                self.say(f"skipped: {reason}")
        elif event == "stop":
            self.say(f"stopped at step {line['step']:,} by {line['reason']}: --resume continues")
        elif event == "precision" and line["fp32_layers"]:
            names = ", ".join(line["fp32_layers"][:3])
            more = len(line["fp32_layers"]) - 3
            self.say(
                f"note: {line['precision']} is computed wrongly here for {names}"
                + (f" and {more} more layers" if more > 0 else "")
                + ": they run in fp32 (a faulty kernel of torch for this processor)"
            )
        elif event == "unreadable":
            self.say(f"{line['path']}: {line['reason']}; another clip took its place")

    def say(self, text: str) -> None:
        """Print permanent lines, above the live one."""
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _step(self, line: dict[str, Any]) -> None:
        self._recent.append((line["clips_per_second"], line["wait_share"], line["seconds"]))
        now = time.monotonic()
        last = line["step"] >= line["steps"]
        if now - self._said < (_LIVE_SECONDS if self._live else _PLAIN_SECONDS) and not last:
            return
        self._said = now
        count = len(self._recent)
        speed, wait, seconds = (sum(values) / count for values in zip(*self._recent, strict=True))
        left = duration(seconds * (line["steps"] - line["step"]))
        text = (
            f"epoch {line['epoch'] + 1}, step {line['step']:,}/{line['steps']:,}: "
            f"loss {line['loss'] if line['loss'] is not None else float('nan'):.3f}, "
            f"accuracy {line['accuracy']:.0%}, {speed:.1f} clips/s, data wait {wait:.0%}, "
            f"{left} left"
        )
        if self._live:
            self._clear()
            self._stream.write(text)
            self._shown = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live and self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._shown = 0
