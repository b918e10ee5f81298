"""Provenance: the photograph behind each image, recovered where the truth is known, and the committed tables."""

import csv
import sys
import zipfile
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import make_provenance
import numpy as np
import pytest
from conftest import make_set
from PIL import Image

from bloodcell_lib import cards, dataset, images, provenance, sample, sources
from bloodcell_lib.dataset import DatasetError

DATA = Path(__file__).parents[1] / "data"
needs_opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")


def table(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def dicts(rows: list[tuple]) -> list[dict]:
    return [dict(zip(make_provenance.COLUMNS, row, strict=True)) for row in rows]


def key(row: dict) -> tuple:
    return row["split"], row["class"], row["file"]


# On the drawn sample, whose truth is known


@pytest.fixture(scope="module")
def truth(drawn_sample):
    return {key(row): row for row in table(drawn_sample.source.root / "provenance.csv")}


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A sample of eight photographs and 24 images."""
    monkeypatch.setattr(sample, "PHOTOGRAPHS", {"TRAIN": 1, "TEST": 1})
    monkeypatch.setattr(sample, "COPIES", {"TRAIN": 3, "TEST": 2})
    sample.write(tmp_path / "few")
    return tmp_path / "few"


@needs_opencv
def test_photograph_and_parameters_are_recovered(drawn_sample, truth):
    chosen = set(drawn_sample.entries[::19])
    rows = dicts(make_provenance.recover(drawn_sample.source.root, chosen.__contains__))
    assert len(rows) == len(chosen) > 60 and {row["split"] for row in rows} == {"TRAIN", "TEST", "TEST_SIMPLE"}
    assert {row["mirrored"] for row in rows} == {0, 1}
    for row in rows:
        true = truth[key(row)]
        assert (row["photograph"], row["mirrored"]) == (true["photograph"], int(true["mirrored"]))
        turn = float(row["rotation"]) - float(true["rotation"])
        assert abs((turn + 180) % 360 - 180) < 0.2  # degrees
        assert abs(float(row["shear"]) - float(true["shear"])) < 0.01  # radians
        assert float(row["confidence"]) > 0.95


@needs_opencv
def test_the_second_pass_finds_what_the_first_leaves_open(few):
    index = dataset.describe(few)
    known = dict(list(make_provenance.first_pass(index.source, index.entries).items())[::2])
    hard = [entry for entry in index.entries if entry not in known]
    found = make_provenance.second_pass(index.source, hard, known)
    assert {entry.key: fit.photograph for entry, fit in found.items()} == {
        entry.key: index.photos[entry.key] for entry in hard
    }
    assert make_provenance.second_pass(index.source, [], known) == {}


@needs_opencv
def test_an_image_of_another_origin_is_not_assigned(few):
    noise, foreign, blank, scrambled = sorted(few.rglob("_0_*.jpeg"))[:4]
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (240, 320, 3), np.uint8)).save(noise)
    Image.fromarray(sample.augment(sample.draw("EOSINOPHIL", rng)[0], rng)[0]).save(foreign)
    Image.new("RGB", (320, 240), "white").save(blank)
    tiles = np.asarray(Image.open(scrambled)).reshape(6, 40, 8, 40, 3).swapaxes(1, 2).reshape(48, 40, 40, 3)
    tiles = rng.permutation(tiles).reshape(6, 8, 40, 40, 3).swapaxes(1, 2).reshape(240, 320, 3)
    Image.fromarray(tiles).save(scrambled)
    rows = dicts(make_provenance.recover(few))
    open_ = {row["file"] for row in rows if not row["photograph"]}
    assert len(rows) == 24 and open_ == {path.name for path in (noise, foreign, blank, scrambled)}
    assert all(row["confidence"] == "" and len(row["crc32"]) == 8 for row in rows if row["file"] in open_)


@needs_opencv
def test_copies_of_a_photograph_that_is_missing_get_a_common_name(few):
    truth = {key(row): row["photograph"] for row in table(few / "provenance.csv")}
    missing = truth[key(next(row for row in table(few / "provenance.csv") if row["split"] == "TRAIN"))]
    next(few.rglob(f"{missing}.jpg")).unlink()
    rows = dicts(make_provenance.recover(few))
    orphans = [row for row in rows if truth[key(row)] == missing]
    assert len(orphans) == 3 and {row["photograph"] for row in orphans} < {"/".join(key(row)) for row in orphans}
    assert len({row["photograph"] for row in orphans}) == 1 and all(row["rotation"] == "" for row in orphans)
    assert all(row["photograph"] == truth[key(row)] for row in rows if row not in orphans)


@needs_opencv
def test_again_with_more_threads_the_same_bytes(few, tmp_path, monkeypatch, capsys):
    for name, threads in (("one", 1), ("again", 1), ("four", 4)):
        monkeypatch.setattr(images, "THREADS", threads)
        assert make_provenance.main([str(few), "--out", str(tmp_path / name)]) == 0
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "again").read_bytes() == (tmp_path / "four").read_bytes()
    assert "24 of 24 images assigned to 8 photographs" in capsys.readouterr().out


@needs_opencv
def test_a_photograph_taken_twice_is_a_candidate(few):
    folder = few / "dataset-master/dataset-master/JPEGImages"
    first = sorted(folder.iterdir())[0]
    moved = np.roll(np.asarray(Image.open(first)), (60, 90), (0, 1))
    Image.fromarray(moved).save(folder / "BloodImage_00999.jpg")
    found = make_provenance.same_cell_candidates(sources.open_source(few))
    assert [pair[:2] for pair in found] == [(first.stem, "BloodImage_00999")]
    assert np.allclose(found[0][2].matrix[:, 2], (45, 30), atol=0.5)  # half the shift, at half the size


def test_nearest_is_exact():
    rng = np.random.default_rng(0)
    some, others = (np.floor(rng.dirichlet(np.ones(128), n) ** 0.5 * 512) for n in (50, 400))
    true = ((some[:, None] - others) ** 2).sum(2).argmin(1)
    assert np.array_equal(provenance.nearest(np.float32(some), np.float32(others)), true)


def test_upside_down_is_mirrored_and_turned_by_180_degrees():
    assert provenance.parameters(np.array([[1.0, 0, 0], [0, -1, 239]]))[:2] in ((1, 180), (1, -180))
    assert provenance.parameters(np.eye(2, 3)) == (0, 0, 0)


def test_without_opencv_the_error_says_what_to_install(own_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DatasetError, match=r"OpenCV.*pip install opencv-python-headless"):
        make_provenance.recover(own_folder)
    assert make_provenance.main([str(own_folder)]) == 2
    assert "OpenCV" in capsys.readouterr().err


@needs_opencv
def test_a_set_without_photographs_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="own: no photograph found.*JPEGImages"):
        make_provenance.recover(make_set(tmp_path / "own"))


@needs_opencv
def test_what_a_file_manager_leaves_among_the_photographs_is_none_of_them(few):
    folder = few / sample.ORIGINALS / "JPEGImages"
    for name in (".DS_Store", "Thumbs.db", "._BloodImage_00000.jpg"):
        (folder / name).write_bytes(b"x" * 100)
    found = provenance.load_photographs(sources.open_source(few))
    assert len(found) == len(list(folder.glob("[!.]*.jpg"))) == 8


@needs_opencv
def test_images_with_too_few_common_features_do_not_fit():
    points = np.random.default_rng(0).random((8, 2)).astype(np.float32) * 100
    alike = provenance.Features(points, np.ones((8, 128), np.float32))  # so one pair alone is mutual
    grey = np.zeros((240, 320), np.uint8)
    assert provenance.fit(grey, alike, provenance.Photograph("x", grey, alike)) is None


# The committed tables


@pytest.fixture(scope="module")
def rows():
    return table(DATA / "provenance.csv")


def side(split: str) -> str:
    return split.removesuffix("_SIMPLE")


def test_the_table_covers_the_archive(rows):
    assert tuple(rows[0]) == make_provenance.COLUMNS
    counts = Counter((row["split"], row["class"]) for row in rows)
    assert counts == {
        (split, name): n
        for split, row in cards.ARCHIVE.counts.items()
        for name, n in zip(cards.ARCHIVE.classes, row, strict=True)
    }
    keys = [key(row) for row in rows]
    assert keys == sorted(set(keys))
    assert (DATA / "provenance.csv").stat().st_size < 1_000_000


def test_nearly_every_image_is_assigned(rows):
    assigned = [row for row in rows if row["photograph"]]
    assert len(assigned) >= 0.995 * len(rows)
    assert min(float(row["confidence"]) for row in assigned) >= provenance.LEAST_CONFIDENCE


def test_no_photograph_is_behind_two_classes_or_both_sides(rows):
    behind = defaultdict(set)
    for row in rows:
        behind[row["photograph"]].add((side(row["split"]), row["class"]))
    behind.pop("", None)
    assert all(len(groups) == 1 for groups in behind.values())
    assert Counter(groups.pop() for groups in behind.values()) == {
        ("TRAIN", "EOSINOPHIL"): 75,
        ("TRAIN", "LYMPHOCYTE"): 27,
        ("TRAIN", "MONOCYTE"): 16,
        ("TRAIN", "NEUTROPHIL"): 159,
        ("TEST", "EOSINOPHIL"): 13,
        ("TEST", "LYMPHOCYTE"): 6,
        ("TEST", "MONOCYTE"): 4,
        ("TEST", "NEUTROPHIL"): 48,
    }


def test_simple_images_are_the_photographs_behind_test_but_two(rows):
    simple = [row for row in rows if row["split"] == "TEST_SIMPLE"]
    behind = {row["photograph"] for row in rows if row["split"] == "TEST"}
    assert {row["photograph"] for row in simple} < behind
    assert len({row["photograph"] for row in simple}) == len({row["crc32"] for row in simple}) == len(behind) - 2
    assert all(row["mirrored"] == "0" and abs(float(row["rotation"])) < 1 for row in simple)


def test_photographs_of_a_class_were_copied_equally_often(rows):
    copies = Counter((row["split"], row["class"], row["photograph"]) for row in rows if row["split"] != "TEST_SIMPLE")
    for split, label in {key[:2] for key in copies}:
        counts = [n for key, n in copies.items() if key[:2] == (split, label)]
        assert max(counts) - min(counts) <= 5, "an image was taken for a copy of a photograph that only looks alike"


def test_same_cell_agrees_with_the_provenance(rows):
    behind = {row["photograph"]: (side(row["split"]), row["class"]) for row in rows}
    pairs = table(DATA / "same_cell.csv")
    assert {pair["judgement"] for pair in pairs} == {"same cell", "same field, cell in part", "same field, other cell"}
    assert len({frozenset((pair["photograph_a"], pair["photograph_b"])) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair["photograph_a"] < pair["photograph_b"]
        for which in "ab":
            of, label = behind.get(pair[f"photograph_{which}"], ("", pair[f"class_{which}"]))
            assert (pair[f"side_{which}"], pair[f"class_{which}"]) == (of, label)


def test_the_table_is_that_of_the_archive(archive, rows):
    with zipfile.ZipFile(archive) as file:
        crcs = {tuple(info.filename.split("/")[-3:]): f"{info.CRC:08x}" for info in file.infolist()}
        photographs = {PurePosixPath(name).stem for name in file.namelist() if "/JPEGImages/" in name}
    assert all(crcs[key(row)] == row["crc32"] for row in rows)
    pairs = table(DATA / "same_cell.csv")
    assert {row["photograph"] for row in rows if row["rotation"]} <= photographs
    assert {pair[f"photograph_{which}"] for pair in pairs for which in "ab"} <= photographs


@needs_opencv
def test_images_of_the_archive_are_recovered_again(archive, rows):
    drawn = {key(rows[k]): rows[k] for k in np.random.default_rng(0).choice(len(rows), 60, replace=False)}
    again = dicts(make_provenance.recover(archive, lambda e: (e.split, e.label, PurePosixPath(e.path).name) in drawn))
    assert len(again) == 60
    for row in again:
        kept = drawn[key(row)]
        assert all(str(row[name]) == kept[name] for name in ("photograph", "mirrored", "crc32"))
        for name, within in (("rotation", 0.2), ("shear", 0.02), ("confidence", 0.01)):  # another OpenCV, other digits
            assert not kept["photograph"] or float(row[name]) == pytest.approx(float(kept[name]), abs=within)


@needs_opencv
def test_a_copy_has_its_cell_where_its_photograph_has_it(archive, rows):
    source, away = sources.open_source(archive), []
    of_train = [row for row in rows if row["split"] == "TRAIN" and row["rotation"]]
    for row in of_train[::200]:
        where, name = f"dataset2-master/dataset2-master/images/{'/'.join(key(row))}", row["photograph"]
        other = source.find(f"{name}.jpg")
        grey, behind = provenance.grey(source, where), provenance.grey(source, other)
        photograph = provenance.Photograph(name, behind, provenance.features(behind, mirror=True))
        (y, x), centre = images.cell_centre(source.image(where)), images.cell_centre(source.image(other))
        there = provenance.fit(grey, provenance.features(grey), photograph).matrix @ [x, y, 1]
        away.append(np.hypot(*(there - np.array(centre[::-1]) / 2)))  # photographs are twice as large
    assert len(away) == 50 and np.median(away) < 4 and np.mean(np.array(away) > 20) <= 0.04
