"""Starting Python processes, never with the current directory on their path.

``python -m`` looks for modules in the current directory first. A user's ``random.py`` or ``csv.py``
there would replace the standard library's.
"""

from __future__ import annotations

import os
import sys


def python_module(module: str) -> list[str]:
    """The start of a command that runs a module as the main program (as ``python -m`` does)."""
    return [sys.executable, "-P", "-m", module]


def child_environment(**changes: str) -> dict[str, str]:
    """The environment for a child: ours with some changes, and a path without the current folder.

    An empty entry of PYTHONPATH, left by a stray colon, means the current directory.
    """
    environment = {**os.environ, **changes}
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if path and path != os.curdir]
    if kept:
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    else:
        environment.pop("PYTHONPATH", None)
    return environment
