"""Text towers of transformers' networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# These were trained on texts padded to full length, and are wrong on others.
_FULL_LENGTH = ("siglip", "videoprism")
_DEFAULT_LENGTH = 64
# VideoPrism has no learned temperature; its authors' example divides by 0.01.
_DEFAULT_SCALE = 100.0


class HFTextTower:
    """Embeds texts into the space of a network's clips or frames; see ``spec.TextTower``."""

    def __init__(self, folder: Path, model: Any) -> None:
        """The tokenizer is loaded with the first text."""
        self._folder = folder
        self._model = model
        self._tokenizer: Any = None

    @property
    def scale(self) -> float:
        """See `spec.TextTower`."""
        learned = getattr(self._model, "logit_scale", None)
        return _DEFAULT_SCALE if learned is None else float(learned.detach().exp())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of N texts, as the network returns them: not normalised."""
        import torch
        from transformers import AutoTokenizer

        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )
        config = self._model.config
        length = getattr(config.text_config, "max_position_embeddings", _DEFAULT_LENGTH)
        tokens = self._tokenizer(
            list(texts),
            padding="max_length" if config.model_type in _FULL_LENGTH else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = self._model.get_text_features(**tokens)
        vectors: NDArray[np.float32] = getattr(found, "pooler_output", found).float().numpy()
        return vectors
