"""Which model should I choose? On records made by hand."""

import re
from dataclasses import replace

import pytest
from made import record

from bloodcell_lib import protocols
from bloodcell_lib.command import choice

PHOTO = protocols.get("quick", epochs=2, split="photo")
NETWORKS = (  # name, wrong on test, wrong on validation, parameters, multiply-adds
    ("cnn", 12, 4, 2_000_000, 30_000_000),
    ("xception", 2, 5, 20_000_000, 500_000_000),
    ("googlenet", 2, 3, 6_000_000, 200_000_000),
    ("squeezenet", 3, 35, 100_000, 1_000_000),  # cheap, and poor on validation
    ("own", 30, 3, 10_000, 1_000),  # cheapest, and guessing on test
)


def networks(folder, protocol=PHOTO, chosen=NETWORKS, **options):
    return [
        record(folder, name, wrong, validation, protocol=protocol, parameters=size, multiply_adds=work, **options)
        for name, wrong, validation, size, work in chosen
    ]


def unknown(made):
    """The same record, its images as units."""
    ends = made.validation["interval95"] | {"unit": "image"}
    return replace(made, validation=made.validation | {"interval95": ends})


def test_four_people_choose_by_validation(tmp_path):
    rows = choice.choices(networks(tmp_path))
    assert {who: record.model for who, (record, _) in rows.items()} == {
        "A phone": "cnn",
        "A laptop": "googlenet",
        "Few images": "xception",
        "A laboratory that must not miss a class": "googlenet",
    }
    why = {who: reason for who, (_, reason) in rows.items()}
    assert "30 million; 8.0 MB" in why["A phone"] and "10.0 ms per image on one machine" in why["A laptop"]
    assert "`--weights imagenet`" in why["Few images"]


def test_test_accuracy_has_no_say_but_for_guessing(tmp_path):
    better = [(name, 0 if wrong < 20 else wrong, *others) for name, wrong, *others in NETWORKS]
    one, two = (choice.choices(networks(tmp_path, chosen=chosen)) for chosen in (NETWORKS, better))
    assert [record.model for record, _ in one.values()] == [record.model for record, _ in two.values()]


def test_few_images_without_published_weights(tmp_path):
    record, why = choice.choices(networks(tmp_path, chosen=[NETWORKS[0], NETWORKS[2]]))["Few images"]
    assert record.model == "cnn" and "2,000,000" in why


def test_weights_that_were_used_are_not_asked_for(tmp_path):
    started = networks(tmp_path, protocols.get("quick", epochs=2, split="photo", weights="imagenet"), NETWORKS[:2])
    assert choice.choices(started)["Few images"][1].endswith("This run started from them")


def test_a_laboratory_reads_the_worst_class_with_its_interval(tmp_path):
    found = networks(tmp_path)
    lows = {r.model: min(low for low, _ in r.validation["interval95"]["per_class"]["recall"]) for r in found[:4]}
    safe, why = choice.choices(found)["A laboratory that must not miss a class"]
    assert lows[safe.model] == max(lows.values()) and f"[{100 * lows[safe.model]:.1f}, " in why
    low = min(low for low, _ in safe.test["interval95"]["per_class"]["recall"])
    assert re.search(
        rf"There, its worst class is eosinophil, with a recall of 80.0 \[{100 * low:.1f}, ", advised(found)
    )


def advised(found, every=()):
    return choice.advice(found, [*found, *every])


def test_the_answer_names_what_it_rests_on(tmp_path):
    text = advised(networks(tmp_path))
    assert text.count("\n- **") == 4 and "- **A phone: cnn.**" in text and "Test accuracy: 70.0 [" in text
    assert "`quick-epochs=2-split=photo`, seed 0" in text and "guessing on test: own." in text
    assert "cnn, xception, googlenet." in text  # the candidates
    assert "drawn" not in text and "no say" not in text
    drawn = [replace(made, dataset=made.dataset | {"name": "sample"}) for made in networks(tmp_path)]
    assert "recommends nothing" in advised(drawn)


def test_a_validation_set_of_training_photographs_does_not_choose(tmp_path):
    found = networks(tmp_path, protocols.get("paper", epochs=2, image_size=(75, 100)))
    text = advised(found)
    assert text.startswith("**No network is recommended") and "- **" not in text and "out of any choice: own." in text
    assert ("bloodcell run cnn xception googlenet squeezenet own comparison --protocol paper --image-size 75x100 "
            "--epochs 2 --split photo --seed 0") in text  # fmt: skip


def test_images_without_known_photographs_choose_with_a_warning(tmp_path):
    found = [unknown(record) for record in networks(tmp_path, protocols.get("quick", epochs=2))]
    assert not choice.leaks(found[0]) and "promises too much" in advised(found)


def test_other_records_of_the_folder_choose_in_place_of_leaking_ones(tmp_path):
    leaking = networks(tmp_path, protocols.get("quick", epochs=2))
    honest = networks(tmp_path)
    others = networks(tmp_path, protocols.get("grouped", epochs=2), NETWORKS[:3])
    assert choice.deciding(leaking, [*leaking, *others, *honest]) == honest  # the larger set
    assert choice.deciding(honest, [*leaking, *others, *honest]) == honest
    text = advised(leaking, honest)
    assert "- **A phone: cnn.**" in text and "no say" in text and "`quick-epochs=2-split=photo`" in text


@pytest.mark.parametrize("differs", ["one", "seed", "data"])
def test_one_record_or_others_of_other_seed_or_data_choose_nothing(tmp_path, differs):
    leaking = networks(tmp_path, protocols.get("quick", epochs=2))
    other = {
        "one": lambda: networks(tmp_path)[:1],
        "seed": lambda: networks(tmp_path, seed=1),
        "data": lambda: networks(tmp_path, dataset=leaking[0].dataset | {"fingerprint": "1"}),
    }[differs]()
    assert choice.deciding(leaking, [*leaking, *other]) == []


def test_where_all_guess_none_is_recommended(tmp_path):
    text = advised(networks(tmp_path, chosen=[NETWORKS[4], ("cnn", 29, 2, 1, 1)]))
    assert text.startswith("**No network is recommended") and "own, cnn" in text
