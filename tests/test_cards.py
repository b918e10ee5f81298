"""Cards of known data sets: the registry, and that one card is all that a second set needs."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_set, picture

from bloodcell_lib import cards, dataset, layouts
from bloodcell_lib.cards import DataCard
from bloodcell_lib.dataset import DatasetError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def registry(monkeypatch):
    """Cards registered by a test are forgotten after it."""
    monkeypatch.setattr(cards, "_CARDS", dict(cards._CARDS))


@pytest.fixture
def mine(registry, tmp_path) -> DataCard:
    place = make_set(tmp_path / "elsewhere", classes=("blast", "band"), each=5)
    return cards.register(
        DataCard(
            name="myset",
            title="My set",
            classes=("blast", "band"),
            counts={"TRAIN": (5, 5), "TEST": (5, 5)},
            about="Noise.",
            comparable="Not at all.",
            licence="none",
            places=(place,),
        )
    )


every = pytest.mark.parametrize("name", cards.names())


@every
def test_card_is_complete(name):
    card = cards.get(name)
    assert card.name == name and card.title and card.licence
    assert len(set(card.classes)) == len(card.classes) >= 2
    assert card.about.endswith(".") and card.comparable.endswith(".")
    assert card.counts and set(card.counts) <= {"", *layouts.PARTS.values()}
    assert card.places or card.kaggle or card.draw
    assert card.tables is None or (card.tables / "provenance.csv").is_file()


@every
def test_a_set_at_hand_is_what_its_card_says(name):
    card = cards.get(name)
    if not (card.draw or dataset._place(card)):
        pytest.skip("not on this machine")
    index = dataset.describe(name)
    assert index.card is card and index.classes == card.classes
    assert len(index.entries) == sum(map(sum, card.counts.values())) and dataset.check(index) == []


def test_a_name_is_registered_once(mine):
    assert cards.names()[-1] == "myset" and cards.get("myset") is mine
    with pytest.raises(ValueError, match="'myset' is already registered"):
        cards.register(mine)


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="'blood'.*" + ", ".join(cards.names())):
        cards.get("blood")


def test_every_part_has_one_count_per_class(mine):
    with pytest.raises(ValueError, match="one count per class"):
        cards.register(replace(mine, name="other", counts={"TRAIN": (5,), "TEST": (5, 5)}))


def test_a_second_set_is_loaded_by_name(mine):
    found = dataset.load("myset", (24, 32))
    assert (found.card, found.name, found.classes) == (mine, "myset", ("blast", "band"))
    assert found.sizes == {"train": 8, "validation": 2, "test": 10}
    by_path = dataset.load(mine.places[0], (24, 32))
    assert by_path.card is mine and by_path.fingerprint == found.fingerprint


def test_a_set_that_is_asked_for_by_name_is_held_to_its_card(mine):
    next((mine.places[0] / "TEST/blast").iterdir()).unlink()
    with pytest.raises(DatasetError, match="myset.*TEST blast: 5 expected, 4 found"):
        dataset.load("myset", (24, 32))
    assert dataset.load(mine.places[0], (24, 32)).card is None  # a set like any other


def test_images_have_the_size_of_the_card(registry, mine):
    cards._CARDS["myset"] = replace(mine, size=(24, 32))
    assert dataset.load("myset", (12, 16)).sizes["test"] == 10
    picture(0, (30, 30)).save(mine.places[0] / "TEST/blast/cell 0.jpg")
    with pytest.raises(DatasetError, match="cell 0.jpg: 30x30 RGB.*32x24 RGB"):
        dataset.load("myset", (12, 16))


def test_a_set_that_is_not_there_says_where_it_is_looked_for(registry, mine, tmp_path):
    cards.register(replace(mine, name="lost", places=(tmp_path / "nowhere",)))
    with pytest.raises(DatasetError, match="lost: not found.*nowhere"):
        dataset.load("lost")


def test_a_set_can_be_drawn(registry, mine, tmp_path):
    def draw(folder: Path) -> None:
        drawn.append(folder)
        make_set(folder, classes=("blast", "band"), each=5)

    drawn: list[Path] = []
    cards.register(replace(mine, name="drawing", places=(), draw=draw))
    cards._CARDS.pop("myset")
    for _ in range(2):
        assert dataset.load("drawing", (24, 32)).name == "drawing"
    assert len(drawn) == 1 and drawn[0].is_dir()


def test_the_names_of_known_sets_are_reserved(mine, tmp_path):
    found = [dataset.load(make_set(tmp_path / name, each=5), (24, 32)) for name in cards.names()]
    assert [set_.name for set_ in found] == [f"own {name}" for name in cards.names()]
    assert all(set_.card is None for set_ in found)


def test_the_tables_of_a_card_name_the_photographs(registry, mine, tmp_path):
    keys = [entry.key for entry in dataset.describe("myset").entries]
    rows = [f"{key.replace('/', ',')},photo {k // 2}" for k, key in enumerate(keys)]
    (tmp_path / "provenance.csv").write_text("\n".join(["split,class,file,photograph", *rows]) + "\n")
    assert "no provenance.csv" in dataset.describe("myset").why_no_photos
    cards._CARDS["myset"] = replace(mine, tables=tmp_path)
    index = dataset.describe("myset")
    assert index.photos[keys[2]] == "photo 1" and index.scenes == {} and index.why_no_photos == ""
    (tmp_path / "same_cell.csv").write_text("photograph_a,photograph_b,judgement\nphoto 0,photo 3,same field\n")
    assert dataset.describe("myset").scenes == {"photo 0": "photo 0", "photo 3": "photo 0"}


def archive_like(folder: Path) -> Path:
    """A small part of the archive, by its names."""
    table = pd.read_csv(cards.ARCHIVE.tables / "provenance.csv").groupby(["split", "class"]).head(3)
    for place, (split, label, name) in enumerate(table[["split", "class", "file"]].itertuples(index=False)):
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        picture(place).save(folder / split / label / name)
    return folder


def test_a_set_that_claims_to_be_the_archive_must_be_whole(tmp_path):
    folder = archive_like(tmp_path / "set")
    with pytest.raises(DatasetError, match=f"{cards.ARCHIVE.name}.*TRAIN EOSINOPHIL: 2497 expected, 3 found"):
        dataset.describe(folder)
    picture(0).save(folder / "TRAIN/EOSINOPHIL/one more.jpeg")
    with pytest.raises(DatasetError, match="TRAIN EOSINOPHIL: 2497 expected, 4 found"):
        dataset.describe(folder)
    keys = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.jpeg"))]
    rows = ["split,class,file,photograph", *(f"{key.replace('/', ',')},{key}" for key in keys)]
    (folder / "provenance.csv").write_text("\n".join(rows) + "\n")
    assert dataset.describe(folder).card is None  # with a table of its own it is a set of its own


def test_names_as_keras_writes_them_make_no_archive(tmp_path):
    folder = make_set(tmp_path / "set")
    for place, path in enumerate(sorted(folder.rglob("*.jpg"))):
        path.rename(path.with_name(f"_{place}_{1000 + 37 * place}.jpeg"))
    assert dataset.describe(folder).card is None


def test_the_sample_is_recognised_wherever_it_lies(tmp_path):
    drawn = dataset.locate(cards.SAMPLE.name)
    os.symlink(drawn, tmp_path / "mine")
    found = dataset.describe(tmp_path / "mine")
    assert found.card is cards.SAMPLE and found.name == cards.SAMPLE.name and found.photos


def test_known_sets_are_named_in_their_cards_only():
    quoted = re.compile(rf"""["']({"|".join(map(re.escape, cards.names()))})["']""")
    owners = {"cards.py", "sample.py"}
    sources = {path: path.read_text() for path in (ROOT / "bloodcell_lib").rglob("*.py") if path.name not in owners}
    assert [f"{path.name}: {name}" for path, text in sources.items() for name in quoted.findall(text)] == []
