"""Protocols: their values, and values that cannot work."""

import pytest

from bloodcell_lib import protocols


def test_the_paper_is_what_the_paper_states():
    paper = protocols.get("paper")
    assert (paper.learning_rate, paper.epochs, paper.schedule, paper.augmentation, paper.split) == (
        1e-4, 20, "constant", (), "paper")


def test_none_keeps_and_a_value_replaces():
    found = protocols.get("paper", EPOCHS=None, IMAGE_SIZE="60x80", LIMIT=100, LEARNING_RATE="3e-4", BATCH_SIZE="16")
    assert (found.epochs, found.image_size, found.limit, found.learning_rate, found.batch_size) == (
        20, (60, 80), 100, 3e-4, 16)
    assert protocols.get("paper", image_size=[60, 80]).image_size == (60, 80)


@pytest.mark.parametrize(("name", "overrides", "culprit"), [
    ("papre", {}, "papre"), ("quick", {"EPOCHS": 0}, "epochs=0"), ("quick", {"EPOCHS": 1.5}, "epochs=1.5"),
    ("quick", {"EPOCHS": True}, "epochs=True"), ("quick", {"EPOCHS": "many"}, "many"),
    ("quick", {"LEARNING_RATE": -1}, "learning_rate=-1"), ("quick", {"LEARNING_RATE": float("nan")}, "nan"),
    ("quick", {"IMAGE_SIZE": 64}, "64"), ("quick", {"IMAGE_SIZE": (64,)}, "64"),
    ("quick", {"IMAGE_SIZE": "60x0"}, "0"), ("quick", {"EPOCH": 3}, "epoch"),
    ("quick", {"name": "mine"}, "name"), ("quick", {"BATCH_SIZE": "-4"}, "-4")])
def test_what_cannot_work_is_named(name, overrides, culprit):
    with pytest.raises(ValueError, match=culprit):
        protocols.get(name, **overrides)
