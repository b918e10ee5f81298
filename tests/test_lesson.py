"""What the lessons say is computed from what happened."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from IPython.display import Markdown

from bloodcell_lib import dataset, images, lesson, metrics, models, plots, protocols, training

SIZE = (24, 32)
RECIPE = protocols.get("quick", image_size=SIZE, epochs=3, batch_size=16, limit=32, frame="slide")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, session_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOODCELL_CACHE", str(session_cache))
        data = dataset.load("sample", **RECIPE.data)
    keras.utils.set_random_seed(0)
    network = models.build("cnn", SIZE, len(data.classes))
    run = training.fit(network, data, RECIPE, out=tmp_path_factory.mktemp("runs"), callbacks=[])
    return run, training.evaluate(run, data), data


def answering(record, data, correct: float):
    """The record, as if its network had given a share of the images of each class to the right one."""
    labels = data.test.labels
    place = np.array([np.sum(labels[:row] == label) for row, label in enumerate(labels)])  # within its class
    given = np.where(place < correct * len(labels) / 4, labels, (labels + 1) % 4)
    answers = record.answers | {"probabilities": np.eye(4)[given] * 0.6 + 0.1}
    test = metrics.summary(labels, answers["probabilities"], data.test.photos, "photo")
    return replace(record, test=test, arrays=answers)


@pytest.fixture
def shown(monkeypatch):
    """What a cell displays, in order: figures as (figure, alternative text), sentences as text, tables as frames."""
    found = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: found.append((figure, alt)))
    monkeypatch.setattr(lesson, "display", lambda it: found.append(it.data if isinstance(it, Markdown) else it))
    return found


def texts(shown: list) -> str:
    return "\n".join(it for it in shown if isinstance(it, str))


def test_what_is_not_defined_is_a_dash_with_a_sentence(finished, shown):
    _, record, data = finished
    some = data.test.labels < 3
    given = np.eye(4)[data.test.labels[some]] * 0.6 + 0.1
    test = metrics.summary(data.test.labels[some], given, data.test.photos[some], "photo")
    lesson.report(replace(record, test=test), data)
    table = next(it for it in shown if isinstance(it, pd.DataFrame) and "mean" in it.index)
    last = record.dataset["classes"][3]
    assert table.loc[last.capitalize(), ["precision", "recall", "F1"]].tolist() == ["–"] * 3
    assert table.loc["mean", "recall"].startswith("100.0 [")
    assert f"On test, {last}: no image in this part, so no recall and no F1." in texts(shown)


def test_source_is_cut_where_it_is_asked():
    whole = lesson.source(models.cnn.conv_block).data
    part = lesson.source(models.cnn.conv_block, start="x = layers.ReLU", stop="return").data
    assert "def conv_block" in whole and "return" in whole
    assert "layers.ReLU" in part and "return" not in part and "Conv2D" not in part
    with pytest.raises(ValueError, match="conv_block has no lines from 'no such'"):
        lesson.source(models.cnn.conv_block, start="no such")
    with pytest.raises(ValueError, match="to 'no such'"):
        lesson.source(models.cnn.conv_block, stop="no such")


def test_a_known_set_is_described_by_its_card_and_another_by_its_name(finished, shown):
    data = finished[2]
    lesson.about(data)
    assert data.card.about in shown[0] and "32 images to train on, 32 to validate and 32 to" in shown[0]
    assert "24 × 32 pixels" in shown[0] and len(shown[1][0].axes) == 2 * len(data.classes)
    lesson.about(replace(data, name="quadrants", card=None))
    assert "*quadrants*" in shown[2]
    assert "around the white cell" not in shown[0]
    lesson.about(replace(data, notes=("Not used: 2 .heic files, such as a/1.heic.",)))
    assert "Not used: 2 .heic files, such as a/1.heic." in shown[-2]
    lesson.about(replace(data, frame="cell"))
    assert "24 × 32 pixels around the white cell" in shown[-2]


def test_a_card_is_shown(shown):
    lesson.card("squeezenet")
    card = models.card("squeezenet")
    assert all(str(part) in shown[0] for part in (card.title, card.year, card.paper, card.min_side, card.notes))


def test_a_network_is_drawn_and_tabulated(finished, shown):
    network = finished[0].network
    lesson.network(network)
    (figure, alt), table = shown
    assert "block2 6×8×64" in alt and len(figure.axes) == 2
    assert table.loc["total", "parameters"] == f"{network.count_params():,}"


def test_the_full_run_is_the_paper_on_its_images(finished, shown):
    run, _, data = finished
    lesson.cost(run.network, RECIPE, data)
    table, said = shown
    assert table.loc["training images", "full run"] == "7,965" and table.loc["epochs", "full run"] == 20
    paper = protocols.get("paper")
    full = models.cost.multiply_adds(models.build("cnn", paper.image_size)) * 7965 * 20
    times = full / (models.cost.multiply_adds(run.network) * 32 * 3)
    assert table.loc["billion multiply-adds", "full run"] == f"{3 * full / 1e9:,.0f}"
    assert f"{times:,.1f} times" in said and "smaller images, fewer images, fewer epochs" in said
    shown.clear()
    lesson.cost(models.build("cnn", paper.image_size), paper, SimpleNamespace(train=range(7965)))
    assert "does 1.0 times" in shown[1] and "nothing" in shown[1] and "fewer" not in shown[1]


def test_the_curves_are_read(finished, shown):
    run = finished[0]
    lesson.training(run)
    (figure, alt), said = shown
    assert "3 epochs" in alt and figure.axes[0].lines[0].get_ydata().tolist() == run.history["loss"]
    assert f"epoch {run.best_epoch} of 3: {100 * run.history['val_accuracy'][run.best_epoch - 1]:.1f} %" in said
    for part in ("accuracy", "val_accuracy", "test_accuracy"):
        assert f"{100 * run.history[part][-1]:.1f} %" in said
    shown.clear()
    slow = replace(run, history=run.history | {"seconds": [600.0, 600.0, 600.0]})
    lesson.training(slow)
    full, own = lesson._work(run.network, RECIPE, 32)
    times = full / own
    assert "took 600.0 seconds" in shown[1] and f"about {30 * times / 60 / 24:,.0f} days" in shown[1]


def test_a_report_shows_all_that_a_record_says(finished, shown):
    _, trained, data = finished
    record = answering(trained, data, 0.9)
    lesson.report(record, data)
    ((figure, alt),) = (it for it in shown if isinstance(it, tuple))
    classes, paper = (it for it in shown if isinstance(it, pd.DataFrame))
    low, high = record.test["interval95"]["accuracy"]
    assert f"{100 * record.test['accuracy']:.1f} % [{100 * low:.1f} %, {100 * high:.1f} %]" in shown[0]
    assert [axis.get_title() for axis in figure.axes] == ["validation", "test"]
    assert f"test: {np.trace(record.test['confusion'])} of 32 correct" in alt
    assert [*classes] == ["photographs", "accuracy", "precision", "recall", "F1"]
    units = f"{record.test['interval95']['units']} in all"
    assert classes["photographs"].tolist() == [*record.test["per_photo"]["count"], units]
    low, high = record.test["interval95"]["per_class"]["recall"][2]
    recall = record.test["per_class"]["recall"]
    assert classes.loc["Monocyte", "recall"] == f"{100 * recall[2]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert classes.loc["mean", "recall"].startswith(f"{100 * np.mean(recall):.1f} [")
    assert paper.loc["test accuracy", "paper, Table 1"] == "0.72"
    assert paper.loc["test loss", "paper, Table 1"] == "2.0388"
    assert paper.loc["train accuracy", "last epoch (3)"] == str(round(record.history["accuracy"][-1], 4))
    assert data.card.comparable in texts(shown)
    copies = np.isin(data.validation.photos, data.train.photos).mean()
    gap = 100 * (record.validation["accuracy"] - record.test["accuracy"])
    assert f"{100 * copies:.0f} % of the validation images" in shown[-1] and f"{gap:+.1f} points" in shown[-1]


def test_an_interval_says_what_it_counts(finished, shown):
    record = answering(finished[1], finished[2], 0.9)
    for unit, coverage in (("photo", [0.9, 0.97]), ("image", None)):
        ends = record.test["interval95"] | {"unit": unit, "coverage": coverage}
        lesson.result(replace(record, test=record.test | {"interval95": ends}))
    assert (
        "on all photographs of" in shown[0] and "photographs are counted" in shown[0] and "90.0 % to 97.0 %" in shown[0]
    )
    assert "on all images of" in shown[1] and "counted one by one" in shown[1] and "simulations" not in shown[1]


def test_guessing_is_called_guessing_and_not_read(finished, shown):
    run, trained, data = finished
    guesses, learned = (answering(trained, data, share) for share in (0.25, 0.9))
    lesson.report(guesses, data)
    assert (
        "**In this run, A four-layer CNN is not better than guessing.**" in shown[1]
        and "guessing finds 25.0 %" in shown[1]
    )
    assert not [it for it in shown if isinstance(it, tuple)]  # no figure
    assert [it.columns[0] for it in shown if isinstance(it, pd.DataFrame)] == ["paper, Table 1"]
    for left_out, draw in (
        ("confusion matrices", lambda record: lesson.confusions(record)),
        ("class activation maps", lambda record: lesson.class_maps(run, record, data)),
    ):
        shown.clear()
        draw(guesses)
        assert len(shown) == 1 and f"The {left_out} are left out" in shown[0]
        draw(learned)
        assert isinstance(shown[1], tuple)
    shown.clear()
    lesson.result(learned)
    assert "guessing" not in texts(shown)


@pytest.mark.parametrize(
    ("moving", "still", "validation", "told"),
    [
        (0.98, 0.40, 0.35, "statistics of batch normalisation lag"),
        (0.98, 0.97, 0.35, "it overfits"),
        (0.80, 0.97, 0.95, "in inference mode"),
        (0.80, None, 0.95, None),
    ],
)
def test_training_accuracy_in_inference_mode_tells_lag_from_overfitting(
    finished, shown, moving, still, validation, told
):
    record = answering(finished[1], finished[2], 0.9)
    assert 0 <= record.train["accuracy"] <= 1
    history = record.history | {"accuracy": [moving] * 3}
    measured = {"history": history, "validation": record.validation | {"accuracy": validation}}
    lesson.result(replace(record, train=still and {"loss": 1.0, "accuracy": still}, **measured))
    sentences = [text for text in ("lag", "it overfits", "in inference mode") if text in shown[0]]
    if told is None:
        assert not sentences
    else:
        assert told in shown[0] and f"{100 * still:.1f} %" in shown[0]
        assert len(sentences) == 1 + (told != "in inference mode")


def test_unknown_photographs_are_said_to_be_unknown(finished, shown):
    _, record, data = finished
    lesson.copies(record, replace(data, photos_known=False))
    assert "not recorded" in shown[0] and "points" in shown[0]


def test_the_most_frequent_confusion_is_named(finished, shown):
    record = answering(finished[1], finished[2], 0.9)
    matrix = np.diag([12, 5, 12, 12])
    matrix[1, 3], matrix[1, 0] = 6, 1
    for confusion in (matrix, np.diag([12] * 4)):
        lesson.confusions(replace(record, test=record.test | {"confusion": confusion.tolist()}))
    assert "lymphocyte predicted as neutrophil (images: 6)" in shown[1] and "Nothing is confused" in shown[3]


def test_nothing_of_the_paper_is_shown_of_a_network_that_it_lacks(finished, shown, monkeypatch):
    _, record, data = finished
    monkeypatch.setattr(models, "card", lambda name: SimpleNamespace(title="Mine", table1=None))
    lesson.beside_paper(record, data)
    assert shown == []


def test_class_maps_show_the_most_confident_and_say_what_is_missing(finished, shown):
    run, record, data = finished
    lesson.class_maps(run, answering(record, data, 1), data)
    (figure, alt), said = shown
    axes = [axis for axis in figure.axes if axis.get_title()]
    titles = [axis.get_title() for axis in axes]
    assert titles[4] == "no eosinophil\nclassified wrongly" and titles[0].startswith("eosinophil as\neosinophil, 70%")
    assert "eosinophil as eosinophil, 70%" in alt and "1 × 2 places" in said
    first = np.flatnonzero(data.test.labels == 0)[0]
    image = data.test.images[first : first + 1]
    maps = models.evidence(run.network, image, [0])
    drawn = axes[0].images[1]
    assert drawn.get_array().data == pytest.approx(maps[0])
    low, high = drawn.get_clim()
    assert low == -high and all(axis.images[1].get_clim() == (low, high) for axis in axes)
    left, top, right, bottom = images.window(image[0], (1, 1))
    box = axes[0].patches[0]
    assert (box.get_x() + 0.5, box.get_y() + 0.5) == pytest.approx((left, top))
    assert (box.get_width(), box.get_height()) == pytest.approx((right - left, bottom - top))
    share = models.share_inside(maps, np.array([(left, top, right, bottom)]), image.shape[1:3])[0]
    assert f"{share:.0%} inside" in titles[0] and axes[4].images[1].get_array().mask.all()


def test_the_evidence_inside_the_window_is_told(finished, shown, monkeypatch):
    run, trained, data = finished
    record = answering(trained, data, 0.9)
    height, width = data.test.images.shape[1:3]
    monkeypatch.setattr(models, "evidence", lambda network, images, classes: np.ones((len(images), height, width)))
    lesson.class_maps(run, record, data)
    assert "Over 32 test images, on average 22 % of the evidence" in shown[1] and "evenly has 22 %" in shown[1]
    lesson.class_maps(run, record, replace(data, frame="cell"))
    assert shown[3].startswith("A map has") and "inside" not in shown[2][1]  # the image is the window
