"""Where torch and Triton keep the kernels that they compile, from one process to the next."""

from __future__ import annotations

import os

from vidfeat.system.cache import writable_cache


def keep_compiled_code() -> None:
    """Keep compiled kernels in vidfeat's cache, unless the environment names other folders.

    torch would put them into the folder for temporary files, which does not survive a restart.
    """
    folder = writable_cache() / "compiled"
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(variable, str(folder / name))
