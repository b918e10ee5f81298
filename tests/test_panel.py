"""The fields above a lesson say what the parameters cell would, and nothing that a batch would not."""

import sys
from pathlib import Path

import papermill
import pytest

from bloodcell_lib import files, protocols
from bloodcell_lib.command import panel

LESSON = Path(__file__).parents[1] / "notebooks" / "01_cnn.ipynb"
TYPED = {
    "PROTOCOL": ("paper", "paper"),
    "DATA": ("/data/123", "/data/123"),
    "SEED": ("3", 3),
    "OUT": ("mine", "mine"),
    "IMAGE_SIZE": ("60x80", (60, 80)),
    "BATCH_SIZE": ("16", 16),
    "EPOCHS": ("5", 5),
    "LEARNING_RATE": ("1e-3", 0.001),
    "LIMIT": ("320", 320),
    "WEIGHTS": ("imagenet", "imagenet"),
}


@pytest.fixture
def written():
    """The variables of a notebook after its parameters cell."""
    return {name: None for name in papermill.inspect_notebook(str(LESSON))} | {"PROTOCOL": "quick", "SEED": 0}


@pytest.fixture
def shown(monkeypatch):
    """Show the fields of a notebook's variables; return them by name, and what is said below them."""
    pytest.importorskip("ipywidgets", reason="ipywidgets, which draws the fields, is not installed")
    monkeypatch.setattr(panel, "kept", [{}, {}])
    drawn = []
    monkeypatch.setattr(panel, "display", drawn.append)

    def show(parameters):
        panel.show(parameters)
        fields, said = drawn.pop().children
        return {field.description: field for field in fields.children}, said

    return show


def test_a_field_for_each_parameter_says_what_the_protocol_says(shown, written):
    fields, _ = shown(written)
    assert list(fields) == list(written)
    hints = {name: field.placeholder for name, field in fields.items() if name != "PROTOCOL"}
    assert (hints["IMAGE_SIZE"], hints["BATCH_SIZE"], hints["LIMIT"]) == ("75x75", "8", "320")
    assert hints["LEARNING_RATE"].endswith("the card's") and hints["EPOCHS"].endswith("the card's")
    assert hints["OUT"] == str(files.out_dir())
    fields["PROTOCOL"].value = "paper"
    assert (fields["IMAGE_SIZE"].placeholder, fields["EPOCHS"].placeholder) == ("120x160", "20")
    assert fields["LEARNING_RATE"].placeholder == "0.0001"


def test_what_is_typed_is_what_would_stand_in_the_cell(shown, written):
    assert list(TYPED) == list(written)
    fields, said = shown(written)
    for name, (typed, value) in TYPED.items():
        fields[name].value = typed
        assert written[name] == value and type(written[name]) is type(value)
    label = protocols.from_parameters(written).label
    assert label == "paper-image_size=60x80-batch_size=16-epochs=5-learning_rate=0.001-limit=320-weights=imagenet"
    assert f"<b>{label}-seed3</b>" in said.value
    fields["EPOCHS"].value = ""
    assert written["EPOCHS"] is None and "epochs" not in said.value


@pytest.mark.parametrize("name, typed", [("EPOCHS", "0.5"), ("IMAGE_SIZE", "big"), ("LEARNING_RATE", "-1")])
def test_what_cannot_be_used_is_refused_in_the_words_of_the_library(shown, written, name, typed):
    fields, said = shown(written)
    fields[name].value = typed
    with pytest.raises(ValueError) as refused:  # where the notebook reads it
        protocols.from_parameters(written)
    assert str(refused.value).replace("'", "&#x27;") in said.value and repr(typed) in str(refused.value)
    fields[name].value = ""
    assert "quick-seed0" in said.value and protocols.from_parameters(written).label == "quick"


def test_a_seed_and_a_protocol_that_cannot_be_used_are_refused(shown, written):
    fields, said = shown(written)
    fields["SEED"].value = "one"
    assert "is not a whole number from 0" in said.value and written["SEED"] == "one"
    _, said = shown(written | {"PROTOCOL": "papre"})
    assert "no protocol is named" in said.value


def test_a_choice_outlasts_the_cell_until_the_cell_is_edited(shown, written):
    first, again, edited = dict(written), dict(written), written | {"EPOCHS": 7}
    fields, _ = shown(first)
    fields["EPOCHS"].value = "2"
    assert shown(first)[0]["EPOCHS"].value == "2"  # this cell is run again, and those below
    fields, said = shown(again)  # all cells are run
    assert (again["EPOCHS"], fields["EPOCHS"].value) == (2, "2") and "epochs=2" in said.value
    fields, said = shown(edited)
    assert (edited["EPOCHS"], fields["EPOCHS"].value) == (7, "7") and "epochs=7" in said.value


def test_without_ipywidgets_nothing_changes_and_a_sentence_says_so(monkeypatch, written, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    before = dict(written)
    panel.show(written)
    assert written == before and "ipywidgets, which draws them, is not installed" in capsys.readouterr().out
