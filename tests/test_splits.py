"""Splits: photographs and scenes stay whole, classes keep their shares, seeds repeat."""

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
def test_a_split_by_photograph_holds_out_a_fifth_of_each_class_by_photograph(set_, seed):
    labels, photos, scenes = set_
    parts = np.full(len(labels), "TRAIN")
    parts[:7] = "TEST"  # the first photograph; the other of its scene is in TRAIN
    rows = splits.split(parts, labels, photos, scenes, "photo", seed)
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
        rows = splits.split(parts, labels, photos, scenes, f"fold:{fold}/{folds}", 0)
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
    for split in ("image", "photo", "fold:1/5"):
        one, two, other = (splits.split(parts, labels, photos, scenes, split, seed)["validation"] for seed in (0, 0, 1))
        assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_an_unknown_photograph_teaches_nothing(set_):
    labels, photos, scenes = (values.copy() for values in set_)
    photos[5], scenes[5] = "", ""
    parts = np.full(len(labels), "TRAIN")
    for split, used in (("image", True), ("photo", False), ("fold:1/5", False)):
        rows = splits.split(parts, labels, photos, scenes, split, 0)
        assert (5 in np.concatenate([rows[part] for part in ("train", "validation", "test")])) == used


@pytest.mark.parametrize(("counts", "limit"), [((500, 300, 200), 100), ((60, 30, 1), 3), ((60, 30, 1), 90), ((9,), 1)])
def test_a_subsample_has_every_class_in_proportion(counts, limit):
    labels = np.repeat(range(len(counts)), counts)
    rows = np.arange(len(labels))
    one, two, other = (splits.subsample(rows, labels, limit, seed) for seed in (0, 0, 1))
    kept = np.bincount(labels[one], minlength=len(counts))
    assert len(set(one)) == limit and kept.min() >= 1 and np.array_equal(one, np.sort(one))
    assert np.all(abs(kept - limit * np.array(counts) / len(labels)) <= 1)
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert np.array_equal(splits.subsample(rows, labels, len(labels), 0), rows)


def test_folds_of_train_leave_test_alone(set_):
    labels, photos, scenes = set_
    _, photo = np.unique(photos, return_inverse=True)
    parts, tested = np.where(photo % 5 == 4, "TEST", "TRAIN"), []
    for fold in (1, 2, 3):
        rows = splits.split(parts, labels, photos, scenes, f"train:{fold}/3", 0)
        used = np.concatenate([rows[part] for part in ("train", "validation", "test")])
        assert sorted(used) == list(np.flatnonzero(parts == "TRAIN"))
        assert not set(scenes[rows["train"]]) & set(scenes[np.r_[rows["validation"], rows["test"]]])
        tested.append(rows["test"])
    assert sorted(np.concatenate(tested)) == list(np.flatnonzero(parts == "TRAIN"))
    with pytest.raises(DatasetError, match=r"train:1/3.*no TRAIN folder. Use split='fold:K/N'"):
        splits.split(np.full(len(labels), ""), *set_, "train:1/3", 0)


def test_one_cell_in_training_and_in_a_validation_part_of_its_own_is_refused(set_):
    labels, photos, scenes = (values.copy() for values in set_)
    _, photo = np.unique(photos, return_inverse=True)
    parts = np.array(["TRAIN", "TRAIN", "VALIDATION", "TEST"])[photo % 4]
    scenes = photos.copy()
    assert len(splits.split(parts, labels, photos, scenes, "photo", 0)["validation"])
    scenes[parts == "TEST"] = scenes[0]  # of TEST this is measured, as `unseen`
    splits.split(parts, labels, photos, scenes, "photo", 0)
    one, other = (photos[parts == part][0] for part in ("TRAIN", "VALIDATION"))
    scenes[photos == other] = one
    with pytest.raises(DatasetError, match=f"1 are on two sides.*or the same cell or field is, such as {one}"):
        splits.split(parts, labels, photos, scenes, "photo", 0)


def test_a_limit_below_the_number_of_classes_is_refused():
    with pytest.raises(DatasetError, match="limit=2.*at least 3"):
        splits.subsample(np.arange(9), np.repeat(range(3), 3), 2, 0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("fold:1/2", "at least 3"),
        ("train:1/2", "at least 3"),
        ("fold:4/3", "K must be from 1 to N"),
        ("fold:0/3", "unknown"),
        ("folds", "unknown"),
        ("paper", "'image', 'photo', 'fold:K/N' or 'train:K/N'"),
        ("grouped", "'image', 'photo', 'fold:K/N' or 'train:K/N'"),
        ("fold:1/20", "a class has 15 different scenes"),
        (None, "unknown"),
    ],
)
def test_what_cannot_be_split(set_, split, message):
    with pytest.raises(DatasetError, match=message):
        splits.split(np.full(len(set_[0]), "TRAIN"), *set_, split, 0)


def test_one_cell_on_two_photographs_stays_on_one_side(tmp_path):
    folder = make_set(tmp_path / "own", each=20)
    provenance(folder)  # ten photographs a class and side
    (folder / "same_cell.csv").write_text(
        "photograph_a,photograph_b,judgement\nTRAIN-MONOCYTE-1,TRAIN-MONOCYTE-0,same cell\n"
        "TRAIN-MONOCYTE-1,TRAIN-MONOCYTE-2,same cell\nTRAIN-MONOCYTE-3,TRAIN-MONOCYTE-4,different\n"
        "TRAIN-NEUTROPHIL-0,TEST-NEUTROPHIL-0,same cell\n"
    )
    found = load(folder, "photo")
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
    by_image, by_photo = (load(archive, split) for split in ("image", "photo"))
    assert len(set(by_image.train.photos) & set(by_image.validation.photos)) == 272  # of the 277 behind TRAIN
    assert not set(by_photo.train.scenes) & set(by_photo.validation.scenes)
    assert len(set(by_photo.train.photos) | set(by_photo.validation.photos)) == 277
    behind_train = set(by_photo.train.scenes) | set(by_photo.validation.scenes)
    assert len(behind_train | set(by_photo.test.scenes)) == 311
    assert len(set(by_photo.test.photos[np.isin(by_photo.test.scenes, list(behind_train))])) == 8
    held = shares(by_photo.validation.labels, by_photo.validation.photos, np.arange(len(by_photo.validation)))
    assert np.all(abs(held - np.array(list(PHOTOGRAPHS.values())) / 5) <= 2)
    tested = [load(archive, f"fold:{fold}/5").test.photos for fold in range(1, 6)]
    assert sum(len(set(photos)) for photos in tested) == len(set(np.concatenate(tested))) == 348
