"""The drawn sample: its layout, its truths, its repeatability, and what is left when it is interrupted."""

import csv
import hashlib
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bloodcell_lib import images, sample
from bloodcell_lib.sample import CLASSES

IMAGES, ORIGINALS = "dataset2-master/dataset2-master", "dataset-master/dataset-master"
COUNTS = {"TRAIN": 240, "TEST": 40, "TEST_SIMPLE": 10}


@pytest.fixture(scope="module")
def folder(drawn_sample):
    return drawn_sample.source.root


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "provenance.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=CLASSES)
def drawn(request):
    return sample.draw(request.param, np.random.default_rng(5))


@pytest.fixture
def few(monkeypatch):
    """A sample of four photographs, quick to draw."""
    monkeypatch.setattr(sample, "CLASSES", CLASSES[:2])
    monkeypatch.setattr(sample, "PHOTOGRAPHS", {"TRAIN": 1, "TEST": 1})
    monkeypatch.setattr(sample, "COPIES", {"TRAIN": 2, "TEST": 1})


def pixels(path):
    return np.asarray(Image.open(path))


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def nuclei(image):
    """Pixels much darker in green than in blue: chromatin, and nothing else on a smear."""
    red, green, blue = image.astype(int).transpose(2, 0, 1)
    return (blue - green > 60) & (blue > red)


def test_the_folders_are_those_of_the_archive(folder):
    for split, count in COUNTS.items():
        for label in CLASSES:
            names = [path.name for path in (folder / IMAGES / "images" / split / label).iterdir()]
            assert len(names) == count
            assert all(name.startswith("_") and name.endswith(".jpeg") and name.count("_") == 2 for name in names)
    assert {path.name for path in folder.iterdir()} == {
        "README.txt",
        "provenance.csv",
        "dataset-master",
        "dataset2-master",
    }
    assert "DRAWN" in (folder / "README.txt").read_text()
    photographs = sorted(path.stem for path in (folder / ORIGINALS / "JPEGImages").glob("*.jpg"))
    assert photographs == [f"BloodImage_{n:05d}" for n in range(200)]
    assert photographs == sorted(path.stem for path in (folder / ORIGINALS / "Annotations").glob("*.xml"))


def test_images_have_the_sizes_of_the_archive(folder):
    copies = [next((folder / IMAGES / "images" / split / CLASSES[0]).iterdir()) for split in COUNTS]
    assert [Image.open(path).size for path in copies] == [(320, 240)] * 3
    assert Image.open(folder / ORIGINALS / "JPEGImages" / "BloodImage_00000.jpg").size == (640, 480)


def test_both_label_tables_name_the_class_behind_every_copy(folder, rows):
    true = {row["photograph"]: row["class"] for row in rows}
    for inner in (IMAGES, ORIGINALS):
        text = (folder / inner / "labels.csv").read_bytes().decode()
        assert text.startswith(",Image,Category\r\n")
        table = list(csv.DictReader(text.splitlines()))
        assert {f"BloodImage_{int(row['Image']):05d}": row["Category"] for row in table} == true


def test_provenance_has_one_row_for_each_image(folder, rows):
    listed = Counter((row["split"], row["class"], row["file"]) for row in rows)
    stored = Counter(path.parts[-3:] for path in (folder / IMAGES / "images").rglob("*.jpeg"))
    assert listed == stored


def test_each_photograph_lies_behind_as_many_copies_as_declared(rows):
    behind = Counter((row["split"], row["photograph"]) for row in rows)
    assert Counter((split, count) for (split, _), count in behind.items()) == {
        ("TRAIN", 6): 160,
        ("TEST", 4): 40,
        ("TEST_SIMPLE", 1): 40,
    }


def test_no_photograph_is_behind_both_train_and_test(rows):
    behind = {split: {row["photograph"] for row in rows if row["split"] == split} for split in COUNTS}
    assert not behind["TRAIN"] & behind["TEST"]
    assert behind["TEST"] == behind["TEST_SIMPLE"]


def test_no_photograph_is_drawn_twice(folder):
    files = list((folder / ORIGINALS / "JPEGImages").iterdir())
    assert len({path.read_bytes() for path in files}) == len(files) == 200


def test_the_number_in_a_name_is_not_the_photograph(rows):
    groups = {}
    for row in (row for row in rows if row["split"] == "TRAIN"):
        groups.setdefault((row["class"], row["file"].split("_")[1]), set()).add(row["photograph"])
    assert len(groups) == 160
    assert min(map(len, groups.values())) >= 3


def test_provenance_tells_how_a_copy_was_made(folder, rows):
    """Made again as its row says, a copy lies on its photograph; with any of the three reversed it does not."""
    for row in [row for row in rows if row["split"] == "TEST"][::40]:
        copy = pixels(folder / IMAGES / "images" / row["split"] / row["class"] / row["file"])
        photograph = Image.open(folder / ORIGINALS / "JPEGImages" / f"{row['photograph']}.jpg")
        mirrored, rotation, shear = int(row["mirrored"]), float(row["rotation"]), float(row["shear"])
        cells = shade(np.asarray(photograph.reduce(2)))
        true = agreement(copy, cells, mirrored, rotation, shear)
        assert true > 0.9
        assert agreement(copy, cells, 1 - mirrored, rotation, shear) < true - 0.1
        assert agreement(copy, cells, mirrored, rotation + 180, shear) < true - 0.1
        if abs(np.sin(np.deg2rad(rotation))) > 0.1:
            assert agreement(copy, cells, mirrored, -rotation, shear) < true
        if abs(shear) > 0.05:
            assert agreement(copy, cells, mirrored, rotation, -shear) < true


def shade(image):
    """Where cells are, 0..1: green light that is missing; the empty corners count as background."""
    green = image[..., 1].astype(float)
    lit = green > 40
    return np.where(lit, np.clip(1 - green / np.percentile(green[lit], 85), 0, 1), 0)


def agreement(copy, cells, mirrored, rotation, shear):
    """Highest correlation over all shifts of a copy with the photograph mirrored, turned and sheared."""
    angle = np.deg2rad(rotation)
    x, y = np.meshgrid(np.arange(320) - 159.5, np.arange(240) - 119.5)
    x, y = x * np.cos(shear), y - x * np.sin(shear)
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    made = ndimage.map_coordinates(cells, [y + 119.5, (-x if mirrored else x) + 159.5], order=1)
    seen = shade(copy)
    product = np.fft.irfft2(np.fft.rfft2(made, (480, 640)) * np.conj(np.fft.rfft2(seen, (480, 640))))
    return product.max() / np.sqrt((made**2).sum() * (seen**2).sum())


def test_copies_have_black_corners_and_the_full_range(drawn):
    rng = np.random.default_rng(0)
    for _ in range(5):
        copy, made = sample.augment(drawn[0], rng)
        assert copy.shape == (240, 320, 3) and copy.dtype == np.uint8
        assert (copy.min(), copy.max()) == (0, 255)
        assert set(made) == {"mirrored", "rotation", "shear"} and abs(made["shear"]) <= 0.2
        assert min(abs(made["rotation"]), 180 - abs(made["rotation"])) <= 20
        black = copy.max(2) == 0
        assert 0.005 < black.mean() < 0.5
        assert black[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_simple_images_are_the_photographs_halved(folder, rows):
    for row in [row for row in rows if row["split"] == "TEST_SIMPLE"][::7]:
        simple = pixels(folder / IMAGES / "images/TEST_SIMPLE" / row["class"] / row["file"])
        photograph = Image.open(folder / ORIGINALS / "JPEGImages" / f"{row['photograph']}.jpg")
        assert np.abs(simple - np.asarray(photograph.reduce(2), float)).mean() < 4


def test_boxes_lie_inside_the_image(drawn):
    image, boxes = drawn
    assert image.shape == (480, 640, 3) and image.dtype == np.uint8
    assert [box[0] for box in boxes].count("WBC") == 1
    assert {box[0] for box in boxes} <= {"WBC", "RBC", "Platelets"}
    for _, left, top, right, bottom in boxes:
        assert 1 <= left < right <= 640 and 1 <= top < bottom <= 480


def test_the_box_of_the_white_cell_covers_its_nucleus_and_little_else(drawn):
    image, boxes = drawn
    _, left, top, right, bottom = next(box for box in boxes if box[0] == "WBC")
    parts, _ = ndimage.label(ndimage.binary_opening(nuclei(image), iterations=2))
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    rows, columns = np.nonzero(largest)
    assert left <= columns.min() + 1 and columns.max() + 1 <= right
    assert top <= rows.min() + 1 and rows.max() + 1 <= bottom
    assert largest.sum() > 0.05 * (right - left) * (bottom - top)


def test_annotations_hold_the_boxes_as_drawn(folder):
    stream = sample._plan(0)[3]
    _, boxes = sample.draw(stream.label, np.random.default_rng(stream.stream))
    root = ElementTree.parse(folder / ORIGINALS / "Annotations" / f"{stream.stem}.xml").getroot()
    read = [
        (item.findtext("name"), *(int(corner.text) for corner in item.find("bndbox"))) for item in root.iter("object")
    ]
    assert read == boxes
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("640", "480")


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(few, tmp_path):
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        sample.write(tmp_path / name, seed)
    one, again, other = (digest(tmp_path / name) for name in ("one", "again", "other"))
    assert len(one) == 4 * 2 + 2 * 4 + 4  # photographs and boxes; copies; tables and README
    assert one == again
    images = [name for name in one if name.endswith(".jpg")]
    assert images and all(one[name] != other[name] for name in images)


def test_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match="BASOPHIL"):
        sample.draw("BASOPHIL", np.random.default_rng(0))


def test_an_empty_folder_is_filled(few, tmp_path):
    (tmp_path / "empty").mkdir()
    sample.write(tmp_path / "empty")
    assert (tmp_path / "empty" / "provenance.csv").is_file()


def test_a_used_folder_is_refused_and_left_untouched(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="used"):
        sample.write(used)
    with pytest.raises(ValueError, match=r"mine\.txt"):
        sample.write(used / "mine.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["used", "mine.txt"]
    assert (used / "mine.txt").read_text() == "mine"


def test_an_interrupted_write_leaves_nothing_behind(few, tmp_path, monkeypatch):
    def interrupted(photograph, rng):
        written.extend(tmp_path.rglob("*.jpg"))
        raise KeyboardInterrupt

    written = []
    monkeypatch.setattr(sample, "augment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample.write(tmp_path / "sample")
    assert written, "it was to be interrupted after the first photograph was stored"
    assert not list(tmp_path.iterdir())


def test_the_stain_alone_tells_where_the_white_cell_is():
    """The truth is the middle of the cell's box, off which the nucleus lies: up to 14 pixels in some copies."""
    away = []
    for seed in range(5):
        for label in CLASSES:
            photograph, boxes = sample.draw(label, np.random.default_rng([seed, len(label)]))
            ((left, top, right, bottom),) = (corners for what, *corners in boxes if what == "WBC")
            mark = np.zeros_like(photograph)  # is copied just as the photograph is
            mark[(top + bottom) // 2 - 3 :, (left + right) // 2 - 3 :][:6, :6] = 255
            for copy in range(6):
                made, marked = (
                    sample.augment(each, np.random.default_rng([seed, copy]))[0] for each in (photograph, mark)
                )
                truth = np.argwhere(marked[..., 0] == marked.max()).mean(0) + 0.5
                away.append(np.hypot(*(truth - images.cell_centre(made))))
    assert len(away) == 120 and np.mean(np.array(away) < 10) > 0.9 and max(away) < 16
