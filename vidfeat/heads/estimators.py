"""Heads as scikit-learn classifiers: they clone, grid-search and sit in pipelines like any other.

Each is a thin layer over scikit-learn's own: it standardises and normalises as asked, fits, and
keeps the result as a ``Scorer``, which is all that prediction uses.

::

    LinearHead   multinomial logistic regression     C
    SVMHead      linear SVM, one against the rest    C
    KNNHead      nearest neighbours by L2 distance   n_neighbors, weighting
    MLPHead      one or more hidden layers, ReLU     hidden, alpha
    AttentiveHead  attention over rows in time       alpha, queries

``temperature`` divides the logits before the softmax. It changes no prediction, only how sure the
scores are; ``vidfeat.heads.selection`` fits it on held-out folds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.heads.attentive_head import AttentiveHead
from vidfeat.heads.base_head import BaseHead
from vidfeat.heads.scorers import DINO_TEMPERATURE, HeadKind

MAX_ITERATIONS = 1000

# Values from strong to weak regularisation: of equally good ones the search keeps the first.
GRIDS: dict[HeadKind, dict[str, tuple[Any, ...]]] = {
    "linear": {"C": (0.0001, 0.001, 0.01, 0.1, 1.0)},
    "svm": {"C": (0.00001, 0.0001, 0.001, 0.01, 0.1)},
    "knn": {"n_neighbors": (20, 10, 5, 3, 1)},
    "mlp": {"alpha": (10.0, 1.0, 0.1, 0.01, 0.0001)},
    "attentive": {"alpha": (1.0, 0.1, 0.01)},
}
# kNN evaluation as in DINO (arXiv 2104.14294, section 4.1), with more values of k and of the
# temperature.
DINO_GRID: dict[str, tuple[Any, ...]] = {
    "n_neighbors": (20, 200, 100, 50, 10, 5),
    "vote_temperature": (0.07, 0.1, 0.2),
}


class LinearHead(BaseHead):
    """Multinomial logistic regression.

    Args:
        C: inverse strength of the L2 penalty.
        class_weight: None or ``balanced`` or a dict, as in scikit-learn.
        standardize: subtract the mean and divide by the deviation of the training vectors.
        normalize: divide vectors by their L2 norm, after standardising.
        temperature: divides the logits before the softmax.
    """

    kind: HeadKind = "linear"

    def __init__(
        self,
        *,
        C: float = 0.01,
        class_weight: Any = None,
        standardize: bool = True,
        normalize: bool = False,
        temperature: float = 1.0,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.normalize = normalize
        self.temperature = temperature

    def _fit_arrays(
        self,
        vectors: NDArray[Any],
        targets: NDArray[Any],
        encoded: NDArray[np.int64],  # noqa: ARG002
    ) -> dict[str, NDArray[Any]]:
        from sklearn.linear_model import LogisticRegression

        # The solver works in float64 and would convert float32 vectors at every step.
        model = LogisticRegression(
            C=self.C, class_weight=self.class_weight, max_iter=MAX_ITERATIONS
        ).fit(vectors.astype(np.float64, copy=False), targets)
        return _linear_arrays(model, vectors.dtype)


class SVMHead(BaseHead):
    """Linear support vector machine, one class against the rest.

    Its margins are not probabilities: fit ``temperature`` on held-out data to turn them into
    scores.

    Args:
        C: inverse strength of the L2 penalty.
        class_weight: None or ``balanced`` or a dict, as in scikit-learn.
        standardize: subtract the mean and divide by the deviation of the training vectors.
        normalize: divide vectors by their L2 norm, after standardising.
        temperature: divides the margins before the softmax.
        random_state: seed of the solver.
    """

    kind: HeadKind = "svm"

    def __init__(
        self,
        *,
        C: float = 0.001,
        class_weight: Any = None,
        standardize: bool = True,
        normalize: bool = False,
        temperature: float = 1.0,
        random_state: Any = 0,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.normalize = normalize
        self.temperature = temperature
        self.random_state = random_state

    def _fit_arrays(
        self,
        vectors: NDArray[Any],
        targets: NDArray[Any],
        encoded: NDArray[np.int64],  # noqa: ARG002
    ) -> dict[str, NDArray[Any]]:
        from sklearn.svm import LinearSVC

        model = LinearSVC(
            C=self.C,
            class_weight=self.class_weight,
            max_iter=MAX_ITERATIONS,
            random_state=self.random_state,
        ).fit(vectors, targets)
        return _linear_arrays(model, vectors.dtype)


class KNNHead(BaseHead):
    """Nearest neighbours by L2 distance; with ``normalize`` the order is that of the cosine.

    Args:
        n_neighbors: how many neighbours vote; fewer if the training part is smaller.
        weighting: ``uniform``, ``distance`` for votes by ``1 / distance``, or ``softmax`` for votes
            by ``exp(cosine / vote_temperature)``, as DINO counts them.
        vote_temperature: of ``softmax``.
        standardize: subtract the mean and divide by the deviation of the training vectors.
        normalize: divide vectors by their L2 norm, after standardising.
        temperature: divides the log of the votes before the softmax.
    """

    kind: HeadKind = "knn"

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        weighting: str = "distance",
        vote_temperature: float = DINO_TEMPERATURE,
        standardize: bool = True,
        normalize: bool = True,
        temperature: float = 1.0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weighting = weighting
        self.vote_temperature = vote_temperature
        self.standardize = standardize
        self.normalize = normalize
        self.temperature = temperature

    def _fit_arrays(
        self,
        vectors: NDArray[Any],
        targets: NDArray[Any],  # noqa: ARG002
        encoded: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        return {"vectors": np.array(vectors), "labels": encoded.astype(np.int64)}

    def _settings(self) -> dict[str, Any]:
        return {
            "neighbors": int(self.n_neighbors),
            "weighting": self.weighting,
            "vote_temperature": float(self.vote_temperature),
        }


class MLPHead(BaseHead):
    """A small fully connected network: hidden layers with ReLU, trained with Adam.

    Args:
        hidden: widths of the hidden layers.
        alpha: strength of the L2 penalty.
        epochs: maximum passes over the training vectors; it stops when the loss no longer falls.
        learning_rate: of Adam.
        standardize: subtract the mean and divide by the deviation of the training vectors.
        normalize: divide vectors by their L2 norm, after standardising.
        temperature: divides the logits before the softmax.
        random_state: seed of the initial weights and of the order of the vectors.
    """

    kind: HeadKind = "mlp"

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (128,),
        alpha: float = 0.1,
        epochs: int = 200,
        learning_rate: float = 0.001,
        standardize: bool = True,
        normalize: bool = False,
        temperature: float = 1.0,
        random_state: Any = 0,
    ) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.standardize = standardize
        self.normalize = normalize
        self.temperature = temperature
        self.random_state = random_state

    def _fit_arrays(
        self,
        vectors: NDArray[Any],
        targets: NDArray[Any],
        encoded: NDArray[np.int64],  # noqa: ARG002
    ) -> dict[str, NDArray[Any]]:
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            hidden_layer_sizes=tuple(self.hidden),
            alpha=self.alpha,
            learning_rate_init=self.learning_rate,
            max_iter=self.epochs,
            random_state=self.random_state,
        ).fit(vectors, targets)
        weights, biases = list(model.coefs_), list(model.intercepts_)
        weights[-1], biases[-1] = _two_columns(weights[-1].T, biases[-1])
        weights[-1] = weights[-1].T
        arrays: dict[str, NDArray[Any]] = {}
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            arrays[f"weights_{layer}"] = np.ascontiguousarray(weight, dtype=vectors.dtype)
            arrays[f"bias_{layer}"] = np.ascontiguousarray(bias, dtype=vectors.dtype)
        return arrays


ESTIMATORS: dict[HeadKind, type[BaseHead]] = {
    "linear": LinearHead,
    "svm": SVMHead,
    "knn": KNNHead,
    "mlp": MLPHead,
    "attentive": AttentiveHead,
}


def _linear_arrays(model: Any, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    weights, bias = _two_columns(model.coef_, model.intercept_)
    return {
        "weights": np.ascontiguousarray(weights, dtype=dtype),
        "bias": np.ascontiguousarray(bias, dtype=dtype),
    }


def _two_columns(weights: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """One score per class even for two classes, where scikit-learn keeps one score for both.

    The softmax of (-z/2, z/2) is the logistic function of z, so the scores are the same.
    """
    if len(weights) > 1:
        return weights, bias
    return np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
