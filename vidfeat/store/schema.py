"""The layout of a feature file: its format name, version and columns."""

from __future__ import annotations

FORMAT = "vidfeat-features"
FORMAT_VERSION = 1
# name -> kind of value: "f" float64, "i" int64, "s" string
VIDEO_COLUMNS = {
    "path": "s",
    "offset": "i",
    "count": "i",
    "duration_seconds": "f",
    "fps": "f",
    "width": "i",
    "height": "i",
    "num_frames": "i",
    "num_frames_source": "s",
    "size_bytes": "i",
    "mtime_ns": "i",
}
ERROR_COLUMNS = {"path": "s", "message": "s", "kind": "s", "size_bytes": "i", "mtime_ns": "i"}
ROW_COLUMNS = {"start_seconds": "f", "end_seconds": "f", "video": "i"}
