"""The heads keep scikit-learn's conventions, and score what their arrays say."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from vidfeat.heads.base_head import Prepared
from vidfeat.heads.estimators import ESTIMATORS, KNNHead, LinearHead, MLPHead, SVMHead
from vidfeat.heads.scorers import HEAD_KINDS, Scorer
from vidfeat.heads.selection import HeadOptions


@parametrize_with_checks([LinearHead(), SVMHead(), KNNHead(), MLPHead(hidden=(16,), alpha=1e-4)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def blobs(classes=3, seed=0, count=60, dimension=8):
    random = np.random.default_rng(seed)
    y = np.arange(count) % classes
    X = random.normal(size=(count, dimension)) + 1.5 * random.normal(size=(classes, dimension))[y]
    return X.astype(np.float64), y


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("head", "reference"),
    [
        (LinearHead(C=0.1), LogisticRegression(C=0.1, max_iter=1000)),
        (MLPHead(hidden=(6,), alpha=0.01), MLPClassifier((6,), alpha=0.01, random_state=0)),
    ],
    ids=["linear", "mlp"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_are_those_of_scikit_learn(classes, head, reference):
    X, y = blobs(classes)
    new, _ = blobs(classes, seed=5)
    expected = make_pipeline(StandardScaler(), reference).fit(X, y).predict_proba(new)
    np.testing.assert_allclose(head.fit(X, y).predict_proba(new), expected, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_svm_decides_as_scikit_learn(classes):
    X, y = blobs(classes)
    new, _ = blobs(classes, seed=5)
    expected = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0)).fit(X, y)
    assert (SVMHead(C=0.01).fit(X, y).predict(new) == expected.predict(new)).all()


@pytest.mark.parametrize("weighting", ["uniform", "distance"])
def test_knn_decides_as_scikit_learn(weighting):
    X, y = blobs()
    new, _ = blobs(seed=5)
    reference = KNeighborsClassifier(5, weights=weighting)
    expected = make_pipeline(StandardScaler(), Normalizer(), reference).fit(X, y)
    assert (KNNHead(weighting=weighting).fit(X, y).predict(new) == expected.predict(new)).all()


@pytest.mark.parametrize(("neighbours", "temperature"), [(5, 0.07), (20, 0.2), (1000, 0.1)])
def test_knn_votes_as_dino(neighbours, temperature):
    """Its evaluation in plain steps: cosines, the k largest, exp(cosine / T) for each class."""
    X, y = blobs()
    new, _ = blobs(seed=5)
    head = KNNHead(
        n_neighbors=neighbours, weighting="softmax", vote_temperature=temperature, standardize=False
    ).fit(X, y)
    train, test = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (X, new))
    cosines = test @ train.T
    votes = np.zeros((len(new), len(head.classes_)))
    for row, near in enumerate(np.argsort(-cosines, axis=1)[:, :neighbours]):
        for place in near:
            label = np.flatnonzero(head.classes_ == y[place])[0]
            votes[row, label] += np.exp(cosines[row, place] / temperature)
    assert (head.predict(new) == head.classes_[votes.argmax(axis=1)]).all()
    with pytest.raises(ValueError, match="needs normalize"):
        KNNHead(weighting="softmax", normalize=False).fit(X, y).predict(new)


def test_dinos_protocol_chooses_neighbours_and_temperature():
    options = HeadOptions("knn", params={"weighting": "softmax"})
    grid = options.grid()
    assert {point["vote_temperature"] for point in grid} == {0.07, 0.1, 0.2}
    assert {point["n_neighbors"] for point in grid} == {5, 10, 20, 50, 100, 200}


def test_temperature_changes_confidence_and_no_prediction():
    X, y = blobs()
    for kind in HEAD_KINDS:
        plain = ESTIMATORS[kind]().fit(X, y)
        sharp = ESTIMATORS[kind](temperature=0.25).fit(X, y)
        assert (plain.predict(X) == sharp.predict(X)).all()
        assert sharp.predict_proba(X).max(axis=1).mean() > plain.predict_proba(X).max(axis=1).mean()


def test_grid_search_with_groups_runs_on_a_head():
    X, y = blobs()
    search = GridSearchCV(LinearHead(), {"C": [0.01, 1.0]}, cv=GroupKFold(4))
    search.fit(X, y, groups=np.arange(len(y)) // 3)
    assert search.best_score_ > 0.7


def test_float32_vectors_stay_float32():
    X, y = blobs()
    for kind in HEAD_KINDS:
        arrays = ESTIMATORS[kind]().fit(X.astype(np.float32), y).scorer_.arrays
        assert {a.dtype for a in arrays.values() if a.dtype.kind == "f"} == {np.dtype("float32")}


def test_one_class_alone_is_refused():
    X, _ = blobs()
    for kind in HEAD_KINDS:
        with pytest.raises(ValueError, match="two classes or more"):
            ESTIMATORS[kind]().fit(X, np.zeros(len(X)))


NARROW = {"weights_0": np.ones((4, 2)), "bias_0": np.ones(2)}
GOOD = {"weights": np.ones((3, 4)), "bias": np.zeros(3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrays": {"weights": np.ones((3, 4))}}, "'bias' of a linear head is missing"),
        ({"arrays": {**GOOD, "bias": np.zeros(2)}}, r"'bias' has shape \(2,\), expected \(3,\)"),
        ({"arrays": {**GOOD, "bias": np.array([0, np.nan, 0])}}, "not finite"),
        ({"arrays": {**GOOD, "mean": np.zeros(5), "scale": np.ones(4)}}, "'mean' has shape"),
        ({"num_classes": 1}, "two classes or more"),
        ({"temperature": 0.0}, "above 0"),
        ({"kind": "forest"}, "unknown kind"),
        ({"kind": "knn", "neighbors": 1, "arrays": GOOD}, "'vectors' of a knn head is missing"),
        (
            {"kind": "mlp", "arrays": {"weights_0": np.ones((4, 2)), "bias_0": np.ones(2)}},
            "2 scores",
        ),
    ],
)
def test_a_scorer_refuses_arrays_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Scorer(**{"kind": "linear", "arrays": GOOD, "num_classes": 3, **changes})


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_joined_networks_get_the_same_variance(sizes, seed):
    random = np.random.default_rng(seed)
    X = random.normal(size=(20, sum(sizes))) * 10.0 ** random.integers(-3, 4, sum(sizes))
    X[:, 0] += 1e3
    alike = Prepared.of(X, standardize=True, normalize=False)
    balanced = Prepared.of(X, standardize=True, normalize=False, parts=tuple(sizes))
    assert balanced.vectors.var() == pytest.approx(alike.vectors.var())
    edges = np.cumsum([0, *sizes])
    totals = [balanced.vectors[:, start:end].var(axis=0).sum() for start, end in pairwise(edges)]
    assert totals == pytest.approx([sum(sizes) / len(sizes)] * len(sizes))
    if len(sizes) == 1:
        assert np.array_equal(balanced.vectors, alike.vectors)


@pytest.mark.parametrize("kind", ["linear", "svm", "mlp", "attentive"])
def test_a_wide_network_does_not_drown_a_narrow_one(kind):
    """Four numbers that tell the classes apart, joined with 400 that are noise."""
    random = np.random.default_rng(3)
    y = np.arange(120) % 2
    good = random.normal(size=(120, 4)) + 1.2 * (2 * y[:, None] - 1)
    X = np.concatenate([random.normal(size=(120, 400)), good], axis=1)
    right = {}
    for parts in ((), (400, 4)):
        head = ESTIMATORS[kind]().fit(X[:60], y[:60], parts=parts)
        right[parts] = np.mean(head.predict(X[60:]) == y[60:])
    assert right[400, 4] >= right[()] + 0.05
    assert right[400, 4] > 0.9
