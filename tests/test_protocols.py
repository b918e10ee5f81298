"""Protocols: their values, their names, and values that cannot work."""

from dataclasses import replace

import pytest

from bloodcell_lib import protocols


def test_the_paper_is_what_the_paper_states():
    paper = protocols.get("paper")
    assert (paper.learning_rate, paper.epochs, paper.schedule, paper.augmentation, paper.split, paper.weights) == (
        1e-4,
        20,
        "constant",
        (),
        "image",
        None,
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


@pytest.mark.parametrize("text", ["60x80", "60X80", "(60, 80)", "[60, 80]", "60,80", [60, 80], (60, 80)])
def test_a_size_is_read_in_every_form_that_people_write(text):
    assert protocols.get("paper", image_size=text).image_size == (60, 80)


@pytest.mark.parametrize("text", ["flip+rotate", "rotate,flip", ("flip", "rotate"), ["rotate", "flip"]])
def test_augmentations_are_read_from_text(text):
    assert protocols.get("paper", augmentation=text).augmentation == ("flip", "rotate")
    assert protocols.get("grouped", augmentation="none").augmentation == ()


def test_a_fold_is_grouped_on_other_photographs():
    fold, grouped = protocols.get("fold:2/5", EPOCHS=3), protocols.get("grouped", EPOCHS=3)
    assert (fold.name, fold.split, fold.label) == ("fold2of5", "fold:2/5", "fold2of5-epochs=3")
    assert replace(fold, name="grouped", split="photo") == grouped
    assert protocols.get("fold2of5", epochs=3) == fold


def test_the_label_says_every_value_that_was_replaced():
    assert protocols.get("paper").label == "paper"
    assert protocols.get("paper", epochs=20).label == "paper"
    found = protocols.get("paper", image_size="60x80", learning_rate="3e-4", split="fold:1/5", augmentation="flip")
    assert found.label == "paper-image_size=60x80-learning_rate=0.0003-split=fold1of5-augmentation=flip"
    assert protocols.get("grouped", augmentation="none", weights="imagenet").label == (
        "grouped-augmentation=none-weights=imagenet"
    )
    assert replace(protocols.get("paper"), epochs=1).label == "paper-epochs=1"


def test_every_knob_is_in_the_label(monkeypatch):
    other = protocols.get("quick", image_size="76x100", batch_size=7, epochs=7, learning_rate=7, split="photo", limit=7,
                          schedule="constant", augmentation="flip", norm_momentum=0.7, weights="imagenet",
                          precision="mixed_bfloat16", frame="slide",
                          weight_decay=0.07, label_smoothing=0.07)  # fmt: skip
    assert all(f"-{knob.name}=" in other.label for knob in protocols.KNOBS)


def test_a_recipe_of_ones_own_needs_no_registered_name():
    mine = replace(protocols.get("paper"), name="mine", epochs=3)
    assert mine.label.startswith("mine-") and mine.label != replace(mine, epochs=4).label


def test_a_notebook_asks_by_its_parameters():
    parameters = {"PROTOCOL": "paper", "EPOCHS": 3, "LIMIT": None, "BATCH_SIZE": 8, "SEED": 1, "other": 5}
    assert protocols.from_parameters(parameters) == protocols.get("paper", epochs=3, batch_size=8)
    assert protocols.from_parameters({"PROTOCOL": "paper"}) == protocols.get("paper")


def test_what_a_loader_needs():
    found = protocols.get("paper", limit=8, frame="cell")
    assert found.data == {"image_size": (120, 160), "split": "image", "limit": 8, "frame": "cell"}


def test_the_paper_alone_takes_the_whole_image():
    assert {name for name, protocol in protocols.PROTOCOLS.items() if protocol.frame == "slide"} == {"paper"}
    assert protocols.get("paper", frame="slide").label == "paper"
    assert protocols.get("paper", frame="cell").label == "paper-frame=cell"


def test_the_whole_image_has_as_many_pixels_as_the_window():
    whole = protocols.get("grouped", image_size=(60, 60)).whole
    assert (whole.frame, whole.image_size) == ("slide", (52, 69)) and abs(52 * 69 / 3600 - 1) < 0.01
    assert replace(whole, frame="cell", image_size=(60, 60)) == protocols.get("grouped", image_size=(60, 60))
    assert protocols.get("paper").whole == protocols.get("paper")


@pytest.mark.parametrize(
    ("name", "overrides", "culprit"),
    [
        ("fold:6/5", {}, "K must be from 1 to N"),
        ("fold", {}, "fold:K/N"),
        ("papre", {}, "papre"),
        ("quick", {"EPOCHS": 0}, "epochs=0"),
        ("quick", {"EPOCHS": 1.5}, "epochs=1.5"),
        ("quick", {"EPOCHS": True}, "epochs=True"),
        ("quick", {"EPOCHS": "many"}, "many"),
        ("quick", {"LEARNING_RATE": -1}, "learning_rate=-1"),
        ("quick", {"LEARNING_RATE": float("nan")}, "nan"),
        ("quick", {"NORM_MOMENTUM": 1.5}, "norm_momentum=1.5.*between 0 and 1"),
        ("quick", {"IMAGE_SIZE": 64}, "64"),
        ("quick", {"IMAGE_SIZE": (64,)}, "64"),
        ("quick", {"IMAGE_SIZE": "60x0"}, "0"),
        ("quick", {"SPLIT": "paper"}, "split='paper'"),
        ("quick", {"SCHEDULE": "step"}, "constant or warmup"),
        ("quick", {"AUGMENTATION": "blur"}, "blur.*flip.rotate"),
        ("quick", {"WEIGHTS": "noise"}, "noise.*imagenet"),
        ("quick", {"FRAME": "crop"}, "frame='crop'.*slide or cell"),
        ("quick", {"FRAME": ""}, "frame=''.*slide or cell"),
        ("quick", {"EPOCH": 3}, "epoch"),
        ("quick", {"name": "mine"}, "name"),
        ("quick", {"BATCH_SIZE": "-4"}, "-4"),
    ],
)
def test_what_cannot_work_is_named(name, overrides, culprit):
    with pytest.raises(ValueError, match=culprit) as caught:
        protocols.get(name, **overrides)
    assert "Give" in str(caught.value) or "Choose" in str(caught.value) or "K must" in str(caught.value)


def test_a_protocol_checks_itself_however_it_is_made():
    with pytest.raises(ValueError, match="epochs=0"):
        replace(protocols.get("quick"), epochs=0)
    with pytest.raises(ValueError, match="batch_size=None"):
        replace(protocols.get("quick"), batch_size=None)
