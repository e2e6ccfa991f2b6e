"""Attention over the rows of a sample, as a scikit-learn classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from vidfeat.heads.attention import AttentionSettings, Sequences, train_attention
from vidfeat.heads.base_head import BaseHead, Prepared
from vidfeat.heads.scorers import HeadKind


class AttentiveHead(BaseHead):
    """Learned queries that attend to a sample's rows, by their content and their time.

    It is fitted on `Sequences`, the rows of each sample in the order of time; plain vectors are
    samples of one row. ``fit`` and ``predict_proba`` take either.

    Args:
        alpha: strength of the L2 penalty.
        queries: number of queries; each takes ``width`` values from a row.
        width: see ``queries``.
        epochs: passes over the samples.
        learning_rate: of Adam.
        standardize: subtract the mean and divide by the deviation of the training rows.
        normalize: divide rows by their L2 norm, after standardising.
        temperature: divides the logits before the softmax.
        random_state: seed of the initial tensors and of the order of the samples.
    """

    kind: HeadKind = "attentive"

    def __init__(
        self,
        *,
        alpha: float = 0.1,
        queries: int = 8,
        width: int = 8,
        epochs: int = 60,
        learning_rate: float = 0.003,
        standardize: bool = True,
        normalize: bool = False,
        temperature: float = 1.0,
        random_state: Any = 0,
    ) -> None:
        self.alpha = alpha
        self.queries = queries
        self.width = width
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.standardize = standardize
        self.normalize = normalize
        self.temperature = temperature
        self.random_state = random_state

    def fit(self, X: ArrayLike | Sequences, y: ArrayLike, *, parts: tuple[int, ...] = ()) -> Self:
        """Fit on `Sequences` of S samples, or vectors ``X`` (N, D), and a label for each.

        Args:
            X: the sequences, or vectors.
            y: a label for each.
            parts: see :meth:`Prepared.of`.

        Raises:
            ValueError: fewer than two classes, or vectors that are not finite.
        """
        if not isinstance(X, Sequences):
            return super().fit(X, y, parts=parts)
        targets = np.asarray(y)
        check_classification_targets(targets)
        if len(targets) != len(X):
            raise ValueError(f"{len(targets)} labels for {len(X)} samples")
        if not np.isfinite(X.rows).all():
            raise ValueError("rows hold NaN or infinity")
        self.n_features_in_ = int(X.rows.shape[1])
        prepared = Prepared.of(X, self.standardize, self.normalize, parts)
        return self.fit_prepared(prepared, targets)

    def predict_proba(self, X: ArrayLike | Sequences) -> NDArray[np.float64]:
        """Class scores (S, C), columns in the order of ``classes_``."""
        if not isinstance(X, Sequences):
            return super().predict_proba(X)
        check_is_fitted(self)
        return self.scorer_.scores(X)

    def _fit_arrays(
        self,
        vectors: NDArray[Any] | Sequences,
        targets: NDArray[Any],  # noqa: ARG002
        encoded: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        given = vectors if isinstance(vectors, Sequences) else Sequences.of_single_rows(vectors)
        if not self.alpha >= 0 or self.queries < 1 or self.width < 1 or self.epochs < 1:
            raise ValueError("alpha is 0 or more; queries, width and epochs are 1 or more")
        settings = AttentionSettings(
            int(self.queries),
            int(self.width),
            float(self.alpha),
            int(self.epochs),
            float(self.learning_rate),
            seed=int(self.random_state or 0),
        )
        found = train_attention(given, encoded.astype(np.int64), len(np.unique(encoded)), settings)
        dtype = given.rows.dtype
        return {name: np.ascontiguousarray(array, dtype=dtype) for name, array in found.items()}
