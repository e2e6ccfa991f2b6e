"""Pictures: quiet about letters that a font lacks, whole or absent, of a known format."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from vidfeat.errors import UsageError
from vidfeat.evaluation import plots

NAMES = ("跑步", "歩く", "दौड़", "🏃 run", "walk $x^2$")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG", ""])
def test_letters_that_the_font_lacks_are_no_noise(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / (f"picture.{suffix}" if suffix else "picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with plots.figure(5, 5) as (made, axes):
            plots.confusion(axes[0], np.eye(len(NAMES), dtype=np.int64), NAMES)
            plots.save_picture(made, target)
            if suffix == "svg":
                assert NAMES[0] in plots.to_svg(made, name="x", description="x")
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_a_format_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with plots.figure(2, 2) as (made, _), pytest.raises(UsageError, match=r"take \.png, \.svg"):
        plots.save_picture(made, tmp_path / "picture.bmp3")
    assert not list(tmp_path.iterdir())
