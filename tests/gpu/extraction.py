"""Rows about ``vidfeat extract``: throughput, start-up, and the result after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from checks import (
    Context,
    Finished,
    Result,
    compare_files,
    environment,
    knows_option,
    skipped,
    utilisation,
    vidfeat,
)

HERE = Path(__file__).resolve().parent


def network(context: Context) -> list[str]:
    """Options for the network: the usual one on a GPU, the small one on a CPU."""
    if context.small:
        return ["--model", "bundled", "--device", context.device]
    return ["--model", "r2plus1d_18", "--weights", "random", "--device", context.device]


def extract(
    context: Context, folder: Path, name: str, *options: str, baseline: bool = False
) -> tuple[Finished, dict[str, object]]:
    """Run ``vidfeat extract`` from scratch; its own report, or {} if it failed."""
    target = context.scratch / f"{name}.h5"
    stats = context.scratch / f"{name}.stats.json"
    for path in (target, stats):
        path.unlink(missing_ok=True)
    shutil.rmtree(context.scratch / f"{name}.h5.parts", ignore_errors=True)
    finished = vidfeat(
        context,
        *("extract", folder, "-o", target, "--stats", stats, *network(context), *options),
        baseline=baseline,
    )
    return finished, json.loads(stats.read_text()) if stats.exists() else {}


def throughput(
    context: Context, name: str, required: float, *options: str, baseline: bool = False
) -> Result:
    """Extract a folder; clips per second of the work, and of the whole command."""
    with utilisation(context) as busy:
        finished, stats = extract(context, context.files, name, *options, baseline=baseline)
    if finished.status or not stats:
        return {"ok": False, "figure": f"status {finished.status}: {finished.output[-150:]}"}
    assembly = stats["assembly"]
    assert isinstance(assembly, dict)
    clips, seconds = int(assembly["clips_encoded"]), float(str(stats["seconds"]))
    rate = clips / seconds
    cores = finished.processor_seconds / finished.wall_seconds
    return {
        "ok": rate >= required or context.small,
        "figure": f"{rate:.0f} clips/s ({clips} in {seconds:.1f} s{between(stats)}; whole command "
        f"{finished.wall_seconds:.1f} s)",
        "clips_per_second": rate,
        "clips_per_second_of_command": clips / finished.wall_seconds,
        "busy_processors": cores,
        "stats": stats,
        "card": dict(busy),
    }


def between(stats: dict[str, object]) -> str:
    """When the first clip and the last one had been decoded; nothing from an earlier version."""
    if "seconds_to_first_clip" not in stats:
        return ""
    first, last = (float(str(stats[f"seconds_to_{end}_clip"])) for end in ("first", "last"))
    return f", clips from {first:.1f} to {last:.1f} s"


def today(context: Context) -> Result:
    """The same measurement, at the same time, of the code that ``gpu.md`` measured."""
    if not (context.pack / "baseline").is_dir():
        return skipped("the history here lacks the commit measured before")
    options = [] if context.small else ["--precision", "bf16"]
    return throughput(context, "today", 0.0, *options, baseline=True)


def product_options(context: Context) -> list[str]:
    return [] if context.small else ["--precision", "fp16"]


def cores(context: Context) -> Result:
    """All decoding on the CPU."""
    options = product_options(context)
    if knows_option(context, "extract", "--decoder"):
        options += ["--decoder", "cpu"]
    return throughput(context, "cores", 700.0, *options)


def cores_and_nvdec(context: Context) -> Result:
    """CPU and NVDEC together; the file must be the one that the CPU alone gives."""
    if not context.gpu:
        return skipped("no NVDEC without a GPU")
    if not knows_option(context, "extract", "--decoder"):
        return skipped("--decoder nvdec is not there")
    result = throughput(context, "nvdec", 1400.0, *product_options(context), "--decoder", "nvdec")
    alone = context.scratch / "cores.h5"
    if alone.exists() and "stats" in result:
        result["against_cores"] = compare_files(context.scratch / "nvdec.h5", alone)
        if result["against_cores"]["largest_relative_error"] > 1e-5:
            result["ok"] = False
            result["figure"] += "; OTHER VECTORS than with the processors alone"
    return result


def small_folder(context: Context, count: int) -> Path:
    folder = context.scratch / f"first-{count}"
    if not folder.exists():
        folder.mkdir()
        for path in sorted(context.files.iterdir())[:count]:
            os.link(path, folder / path.name)
    return folder


def start_up(context: Context) -> Result:
    """Seconds from start to exit of a second run on 32 small files."""
    folder = small_folder(context, 32)
    options = product_options(context)
    runs = [extract(context, folder, "start-up", *options)[0] for _ in range(2)]
    timeline = context.out / "start_up_timeline.json"
    target = context.scratch / "timeline.h5"
    vidfeat(
        context,
        *("extract", folder, "-o", target, *network(context), *options),
        program=(str(HERE / "timeline.py"), str(timeline)),
    )
    seconds = runs[1].wall_seconds
    return {
        "ok": runs[1].status == 0 and (seconds <= 5.0 or context.small),
        "figure": f"{seconds:.1f} s (first run {runs[0].wall_seconds:.1f} s)",
        "seconds_to_exit": [run.wall_seconds for run in runs],
        "processor_seconds": [run.processor_seconds for run in runs],
    }


def large_batch(context: Context) -> Result:
    """A batch that certainly does not fit, as the memory of the process is capped."""
    if not context.gpu:
        return skipped("a processor's memory is not capped this way")
    folder = small_folder(context, 64)
    options = product_options(context)
    usual, _ = extract(context, folder, "usual-batch", *options)
    target, stats = context.scratch / "large-batch.h5", context.scratch / "large-batch.json"
    program = (
        "import sys, torch\n"
        "torch.cuda.set_per_process_memory_fraction(0.08)\n"
        "from vidfeat.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    script = context.scratch / "capped.py"
    script.write_text(program)
    capped = vidfeat(
        context,
        *("extract", folder, "-o", target, "--stats", stats, "--batch-size", "2048"),
        *(*network(context), *options),
        program=(str(script),),
    )
    if usual.status or capped.status:
        return {"ok": False, "figure": f"status {usual.status}, {capped.status}"}
    largest = json.loads(stats.read_text())["engine"].get("largest_batch")
    compared = compare_files(target, context.scratch / "usual-batch.h5")
    error = compared["largest_relative_error"]
    return {
        "ok": bool(largest) and largest < 2048 and error < 2e-3,
        "figure": f"2048 became {largest}; vectors differ by {error:.1e}",
        **compared,
    }


def kill_and_rerun(context: Context) -> Result:
    """SIGKILL once parts are there, then the same command: the file must be as if uninterrupted."""
    count = 16 if context.small else 220
    folder = small_folder(context, count)
    # Dense clips and few workers: small parts that finish early, from few frames.
    options = [*product_options(context), "--hop-frames", "1", "--workers", "4"]
    whole, _ = extract(context, folder, "left-alone", *options)
    target = context.scratch / "killed.h5"
    parts = context.scratch / "killed.h5.parts"
    command = [sys.executable, "-m", "vidfeat", "extract", str(folder), "-o", str(target)]
    command += [*network(context), *options]
    print("$", *command, "(to be killed)", flush=True)
    process = subprocess.Popen(command, cwd=context.scratch, env=environment(context))
    finished_parts = 0
    while process.poll() is None and not finished_parts:
        time.sleep(0.02)
        finished_parts = len(list(parts.glob("*.part"))) if parts.is_dir() else 0
    found = sorted(path.name for path in parts.iterdir()) if parts.is_dir() else []
    process.send_signal(signal.SIGKILL)
    status = process.wait()
    again = vidfeat(context, "extract", folder, "-o", target, *network(context), *options)
    if whole.status or again.status:
        return {"ok": False, "figure": f"status {whole.status}, {again.status}"}
    compared = compare_files(target, context.scratch / "left-alone.h5")
    killed = status == -signal.SIGKILL
    return {
        "ok": killed and not compared["differing"],
        "figure": ("equal" if not compared["differing"] else f"differs: {compared}")
        + (f", killed with {finished_parts} parts there" if killed else ", but was over too soon"),
        "files_at_the_kill": found,
        "seconds": [whole.wall_seconds, again.wall_seconds],
        **compared,
    }
