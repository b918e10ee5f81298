"""Layouts: every file of a set is an image of a part and class, or it is named as not used."""

import os
import re
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import make_set
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bloodcell_lib import dataset, images, layouts, sources
from bloodcell_lib.dataset import DatasetError


def tree(root: Path, *paths: str) -> Path:
    """Write files: images, each another one, or any text, as their endings say."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.lower().endswith(layouts.ENDINGS):
            (root / path).write_bytes(b"P6 1 1 255\n" + path.encode()[-3:] + path.encode())
        else:
            (root / path).write_text("text")
    return root


def found(root: Path) -> dict[str, tuple[str, str, str]]:
    return {e.path: (e.split, e.label, e.group) for e in layouts.entries(sources.open_source(root))[0]}


@pytest.mark.parametrize("part", ["val", "valid", "Validation", "VALID", "val_data"])
@pytest.mark.parametrize("others", [("train", "test"), ("Training", "TESTING"), ("train_set", "test_set/test_set")])
def test_a_validation_part_is_used_as_it_is(tmp_path, part, others):
    data = dataset.load(make_set(tmp_path / "set", (others[0], part, others[1]), ("Baso", "neut"), each=7), (24, 32))
    assert data.sizes == {"train": 14, "validation": 14, "test": 14}
    assert all(f"/{part}/" in f"/{path}" for path in data.validation.paths)
    assert "The set has a validation part of its own, which is used as it is." in data.notes


def test_images_below_their_class_are_of_it(tmp_path):
    paths = [f"{part}/{label}/{n}.jpg" for part in ("TRAIN", "TEST") for label in "ab" for n in ("1", "slide2/1")]
    assert found(tree(tmp_path, *paths)) == {path: (*path.split("/")[:2], "") for path in paths}


@pytest.mark.parametrize("top", ["", "set/inner/"])
@pytest.mark.parametrize(
    ("groups", "classes"),
    [
        (("fold_0", "fold_1", "fold_2"), ("all", "hem")),
        (("Patient_14/Signed slides", "Patient_20/Signed slides"), ("Myelocyte", "Band")),
        (("2018", "2019"), ("basophil", "ig")),
        (("8863", "8864", "8865"), ("0", "1")),
        (("north", "south"), ("eosinophil", "blast")),
        (("train/patient_1", "train/patient_2", "test/patient_3"), ("x", "y")),
    ],
)
def test_folders_above_the_classes_are_groups(tmp_path, groups, classes, top):
    paths = {f"{top}{group}/{label}/{n}.png": (group, label) for group in groups for label in classes for n in range(2)}
    for path, (part, label, group) in found(tree(tmp_path, *paths)).items():
        above, name = paths[path]
        assert label == layouts.label_of(name) and part == layouts.part_of(above.split("/")[0])
        assert group == above.removesuffix("/Signed slides").split("/")[-1]


@pytest.mark.parametrize("groups", [("NPM1/AAJ", "NPM1/ABC", "PML/XYZ"), ("a/slide_1", "a/slide_2", "b/slide_1")])
def test_folders_below_the_classes_are_no_groups(tmp_path, groups):
    if groups[0].startswith("NPM1"):
        groups = [*groups, "PML/1.png"]
    paths = [group if group.endswith("png") else f"{group}/1.png" for group in groups]
    assert {names[1:] for names in found(tree(tmp_path, *paths)).values()} == {(g.split("/")[0], "") for g in groups}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["north/x/1.jpg", "north/y/1.jpg", "south/x/1.jpg"], "the classes may be north, south, or x, y below them"),
        (
            ["LISC/Baso/1.jpg", "LISC/neut/1.jpg", "other/all/1.jpg"],
            "the classes may be LISC, other, or Baso, all, neut",
        ),
        (["one/TRAIN/a/1.jpg", "two/TRAIN/b/1.jpg"], "two places, one/TRAIN and two/TRAIN"),
        (["Train/a/1.jpg", "training/b/1.jpg", "test/a/1.jpg"], "two places, Train and training"),
        (["Neutrophil/1.jpg", "neutrophil/2.jpg", "a/1.jpg"], "two places, Neutrophil and neutrophil"),
        (["fold_0/All/1.jpg", "fold_1/all/1.jpg", "fold_1/hem/1.jpg"], "All, all differ only in case"),
        (["TRAIN/1.jpg", "TEST/2.jpg"], "no image found in a class folder.*images outside of a class folder .2."),
        (["val/a/1.jpg", "val/b/1.jpg"], "TRAIN has no images of class a, b"),
        (["a/1.heic", "b/1.heic", "x.csv"], r"\.heic files .2., such as a/1\.heic; \.csv files .1., such as x\.csv"),
    ],
)
def test_what_has_no_one_meaning_is_refused(tmp_path, paths, message):
    with pytest.raises(DatasetError, match=message):
        found(tree(tmp_path, *paths))


def test_an_empty_class_is_refused_and_a_folder_without_images_is_not(tmp_path):
    root = tree(tmp_path, "a/1.jpg", "b/1.jpg", "annotations/1.xml", "text/readme.txt")
    assert len(found(root)) == 2
    (root / "masks").mkdir()
    assert len(found(root)) == 2
    (root / "c").mkdir()
    (root / "c/.DS_Store").touch()
    with pytest.raises(DatasetError, match="the folder has no images of class c: c is empty"):
        found(root)


def test_what_is_not_used_is_told_by_kind(tmp_path):
    root = tree(
        tmp_path, "TRAIN/a/1.jpg", "TRAIN/b/1.jpg", "TEST/a/1.jpg", "TEST/b/1.JFIF", "TEST/b/2.heic", "TEST/b/3.heic",
        "pool/a/9.jpg", "TRAIN/overview.png", "TEST/a/.2.jpg", "masks/a/1.png", "notes", "TRAIN/b/x.txt",
    )  # fmt: skip
    taken, unused = layouts.entries(sources.open_source(root))
    assert sorted(entry.path for entry in taken) == ["TEST/a/1.jpg", "TEST/b/1.JFIF", "TRAIN/a/1.jpg", "TRAIN/b/1.jpg"]
    assert layouts.told(unused) == (
        ".heic files (2), such as TEST/b/2.heic; images outside of a class folder (2), such as TRAIN/overview.png; "
        ".txt files (1), such as TRAIN/b/x.txt; files without an ending (1), such as notes; "
        "hidden files (1), such as TEST/a/.2.jpg; images in folders masks (1), such as masks/a/1.png"
    )


def test_a_copy_of_the_classes_beside_them_is_not_used(tmp_path):
    root = tree(tmp_path, "a/1.jpg", "b/1.jpg", "scaled/a/1.jpg", "scaled/b/1.jpg")
    assert len(found(root)) == 2
    assert layouts.entries(sources.open_source(root))[1].keys() == {"images in folders that repeat the classes"}


def linked(root: Path) -> Path:
    for part in ("train", "test"):
        for label in ("a", "b"):
            tree(root, *(f"pool/{label}_{part}/{n}.jpg" for n in range(3)))
            (root / part).mkdir(exist_ok=True)
            (root / part / label).symlink_to(f"../pool/{label}_{part}")
    return root


@pytest.mark.parametrize("backwards", [False, True])
def test_linked_folders_give_the_same_set_in_any_order(tmp_path, monkeypatch, backwards):
    walk = os.walk

    def ordered(top, **options):
        for folder, names, files in walk(top, **options):
            names.sort(reverse=backwards)
            files.sort(reverse=backwards)
            yield folder, names, files

    monkeypatch.setattr(os, "walk", ordered)
    root = linked(tmp_path)
    (root / "train/a/above").symlink_to(root)
    assert Counter(names[:2] for names in found(root).values()) == {
        (part, label): 3 for part in ("TRAIN", "TEST") for label in "ab"
    }


# Tables and array files


def table(root: Path, *lines: str, name: str = "cells.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")
    return root / name


@pytest.mark.parametrize("comma", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["path,label,group,split", "Filename,Class,Patient,Part"])
def test_a_table_names_the_images(tmp_path, head, comma):
    tree(tmp_path, "x/1.jpg", "x/2.jpg", "y 3.png", "unlisted.jpg")
    rows = [head, "x/1.jpg,blast,p1,train", "x\\2.jpg,Neutrophil,p1,train", "y 3.png,blast,,Test"]
    place = table(tmp_path, *(row.replace(",", comma) for row in rows))
    assert found(place) == {
        "x/1.jpg": ("TRAIN", "blast", "p1"),
        "x/2.jpg": ("TRAIN", "NEUTROPHIL", "p1"),
        "y 3.png": ("TEST", "blast", ""),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["name,kind", "1.jpg,a"], "has the columns name,kind. Expected a table with the columns path,label"),
        (["path,label", "1.jpg,", "", ",a"], r"cells\.csv: line 2, 4 has no path or no label"),
        (["path,label", "1.jpg,a", "", "1.jpg,b"], r"cells\.csv: names 1\.jpg more than once"),
        (["path,label", "1.jpg,a", "gone.jpg,b", "lost.jpg,b"], r"gone\.jpg, lost\.jpg: not there"),
        (["path,label,split", "1.jpg,a,train", "2.jpg,b,holdout"], "the split holdout is unknown"),
        (["path,label,split", "1.jpg,a,train", "2.jpg,b,"], "some images have a split and some have none"),
        (["path,label", '"1.jpg,a'], "cannot be read"),
        ([], "has the columns none"),
        (["path,label", "1.jpg"], "line 2 has no path or no label"),
        (["path,label,class", "1.jpg,a,b"], "has the columns path,label,label"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path, rows, message):
    tree(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(DatasetError, match=message):
        found(table(tmp_path, *rows))


def medmnist(path: Path, side: int = 28, each: int = 3, classes: int = 8, **changed) -> Path:
    rng, arrays = np.random.default_rng(0), {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 255, (each * classes, side, side, 3), np.uint8)
        arrays[f"{part}_labels"] = np.repeat(np.arange(classes, dtype=np.uint8), each)[:, None]
    np.savez(path, **{name: values for name, values in (arrays | changed).items() if values is not None})
    return path


def test_an_array_file_is_a_set_with_its_own_parts(tmp_path):
    path = medmnist(tmp_path / "bloodmnist.npz", each=2, classes=11)
    data, held = dataset.load(path, (28, 28)), np.load(path)
    assert data.classes == tuple(map(str, range(11))) and data.name == "bloodmnist"
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        given, number = getattr(data, part), held[f"{name}_labels"].ravel()
        rows = [int(image.split("/")[1][:6]) for image in given.paths]
        assert sorted(rows) == list(range(22)) and np.array_equal(given.labels, number[rows])
        assert np.array_equal(given.images, held[f"{name}_images"][rows])


def test_a_part_of_an_array_file_is_unpacked_once_whatever_the_threads(tmp_path, monkeypatch):
    path, unpacked, get = medmnist(tmp_path / "bloodmnist.npz"), Counter(), np.lib.npyio.NpzFile.__getitem__

    def slow(file, name):
        unpacked[name] += 1
        time.sleep(0.05)
        return get(file, name)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", slow)
    source = sources.open_source(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(source.read, sorted(source.files)))
    assert len(unpacked) == 6 and set(unpacked.values()) == {1}  # images and labels of three parts


@pytest.mark.parametrize(
    "changed",
    [
        {"train_images": np.zeros((3, 4, 4, 3))},
        {"train_labels": np.zeros((5, 1), int)},
        {"train_labels": np.zeros((24, 2), int)},
        {"test_labels": None},
    ],
)
def test_other_arrays_are_refused_in_words_that_help(tmp_path, changed):
    with pytest.raises(DatasetError, match=r"other\.npz.*MedMNIST"):
        found(medmnist(tmp_path / "other.npz", **changed))
    np.savez(tmp_path / "any.npz", x=np.zeros(3))
    with pytest.raises(DatasetError, match=r"this \.npz has x\. Expected MedMNIST's arrays"):
        found(tmp_path / "any.npz")


# What the dataset card says


CARD = re.split(r"^## ", (Path(__file__).parents[1] / "data/README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
GROUPS = [f"patient_{n}/{label}" for n in (1, 2) for label in "ab"]
LAYOUTS = {
    "`CLASS/*`": ("a", "b"),
    "`TRAIN/CLASS/*` `TEST/CLASS/*`": ("x/Training/a", "x/Training/b", "x/test_data/a", "x/test_data/b"),
    "`train/CLASS/*` `val/CLASS/*` `test/CLASS/*`": [
        f"{p}/{label}" for p in ("train", "val", "test") for label in "ab"
    ],
    "`CLASS/TRAIN/*` `CLASS/TEST/*`": ("a/TRAIN", "a/TEST", "b/TRAIN", "b/TEST"),
    "`patient_1/CLASS/*` `patient_2/CLASS/*`": GROUPS,
    "`CLASS/slide_1/*` `CLASS/slide_2/*`": ("a/slide_1", "a/slide_2", "b/slide_1", "b/slide_3/x"),
}


def test_the_card_says_what_is_read(tmp_path):
    rows = dict(
        line.strip("| ").split(" | ", 1) for line in CARD[1].splitlines() if re.match(r"\| (`|at|endings)", line)
    )
    assert re.findall(r"`(.+?)`", rows.pop("endings")) == list(layouts.ENDINGS)
    assert rows.pop("at most") == f"{images.MAX_PIXELS // 10**6} megapixels and {sources.MAX_BYTES // 2**20} MiB a file"
    table_row, arrays_row = list(rows)[-2:]
    assert list(rows)[:-2] == list(LAYOUTS)
    for number, (row, folders) in enumerate(LAYOUTS.items()):
        names = found(tree(tmp_path / str(number), *(f"{folder}/{n}.jpg" for folder in folders for n in "12")))
        assert len(names) == 2 * len(folders) and {label for _, label, _ in names.values()} == {"a", "b"}
        assert ({part for part, *_ in names.values()} == {""}) == (
            "/TRAIN" not in row.upper() and "TRAIN/" not in row.upper()
        )
        assert {group for *_, group in names.values()} == ({"patient_1", "patient_2"} if "patient" in row else {""})
    tree(tmp_path, "1.jpg", "2.jpg")
    head = re.findall(r"`([\w,]+)`", table_row)[-1]
    given = table(tmp_path, head, "1.jpg,a,g,train", "2.jpg,b,g,test")
    with pytest.raises(DatasetError, match="TRAIN has no images of class b"):
        found(given)
    assert set(head.split(",")) == set(sources.COLUMNS.values())
    assert set(re.findall(r"`(\w+_)", arrays_row + rows[arrays_row])) <= {"train_", "val_", "test_"}


# Any tree


NAMES = st.sampled_from(["a", "Blast", "neutrophil", "x y", "ü", "masks", "fold_1", "fold_2", "train", "Val", "test"])
FOLDERS = st.lists(NAMES, max_size=4).map("/".join)
FILES = st.sampled_from(["1.jpg", "2.PNG", "3.webp", "4.jfif", ".5.jpg", "6.heic", "7", "notes.txt", "provenance.txt"])
PATHS = st.tuples(FOLDERS, FILES).map(lambda pair: "/".join(filter(None, pair)))


@st.composite
def sound(draw) -> dict[str, tuple[str, str, str]]:
    """A tree that can be understood: path to part, class and group."""
    top = draw(st.sampled_from(["", "set/", "x y/inner/"]))
    parts = draw(st.sampled_from([("",), ("train", "test"), ("Training", "VALID", "TEST")]))
    groups = draw(st.sampled_from([("",), ("fold_1", "fold_2", "fold_3"), ("2018", "2019")]))
    classes = draw(st.lists(st.sampled_from(["a", "Blast", "neutrophil", "ü b", "ig"]), min_size=2, unique=True))
    below = draw(st.sampled_from([("",), ("", "slide_1"), ("", "x", "y/z")]))
    files = draw(st.sets(st.sampled_from(["1.jpg", "2.PNG", "3.webp", "4.jfif", "ü.tif"]), min_size=1))
    return {
        top + "/".join(filter(None, place)): (layouts.part_of(place[0]), layouts.label_of(place[2]), place[1])
        for place in product(parts, groups, classes, below, sorted(files))
    }


@settings(max_examples=60, deadline=None)
@given(expected=sound())
def test_any_sound_tree_is_understood(tmp_path_factory, expected):
    assert found(tree(tmp_path_factory.mktemp("any"), *expected)) == expected


TREES = st.one_of(
    st.lists(PATHS, min_size=2, max_size=30),
    st.tuples(sound(), st.lists(PATHS, max_size=6)).map(lambda t: [*t[0], *t[1]]),
)


@settings(max_examples=150, deadline=None)
@given(paths=TREES.map(lambda paths: sorted(set(paths))), order=st.randoms(use_true_random=False))
def test_any_tree_is_read_whole_or_refused(tmp_path_factory, paths, order):
    assume(not any(f"{path}/" in other for path in paths for other in paths))  # "7" as a file and a folder
    root = tree(tmp_path_factory.mktemp("any") / "set", *paths)
    shuffled, walk = paths[:], os.walk
    order.shuffle(shuffled)
    packed = root.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as file:
        for path in shuffled:
            file.write(root / path, path)

    def any_order(top, **options):
        for folder, names, files in walk(top, **options):
            order.shuffle(names)
            order.shuffle(files)
            yield folder, names, files

    said = []
    for place, way in ((root, walk), (root, any_order), (packed, walk)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "walk", way)
            try:
                index = dataset.describe(place)
            except DatasetError as error:
                said.append(str(error).replace(str(place), "SET"))
                continue
        taken = [entry.path for entry in index.entries]
        assert sorted([*taken, *(path for paths in index.unused.values() for path in paths)]) == paths
        assert len({entry.key for entry in index.entries}) == len(taken)
        for entry in index.entries:
            folders = [layouts.label_of(name) for name in entry.path.split("/")[:-1]]
            assert entry.label in folders and entry.key.endswith(f"/{entry.path.split('/')[-1]}")
            assert set(filter(None, entry.group.split("/"))) <= {*folders}
            assert entry.split in {"", *map(layouts.part_of, folders)}
        said.append([index.fingerprint, index.unused, index.photos])
    assert said[0] == said[1] == said[2]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(FOLDERS, FILES, st.sampled_from(["a", "b", "NEUTROPHIL", "1"]), st.sampled_from("xy ")),
                  min_size=2, max_size=12, unique_by=lambda row: row[:2]),
)  # fmt: skip
def test_any_table_is_read_whole(tmp_path_factory, rows):
    assume(len({label for *_, label, _ in rows}) > 1)
    root = tmp_path_factory.mktemp("any")
    paths = ["/".join(filter(None, row[:2])) for row in rows]
    tree(root, *paths)
    place = table(
        root, "path,label,group", *(f"{path},{row[2]},{row[3]}" for path, row in zip(paths, rows, strict=True))
    )
    expected = {path: ("", row[2], row[3].strip()) for path, row in zip(paths, rows, strict=True)}
    assert found(place) == expected
