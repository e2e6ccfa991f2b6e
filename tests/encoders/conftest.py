"""What the tests of networks of other libraries share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.short_videos import write_short_videos


@pytest.fixture(scope="module")
def videos(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[list[np.ndarray]]]:
    """A folder of short videos, and the frames of each."""
    folder = tmp_path_factory.mktemp("short")
    return folder, list(write_short_videos(shared_data / "videos", folder).values())
