"""What the licence of a network's weights means for users of its vectors."""

from __future__ import annotations

import re

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[- ]only", re.IGNORECASE)


def is_non_commercial(licence: str) -> bool:
    """Whether a licence's name says that it forbids commercial use, as in ``cc-by-nc-4.0``."""
    return _NON_COMMERCIAL.search(licence) is not None


def with_remark(licence: str) -> str:
    """The licence, with a remark if commercial use is forbidden."""
    if is_non_commercial(licence):
        return f"{licence} (of the weights: no commercial use)"
    return f"{licence} (of the weights)"
