"""Choosing, training, judging: inside the training part alone, and by group."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from tests.support.heads_fixtures import ENCODER, identity, names_of, three_classes, write_features
from vidfeat.datasets.labels import LabelRow, labels_from_folders
from vidfeat.datasets.samples import Samples, collect
from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.heads.cross_validation import compare_heads, cross_validate, options_by_kind
from vidfeat.heads.head import Head
from vidfeat.heads.protocols import (
    few_shot,
    hold_out,
    leave_out_small_classes,
    score_samples,
    split_parts,
    train_and_test,
    train_head,
)
from vidfeat.heads.scorers import HEAD_KINDS
from vidfeat.heads.selection import HeadOptions, choose, make_folds
from vidfeat.store.reader import FeatureStore
from vidfeat.system.threads import BYTES_FOR_THREADS, threads_for


def make_samples(y, *, groups=None, splits=None, clips=3, dimension=8, distance=2.0, seed=0):
    """Samples around one centre a class, without a file."""
    random = np.random.default_rng(seed)
    y = np.asarray(y)
    count = len(y)
    centres = random.normal(size=(y.max() + 1, dimension))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    middles = centres[y] + random.normal(size=(count, dimension))
    vectors = np.repeat(middles, clips, axis=0)
    vectors = vectors + 0.5 * random.normal(size=vectors.shape)
    classes = tuple(f"class{c}" for c in range(y.max() + 1))
    rows = tuple(
        LabelRow(
            path=f"{i:03d}.mp4",
            label=classes[c],
            group="" if groups is None else f"g{groups[i]}",
            split="" if splits is None else splits[i],
        )
        for i, c in enumerate(y)
    )
    return Samples(
        vectors=vectors.astype(np.float32),
        first=np.arange(count + 1, dtype=np.int64) * clips,
        store_rows=np.arange(count * clips),
        start_seconds=np.zeros(count * clips),
        end_seconds=np.ones(count * clips),
        rows=rows,
        classes=classes,
        y=y.astype(np.int64),
        has_groups=groups is not None,
    )


EASY = np.arange(60) % 3
QUICK = {"alpha": 0.01, "epochs": 20}


@pytest.mark.parametrize("unit", ["videos", "clips"])
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_every_head_learns_an_easy_problem(kind, unit):
    if (kind, unit) == ("attentive", "clips"):
        return  # it takes the clips of a video together
    samples = make_samples(EASY, distance=5.0)
    train, test = hold_out(samples, 0.2, 0)
    params = {"mlp": {"alpha": (1.0, 0.01)}, "attentive": QUICK}.get(kind, {})
    outcome = train_and_test(samples, train, test, HeadOptions(kind, unit=unit, params=params))
    assert outcome.evaluation.accuracy.value > 0.9
    assert outcome.clip_accuracy > 0.9
    assert len(set(train) & set(test)) == 0


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_shuffled_test_labels_change_no_choice(kind):
    samples = make_samples(EASY, distance=1.5)
    train, test = hold_out(samples, 0.3, 0)
    options = HeadOptions(kind, params={"mlp": {"epochs": 20}, "attentive": QUICK}.get(kind, {}))
    chosen = train_and_test(samples, train, test, options)
    shuffled = samples.y.copy()
    shuffled[test] = np.random.default_rng(1).permutation(shuffled[test])
    assert (shuffled != samples.y).any()
    again = train_and_test(replace(samples, y=shuffled), train, test, options)
    assert again.choice == chosen.choice
    for name, array in chosen.head.scorer.arrays.items():
        np.testing.assert_array_equal(array, again.head.scorer.arrays[name])
    assert again.evaluation.accuracy.value < chosen.evaluation.accuracy.value


def test_vectors_of_the_test_part_change_no_choice_either():
    samples = make_samples(EASY)
    train, test = hold_out(samples, 0.3, 0)
    other = samples.vectors.copy()
    other[samples.clips_of(test)] += 100
    before = train_and_test(samples, train, test, HeadOptions())
    after = train_and_test(replace(samples, vectors=other), train, test, HeadOptions())
    assert before.choice == after.choice


@pytest.mark.parametrize("unit", ["videos", "clips"])
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_the_search_is_that_of_whole_fits(kind, unit):
    """Folds are prepared once for all combinations: the same figures as fitting each anew."""
    if (kind, unit) == ("attentive", "clips"):
        return
    samples = make_samples(EASY, distance=1.0)
    names = {"linear": "C", "svm": "C", "knn": "n_neighbors", "mlp": "alpha", "attentive": "alpha"}
    values = (7, 3) if kind == "knn" else (0.01, 1.0)
    params = {names[kind]: values, "standardize": (True, False), "normalize": (False, True)}
    if kind in ("mlp", "attentive"):
        params["epochs"] = 5
    options = HeadOptions(kind, unit=unit, params=params, folds=3)
    choice = choose(samples, options)
    folds = make_folds(samples, 3, 0, purpose="a test", remedy="none")
    assert len(choice.trials) == 8
    for trial in choice.trials:
        right = []
        for train, test in folds:
            one = HeadOptions(kind, unit=unit, params=trial.params, calibrate=False)
            right.append(train_and_test(samples, train, test, one).evaluation.correct)
        assert trial.accuracy == pytest.approx(np.concatenate(right).mean())


def test_small_products_get_one_thread():
    def counts():
        return {pool["num_threads"] for pool in threadpool_info()}

    before = counts()
    with threads_for(1 << 20):
        assert counts() == {1}
    assert counts() == before
    with threads_for(BYTES_FOR_THREADS + 1):
        assert counts() == before


def test_folds_keep_groups_together_and_classes_apart():
    groups = np.arange(60) // 3
    samples = make_samples(EASY, groups=groups)
    folds = make_folds(samples, 5, 0, purpose="a test", remedy="wait")
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(60))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert set(samples.y[test]) == {0, 1, 2}


def test_grouped_choice_is_not_fooled_by_copies():
    # Every recording is cut into four clips that are almost equal: with one neighbour, folds by
    # clip find the clip's own copy; folds by recording must not.
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    y = np.repeat(random.integers(2, size=30), 4)
    samples = make_samples(y, groups=groups, clips=1)
    middles = random.normal(size=(30, 8))
    vectors = (middles[groups] + 0.01 * random.normal(size=(120, 8))).astype(np.float32)
    samples = replace(samples, vectors=vectors)
    options = HeadOptions("knn", params={"n_neighbors": 1})
    by_group = choose(samples, options).trials[0].accuracy
    by_clip = choose(replace(samples, has_groups=False), options).trials[0].accuracy
    assert by_clip == 1.0
    assert by_group < 0.75


def test_fewer_folds_where_a_class_is_small():
    samples = make_samples([0] * 20 + [1] * 3)
    assert len(make_folds(samples, 5, 0, purpose="a test", remedy="wait")) == 3


def test_a_class_of_one_video_is_told_with_the_remedy():
    samples = make_samples([0] * 20 + [1] * 20 + [2])
    with pytest.raises(DataError, match=r"'class2' has one video.*min_per_class=2.*params"):
        choose(samples, HeadOptions())
    with pytest.raises(DataError, match=r"'class2' has one video.*test_share=0"):
        split_parts(samples)
    smaller, notes = leave_out_small_classes(samples, 2)
    assert smaller.classes == ("class0", "class1")
    assert "class2" in notes[0]
    assert choose(smaller, HeadOptions()).folds == 5


def test_a_class_of_one_group_is_told():
    samples = make_samples([0] * 10 + [1] * 10, groups=[0] * 10 + [1, 2] * 5)
    with pytest.raises(DataError, match="'class0' has one group"):
        choose(samples, HeadOptions())


def test_fixed_parameters_need_no_folds():
    samples = make_samples([0] * 5 + [1])
    head, choice, _ = train_head(samples, HeadOptions(params={"C": 0.1}))
    assert choice.params == {"C": 0.1}
    assert choice.temperature == head.scorer.temperature == 1.0


def test_one_class_alone_is_told():
    with pytest.raises(DataError, match=r"only one class to train on \(class0\)"):
        train_head(make_samples([0] * 10), HeadOptions())


def test_parts_come_from_the_split_column():
    splits = ["train"] * 30 + ["val"] * 10 + ["test"] * 15 + [""] * 5
    train, test, notes = split_parts(make_samples(EASY, splits=splits))
    assert train.tolist() == list(range(40)), "val joins the training part where there is a test"
    assert test.tolist() == list(range(40, 55))
    assert notes == ["5 samples have no split and are left out"]
    _, test, _ = split_parts(make_samples(EASY, splits=["train"] * 40 + ["val"] * 20))
    assert test.tolist() == list(range(40, 60))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train"] * 60, r"test part is empty \(splits: train 60\).*split=test.*test_share=0"),
        (["test"] * 60, "training part is empty"),
        (["train"] * 30 + ["holdout"] * 30, "'holdout' is not one of train, val, test"),
    ],
)
def test_an_empty_part_is_told_with_the_remedy(splits, message):
    with pytest.raises(DataError, match=message):
        split_parts(make_samples(EASY, splits=splits))


def test_a_group_in_both_parts_is_noted():
    splits = ["train", "test"] * 30
    samples = make_samples(EASY, splits=splits, groups=np.arange(60) // 2)
    assert "30 groups are in both parts" in split_parts(samples)[2][0]


def test_without_a_split_column_whole_groups_are_held_out():
    groups = np.arange(60) // 6
    samples = make_samples(EASY, groups=groups)
    train, test, notes = split_parts(samples, test_share=0.2)
    assert not set(groups[train]) & set(groups[test])
    assert 6 <= len(test) <= 18
    assert "held out by group" in notes[0]
    assert len(split_parts(samples, test_share=0)[1]) == 0


@pytest.mark.parametrize("unit", ["videos", "clips"])
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_saved_head_gives_the_same_scores(tmp_path, kind, unit):
    samples = make_samples(EASY)
    if (kind, unit) == ("attentive", "clips"):
        return
    params = {"epochs": 5, "alpha": 0.1} if kind in ("mlp", "attentive") else {}
    options = HeadOptions(kind, unit=unit, params=params)
    head, _, _ = train_head(samples, options, identity(8))
    head.save(tmp_path / "head")
    loaded = Head.load(tmp_path / "head")
    for new, old in zip(score_samples(loaded, samples), score_samples(head, samples), strict=True):
        np.testing.assert_array_equal(new, old)
    assert loaded.classes == head.classes
    assert dict(loaded.encoder) == ENCODER
    assert sorted(p.name for p in (tmp_path / "head").iterdir()) == [
        "head.json",
        "head.safetensors",
    ]
    head.save(tmp_path / "head")  # a head may be written over a head
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def saved(tmp_path):
    head, _, _ = train_head(make_samples(EASY), HeadOptions(params={"C": 0.1}), identity(8))
    head.save(tmp_path / "head")
    return head, tmp_path / "head"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 3, "upgrade vidfeat"),
        ("format", "other", "not describe a head"),
        ("classes", ["a", "b"], "is damaged"),
        ("classes", ["a", "a", "b"], "is damaged: a class is named twice"),
        ("temperature", 0, "is damaged"),
        ("kind", "forest", "is damaged"),
        ("arrays_sha256", "0" * 64, "not the file that head.json was written with"),
        ("encoder", None, "is damaged"),
    ],
)
def test_a_damaged_head_is_refused(tmp_path, key, value, message):
    _, folder = saved(tmp_path)
    values = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises(StoreError, match=message):
        Head.load(folder)


def test_a_cut_head_is_refused(tmp_path):
    _, folder = saved(tmp_path)
    text = (folder / "head.json").read_text()
    for damage in (text[:40], "[]", '{"format": "vidfeat-head", "format_version": 1}'):
        (folder / "head.json").write_text(damage)
        with pytest.raises(StoreError):
            Head.load(folder)
    (folder / "head.json").unlink()
    with pytest.raises(StoreError, match="expected a folder with head"):
        Head.load(folder)


def test_a_head_is_not_written_over_something_else(tmp_path):
    head, _ = saved(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    with pytest.raises(StoreError, match="is not a head"):
        head.save(tmp_path / "photos")
    with pytest.raises(StoreError, match="does not exist"):
        head.save(tmp_path / "none" / "head")


def test_features_of_another_space_are_refused_and_named(tmp_path):
    head, _ = saved(tmp_path)
    same = (ENCODER, "space-a", "run-a")
    assert head.check_encoder(*same, name="f.h5") is None
    other = {**ENCODER, "model": "r3d_18"}
    with pytest.raises(FingerprintError, match='model was "r2plus1d_18", is "r3d_18"'):
        head.check_encoder(other, "space-b", "run-b", name="f.h5")


def test_another_plan_or_precision_is_a_warning(tmp_path):
    head, _ = saved(tmp_path)
    other = {**ENCODER, "precision": "fp16"}
    warning = head.check_encoder(other, "space-a", "run-b", name="f.h5")
    assert 'precision was "fp32", is "fp16"' in warning


def test_temperature_makes_scores_honest():
    # Strong regularisation makes a head unsure of what it knows: calibration must repair it.
    samples = make_samples(np.arange(300) % 3, distance=2.0)
    train, test = hold_out(samples, 0.5, 0)
    fixed = HeadOptions(params={"C": 1e-5}, calibrate=False)
    plain = train_and_test(samples, train, test, fixed).evaluation
    repaired = train_and_test(samples, train, test, replace(fixed, calibrate=True)).evaluation
    assert repaired.calibration.error < 0.5 * plain.calibration.error
    assert repaired.accuracy.value == plain.accuracy.value


def test_cross_validation_judges_every_sample_and_repeats():
    samples = make_samples(EASY, groups=np.arange(60) // 2)
    options = HeadOptions(params={"C": 0.01}, calibrate=False)
    result = cross_validate(samples, options, folds=4, repeats=3)
    assert result.accuracies.shape == (3, 4)
    assert np.isfinite(result.accuracies).all()
    assert result.interval.low <= result.interval.value <= result.interval.high
    assert result.interval.method == "bootstrap over groups"
    assert result.interval.value == pytest.approx(result.correct.mean())
    assert len(result.chosen) == 12
    again = cross_validate(samples, options, folds=4, repeats=3)
    np.testing.assert_array_equal(result.accuracies, again.accuracies)


def test_heads_are_compared_on_the_same_folds():
    # the first class is the commonest of every training part, however the folds fall
    samples = make_samples(np.repeat([0, 1, 2], [36, 12, 12]), groups=np.arange(60) // 2)
    heads = options_by_kind(["svm", "knn", "linear"], HeadOptions(calibrate=False), {"C": 0.01})
    assert [head.kind for head in heads] == ["linear", "svm", "knn"]
    assert [dict(head.params) for head in heads] == [{"C": 0.01}, {"C": 0.01}, {}]
    compared = compare_heads(samples, heads, folds=4)
    alone = cross_validate(samples, heads[1], folds=4)
    np.testing.assert_array_equal(compared.found["svm"].accuracies, alone.accuracies)
    best = max(found.interval.value for found in compared.found.values())
    assert compared.found[compared.chosen.kind].interval.value == best
    # once over, the pooled scores are those that were counted
    assert alone.evaluation.accuracy.value == pytest.approx(alone.interval.value)
    assert alone.majority_accuracy == pytest.approx(36 / 60)


@pytest.mark.parametrize(
    ("kinds", "params", "message"),
    [
        (["linear", "tree"], {}, "head is one or several of linear, svm, knn, mlp"),
        (["knn", "knn"], {}, "head is one or several"),
        ([], {}, "head is one or several"),
        (["linear", "svm"], {"n_neighbors": 3}, "none of the heads linear, svm has a parameter"),
        (["linear"], {"n_neighbors": 3}, "a linear head has no parameter"),
    ],
)
def test_heads_that_cannot_be_compared(kinds, params, message):
    with pytest.raises(UsageError, match=message):
        options_by_kind(kinds, HeadOptions(), params)


def test_more_shots_are_better_and_draws_repeat():
    samples = make_samples(np.arange(120) % 3, distance=3.0)
    train, test = hold_out(samples, 0.5, 0)
    rows = list(few_shot(samples, train, test, [1, 2, 10], HeadOptions(), draws=8))
    assert [row.shots for row in rows] == [1, 2, 10]
    assert rows[2].interval.value > rows[0].interval.value
    assert len(set(rows[0].accuracies)) > 1
    again = next(few_shot(samples, train, test, [1], HeadOptions(), draws=8))
    assert again.accuracies == rows[0].accuracies
    with pytest.raises(DataError, match=r"21 samples per class: the class 'class\d' has only 20"):
        list(few_shot(samples, train, test, [21], HeadOptions()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "forest"}, "kind is one of linear, svm, knn, mlp"),
        ({"unit": "frames"}, "unit is videos or clips"),
        ({"folds": 1}, "folds must be 2"),
        ({"seed": -1}, "seed is a whole number"),
        ({"params": {"gamma": 1}}, "'gamma': params takes C, class_weight"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        HeadOptions(**options)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("linear", {"C": -1}),
        ("svm", {"C": "much"}),
        ("knn", {"n_neighbors": 0}),
        ("mlp", {"hidden": (0,), "alpha": 1}),
    ],
)
def test_parameters_that_cannot_be_meant_are_one_line(kind, params):
    with pytest.raises(UsageError, match="params: ") as error:
        train_head(make_samples(EASY), HeadOptions(kind, params=params))
    assert "\n" not in str(error.value)


def test_a_class_that_only_the_test_part_has_is_wrong_not_fatal():
    samples = make_samples([0, 1] * 20 + [2] * 5, splits=["train"] * 40 + ["test"] * 5)
    outcome = train_and_test(samples, np.arange(40), np.arange(40, 45), HeadOptions())
    assert outcome.evaluation.accuracy.value == 0
    assert outcome.head.classes == ("class0", "class1")


def test_from_a_feature_file_to_a_head(tmp_path):
    with FeatureStore(three_classes(tmp_path)) as store:
        samples = collect(store, labels_from_folders(store.paths))
        train, test, _ = split_parts(samples)
        outcome = train_and_test(samples, train, test, HeadOptions(), store.identity)
        assert outcome.evaluation.accuracy.value > 0.8
        video = store.read("run/video_03.mp4")
        scores = outcome.head.scores(video.vectors)
    assert scores.sum() == pytest.approx(1.0)
    assert outcome.head.classes[scores.argmax()] == "run"
    assert outcome.head.space_fingerprint == "space-a"


def test_vectors_in_half_precision_are_scored(tmp_path):
    names, classes = names_of(["jump", "run"], 6)
    half = replace(identity(16), dtype="float16")
    with FeatureStore(write_features(tmp_path / "f.h5", names, classes, of=half)) as store:
        samples = collect(store, labels_from_folders(store.paths))
    assert samples.vectors.dtype == np.float32
    assert train_head(samples, HeadOptions())[0].dimension == 16


# ---------------------------------------------------------------- parts that lack a class


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=8, max_size=40),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_class_that_is_held_out_whole_is_told(pairs, seed):
    labels, groups = (np.array(column) for column in zip(*pairs, strict=True))
    labels = np.unique(labels, return_inverse=True)[1]
    samples = make_samples(labels, groups=groups)
    try:
        train, test, notes = split_parts(samples, seed=seed)
    except DataError:
        return
    lost = set(samples.y[test].tolist()) - set(samples.y[train].tolist())
    told = "\n".join(notes)
    assert all(f"{samples.classes[label]} (" in told for label in lost)
    assert lost or "no training video" not in told


def test_a_class_in_the_test_part_alone_is_named_with_what_can_be_reached():
    labels = np.array([0] * 9 + [1] * 9 + [2] * 3)
    splits = (["train"] * 6 + ["test"] * 3) * 2 + ["test"] * 3
    samples = make_samples(labels, splits=splits)
    train, test, notes = split_parts(samples)
    assert (len(train), len(test)) == (12, 9)
    name = samples.classes[2]
    assert notes == [
        f"no training video of {name} (3 to test on): they cannot be found, so at most 6 of 9 "
        "(66.7%) can be right"
    ]


@pytest.mark.parametrize("names", [("training", "validate", "testing"), ("train", "valid", "test")])
def test_every_name_of_a_part_is_known(names):
    samples = make_samples(EASY, splits=[names[number // 20] for number in range(60)])
    train, test, _ = split_parts(samples)
    assert (len(train), list(test)) == (40, list(range(40, 60)))
