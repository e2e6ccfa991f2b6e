"""``make bench``: every benchmark of this folder, one table.

    python tests/bench [NAME ...]       for example: python tests/bench extract store

Each script can also be run by itself. Figures are ratios within one run where possible.
"""

from __future__ import annotations

import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(chosen: list[str]) -> int:
    """Run the scripts whose names contain one of those given; all scripts if none is given."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    failed = 0
    for script in sorted(HERE.glob("bench_*.py")):
        if chosen and not any(name in script.stem for name in chosen):
            continue
        print(f"\n{script.stem.removeprefix('bench_')}", flush=True)
        began = time.monotonic()
        arguments = sys.argv
        sys.argv = [str(script)]
        try:
            rows = import_module(script.stem).main()
        except Exception:
            traceback.print_exc()
            failed += 1
            continue
        finally:
            sys.argv = arguments
        for name, figure, target in (tuple(row)[:3] for row in rows or []):
            shown = f"{figure:.3f}" if isinstance(figure, float) else str(figure)
            print(f"  {name:<72} {shown:>10}   {target}")
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
