"""Layouts: which files of a source are images of which part, class and group, and what every other file is."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bloodcell_lib import cards
from bloodcell_lib.images import SUFFIXES, DatasetError, refuse, some
from bloodcell_lib.sources import MAX_BYTES, Name, Source

CLASSES = cards.ARCHIVE.classes  # recognised in any case
PARTS = {"train": "TRAIN", "training": "TRAIN", "test": "TEST", "testing": "TEST", "test_simple": "TEST_SIMPLE"}
PARTS |= dict.fromkeys(("val", "valid", "validation"), "VALIDATION")
ENDINGS = tuple(ending for endings in SUFFIXES.values() for ending in endings)
BESIDE = r"(?i)masks?|annotations?|ground[ _-]?truths?|segmentations?|contours?|labels?|jpegimages"
HIDDEN = "hidden files"
NUMBERED = (
    r"(?i)((fold|patient|pat|case|subject|donor|slide|smear|batch|sample|year|plate|ward|centre|center)s?[ _-]\w+|.*\d)"
)


@dataclass(frozen=True)
class Entry:
    """One image file: its place in the source, and the part, class and group that folders or a table name.

    `key` is the same in a zip and a folder, however deep the images lie: TRAIN/MONOCYTE/_0_1.jpeg, or, below folders
    of patients, TRAIN/MONOCYTE/patient_7/1.jpeg; `split` is "" if the source has no TRAIN and TEST folders; `crc` is
    the CRC-32 of the content, or 0 until it is known; `group` is what is above the class, such as a patient, or "".
    """

    key: str
    path: str
    split: str
    label: str
    size: int
    crc: int
    group: str = ""


def entries(source: Source) -> tuple[list[Entry], dict[str, list[str]]]:
    """Return the images of a source, sorted by key, and the paths of all other files by what they are.

    Raises:
        DatasetError: no layout fits, or more than one; a class is empty, the only one, or missing in TRAIN; an image
            is no file that can be read.
    """
    unused: dict[str, list[str]] = defaultdict(list)
    named = _by_names(source) if source.named is not None else _by_folders(source, unused)
    found = []
    for path, (name, rest) in named.items():
        key = "/".join(filter(None, (name.part, name.label, rest)))
        file = source.files[path]
        found.append(Entry(key, path, name.part, name.label, file.size, file.crc, name.group))
    layout = f"CLASS/*, or TRAIN/CLASS/* and TEST/CLASS/*, at any depth ({', '.join(ENDINGS)}), or a table (.csv)"
    none = f"no image found in a class folder. Expected {layout}. Not used: {told(unused)}"
    refuse(source.root, {none: not found})
    _check_files(source, found)
    _check_classes(source, found)
    return sorted(found, key=lambda entry: entry.key), {what: sorted(paths) for what, paths in unused.items()}


def told(unused: dict[str, list[str]]) -> str:
    """Say what is not used: how many files of each kind, with an example."""
    kinds = sorted(unused.items(), key=lambda item: (-len(item[1]), item[0]))
    return "; ".join(f"{what} ({len(paths):,}), such as {min(paths)}" for what, paths in kinds) or "nothing"


def part_of(name: str) -> str:
    """Return the part that a folder or a table calls by some name: TRAIN for train, Training or train_data; else ""."""
    bare = name.strip().casefold()
    return PARTS.get(bare) or PARTS.get(re.sub(r"[ _-]?(data|set|images)$", "", bare), "")


def label_of(name: str) -> str:
    """Return the class that a folder or a table calls by some name: itself, or one of `CLASSES` in any case."""
    return name.upper() if name.upper() in CLASSES else name


def _by_names(source: Source) -> dict[str, tuple[Name, str]]:
    """Return what a table or an array file says of each image, and what its key ends with."""
    named = source.named or {}
    odd = sorted({name.part for name in named.values() if name.part and not part_of(name.part)})
    some_blank = len({name.part == "" for name in named.values()}) > 1
    refuse(source.root, {
        f"the split {some(odd)} is unknown. Expected train, validation or test": bool(odd),
        "some images have a split and some have none. Give one to all, or to none": some_blank,
    })  # fmt: skip
    return {path: (Name(label_of(n.label), n.group, part_of(n.part)), path) for path, n in named.items()}


def _by_folders(source: Source, unused: dict[str, list[str]]) -> dict[str, tuple[Name, str]]:
    """Return what the folders say of each image, and what its key ends with; every other file is put with `unused`."""
    images, places = {}, set()
    for path in sorted(source.files):
        if what := why_not_image(path):
            unused[what].append(path)
        else:
            images[path] = path.split("/")[:-1]
    parts = _in_parts(source.root, images)
    for path in images.keys() - parts.keys():
        unused["images outside of a class folder"].append(path)
    groups, level = _level(source.root, {folders for _, folders, _ in parts.values()})
    own = {folders[level] for _, folders, _ in parts.values() if len(folders) == level + 1}
    named: dict[str, tuple[Name, str]] = {}
    for path, (part, folders, above) in parts.items():
        if len(folders) <= level:
            unused["images outside of a class folder"].append(path)
        elif folders[level] not in own and own.intersection(folders[level + 1 :]):
            unused["images in folders that repeat the classes"].append(path)
        else:
            group = "/".join(folders[n] for n in groups)
            rest = "/".join(filter(None, (group, *folders[level + 1 :], path.split("/")[-1])))
            named[path] = Name(label_of(folders[level]), group, part), rest
            places.add((part, group, label_of(folders[level]), (*above, *folders[: level + 1])))
    _check_places(source, places)
    return named


def why_not_image(path: str) -> str:
    """Say why a file is not an image of any class, whatever the others are, or ""."""
    *folders, name = path.split("/")
    ending = posixpath.splitext(name)[1].lower()
    beside = [folder for folder in folders if re.fullmatch(BESIDE, folder)]
    if folders and (not folders[0] or ":" in folders[0]) or ".." in folders:
        return "files that point outside the archive"
    if any(each.startswith((".", "__MACOSX")) for each in (*folders, name)):
        return HIDDEN
    if ending not in ENDINGS:
        return f"{ending} files" if ending else "files without an ending"
    return f"images in folders {beside[0]}" if beside else ""


def _in_parts(root: object, images: dict[str, list[str]]) -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return the part of each image that is in one, or "" for all; the folders to look for classes in; those above."""
    found, alone = {}, {}
    for path, folders in images.items():
        first = next((n for n, folder in enumerate(folders) if part_of(folder)), len(folders))
        last = first
        while last < len(folders) and part_of(folders[last]) == part_of(folders[first]):
            last += 1
        if first == len(folders):
            alone[path] = "", tuple(folders), ()
        elif last < len(folders) or first:
            found[path] = part_of(folders[first]), tuple(folders[last:] or folders[:first]), tuple(folders[:last])
    if not found:
        return {path: place for path, place in alone.items() if place[1]}
    inside = {path: place for path, place in found.items() if images[path][len(place[2]) :]}
    tops = defaultdict(set)
    for part, _, above in inside.values():
        tops[part].add("/".join(above))
    for places in (sorted(places) for places in tops.values() if len(places) > 1):
        refuse(root, {f"images lie in two places, {' and '.join(places[:2])}. Give the path of the one meant": True})
    return inside or {path: (part, folders, ()) for path, (part, folders, _) in found.items()}


def _level(root: object, folders: Collection[tuple[str, ...]]) -> tuple[list[int], int]:
    """Return which levels of the folders name groups, such as patients, and which names the classes."""
    groups: list[int] = []
    level = 0
    while True:
        deeper = [each[level:] for each in folders if len(each) > level]
        below: dict[str, set[str]] = {each[0]: set() for each in deeper}
        for each in deeper:
            below[each[0]].update(each[1:2])
        if not any(below.values()):
            return groups, level
        if len(below) > 1:
            if not _are_groups(root, below, {each[0] for each in deeper if len(each) == 1}):
                return groups, level
            groups.append(level)
        level += 1


def _are_groups(root: object, below: dict[str, set[str]], direct: set[str]) -> bool:
    """Return whether folders, with these folders in them, are groups, not classes; `direct` hold images themselves."""
    first, inner = set(below), set().union(*below.values())
    repeats = sum(map(len, below.values())) > len(inner)
    numbered = [all(re.fullmatch(NUMBERED, name) for name in names) for names in (first, inner)]
    known = [any(label_of(name) in CLASSES for name in names) for names in (first, inner)]
    if direct:
        return direct != first and numbered == [True, False] and repeats
    if known[0] != known[1]:
        return known[1]
    if numbered[0] != numbered[1]:
        return numbered[0]
    if numbered[0] and (not repeats or len(first) != len(inner)):
        return repeats and len(inner) < len(first)
    either = f"the classes may be {some(sorted(first), 5)}, or {some(sorted(inner), 5)} below them"
    advice = "Give the path of the folder of classes, name folders of patients or slides patient_1, slide_1 and so on"
    raise DatasetError(f"{root}: {either}. {advice}, or give a table (.csv) with the columns path,label,group.")


def _check_places(source: Source, places: Iterable[tuple]) -> None:
    """Refuse two folders that would be taken for one class, and a class folder without any file."""
    found: dict[tuple, str] = {}
    for part, group, label, folders in sorted(places):
        place = "/".join(folders)
        twice = f"images lie in two places, {found.get((part, group, label))} and {place}. Give one class one folder"
        refuse(source.root, {twice: (part, group, label) in found})
        found[part, group, label] = place
    seen = (path.split("/") for path in source.files if why_not_image(path) != HIDDEN)
    filled = {"/".join(parts[:n]) for parts in seen for n in range(1, len(parts))}
    labels = {(part, label) for part, _, label in found}
    parts = {posixpath.dirname(place): part for (part, _, _), place in found.items()}
    for folder in sorted(source.folders - filled):
        part, name = parts.get(posixpath.dirname(folder)), posixpath.basename(folder)
        beside = part is None or name[0] in "._" or re.fullmatch(BESIDE, name) or part_of(name)
        empty = not beside and (part, label_of(name)) not in labels
        fault = f"has no images of class {label_of(name)}: {folder} is empty. Add its images, or remove the folder"
        refuse(source.root, {f"{part or 'the folder'} {fault}": empty})


def _check_files(source: Source, found: list[Entry]) -> None:
    """Refuse images that are no files, or too large."""
    wrong = {}
    for entry in found:
        large = f"has {entry.size:,} bytes, more than {MAX_BYTES:,}" if entry.size > MAX_BYTES else ""
        if fault := source.files[entry.path].fault or large:
            wrong[entry.path] = f"{source.place(entry.path)}: {fault}"
    advice = "Give the original file, scale it down, or remove it"
    for first in list(wrong.values())[:1]:
        raise DatasetError(f"{first}. {advice}." + f" So it is with {some(list(wrong)[1:])}." * (len(wrong) > 1))


def _check_classes(source: Source, found: list[Entry]) -> None:
    """Refuse a single class, two whose names differ in case only, and parts without a TRAIN that has all classes."""
    labels = {entry.label for entry in found}
    alone = f"only one class, {min(labels)}. A classifier needs two: give the folder that has the class folders"
    alike = sorted(name for name in labels if [n.casefold() for n in labels].count(name.casefold()) > 1)
    case = f"the classes {some(alike)} differ only in case. Give one class one name"
    refuse(source.root, {alone: len(labels) < 2, case: bool(alike)})
    parts = {part: {entry.label for entry in found if entry.split == part} for part in {e.split for e in found}}
    advice = "Add what is missing, or give the path of a folder of CLASS/*, of which a fifth becomes TEST"
    arrays = source.named is not None and source.base is None  # its classes are numbers, which nobody misspells
    wanted = {"TRAIN": parts.get("TRAIN", labels) if arrays else labels, "TEST": parts.get("TEST", labels)}
    for part, needed in wanted.items() if "" not in parts else ():
        missing = sorted(needed - parts.get(part, set()))
        fault = f"{part} has no images of class {some(missing)}. Expected {some(sorted(labels))}. {advice}"
        refuse(source.root, {fault: bool(missing)})
