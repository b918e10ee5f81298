"""The comparison's tables and figures, on records made by hand."""

import shlex
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import seaborn as sns
from made import CLASSES, LABELS, PHOTOS, predicted, record
from matplotlib import pyplot as plt
from PIL import Image

from bloodcell_lib import dataset, metrics, models, plots, protocols
from bloodcell_lib.command import cli, comparison

ROOT = Path(__file__).parents[1]

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
    assert table["learning rate"] == "of each network's card" and table["image size"] == "75, 75"
    assert table["epochs"] == "2"
    by_card = replace(found[0], settings=found[0].settings | {"epochs": None})
    assert comparison.conditions([by_card])["all 1 runs"]["epochs"] == "of each network's card"
    assert table["augmentation"] == "none"
    assert table["machine"] == "one machine" and table["backend"] == "jax 1.0"
    other = record(found[0].folder, device="another")
    assert comparison.conditions([*found, other])["all 4 runs"]["machine"] == "one machine, another"


def test_the_missing_networks_are_named(found, tmp_path):
    lacking = [name for name in models.lessons() if name not in THREE]
    assert ", ".join(lacking) in comparison.missing(found)
    sentence = comparison.missing([record(tmp_path, name) for name in models.lessons()])
    assert not any(name in sentence for name in models.lessons())


@pytest.mark.parametrize("split", ["photo", "train:1/5"])
@pytest.mark.parametrize("name", ["paper", "grouped", "fold:2/5"])
def test_the_command_gives_the_recipe_the_seed_and_the_place_of_a_record(tmp_path, name, split):
    recipe = protocols.get(name, epochs=2, image_size=(90, 120), learning_rate=1e-5, limit=100)
    text = comparison.command(record(tmp_path / "my runs", seed=3, protocol=recipe), ["cnn", "nasnet"], split=split)
    options = cli._parser().parse_args(shlex.split(text)[1:])
    again = protocols.get(options.protocol, **cli._knobs(options))
    assert again == protocols.get(name, **{**recipe.data, "epochs": 2, "learning_rate": 1e-5, "split": split})
    assert options.notebook == ["cnn", "nasnet"] and options.seed == (3,)
    assert options.out == str(tmp_path / "my runs") and options.data == "archive.zip"


def test_other_seeds_of_the_same_networks_recipe_and_data_are_found(found):
    folder = found[0].folder
    others = [
        record(folder, seed=1, protocol=protocols.get("quick", epochs=2, learning_rate=0.5)),
        record(folder, seed=2, dataset=found[0].dataset | {"fingerprint": "other images"}),
        record(folder, "nasnet", seed=1),
    ]
    seed = record(folder, seed=4)
    assert comparison.seeds(found, [*others, *found, seed]) == [*found, seed]


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


def test_dumbbells_reach_from_the_paper_to_the_best_epoch(found):
    figure = comparison.dumbbells(found)
    for axis, part in zip(figure.axes, ("validation", "test"), strict=True):
        assert axis.get_ylim()[0] == 1.5  # two rows: the paper has no "own"
        theirs = [100 * models.card(name).table1[f"{plots.PARTS[part]}accuracy"] for name in ("cnn", "xception")]
        ours = [100 * getattr(r, part)["accuracy"] for r in found[:2]]
        intervals, ways = (np.array(lines.get_segments())[:, :, 0] for lines in axis.collections)
        assert np.allclose(ways, np.transpose([theirs, ours]))
        assert np.allclose(intervals, [100 * np.array(getattr(r, part)["interval95"]["accuracy"]) for r in found[:2]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cnn", "xception"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


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


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 12])
def test_small_multiples_have_a_panel_per_network(tmp_path, count):
    found = [record(tmp_path, f"net{n}", wrong=n) for n in range(count)]
    for figure in (comparison.curves(found), comparison.curves(found, "loss"), comparison.matrices(found)):
        figure.draw_without_rendering()
        shown = [axis for axis in figure.axes if axis.axison and axis.get_label() != "<colorbar>"]
        assert [axis.get_title() for axis in shown] == [record.model for record in found]
        assert len({axis.get_xlim() for axis in shown}) == len({axis.get_ylim() for axis in shown}) == 1
        named = [any(tick.label1.get_visible() for tick in axis.xaxis.get_major_ticks()) for axis in shown]
        assert named == [place >= count - 3 for place in range(count)]  # the lowest of each column


def test_curves_are_those_of_the_history(found):
    axis = comparison.curves(found, "loss").axes[1]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn["validation"] == found[1].history["val_loss"] and drawn["train"] == found[1].history["loss"]


def test_matrices_count_images(found):
    figure = comparison.matrices(found, "validation")
    assert np.array(texts(figure.axes[0]), int).reshape(4, 4).tolist() == found[0].validation["confusion"]


def contrast(one, two) -> float:
    """Of two colours, 1 to 21. Source: WCAG 2."""
    dark, light = sorted(map(sns.utils.relative_luminance, (one, two)))
    return (light + 0.05) / (dark + 0.05)


def test_every_count_can_be_read_on_its_colour(tmp_path):
    rows = np.concatenate([np.arange(10), *(np.arange(10 * n, 10 * n + 10) for n in (1, 2, 3))])
    found = [record(tmp_path, f"net{wrong}", wrong, rows=rows) for wrong in range(10)]
    figure = comparison.matrices(found)
    for axis in figure.axes[:10]:
        faces = axis.collections[0].get_facecolors()
        assert len(axis.texts) == len(faces) == 16
        assert all(contrast(t.get_color(), face) >= 4.5 for t, face in zip(axis.texts, faces, strict=True))
    tops = {axis.collections[0].norm.vmax for axis in figure.axes[:10]}
    assert tops == {100} and len(figure.axes) == 13  # one scale, two empty places and one bar of colours


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
    axis = comparison.against(found, cost="million parameters").axes[0]
    assert sorted(texts(axis)) == sorted(THREE)
    front = [(2, 70), (20, 95)]  # the third, the cheapest, guesses
    assert any(np.allclose(line.get_xydata(), front) for line in axis.lines if len(line.get_xdata()) == 2)


def test_areas_are_parameters_and_guessing_networks_are_hollow(found):
    points = comparison.against(found).axes[0].collections[1]
    sizes = points.get_sizes()
    assert sizes / sizes[0] == pytest.approx([1, 10, 0.5])
    assert [alpha > 0 for alpha in points.get_facecolors()[:, 3]] == [True, True, False]


@pytest.mark.parametrize("count", [1, 2, 9, 12])
def test_names_cover_neither_each_other_nor_a_point(tmp_path, count):
    rng = np.random.default_rng(count)
    found = [
        record(tmp_path, f"network{n}", int(rng.integers(2, 25)), multiply_adds=int(10 ** rng.uniform(7.5, 9.3)))
        for n in range(count)
    ]
    figure = comparison.against(found)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    centres = figure.axes[0].collections[1].get_offsets()
    assert len(boxes) == count and not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert not any(box.contains(*figure.axes[0].transData.transform(xy)) for box in boxes for xy in centres)


def test_equal_networks_have_names_beside_each_other(tmp_path):
    figure = comparison.against([record(tmp_path, f"net{n}") for n in range(5)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_seeds_are_dots_where_there_are_several(found):
    several = [*found, record(found[0].folder, wrong=4, seed=1)]
    for draw in (comparison.against, comparison.ranking):
        alone, together = (draw(found, runs).axes[0].lines for runs in (found, several))
        dots = [line for line in together if line.get_marker() == "."]
        assert not any(len(line.get_xdata()) for line in alone if line.get_marker() == ".")
        assert sorted(np.concatenate([np.ravel(line.get_xydata()[:, :]) for line in dots if len(line.get_xdata())]))
    axis = comparison.ranking(found, several).axes[0]
    (dots,), (mean,) = ([line for line in axis.lines if line.get_marker() == mark] for mark in ".|")
    assert list(dots.get_xdata()) == [70, 90] and list(mean.get_xdata()) == [80] and set(dots.get_ydata()) == {"cnn"}


# Class by class


def test_metrics_by_class(found):
    table = comparison.per_class(found)
    assert list(table.index) == list(THREE)
    assert list(table["precision"].columns) == [name.capitalize() for name in CLASSES]
    for what in ("recall", "precision", "F1"):
        expected = np.array(found[0].test["per_class"][what.lower()], float)  # NaN where it is not defined
        assert np.array_equal(table[what].loc["cnn"], expected, equal_nan=True)
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


def test_a_difference_that_rounds_to_nothing_has_no_minus(found):
    tests = comparison.pairwise(comparison.predictions(found[:2])).assign(difference=0.003)
    (shown,) = texts(comparison.pair_figure(tests).axes[0])
    assert shown.startswith("+0")


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


# What all of them miss


def test_photographs_that_all_or_nearly_all_miss(tmp_path):
    """Images 0 and 1 are of p0, 2 and 3 of p1, and so on; the first `wrong` of them are classified wrongly."""
    four = [record(tmp_path, f"net{n}", wrong) for n, wrong in enumerate((3, 4, 5, 30))]  # the last one guesses
    table = comparison.missed(four)
    assert list(table["photograph"]) == ["p0"]  # net0 classifies half of p1
    assert table.loc[0, ["true class", "most predicted", "images", "correct", "networks", "path"]].tolist() == [
        "Eosinophil", "Lymphocyte", 2, 0.0, "0 of 3", "00.png",
    ]  # fmt: skip
    five = [record(tmp_path, f"net{n}", wrong) for n, wrong in enumerate((0, 5, 4, 4, 4))]
    table = comparison.missed(five)
    assert list(table["photograph"]) == ["p0", "p1"] and set(table["networks"]) == {"1 of 5"}
    assert len(comparison.missed(five, most=1)) == 1 and comparison.missed([four[3]]).empty
    assert list(comparison.missed([four[3]]).columns) == list(table.columns)


def test_the_image_that_fewest_networks_classify_stands_for_its_photograph(tmp_path):
    wrong = np.arange(40) == 1  # of p0, the second image
    chosen = np.where(wrong, (LABELS + 1) % 4, LABELS)
    both = predicted(2), np.where(np.eye(4, dtype=bool)[chosen], 0.9, 0.1 / 3)
    found = [record(tmp_path, f"net{n}", 2) for n in range(2)]
    one, two = (found[0].answers | {"probabilities": probabilities} for probabilities in both)
    table = comparison.missed([record(tmp_path, "a", 2, arrays=one), record(tmp_path, "b", 2, arrays=one)])
    assert list(table["path"]) == ["00.png"]
    table = comparison.missed([record(tmp_path, "a", 2, arrays=one), record(tmp_path, "b", 3, arrays=two)])
    assert table.empty  # half of the images is classified by b


@pytest.fixture
def set_of_images(tmp_path):
    """A folder of four images, one grey value each."""
    folder = tmp_path / "mine"
    for n, label in enumerate(CLASSES):
        (folder / "TEST" / label).mkdir(parents=True)
        (folder / "TRAIN" / label).mkdir(parents=True)
        for part in ("TEST", "TRAIN"):
            Image.new("RGB", (8, 6), (40 * n,) * 3).save(folder / part / label / f"{n}.png")
    return folder


def test_pictures_are_read_from_the_set_of_the_records_alone(tmp_path, set_of_images):
    index = dataset.describe(set_of_images)
    about = {"name": "mine", "fingerprint": index.fingerprint, "classes": CLASSES, "sizes": {}}
    paths = pd.Series(["any/where/TEST/MONOCYTE/2.png", "any/where/TEST/LYMPHOCYTE/1.png"])  # as in a zip
    made = record(tmp_path, dataset=about)
    assert [image[0, 0, 0] for image in comparison.pictures(paths, made, set_of_images)] == [80, 40]
    other = record(tmp_path, dataset=about | {"fingerprint": "another"})
    assert comparison.pictures(paths, other, set_of_images) == []
    assert comparison.pictures(paths, made, tmp_path / "nowhere") == []
    assert comparison.pictures(pd.Series(dtype=str), made, set_of_images) == []


def test_no_set_is_drawn_or_sought_for_pictures(tmp_path, monkeypatch):
    monkeypatch.delenv("BLOODCELL_DATA", raising=False)
    monkeypatch.setattr(dataset, "describe", lambda data: pytest.fail(f"{data} is opened"))
    for name, data in (("mine", None), ("mine", "sample"), ("blood-cells", "sample")):
        made = record(tmp_path)
        made = record(tmp_path, dataset=made.dataset | {"name": name})
        assert comparison.pictures(pd.Series(["a"]), made, data) == []


# The notebook and its page


def test_the_notebook_keeps_to_its_pictures():
    notebook = nbformat.read(ROOT / "notebooks/10_comparison.ipynb", as_version=4)
    assert sum(cell.source.count("plots.show(") for cell in notebook.cells if cell.cell_type == "code") <= 12


def test_a_committed_page_shows_no_image_of_a_cell():
    """No licence is known for the archive's images: a page is made with DATA="sample", which only names them."""
    notebook, alt = (ROOT / "notebooks/10_comparison.ipynb").read_text(encoding="utf-8"), "Test images that nearly"
    assert alt in notebook  # the alternative text of that figure
    assert not [page for page in (ROOT / "results").glob("*.html") if f'alt="{alt}' in page.read_text(encoding="utf-8")]


def test_parts_have_the_colours_of_all_lessons(found):
    axis = comparison.curves(found).axes[0]
    assert {line.get_label(): line.get_color() for line in axis.lines if line.get_label() in plots.PART_COLOURS} == (
        plots.PART_COLOURS
    )
