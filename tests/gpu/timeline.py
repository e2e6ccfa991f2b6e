"""Run a command of vidfeat and note where its main thread was, over time.

    python timeline.py OUTPUT.json extract FOLDER -o FILE ...

A thread samples the main thread's stack every few milliseconds. It notes the chain of imports and
of vidfeat's functions, whatever their names, so that no list of names has to be maintained.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

_STEP_SECONDS = 0.005
_DEPTH = 4


def process_age() -> float:
    """Seconds since this process was started (0 if the system does not report it)."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def place(frame: FrameType | None) -> tuple[str, ...]:
    """The outermost functions of vidfeat on the stack, and what it is importing or calling."""
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    ours: list[str] = []
    package = ""
    for entry in reversed(stack):
        name = str(entry.f_globals.get("__name__", "?"))
        if name.startswith("vidfeat"):
            package = ""
            if entry.f_code.co_name != "<module>" or not ours:
                ours.append(f"{name}.{entry.f_code.co_name}")
        elif entry.f_code.co_name == "<module>" and name != "__main__":
            package = package or f"import {name.split('.')[0]}"
        elif name.split(".")[0] in {"torch", "av", "h5py", "subprocess", "numpy"} and not package:
            package = f"{name}.{entry.f_code.co_name}"
    ours = [part for part in ours if not part.startswith("vidfeat.cli.main")]
    return (*ours[:2], *ours[2:][-(_DEPTH - 2) :], *([package] if package else []))


def main() -> None:
    output = Path(sys.argv[1])
    age = process_age()
    origin = time.monotonic() - age
    phases: list[tuple[float, float, tuple[str, ...]]] = []
    main_thread = threading.get_ident()
    over = threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not over.wait(_STEP_SECONDS):
            now = time.monotonic()
            where = place(sys._current_frames().get(main_thread))
            # this thread cannot run while the main thread holds the interpreter: that time counts
            # for the place where the main thread is found next
            if phases and phases[-1][2] == where:
                phases[-1] = (phases[-1][0], now - origin, where)
            else:
                phases.append((before - origin, now - origin, where))
            before = now

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status: object = 0
    sys.argv = ["vidfeat", *sys.argv[2:]]
    try:
        from vidfeat.cli import main as command

        status = command()
    except SystemExit as leaving:
        status = leaving.code
    finally:
        over.set()
        watcher.join()
        kept = [
            {"from": round(low, 3), "to": round(high, 3), "where": list(where)}
            for low, high, where in phases
            if high - low >= 0.02
        ]
        totals: dict[str, float] = {}
        for low, high, where in phases:
            name = where[-1] if where else "start"
            totals[name] = totals.get(name, 0.0) + high - low
        most = sorted(totals.items(), key=lambda item: -item[1])[:30]
        report = {
            "interpreter_seconds": round(age, 3),
            "seconds": round(time.monotonic() - origin, 3),
            "totals": {name: round(seconds, 3) for name, seconds in most},
            "phases": kept,
        }
        output.write_text(json.dumps(report, indent=1))
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
