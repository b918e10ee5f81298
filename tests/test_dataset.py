"""The dataset: what it reads, how it decodes, how it splits, and what it refuses."""

import errno
import hashlib
import inspect
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_set, picture, zipped
from PIL import Image

from bloodcell_lib import cards, codebase, dataset, files, images, sources
from bloodcell_lib.dataset import CLASSES, DatasetError

SIZE = (24, 32)


def load(data, split="image", seed=0, limit=None, size=SIZE, frame="slide"):
    return dataset.load(data, size, split, seed, limit, frame)


def same(a: dataset.Dataset, b: dataset.Dataset) -> bool:
    return all(
        np.array_equal(getattr(getattr(a, part), what), getattr(getattr(b, part), what))
        for part in ("train", "validation", "test")
        for what in ("images", "labels", "photos")
    )


def python(code: str, *arguments: str, **options) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


# Reading


@pytest.mark.parametrize("inside", ["", "images", "dataset2-master/dataset2-master/images"])
def test_any_depth_folder_or_zip_is_one_set(tmp_path, inside):
    plain = load(make_set(tmp_path / "plain"))
    make_set(tmp_path / "deep" / inside)
    (tmp_path / "deep/__MACOSX/TRAIN/MONOCYTE").mkdir(parents=True)
    (tmp_path / "deep/__MACOSX/TRAIN/MONOCYTE/._cell 0.jpg").write_bytes(b"resource fork")
    deep, packed = load(tmp_path / "deep"), load(zipped(tmp_path / "deep", tmp_path / "set.zip"))
    assert plain.fingerprint == deep.fingerprint == packed.fingerprint
    assert same(plain, deep) and same(plain, packed)
    assert plain.sizes == {"train": 32, "validation": 8, "test": 40}
    assert (tmp_path / "deep" / deep.test.paths[0]).is_file()


def test_the_fingerprint_follows_the_content(tmp_path):
    before = load(make_set(tmp_path / "set")).fingerprint
    picture(99).save(tmp_path / "set/TEST/MONOCYTE/cell 0.jpg")
    assert load(tmp_path / "set").fingerprint != before


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "bmp"])
def test_a_folder_of_ones_own(tmp_path, suffix):
    folder = make_set(tmp_path / "mine", splits=("",), classes=("blast", "band"), suffix=suffix)
    found = load(folder)
    assert found.classes == ("band", "blast") and found.name == "mine"
    assert found.sizes == {"train": 12, "validation": 4, "test": 4}
    assert np.array_equal(found.test.photos, load(folder, seed=5).test.photos)
    assert not np.array_equal(found.validation.photos, load(folder, seed=5).validation.photos)


def test_classes_keep_their_order_whatever_the_case(tmp_path):
    classes = ("neutrophil", "Basophil", "Monocyte", "eosinophil", "lymphocyte")
    found = load(make_set(tmp_path / "mine", classes=classes))
    assert found.classes == (*dataset.CLASSES, "Basophil")


def test_where_data_none_looks(tmp_path, own_folder, monkeypatch, capsys):
    (tmp_path / "work/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setattr(cards.files, "shipped", lambda what: tmp_path / "elsewhere")
    drawn = dataset.locate()
    assert dataset.describe(drawn).card is cards.SAMPLE and capsys.readouterr().out.count("\n") == 1
    (tmp_path / "work/data/archive.zip").touch()
    assert dataset.locate() == tmp_path / "work/data/archive.zip"
    monkeypatch.setenv("BLOODCELL_DATA", str(own_folder))
    assert dataset.locate() == own_folder and capsys.readouterr().out == ""


def test_kaggle_offline(tmp_path, monkeypatch):
    import kagglehub

    def offline(handle):
        assert handle.endswith("/versions/6")
        raise ConnectionError("no route to host")

    monkeypatch.setattr(kagglehub, "dataset_download", offline)
    with pytest.raises(DatasetError, match="kaggle.*no route to host.*by hand"):
        load("kaggle")


def test_a_copy_in_the_cache_of_kaggle_needs_no_network(tmp_path):
    copy = make_set(tmp_path / "datasets/paultimothymooney/blood-cells/versions/6")
    (tmp_path / "datasets/paultimothymooney/blood-cells/6.complete").touch()
    code = "from bloodcell_lib import dataset; print(dataset.locate('kaggle'))"
    os.environ["KAGGLEHUB_CACHE"] = str(tmp_path)
    try:
        said, complaint = python(code).communicate(timeout=60)
    finally:
        del os.environ["KAGGLEHUB_CACHE"]
    assert said.strip() == str(copy), complaint


# Decoding


def test_a_reduced_image_is_close_to_the_exact_mean_of_its_pixels(tmp_path):
    image = picture(1, (320, 240))
    image.save(tmp_path / "a.jpg", quality=95)
    found = images.read((tmp_path / "a.jpg").read_bytes(), "a.jpg", (60, 80)).astype(int)
    exact = np.asarray(image.resize((80, 60), Image.Resampling.BOX)).astype(int)
    assert found.shape == (60, 80, 3) and abs(found - exact).mean() < 2


def encoded(mode: str, suffix: str, **options) -> bytes:
    options |= {"lossless": True} if suffix == "WEBP" else {}
    ramp = np.linspace(0, 255, 32 * 24).reshape(24, 32)
    image = (
        Image.fromarray((ramp * 257).astype(np.uint16))
        if mode == "I;16"
        else Image.fromarray(ramp.astype(np.uint8)).convert("RGB").convert(mode, palette=Image.Palette.ADAPTIVE)
    )
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "PNG"),
        ("L", "JPEG"),
        ("I;16", "PNG"),
        ("I;16", "TIFF"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("L", "GIF"),
        ("P", "GIF"),
        ("RGB", "PPM"),
        ("L", "PPM"),
        ("RGB", "WEBP"),
        ("RGB", "MPO"),
    ],
)
def test_what_has_one_correct_conversion_is_converted(mode, suffix):
    found = images.read(encoded(mode, suffix), "a", SIZE).astype(int)
    assert abs(found - np.linspace(0, 255, 32 * 24).reshape(24, 32, 1)).max() <= 3


def test_a_turned_camera_is_set_upright():
    image = picture(1, (24, 32))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 6  # turn by 270 degrees to see it upright
    image.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    assert np.array_equal(images.read(file.getvalue(), "a", (32, 24)), np.asarray(image))


def test_a_turned_photograph_keeps_its_resolution():
    sharp = np.kron(np.indices((60, 80)).sum(0) % 2, np.ones((4, 4)))[..., None].repeat(3, 2).astype(np.uint8) * 255
    exif = Image.Exif()
    exif[0x112] = 6
    file = io.BytesIO()
    Image.fromarray(sharp).save(file, "JPEG", quality=95, exif=exif)
    found = images.read(file.getvalue(), "a", (80, 60)).astype(int)
    assert found.std() > 100  # a checkerboard drafted to the wrong side would be gray


# The frame


def smear(y: float, x: float, size: tuple[int, int] = (240, 320), colour=(110, 60, 170)) -> np.ndarray:
    """A round nucleus among red cells, on a pale ground with a black corner."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    pixels = np.full((*size, 3), (225, 225, 220), np.uint8)
    for place in range(12):
        red_y, red_x = (0.13 + 0.25 * (place % 4)) * size[0], (0.1 + 0.4 * (place // 4)) * size[1]
        pixels[np.hypot(rows - red_y, columns - red_x) < 0.09 * size[0]] = 190, 140, 150
    pixels[np.hypot(rows - y, columns - x) < size[0] / 8] = colour
    pixels[rows / size[0] + columns / size[1] < 0.2] = 0
    return pixels


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (241, 317), (60, 80), (400, 300)])
@pytest.mark.parametrize(("y", "x"), [(0.5, 0.5), (0.3, 0.7), (0.86, 0.15), (0.12, 0.9), (0.6, 0.97)])
def test_the_cell_is_found_by_its_stain(size, y, x):
    y, x = y * size[0], x * size[1]
    found = images.cell_centre(smear(y, x, size))
    assert np.hypot(found[0] - y, found[1] - x) < size[0] / 24  # of what is left of a cell that the border cuts


@pytest.mark.parametrize("size", [(75, 100), (100, 100), (120, 160), (200, 40), (16, 299)])
@pytest.mark.parametrize(("y", "x"), [(120, 160), (10, 5), (235, 315), (100, 319)])
def test_a_window_has_the_shape_of_the_image_size_and_lies_inside(size, y, x):
    left, top, right, bottom = images.window(smear(y, x), size)
    assert 0 <= left < right <= 320 and 0 <= top < bottom <= 240
    assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0])
    assert bottom - top == pytest.approx(130) or right - left == pytest.approx(320)
    assert left <= x <= right and (top <= y <= bottom or bottom - top < 20)


def test_the_frame_is_cut_and_scaled():
    pixels = smear(84, 207)
    left, top, right, bottom = images.window(pixels, (65, 65))
    assert (left + right) / 2 == pytest.approx(207, abs=4) and (top + bottom) / 2 == pytest.approx(84, abs=4)
    found = images.read(png(pixels), "a", (65, 65), None, "cell").astype(int)
    exact = Image.fromarray(pixels).crop([round(side) for side in (left, top, right, bottom)]).reduce(2)
    assert found.shape == (65, 65, 3) and abs(found - np.asarray(exact)).mean() < 4
    assert abs(images.read(png(pixels), "a", (65, 65)) - np.asarray(exact, int)).mean() > 15  # the whole image


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1), (5, 400), (400, 5), (1, 20_000), (20_000, 1), (3000, 4000)])
@pytest.mark.parametrize("wanted", [(16, 16), (75, 100), (100, 20)])
def test_an_image_without_stain_is_cut_in_its_middle(size, wanted):
    gray = np.full((*size, 3), 90, np.uint8)
    assert images.cell_centre(gray) == pytest.approx((size[0] / 2, size[1] / 2))
    left, top, right, bottom = images.window(gray, wanted)
    assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    assert (images.read(png(gray[..., 0]), "a", wanted, None, "cell") == np.full((*wanted, 3), 90)).all()


def test_a_window_without_a_size_is_refused():
    with pytest.raises(DatasetError, match="smear.png: no window .* without a size"):
        images.read(png(smear(9, 9)), "smear.png", frame="cell")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 900), (900, 7)])
def test_any_colour_and_shape_can_be_cut(size):
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        y, x = images.cell_centre(noise)
        assert 0 <= y <= size[0] and 0 <= x <= size[1]
        assert images.read(png(noise), "a", (20, 24), None, "cell").shape == (20, 24, 3)


def test_zip_and_folder_are_cut_alike_and_apart_from_the_whole_images(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    own = make_set(tmp_path / "own", suffix="png")
    for place, path in enumerate(sorted(own.rglob("*.png"))):
        Image.fromarray(smear(8 + place % 20, 40 - place / 3, (48, 64))).save(path)
    whole, cut = load(own), load(own, frame="cell")
    assert (whole.frame, cut.frame) == ("slide", "cell") and whole.fingerprint == cut.fingerprint
    assert np.array_equal(whole.train.paths, cut.train.paths) and cut.train.images.shape == whole.train.images.shape
    assert not same(whole, cut)
    kept = sorted(file.name for file in (tmp_path / "cache").glob("*.npy"))
    name = f"{whole.fingerprint}-24x32"
    assert kept == [f"{name}-cell-v{images.DECODER}.npy", f"{name}-v{images.DECODER}.npy"]
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "another"))
    assert same(cut, load(zipped(own, tmp_path / "own.zip"), frame="cell"))
    assert same(whole, load(own, frame="slide"))


def transparent() -> bytes:
    image = Image.new("P", (8, 8))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


def large() -> bytes:
    file = io.BytesIO()
    Image.new("1", (8000, 6251)).save(file, "PNG")
    return file.getvalue()


def pages() -> bytes:
    file = io.BytesIO()
    picture(0).save(file, "TIFF", save_all=True, append_images=[picture(1)])
    return file.getvalue()


def png16(brightest: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, brightest, 24 * 32).astype(np.uint16).reshape(24, 32)).save(file, "PNG")
    return file.getvalue()


BAD = {
    "empty": (b"", "empty"),
    "text": (b"not an image", "not an image"),
    "ico": (encoded("L", "ICO"), "not an image"),
    "12 bits": (png16(4095), "16 bits are used up to 16,384 of 65,535"),
    "14 bits": (png16(16383), "16 bits are used up to 16,384 of 65,535"),
    "truncated": (encoded("RGB", "JPEG")[:-60], "truncated"),
    "cmyk": (encoded("CMYK", "JPEG"), "CMYK"),
    "float": (encoded("F", "TIFF"), "mode F"),
    "transparent": (transparent(), "transparent"),
    "large": (large(), "50 megapixels"),
    "pages": (pages(), "2 pages"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_bad_image_is_named_and_nothing_is_kept(tmp_path, own_folder, monkeypatch, data, message, packed):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    (own_folder / "TRAIN/MONOCYTE/cell 3.jpg").write_bytes(data)
    where = zipped(own_folder, tmp_path / "own.zip") if packed else own_folder
    with pytest.raises(DatasetError, match=message) as caught:
        load(where)
    assert f"{where}/TRAIN/MONOCYTE/cell 3.jpg" in str(caught.value)
    assert {file.name for file in (tmp_path / "cache").iterdir()} <= {files.LOCKS}


@pytest.mark.parametrize(("bad", "told"), [(3, "3 images"), (12, "12 images .* and 2 more")])
def test_all_bad_images_are_named_at_once(tmp_path, bad, told):
    folder = make_set(tmp_path / "set", each=15)
    for i in range(bad):
        (folder / f"TEST/MONOCYTE/cell {i}.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"{told}.*bloodcell data --check --data {folder}") as caught:
        load(folder)
    first = sorted(f"TEST/MONOCYTE/cell {i}.jpg" for i in range(bad))[:10]
    assert f"is empty. Restore or remove it. In all, {told.split()[0]} images" in str(caught.value)
    assert ", ".join(first) in str(caught.value)
    assert len(dataset.check(dataset.describe(folder))) == bad


def test_of_a_picture_of_several_the_first_is_read():
    first, second, file = picture(1, (64, 48)), picture(2), io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    found = images.read(file.getvalue(), "IMG_1.JPG", (48, 64)).astype(int)
    assert abs(found - np.asarray(first, int)).mean() < 6
    assert images.read(file.getvalue(), "IMG_1.JPG", (24, 32)).shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_sixteen_bits_per_colour_that_are_not_used_are_refused(suffix):
    import cv2

    for brightest, fits in ((65535, True), (4095, False)):
        ramp = np.linspace(0, brightest, 24 * 32 * 3).astype(np.uint16).reshape(24, 32, 3)
        data = cv2.imencode(f".{suffix.lower()}", ramp)[1].tobytes()
        if fits:
            assert images.read(data, "a").max() == 255
        else:
            with pytest.raises(DatasetError, match="a: its 16 bits"):
                images.read(data, "a")


# The cache


def test_decoded_once(own_folder, monkeypatch):
    first = load(own_folder)
    monkeypatch.setattr(images, "read", None)
    assert same(first, load(own_folder))
    with pytest.raises(TypeError):
        load(own_folder, size=(12, 16))  # another size is another array


def test_another_decoder_decodes_again(own_folder, monkeypatch):
    load(own_folder, size=(13, 17))
    monkeypatch.setattr(images, "DECODER", images.DECODER + 1)
    monkeypatch.setattr(images, "read", lambda data, where, size, *_: np.full((*size, 3), 7, np.uint8))
    assert (load(own_folder, size=(13, 17)).train.images == 7).all()


def test_a_full_disk_leaves_nothing(own_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DatasetError, match="No space left.*BLOODCELL_CACHE"):
            load(own_folder)
    assert {file.name for file in (tmp_path / "cache").iterdir()} <= {files.LOCKS}
    assert len(load(own_folder).train) == 32


SLOW = """
import sys, time
from bloodcell_lib import dataset, images
read = images.read
def slow(*a):
    print("decoding", flush=True); time.sleep(0.02); return read(*a)
images.read = slow
found = dataset.load(sys.argv[1], (24, 32))
print("sum", int(found.train.images.sum()))
"""


def test_a_kill_in_the_middle_leaves_no_half_cache(own_folder, tmp_path, monkeypatch):
    expected = load(own_folder)
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    child = python(SLOW, str(own_folder))
    child.stdout.readline()
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    left = [*(tmp_path / "cache").glob("*.npy")]
    assert len(left) == 1, "the killed run was to leave the file that it was writing"
    assert same(expected, load(own_folder))
    whole = [*(tmp_path / "cache").glob("*.npy")]
    assert len(whole) == 1 and whole != left


def test_two_processes_at_once(own_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    said = [child.communicate(timeout=120)[0].splitlines() for child in [python(SLOW, str(own_folder)) for _ in "ab"]]
    assert said[0][-1] == said[1][-1] == f"sum {int(load(own_folder).train.images.sum())}"
    assert sum("decoding" in lines for lines in said) == 1  # the other waited


def test_a_cache_folder_that_cannot_be_made(own_folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(DatasetError, match="BLOODCELL_CACHE"):
        load(own_folder)


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:1000],
        lambda whole: whole[:3],
        lambda whole: b"",
        lambda whole: whole[:200] + bytes(len(whole) - 200),
        lambda whole: bytes(len(whole)),
        lambda whole: flipped(whole, 8 * 500 + 3),
        *(lambda whole, bit=bit: flipped(whole, bit) for bit in range(0, 8 * 128, 37)),  # the header of the array
    ],
)
def test_a_damaged_cache_is_decoded_again(own_folder, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    expected = load(own_folder, size=(6, 8))
    kept = next((tmp_path / "cache").glob("*.npy"))
    whole = kept.read_bytes()
    kept.unlink()  # the array above is still mapped
    kept.write_bytes(damage(whole))
    assert same(expected, load(own_folder, size=(6, 8)))
    assert kept.read_bytes() == whole


def test_a_change_of_the_decoder_changes_its_version():
    """Whoever changes how pixels are read raises `images.DECODER` and puts the new pair here."""
    reading = images.read, images._check, images._rgb, images.window, images.cell_centre
    code = codebase.digest_of(
        *map(inspect.getsource, reading), str((images.COARSE, images.NUCLEUS, images.CELL, images.EMPTY))
    )
    assert (images.DECODER, code) == (2, "520d13603361e484")


def test_a_file_that_changes_meanwhile_is_named(own_folder, monkeypatch):
    index = dataset.describe(own_folder)
    picture(77).save(own_folder / "TEST/MONOCYTE/cell 4.jpg")
    monkeypatch.setattr(dataset, "describe", lambda data: index)
    with pytest.raises(DatasetError, match=r"cell 4\.jpg.*while the set was read"):
        load(own_folder, size=(11, 13))


# Splits


def test_the_same_seed_gives_the_same_stratified_split(own_folder):
    one, two, other = load(own_folder), load(own_folder), load(own_folder, seed=1)
    assert same(one, two) and not same(one, other)
    assert Counter(one.validation.labels.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert not set(one.train.photos) & set(one.validation.photos)


def test_the_limit_is_kept_and_stratified(own_folder):
    found = load(own_folder, limit=8)
    assert found.sizes == {"train": 8, "validation": 8, "test": 8}
    assert Counter(found.train.labels.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}
    with pytest.raises(DatasetError, match="limit=3"):
        load(own_folder, limit=3)


def provenance(folder: Path, skip: int = 0) -> None:
    rows = [
        f"{p.parts[-3]},{p.parts[-2]},{p.name},{p.parts[-3]}-{p.parts[-2]}-{int(p.stem[5:]) // 2}"
        for p in sorted(folder.rglob("*.jpg"))
    ]
    (folder / "provenance.csv").write_text("\n".join(["split,class,file,photograph", *rows[skip:]]) + "\n")


def test_a_split_by_photograph_shares_none(own_folder):
    provenance(own_folder)
    by_image, by_photo = load(own_folder), load(own_folder, "photo")
    assert by_photo.photos_known and by_photo.sizes == {"train": 32, "validation": 8, "test": 40}
    assert not set(by_photo.train.photos) & set(by_photo.validation.photos)
    assert set(by_image.train.photos) & set(by_image.validation.photos)


def test_a_corrected_table_of_photographs_makes_other_data(own_folder):
    """A run that was interrupted before the correction would else be resumed on another split."""
    before, unknown = [], dataset.describe(own_folder).fingerprint
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    before.append(dataset.describe(own_folder).fingerprint)
    table.write_text(table.read_text().replace("TRAIN-MONOCYTE-1", "TRAIN-MONOCYTE-0"))
    before.append(dataset.describe(own_folder).fingerprint)
    (own_folder / "same_cell.csv").write_text(
        "photograph_a,photograph_b,judgement\nTRAIN-MONOCYTE-2,TRAIN-MONOCYTE-3,same cell\n"
    )
    before.append(dataset.describe(own_folder).fingerprint)
    assert len({*before, unknown}) == 4
    assert dataset.describe(zipped(own_folder, own_folder.parent / "set.zip")).fingerprint == before[-1]


def test_blanks_and_case_in_a_table_of_photographs_do_not_divide_a_photograph(own_folder):
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    clean = dataset.describe(own_folder)
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join([lines[0], *(line.replace(",", " , ") + " " * (n % 2) for n, line in enumerate(lines[1:]))])
    )
    (own_folder / "same_cell.csv").write_text(
        "photograph_a,photograph_b,judgement\n TRAIN-MONOCYTE-2,TRAIN-MONOCYTE-3 , Same cell\n"
    )
    found = dataset.describe(own_folder)
    assert found.photos == clean.photos
    assert found.scenes == dict.fromkeys(("TRAIN-MONOCYTE-2", "TRAIN-MONOCYTE-3"), "TRAIN-MONOCYTE-2")


def test_two_files_that_differ_in_case_have_a_row_each(tmp_path):
    folder = make_set(tmp_path / "own", splits=("",), each=2)
    for name in CLASSES:
        (folder / name / "cell 1.jpg").rename(folder / name / "CELL 0.JPG")
    rows = [f",{p.parent.name},{p.name},{p.parent.name}-{p.name[0]}" for p in folder.rglob("*.[jJ]*")]
    (folder / "provenance.csv").write_text("\n".join(["split,class,file,photograph", *rows]))
    assert len(set(dataset.describe(folder).photos.values())) == 2 * len(CLASSES)


def test_images_of_an_unknown_photograph_are_told_where_they_are_not_used(tmp_path):
    own_folder = make_set(tmp_path / "own", each=14)
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    table.write_text(re.sub(r",(TRAIN|TEST)-MONOCYTE-[01]\n", ",\n", table.read_text()))
    told = "Not used, for their photograph is unknown: {} images, such as TEST/MONOCYTE/cell 0.jpg, TEST/MONOCYTE/c"
    found = load(own_folder, "fold:1/3")
    assert sum(found.sizes.values()) == 104 and found.notes[-1].startswith(told.format(8))
    assert "4 images, such as TRAIN/MONOCYTE/cell 0.jpg" in load(own_folder, "photo").notes[-1]  # TEST stays whole
    assert not any("unknown" in note for note in load(own_folder).notes)


def test_a_part_without_known_photographs_is_refused(own_folder):
    shutil.copytree(own_folder / "TEST", own_folder / "VAL")
    for number, path in enumerate((own_folder / "VAL").rglob("*.jpg")):
        picture(5000 + number).save(path)
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    table.write_text(re.sub(r",TRAIN-\w+-\d\n", ",\n", table.read_text()))
    with pytest.raises(DatasetError, match="split='photo' leaves no image of a known photograph for train"):
        load(own_folder, "photo")


def test_files_with_one_checksum_that_differ_are_no_copies(tmp_path, monkeypatch):
    """Of 100,000 images of one size, some have the CRC-32 of another by chance."""
    folder = make_set(tmp_path / "own", suffix="bmp")
    monkeypatch.setattr(dataset.zlib, "crc32", lambda data: 7)
    assert not dataset.describe(folder).copies
    shutil.copy(folder / "TRAIN/MONOCYTE/cell 0.bmp", folder / "TRAIN/MONOCYTE/again.bmp")
    index = dataset.describe(folder)
    ((one, other),) = index.copies
    assert {one.path, other.path} == {"TRAIN/MONOCYTE/cell 0.bmp", "TRAIN/MONOCYTE/again.bmp"}
    (folder / one.path).unlink()  # a file that cannot be read is no copy, and `check` names it
    assert not replace(index).copies
    assert any(one.path in wrong for wrong in dataset.check(index))


def test_two_photographs_for_one_image_are_refused(own_folder):
    provenance(own_folder)
    with open(own_folder / "provenance.csv", "a") as file:
        file.write("TRAIN,MONOCYTE,cell 0.jpg,another\n")
    with pytest.raises(DatasetError, match=r"provenance\.csv.*two photographs for TRAIN/MONOCYTE/cell 0"):
        load(own_folder)


def test_a_table_of_photographs_may_write_parts_and_classes_in_any_case(own_folder):
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    table.write_text(table.read_text().replace("TRAIN,MONO", "train, Mono").replace("TEST,EOS", "testing,eos"))
    assert load(own_folder, "photo").sizes == {"train": 32, "validation": 8, "test": 40}


def test_a_photograph_on_both_sides_is_told_and_not_tested_on(own_folder):
    provenance(own_folder)
    table = own_folder / "provenance.csv"
    table.write_text(table.read_text().replace(",TEST-", ",TRAIN-"))
    told = "Photographs behind both TRAIN and TEST: 20, such as TRAIN-EOSINOPHIL-0, "
    assert any(note.startswith(told) for note in load(own_folder).notes)
    with pytest.raises(DatasetError, match="photographs: 20 are on two sides .* TRAIN-EOSINOPHIL-0.*fold:K/N"):
        load(own_folder, "photo")
    pooled = load(own_folder, "fold:1/5")
    assert not set(pooled.train.photos) & set(pooled.test.photos)


def test_groups_of_several_classes_stay_whole(tmp_path):
    for n in range(10):
        make_set(tmp_path / f"set/patient_{n}", splits=("",), classes=("all", "hem"), each=2)
        for path in sorted((tmp_path / f"set/patient_{n}").rglob("*.jpg")):
            picture(hash((n, path.parent.name, path.name)) % 10**6).save(path)
    data = load(tmp_path / "set", "photo")
    sides = [set(getattr(data, part).photos) for part in ("train", "validation", "test")]
    assert [len(side) for side in sides] == [6, 2, 2] and len(set.union(*sides)) == 10
    assert [np.bincount(getattr(data, part).labels).tolist() for part in data.sizes] == [[12, 12], [4, 4], [4, 4]]
    assert "Groups above the classes count as photographs: 10, such as patient_0, patient_1 and 8 more." in data.notes


def copy(folder: Path, start: str, end: str) -> None:
    (folder / end).write_bytes((folder / start).read_bytes())


def test_a_file_that_is_there_twice_is_told_and_not_tested_on(own_folder, monkeypatch):
    assert not any("same file" in note for note in dataset.describe(own_folder).notes)
    copy(own_folder, "TRAIN/MONOCYTE/cell 1.jpg", "TRAIN/NEUTROPHIL/again.jpg")
    found = load(own_folder)
    for told in (
        "The same file is there more than once: 1, such as",
        "The same file is there under two classes: 1, such as",
    ):
        assert any(note.startswith(told) and "NEUTROPHIL/again.jpg" in note for note in found.notes)
    copy(own_folder, "TRAIN/MONOCYTE/cell 1.jpg", "TEST/MONOCYTE/again.jpg")
    assert any("The same file is there in two parts: 1, such as" in note for note in dataset.describe(own_folder).notes)
    with pytest.raises(DatasetError, match=r"own: 1 files are both trained and tested on.*BLOODCELL_COPIES=allowed"):
        load(own_folder)
    monkeypatch.setenv(dataset.COPIES, "allowed")
    assert len(load(own_folder).test) == 41


def test_a_class_that_a_part_lacks_is_told(tmp_path):
    folder = make_set(tmp_path / "set", splits=("",), classes=("a", "b"), each=20)
    for i in range(2, 20):
        (folder / f"b/cell {i}.jpg").unlink()
    assert "No image of b is in test." in load(folder).notes
    make_set(tmp_path / "parts", classes=("a", "b", "c"))
    for path in (tmp_path / "parts/TEST/c").iterdir():
        path.unlink()
    (tmp_path / "parts/TEST/c").rmdir()
    assert "No image of c is in test." in load(tmp_path / "parts").notes


def test_a_file_is_read_for_its_checksum_when_it_changed(own_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    before, read = dataset.describe(own_folder), []
    assert not list(tmp_path.glob("cache/checksums-*"))  # files that were changed just now may change again
    monkeypatch.setattr(dataset, "SETTLED", 0)
    dataset.describe(own_folder)
    whole = sources.Source.read
    monkeypatch.setattr(sources.Source, "read", lambda self, path: read.append(path) or whole(self, path))
    assert dataset.describe(own_folder).fingerprint == before.fingerprint and read == []
    changed, size = own_folder / "TEST/MONOCYTE/cell 3.jpg", None
    size = changed.stat()
    changed.write_bytes(flipped(changed.read_bytes(), 8 * 200))
    os.utime(changed, ns=(size.st_atime_ns, size.st_mtime_ns))  # as a copy that keeps times does
    assert dataset.describe(own_folder).fingerprint != before.fingerprint and read == ["TEST/MONOCYTE/cell 3.jpg"]
    (kept,) = tmp_path.glob("cache/checksums-*")
    kept.write_bytes(flipped(kept.read_bytes(), 8 * 300))
    assert dataset.describe(own_folder).entries and len(read) == 81


def test_a_split_by_photograph_is_refused_without_provenance(own_folder):
    with pytest.raises(DatasetError, match=r"provenance\.csv"):
        load(own_folder, "photo")
    provenance(own_folder, skip=1)
    with pytest.raises(DatasetError, match="TEST/EOSINOPHIL/cell 0.jpg"):
        load(own_folder)


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": "random"},
        {"split": "paper"},
        {"split": "grouped"},
        {"limit": 0},
        {"limit": 2.5},
        {"seed": -1},
        {"seed": 0.5},
        {"size": (0, 8)},
        {"size": (8,)},
        {"size": (8.5, 8)},
        {"frame": "crop"},
    ],
    ids=str,
)
def test_arguments_that_cannot_work(own_folder, arguments):
    with pytest.raises(DatasetError, match=str(next(iter(arguments.values()))).strip("()").replace(",", ".")):
        load(own_folder, **arguments)


# Sets that are refused


def unsafe(tmp_path: Path, name: str = "a", mode: int = 0, content: bytes = b"x") -> Path:
    path = zipped(make_set(tmp_path / "set"), tmp_path / "set.zip")
    member = zipfile.ZipInfo(name)
    member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(member, content)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "TRAIN/MONOCYTE/" + "a/" * 60 + "a.jpg"}, "too long"),
        ({"name": "TRAIN/MONOCYTE/a.jpg", "mode": 0o120777}, "link"),
        ({"name": "TRAIN/MONOCYTE/a.png", "content": bytes(257 * 2**20)}, "269,484,032 bytes, more than 268,435,456"),
    ],
)
def test_an_unsafe_zip_is_refused_by_entry(tmp_path, options, message):
    path = unsafe(tmp_path, **options)
    with pytest.raises(DatasetError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and options["name"] in str(caught.value)


@pytest.mark.parametrize("name", ["../TRAIN/MONOCYTE/a.jpg", "/etc/MONOCYTE/a.jpg", "C:\\MONOCYTE\\a.jpg"])
def test_what_points_outside_a_zip_is_named_and_never_read(tmp_path, name):
    index = dataset.describe(unsafe(tmp_path, name=name))
    assert len(index.entries) == 80 and index.unused == {
        "files that point outside the archive": [name.replace("\\", "/")]
    }


@pytest.mark.parametrize(
    "options",
    [
        {"name": "masks/1.bmp", "content": bytes(4 * 2**20)},  # packs 1000:1
        {"name": "scan.tif", "content": bytes(257 * 2**20)},
        {"name": "notes.txt", "mode": 0o120777},
    ],
)
def test_a_fault_of_a_file_that_is_not_read_does_not_matter(tmp_path, options):
    index = dataset.describe(unsafe(tmp_path, **options))
    assert len(index.entries) == 80 and [*index.unused.values()] == [[options["name"]]]


def test_a_zip_of_windows_has_the_same_images(tmp_path):
    folder = make_set(tmp_path / "set", classes=("blast", "bänder"))
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as file:
        for path in sorted(folder.rglob("*.jpg")):
            file.write(path, "set\\" + str(path.relative_to(folder)).replace("/", "\\"))
    assert dataset.describe(tmp_path / "windows.zip").fingerprint == dataset.describe(folder).fingerprint


def test_a_zip_of_macos_has_the_same_names(tmp_path):
    folder = make_set(tmp_path / "set", classes=("blast", "bänder"))
    whole = zipped(folder, tmp_path / "set.zip").read_bytes()
    names = [m for m in zipfile.ZipFile(tmp_path / "set.zip").infolist() if m.flag_bits & 0x800]
    unsaid = bytearray(whole)
    for mark, place in ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):  # where flags have the bit that says UTF-8
        start = -1
        while (start := whole.find(mark, start + 1)) >= 0:
            unsaid[start + place] &= ~0x8
    (tmp_path / "macos.zip").write_bytes(unsaid)
    assert names and dataset.describe(tmp_path / "macos.zip").fingerprint == dataset.describe(folder).fingerprint


def test_a_zip_with_one_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = unsafe(tmp_path, name="TRAIN/MONOCYTE/cell 0.jpg")
    with pytest.raises(DatasetError, match=r"cell 0\.jpg: is there 2 times"):
        load(path)


def test_damaged_zips(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path / "cache"))
    whole = zipped(make_set(tmp_path / "set"), tmp_path / "whole.zip").read_bytes()
    for name, content in {"short.zip": whole[: len(whole) // 2], "text.zip": b"no zip", "empty.zip": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=f"{name}.*download it again"):
            load(tmp_path / name)
    middle = bytearray(whole)
    middle[300:340] = bytes(40)  # inside the first image
    (tmp_path / "flipped.zip").write_bytes(middle)
    with pytest.raises(DatasetError, match=r"flipped\.zip.*CRC"):
        load(tmp_path / "flipped.zip")


def test_a_bit_in_the_directory_of_a_zip_loses_no_image(tmp_path):
    whole = zipped(make_set(tmp_path / "set"), tmp_path / "whole.zip").read_bytes()
    name, path = b"TEST/MONOCYTE/cell 4.jpg", tmp_path / "flipped.zip"
    for place in (*range(14), len(name) - 3, len(name) - 1):  # a folder, the suffix
        path.write_bytes(flipped(whole, 8 * (whole.rfind(name) + place)))
        with pytest.raises(DatasetError, match="flipped.zip.*damaged"):
            dataset.describe(path)


def test_a_bit_in_a_size_of_a_zip_changes_no_image(tmp_path):
    whole = zipped(make_set(tmp_path / "set"), tmp_path / "whole.zip").read_bytes()
    sizes = whole.rfind(b"TEST/MONOCYTE/cell 4.jpg") - 26  # packed and full, four bytes each
    fingerprint, refused = load(tmp_path / "whole.zip").fingerprint, 0
    for bit in range(8 * sizes, 8 * (sizes + 8), 5):
        (tmp_path / "flipped.zip").write_bytes(flipped(whole, bit))
        try:
            assert load(tmp_path / "flipped.zip").fingerprint == fingerprint
        except DatasetError as error:
            refused += "flipped.zip" in str(error)
    assert refused > 5


def test_no_data_are_not_the_working_folder(own_folder, monkeypatch):
    monkeypatch.chdir(own_folder)
    with pytest.raises(DatasetError, match="names nothing"):
        load("")


def test_classes_that_are_missing_empty_or_alone(tmp_path):
    make_set(tmp_path / "a", splits=("TRAIN",))
    with pytest.raises(DatasetError, match="TEST has no images of class EOSINOPHIL"):
        load(tmp_path / "a")
    make_set(tmp_path / "b", classes=("blast", "band"))
    (tmp_path / "b/TEST/band").rename(tmp_path / "b/TEST/bandd")
    with pytest.raises(DatasetError, match="TRAIN has no images of class bandd. Expected band, bandd, blast"):
        load(tmp_path / "b")
    make_set(tmp_path / "g", splits=("",), classes=("band", "blast"))
    (tmp_path / "g/myelocyte").mkdir()
    with pytest.raises(DatasetError, match="no images of class myelocyte: myelocyte is empty"):
        load(tmp_path / "g")
    make_set(tmp_path / "c", splits=("",), classes=("blast",))
    with pytest.raises(DatasetError, match="only one class, blast"):
        load(tmp_path / "c")
    (tmp_path / "d").mkdir()
    with pytest.raises(DatasetError, match="no image found"):
        load(tmp_path / "d")
    with pytest.raises(DatasetError, match="no such file or folder"):
        load(tmp_path / "e")
    make_set(tmp_path / "f/one"), make_set(tmp_path / "f/two")
    with pytest.raises(DatasetError, match="two places"):
        load(tmp_path / "f")


def test_a_folder_that_may_not_be_read(own_folder, tmp_path):
    for folder in [tmp_path, *list(tmp_path.parents)[:-2]]:
        folder.chmod(folder.stat().st_mode | 0o755)
    (own_folder / "TRAIN/MONOCYTE").chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root reads everything
        with pytest.raises(DatasetError, match="Permission denied.*TRAIN/MONOCYTE.*chmod"):
            load(own_folder)
    finally:
        if root:
            os.seteuid(0)
        (own_folder / "TRAIN/MONOCYTE").chmod(0o755)


def test_links_are_followed_once(own_folder, tmp_path):
    (tmp_path / "linked").symlink_to(own_folder)
    before = load(tmp_path / "linked").fingerprint
    (own_folder / "TRAIN/loop").symlink_to(own_folder)
    files = sources.open_source(own_folder).files
    assert len(files) == 80 and not [path for path in files if "loop" in path]
    (own_folder / "TRAIN/loop").unlink()
    assert load(own_folder).fingerprint == before


def test_what_is_no_image_file_is_named(own_folder):
    place = own_folder / "TRAIN/MONOCYTE"
    (place / ".#notes.txt").symlink_to("gone")  # an editor's lock file
    assert load(own_folder).sizes["test"] == 40
    (place / "link.jpg").symlink_to("gone.jpg")
    with pytest.raises(DatasetError, match=r"TRAIN/MONOCYTE/link\.jpg"):
        load(own_folder)
    (place / "link.jpg").unlink()
    os.mkfifo(place / "pipe.jpg")
    with pytest.raises(DatasetError, match=r"TRAIN/MONOCYTE/pipe\.jpg: is a pipe"):
        load(own_folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "not readable"),
        ("split,class,file\nTRAIN,MONOCYTE,a.jpg\n", "photograph"),
        ("split,class,file,photograph\nTRAIN,MONOCYTE,a.jpg\n", "a row lacks a column"),
        ('split,class,file,photograph\n"TRAIN,MONOCYTE\n', "not readable"),
        (b"split,class,file,photograph\nTRAIN,\xff,a,b\n", "not readable"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(own_folder, table, message):
    (own_folder / "provenance.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DatasetError, match=rf"own/provenance\.csv: .*{message}.*split,class,file,photograph"):
        load(own_folder)


@pytest.mark.parametrize("head", ["filename,label", "Image,Category"])
def test_any_table_may_be_called_labels(own_folder, head):
    (own_folder / "labels.csv").write_text(f"{head}\ncell 0.jpg,MONOCYTE\n")
    assert dataset.photographs(own_folder, "MONOCYTE") == []
    (own_folder / "JPEGImages").mkdir()
    picture(0).save(own_folder / "JPEGImages/BloodImage_00007.jpg")
    (own_folder / "BloodImage_00007.xml").write_text("<annotation/>")
    (own_folder / "labels.csv").write_text(f"{head}\n7,MONOCYTE\nx,MONOCYTE\n")
    assert len(dataset.photographs(own_folder, "MONOCYTE")) == (head == "Image,Category")


# The real archive


def test_the_split_by_image_of_the_archive(archive):
    found, again, other = (load(archive, seed=seed) for seed in (0, 0, 1))
    assert found.card is cards.ARCHIVE and found.name == cards.ARCHIVE.name and found.fingerprint == "36afb9536ec11fd8"
    assert found.sizes == {"train": 7965, "validation": 1992, "test": 2487} and len(found.simple) == 71
    assert tuple(np.bincount(found.test.labels)) == cards.ARCHIVE.counts["TEST"]
    shares = np.bincount(found.validation.labels) / cards.ARCHIVE.counts["TRAIN"]
    assert np.allclose(shares, 0.2, atol=0.001)
    assert same(found, again) and not np.array_equal(found.train.paths, other.train.paths)
    keys = ("/".join(path.split("/")[-3:]) for path in found.validation.paths)
    drawn = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
    assert drawn == "1355d59a5a3375ae", "seed 0 must give this validation set on every machine"


def test_a_second_load_decodes_nothing(archive, monkeypatch):
    load(archive)
    monkeypatch.setattr(images, "read", None)
    assert load(archive).sizes["test"] == 2487


def test_decoding_takes_little_memory(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOODCELL_CACHE", str(tmp_path))
    code = (
        "import sys; from benchmarks.alternating import peak; from bloodcell_lib import dataset;"
        "dataset.load(sys.argv[1], (120, 160)); print(peak())"
    )
    said, complaint = python(code, archive).communicate(timeout=300)
    assert float(said.split()[-1]) < 1900, complaint
    assert "12515/12515" in complaint  # the progress bar


def test_a_changed_archive_is_refused(archive, tmp_path):
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(tmp_path / "less.zip", "w") as less:
        names = [n for n in whole.namelist() if "/images/" in n and n.endswith("jpeg")]
        for name in names[1:]:
            less.writestr(name, whole.read(name))
    with pytest.raises(DatasetError, match="EOSINOPHIL: (623 expected, 622|2497 expected, 2496) found"):
        load(tmp_path / "less.zip")


def test_photographs_carry_boxes(archive):
    found = dataset.photographs(archive, "EOSINOPHIL", 3)
    assert [image.shape for _, image, _ in found] == [(480, 640, 3)] * 3
    for _, _, boxes in found:
        assert {what for what, *_ in boxes} == {"RBC"}  # the archive marks no other cell
        assert all(0 <= left < right <= 640 and 0 <= top < bottom <= 480 for _, left, top, right, bottom in boxes)
