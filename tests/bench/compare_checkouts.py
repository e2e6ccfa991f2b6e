"""Compare two checkouts: the same rows, run in turn, and the median of their ratios.

    python tests/bench/compare_checkouts.py BEFORE AFTER [--rows decoding,help] [--pairs 15]

Each checkout has been set up by ``make test`` (its own ``.venv``). Every figure comes from a fresh
process of the checkout; within a pair the order alternates, so that a drifting machine favours
neither. A ratio above 1 means that AFTER is slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = ("decoding", "help", "one", "dense")
BENCH = "tests/bench/bench_extract.py"


def measure(checkout: Path, row: str, folder: Path) -> float:
    """Seconds of one row in a checkout (for decoding: CPU seconds per frame)."""
    binaries = checkout / ".venv" / "bin"
    if row == "help":
        began = time.perf_counter()
        for _ in range(3):
            subprocess.run([binaries / "vidfeat", "--help"], check=True, capture_output=True)
        return time.perf_counter() - began
    arguments = (
        ["--reader", "ours"]
        if row == "decoding"
        else ["--child", "vidfeat", row, "random", "--folder", str(folder)]
    )
    done = subprocess.run(
        [binaries / "python", BENCH, *arguments],
        cwd=checkout,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    answer = done.stdout.splitlines()[-1]
    return float(answer) if row == "decoding" else float(json.loads(answer)["seconds"])


def main(arguments: list[str] | None = None) -> int:
    """Measure the rows and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--pairs", type=int, default=15)
    given = parser.parse_args(arguments)
    checkouts = (given.before.resolve(), given.after.resolve())
    slower = False
    for row in given.rows.split(","):
        ratios = []
        with tempfile.TemporaryDirectory() as name:
            for pair in range(-1, given.pairs):  # the first pair warms the disk cache
                order = checkouts if pair % 2 else checkouts[::-1]
                took = {checkout: measure(checkout, row, Path(name)) for checkout in order}
                if pair >= 0:
                    ratios.append(took[checkouts[1]] / took[checkouts[0]])
        middle = statistics.median(ratios)
        slower |= middle > 1.05
        print(
            f"{row:10} after / before: median {middle:.3f} of {len(ratios)} pairs "
            f"({min(ratios):.3f} to {max(ratios):.3f})",
            flush=True,
        )
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
