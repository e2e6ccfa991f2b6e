"""Numbers, sizes and durations in sentences."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: ``1 video``, ``1,200 videos``.

    Args:
        number: how many.
        one: what follows a 1: ``video``, ``video has``.
        several: what follows other numbers, where that is not ``one`` with an s: ``videos have``.
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def one_line(text: str) -> str:
    """A path or a name without the line breaks and tabs that it may have, which break tables."""
    return text.encode("unicode_escape").decode() if any(c in text for c in "\r\n\t") else text


def duration(seconds: float) -> str:
    """Seconds as ``4.2 s``, ``42 s``, ``7 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(size: float) -> str:
    """Bytes as ``512 bytes``, ``3.7 MB``, ``120 GB``."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
