"""The head that follows the labels, the order of what to label next, and how it is judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.heads.teaching import (
    Placing,
    QuickHead,
    by_turns,
    label_gains,
    likeness,
    over_neighbours,
    spread_order,
    uncertainty,
)
from vidfeat.heads.teaching_quality import judge_labels, make_group_folds

rng = np.random.default_rng(7)
CENTRES = rng.standard_normal((3, 12))


def clips(count: int, classes: int = 3, noise: float = 0.7, seed: int = 0):
    """Vectors of length one around a centre a class, ten clips per video."""
    own = np.random.default_rng(seed)
    y = (np.arange(count) // 10) % classes
    vectors = CENTRES[y] + noise * own.standard_normal((count, 12)) + 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), y, np.arange(count) // 10


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_logistic_regression(classes):
    from sklearn.linear_model import LogisticRegression

    vectors, y, _ = clips(120, classes)
    placing = Placing.of(vectors)
    head = QuickHead(placing, 3.0).fit(vectors, y)
    plain = LogisticRegression(C=3.0, tol=1e-6, max_iter=1000).fit(placing.apply(vectors), y)
    expected = plain.predict_proba(placing.apply(vectors))
    assert np.abs(head.scores(vectors) - expected).max() < 5e-3
    assert head.scores(vectors).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_it_goes_on_from_the_last_fit_and_takes_new_classes():
    vectors, y, _ = clips(240)
    head = QuickHead(Placing.of(vectors))
    two = head.fit(vectors[y < 2], y[y < 2])
    assert two.classes.tolist() == [0, 1]
    three = head.fit(vectors, y)
    assert three.classes.tolist() == [0, 1, 2]
    again = head.fit(vectors[y != 1], y[y != 1])
    assert again.classes.tolist() == [0, 2]
    afresh = QuickHead(Placing.of(vectors)).fit(vectors, y)
    assert np.abs(three.scores(vectors) - afresh.scores(vectors)).max() < 0.03
    with pytest.raises(ValueError, match="two classes"):
        head.fit(vectors[y == 0], y[y == 0])


def test_a_collection_of_one_vector_is_no_error():
    same = np.full((6, 4), 0.5, dtype=np.float32)
    head = QuickHead(Placing.of(same)).fit(same, np.array([0, 1, 0, 1, 0, 1]))
    assert np.isfinite(head.scores(same)).all()


def test_uncertainty_is_the_margin_of_the_best_two():
    scores = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]], dtype=np.float32)
    assert uncertainty(scores) == pytest.approx([1.0, 0.9, 0.0])
    assert uncertainty(scores[:, :2]) == pytest.approx([1.0, 0.9, 0.0])


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 6), max_size=5), reach=st.integers(0, 7), seed=st.integers(0, 99)
)
def test_neighbours_are_those_of_the_same_video(counts, reach, seed):
    groups = np.repeat(np.arange(len(counts)), counts)
    values = np.random.default_rng(seed).random(len(groups)).astype(np.float32)
    found = over_neighbours(values, groups, reach)
    for i, value in enumerate(values):
        near = [
            values[j] for j in range(len(values)) if groups[j] == groups[i] and abs(j - i) <= reach
        ]
        assert found[i] == pytest.approx((value + np.mean(near)) / 2, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    entries=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30),
    already=st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_turns_are_taken_by_the_best_of_each_group(entries, already):
    groups = np.array([group for group, _ in entries], dtype=np.int64)
    keys = np.array([key for _, key in entries], dtype=np.float32)
    order = by_turns(keys, groups, np.array(already))
    assert sorted(order.tolist()) == list(range(len(entries)))
    # The rule, written plainly: (turn, falling key), ties as they came.
    ranked = sorted(range(len(entries)), key=lambda i: -keys[i])
    taken = list(already)
    turn = {}
    for i in ranked:
        turn[i] = taken[groups[i]]
        taken[groups[i]] += 1
    assert order.tolist() == sorted(ranked, key=lambda i: turn[i])


def test_the_first_clips_are_spread_over_the_collection():
    vectors, y, _ = clips(600, noise=0.3)
    order = spread_order(vectors, seed=1)
    assert sorted(order.tolist()) == list(range(600))
    assert set(y[order[:6]].tolist()) == {0, 1, 2}
    assert order.tolist() == spread_order(vectors, seed=1).tolist()
    assert spread_order(vectors[:0]).tolist() == []
    assert spread_order(vectors[:1]).tolist() == [0]


def test_likeness_finds_the_class_of_one_example():
    vectors, y, _ = clips(300, noise=0.3)
    moved = vectors - vectors.mean(axis=0)
    first = np.argsort(-likeness(moved, moved[:1]))[:50]
    assert (y[first] == y[0]).mean() > 0.9


# ---------------------------------------------------------------------- judging


def test_whole_groups_are_held_out():
    _, y, groups = clips(300)
    for train, test in make_group_folds(y, groups):
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 300
    assert make_group_folds(y[:20], groups[:20]) == [], "a video a class"
    assert make_group_folds(np.zeros(30, dtype=int), groups[:30]) == []


def test_precision_is_counted_out_of_fold():
    vectors, y, groups = clips(300, noise=1.2)
    placed = Placing.of(vectors).apply(vectors)
    judged = judge_labels(placed, y, groups)
    assert judged is not None
    assert judged.accuracy.low <= judged.accuracy.value <= judged.accuracy.high
    assert 0.4 < judged.accuracy.value < 1
    counts = [count for count, _ in judged.curve]
    assert counts == [18, 37, 75, 150, 300]
    assert judged.curve[-1][1].value == judged.accuracy.value
    right = sum(round(one.recall * one.labelled) for one in judged.classes)
    assert right == round(judged.accuracy.value * 300)
    for one in judged.classes:
        hits = round(one.precision.value * one.predicted)
        assert hits == round(one.recall * one.labelled)
    # Labels that say nothing about the vectors are right by chance, not by heart.
    nonsense = np.random.default_rng(1).integers(0, 3, 300)
    by_chance = judge_labels(placed, nonsense, groups)
    assert by_chance.accuracy.value < 0.5


def test_a_wrong_label_is_the_likeliest_mistake():
    vectors, y, groups = clips(200, noise=0.4)
    said = y.copy()
    said[57] = (y[57] + 1) % 3
    judged = judge_labels(Placing.of(vectors).apply(vectors), said, groups)
    assert int(np.argmin(judged.own_scores)) == 57


def test_judging_stops_when_it_is_told_to():
    vectors, y, groups = clips(200)
    asked = []

    def goes_on() -> bool:
        asked.append(1)
        return len(asked) < 3

    assert judge_labels(vectors.astype(float), y, groups, goes_on=goes_on) is None
    assert len(asked) == 3


def test_a_class_in_one_video_alone_counts_as_missed():
    vectors, y, groups = clips(80, 2)
    said = y.copy()
    said[:10] = 2
    judged = judge_labels(Placing.of(vectors).apply(vectors), said, groups)
    lonely = next(one for one in judged.classes if one.number == 2)
    assert (lonely.labelled, lonely.recall) == (10, 0.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_gains_are_the_variance_that_a_label_removes(classes):
    vectors, y, _ = clips(60, classes)
    placing = Placing.of(vectors)
    head = QuickHead(placing, 3.0).fit(vectors[::4], y[::4])
    placed, scores = placing.apply(vectors), head.scores(vectors)
    known, targets = np.arange(0, 60, 4), np.arange(30)
    gains = label_gains(placed, scores, placed[known], scores[known], placed[targets], strength=3.0)
    wide = np.c_[placed, np.ones(len(placed))]
    weights = 3.0 * (1 - np.square(scores.astype(float)).sum(axis=1)) / 2

    def variance(labelled):
        precision = np.eye(13) + (wide[labelled].T * weights[labelled]) @ wide[labelled]
        return np.einsum("td,de,te->", wide[targets], np.linalg.inv(precision), wide[targets])

    for clip in (1, 7, 30, 59):
        removed = variance(known) - variance([*known, clip])
        assert gains[clip] == pytest.approx(removed, rel=1e-4)
