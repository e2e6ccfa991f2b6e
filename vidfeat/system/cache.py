"""The cache folder: ``$VIDFEAT_CACHE``, or the platform's; a temporary one if that is read-only.

=============  =====================================================================
weights/       downloaded weights
scans/         which videos of a folder can be read, for training
web/           pictures and segments of the search page
texts/         vectors of phrases
compiled/      kernels that torch and Triton compile
=============  =====================================================================
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "VIDFEAT_CACHE"


def chosen_cache() -> Path:
    """The chosen cache folder: ``$VIDFEAT_CACHE``, or else the platform's.

    It need not exist, and may be read-only.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vidfeat"))


def writable_cache() -> Path:
    """The cache folder to write to: the chosen one, or a temporary one if that is read-only.

    A temporary folder is reported once, in one line on standard error.
    """
    return _writable(chosen_cache())


@cache
def _writable(chosen: Path) -> Path:
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        if os.access(chosen, os.W_OK | os.X_OK):
            return chosen
        reason = "it is read-only"
    except OSError as error:
        reason = error.strerror or str(error)
    folder = _temporary()
    print(
        f"note: the cache folder {chosen} cannot be written to ({reason}): using {folder}; "
        f"set {CACHE_VARIABLE} to choose another",
        file=sys.stderr,
    )
    return folder


def _temporary() -> Path:
    """The user's own temporary cache folder, the same each time.

    Others can create folders there too: a link, or a folder of another user, is not used.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"vidfeat-cache-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        own = status.st_uid == os.getuid() if hasattr(os, "getuid") else True
        private = os.name == "nt" or not status.st_mode & 0o022
        if stat.S_ISDIR(status.st_mode) and own and private and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="vidfeat-cache-"))


def keep_matplotlib_quiet() -> None:
    """Give matplotlib a folder for its caches if it cannot write to its own.

    Otherwise it would warn in three lines and rebuild its list of fonts each time. Call this before
    importing it.
    """
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        return
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # "building the cache"
    for variable, name in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        base = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), name)  # noqa: PTH111, PTH118
        folder = Path(base) / "matplotlib"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                continue
        except OSError:
            pass
        os.environ["MPLCONFIGDIR"] = str(writable_cache() / "matplotlib")
        return
