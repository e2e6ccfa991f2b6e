"""Gives a decode process a card that is FFmpeg underneath: put this folder on PYTHONPATH.

``VIDFEAT_FAKE_CARD`` says what goes wrong with it: nothing, or a word and a number of frames.
"""

from __future__ import annotations

import os

if "VIDFEAT_FAKE_CARD" in os.environ:
    from tests.support.card_fixtures import FakeCard
    from vidfeat.video import nvcuvid

    nvcuvid.Card = lambda device: FakeCard(os.environ["VIDFEAT_FAKE_CARD"])  # type: ignore[misc,assignment]
