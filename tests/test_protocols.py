"""Protocols: their values, and values that cannot work."""

from dataclasses import replace

import pytest

from bloodcell_lib import protocols


def test_the_paper_is_what_the_paper_states():
    paper = protocols.get("paper")
    assert (paper.learning_rate, paper.epochs, paper.schedule, paper.augmentation, paper.split) == (
        1e-4,
        20,
        "constant",
        (),
        "paper",
    )


def test_none_keeps_and_a_value_replaces():
    found = protocols.get("paper", EPOCHS=None, IMAGE_SIZE="60x80", LIMIT=100, LEARNING_RATE="3e-4", BATCH_SIZE="16")
    assert (found.epochs, found.image_size, found.limit, found.learning_rate, found.batch_size) == (
        20,
        (60, 80),
        100,
        3e-4,
        16,
    )
    assert protocols.get("paper", image_size=[60, 80]).image_size == (60, 80)


def test_a_fold_is_grouped_on_other_photographs():
    fold, grouped = protocols.get("fold:2/5", EPOCHS=3), protocols.get("grouped", EPOCHS=3)
    assert (fold.name, fold.split) == ("fold2of5", "fold:2/5")
    assert replace(fold, name="grouped", split="grouped") == grouped


@pytest.mark.parametrize(
    ("name", "overrides", "culprit"),
    [
        ("fold:6/5", {}, "K goes from 1 to N"),
        ("fold", {}, "fold:K/N"),
        ("papre", {}, "papre"),
        ("quick", {"EPOCHS": 0}, "epochs=0"),
        ("quick", {"EPOCHS": 1.5}, "epochs=1.5"),
        ("quick", {"EPOCHS": True}, "epochs=True"),
        ("quick", {"EPOCHS": "many"}, "many"),
        ("quick", {"LEARNING_RATE": -1}, "learning_rate=-1"),
        ("quick", {"LEARNING_RATE": float("nan")}, "nan"),
        ("quick", {"IMAGE_SIZE": 64}, "64"),
        ("quick", {"IMAGE_SIZE": (64,)}, "64"),
        ("quick", {"IMAGE_SIZE": "60x0"}, "0"),
        ("quick", {"EPOCH": 3}, "epoch"),
        ("quick", {"name": "mine"}, "name"),
        ("quick", {"BATCH_SIZE": "-4"}, "-4"),
    ],
)
def test_what_cannot_work_is_named(name, overrides, culprit):
    with pytest.raises(ValueError, match=culprit):
        protocols.get(name, **overrides)
