"""The CUDA context of a process, made while something else is imported."""

from __future__ import annotations

import ctypes
import threading


def begin_context(device: int = 0) -> None:
    """Create the primary context of a device, which torch will use, in a thread.

    Importing torch takes seconds in which the driver is idle. Without a driver or that device,
    nothing happens; torch will report what is wrong.
    """
    threading.Thread(target=_retain, args=(device,), name="cuda", daemon=True).start()


def _retain(device: int) -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(handle), device) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
