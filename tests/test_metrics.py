"""Metrics, on rows worked by hand and against scikit-learn."""

from pathlib import Path
from time import perf_counter

import intervals
import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sk

from bloodcell_lib import metrics

ROOT = Path(__file__).parents[1]
HAND = np.array([[5, 1, 0, 0], [2, 3, 0, 1], [0, 0, 4, 0], [1, 0, 0, 7]])


def test_one_vs_rest_by_hand():
    count = metrics.one_vs_rest(HAND)
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
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, guess, labels=range(4), zero_division=np.nan)
    f1[np.isnan(recall)] = np.nan  # there it is 0, where another class is taken for it
    found = metrics.per_class(matrix)
    assert found["precision"] == pytest.approx(precision, nan_ok=True)
    assert found["recall"] == pytest.approx(recall, nan_ok=True)
    assert found["f1"] == pytest.approx(f1, nan_ok=True)
    assert metrics.macro(matrix)["f1"] == pytest.approx(np.nanmean(f1))
    assert metrics.accuracy(matrix) == pytest.approx(sk.accuracy_score(labels, guess))


@pytest.mark.parametrize(
    ("matrix", "guesses"),
    [
        (np.full((4, 4), 10), True),
        (np.outer([940, 20, 20, 20], [1, 0, 0, 0]), True),  # always the most frequent class: 94 % accuracy
        (np.full((4, 4), 12) - 8 * np.eye(4, dtype=int), True),  # worse than guessing
        (np.full((4, 4), 7) + 12 * np.eye(4, dtype=int), False),
        (np.diag([848, 12, 12, 12]) + np.outer([92, 8, 8, 8], [0, 0, 0, 1]), False),
    ],
)
def test_guessing_is_the_mean_recall_of_chance(matrix, guesses):
    true, given = (np.repeat(axis, matrix.ravel()) for axis in np.indices(matrix.shape).reshape(2, -1))
    part = metrics.summary(true, np.eye(4)[given], np.arange(len(true)), "image")
    assert part["confusion"] == matrix.tolist() and metrics.guessing(part) == guesses


def test_cross_entropy_is_equation_6(predictions):
    labels, probabilities = predictions
    by_hand = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert metrics.cross_entropy(labels, probabilities) == pytest.approx(by_hand, rel=1e-5)


def test_answers_are_counted_by_photograph():
    labels, answers = np.array([0, 1, 0, 2, 0, 1], "uint8"), np.array([0, 1, 1, 2, 0, 0])
    counts, true = metrics.by_photograph(labels, answers, np.array(["b", "a", "b", "c", "c", "a"]), 4)
    assert true.tolist() == [0, 0, 1, 2]  # photograph c shows cells of two classes
    assert counts.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert metrics.pooled(counts, true).tolist() == metrics.confusion(labels, np.eye(4)[answers]).tolist()
    assert metrics.per_photo_accuracy(counts, true) == pytest.approx((1 / 2 + 1 + 1 / 2 + 1) / 4)


def test_intraclass_correlation_by_hand():
    counts = np.array([[2, 0], [0, 2], [1, 1]])  # copies disagree in one photograph, and in 2 of 3 pairs of photographs
    assert metrics.intraclass_correlation(counts, np.zeros(3, int)) == pytest.approx(
        [1 - 1 / (3 * 2 / 3 + metrics.PRIOR), np.nan], nan_ok=True
    )


@pytest.mark.parametrize("correlation", [0.2, 0.7])
def test_intraclass_correlation_is_found_again(correlation):
    rng = np.random.default_rng(0)
    share = rng.beta(*np.array([0.8, 0.2]) * (1 / correlation - 1), 4000)
    right = rng.binomial(12, share)
    found = metrics.intraclass_correlation(np.stack([right, 12 - right], 1), np.zeros(4000, int))
    assert found[0] == pytest.approx(correlation, abs=0.04)


@pytest.mark.parametrize("counts", [[[4, 0], [4, 0]], [[0, 4], [0, 4]], [[1, 0], [0, 1]], [[3, 1]]])
def test_where_nothing_varies_there_is_no_intraclass_correlation(counts):
    counts = np.array(counts)  # all correct, all wrong, single copies, a single photograph
    assert np.isnan(metrics.intraclass_correlation(counts, np.zeros(len(counts), int))[0])
    assert np.isfinite(metrics.matrices(counts, np.zeros(len(counts), int), draws=10)[:, 0]).all()
    assert metrics.intraclass_correlation(np.array([[4, 0], [0, 4]]), np.zeros(2, int))[0] == 1


@pytest.mark.parametrize("single", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("correlation", [0.0, 0.2])
def test_photographs_with_one_copy_say_nothing_of_how_alike_copies_are(single, correlation):
    rng, photos = np.random.default_rng(0), 40_000
    size = np.where(np.arange(photos) < single * photos, 1, 10)
    share = rng.beta(0.8 / correlation - 0.8, 0.2 / correlation - 0.2, photos) if correlation else np.full(photos, 0.8)
    right = rng.binomial(size, share)
    found = metrics.intraclass_correlation(np.stack([right, size - right], 1), np.zeros(photos, int))
    assert found[0] == pytest.approx(correlation, abs=0.04)


def by_image(labels, answers):
    return metrics.by_photograph(labels, answers, np.arange(len(labels)), 4)


def test_intervals_of_clusters_of_one_are_those_of_beta():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [200, 60])
    answers = np.where(rng.random(260) < 0.8, labels, 3)
    found = metrics.intervals(*by_image(labels, answers), draws=100_000)["per_class"]["recall"]
    for label, images in enumerate((200, 60)):
        right = np.sum((labels == label) & (answers == label)) * (images - 1) / images
        exact = scipy.stats.beta(right + metrics.PRIOR, images - 1 - right + metrics.PRIOR).interval(0.95)
        assert found[label] == pytest.approx(exact, abs=2e-3)


def test_copies_that_agree_count_as_one():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 4
    answers = np.where(rng.random(40) < 0.8, labels, (labels + 1) % 4)
    once = metrics.intervals(*by_image(labels, answers), draws=50_000)
    every = metrics.by_photograph(*np.repeat([labels, answers, np.arange(40)], 20, axis=1), 4)
    copied = metrics.intervals(*every, draws=50_000)
    assert copied["accuracy"] == pytest.approx(once["accuracy"], abs=4e-3)
    assert copied["per_class"]["f1"] == pytest.approx(once["per_class"]["f1"], abs=8e-3)
    alone = metrics.intervals(*by_image(np.repeat(labels, 20), np.repeat(answers, 20)))
    assert np.diff(copied["accuracy"]) > 3.5 * np.diff(alone["accuracy"])


def test_a_patient_with_cells_of_several_classes_counts_once():
    """The interval of 20 patients, each right or wrong about all its cells, is that of one image of each."""
    rng = np.random.default_rng(0)
    right = rng.random(20) < 0.7
    labels, patients = np.tile(np.repeat([0, 1], 6), 20), np.repeat(np.arange(20), 12)
    answers = np.where(np.repeat(right, 12), labels, 1 - labels)
    found = metrics.summary(labels, np.eye(2)[answers], patients, "photo")["interval95"]
    assert found["units"] == 20 and found["coverage"] is None
    each = metrics.intervals(*metrics.by_photograph(labels, answers, patients, 2))  # as if they were 40
    assert np.diff(found["accuracy"]) > 1.25 * np.diff(each["accuracy"])
    one = metrics.summary(np.arange(20) % 2, np.eye(2)[np.where(right, np.arange(20) % 2, 1 - np.arange(20) % 2)],
                          np.arange(20), "photo")["interval95"]  # fmt: skip
    assert np.diff(found["accuracy"]) == pytest.approx(np.diff(one["accuracy"]), rel=0.15)


def test_one_photograph_tells_nothing_of_its_class():
    labels = np.repeat([0, 1, 2, 3], 50)
    found = metrics.intervals(*metrics.by_photograph(labels, np.where(labels < 3, labels, 0), labels, 4))
    assert np.all(np.diff(found["per_class"]["recall"]) > 0.99)


ALL = np.arange(40) % 4


@pytest.mark.parametrize(
    ("labels", "answers", "photos", "accuracy"),
    [
        (ALL, ALL, np.arange(40), 1),
        (ALL, (ALL + 1) % 4, np.arange(40), 0),
        (ALL, ALL, ALL, 1),
        (np.arange(40) % 3, np.arange(40) % 3, np.arange(40), 1),
        (np.array([2]), np.array([2]), np.array(["a"]), 1),
        (ALL, np.where(np.arange(40) < 20, ALL, 3), np.arange(40) // 8, 0.625),
    ],
)
def test_intervals_hold_their_figures_in_every_case(labels, answers, photos, accuracy):
    summed = metrics.summary(labels, np.eye(4)[answers], photos, "photo")
    ends = summed["interval95"]
    assert summed["accuracy"] == accuracy and 0 <= ends["accuracy"][0] <= accuracy <= ends["accuracy"][1] <= 1
    assert np.diff(ends["accuracy"]) > 0.05  # also where all is right, or wrong
    for name, figure in summed["macro"].items():
        low, high = ends["macro"][name]
        assert 0 <= low <= figure <= high <= 1
    for name, figures in summed["per_class"].items():
        for figure, both in zip(figures, ends["per_class"][name], strict=True):
            assert (figure is None) == (both is None) and (both is None or 0 <= both[0] <= figure <= both[1] <= 1)
    assert sum(summed["per_photo"]["count"]) == len({*zip(labels, photos, strict=True)})


def test_what_is_not_defined_is_no_zero_and_left_out_of_the_means():
    labels, answers = np.repeat([0, 1, 3], 20), np.repeat([0, 1, 1, 2], 15)  # no image of 2; 3 is never predicted
    found = metrics.summary(labels, np.eye(4)[answers], np.arange(60), "image")
    shares, ends = found["per_class"], found["interval95"]
    assert shares["recall"] == [0.75, 1, None, 0]
    assert shares["precision"][2:] == [0, None] and shares["f1"][2:] == [None, 0]
    for name in ("recall", "precision", "f1"):
        known = [value for value in shares[name] if value is not None]
        assert found["macro"][name] == pytest.approx(np.mean(known))
        assert [both is None for both in ends["per_class"][name]] == [value is None for value in shares[name]]
        assert ends["macro"][name][0] <= found["macro"][name] <= ends["macro"][name][1]
    said = metrics.undefined(found, ["a", "b", "c", "d"])
    assert said.startswith(
        "c: no image in this part, so no recall and no F1. d: never predicted, so no precision. A dash"
    )
    assert metrics.format_interval(shares["recall"][2], ends["per_class"]["recall"][2]) == "–"
    assert metrics.undefined(metrics.summary(ALL, np.eye(4)[ALL], ALL, "image"), "abcd") == ""


def test_a_perfect_answer_has_a_perfect_mean_where_a_class_has_no_image():
    labels = np.repeat([0, 1, 2], 10)
    found = metrics.summary(labels, np.eye(4)[labels], np.arange(30), "image")
    assert found["macro"]["f1"] == found["macro"]["recall"] == found["macro"]["precision"] == 1
    always = metrics.summary(labels, np.eye(4)[labels * 0], np.arange(30), "image")
    assert metrics.guessing(always) and not metrics.guessing(found)


def test_drawn_matrices_keep_the_images_of_each_class_and_the_shares():
    counts, true = metrics.by_photograph(np.repeat([0, 1, 3], 400), np.tile([0, 1, 3, 3], 300), np.arange(1200), 4)
    drawn = metrics.matrices(counts, true, draws=4000)
    assert drawn.sum(2) == pytest.approx(np.tile([400, 400, 0, 400], (4000, 1)))
    assert drawn.mean(0)[0] == pytest.approx([100, 100, 0, 200], abs=1)
    for n in range(3):  # figures of many matrices at once are those of each
        assert metrics.per_class(drawn)["f1"][n] == pytest.approx(metrics.per_class(drawn[n])["f1"], nan_ok=True)
        assert metrics.accuracy(drawn)[n] == pytest.approx(np.trace(drawn[n]) / 1200)


def test_intervals_are_quick_and_repeat():
    rng = np.random.default_rng(3)
    labels, photos = rng.integers(0, 4, 2487), rng.integers(0, 71, 2487)
    start = perf_counter()
    first = metrics.intervals(*metrics.by_photograph(labels, rng.integers(0, 4, 2487), photos, 4))
    assert perf_counter() - start < 1
    rng = np.random.default_rng(3)
    labels, photos = rng.integers(0, 4, 2487), rng.integers(0, 71, 2487)
    again = metrics.by_photograph(labels, rng.integers(0, 4, 2487), photos, 4)
    assert np.array_equal(metrics.intervals(*again)["accuracy"], first["accuracy"])
    assert not np.array_equal(metrics.intervals(*again, seed=1)["accuracy"], first["accuracy"])


def test_the_benchmark_draws_photographs_as_scipy_does():
    rng = np.random.default_rng(8)
    true = np.repeat(range(4), (13, 9, 8, 48))
    right = rng.random(78) < 0.85
    samples = [right[true == label] for label in range(4)]
    ends = intervals.bootstraps(right[None].astype(int), np.ones(78, int), true, rng, draws=50_000)
    for method in ("percentile", "BCa"):
        found = scipy.stats.bootstrap(
            samples,
            lambda *parts, axis: sum(part.sum(axis) for part in parts) / 78,
            method=method,
            n_resamples=50_000,
            rng=0,
        ).confidence_interval
        assert ends[f"{method} bootstrap"][:, 0] == pytest.approx(found, abs=1e-9)
    deviation = intervals.estimate(right[None].astype(int), np.ones(78, int), true, np.ones((1, 78)))[1][0, 0]
    assert deviation == pytest.approx(np.sqrt(sum(len(part) * part.var(ddof=1) for part in samples)) / 78)


@pytest.mark.parametrize(
    ("accuracies", "correlation"),
    [("all .75", ".9"), ("all .9", ".6"), ("all .97", ".3"), ("monocyte .6, others .95", ".9")],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(accuracies, correlation):
    table = ROOT / "data" / "provenance.csv"
    size, true = intervals.photographs(table if table.exists() else None)
    values = intervals.ACCURACIES[accuracies]
    truth = intervals.truths(size, true, np.array(values))["accuracy"]
    rng = np.random.default_rng(11)
    counts = intervals.simulate(size, true, values, intervals.CORRELATIONS[correlation], 500, rng)
    ends = intervals.bootstraps(counts[:, np.arange(len(true)), true], size, true, rng)
    ends["kept"] = intervals.kept(counts, true)["accuracy"]
    held = {method: np.mean((low <= truth) & (truth <= high)) for method, (low, high) in ends.items()}
    lowest, highest = metrics.COVERAGE
    chance = 3 * np.sqrt(0.95 * 0.05 / 500)
    assert lowest - chance < held["kept"] < min(1, highest + chance)
    assert held["percentile bootstrap"] < lowest - chance  # so this test can tell


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])  # bins (.5, .75]: surest .7 and .6, both right; (.75, 1]: .9 right, .8 wrong
    assert metrics.calibration_error(labels, probabilities, bins=4) == pytest.approx((0.7 + 0.7) / 4)
    assert metrics.calibration_error(labels, np.eye(2)[labels]) == 0
    assert metrics.calibration_error(labels, np.eye(2)[1 - labels]) == 1
    edge = np.array([[0.75, 0.25], [0.7, 0.3]])  # a bin holds its upper edge
    assert metrics.calibration_error(np.array([0, 1]), edge, bins=4) == pytest.approx((0.7 - 0.25) / 2)


def test_brier_by_hand(predictions):
    labels, probabilities = predictions
    distance = ((probabilities - np.eye(4)[labels]) ** 2).sum(1)
    assert metrics.brier(labels, probabilities) == pytest.approx(distance.mean(), rel=1e-5)
    assert metrics.brier(np.array([0, 1]), np.array([[0.0, 1], [0, 1]])) == pytest.approx(1)  # half wrong


def test_a_figure_is_written_with_its_interval():
    assert metrics.format_interval(0.892, [0.814, 0.9471]) == "89.2 [81.4, 94.7]"
    assert (
        metrics.format_interval(0.892, (0.814, 0.9471), 0) == "89 [81, 95]"
        and metrics.format_interval(1, None) == "100.0"
    )


def test_most_confident_of_correct_and_wrong():
    labels = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.8, 0.2]])
    assert metrics.most_confident(labels, probabilities) == [0, 3, None, 4]
