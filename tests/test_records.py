"""Records: whole or not at all, and checked when read."""

import copy
import json

import numpy as np
import pytest

from bloodcell_lib import LESSONS, metrics, records, tables

LABELS = np.array([0, 1, 2, 3] * 5)
PROBABILITIES = np.eye(4)[np.where(np.arange(20) < 4, 0, LABELS)] * 0.9 + 0.025


def part():
    return metrics.summary(LABELS, PROBABILITIES, np.arange(20), "image")


@pytest.fixture
def record():
    series = [0.9, 0.5, 0.6]
    return json.loads(
        json.dumps(
            {
                "model": "cnn",
                "protocol": "quick",
                "seed": 0,
                "backend": "tensorflow",
                "versions": {},
                "device": "a processor",
                "image_size": [60, 80],
                "parameters": 10,
                "best_epoch": 2,
                "dataset": {"name": "sample", "fingerprint": "0", "sizes": {"train": 80, "validation": 20, "test": 20}},
                "history": {key: series for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
                "seconds": {"epochs": series, "total": 2.0},
                "validation": part(),
                "test": part(),
                "resumed": False,
            }
        )
    )


def write(record, folder):
    return records.write(record, {"probabilities": PROBABILITIES, "labels": LABELS}, folder)


def test_written_and_read_again(record, tmp_path):
    path = write(record, tmp_path)
    assert path.name == "cnn-quick-seed0.json"
    found = records.read(path)
    assert found == record | {"predictions": "cnn-quick-seed0.predictions.npz"}
    kept = np.load(tmp_path / found["predictions"])
    assert metrics.confusion(kept["labels"], kept["probabilities"]).tolist() == found["test"]["confusion"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cnn-quick-seed0.json", found["predictions"]]


def spoil(record, *path, value=None):
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model",), None, "'model' is a required property"),
        (("test", "interval95"), None, "interval95"),
        (("test", "interval95", "unit"), "cell", "test/interval95/unit"),
        (("seed",), -1, "seed"),
        (("history", "loss"), [1.0], "history"),
        (("best_epoch",), 4, "best epoch 4"),
        (("test", "accuracy"), 0.99, "test: confusion"),
        (("dataset", "sizes", "validation"), 21, "validation: confusion"),
        (("history", "loss"), [float("nan")] * 3, "not a finite number"),
    ],
)
def test_what_does_not_hold_together_is_named(record, tmp_path, path, value, message):
    with pytest.raises(records.RecordError, match=message):
        write(spoil(record, *path, value=value), tmp_path)
    assert not list(tmp_path.iterdir())


def test_half_a_file_is_refused(record, tmp_path):
    path = write(record, tmp_path)
    path.write_text(path.read_text()[:200])
    with pytest.raises(records.RecordError, match=str(path)):
        records.read(path)


def test_a_failed_write_leaves_the_old_record(record, tmp_path, monkeypatch):
    path = write(record, tmp_path)
    monkeypatch.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write({**record, "parameters": 11}, tmp_path)
    assert records.read(path)["parameters"] == 10
    assert len(list(tmp_path.iterdir())) == 2


def test_table_says_what_the_record_says(record, tmp_path):
    write(record, tmp_path)
    write({**record, "seed": 1}, tmp_path)
    lines = tables.runs(records.read_all(tmp_path)).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    low, high = record["test"]["interval95"]["accuracy"]
    assert cells[:5] == ["cnn", "sample", "quick", "0", "60x80"]
    assert f"{100 * record['test']['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in cells


@pytest.fixture
def nine(record, tmp_path):
    """A record of every lesson's network."""
    for model in LESSONS:
        images = {
            "probabilities": PROBABILITIES,
            "labels": LABELS,
            "paths": np.arange(20).astype(str),
            "validation_paths": np.arange(20, 40).astype(str),
            "validation_probabilities": PROBABILITIES,
            "validation_labels": LABELS,
            "photos": np.arange(20).astype(str),
            "validation_photos": np.arange(20, 40).astype(str),
        }
        records.write(
            {
                **record,
                "model": model,
                "settings": {"epochs": 3},
                "multiply_adds": 5,
                "dataset": {**record["dataset"], "classes": list("abcd")},
                "history": {**record["history"], "test_loss": [1.0] * 3, "test_accuracy": [0.5] * 3},
                "seconds": {**record["seconds"], "per_image": 0.1},
            },
            images,
            tmp_path,
        )
    return tmp_path


def test_comparable_records_come_in_the_order_of_the_lessons(nine):
    assert [found["model"] for found in records.comparable(nine)] == list(LESSONS)


def test_every_missing_record_is_named(nine):
    for model in ("resnet50", "cnn"):
        (nine / f"{model}-quick-seed0.json").unlink()
    with pytest.raises(records.RecordError, match=r"no record of cnn, resnet50 .*bloodcell run cnn resnet50"):
        records.comparable(nine)
    with pytest.raises(records.RecordError, match="seed 1"):
        records.comparable(nine, seed=1)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"epochs": 4}},
        {"image_size": [60, 81]},
        {
            "dataset": {
                "name": "sample",
                "fingerprint": "1",
                "classes": list("abcd"),
                "sizes": {"train": 80, "validation": 20, "test": 20},
            }
        },
    ],
)
def test_a_record_made_under_other_conditions_is_named(nine, change):
    path = nine / "nasnet-quick-seed0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(records.RecordError, match="differ from cnn: nasnet"):
        records.comparable(nine)


@pytest.mark.parametrize(("part", "culprit"), [("paths", "test images"), ("validation_paths", "validation images")])
def test_a_differently_split_record_is_named(nine, part, culprit):
    path = nine / "googlenet-quick-seed0.predictions.npz"
    kept = dict(np.load(path))
    np.savez(path, **kept | {part: np.roll(kept[part], 1)})  # another order is the same split
    assert len(records.comparable(nine)) == 9
    np.savez(path, **kept | {part: np.char.add(kept[part], "b")})
    with pytest.raises(records.RecordError, match=f"googlenet .{culprit}"):
        records.comparable(nine)
    np.savez(path, probabilities=PROBABILITIES)
    with pytest.raises(records.RecordError, match="googlenet"):
        records.comparable(nine)


@pytest.mark.parametrize("damage", [b"", b"PK half a file"])
def test_damaged_predictions_are_named(nine, damage):
    path = nine / "googlenet-quick-seed0.predictions.npz"
    path.write_bytes(damage)
    with pytest.raises(records.RecordError, match="googlenet"):
        records.comparable(nine)


def test_a_record_or_predictions_of_another_run_are_named(nine):
    path = nine / "googlenet-quick-seed0.predictions.npz"
    kept = dict(np.load(path))
    np.savez(path, **kept | {"probabilities": np.roll(PROBABILITIES, 1, axis=1)})
    with pytest.raises(records.RecordError, match="predictions of googlenet .*confusion matrix of test"):
        records.comparable(nine)
    (nine / "googlenet-quick-seed0.json").write_bytes((nine / "cnn-quick-seed0.json").read_bytes())
    with pytest.raises(records.RecordError, match="holds the record of cnn-quick-seed0"):
        records.comparable(nine)


def test_a_record_that_lacks_what_is_compared_is_named(nine):
    path = nine / "googlenet-quick-seed0.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(spoil(record, "multiply_adds")))
    with pytest.raises(records.RecordError, match="googlenet.*multiply_adds"):
        records.comparable(nine)
    assert len(records.read_all(nine)) == 9
