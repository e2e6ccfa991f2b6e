"""Licences that forbid commercial use are told by their names."""

from __future__ import annotations

import pytest

from vidfeat.store.licence import is_non_commercial, with_remark


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("CC BY-NC-SA 4.0", True),
        ("apple-amlr research-only", True),
        ("Non-Commercial", True),
        ("apache-2.0", False),
        ("cc-by-4.0", False),
        ("dinov3-license", False),
        ("license-agency", False),
    ],
)
def test_by_name(licence: str, forbids: bool) -> None:
    assert is_non_commercial(licence) == forbids
    assert ("no commercial use" in with_remark(licence)) == forbids
