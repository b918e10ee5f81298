"""How a set is divided: photographs and scenes stay whole, classes keep their shares, seeds repeat."""

import numpy as np
import pytest
from conftest import make_set
from test_dataset import load, provenance

from bloodcell_lib import dataset, splits
from bloodcell_lib.dataset import DatasetError

PHOTOGRAPHS = {0: 75, 1: 27, 2: 16, 3: 159}  # behind TRAIN, by class
COPIES = {0: 7, 1: 20, 2: 31, 3: 3}  # the rarer a photograph, the more copies of it


@pytest.fixture(scope="module")
def set_():
    """Labels, photographs and scenes as unequal as the archive's; the first two of each class show one scene."""
    labels = np.repeat(list(PHOTOGRAPHS), list(PHOTOGRAPHS.values()))
    names = np.array([f"p{n:03}" for n in range(len(labels))])
    scenes = names.copy()
    for label in PHOTOGRAPHS:
        one, two = np.flatnonzero(labels == label)[:2]
        scenes[two] = scenes[one]
    copies = [COPIES[label] for label in labels]
    return tuple(np.repeat(values, copies) for values in (labels, names, scenes))


def shares(labels, photos, rows):
    """Photographs of each class."""
    return np.array([len(set(photos[rows][labels[rows] == label])) for label in PHOTOGRAPHS])


@pytest.mark.parametrize("seed", range(5))
def test_grouped_holds_a_fifth_of_each_class_by_photograph(set_, seed):
    labels, photos, scenes = set_
    parts = np.full(len(labels), "TRAIN")
    parts[:7] = "TEST"  # the first photograph; the other of its scene is in TRAIN
    rows = splits.divide(parts, labels, photos, scenes, "grouped", seed)
    assert sorted(np.concatenate([rows["train"], rows["validation"]])) == list(range(7, len(labels)))
    assert not set(scenes[rows["train"]]) & set(scenes[rows["validation"]])
    held = shares(labels, photos, rows["validation"])
    assert np.all(abs(held - np.array(list(PHOTOGRAPHS.values())) / 5) <= 1.5)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_folds_test_every_photograph_once(set_, folds):
    labels, photos, scenes = set_
    parts = np.where(np.arange(len(labels)) % 2, "TRAIN", "TEST")  # both are pooled
    tested, validated = [], []
    for fold in range(1, folds + 1):
        rows = splits.divide(parts, labels, photos, scenes, f"fold:{fold}/{folds}", 0)
        found = [set(scenes[rows[part]]) for part in ("train", "validation", "test")]
        assert sum(map(len, found)) == len(set().union(*found)) == len(set(scenes))
        assert np.all(abs(shares(labels, photos, rows["test"]) - np.array(list(PHOTOGRAPHS.values())) / folds) <= 2)
        tested.append(rows["test"])
        validated.append(rows["validation"])
    assert sorted(np.concatenate(tested)) == list(range(len(labels)))
    assert all(np.array_equal(validated[n], tested[(n + 1) % folds]) for n in range(folds))


def test_the_seed_decides(set_):
    labels, photos, scenes = set_
    parts = np.full(len(labels), "TRAIN")
    for split in ("paper", "grouped", "fold:1/5"):
        one, two, other = (
            splits.divide(parts, labels, photos, scenes, split, seed)["validation"] for seed in (0, 0, 1)
        )
        assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_an_unknown_photograph_teaches_nothing(set_):
    labels, photos, scenes = (values.copy() for values in set_)
    photos[5], scenes[5] = "", ""
    parts = np.full(len(labels), "TRAIN")
    for split, used in (("paper", True), ("grouped", False), ("fold:1/5", False)):
        rows = splits.divide(parts, labels, photos, scenes, split, 0)
        assert (5 in np.concatenate([rows[part] for part in ("train", "validation", "test")])) == used


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("fold:1/2", "N is 3 at least"),
        ("fold:4/3", "K goes from 1 to N"),
        ("fold:0/3", "unknown"),
        ("folds", "unknown"),
        ("fold:1/20", "a class has 15 of different scenes"),
        (None, "unknown"),
    ],
)
def test_what_cannot_be_divided(set_, split, message):
    with pytest.raises(DatasetError, match=message):
        splits.divide(np.full(len(set_[0]), "TRAIN"), *set_, split, 0)


def test_one_cell_on_two_photographs_stays_on_one_side(tmp_path):
    folder = make_set(tmp_path / "own", each=20)
    provenance(folder)  # ten photographs a class and side
    (folder / "same_cell.csv").write_text(
        "photograph_a,photograph_b,judgement\nTRAIN-MONOCYTE-1,TRAIN-MONOCYTE-0,same cell\n"
        "TRAIN-MONOCYTE-1,TRAIN-MONOCYTE-2,same cell\nTRAIN-MONOCYTE-3,TRAIN-MONOCYTE-4,different\n"
        "TRAIN-NEUTROPHIL-0,TEST-NEUTROPHIL-0,same cell\n"
    )
    found = load(folder, "grouped")
    scenes = {part: set(getattr(found, part).scenes) for part in ("train", "validation", "test")}
    assert not scenes["train"] & scenes["validation"]
    assert "TRAIN-MONOCYTE-0" in scenes["train"] | scenes["validation"]
    assert not {"TRAIN-MONOCYTE-1", "TRAIN-MONOCYTE-2"} & (scenes["train"] | scenes["validation"])
    assert "TRAIN-MONOCYTE-4" in scenes["train"] | scenes["validation"]
    assert "TEST-NEUTROPHIL-0" in scenes["test"] & (scenes["train"] | scenes["validation"])
    pooled = load(folder, "fold:1/5")
    assert pooled.sizes == {"train": 96, "validation": 32, "test": 32}


def test_a_table_made_from_other_files_is_not_believed(own_folder):
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    entries = {entry.key: entry for entry in dataset.describe(own_folder).entries}
    head, *rows = table.read_text().splitlines()
    rows = [f"{row},{entries['/'.join(row.split(',')[:3])].crc:08x}" for row in rows]
    table.write_text("\n".join([f"{head},crc32", *rows]))
    assert load(own_folder).photos_known
    rows[0] = rows[0][:-8] + "00000000"
    table.write_text("\n".join([f"{head},crc32", *rows]))
    with pytest.raises(DatasetError, match=r"TEST/EOSINOPHIL/cell 0\.jpg is not the file .*CRC-32 \w{8}, there 0{8}"):
        load(own_folder)


def test_the_archive_by_photograph(archive):
    paper, grouped = (load(archive, split, size=(24, 32)) for split in ("paper", "grouped"))
    assert len(set(paper.train.photos) & set(paper.validation.photos)) == 272  # of the 277 behind TRAIN
    assert not set(grouped.train.scenes) & set(grouped.validation.scenes)
    assert len(set(grouped.train.photos) | set(grouped.validation.photos)) == 277
    behind_train = set(grouped.train.scenes) | set(grouped.validation.scenes)
    assert len(behind_train | set(grouped.test.scenes)) == 311
    assert len(set(grouped.test.photos[np.isin(grouped.test.scenes, list(behind_train))])) == 8
    held = shares(grouped.validation.labels, grouped.validation.photos, np.arange(len(grouped.validation)))
    assert np.all(abs(held - np.array(list(PHOTOGRAPHS.values())) / 5) <= 2)
    tested = [load(archive, f"fold:{fold}/5", size=(24, 32)).test.photos for fold in range(1, 6)]
    assert sum(len(set(photos)) for photos in tested) == len(set(np.concatenate(tested))) == 348
