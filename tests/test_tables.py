"""Tables of records."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import LABELS, PHOTOS, predicted, record

from bloodcell_lib import metrics, protocols, records
from bloodcell_lib.command import tables


def fold(folder, place: int, folds: int = 3, **options):
    """Return the record of a fold that tests every `folds`-th photograph."""
    return record(
        folder,
        protocol=options.pop("protocol", protocols.get(f"fold:{place}/{folds}", epochs=2)),
        rows=np.flatnonzero(np.arange(40) // 2 % folds == place - 1),
        **options,
    )


def test_a_run_is_a_row(tmp_path):
    frame = tables.runs([record(tmp_path), record(tmp_path, "xception", wrong=0, seed=1)])
    assert list(frame["model"]) == ["cnn", "xception"] and list(frame["seed"]) == [0, 1]
    test = record(tmp_path).test
    assert frame["test"][0] == metrics.format_interval(0.8, test["interval95"]["accuracy"])
    assert frame["F1"][0] == metrics.format_interval(test["macro"]["f1"], test["interval95"]["macro"]["f1"])
    assert frame["test"][1].startswith("100.0 [") and frame["train, last"][0] == "90.0"
    assert frame["s/epoch"][0] == "5.0" and frame["size"][0] == "75x75" and frame["unit"][0] == "photographs"


def test_an_epoch_that_was_held_up_does_not_count_as_the_length_of_epochs(tmp_path):
    seconds = record(tmp_path).seconds | {"epochs": [5.0, 900.0, 6.0]}
    assert tables.runs([record(tmp_path, seconds=seconds)])["s/epoch"][0] == "6.0"


def test_a_run_without_test_curve_has_a_row(tmp_path):
    short = {"loss": [1.0, 0.5], "accuracy": [0.5, 0.9], "val_loss": [1.0, 0.5], "val_accuracy": [0.5, 0.9]}
    assert tables.runs([record(tmp_path, history=short)])["test, last"][0] == ""


def test_the_seeds_of_one_recipe_are_put_together(tmp_path):
    found = [record(tmp_path, wrong=wrong, seed=seed) for wrong, seed in ((8, 0), (4, 2))]
    others = [
        record(tmp_path, "xception"),
        record(tmp_path, seed=3, protocol=protocols.get("quick", epochs=2, learning_rate=0.5)),
        record(tmp_path, seed=4, dataset=found[0].dataset | {"fingerprint": "other images"}),
    ]
    frame = tables.seeds([*others, *found[::-1]])
    deviation = 100 * np.std([0.8, 0.9], ddof=1)
    assert len(frame) == 1 and frame["model"][0] == "cnn" and frame["seeds"][0] == "0, 2"
    assert frame["test"][0] == f"85.0 ± {deviation:.1f}" and frame["validation"][0] == "90.0 ± 0.0"


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        (protocols.get("grouped"), "the same"),
        (protocols.get("fold:1/3"), "drawn by the seed"),
        (protocols.get("grouped", split="train:1/3"), "drawn by the seed"),
        (protocols.get("grouped", limit=40), "drawn by the seed"),
    ],
)
def test_seeds_that_draw_their_test_images_are_told_apart(tmp_path, protocol, told):
    frame = tables.seeds([record(tmp_path, seed=seed, protocol=protocol) for seed in (0, 1)])
    assert frame["test images"].tolist() == [told]


def test_folds_with_a_limit_are_no_whole_set(tmp_path):
    for limit, whole in ((None, 1), (40, 0)):
        found = [record(tmp_path, protocol=protocols.get(f"fold:{k}/3", limit=limit)) for k in (1, 2, 3)]
        assert len(tables.folds(found)) == whole


def test_folds_that_are_missing_are_told(tmp_path):
    found = [record(tmp_path, protocol=protocols.get(f"fold:{k}/3")) for k in (1, 3)]
    told = "Not put together, for folds are missing: cnn, seed 0, 2 of 3 folds of all."
    assert tables.incomplete(found) == told and tables.everything(found).endswith(told)
    found.append(record(tmp_path, protocol=protocols.get("fold:2/3")))
    assert tables.incomplete(found) == "" and len(tables.folds(found)) == 1


def test_tables_tell_data_sets_apart_where_there_are_several(tmp_path):
    one = record(tmp_path)
    other = record(tmp_path, dataset=one.dataset | {"name": "mine", "fingerprint": "1"})
    assert "data" not in tables.per_class([one])
    assert tables.per_class([one, other])["data"].tolist() == ["blood-cells", "mine"]


@pytest.mark.parametrize("lay_out", [tables.runs, tables.seeds, tables.folds, tables.ensembles])
def test_nothing_to_show_is_an_empty_frame_and_no_text(lay_out):
    frame = lay_out([])
    assert isinstance(frame, pd.DataFrame) and frame.empty and tables.text(frame) == ""


def test_one_seed_says_nothing_about_seeds(tmp_path):
    assert tables.text(tables.seeds([record(tmp_path)])) == ""


def test_whole_sets_of_folds_are_put_together(tmp_path):
    found = [fold(tmp_path, place) for place in (1, 2, 3)]
    assert tables.folds(found[:2] + [record(tmp_path), fold(tmp_path, 3, seed=1), fold(tmp_path, 3, 4)]).empty
    frame = tables.folds(found[::-1])
    together = metrics.summary(LABELS, predicted(8), PHOTOS, "photo")
    assert (
        len(frame) == 1
        and frame["folds"][0] == "3 of all"
        and frame["recipe"][0] == "grouped-epochs=2"
        and frame["photographs"][0] == 20
    )
    assert frame["accuracy"][0] == metrics.format_interval(0.8, together["interval95"]["accuracy"])
    assert frame["per-photograph accuracy"][0].startswith("80.0 [")


def test_folds_of_train_are_a_set_of_their_own(tmp_path):
    recipes = [protocols.get("paper", epochs=2, frame=frame, split="train:1/3") for frame in ("slide", "cell")]
    found = [
        fold(tmp_path, place, protocol=replace(recipe, split=f"train:{place}/3"))
        for recipe in recipes
        for place in (1, 2, 3)
    ]
    frame = tables.folds([*found, *(fold(tmp_path, place) for place in (1, 2, 3))])
    assert list(frame["folds"]) == ["3 of TRAIN", "3 of TRAIN", "3 of all"]
    assert list(frame["recipe"]) == ["paper-epochs=2", "paper-epochs=2-frame=cell", "grouped-epochs=2"]


def test_an_ensemble_decides_by_the_mean_of_probabilities(tmp_path):
    sure, unsure = record(tmp_path, wrong=4), record(tmp_path, wrong=8, seed=1)
    unsure.arrays["probabilities"] = predicted(8, confidence=0.4)
    order = np.random.default_rng(0).permutation(40)  # images are put together by their paths
    for name in ("probabilities", "labels", "photos", "paths"):
        unsure.arrays[name] = unsure.arrays[name][order]
    other = record(tmp_path, protocol=protocols.get("quick", epochs=2, batch_size=16))
    frame = tables.ensembles([sure, unsure, other, fold(tmp_path, 1), fold(tmp_path, 1, seed=1)])
    assert list(frame["members"]) == ["cnn × 2"] and frame["accuracy"][0].startswith("90.0 [")
    frame = tables.ensembles([sure, unsure, record(tmp_path, "xception", wrong=0)])
    assert list(frame["members"]) == ["cnn × 2", "cnn × 2, xception"]
    assert frame["accuracy"][1].startswith("90.0 [") and frame["photographs"][1] == 20


def test_runs_that_were_tested_on_different_images_are_no_ensemble(tmp_path):
    """A set without a test part of its own has another one with every seed."""
    one, two = record(tmp_path), record(tmp_path, seed=1)
    two.arrays["paths"] = np.char.add("other/", two.arrays["paths"])
    assert tables.ensembles([one, two]).empty


def test_an_ensemble_of_folds_is_of_whole_sets(tmp_path):
    """The first eight images are wrong in the first set and right, and surer, in the second."""
    sets = [[fold(tmp_path, place, seed=seed) for place in (1, 2, 3)] for seed in (0, 1)]
    for of in sets[1]:
        of.arrays["probabilities"] = np.eye(4)[of.arrays["labels"]]
    frame = tables.ensembles([*sets[0], *sets[1][::-1], record(tmp_path)])
    assert frame[["tested on", "members", "recipe", "photographs"]].to_numpy().tolist() == [
        ["3 folds of all", "cnn × 2", "grouped-epochs=2", 20]
    ]
    assert frame["accuracy"][0].startswith("100.0 [")
    assert tables.ensembles([*sets[0], *sets[1][:2]]).empty


def test_folds_without_their_predictions_are_refused(tmp_path):
    for place in (1, 2, 3):
        fold(tmp_path, place).write()
    found = records.read_all(tmp_path)
    (tmp_path / found[1].predictions).unlink()
    with pytest.raises(records.RecordError, match=found[1].predictions):
        tables.folds(found)


def test_a_frame_as_text_is_an_aligned_table():
    lines = tables.text(pd.DataFrame({"model": ["cnn", "xception"], "n": [10, 2]})).splitlines()
    assert lines == ["| model    | n  |", "| -------- | -- |", "| cnn      | 10 |", "| xception | 2  |"]


def test_tables_without_rows_are_left_out(tmp_path):
    found = [record(tmp_path, seed=0), record(tmp_path, "xception")]
    assert tables.everything(found) == tables.text(tables.runs(found))
    seeds = tables.everything([*found, record(tmp_path, seed=1)])
    assert tables.text(tables.seeds([found[0], record(tmp_path, seed=1)])) in seeds
