"""Metrics against hand calculations, published values and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from vidfeat.evaluation.metrics import (
    Evaluation,
    accuracy_interval,
    bootstrap_interval,
    calibration,
    confusion_matrix,
    log_loss,
    mean_interval,
    topk_accuracy,
    wilson_interval,
)


def random_scores(samples=60, classes=5, seed=0):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(classes), size=samples)
    return scores, random.integers(classes, size=samples)


def test_wilson_interval_has_the_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    for correct, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson_interval(correct, total)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_its_share(case):
    correct, total = case
    interval = wilson_interval(correct, total)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_an_interval_over_groups_is_wider_where_groups_are_right_together():
    groups = np.repeat(np.arange(20), 10)
    together = np.repeat(np.arange(20) % 4 > 0, 10)
    over_groups = accuracy_interval(together, groups)
    alone = accuracy_interval(together)
    assert over_groups.value == alone.value == 0.75
    assert over_groups.high - over_groups.low > 2 * (alone.high - alone.low)


def test_groups_of_one_give_about_the_wilson_interval():
    correct = np.arange(400) % 5 > 0
    drawn = bootstrap_interval(correct.astype(float), np.arange(400))
    exact = wilson_interval(int(correct.sum()), 400)
    assert abs(drawn.low - exact.low) < 0.01
    assert abs(drawn.high - exact.high) < 0.01


def test_all_right_in_few_groups_is_no_certainty():
    interval = accuracy_interval(np.ones(100, dtype=bool), np.repeat(np.arange(10), 10))
    assert interval.value == interval.high == 1
    assert interval.low == pytest.approx(wilson_interval(10, 10).low)


def test_mean_interval_is_students():
    interval = mean_interval([0.5, 0.6, 0.7])
    assert interval.value == pytest.approx(0.6)
    assert interval.high - interval.value == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert np.isnan(mean_interval([0.5]).low)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_topk_is_that_of_scikit_learn(k):
    scores, y = random_scores()
    expected = metrics.top_k_accuracy_score(y, scores, k=k, labels=np.arange(5))
    assert topk_accuracy(scores, y, k) == pytest.approx(expected)


def test_equal_scores_are_no_hit():
    assert topk_accuracy(np.full((3, 4), 0.25), np.array([0, 1, 2]), 1) == 0
    assert topk_accuracy(np.full((3, 4), 0.25), np.array([0, 1, 2]), 4) == 1


def test_confusion_and_log_loss_are_those_of_scikit_learn():
    scores, y = random_scores()
    predicted = scores.argmax(axis=1)
    expected = metrics.confusion_matrix(y, predicted, labels=np.arange(5))
    assert (confusion_matrix(y, predicted, 5) == expected).all()
    assert log_loss(scores, y) == pytest.approx(metrics.log_loss(y, scores, labels=np.arange(5)))


def test_calibration_by_hand():
    scores = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.45, 0.55]])
    found = calibration(scores, np.array([0, 1, 0, 1]))
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert found.accuracy[9] == 0.5
    assert found.accuracy[5] == 1.0
    assert found.error == pytest.approx((0.45 * 2 + 0.45 * 2) / 4)
    assert np.isnan(found.accuracy[0])


def test_scores_of_one_fall_into_the_last_bin():
    assert calibration(np.array([[1.0, 0.0]]), np.array([0])).count[9] == 1


def test_an_evaluation_counts_unknown_classes_as_wrong():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    result = Evaluation(scores, np.array([0, 1, -1]), ("a", "b"))
    assert result.accuracy.value == pytest.approx(2 / 3)
    assert result.confusion.tolist() == [[1, 0], [0, 1]]
    assert result.topk(2) == pytest.approx(2 / 3)


def test_per_class_numbers_by_hand():
    scores = np.eye(3)[[0, 0, 1, 1, 1]]
    rows = Evaluation(scores, np.array([0, 0, 0, 1, 1]), ("a", "b", "c")).per_class
    assert [row.count for row in rows] == [3, 2, 0]
    assert rows[0].recall == pytest.approx(2 / 3)
    assert rows[1].precision == pytest.approx(2 / 3)
    assert np.isnan(rows[2].recall)
    assert rows[2].interval is None


def test_mean_class_accuracy_counts_each_class_once():
    scores = np.eye(2)[[0] * 9 + [0]]
    result = Evaluation(scores, np.array([0] * 9 + [1]), ("a", "b"))
    assert result.accuracy.value == 0.9
    assert result.mean_class_accuracy == 0.5


def test_mistakes_come_most_confident_first():
    scores = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    result = Evaluation(scores, np.array([1, 0, 0, 1]), ("a", "b"))
    assert result.mistakes(5).tolist() == [1, 0]
    assert result.mistakes(1).tolist() == [1]


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="scores of shape"):
        Evaluation(np.ones((2, 3)), np.array([0, 1]), ("a", "b"))
