"""What the lessons say is computed from what happened."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from test_training import SIZE, data, recipe, train

from bloodcell_lib import lesson, models, paper, plots, protocols, training


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run, set_ = train(tmp_path_factory.mktemp("lesson"), recipe(epochs=4))
    kept = keras.saving.load_model(run.checkpoint)
    return run, set_, kept, *training.evaluate(kept, run, set_, recipe(epochs=4))


def test_source_is_cut_where_it_is_asked():
    whole = lesson.source(models.cnn.conv_block).data
    part = lesson.source(models.cnn.conv_block, start="x = layers.ReLU", stop="return").data
    assert "def conv_block" in whole and "return" in whole
    assert "layers.ReLU" in part and "return" not in part and "Conv2D" not in part
    with pytest.raises(ValueError, match="conv_block has no lines from 'no such'"):
        lesson.source(models.cnn.conv_block, start="no such")


def test_the_set_is_named_for_what_it_is():
    for name, words in (
        ("sample", "drawn by a program"),
        ("blood-cells", "photograph of stained blood"),
        ("quadrants", "*quadrants*"),
    ):
        said = lesson.about(replace(data(), name=name)).data
        assert words in said and "96 images to train on, 48 to validate and 48 to" in said and "24 × 32 pixels" in said


def test_the_full_run_is_the_paper_on_the_archive():
    network = models.build("cnn", SIZE)
    table, times = lesson.full_run(network, recipe(), data())
    assert table.loc["training images", "full run"] == "7,965" and table.loc["epochs", "full run"] == 20
    full = models.cost.multiply_adds(models.build("cnn", protocols.get("paper").image_size)) * 7965 * 20
    assert times == pytest.approx(full / (models.cost.multiply_adds(network) * 96 * 3))
    said = lesson.reduced(recipe(), data(), times).data
    assert "smaller images, fewer images, fewer epochs" in said
    assert "nothing" not in said


def test_sentences_follow_the_run(finished):
    run, set_, _, record, _ = finished
    said = lesson.curves(run, 10).data
    assert f"best in epoch {run.best_epoch} of 4" in said
    assert f"{100 * run.history['accuracy'][-1]:.1f} % of the train" in said
    test = record["test"]
    low, high = (f"{100 * end:.1f} %" for end in test["interval95"]["accuracy"])
    assert f"{100 * test['accuracy']:.1f} % [{low}, {high}]" in lesson.result(record).data
    assert "counted one by one" in lesson.result(record).data and "simulations" not in lesson.result(record).data
    known = test["interval95"] | {"unit": "photo", "coverage": [0.9, 0.97]}
    said = lesson.result(record | {"test": test | {"interval95": known}}).data
    assert "photographs are counted" in said and "90 to 97 times in 100" in said
    assert "not recorded" in lesson.copies(record, set_).data


def test_the_most_frequent_confusion_is_named(finished):
    record = finished[3]
    matrix = np.diag([12, 5, 12, 12])
    matrix[1, 3], matrix[1, 0] = 6, 1
    said = lesson.confused(record | {"test": record["test"] | {"confusion": matrix.tolist()}}).data
    assert "lymphocyte taken for neutrophil, 6 times" in said
    diagonal = record | {"test": record["test"] | {"confusion": np.diag([12] * 4).tolist()}}
    assert "nothing was confused" in lesson.confused(diagonal).data


def test_tables_show_the_record_and_the_paper(finished):
    record = finished[3]
    recall = record["test"]["per_class"]["recall"]
    shown = lesson.per_class(record)
    low, high = record["test"]["interval95"]["per_class"]["recall"][2]
    assert shown.loc["Monocyte", "recall"] == f"{100 * recall[2]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert shown.loc["mean", "recall"].startswith(f"{100 * np.mean(recall):.1f} [")
    assert shown["images"].tolist() == [12] * 4 + [48]
    beside = lesson.beside_paper(record)
    assert beside.loc["test", "paper, Table 1"] == "72 %" and beside.loc["test loss", "paper, Table 1"] == "2.0388"
    assert beside.iloc[2, 2] == f"{100 * record['history']['test_accuracy'][-1]:.1f} %"


def test_the_paper_has_a_row_for_every_network():
    assert list(paper.TABLE1) == models.names()
    assert all(0 < row[key] < 1 for row in paper.TABLE1.values() for key in row if "accuracy" in key)


def test_class_maps_show_the_surest_and_say_what_is_missing(finished, monkeypatch):
    _, set_, kept, _, predictions = finished
    shown = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: shown.append((figure, alt)))
    probabilities = np.eye(4)[set_.test.labels] * 0.6 + 0.1  # everything right
    said = lesson.class_maps(kept, set_, probabilities).data
    assert "no eosinophil was classified wrongly" in said and "classified rightly" not in said
    assert "1 × 2 places" in said
    titles = [axis.get_title() for axis in shown[0][0].axes]
    assert titles[4:] == ["none"] * 4 and titles[0] == "eosinophil as\neosinophil, 70%"
