"""Several encoders with their vectors side by side, for queries of joined features."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import encoder_from_description
from vidfeat.errors import StoreError, UsageError
from vidfeat.store.join import join_vectors, joined_identity
from vidfeat.store.matching import Spans, match_rows
from vidfeat.store.reader import Embeddings
from vidfeat.store.records import RunIdentity
from vidfeat.video.clip_plan import VideoSegment


class JoinedEncoder:
    """Encodes a video with each of its parts, and joins the rows of the same seconds.

    Args:
        parts: the encoders, or joined ones, in the order of their columns.
        scale: ``unit`` or ``none``; see `vidfeat.store.join`.
        match: ``span``, ``start`` or ``centre``.
    """

    def __init__(self, parts: Sequence[Encoder | JoinedEncoder], *, scale: str, match: Any) -> None:
        self.parts = list(parts)
        self.scale = scale
        self.match = match

    @property
    def dimension(self) -> int:
        """Length of a row."""
        return sum(part.dimension for part in self.parts)

    @property
    def _identity(self) -> RunIdentity:
        return joined_identity(
            [
                RunIdentity(
                    part.describe(), part.space_fingerprint, part.run_fingerprint, part.dimension
                )
                for part in self.parts
            ],
            self.scale,
            self.match,
        )

    def describe(self) -> dict[str, Any]:
        """The description of the encoder in feature files, as JSON."""
        return dict(self._identity.encoder)

    @property
    def space_fingerprint(self) -> str:
        """Equal for encoders whose vectors can be compared."""
        return self._identity.space_fingerprint

    @property
    def run_fingerprint(self) -> str:
        """Equal for runs whose rows may share a file."""
        return self._identity.run_fingerprint

    def encode(
        self,
        video: str | os.PathLike[str],
        *,
        segment: VideoSegment | tuple[float, float | None] | None = None,
    ) -> Embeddings:
        """Embed the clips of one video; see :meth:`Encoder.encode`."""
        return self.encode_with(lambda encoder: encoder.encode(video, segment=segment))

    def encode_with(self, encode: Callable[[Encoder], Embeddings]) -> Embeddings:
        """Like :meth:`encode`, with a function that embeds the video with one encoder.

        Raises:
            StoreError: the parts lay their clips so differently that no two cover the same seconds.
        """
        held = [
            part.encode_with(encode) if isinstance(part, JoinedEncoder) else encode(part)
            for part in self.parts
        ]
        spans = [Spans(0, rows.start_seconds, rows.end_seconds) for rows in held]
        # No frame of a typical video lasts longer than this.
        rows = match_rows(spans, self.match, tolerance_seconds=0.05)
        if not rows.shape[1]:
            raise StoreError(
                "the networks of these joined features lay their clips so differently over this "
                "video that no two cover the same seconds: extract it with each, join the files "
                "with vidfeat join, and give the joined file"
            )
        parts = [one.vectors[chosen] for one, chosen in zip(held, rows, strict=True)]
        return Embeddings(
            join_vectors(parts, unit=self.scale == "unit"),
            np.min([one.start_seconds[row] for one, row in zip(held, rows, strict=True)], axis=0),
            np.max([one.end_seconds[row] for one, row in zip(held, rows, strict=True)], axis=0),
        )


def query_encoder(
    description: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    model: str | None = None,
) -> Encoder | JoinedEncoder:
    """The encoder, or the joined ones, that features were made with, ready for new videos.

    Args:
        description: the encoder's description in a feature file or an index.
        weights: where the weights are, if they have moved; only for a single network.
        device: where to run.
        model: ``FILE.py:FUNCTION`` of your own network, which is run.

    Raises:
        WeightsError: the weights have moved.
        FingerprintError: other tensors were found there.
        UsageError: ``weights`` or ``model`` for joined features.
    """
    if "joined" not in description:
        return encoder_from_description(description, weights, device=device, model=model)
    for name, value in (("weights", weights), ("model", model)):
        if value is not None:
            raise UsageError(
                f"{name} cannot be given for one of several networks: extract the query with each, "
                "join the files with vidfeat join, and give the joined file",
                field=name,
            )
    parts = [query_encoder(part, device=device) for part in description["joined"]]
    return JoinedEncoder(parts, scale=description["scale"], match=description["match"])
