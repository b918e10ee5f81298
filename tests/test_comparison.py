"""The comparison's tables and figures, on records made by hand."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from made import CLASSES, LABELS, PHOTOS, record
from matplotlib import pyplot as plt

from bloodcell_lib import metrics, models, plots
from bloodcell_lib.command import comparison

THREE = ("cnn", "xception", "own")  # the last is none of the lessons


@pytest.fixture
def found(tmp_path):
    """Three networks: the more expensive, the more accurate on test; on validation all but one are alike."""
    return [
        record(
            tmp_path,
            name,
            wrong,
            validation,
            parameters=parameters,
            multiply_adds=work,
            seconds={"epochs": [9.0, 1.0, 2.0 + wrong], "total": 20.0, "per_image": 0.01 * wrong},
        )
        for name, wrong, validation, parameters, work in (
            ("cnn", 12, 4, 2_000_000, 30_000_000),
            ("xception", 2, 3, 20_000_000, 500_000_000),
            ("own", 30, 35, 1_000_000, 60_000_000),
        )
    ]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


# What is compared


def test_conditions_show_every_knob_and_every_machine(found):
    table = comparison.conditions(found)["all 3 runs"]
    knobs = {name.replace("_", " ") for name in found[0].settings} - {"name"}
    assert knobs <= set(table.index) and table["protocol"] == "quick" and table["split"] == "image"
    assert table["learning rate"] == "0.001" and table["augmentation"] == "none" and table["image size"] == "75, 100"
    assert table["machine"] == "one machine" and table["backend"] == "jax 1.0"
    other = record(found[0].folder, device="another")
    assert comparison.conditions([*found, other])["all 4 runs"]["machine"] == "one machine, another"


def test_the_missing_networks_are_named(found, tmp_path):
    lacking = [name for name in models.lessons() if name not in THREE]
    assert ", ".join(lacking) in comparison.missing(found)
    sentence = comparison.missing([record(tmp_path, name) for name in models.lessons()])
    assert not any(name in sentence for name in models.lessons())


# The paper's Table 1


def test_the_paper_stands_beside_the_networks_that_it_has(found):
    table = comparison.beside_paper(found[::-1])
    assert list(table.index) == ["xception", "cnn"]  # the order of the records
    assert list(table.columns[:3]) == [("train", "paper"), ("train", "best"), ("train", "last")]
    assert table["test", "paper"]["cnn"] == models.card("cnn").table1["test_accuracy"]
    assert table["test", "best"]["cnn"] == pytest.approx(28 / 40)
    losses = comparison.beside_paper(found, "loss")
    assert losses["validation", "last"]["xception"] == found[1].history["val_loss"][-1]


def test_best_and_last_epoch_are_told_apart(tmp_path):
    first = record(tmp_path, best_epoch=1)
    assert comparison.measured([first])["cnn"]["loss"] == 1.0
    assert comparison.measured([first], "last")["cnn"]["loss"] == 0.5


def test_no_loss_is_below_its_bound_but_some_of_the_papers():
    ours = {"coin": {f"{part}{what}": 0.5 for part in ("", "val_", "test_") for what in ("accuracy", "loss")}}
    table = comparison.bounds(ours)
    assert table.loc[("coin", "train"), "least"] == pytest.approx(0.5 * np.log(2)) and table["possible"].all()
    assert not comparison.bounds(ours, factor=2)["possible"].any()
    assert comparison.bounds(ours, rounding=0.1)["least"].iloc[0] == pytest.approx(0.4 * np.log(2))
    theirs = comparison.bounds(comparison.paper(), rounding=0.005)
    assert len(theirs) == 3 * len(comparison.paper())
    assert not theirs.loc[("xception", "test"), "possible"]  # 11 % wrong at a loss of 0.0129
    assert theirs.loc[("cnn", "test"), "possible"]


def test_the_bound_is_held_by_predictions_of_any_kind():
    rng = np.random.default_rng(0)
    for sharpness in (0.1, 1, 10):
        probabilities = rng.dirichlet(np.full(4, 1 / sharpness), 400)
        labels = rng.integers(0, 4, 400)
        values = (
            metrics.accuracy(metrics.confusion(labels, probabilities)),
            metrics.cross_entropy(labels, probabilities),
        )
        row = {
            prefix + what: value
            for prefix in ("", "val_", "test_")
            for what, value in zip(("accuracy", "loss"), values, strict=True)
        }
        assert comparison.bounds({"any": row})["possible"].all()


def test_the_figure_of_the_bound_has_every_point(found):
    panels = {
        "paper": comparison.bounds(comparison.paper(), 0.005),
        "here": comparison.bounds(comparison.measured(found)),
    }
    figure = comparison.bound_figure(panels)
    for axis, table in zip(figure.axes, panels.values(), strict=True):
        points = [point for line in axis.lines if line.get_marker() in "os^" for point in line.get_xydata()]
        assert len(points) == len(table)
        low, high = axis.get_ylim()
        assert all(low < loss < high for loss in table["loss"])


# Curves and confusion matrices


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_small_multiples_have_a_panel_per_network(tmp_path, count):
    found = [record(tmp_path, f"net{n}", wrong=n) for n in range(count)]
    for figure in (comparison.curves(found), comparison.curves(found, "loss"), comparison.matrices(found)):
        shown = [axis for axis in figure.axes if axis.axison]
        assert [axis.get_title() for axis in shown] == [record.model for record in found]
        assert len({axis.get_xlim() for axis in shown}) == len({axis.get_ylim() for axis in shown}) == 1


def test_curves_are_those_of_the_history(found):
    axis = comparison.curves(found, "loss").axes[1]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn["validation"] == found[1].history["val_loss"] and drawn["train"] == found[1].history["loss"]


def test_matrices_count_images(found):
    figure = comparison.matrices(found, "validation")
    assert np.array(texts(figure.axes[0]), int).reshape(4, 4).tolist() == found[0].validation["confusion"]


# Accuracy against cost


def test_costs_are_of_one_image_and_of_a_usual_epoch(found):
    table = comparison.costs(found)
    assert table.loc["cnn"].tolist() == pytest.approx([2, 30, 9, 120])
    assert list(table.columns) == comparison.COSTS


def test_the_front_leaves_out_what_another_beats_and_what_guesses(tmp_path):
    networks = {
        "a": (1, 20),
        "b": (2, 12),
        "equal": (2, 12),
        "worse": (2, 16),
        "dear": (3, 12),
        "c": (4, 4),
        "guess": (0, 30),
    }
    found = [
        record(tmp_path, name, wrong, multiply_adds=1_000_000 * work, parameters=7 - work)
        for name, (work, wrong) in networks.items()
    ]
    assert comparison.front(found[::-1]) in (["a", "b", "c"], ["a", "equal", "c"])
    assert comparison.front(found, "million parameters") == ["c"]


def test_the_figure_of_costs_names_every_network_and_joins_the_front(found):
    axis = comparison.against(found, "million parameters").axes[0]
    assert sorted(texts(axis)) == sorted(THREE)
    front = [(2, 70), (20, 95)]  # the third, the cheapest, guesses
    assert any(np.allclose(line.get_xydata(), front) for line in axis.lines if len(line.get_xdata()) == 2)


def test_the_names_of_equal_networks_do_not_cover_each_other(tmp_path):
    axis = comparison.against([record(tmp_path, f"net{n}") for n in range(5)]).axes[0]
    heights = sorted(text.xyann[1] for text in axis.texts)
    assert min(np.diff(heights)) > 3


# Class by class


def test_metrics_by_class(found):
    table = comparison.per_class(found)
    assert list(table.index) == list(THREE)
    assert list(table["precision"].columns) == [name.capitalize() for name in CLASSES]
    for what in ("recall", "precision", "F1"):
        assert table[what].loc["cnn"].tolist() == found[0].test["per_class"][what.lower()]
    recall = found[0].test["per_class"]["recall"][0], found[0].test["interval95"]["per_class"]["recall"][0]
    assert comparison.recalls(found).loc["cnn", "Eosinophil"] == metrics.format_interval(*recall)


def test_the_most_frequent_confusions_come_first(found):
    table = comparison.confused(found)
    # wrong: 12, 2 and 30 of the images, which are sorted by class, ten of each
    first = table.iloc[0]
    assert (first["true class"], first["predicted class"], first["times"]) == ("Eosinophil", "Lymphocyte", 22)
    assert list(table["times"]) == [22, 12, 10] and table["share"].sum() == pytest.approx(1)
    assert comparison.confused([record(found[0].folder, wrong=0)]).empty


# Which differences can be believed


def test_the_ranking_is_sorted_and_has_each_interval(found):
    axis = comparison.ranking(found).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["own", "cnn", "xception"]
    bars = [tuple(segment[:, 0]) for segment in axis.collections[0].get_segments()]
    assert bars == [pytest.approx(100 * np.array(found[n].test["interval95"]["accuracy"])) for n in (2, 0, 1)]


def test_intervals_that_meet():
    table = pd.DataFrame({"low": [0.1, 0.3, 0.6], "high": [0.3, 0.5, 0.9]}, index=list("abc"))
    assert comparison.overlapping(table, "a") == ["b"] and comparison.overlapping(table, "c") == []


def test_predictions_are_put_together_by_image(found):
    shuffled = np.random.default_rng(0).permutation(40)
    moved = {key: values[shuffled] for key, values in found[1].answers.items()}
    other = record(found[0].folder, "xception", 2, 3, arrays=moved)
    predicted = comparison.predictions([found[0], other])
    assert predicted.shape == (40, 2) and (predicted.index.get_level_values("label") == LABELS).all()
    assert (predicted.index.get_level_values("photo") == PHOTOS).all()
    assert (predicted.ne(LABELS, axis=0)).sum().tolist() == [12, 2]


def test_pairs(found):
    tests = comparison.pairwise(comparison.predictions(found))
    assert list(zip(tests["a"], tests["b"], strict=True)) == [("cnn", "xception"), ("cnn", "own"), ("xception", "own")]
    assert tests["differing"].tolist() == pytest.approx([10 / 40, 18 / 40, 28 / 40])
    assert tests["difference"].tolist() == pytest.approx([-10 / 40, 18 / 40, 28 / 40])
    stars = ["*" * (p < 0.05) for p in tests["p_holm"]]
    shown = [f"+25{stars[0]}\n(25)", f"-45{stars[1]}\n(45)", f"-70{stars[2]}\n(70)"]
    assert sorted(texts(comparison.pair_figure(tests).axes[0])) == sorted(shown) and stars[1] == "*"


def test_two_networks_are_one_pair(found):
    tests = comparison.pairwise(comparison.predictions(found[:2]))
    assert len(texts(comparison.pair_figure(tests).axes[0])) == 1


def test_sign_flips_are_those_of_scipy():
    rng = np.random.default_rng(4)
    for count in (2, 5, 9, 12):
        difference = rng.integers(-8, 12, count)
        exact = scipy.stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert comparison.sign_flip(difference) == pytest.approx(exact.pvalue)
    difference = rng.integers(-40, 60, 71)
    many = scipy.stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=20_000, rng=0)
    assert comparison.sign_flip(difference) == pytest.approx(many.pvalue, abs=0.01)
    assert comparison.sign_flip(np.zeros(5, int)) == 1
    assert comparison.sign_flip(np.full(10, 3)) == pytest.approx(2 / 2**10)


def test_holm_by_hand():
    assert comparison.holm(np.array([0.04, 0.01, 0.03, 0.9])) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert comparison.holm(np.array([0.6, 0.7])).tolist() == [1, 1]


def answered(rng, accuracies, photos=71, copies=35):
    """Models that are right on all or most copies of a photograph, or on few."""
    accuracies = np.array(accuracies)
    share = rng.beta(accuracies / 2, (1 - accuracies) / 2, (photos, len(accuracies)))
    right = rng.random((photos, copies, len(accuracies))) < share[:, None]
    return {name: right[..., n].ravel() for n, name in enumerate("abcd"[: len(accuracies)])}, np.repeat(
        np.arange(photos), copies
    )


def test_equal_models_are_rarely_told_apart():
    rng = np.random.default_rng(5)
    alarms = [min(row["p_holm"] for row in comparison.compare(*answered(rng, [0.8] * 4))) < 0.05 for _ in range(300)]
    plain = [min(row["p"] for row in comparison.compare(*answered(rng, [0.8] * 4))) < 0.05 for _ in range(100)]
    assert np.mean(alarms) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(plain) > 0.1  # without the correction the six pairs cry wolf


def test_a_real_difference_is_found():
    right, photos = answered(np.random.default_rng(6), [0.95, 0.94, 0.6])
    found = {(row["a"], row["b"]): row for row in comparison.compare(right, photos)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["a", "c"]["difference"] == pytest.approx(right["a"].mean() - right["c"].mean())
    assert found["a", "c"]["p_holm"] < 0.01 < 0.1 < found["a", "b"]["p_holm"]
    assert found["a", "c"]["p"] <= found["a", "c"]["p_holm"]
    by_image = comparison.compare(right, np.arange(len(photos)))
    assert by_image[1]["p"] < found["a", "c"]["p"]  # copies taken for images: a difference looks surer than it is


def test_answers_of_different_length_are_refused():
    right, photos = answered(np.random.default_rng(7), [0.8, 0.8])
    with pytest.raises(ValueError, match="2485 photographs.*'b': 2484"):
        comparison.compare(right | {"b": right["b"][:-1]}, photos)


# The choice


def test_validation_chooses_and_test_is_only_read(found):
    table = comparison.choices(found)
    # "own" is the cheapest, and poor on validation; "cnn" is not told from the best there
    assert table["choice"].tolist() == ["xception", "cnn", "cnn", "xception", "xception"]
    assert table["its test accuracy in %"]["million parameters"].startswith("70.0 [")


def test_seconds_of_several_machines_choose_nothing(found):
    other = record(found[0].folder, "nasnet", device="another")
    assert not [wish for wish in comparison.choices([*found, other]).index if "seconds" in wish]


def test_parts_have_the_colours_of_all_lessons(found):
    axis = comparison.curves(found).axes[0]
    assert {line.get_label(): line.get_color() for line in axis.lines if line.get_label() in plots.PART_COLOURS} == (
        plots.PART_COLOURS
    )
