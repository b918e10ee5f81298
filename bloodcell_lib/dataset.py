"""The dataset: found, checked, decoded once to a memory map, and split."""

import csv
import errno
import hashlib
import io
import operator
import os
import re
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import platformdirs
from filelock import FileLock
from PIL import Image, ImageOps
from tqdm import tqdm

from bloodcell_lib import splits
from bloodcell_lib.sources import CLASSES, DatasetError, Entry, Source, open_source

__all__ = [
    "CARDS",
    "CLASSES",
    "Catalogue",
    "Dataset",
    "DatasetError",
    "Part",
    "describe",
    "load",
    "locate",
    "photographs",
]

KAGGLE_HANDLE = "paultimothymooney/blood-cells/versions/6"
MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
BATCH = 256
THREADS = os.cpu_count() or 1

# What each known set holds, in the order of CLASSES: a set that claims to be one of them is held to it.
CARDS = {
    "blood-cells": {"TRAIN": (2497, 2483, 2478, 2499), "TEST": (623, 620, 620, 624), "TEST_SIMPLE": (13, 6, 4, 48)},
    "sample": {"TRAIN": (240,) * 4, "TEST": (80,) * 4, "TEST_SIMPLE": (5,) * 4},
}
ARCHIVE_KEY = re.compile(r"\w+/\w+/_\d+_\d+\.jpeg")
TABLES = Path(__file__).parents[1] / "data"  # the project's tables of the archive
PROVENANCE = ("split", "class", "file", "photograph")
SAME_CELL = ("photograph_a", "photograph_b", "judgement")
CARD_SIZE = (320, 240)  # width, height of every TRAIN, TEST and TEST_SIMPLE image, RGB


@dataclass(frozen=True)
class Part:
    """One part of a split, its rows in step.

    `images` uint8 (N, height, width, 3); `labels` int64 (N,), an index into the dataset's classes;
    `photos` str (N,), the photograph each image was made from, or the image's own key where unknown;
    `paths` str (N,), the file inside the zip or folder; `scenes` str (N,), a name that photographs share
    which show the same cell or overlap: a photograph's own, but for the few.
    """

    memory_map: np.ndarray  # all images of the set
    rows: np.ndarray  # this part's rows of it, ascending
    labels: np.ndarray
    photos: np.ndarray
    paths: np.ndarray
    scenes: np.ndarray

    @cached_property
    def images(self) -> np.ndarray:
        """A view of the memory map where the rows are contiguous, else a copy made at first use."""
        first, last = self.rows[0], self.rows[-1] + 1
        return self.memory_map[first:last] if last - first == len(self.rows) else self.memory_map[self.rows]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The parts of a split, and what the set is.

    `simple` is TEST_SIMPLE, photographs behind TEST as they were taken, or None where there is none.
    `fingerprint` is a hash of every file's name and content: a zip and its unpacked folder share it.
    """

    train: Part
    validation: Part
    test: Part
    simple: Part | None
    classes: tuple[str, ...]
    name: str
    fingerprint: str
    split: str
    photos_known: bool

    @property
    def sizes(self) -> dict[str, int]:
        """Images in each part."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}


@dataclass(frozen=True)
class Catalogue:
    """A data set listed and checked, not yet decoded.

    `photos` is empty where the photographs are unknown, and `unknown` then says why.
    """

    source: Source
    entries: list[Entry]
    classes: tuple[str, ...]
    name: str
    fingerprint: str
    photos: dict[str, str]  # image key -> photograph
    scenes: dict[str, str]  # photograph -> name of its scene, where several show it
    unknown: str


def load(
    data: str | os.PathLike | None = None,
    image_size: tuple[int, int] = (120, 160),
    split: str = "image",
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Load a set, decoding its images the first time only.

    Args:
        data: a zip, a folder, "kaggle" or "sample"; None looks at BLOODCELL_DATA, then for a downloaded
            archive, then takes the sample and says so.
        image_size: height and width in pixels.
        split: "paper", a random 80/20 division of TRAIN stratified by class; "grouped", the same division of
            the photographs, so that no photograph is on both sides, and no cell or field photographed twice.
            TEST stays as it is; a folder without TRAIN and TEST gives a fifth of its images, or photographs,
            to TEST. "fold:K/N" pools TRAIN and TEST, and tests on the K-th of N shares of all photographs.
        seed: of the division and of the choice that `limit` makes.
        limit: at most this many images in each part, stratified by class.

    Returns:
        A `Dataset`.

    Raises:
        DatasetError: the data, the split or the limit cannot be used.
    """
    image_size = _check_arguments(image_size, split, seed, limit)
    catalogue = describe(data)
    if split != "image" and not catalogue.photos:
        raise DatasetError(
            f"{catalogue.source.root}: split={split!r} needs the photograph behind each image, and "
            f"{catalogue.unknown}, or use split='image'."
        )
    images = _decoded(catalogue, image_size)
    labels = np.array([catalogue.classes.index(entry.label) for entry in catalogue.entries])
    photos = np.array([catalogue.photos.get(entry.key, "") for entry in catalogue.entries])
    scenes = np.array([catalogue.scenes.get(photo, photo) for photo in photos])
    paths = np.array([entry.path for entry in catalogue.entries])
    parts = np.array([entry.split for entry in catalogue.entries])
    rows = splits.divide(parts, labels, photos, scenes, split, seed)
    names = np.where(photos != "", photos, [entry.key for entry in catalogue.entries])
    scenes = np.where(photos != "", scenes, names)

    def part(name: str) -> Part | None:
        if not len(rows[name]):
            return None
        chosen = splits.limited(rows[name], labels, limit, seed)
        return Part(images, chosen, labels[chosen], names[chosen], paths[chosen], scenes[chosen])

    return Dataset(
        *(part(name) for name in ("train", "validation", "test", "simple")),
        catalogue.classes,
        catalogue.name,
        catalogue.fingerprint,
        split,
        bool(catalogue.photos),
    )


def describe(data: str | os.PathLike | None = None) -> Catalogue:
    """List and check a set without decoding it. See `load` for `data` and errors."""
    source = open_source(locate(data))
    entries = source.images()
    found = {entry.label for entry in entries}
    classes = tuple(c for c in CLASSES if c in found) + tuple(sorted(found.difference(CLASSES)))
    own = source.find("provenance.csv")
    name = _name(source, entries, classes, own is not None)
    photos, unknown = _photos(source, entries, own, name)
    scenes = _scenes(source, own, photos)
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.key} {entry.size} {entry.crc:08x}\n".encode(errors="surrogateescape"))
    return Catalogue(source, entries, classes, name, digest.hexdigest()[:16], photos, scenes, unknown)


def locate(data: str | os.PathLike | None = None) -> Path:
    """Return the zip or folder that `data` names, downloading or drawing it where that is what it names.

    Raises:
        DatasetError: "kaggle" is asked for, not downloaded yet, and cannot be downloaded.
    """
    if data is None:
        data = os.environ.get("BLOODCELL_DATA") or _downloaded()
    if data is None:
        print("No archive found (BLOODCELL_DATA, data/, kagglehub): using the sample, drawn smears.")
        data = "sample"
    if data == "sample":
        return _drawn_sample()
    return _kaggle() if data == "kaggle" else Path(data)


def cache_dir() -> Path:
    """Return the folder of decoded images: BLOODCELL_CACHE, or the user's cache folder."""
    folder = Path(os.environ.get("BLOODCELL_CACHE") or platformdirs.user_cache_dir("bloodcell"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(
            f"{folder}: the cache folder cannot be made ({error.strerror}). "
            "Set BLOODCELL_CACHE to a folder that you can write."
        ) from error
    return folder


def photographs(
    data: str | os.PathLike | None = None, label: str = "EOSINOPHIL", most: int = 4
) -> list[tuple[str, np.ndarray, list[tuple[str, int, int, int, int]]]]:
    """Return original photographs that show one class, with the boxes an expert drew.

    Source: BCCD, whose annotations (Pascal VOC) name white cells WBC, red cells RBC, and Platelets. The
    archive's copy of them has the red cells alone; the sample has all three.

    Args:
        data: as for `load`.
        label: the class; photographs with cells of several classes are passed over.
        most: how many at most.

    Returns:
        (name, image uint8 (height, width, 3), boxes [(what, left, top, right, bottom) in pixels]) for
        each; empty where the set has no annotated photographs.
    """
    source = open_source(locate(data))
    annotated = {PurePosixPath(p).stem: p for p in source.files if p.lower().endswith(".xml")}
    pictures = {PurePosixPath(p).stem: p for p in source.files if "/JPEGImages/" in f"/{p}"}
    chosen = []
    for table in sorted(p for p in source.files if PurePosixPath(p).name == "labels.csv")[:1]:
        with _naming(f"{source.root}/{table}", "a table with the columns Image,Category"):
            for row in csv.DictReader(io.StringIO(source.read(table).decode("utf-8-sig"))):
                name = f"BloodImage_{int(row['Image']):05d}" if row["Image"] else ""
                if (row["Category"] or "").strip() == label and name in annotated and name in pictures:
                    chosen.append(name)
    return [
        (
            name,
            np.asarray(open_image(source.read(pictures[name]), f"{source.root}/{pictures[name]}")),
            _boxes(source.read(annotated[name]), f"{source.root}/{annotated[name]}"),
        )
        for name in chosen[:most]
    ]


@contextmanager
def _naming(where: str, expected: str):
    """Turn what the parsers of tables and XML raise into a `DatasetError` that names the file."""
    try:
        yield
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error, ElementTree.ParseError) as error:
        raise DatasetError(f"{where}: not readable ({error!r}). Expected {expected}; restore or remove it.") from error


def _boxes(xml: bytes, where: str) -> list[tuple[str, int, int, int, int]]:
    with _naming(where, "Pascal VOC, with a bndbox in each object"):
        return [
            (
                thing.findtext("name"),
                *(int(thing.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")),
            )
            for thing in ElementTree.fromstring(xml).iter("object")
        ]


def _check_arguments(image_size: tuple[int, int], split: str, seed: int, limit: int | None) -> tuple[int, int]:
    splits.fold_of(split)
    try:
        height, width = map(operator.index, image_size)  # a NumPy integer would not survive in the array's header
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise DatasetError(f"image_size={image_size!r} cannot be used. Give (height, width) in whole pixels.")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise DatasetError(f"seed={seed!r} cannot be used. Give a whole number from 0 to {2**32 - 1}.")
    if limit is not None and (not isinstance(limit, (int, np.integer)) or limit < 1):
        raise DatasetError(f"limit={limit!r} cannot be used. Give a whole number of images, or None for all.")
    return height, width


def _downloaded() -> Path | None:
    """An archive put into data/ by hand, or fetched earlier by kagglehub."""
    kaggle = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache/kagglehub")
    user, dataset, *version = KAGGLE_HANDLE.split("/")
    here = [folder / "data" for folder in (Path.cwd(), Path.cwd().parent, Path(__file__).parents[1])]
    places = [folder / name for folder in here for name in ("blood-cells.zip", "archive.zip", "dataset2-master")]
    copy = kaggle.joinpath("datasets", user, dataset, *version)
    if copy.parents[1].joinpath(f"{copy.name}.complete").exists():  # kagglehub's mark; without it, half unpacked
        places.append(copy)
    return next((place for place in places if place.exists()), None)


def _kaggle() -> Path:
    import kagglehub  # slow to import, and only here needed

    try:
        return Path(kagglehub.dataset_download(KAGGLE_HANDLE))
    except Exception as error:  # kagglehub lets through whatever its HTTP client raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(
            f"kaggle: {KAGGLE_HANDLE} is not in kagglehub's cache and could not be downloaded "
            f"({reason}). Connect to the internet once, or download the zip by hand "
            "and give its path."
        ) from error


def _drawn_sample() -> Path:
    """The sample in the cache folder, under a name that changes when the drawing code does."""
    from bloodcell_lib import sample  # imports SciPy, and is only here needed

    version = hashlib.sha256(Path(sample.__file__).read_bytes()).hexdigest()[:12]
    folder = cache_dir() / f"sample-{version}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            try:
                sample.write(folder)
            except OSError as error:
                raise DatasetError(
                    f"{folder}: the sample cannot be written there ({error.strerror}). Make room, or "
                    "set BLOODCELL_CACHE to another folder."
                ) from error
    return folder


def _name(source: Source, entries: list[Entry], classes: tuple[str, ...], photos_known: bool) -> str:
    """Name a known set, and hold it to its card; any other is named after its folder."""
    counts = Counter((entry.split, entry.label) for entry in entries)
    table = {split: tuple(counts[split, c] for c in classes) for split in sorted({e.split for e in entries})}
    if table == CARDS["sample"] and photos_known:
        return "sample"
    stem = source.root.resolve().stem
    if not (classes == CLASSES and "TRAIN" in table and all(ARCHIVE_KEY.fullmatch(e.key) for e in entries)):
        return f"own {stem}" if stem in CARDS else stem  # the names of the known sets are theirs alone
    card = CARDS["blood-cells"]
    wrong = [
        f"{split} {c}: {expected} expected, {counts[split, c]} found"
        for split in card
        if split in table or split != "TEST_SIMPLE"
        for c, expected in zip(CLASSES, card[split], strict=True)
        if counts[split, c] != expected
    ]
    if wrong and photos_known:
        return f"own {stem}" if stem in CARDS else stem
    if wrong:
        raise DatasetError(
            f"{source.root}: named like the blood-cells archive, but not whole: {'; '.join(wrong)}. "
            "Unpack or download it again (to use fewer images, give a limit)."
        )
    return "blood-cells"


def _photos(source: Source, entries: list[Entry], own: str | None, name: str) -> tuple[dict[str, str], str]:
    """Read which photograph is behind each image: beside the images, or in the project's table of the archive.

    Returns:
        (key -> photograph, ""), or ({}, why it is unknown).
    """
    if own is None and name != "blood-cells":
        return {}, "no provenance.csv (columns split,class,file,photograph) lies beside the images. Add one"
    if own is None and not (TABLES / "provenance.csv").exists():
        return {}, f"{TABLES / 'provenance.csv'} is missing. Restore it from the project"
    where, rows = _table(source, own, "provenance.csv", PROVENANCE)
    found = {}
    for row in rows:
        key = "/".join(filter(None, (row["split"], row["class"], row["file"])))
        if found.setdefault(key, row)["photograph"] != row["photograph"]:
            raise DatasetError(f"{where}: names two photographs for {key}. Keep the row that is right.")
    for entry in entries:
        row = found.get(entry.key)
        if row is None:
            raise DatasetError(
                f"{where}: no row for {entry.key}. Add it, its photograph left empty if that is "
                "unknown, or remove the table."
            )
        if row.get("crc32", f"{entry.crc:08x}") != f"{entry.crc:08x}":
            changed = (
                f"{entry.key} is not the file that {where} was made from (CRC-32 {entry.crc:08x}, there "
                f"{row['crc32']}). Get the original images, or make a table of these"
            )
            if own:
                raise DatasetError(f"{source.root}: {changed}.")
            return {}, changed
    return {entry.key: found[entry.key]["photograph"] for entry in entries if found[entry.key]["photograph"]}, ""


def _scenes(source: Source, own: str | None, photos: dict[str, str]) -> dict[str, str]:
    """Read which photographs show the same cell or field; each is given the name of the first of them."""
    path = source.find("same_cell.csv") if own else None
    if not photos or own and not path or not own and not (TABLES / "same_cell.csv").exists():
        return {}
    scenes = {}
    for row in _table(source, path, "same_cell.csv", SAME_CELL)[1]:
        if row["judgement"].startswith("same"):  # cell or field
            pair = row["photograph_a"], row["photograph_b"]
            joined = {scenes.setdefault(photo, photo) for photo in pair}
            scenes = {photo: min(joined) if scene in joined else scene for photo, scene in scenes.items()}
    return scenes


def _table(source: Source, path: str | None, name: str, columns: tuple[str, ...]) -> tuple[str, list[dict[str, str]]]:
    """Read a table of the source, or the project's where `path` is None: its full path, and rows with some columns."""
    where = f"{source.root}/{path}" if path else str(TABLES / name)
    table = source.read(path) if path else Path(where).read_bytes()
    expected = f"a table with the columns {','.join(columns)}"
    with _naming(where, expected):
        rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    if any(row.get(column) is None for row in rows for column in columns):
        raise DatasetError(f"{where}: a row lacks a column. Expected {expected}; restore or remove it.")
    return where, rows


def _decoded(catalogue: Catalogue, image_size: tuple[int, int]) -> np.ndarray:
    """Return the memory map of all images, decoding them if no earlier run did."""
    height, width = image_size
    target = cache_dir() / f"{catalogue.fingerprint}-{height}x{width}.npy"
    shape = len(catalogue.entries), height, width, 3
    try:
        if (kept := _kept(target, shape)) is not None:  # reading takes no lock, and no right to write
            return kept
        with FileLock(f"{target}.lock"):  # a second process waits, then finds the file
            if _kept(target, shape) is None:
                _decode_all(catalogue, image_size, target)
        return np.load(target, mmap_mode="r")
    except OSError as error:
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        need = len(catalogue.entries) * height * width * 3 / 2**20
        raise DatasetError(
            f"{target.parent}: the decoded images cannot be kept there ({what}). They need "
            f"{need:,.0f} MiB; make room, or set BLOODCELL_CACHE to another folder."
        ) from error


def _kept(target: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the memory map an earlier run left, unless a disk or a copy has damaged it."""
    try:
        kept = np.load(target, mmap_mode="r")
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return kept if kept.shape == shape and kept.dtype == np.uint8 else None


def _decode_all(catalogue: Catalogue, image_size: tuple[int, int], target: Path) -> None:
    """Write the array beside its place and move it there when it is whole.

    Plain writes and no memory map: a full disk is then an error, not a signal that kills the process.
    """
    part = target.with_suffix(".part")  # the lock is held: one left by a killed run is ours to overwrite
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(catalogue.entries), *image_size, 3)}
    held = catalogue.name in CARDS
    refused = []

    def decode(entry: Entry) -> np.ndarray | DatasetError:
        where = f"{catalogue.source.root}/{entry.path}"
        try:
            data = catalogue.source.read(entry.path)
            if zlib.crc32(data) != entry.crc:
                raise DatasetError(f"{where}: changed while the set was read. Try again when nothing writes there.")
            return _pixels(data, where, image_size, held)
        except DatasetError as error:
            return error

    try:
        with (
            open(part, "wb") as file,
            ThreadPoolExecutor(THREADS) as pool,
            tqdm(total=len(catalogue.entries), desc="Decoding", unit=" images", mininterval=0.5) as bar,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(catalogue.entries), BATCH):
                for pixels in pool.map(decode, catalogue.entries[start : start + BATCH]):
                    if isinstance(pixels, DatasetError):
                        refused.append(pixels)
                    else:
                        file.write(pixels.tobytes())
                    bar.update()
            file.flush()
            os.fsync(file.fileno())
        if refused:
            more = f" ({len(refused) - 1} more images cannot be used either.)" if len(refused) > 1 else ""
            raise DatasetError(f"{refused[0]}{more}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _pixels(data: bytes, where: str, image_size: tuple[int, int], held: bool = False) -> np.ndarray:
    """Decode one image to uint8 (height, width, 3), at reduced scale where JPEG allows it."""
    height, width = image_size
    image = open_image(data, where, (width, height), CARD_SIZE if held else None)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def open_image(
    data: bytes, where: str, draft: tuple[int, int] | None = None, expected: tuple[int, int] | None = None
) -> Image.Image:
    """Open an image as 8-bit RGB, upright, or refuse it by name."""
    if not data:
        raise DatasetError(f"{where}: the file is empty. Restore or remove it.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"{where}: {error} Scale it down first.") from error
    except Exception as error:  # Pillow lets through whatever a damaged header makes it stumble over
        raise DatasetError(
            f"{where}: not an image that can be read. Expected {', '.join(FORMATS)}; restore or remove it."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise DatasetError(
            f"{where}: {image.width}x{image.height} pixels are more than {MAX_PIXELS // 10**6} "
            "megapixels. Crop it to the cell or scale it down first."
        )
    if expected and (image.size, image.mode) != (expected, "RGB"):
        raise DatasetError(
            f"{where}: {image.width}x{image.height} {image.mode}, where the archive has "
            f"{expected[0]}x{expected[1]} RGB. It was changed; download the archive again."
        )
    try:
        if (pages := getattr(image, "n_frames", 1)) > 1:
            raise DatasetError(f"{where}: holds {pages} pages. Save the one that is meant as its own file.")
        if draft and image.mode == "RGB":
            turned = image.getexif().get(0x112, 1) > 4  # the transposition below will swap the sides
            image.draft("RGB", draft[::-1] if turned else draft)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), where)
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{where}: cannot be decoded ({error}). It is truncated or damaged; restore or remove it."
        ) from error


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    """Convert what has one correct conversion: gray, 16-bit gray, bilevel, opaque palettes and alpha."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") and "transparency" not in image.info:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        deep = image.mode.startswith("I;16")  # Pillow does not carry its colour key over
        image = image.convert("RGBA") if not deep else image
        if deep or image.getextrema()[3][0] < 255:
            raise DatasetError(f"{where}: has transparent pixels, which have no colour. Flatten it on its background.")
        return image.convert("RGB")
    if image.mode in ("1", "L", "P"):
        return image.convert("RGB")
    raise DatasetError(
        f"{where}: colour mode {image.mode} has no conversion to RGB without a colour profile. Save it as 8-bit RGB."
    )
