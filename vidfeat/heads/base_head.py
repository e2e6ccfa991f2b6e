"""Base class of the heads, a scikit-learn classifier."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vidfeat.heads.attention import Sequences
from vidfeat.heads.scorers import HeadKind, Scorer, l2_normalize


@dataclass(frozen=True)
class Prepared:
    """Training vectors, ready for a solver.

    Attributes:
        vectors: (N, D), or `Sequences` of them, standardised and normalised if requested.
        arrays: ``mean`` and ``scale`` (D,) if they were standardised.
    """

    vectors: NDArray[Any] | Sequences = field(repr=False)
    arrays: dict[str, NDArray[Any]] = field(repr=False)

    @classmethod
    def of(
        cls,
        vectors: NDArray[Any] | Sequences,
        standardize: bool,
        normalize: bool,
        parts: tuple[int, ...] = (),
    ) -> Self:
        """Standardise and normalise with the statistics of these vectors.

        If vectors of several networks are joined, each network gets the same total variance.
        Otherwise the longest vectors would drown out the others, regardless of quality.

        Args:
            vectors: (N, D), or `Sequences` of them.
            standardize: subtract the mean and divide by the deviation.
            normalize: divide by the L2 norm, afterwards.
            parts: length of each network's vectors, D in total; empty for one network.
        """
        if isinstance(vectors, Sequences):
            of_rows = cls.of(vectors.rows, standardize, normalize, parts)
            assert isinstance(of_rows.vectors, np.ndarray)
            return cls(Sequences(of_rows.vectors, vectors.first), of_rows.arrays)
        arrays: dict[str, NDArray[Any]] = {}
        rows: NDArray[Any] = vectors
        if standardize:
            scaler = StandardScaler().fit(rows)
            arrays["mean"] = np.asarray(scaler.mean_, dtype=rows.dtype)
            arrays["scale"] = np.asarray(scaler.scale_ * _balance(parts), dtype=rows.dtype)
            rows = (rows - arrays["mean"]) / arrays["scale"]
        if normalize:
            rows = l2_normalize(rows)
        return cls(rows, arrays)


def _balance(parts: tuple[int, ...]) -> NDArray[np.float64] | float:
    """Factors of deviations (D,) that give all parts the same total variance."""
    if len(parts) < 2:
        return 1.0
    shares = np.array(parts) * len(parts) / sum(parts)
    return np.repeat(np.sqrt(shares), parts)


class BaseHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Base of all heads: checks, the transform of vectors, prediction through the scorer."""

    kind: HeadKind
    standardize: bool
    normalize: bool
    temperature: float

    def fit(self, X: ArrayLike, y: ArrayLike, *, parts: tuple[int, ...] = ()) -> Self:
        """Fit on vectors ``X`` (N, D) and labels ``y`` (N,).

        Args:
            X: vectors (N, D).
            y: labels (N,).
            parts: see :meth:`Prepared.of`.

        Raises:
            ValueError: fewer than two classes, or vectors that are not finite.
        """
        vectors, targets = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(targets)
        prepared = Prepared.of(vectors, self.standardize, self.normalize, parts)
        return self.fit_prepared(prepared, targets)

    def fit_prepared(self, prepared: Prepared, targets: NDArray[Any]) -> Self:
        """Fit on vectors already standardised and normalised according to this head's settings.

        A search over hyper-parameters prepares the vectors of a fold once.

        Raises:
            ValueError: fewer than two classes, or an invalid hyper-parameter.
        """
        self.classes_, encoded = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs two classes or more, the labels hold one class: "
                f"{self.classes_[0]}"
            )
        arrays = dict(prepared.arrays)
        given: Any = prepared.vectors
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            arrays |= self._fit_arrays(given, targets, encoded)
        self.converged_ = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        self.scorer_ = Scorer(
            kind=self.kind,
            arrays=arrays,
            num_classes=len(self.classes_),
            normalize=bool(self.normalize),
            temperature=float(self.temperature),
            **self._settings(),
        )
        return self

    def _fit_arrays(
        self, vectors: NDArray[Any], targets: NDArray[Any], encoded: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        return {}

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Class scores (N, C), columns in the order of ``classes_``."""
        check_is_fitted(self)
        vectors = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.scorer_.scores(vectors)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The best class of each vector (N,)."""
        scores = self.predict_proba(X)  # first: it reports if the head is not fitted yet
        best: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return best
