"""From arrays to class scores: a trained head without its estimator.

A scorer holds only named arrays and a few settings, so that it can be written to safetensors and
JSON and read back without executing code. The estimators score through it too: before and after
saving, the same code on the same arrays gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vidfeat.heads.attention import TIME_WAVES, Floats, Sequences, attentive_logits
from vidfeat.system.threads import threads_for

HeadKind = Literal["linear", "svm", "knn", "mlp", "attentive"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)

DINO_TEMPERATURE = 0.07
SMALLEST_DISTANCE = 1e-6  # nearer neighbours count as this near, so that no vote is infinite


@dataclass(frozen=True)
class Scorer:
    """Class scores of vectors, from arrays only.

    Attributes:
        kind: ``linear``, ``svm``, ``knn``, ``mlp`` or ``attentive``.
        arrays: ``mean`` and ``scale`` (D,) where vectors are standardised first, ``whitening``
            (D, D) where they are then multiplied by it, and
            for linear and svm ``weights`` (C, D) and ``bias`` (C,);
            for mlp ``weights_0`` (D, H), ``bias_0`` (H,), ``weights_1`` (H, C), ``bias_1``, ...;
            for knn ``vectors`` (M, D) and ``labels`` (M,);
            for attentive see :func:`vidfeat.heads.attention.attentive_logits`.
        num_classes: C.
        normalize: vectors are divided by their L2 norm, after standardising.
        temperature: logits are divided by it before the softmax; 1 leaves them as they are.
        neighbors: how many neighbours vote (knn).
        weighting: votes count equally (``uniform``), by ``1 / distance`` (``distance``), or by
            ``exp(cosine / vote_temperature)`` (``softmax``) (knn).
        vote_temperature: of ``softmax``; vectors must be divided by their norms.
        activation: scores are a ``softmax`` over the classes, or each class's own ``sigmoid``,
            where a sample may have several classes.

    Raises:
        ValueError: an array is missing, has another shape, or is not finite.
    """

    kind: HeadKind
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    num_classes: int
    normalize: bool = False
    temperature: float = 1.0
    neighbors: int = 0
    weighting: Literal["uniform", "distance", "softmax"] = "uniform"
    vote_temperature: float = DINO_TEMPERATURE
    activation: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        if self.kind not in HEAD_KINDS:
            raise ValueError(f"unknown kind of head {self.kind!r}: one of {', '.join(HEAD_KINDS)}")
        if self.activation not in ("softmax", "sigmoid"):
            raise ValueError(f"activation is softmax or sigmoid, not {self.activation!r}")
        if self.num_classes < (2 if self.activation == "softmax" else 1):
            raise ValueError(f"a head needs two classes or more, this has {self.num_classes}")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, this is {self.temperature}")
        if self.kind == "knn" and self.neighbors < 1:
            raise ValueError(f"neighbors must be 1 or more, this is {self.neighbors}")
        if self.weighting not in ("uniform", "distance", "softmax"):
            raise ValueError(
                f"weighting must be uniform, distance or softmax, this is {self.weighting!r}"
            )
        if self.weighting == "softmax" and not self.normalize:
            raise ValueError("weighting softmax compares directions: it needs normalize")
        if not (np.isfinite(self.vote_temperature) and self.vote_temperature > 0):
            raise ValueError(f"vote_temperature must be above 0, this is {self.vote_temperature}")
        self._check_arrays()

    def _check_arrays(self) -> None:
        """Refuse arrays that do not fit each other: a damaged head must not score."""
        for name in self._names():
            if name not in self.arrays:
                raise ValueError(f"the array {name!r} of a {self.kind} head is missing")
        for name, array in self.arrays.items():
            if array.dtype.kind not in "fi" or not np.isfinite(array).all():
                raise ValueError(f"the array {name!r} holds values that are not finite")
        dimension, classes = self.dimension, self.num_classes
        shapes: dict[str, tuple[int, ...]] = {
            "mean": (dimension,),
            "scale": (dimension,),
            "whitening": (dimension, dimension),
        }
        if self.kind in ("linear", "svm"):
            shapes |= {"weights": (classes, dimension), "bias": (classes,)}
        elif self.kind == "knn":
            count = len(self.arrays["vectors"])
            shapes |= {"vectors": (count, dimension), "labels": (count,)}
            labels = self.arrays["labels"]
            if count == 0 or labels.dtype.kind != "i":
                raise ValueError("a knn head needs vectors and integer labels")
            if labels.min() < 0 or labels.max() >= classes:
                raise ValueError(f"a label of the knn head lies outside 0..{classes - 1}")
        elif self.kind == "attentive":
            queries = int(self.arrays["keys"].shape[-1])
            width = int(self.arrays["values"].shape[-1])
            if not queries or width % queries:
                raise ValueError(f"{width} values cannot be shared by {queries} queries")
            shapes |= {"keys": (dimension, queries), "time_keys": (2 * TIME_WAVES, queries)}
            shapes |= {"values": (dimension, width), "weights": (classes, width)}
            shapes |= {"bias": (classes,)}
        else:
            width = dimension
            for layer in range(self._layers):
                out = int(self.arrays[f"bias_{layer}"].shape[0])
                shapes |= {f"weights_{layer}": (width, out), f"bias_{layer}": (out,)}
                width = out
            if width != classes:
                raise ValueError(f"the last layer gives {width} scores for {classes} classes")
        for name, shape in shapes.items():
            if name in self.arrays and self.arrays[name].shape != shape:
                raise ValueError(
                    f"the array {name!r} has shape {self.arrays[name].shape}, expected {shape}"
                )

    def _names(self) -> list[str]:
        if self.kind in ("linear", "svm"):
            return ["weights", "bias"]
        if self.kind == "knn":
            return ["vectors", "labels"]
        if self.kind == "attentive":
            return ["keys", "time_keys", "values", "weights", "bias"]
        layers = range(max(self._layers, 1))
        return [f"{part}_{layer}" for layer in layers for part in ("weights", "bias")]

    @property
    def _layers(self) -> int:
        return sum(name.startswith("bias_") for name in self.arrays)

    @property
    def dimension(self) -> int:
        """Length D of the vectors that are scored."""
        first = {"knn": "vectors", "mlp": "weights_0", "attentive": "values"}
        array = self.arrays[first.get(self.kind, "weights")]
        return int(array.shape[0] if self.kind in ("mlp", "attentive") else array.shape[-1])

    def transform(self, vectors: Floats) -> Floats:
        """Standardise and normalise vectors (N, D) as the training did."""
        if "mean" in self.arrays:
            vectors = (vectors - self.arrays["mean"]) / self.arrays["scale"]
        if "whitening" in self.arrays:
            vectors = vectors @ self.arrays["whitening"]
        if self.normalize:
            vectors = l2_normalize(vectors)
        return vectors

    @property
    def of_sequences(self) -> bool:
        """Whether it scores the rows of a sample together, in their order."""
        return self.kind == "attentive"

    def logits(self, vectors: Floats | Sequences) -> NDArray[np.float64]:
        """Unscaled class scores (N, C) of vectors (N, D), before the temperature.

        An attentive head takes `Sequences` too, and scores each of them.
        """
        if self.kind == "attentive":
            if not isinstance(vectors, Sequences):
                vectors = Sequences.of_single_rows(vectors)
            given = Sequences(self.transform(vectors.rows), vectors.first)
            return np.asarray(attentive_logits(self.arrays, given), dtype=np.float64)
        assert not isinstance(vectors, Sequences), f"a {self.kind} head scores vectors"
        return np.asarray(self._logits_of(self.transform(vectors)), dtype=np.float64)

    def _logits_of(self, vectors: Floats) -> Floats:
        """Logits of transformed vectors, for heads that score them one by one."""
        result: Floats
        if self.kind in ("linear", "svm"):
            result = vectors @ self.arrays["weights"].T + self.arrays["bias"]
        elif self.kind == "knn":
            result = self._votes(vectors)
        else:
            for layer in range(self._layers):
                vectors = vectors @ self.arrays[f"weights_{layer}"] + self.arrays[f"bias_{layer}"]
                if layer + 1 < self._layers:
                    vectors = np.maximum(vectors, 0)
            result = vectors
        return result

    def scores(self, vectors: Floats | Sequences) -> NDArray[np.float64]:
        """Class scores (N, C) of vectors (N, D), positive; softmax rows sum to 1."""
        logits = self.logits(vectors) / self.temperature
        return softmax(logits) if self.activation == "softmax" else sigmoid(logits)

    @cached_property
    def _neighbours(self) -> Any:
        from sklearn.neighbors import NearestNeighbors

        # Brute force: in hundreds of dimensions a tree is slower, and this is exact and needs no
        # state of its own, so it can be rebuilt from the arrays.
        return NearestNeighbors(algorithm="brute").fit(self.arrays["vectors"])

    def _votes(self, vectors: Floats) -> Floats:
        """Log of the neighbours' votes; one more vote is spread evenly, so that none is log 0."""
        labels = self.arrays["labels"]
        count = min(self.neighbors, len(labels))
        with threads_for(max(vectors.nbytes, self.arrays["vectors"].nbytes)):
            distance, nearest = self._neighbours.kneighbors(vectors, n_neighbors=count)
        if self.weighting == "distance":
            weight = 1.0 / np.maximum(np.asarray(distance, dtype=np.float64), SMALLEST_DISTANCE)
        elif self.weighting == "softmax":
            # of vectors of length 1 the cosine is 1 - distance^2 / 2
            cosine = 1 - np.asarray(distance, dtype=np.float64) ** 2 / 2
            weight = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / self.vote_temperature)
        else:
            weight = np.ones(distance.shape)
        weight *= count / weight.sum(axis=1, keepdims=True)
        votes = np.full((len(vectors), self.num_classes), 1.0 / self.num_classes)
        rows = np.repeat(np.arange(len(vectors)), count)
        np.add.at(votes, (rows, labels[nearest].ravel()), weight.ravel())
        result: Floats = np.log(votes)
        return result


def l2_normalize(vectors: Floats) -> Floats:
    """Divide each row by its L2 norm; a row of zeros stays zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Floats = vectors / np.where(norm == 0, 1, norm)
    return result


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, safe for large logits."""
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))
    return result


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis, safe for large logits."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result
