"""The drawn sample: laid out as the archive is, copied as the archive was, the same for the same seed."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bloodcell_lib import dataset, plots, sample
from bloodcell_lib.dataset import CLASSES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("drawn") / "sample"
    sample.write(place)
    return place


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.*")):
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


def test_the_layout_and_the_card(folder):
    catalogue = dataset.describe(folder)
    counts = Counter((entry.split, entry.label) for entry in catalogue.entries)
    assert catalogue.name == "sample"
    assert {s: tuple(counts[s, c] for c in CLASSES) for s in dataset.CARDS["sample"]} == dataset.CARDS["sample"]
    assert all(dataset.ARCHIVE_KEY.fullmatch(entry.key) for entry in catalogue.entries)
    assert "DRAWN" in (folder / "README.txt").read_text()


def test_the_same_seed_draws_the_same_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "PHOTOGRAPHS", {"TRAIN": 1, "TEST": 1})
    monkeypatch.setattr(sample, "COPIES", {"TRAIN": 2, "TEST": 1})
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        sample.write(tmp_path / name, seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_no_photograph_is_behind_both_train_and_test(folder):
    rows = list(csv.DictReader((folder / "provenance.csv").open()))
    behind = {split: {r["photograph"] for r in rows if r["split"] == split} for split in dataset.CARDS["sample"]}
    assert not behind["TRAIN"] & behind["TEST"] and behind["TEST"] == behind["TEST_SIMPLE"]
    assert {f"{name}.jpg" for name in behind["TRAIN"] | behind["TEST"]} == {
        file.name for file in folder.rglob("JPEGImages/*")}
    assert {(r["split"], r["class"], r["file"]) for r in rows} == {
        file.parts[-3:] for file in (folder / sample.IMAGES).rglob("*.jpeg")}


def test_a_file_name_does_not_tell_the_photograph(folder):
    rows = [r for r in csv.DictReader((folder / "provenance.csv").open()) if r["split"] == "TRAIN"]
    groups = {}
    for row in rows:
        groups.setdefault((row["class"], row["file"].split("_")[1]), set()).add(row["photograph"])
    assert min(map(len, groups.values())) > 1


def test_copies_are_turned_and_stretched(folder):
    rng = np.random.default_rng(0)
    photograph, _ = sample.draw("MONOCYTE", rng)
    made = [sample.augment(photograph, rng) for _ in range(30)]
    assert {p["mirrored"] for _, p in made} == {0, 1}
    turns = (np.array([p["rotation"] for _, p in made]) + 90) % 180 - 90  # turned by 180 where flipped both ways
    assert abs(turns).max() <= 20 and turns.std() > 5
    assert max(abs(p["shear"]) for _, p in made) <= 0.2
    for copy, _ in made:
        assert copy.shape == (240, 320, 3) and copy.min() == 0 and copy.max() == 255
    assert np.mean([copy[[0, 0, -1, -1], [0, -1, 0, -1]].max(-1).min() < 8 for copy, _ in made]) > 0.9  # black corners


@pytest.mark.parametrize("label", CLASSES)
def test_the_white_cell_lies_in_its_box(folder, label):
    for _, image, boxes in dataset.photographs(folder, label, 3):
        assert {"WBC", "RBC"} <= {what for what, *_ in boxes} <= set(plots.BOX_COLOURS)
        assert all(0 <= left < right <= 640 and 0 <= top < bottom <= 480 for _, left, top, right, bottom in boxes)
        (_, left, top, right, bottom), = [box for box in boxes if box[0] == "WBC"]
        pixels = image.astype(int)
        violet = (pixels[..., 2] - pixels[..., 1] > 90)  # the nucleus
        inside = violet[top:bottom, left:right].sum()
        assert inside > 500 and inside > 0.7 * violet.sum()


def test_nothing_but_the_cell_tells_the_class(folder):
    """Background and brightness, told by a nearest neighbour on another photograph, are near to guessing."""
    data = dataset.load(folder, (30, 40), "grouped")
    edge = [np.concatenate([part.images[:, :, :3].mean((1, 2)), part.images[:, :, -3:].mean((1, 2))], 1)
            for part in (data.train, data.test)]
    nearest = ((edge[1][:, None] - edge[0][None]) ** 2).sum(-1).argmin(1)
    assert (data.train.labels[nearest] == data.test.labels).mean() < 0.45


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match=str(tmp_path)):
        sample.write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "_write_csv", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(sample, "PHOTOGRAPHS", {"TRAIN": 1, "TEST": 1})
    monkeypatch.setattr(sample, "COPIES", {"TRAIN": 1, "TEST": 1})
    with pytest.raises(KeyboardInterrupt):
        sample.write(tmp_path / "sample")
    assert not list(tmp_path.iterdir())
