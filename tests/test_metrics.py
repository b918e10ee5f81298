"""Metrics, on rows worked by hand and against scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sk

from bloodcell_lib import metrics

HAND = np.array([[5, 1, 0, 0], [2, 3, 0, 1], [0, 0, 4, 0], [1, 0, 0, 7]])


def test_outcomes_by_hand():
    count = metrics.outcomes(HAND)
    assert count["tp"].tolist() == [5, 3, 4, 7]
    assert count["fn"].tolist() == [1, 3, 0, 1]  # images of the class that were missed
    assert count["fp"].tolist() == [3, 1, 0, 1]
    assert count["tn"].tolist() == [15, 17, 20, 15]


def test_per_class_by_hand():
    found = metrics.per_class(HAND)
    assert found["precision"] == pytest.approx([5 / 8, 3 / 4, 1, 7 / 8])
    assert found["recall"] == pytest.approx([5 / 6, 1 / 2, 1, 7 / 8])
    assert found["f1"] == pytest.approx([5 / 7, 3 / 5, 1, 7 / 8])
    assert found["accuracy"] == pytest.approx([20 / 24, 20 / 24, 1, 22 / 24])
    assert metrics.accuracy(HAND) == pytest.approx(19 / 24)


@pytest.fixture(params=[0, 1, 2])
def predictions(request):
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 4, 300)
    if request.param == 2:
        labels[labels == 3] = 0  # a class without images
    scores = rng.dirichlet(np.ones(4), 300)
    scores[np.arange(300), labels] += 0.4
    return labels, (scores / scores.sum(1, keepdims=True)).astype("float32")


def test_against_scikit_learn(predictions):
    labels, probabilities = predictions
    guess = probabilities.argmax(1)
    matrix = metrics.confusion(labels, probabilities)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, guess, labels=range(4), zero_division=0)
    found = metrics.per_class(matrix)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(f1)
    assert metrics.macro(matrix)["f1"] == pytest.approx(f1.mean())
    assert metrics.accuracy(matrix) == pytest.approx(sk.accuracy_score(labels, guess))


def test_cross_entropy_is_equation_6(predictions):
    labels, probabilities = predictions
    by_hand = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert metrics.cross_entropy(labels, probabilities) == pytest.approx(by_hand, rel=1e-5)


def test_interval_of_clusters_of_one_is_the_plain_bootstrap():
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.8
    low, high = metrics.accuracy_interval(np.zeros(200, int), correct, np.arange(200))
    plain = scipy.stats.bootstrap((correct,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    assert [low, high] == pytest.approx([plain.low, plain.high], abs=0.011)


def test_interval_widens_with_copies():
    rng = np.random.default_rng(1)
    photo = np.repeat(np.arange(40), 20)
    correct = np.repeat(rng.random(40) < 0.8, 20)  # copies succeed and fail together
    labels = photo % 4
    by_photo = metrics.accuracy_interval(labels, correct, photo)
    by_image = metrics.accuracy_interval(labels, correct, np.arange(800))
    ratio = np.diff(by_photo)[0] / np.diff(by_image)[0]
    assert ratio == pytest.approx(np.sqrt(20), rel=0.15)


def test_interval_is_stratified_and_repeats():
    labels = np.array([0] * 10 + [1] * 10)
    correct = labels == 0  # all of one class right, all of the other wrong: strata leave no doubt
    assert metrics.accuracy_interval(labels, correct, np.arange(20)) == (0.5, 0.5)
    rng = np.random.default_rng(2)
    correct = rng.random(20) < 0.5
    assert metrics.accuracy_interval(labels, correct, np.arange(20)) == metrics.accuracy_interval(
        labels, correct, np.arange(20))


def test_surest_of_right_and_wrong():
    labels = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.8, 0.2]])
    assert metrics.surest(labels, probabilities) == [0, 3, None, 4]
