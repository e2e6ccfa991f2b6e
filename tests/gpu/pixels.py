"""The same frames by every way: decoded on the processors, resized on the device, from NVDEC."""

from __future__ import annotations

from checks import Context, Result, skipped


def equal_pixels(context: Context) -> Result:
    return skipped("not written yet")
