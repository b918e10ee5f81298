"""Where image files come from: a zip read in place, or a folder. Lists, checks, and never unpacks."""

import os
import posixpath
import stat
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
SPLITS = ("TRAIN", "TEST", "TEST_SIMPLE")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
MAX_FILE_BYTES = 256 * 2**20
MAX_NAME, MAX_DEPTH = 4096, 50  # of an entry's path: no file system takes longer ones
MAX_ZIP_RATIO = 100  # photographs hardly compress; a larger ratio is a decompression bomb


class DatasetError(ValueError):
    """The data cannot be used; the message names the culprit, what was expected, what to do."""


@dataclass(frozen=True)
class Entry:
    """One image file: its place in the source, and the split and class its folders name.

    `key` is the same for a zip and a folder, however deep the images lie: TRAIN/MONOCYTE/_0_1.jpeg;
    `split` is "" where the source has no TRAIN and TEST folders; `crc` is the CRC-32 of the content.
    """

    key: str
    path: str
    split: str
    label: str
    size: int
    crc: int = 0


class Source:
    """A zip or folder of files, listed once, read by path. Use `open_source`."""

    def __init__(self, root: Path):
        self.root = root

    def images(self) -> list[Entry]:
        """Return the classified images, sorted by key.

        Raises:
            DatasetError: a class is missing, empty, alone or stands in two places.
        """
        return _classify(self.root, self.files, self.folders)

    def find(self, name: str) -> str | None:
        """Return the path of the shallowest file called `name`, or None."""
        found = [path for path in self.files if posixpath.basename(path) == name]
        return min(found, key=lambda path: (path.count("/"), path), default=None)


class FolderSource(Source):
    """Files below a folder; links to files and folders are followed."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.files, self.folders, seen = {}, set(), set()

        def refuse(error: OSError):
            raise DatasetError(
                f"{error.filename}: this folder cannot be read ({error.strerror}). "
                "Give yourself read permission (chmod -R u+rX) and try again."
            ) from error

        for folder, names, files in os.walk(root, onerror=refuse, followlinks=True):
            if (real := os.path.realpath(folder)) in seen:  # a link that leads back into the tree
                names.clear()
                continue
            seen.add(real)
            relative = Path(folder).relative_to(root)
            self.folders.update((relative / name).as_posix() for name in names)
            for name in files:
                self._add(os.path.join(folder, name), name if folder == str(root) else f"{relative.as_posix()}/{name}")

    def _add(self, place: str, path: str) -> None:
        try:
            found = os.stat(place)
        except OSError as error:
            if os.path.islink(place) and not _is_image(path):
                return  # a broken link, as editors leave them beside a file that is open
            advice = "Remove the broken link" if os.path.islink(place) else "Give yourself permission to enter there"
            raise DatasetError(f"{place}: this file cannot be reached ({error.strerror}). {advice}.") from error
        if _is_image(path) and not stat.S_ISREG(found.st_mode):
            raise DatasetError(f"{place}: named like an image, but a pipe, socket or device. Remove it.")
        if _is_image(path) and found.st_size > MAX_FILE_BYTES:
            raise DatasetError(f"{place}: {found.st_size:,} bytes are more than {MAX_FILE_BYTES:,}. Scale it down.")
        if stat.S_ISREG(found.st_mode):
            self.files[path] = found.st_size, 0

    def read(self, path: str) -> bytes:
        try:
            with open(os.path.join(self.root, path), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise DatasetError(
                f"{self.root / path}: this file cannot be read ({error.strerror}). "
                "Check that it exists and that you have permission."
            ) from error

    def images(self) -> list[Entry]:
        # A zip lists its checksums, a folder does not. Measured: threads and pathlib make this slower.
        return [replace(entry, crc=zlib.crc32(self.read(entry.path))) for entry in super().images()]


class ZipSource(Source):
    """Members of a zip, read in place: nothing is ever written to disk."""

    def __init__(self, root: Path):
        super().__init__(root)
        try:
            self.zip = zipfile.ZipFile(root)
        except PermissionError:
            raise  # open_source says what to do
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise DatasetError(
                f"{root}: not a complete zip ({error}). It is damaged, cut short by an "
                "interrupted download, or another kind of file; download it again."
            ) from error
        for member in self.zip.infolist():
            _refuse_unsafe(root, member)
        members = [m for m in self.zip.infolist() if not m.is_dir()]
        name, times = max(Counter(m.filename for m in members).items(), key=lambda item: item[1], default=("", 0))
        if times > 1:
            raise DatasetError(f"{root}: its entry {name!r} stands there {times} times. Keep the one that is meant.")
        if sum(m.compress_size for m in members) > root.stat().st_size:
            raise DatasetError(f"{root}: its entries overlap, as in a decompression bomb. Use the original archive.")
        self.files = {m.filename: (m.file_size, m.CRC) for m in members}
        self.folders, new = set(), {posixpath.dirname(name) for name in self.zip.namelist()}
        while new := new - {""}:
            self.folders |= new
            new = {posixpath.dirname(folder) for folder in new}

    def read(self, path: str) -> bytes:
        try:
            with self.zip.open(path) as file:
                return file.read(self.files[path][0])  # not a byte more than was declared and checked
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
            raise DatasetError(
                f"{self.root}: its entry {path} cannot be read ({error}). "
                "The zip is damaged or encrypted; download it again."
            ) from error


def open_source(path: str | os.PathLike) -> Source:
    """Open a zip or a folder.

    Args:
        path: the zip or the folder; `~` is expanded.

    Returns:
        A `Source` whose files have been listed and checked, and not yet read.

    Raises:
        DatasetError: it does not exist, cannot be read, is no zip, or holds unsafe entries.
    """
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            return FolderSource(path)
        if path.is_file():
            return ZipSource(path)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error}). Check its "
            "spelling, and that you have read permission."
        ) from error
    raise DatasetError(
        f"{path}: no such file or folder. Expected the archive as a zip, a folder that holds "
        "TRAIN and TEST, or a folder of CLASS/*.jpg; check the spelling of the path."
    )


def _refuse_unsafe(root: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise DatasetError(f"{root}: its entry {name!r} points outside the archive. Use the original archive.")
    if not name or len(name) > MAX_NAME or name.count("/") > MAX_DEPTH:
        raise DatasetError(
            f"{root}: its entry {name[:80]!r} has no name, or one too long for any disk. Use the original archive."
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetError(f"{root}: its entry {name!r} is packed by an unusual method. Pack it again with deflate.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DatasetError(f"{root}: its entry {name!r} is a link. Replace it by the file itself.")
    if member.file_size > MAX_FILE_BYTES or (
        member.file_size > 2**20 and member.file_size > MAX_ZIP_RATIO * member.compress_size
    ):
        raise DatasetError(
            f"{root}: its entry {name!r} would unpack from {member.compress_size:,} to "
            f"{member.file_size:,} bytes, as a decompression bomb does. Use the original archive."
        )


def _classify(root: Path, files: dict[str, tuple[int, int]], folders: set[str]) -> list[Entry]:
    """Read split and class off the folder names: .../TRAIN/CLASS/file, or CLASS/file."""
    paths = [path.split("/") for path in files if _is_image(path)]
    in_split = [p for p in paths if len(p) >= 3 and p[-3].upper() in SPLITS]
    entries = []
    for parts in in_split or [p for p in paths if len(p) >= 2]:
        path, split, label = "/".join(parts), parts[-3].upper() if in_split else "", _label(parts[-2])
        key = f"{split}/{label}/{parts[-1]}".lstrip("/")
        entries.append(Entry(key, path, split, label, *files[path]))
    if not entries:
        raise DatasetError(
            f"{root}: no image found. Expected TRAIN/CLASS/*.jpeg and TEST/CLASS/*.jpeg, or "
            f"CLASS/*.jpeg ({', '.join(IMAGE_SUFFIXES)}), at any depth."
        )
    entries.sort(key=lambda entry: entry.key)
    _check_places(root, entries)
    _check_classes(root, entries, folders)
    return entries


def _is_image(path: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.split("/"))
    return path.lower().endswith(IMAGE_SUFFIXES) and not hidden


def _label(folder: str) -> str:
    return folder.upper() if folder.upper() in CLASSES else folder


def _check_places(root: Path, entries: list[Entry]) -> None:
    """Refuse two class folders that would be taken for one, and splits that lie apart."""
    places = {}
    for entry in entries:
        folder = posixpath.dirname(entry.path)
        top = posixpath.dirname(posixpath.dirname(folder)) if entry.split else posixpath.dirname(folder)
        for what, place in (((entry.split, entry.label), folder), ("top", top)):
            if (first := places.setdefault(what, place)) != place:
                raise DatasetError(
                    f"{root}: images lie in two places, {first or '.'} and {place or '.'}. "
                    "Give the path of the one that is meant."
                )


def _check_classes(root: Path, entries: list[Entry], folders: set[str]) -> None:
    counts = Counter((entry.split, entry.label) for entry in entries)
    labels = sorted({label for _, label in counts})
    if set(labels) & set(CLASSES):
        labels = sorted({*labels, *CLASSES})
    splits = sorted({split for split, _ in counts} | ({"TRAIN", "TEST"} if entries[0].split else set()))
    for split in splits:
        found = [label for of, label in sorted(counts) if of == split]
        here = {posixpath.dirname(posixpath.dirname(e.path)) for e in entries if e.split == split}
        for folder in sorted(folders):
            name = posixpath.basename(folder)
            if posixpath.dirname(folder) in here and _label(name) not in found and name[0] not in "._":
                raise DatasetError(
                    f"{root}: the class folder {folder} holds no image. Put images there, "
                    "or remove the folder if it is no class."
                )
        if missing := [label for label in labels if label not in found]:
            raise DatasetError(
                f"{root}: {split or 'the folder'} has no class {', '.join(missing)}. Expected "
                f"{', '.join(labels)}; found {', '.join(found) or 'none'}. Add what is missing."
            )
    if len(labels) < 2:
        raise DatasetError(
            f"{root}: only one class, {labels[0]}. A classifier needs two at least: "
            "give the folder that holds the class folders."
        )
