"""The dataset: found, checked, decoded once to a memory map, and split."""

import hashlib
import io
import os
import time
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import platformdirs
from tqdm import tqdm

from bloodcell_lib import cards, files, images, layouts, protocols, sources, splits
from bloodcell_lib.cards import DataCard
from bloodcell_lib.images import DatasetError, explaining, refuse, some
from bloodcell_lib.layouts import CLASSES, Entry
from bloodcell_lib.sources import File, Source

PHOTOS, SCENES = "provenance.csv", "same_cell.csv"
COPIES = "BLOODCELL_COPIES"  # set to "allowed", lets the same file be trained and tested on
SETTLED = 2.0  # seconds after its last change from which a file that is changed again has another time
BATCH = 256  # images decoded at a time
CHECKSUM = 4  # bytes


@dataclass(frozen=True)
class Part:
    """One part of a split; row k of every array is the same image.

    `images` uint8 (N, height, width, 3); `labels` int64 (N,), an index into the dataset's classes;
    `photos` str (N,), the photograph each image was made from, or the image's own key if unknown;
    `paths` str (N,), the file inside the zip or folder; `scenes` str (N,), a name shared by photographs
    that show the same cell or overlap: for most photographs, their own.
    """

    memory_map: np.ndarray  # all images of the set
    rows: np.ndarray  # the rows of this part, in ascending order
    labels: np.ndarray
    photos: np.ndarray
    paths: np.ndarray
    scenes: np.ndarray

    @cached_property
    def images(self) -> np.ndarray:
        """A view of the memory map if the rows are contiguous, otherwise a copy made at first use."""
        first, last = self.rows[0], self.rows[-1] + 1
        return self.memory_map[first:last] if last - first == len(self.rows) else self.memory_map[self.rows]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The parts of a split, and what the set is.

    `simple` is TEST_SIMPLE, the photographs behind TEST as they were taken, or None if there is none.
    `fingerprint` is a hash of every file's name and content, and of what the set's own tables and groups say of its
    photographs: a zip and its unpacked folder share it. `card` is that of a known set, or None; `seed` that of the
    split, and `limit` and `frame` those of `load`; seed and frame are None for a set made by hand. `notes` are
    sentences on what a reader must know: files not used, copies, classes that a part lacks.
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
    card: DataCard | None = None
    seed: int | None = None
    limit: int | None = None
    frame: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each part."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}


@dataclass(frozen=True)
class Index:
    """A data set that is listed and checked, but not decoded yet.

    `photos` is empty if the photographs are unknown; `why_no_photos` then says why.
    """

    source: Source
    entries: list[Entry]
    classes: tuple[str, ...]
    name: str
    fingerprint: str
    photos: dict[str, str]  # image key -> photograph
    scenes: dict[str, str]  # photograph -> name of its scene, if it shares one
    why_no_photos: str
    card: DataCard | None
    unused: dict[str, list[str]]  # what a file is that is no image of the set -> paths

    @cached_property
    def copies(self) -> list[list[Entry]]:
        """Images that are the same file, byte for byte; each list has two at least."""
        alike, same = Counter((entry.size, entry.crc) for entry in self.entries), defaultdict(list)
        for entry in (entry for entry in self.entries if alike[entry.size, entry.crc] > 1):  # of many, some by chance
            with suppress(DatasetError):  # a damaged file is no copy, and is named where it is decoded
                same[hashlib.sha256(self.source.read(entry.path)).digest()].append(entry)
        return [found for found in same.values() if len(found) > 1]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what a reader must know: files not used, copies, photographs on two sides."""
        sides: dict[str, set[str]] = {"TEST": set(), "TRAIN": set()}
        for entry in self.entries:
            sides.get(entry.split.replace("VALIDATION", "TRAIN"), set()).add(self.photos.get(entry.key, ""))
        both = sorted(sides["TEST"] & sides["TRAIN"] - {""})
        groups = sorted({entry.group for entry in self.entries if self.photos.get(entry.key, "") == entry.group != ""})
        said = {
            f"Not used: {layouts.told(self.unused)}.": bool(self.unused),
            f"Groups above the classes count as photographs: {len(groups):,}, such as {some(groups, 2)}.": bool(groups),
            "The set has a validation part of its own, which is used as it is.": "VALIDATION"
            in {e.split for e in self.entries},
            f"Photographs behind both TRAIN and TEST: {len(both):,}, such as {some(both, 2)}.": bool(both),
        }
        ways = {"more than once": "path", "under two classes": "label", "in two parts": "split"}
        for what, of in ways.items():
            found = [same for same in self.copies if len({getattr(entry, of) for entry in same}) > 1]
            said[f"The same file is there {what}: {len(found):,}, such as {_listed(found[:1])}."] = bool(found)
        return tuple(sentence for sentence, applies in said.items() if applies)


def load(
    data: str | os.PathLike | None = None,
    image_size: tuple[int, int] = (120, 160),
    split: str = "image",
    seed: int = 0,
    limit: int | None = None,
    frame: str = "slide",
) -> Dataset:
    """Load a set; its images are decoded only the first time.

    Args:
        data: a zip, a folder, a table of images, MedMNIST's .npz (all as data/README.md has it), the name of a known
            set (`cards.names()`), or "kaggle"; None looks at BLOODCELL_DATA, then for a downloaded archive, then takes
            the drawn sample and says so.
        image_size: height and width in pixels.
        split: "image", a random 80/20 split of TRAIN, stratified by class; "photo", the same by photograph: no
            photograph is on both sides, and no cell or field that was photographed twice. TEST stays as it is; in a
            folder without TRAIN and TEST, a fifth of the images, or photographs, becomes TEST; a validation part of
            its own is used as it is. "fold:K/N" pools all parts, and tests on the K-th of N shares of all photographs;
            "train:K/N" does so without TEST.
        seed: of the split, and of the choice made by `limit`.
        limit: at most this many images in each part, stratified by class.
        frame: "slide", the whole image, or "cell", a window around the white cell. See `images.window`.

    Raises:
        DatasetError: the data, the split, the limit or the frame cannot be used; or the same file would be trained and
            tested on, and BLOODCELL_COPIES is not "allowed".
    """
    checked = _check_arguments(seed, image_size=image_size, split=split, limit=limit, frame=frame)
    index = describe(data)
    labels, photos, scenes, rows = _split(index, split, seed)
    pixels, paths = _decoded(index, checked.image_size, checked.frame), np.array([e.path for e in index.entries])

    def part(name: str) -> Part:
        chosen = splits.subsample(rows[name], labels, checked.limit, seed)
        return Part(pixels, chosen, labels[chosen], photos[chosen], paths[chosen], scenes[chosen])

    simple = part("simple") if len(rows["simple"]) else None
    own = {name: part(name) for name in ("train", "validation", "test")}
    lacks = {name: sorted(set(index.classes) - {index.classes[n] for n in own[name].labels}) for name in own}
    notes = *index.notes, *(f"No image of {some(lack)} is in {name}." for name, lack in lacks.items() if lack)
    left = {index.entries[row] for row in set(range(len(labels))).difference(*rows.values())}
    if unknown := sorted(entry.path for entry in left if entry.key not in index.photos):
        notes += (f"Not used, for their photograph is unknown: {len(unknown):,} images, such as {some(unknown, 2)}.",)
    about = index.classes, index.name, index.fingerprint, split, bool(index.photos), index.card
    train, validation, test = own.values()
    return Dataset(train, validation, test, simple, *about, int(seed), checked.limit, checked.frame, notes)


def why_not(index: Index, split: str, seed: int = 0) -> str:
    """Say why a set cannot be split in some way, or "" if it can."""
    try:
        _split(index, split, seed)
    except DatasetError as error:
        return str(error)
    return ""


def check(index: Index) -> list[str]:
    """Decode every image of a set in full size, keep nothing, and say what is wrong with each that cannot be used."""
    with ThreadPoolExecutor(images.THREADS) as pool:
        found = pool.map(partial(_decode, index, None, "slide"), index.entries)
        shown = tqdm(found, "Checking", len(index.entries), unit=" images", mininterval=0.5)
        return [str(error) for error in shown if isinstance(error, DatasetError)]


def describe(data: str | os.PathLike | None = None) -> Index:
    """List and check a set without decoding it. See `load` for `data` and errors."""
    source = sources.open_source(locate(data))
    entries, unused = layouts.entries(source)
    entries = _with_checksums(source, entries)
    card = _recognised(source, entries, cards.get(str(data)) if data in cards.names() else None)
    found = {entry.label for entry in entries}
    order = sorted(found.difference(CLASSES), key=lambda name: (name.isdecimal(), name.zfill(9 * name.isdecimal())))
    classes = card.classes if card else (*(c for c in CLASSES if c in found), *order)
    stem = source.root.resolve().stem  # the names of known sets are reserved for them
    name = card.name if card else f"own {stem}" if stem in cards.names() else stem
    tables = _tables(source, card)
    photos, why = _photos(tables, entries, own=tables is source)
    scenes = _scenes(tables) if photos else {}
    used = {tables.find(PHOTOS), tables.find(SCENES)} if photos and tables is source else set()
    unused = {what: left for what, paths in unused.items() if (left := [path for path in paths if path not in used])}
    listing = "".join(f"{entry.key} {entry.size} {entry.crc:08x}\n" for entry in entries)
    if tables is source and not (card and card.brings_table):  # what is shipped or drawn belongs to the program
        listing += "".join(f"{key} {photo} {scenes.get(photo, '')}\n" for key, photo in sorted(photos.items()))
    digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]
    return Index(source, entries, classes, name, digest, photos, scenes, why, card, unused)


def locate(data: str | os.PathLike | None = None) -> Path:
    """Return the zip or folder named by `data`, downloaded or drawn if necessary.

    The name of a known set comes before a folder of that name, which is meant by ./NAME.

    Raises:
        DatasetError: a known set is not found, and cannot be downloaded or drawn.
    """
    data = (os.environ.get("BLOODCELL_DATA") or _place(cards.ARCHIVE)) if data is None else data
    refuse("data=''", {"names nothing. Give a path or the name of a set, or leave it out": data == ""})
    if data is None:
        print("No archive found (BLOODCELL_DATA, data/, kagglehub): using the sample, drawn smears.")
        data = cards.SAMPLE.name
    if data != "kaggle" and data not in cards.names():
        return Path(data)
    card = cards.ARCHIVE if data == "kaggle" else cards.get(str(data))
    if data != "kaggle" and (place := _place(card)):
        return place
    missing = f"not found. Expected it at {', '.join(map(str, card.places))}; put it there, or give its path"
    refuse(card.name, {missing: not (card.draw or card.kaggle)})
    return _drawn(card) if card.draw else _downloaded(card)


def cache_dir() -> Path:
    """Return the folder of decoded images, which need not exist: BLOODCELL_CACHE, or one in the user's cache folder."""
    return Path(os.environ.get("BLOODCELL_CACHE") or platformdirs.user_cache_dir("bloodcell"))


def photographs(
    data: str | os.PathLike | None = None, label: str = CLASSES[0], most: int = 4
) -> list[tuple[str, np.ndarray, list[tuple]]]:
    """Return original photographs that show one class, with the boxes that an expert drew.

    Source: BCCD, whose annotations (Pascal VOC) name white cells WBC, red cells RBC, and Platelets. The archive's copy
    of them has the red cells alone; the sample has all three.

    Args:
        data: as for `load`.
        label: the class; photographs with cells of several classes are left out.
        most: maximum number of photographs.

    Returns:
        (name, image uint8 (height, width, 3), boxes [(what, left, top, right, bottom) in pixels]) for each; empty if
        the set has no annotated photographs.
    """
    source = sources.open_source(locate(data))
    annotated = {PurePosixPath(p).stem: p for p in source.files if p.lower().endswith(".xml")}
    pictures = {PurePosixPath(p).stem: p for p in source.files if "/JPEGImages/" in f"/{p}"}
    path = source.find("labels.csv")
    if not (path and annotated and pictures) or not {"Image", "Category"} <= {*_table(source, path, [])}:
        return []  # any other table may be called so
    table = _table(source, path, ["Image", "Category"])
    table = table[table.Image.str.isdecimal()]
    names = table.Image.map(int).map("BloodImage_{:05d}".format)
    chosen = names[(table.Category == label) & names.isin(annotated) & names.isin(pictures)]
    return [(name, source.image(pictures[name]), _boxes(source, annotated[name])) for name in chosen[:most]]


def _boxes(source: Source, path: str) -> list[tuple]:
    kinds, advice = (TypeError, ValueError, ElementTree.ParseError), "Expected Pascal VOC, with a bndbox in each object"
    with explaining(source.place(path), "not readable", advice, *kinds):
        things, sides = ElementTree.fromstring(source.read(path)).iter("object"), ("xmin", "ymin", "xmax", "ymax")
        return [(t.findtext("name"), *(int(t.findtext(f"bndbox/{side}", "")) for side in sides)) for t in things]


def _split(index: Index, split: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the label, photograph and scene of each image, and the rows of each part."""
    needs = f"split={split!r} needs the photograph behind each image, and {index.why_no_photos}, or use split='image'"
    refuse(index.source.root, {needs: split != "image" and not index.photos})
    keys, parts = (np.array([getattr(e, what) for e in index.entries]) for what in ("key", "split"))
    labels = np.array([index.classes.index(entry.label) for entry in index.entries])
    photos = np.array([index.photos.get(key, "") for key in keys])
    names = np.where(photos != "", photos, keys)
    scenes = np.array([index.scenes.get(name, name) for name in names])
    rows = splits.split(parts, labels, photos, scenes, split, seed)
    empty = [part for part, of in rows.items() if part != "simple" and not len(of)]
    refuse(index.source.root, {f"split={split!r} leaves no image of a known photograph for {some(empty)}": bool(empty)})
    trained = {index.entries[row].path for part in ("train", "validation") for row in rows[part]}
    tested = {index.entries[row].path for row in rows["test"]}
    both = [same for same in index.copies if trained & (paths := {e.path for e in same}) and tested & paths]
    advice = f"Remove all but one of each, or set {COPIES}=allowed"
    fault = f"{len(both):,} files are both trained and tested on, byte for byte, such as {_listed(both[:1])}. {advice}"
    refuse(index.source.root, {fault: bool(both) and os.environ.get(COPIES) != "allowed"})
    return labels, names, scenes, rows


def _listed(found: list[list[Entry]]) -> str:
    return some([entry.path for same in found for entry in same], 2)


def _with_checksums(source: Source, entries: list[Entry]) -> list[Entry]:
    """Return the images with their checksums.

    That of a file outside a zip is kept in the cache folder, with the file's size and time of change, unless it was
    changed just now.
    """
    name = hashlib.sha256(os.fsencode(source.root.resolve())).hexdigest()[:16]
    table, now = cache_dir() / f"checksums-{name}.npz", time.time_ns()
    kept: dict[tuple, int] = {}
    with suppress(Exception):  # there is none, or it is damaged
        held = files.read_arrays(table)
        rows = zip(*(held[column].tolist() for column in ("path", "size", "time", "crc")), strict=True)
        kept = {row[:3]: row[3] for row in rows}
    found = {}
    for entry in entries:
        what = entry.path, entry.size, source.files[entry.path].time
        found[what] = entry.crc or kept.get(what) or zlib.crc32(source.read(entry.path))
    settled = [(*what, crc) for what, crc in found.items() if 0 < what[2] < now - SETTLED * 1e9]
    if {what[:3] for what in settled} - kept.keys():
        paths, sizes, times, crcs = map(np.array, zip(*settled, strict=True))
        with suppress(OSError):  # it only saves time
            table.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(table) as part:
                np.savez(part, path=paths, size=sizes, time=times, crc=crcs)
    return [replace(entry, crc=crc) for entry, crc in zip(entries, found.values(), strict=True)]


def _check_arguments(seed: int, **values: Any) -> protocols.Protocol:
    """Check arguments as a protocol does, and return a protocol of them."""
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise DatasetError(f"seed={seed!r} cannot be used. Give a whole number from 0 to {2**32 - 1}.")
    try:
        return protocols.get("paper", **values)
    except ValueError as error:
        raise DatasetError(str(error)) from None


def _place(card: DataCard) -> Path | None:
    """Return where a known set lies already: in its places, or whole in kagglehub's cache."""
    folders = [Path.cwd() / "data", Path.cwd().parent / "data", files.shipped("data")]
    found = [folder / place for folder in folders for place in card.places]
    if card.kaggle:
        cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache/kagglehub")
        copy = cache / "datasets" / card.kaggle
        if copy.parents[1].joinpath(f"{copy.name}.complete").exists():  # kagglehub's mark; without it, half unpacked
            found.append(copy)
    return next((place for place in found if place.exists()), None)


def _downloaded(card: DataCard) -> Path:
    import kagglehub  # slow to import, and needed only here

    advice = "Connect to the internet once, or download the zip by hand and give its path"
    with explaining("kaggle", f"{card.kaggle} could not be downloaded", advice, Exception):  # kagglehub raises anything
        return Path(kagglehub.dataset_download(card.kaggle))


def _drawn(card: DataCard) -> Path:
    """Return a drawn set in the cache folder, under a name that changes when the program that draws it does."""
    folder = cache_dir() / f"{card.name}-{card.version}"
    advice = "Make room, or set BLOODCELL_CACHE to another folder"
    if card.draw and not folder.exists():
        with explaining(folder, "the set cannot be written there", advice, OSError), files.alone(folder):
            if not folder.exists():
                card.draw(folder)
    return folder


def _recognised(source: Source, entries: list[Entry], wanted: DataCard | None) -> DataCard | None:
    """Return the card of a known set, and hold the set to it; None for any other set.

    Args:
        source: where the set lies.
        entries: its images.
        wanted: the only card it may have, if it was asked for by name.
    """
    counts = Counter((entry.split, entry.label) for entry in entries)
    keys, has_table = {entry.key for entry in entries}, source.find(PHOTOS) is not None
    for card in [wanted] if wanted else map(cards.get, cards.names()):
        wrong, listed = card.differences(counts), card.listed(keys)
        if not wrong and listed in (None, len(keys)) and (has_table or not card.brings_table):
            return card
        advice = "Unpack or download it again (to use fewer images, give a limit)"
        fault = f"looks like the set {card.name}, but is not whole: {'; '.join(wrong) or 'other files'}. {advice}"
        claimed = not has_table and 2 * (listed or 0) > len(keys)
        refuse(source.root, {fault: claimed or card is wanted})
    return None


def _tables(source: Source, card: DataCard | None) -> Source:
    """Return where the tables of photographs are: the set itself, or the folder named by its card."""
    if source.find(PHOTOS) or not card or not card.tables:
        return source
    place = card.tables
    return Source(
        place, {f.name: File(f.stat().st_size) for f in place.glob("*.csv")}, set(), lambda f: open(place / f, "rb")
    )


def _table(source: Source, path: str, columns: list[str]) -> pd.DataFrame:
    """Read a table of text that must have some columns."""
    advice = f"Expected a table with the columns {','.join(columns)}; restore or remove it"
    with explaining(source.place(path), "not readable", advice, KeyError, ValueError):
        # The default engine takes a row that is too short for one with empty fields.
        options = {"dtype": str, "keep_default_na": False, "index_col": False, "engine": "python"}
        table = pd.read_csv(io.BytesIO(source.read(path)), encoding="utf-8-sig", **options)
        if table[columns].isna().any(axis=None):
            raise ValueError("a row lacks a column")
    return table.map(str.strip, na_action="ignore")


def _photos(tables: Source, entries: list[Entry], own: bool) -> tuple[dict[str, str], str]:
    """Read the photograph behind each image.

    Args:
        tables: where the table is.
        entries: the images.
        own: whether it is the set's own table, which must be the table of these files.

    Returns:
        (key -> photograph, ""), or ({}, why it is unknown).
    """
    if not (path := tables.find(PHOTOS)):
        groups = {entry.key: entry.group for entry in entries if entry.group}
        lack = f"{tables.root} has no {PHOTOS} (columns split,class,file,photograph), and no groups above the classes"
        return groups, "" if groups else f"{lack}. Add one"
    table, where = _table(tables, path, ["split", "class", "file", "photograph"]), tables.place(path)
    names = table["split"].map(lambda name: layouts.part_of(name) or name), table["class"].map(layouts.label_of)
    table["key"] = (names[0] + "/" + names[1] + "/" + table["file"]).str.lstrip("/")
    same_case = {e.key.casefold(): e.key for e in entries} | {e.key: e.key for e in entries}
    table["key"] = [same_case.get(key, same_case.get(key.casefold(), key)) for key in table["key"]]
    table = table.drop_duplicates(["key", "photograph"]).set_index("key")
    twice = table.index[table.index.duplicated()]
    refuse(where, {f"names two photographs for {some(twice)}. Keep the correct row": len(twice) > 0})
    crcs = pd.Series({entry.key: f"{entry.crc:08x}" for entry in entries})
    missing = crcs.index.difference(table.index)
    lack = f"no row for {some(missing)}. Add it, its photograph empty if unknown, or remove the table"
    refuse(where, {lack: len(missing) > 0})
    table = table.loc[crcs.index]
    there = table.get("crc32", crcs)
    for key in crcs.index[there != crcs]:
        other = f"{key} is not the file that {where} was made from (CRC-32 {crcs[key]}, there {there[key]}). "
        why = other + "Get the original images, or make a table of these"
        refuse(tables.root, {why: own})
        return {}, why
    return table.photograph[table.photograph != ""].to_dict(), ""


def _scenes(tables: Source) -> dict[str, str]:
    """Read which photographs show the same cell or field; each is given the name of the first of them."""
    if not (path := tables.find(SCENES)):
        return {}
    table = _table(tables, path, ["photograph_a", "photograph_b", "judgement"])
    scenes: dict[str, str] = {}
    for pair in table[table.judgement.str.casefold().str.startswith("same")].itertuples():  # cell or field
        joined = {scenes.setdefault(photo, photo) for photo in (pair.photograph_a, pair.photograph_b)}
        scenes = {photo: min(joined) if scene in joined else scene for photo, scene in scenes.items()}
    return scenes


def _decoded(index: Index, image_size: tuple[int, int], frame: str) -> np.ndarray:
    """Return the memory map of all images, decoded now if no earlier run has done so."""
    height, width = image_size
    cut = "" if frame == "slide" else f"-{frame}"
    target = cache_dir() / f"{index.fingerprint}-{height}x{width}{cut}-v{images.DECODER}.npy"
    need = f"{len(index.entries) * height * width * 3 / 2**20:,.0f} MiB: make room, or set BLOODCELL_CACHE elsewhere"
    with explaining(target.parent, "the decoded images cannot be kept there", need, OSError):
        if (kept := _kept(target)) is not None:  # reading needs no lock, and no right to write
            return kept
        with files.alone(target):
            if _kept(target) is None:
                _decode_all(index, image_size, frame, target)
        return np.load(target, mmap_mode="r")


def _kept(target: Path) -> np.ndarray | None:
    """Return the memory map left by an earlier run, unless it was damaged on disk or in a copy."""
    with suppress(FileNotFoundError, ValueError):
        held = np.memmap(target, np.uint8, "r").data
        if zlib.crc32(held[:-CHECKSUM]) == int.from_bytes(held[-CHECKSUM:], "big"):
            return np.load(target, mmap_mode="r")
    return None


def _decode_all(index: Index, image_size: tuple[int, int], frame: str, target: Path) -> None:
    """Write all images to an array file, and behind the array the CRC-32 of the file up to there.

    Plain writes instead of a memory map: a full disk is then an error, not a signal that kills the process.
    """
    entries, refused, decode = index.entries, [], partial(_decode, index, image_size, frame)
    with files.replacing(target) as part, open(part, "wb") as file, ThreadPoolExecutor(images.THREADS) as pool:
        shape = (len(entries), *image_size, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        batches = (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))
        found = chain.from_iterable(pool.map(decode, some) for some in batches)
        for pixels in tqdm(found, "Decoding", len(entries), unit=" images", mininterval=0.5):
            if isinstance(pixels, DatasetError):
                refused.append(pixels)
            else:
                file.write(pixels.tobytes())
        if refused:
            more = f" In all, {len(refused):,} images cannot be used: {some([error.path for error in refused])}."
            advice = f" All of them are explained by: bloodcell data --check --data {index.source.root}"
            raise DatasetError(f"{refused[0]}{more + advice if len(refused) > 1 else ''}")
        file.flush()
        file.write(zlib.crc32(np.memmap(part, np.uint8, "r").data).to_bytes(CHECKSUM, "big"))


def _decode(index: Index, image_size: tuple[int, int] | None, frame: str, entry: Entry) -> np.ndarray | DatasetError:
    where = str(index.source.place(entry.path))
    try:
        data = index.source.read(entry.path)
        if zlib.crc32(data) != entry.crc:
            raise DatasetError(f"{where}: changed while the set was read. Try again when nothing writes there.")
        return images.read(data, where, image_size, index.card.size if index.card else None, frame)
    except DatasetError as error:
        error.path = entry.path
        return error
