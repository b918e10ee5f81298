"""Records: whole or not at all, and refused where they contradict themselves."""

import errno
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest

from bloodcell_lib import files, models, protocols, records
from bloodcell_lib.command import runner
from bloodcell_lib.records import Record, RecordError

NAME = "cnn-quick-epochs=2-seed0"


def test_written_and_read_again(tmp_path):
    written = made.record(tmp_path / "new")
    path = written.write()
    found = Record.read(path)
    assert path == found.path == tmp_path / "new" / f"{NAME}.json"
    assert found == written
    assert all(np.array_equal(values, written.answers[name]) for name, values in found.answers.items())
    assert sorted(file.name for file in path.parent.iterdir()) == [f"{NAME}.json", f"{NAME}.predictions.npz"]


def test_a_record_from_before_there_was_a_knob_has_its_default(tmp_path):
    record = made.record(tmp_path, protocol=protocols.get("paper", epochs=2))
    path = record.write()
    content = json.loads(path.read_text())
    del content["checksum"], content["settings"]["frame"]
    path.write_text(json.dumps(content))
    assert Record.read(path).settings["frame"] == "slide" and Record.read(path).identity == record.identity


def test_a_record_from_before_train_was_evaluated_is_read_and_written_again(tmp_path):
    assert Record.read(made.record(tmp_path).write()).train == {"loss": 0.4, "accuracy": 0.92}
    old = made.record(tmp_path / "old", train=None)
    content = json.loads(old.write().read_text())
    assert "train" not in content and Record.read(old.path) == old


def test_what_is_not_defined_is_null_and_was_0_in_older_records(tmp_path):
    record = made.record(tmp_path, rows=slice(30))  # no image of the last class
    path = record.write()
    content = json.loads(path.read_text())
    assert content["test"]["per_class"]["recall"][3] is None and Record.read(path) == record
    content["test"]["per_class"]["recall"][3] = content["test"]["per_class"]["f1"][3] = 0
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "checksum"}))
    assert Record.read(path).test["per_class"]["recall"][3] == 0
    content["test"]["per_class"]["recall"][0] = None
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "checksum"}))
    with pytest.raises(RecordError, match="test: the recall"):
        Record.read(path)


def spoiled(content: dict, *path, value=None) -> dict:
    content = json.loads(json.dumps(content))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "culprit"),
    [
        (("model",), None, "'model' is a required property"),
        (("code",), None, "'code' is a required property"),
        (("test", "interval95"), None, "interval95"),
        (("history", "test_loss"), None, "test_loss"),
        (("test", "interval95", "unit"), "cell", "test/interval95/unit"),
        (("seed",), -1, "seed"),
        (("train", "accuracy"), 1.5, "train/accuracy"),
        (("history", "loss"), [1.0], "1, 2.* epochs"),
        (("settings", "epochs"), 20, "2.* epochs.* recipe 20"),  # one, or two, are no run of twenty
        (("settings", "epochs"), "three", "settings/epochs"),
        (("best_epoch",), 1, "epoch 1 .* 2"),
        (("history", "val_accuracy"), [0.1, 0.45], "validation: .* 0.4500.* 0.9"),  # of another network
        (("history", "test_loss"), [2.0, 0.01], "test: .*loss 0.0100"),
        (("test", "accuracy"), 0.81, "test: the accuracy"),
        (("test", "per_class", "recall"), [1, 1, 1, 1], "test: the recall"),
        (("dataset", "sizes", "validation"), 41, "validation: 40 images"),
        (("history", "loss"), [float("nan")] * 2, "not finite"),
        (("history", "loss"), [1.5, 0.6], "its checksum"),  # contradicts nothing
        (("device",), "another", "its checksum"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, path, value, culprit):
    file = made.record(tmp_path).write()
    file.write_text(json.dumps(spoiled(json.loads(file.read_text()), *path, value=value)))
    with pytest.raises(RecordError, match=culprit) as caught:
        Record.read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("change", [{"best_epoch": 1}, {"protocol": "quick"}, {"protocol": "paper-epochs=2"}])
def test_nothing_is_written_that_would_be_refused(tmp_path, change):
    with pytest.raises(RecordError):
        replace(made.record(tmp_path), **change).write()
    assert not list(tmp_path.iterdir())


def test_a_card_has_the_epochs_of_a_recipe_without(tmp_path):
    file = made.record(tmp_path, protocol=protocols.get("quick")).write()
    content = json.loads(file.read_text())
    assert content["settings"]["epochs"] is None and Record.read(file).settings["epochs"] is None
    file.write_text(json.dumps(spoiled(content, "history", "loss", value=[1.0])))
    with pytest.raises(RecordError, match="1, 3.* epochs.* one number"):
        Record.read(file)


def test_half_a_file_is_refused(tmp_path):
    path = made.record(tmp_path).write()
    path.write_text(path.read_text()[:200])
    with pytest.raises(RecordError, match="not a readable record"):
        Record.read(path)


def test_a_record_under_another_name_is_refused(tmp_path):
    path = made.record(tmp_path).write()
    with pytest.raises(RecordError, match=f"googlenet.*this is the record of {NAME}"):
        Record.read(path.rename(tmp_path / "googlenet-quick-seed0.json"))


def test_a_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
    path = made.record(tmp_path).write()
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        replace(made.record(tmp_path), parameters=11).write()
    assert Record.read(path).parameters == made.record(tmp_path).parameters
    assert len(list(tmp_path.iterdir())) == 2


def test_a_getter_makes_no_folder(tmp_path):
    with pytest.raises(RecordError, match="typo: no such folder"):
        records.read_all(tmp_path / "typo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{", '{"model": "cnn"}', "\x00\xff"])
def test_what_is_no_record_is_named_and_the_others_are_read(tmp_path, content, capsys):
    made.record(tmp_path).write()
    (tmp_path / "notes-seed1.json").write_text(content)
    assert [record.name for record in records.read_all(tmp_path)] == [NAME]
    assert f"left out: {tmp_path / 'notes-seed1.json'}: " in capsys.readouterr().err


def damaged(path, **changes):
    kept = dict(np.load(path))
    np.savez(path, **{name: values for name, values in (kept | changes).items() if values is not None})


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"paths": None}, "lack paths"),
        ({"probabilities": np.eye(4)[[0] * 40]}, "confusion matrix of test"),
        ({"validation_probabilities": None}, "lack validation_probabilities"),
    ],
)
def test_predictions_of_another_run_are_refused(tmp_path, changes, culprit):
    path = made.record(tmp_path).write()
    damaged(tmp_path / f"{NAME}.predictions.npz", **changes)
    with pytest.raises(RecordError, match=culprit):
        Record.read(path).answers  # noqa: B018  it reads the file


def test_probabilities_count_and_not_the_predicted_class_alone(tmp_path):
    path = made.record(tmp_path).write()
    answers = Record.read(path).answers
    sharper = answers["probabilities"] ** 2
    damaged(tmp_path / f"{NAME}.predictions.npz", probabilities=sharper / sharper.sum(1, keepdims=True))
    with pytest.raises(RecordError, match="loss on test"):
        Record.read(path).answers  # noqa: B018


@pytest.mark.parametrize("content", [b"", b"PK half a file", None])
def test_damaged_or_missing_predictions_are_named(tmp_path, content):
    path = made.record(tmp_path).write()
    predictions = tmp_path / f"{NAME}.predictions.npz"
    predictions.unlink() if content is None else predictions.write_bytes(content)
    with pytest.raises(RecordError, match=r"predictions\.npz: not the predictions of cnn"):
        Record.read(path).answers  # noqa: B018


def flipped(path: Path, mark: bytes, offset: int, value: int) -> None:
    """Change one byte behind the last mark in a file."""
    content = bytearray(path.read_bytes())
    content[content.rindex(mark) + offset] = value
    path.write_bytes(content)


HEADERS = {"of a later version": (6, 208), "encrypted": (8, 1), "of an unknown method": (10, 77)}  # of zip members


@pytest.mark.parametrize("damage", HEADERS)
@pytest.mark.parametrize("suffix", [".keras", ".predictions.npz"])
def test_a_damaged_header_is_an_error_and_not_a_traceback(tmp_path, damage, suffix):
    record = made.record(tmp_path)
    path = record.write()
    network_file(record)
    flipped(tmp_path / (NAME + suffix), b"PK\x01\x02", *HEADERS[damage])
    assert not runner.is_trained(path, record.identity)
    if suffix != ".keras":
        with pytest.raises(RecordError, match=r"predictions\.npz: not the predictions of cnn"):
            Record.read(path).answers  # noqa: B018


def test_the_name_of_a_damaged_member_does_not_break_the_line(tmp_path):
    path = made.record(tmp_path).write()
    predictions = tmp_path / f"{NAME}.predictions.npz"
    content = bytearray(predictions.read_bytes())
    place = content.rindex(b"unseen.npy")
    content[place] = ord("\n")  # in the table of contents alone
    predictions.write_bytes(content)
    with pytest.raises(RecordError, match=r"is damaged") as caught:
        Record.read(path).answers  # noqa: B018
    assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk_names_what_could_not_be_written(tmp_path):
    path = tmp_path / "record.json"
    with pytest.raises(OSError, match="No space left on device: '.*record.json'"), files.replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as NumPy and zipfile raise it, without a name
    with pytest.raises(OSError, match="another.json"), files.replacing(path):
        open(tmp_path / "another.json")
    assert not list(tmp_path.iterdir())


def network_file(record: Record) -> None:
    with zipfile.ZipFile(record.path.with_suffix(".keras"), "w") as file:
        file.writestr("weights", "1234567890")
        file.writestr("bloodcell.json", json.dumps({"record": record.as_json()}))


def test_a_network_of_another_run_is_not_taken_for_that_of_the_record(tmp_path):
    """A run on other data that was killed between its network and its record leaves the old record beside it."""
    record = made.record(tmp_path)
    path = record.write()
    network_file(record)
    assert runner.is_trained(path, record.identity)
    network_file(replace(record, history=record.history | {"loss": [1.0, 0.4]}))
    assert not runner.is_trained(path, record.identity)


def test_done_is_judged_by_recipe_data_backend_and_code(tmp_path):
    record = made.record(tmp_path)
    path = record.write()
    assert not runner.is_trained(path, record.identity)  # no network
    network_file(record)
    assert runner.is_trained(path, record.identity)
    for other in (
        replace(record, settings=record.settings | {"learning_rate": 1.0}),
        replace(record, dataset=record.dataset | {"fingerprint": "1"}),
        replace(record, backend="tensorflow"),
        replace(record, code="other"),
    ):
        assert not runner.is_trained(path, other.identity)


@pytest.mark.parametrize("suffix", [".keras", ".predictions.npz", ".json"])
def test_what_is_damaged_is_not_done(tmp_path, suffix):
    record = made.record(tmp_path)
    path = record.write()
    network_file(record)
    file = tmp_path / (NAME + suffix)
    content = bytearray(file.read_bytes())
    content[{".json": len(content) // 2, ".keras": 40, ".predictions.npz": 100}[suffix]] ^= 255  # in the content
    file.write_bytes(content)
    assert not runner.is_trained(path, record.identity)
    file.unlink()
    assert not runner.is_trained(path, record.identity)


def test_what_cannot_be_written_is_named_and_not_its_temporary_name(tmp_path):
    with pytest.raises(FileNotFoundError) as told, files.replacing(tmp_path / "no/such.csv") as part:
        part.write_text("x")
    assert told.value.filename == str(tmp_path / "no/such.csv")


def test_a_record_of_another_run_is_not_replaced_without_a_word(tmp_path, capsys):
    record = made.record(tmp_path)
    record.write()
    record.write()  # the same run again
    assert capsys.readouterr().out == ""
    replace(record, dataset=record.dataset | {"fingerprint": "1"}, backend="tensorflow").write()
    assert capsys.readouterr().out == f"{NAME}.json: replaces the record of a run with other data, backend.\n"
    record.path.write_text("{}")
    assert "cannot be read" in records.replaced(record.path, record.identity)


# Comparable records

PROTOCOL = protocols.get("quick", epochs=2)


@pytest.fixture
def nine(tmp_path):
    """A record of every network."""
    for model in models.names():
        made.record(tmp_path, model).write()
    made.record(tmp_path, seed=1).write()
    made.record(tmp_path, "nasnet", protocol=protocols.get("paper", epochs=2)).write()
    return tmp_path


def test_comparable_records_come_in_the_order_of_the_lessons(nine):
    assert [found.model for found in records.comparable(nine, PROTOCOL)] == list(models.names())


def test_some_networks_can_be_compared_and_one_cannot(nine):
    for model in models.names()[2:]:
        (nine / f"{model}-quick-epochs=2-seed0.json").unlink()
    assert len(records.comparable(nine, PROTOCOL)) == 2
    with pytest.raises(RecordError, match="seed 1, and there is cnn.*bloodcell run"):
        records.comparable(nine, PROTOCOL, seed=1)


def test_records_made_under_other_conditions_are_named(nine):
    path = nine / "nasnet-quick-epochs=2-seed0.json"
    content = json.loads(path.read_text())
    content["dataset"]["fingerprint"] = "1"
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "checksum"}))
    with pytest.raises(RecordError, match=r"differ from cnn: nasnet \(data\)"):
        records.comparable(nine, PROTOCOL)


@pytest.mark.parametrize(("part", "culprit"), [("paths", "test images"), ("validation_paths", "validation images")])
def test_a_differently_split_record_is_named(nine, part, culprit):
    path = nine / "googlenet-quick-epochs=2-seed0.predictions.npz"
    kept = dict(np.load(path))
    damaged(path, **{part: np.roll(kept[part], 1)})  # another order is the same split
    assert len(records.comparable(nine, PROTOCOL)) == len(models.names())
    damaged(path, **{part: np.char.add(kept[part], "b")})
    with pytest.raises(RecordError, match=f"googlenet .{culprit}"):
        records.comparable(nine, PROTOCOL)


def test_the_best_epoch_has_the_highest_accuracy_and_of_these_the_lowest_loss():
    history = {"val_accuracy": [0.5, 0.9, 0.9, 0.9, 0.8], "val_loss": [0.2, 0.5, 0.4, 0.6, 0.1]}
    assert records.best_epoch(history) == 3
