"""Run the rows of the GPU checks, each in a separate process with its own time limit.

``run.sh`` unpacks everything and starts it. ``--row`` runs a single row in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from checks import Context, Result

COPIES = 20


@dataclass(frozen=True)
class Row:
    """A line of the table: a function ``module:name``, and the required result.

    The function takes the context, or the device and whether to use small sizes.
    """

    name: str
    required: str
    function: str
    seconds: float
    """Time limit, the same on a GPU machine and on a CPU."""


ROWS = (
    Row("machine", "", "machine:machine", 30),
    Row("nvdec-alone", "reported", "nvdec_alone:measure", 90),
    Row("pixels", "equal", "pixels:equal_pixels", 60),
    Row("today", "reported", "extraction:today", 75),
    Row("cores", "700 clips/s", "extraction:cores", 75),
    Row("cores+nvdec", "1400 clips/s", "extraction:cores_and_nvdec", 75),
    Row("start-up", "at most 5 s", "extraction:start_up", 75),
    Row("large-batch", "halved, same vectors", "extraction:large_batch", 60),
    Row("kill", "equal file", "extraction:kill_and_rerun", 90),
)


def all_rows() -> list[Row]:
    """The rows above, and those that ``network_rows`` defines."""
    try:
        network: Any = import_module("network_rows")
    except ModuleNotFoundError:
        return list(ROWS)
    return [*ROWS[:2], *(Row(*values) for values in network.ROWS), *ROWS[2:]]


def copy_clips(context: Context) -> int:
    """Copy each clip several times under different names; returns the number of files."""
    clips = sorted((context.pack / "clips").glob("*.mp4"))
    copies = COPIES
    if context.small:
        clips, copies = clips[:8], 2
    context.files.mkdir(parents=True, exist_ok=True)
    for number in range(copies):
        for clip in clips:
            shutil.copyfile(clip, context.files / f"{clip.stem}-{number:02d}.mp4")
    return copies * len(clips)


def run_row(row: Row, context: Context, log: Any, seconds: float) -> dict[str, Any]:
    """Run a row in a separate process; returns its result, or how it failed."""
    answer = context.scratch / f"{row.name}.json"
    command = [sys.executable, __file__, "--row", row.name, "--context", context.to_json()]
    log.write(f"\n===== {row.name} =====\n")
    log.flush()
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=context.scratch
    )
    try:
        status: int | None = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        status = None
    except BaseException:
        _kill_group(process)
        raise
    _kill_group(process)
    spent = round(time.monotonic() - began, 1)
    result: Result = {}
    if answer.exists():
        result = json.loads(answer.read_text())
    if status is None:
        result |= {"ok": False, "figure": f"over its limit of {seconds:.0f} s"}
    elif status != 0 and "figure" not in result:
        result |= {"ok": False, "figure": f"ended with status {status}: see log.txt"}
    return result | {"seconds": spent, "required": row.required}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def verdict(result: Result) -> str:
    if "skipped" in result:
        return "skipped"
    return "pass" if result.get("ok") else "FAIL"


def table(results: dict[str, Result]) -> str:
    lines = []
    for name, result in results.items():
        figure = result.get("skipped") or result.get("figure", "")
        lines.append((name, verdict(result), str(figure), str(result.get("required", ""))))
    widths = [max((len(line[k]) for line in lines), default=0) for k in range(3)]
    return "\n".join(
        f"{name:{widths[0]}}  {what:7}  {figure:{min(60, widths[2])}}  "
        f"[{required}]  {results[name].get('seconds', 0):.0f} s"
        for name, what, figure, required in lines
    )


def run_all(context: Context, rows: list[Row], limit: float) -> int:
    began = time.monotonic()
    results: dict[str, Result] = {}
    about: dict[str, Any] = {"device": context.device, "python": platform.python_version()}
    about["pack"] = json.loads((context.pack / "pack.json").read_text())
    about["files"] = copy_clips(context)
    with (context.out / "log.txt").open("w") as log:
        for row in rows:
            left = limit - (time.monotonic() - began)
            if left < 5:
                results[row.name] = {
                    "ok": False,
                    "figure": f"not run: the limit of {limit:.0f} s was reached",
                    "required": row.required,
                }
            else:
                results[row.name] = run_row(row, context, log, min(row.seconds, left))
                line = results[row.name]
                print(
                    f"{row.name}: {verdict(line)} after {line['seconds']} s: "
                    f"{line.get('skipped') or line.get('figure', '')}",
                    flush=True,
                )
            about["seconds"] = round(time.monotonic() - began, 1)
            text = json.dumps({"about": about, "rows": results}, indent=1)
            partial = context.out / "results.json.partial"
            partial.write_text(text)
            partial.replace(context.out / "results.json")
    print(f"\n{table(results)}\n{about['seconds']} s in all", flush=True)
    return 0 if all(verdict(result) != "FAIL" for result in results.values()) else 1


def run_one(name: str, context: Context) -> int:
    """Run a row in this process and write its result."""
    row = next(row for row in all_rows() if row.name == name)
    module, function = row.function.split(":")
    try:
        work = getattr(import_module(module), function)
        takes_context = len(inspect.signature(work).parameters) == 1
        result = work(context) if takes_context else work(context.device, context.small)
    except Exception as error:
        traceback.print_exc()
        result = {"ok": False, "figure": f"{type(error).__name__}: {error}"[:200]}
    text = json.dumps(result, default=str)
    (context.scratch / f"{name}.json").write_text(text)
    print(text)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", help="rows to run, separated by commas")
    parser.add_argument("--limit", type=float, default=360.0, help="seconds for everything")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--context", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        return run_one(arguments.row, Context.from_json(arguments.context))
    rows = all_rows()
    if arguments.list:
        print("\n".join(f"{row.name}: {row.required}" for row in rows))
        return 0
    if arguments.only:
        names = arguments.only.split(",")
        unknown = set(names) - {row.name for row in rows}
        if unknown:
            parser.error(f"no rows {sorted(unknown)}: there are {[row.name for row in rows]}")
        rows = sorted(
            (row for row in rows if row.name in names), key=lambda row: names.index(row.name)
        )
    context = Context(
        arguments.pack.resolve(),
        arguments.scratch.resolve(),
        arguments.out.resolve(),
        arguments.device,
        small=arguments.device == "cpu",
    )
    return run_all(context, rows, arguments.limit)


if __name__ == "__main__":
    raise SystemExit(main())
