"""Images: list those of a zip or a folder, and read one. Pixels are read here and nowhere else; nothing is unpacked."""

import io
import os
import posixpath
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from bloodcell_lib import cards

CLASSES = cards.ARCHIVE.classes  # recognised in any case
PARTS = ("TRAIN", "TEST", "TEST_SIMPLE")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
DECODER = 1  # a version: raise it when `read` gives other pixels, so that cached images are decoded again
THREADS = os.cpu_count() or 1
MAX_PIXELS = 50_000_000
MAX_BYTES = 256 * 2**20  # of a file
MAX_NAME, MAX_DEPTH = 4096, 50  # of a path in a zip: no file system takes longer ones
MAX_RATIO = 100  # photographs hardly compress; a larger ratio is a decompression bomb
COARSE = 80  # pixels on the longer side that are enough to find a white cell
NUCLEUS, CELL = 0.12, 130 / 240  # shares of an image's height: the sigma that averages a nucleus, and a cell's window


class DatasetError(ValueError):
    """The data cannot be used; the message names the culprit, what was expected and what to do."""


@contextmanager
def explaining(where: object, what: str, advice: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of some kinds into a `DatasetError`: where it happened, what went wrong, what to do."""
    try:
        yield
    except DatasetError:
        raise
    except kinds as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(" <_io.")[0]
        raise DatasetError(f"{where}: {what} ({reason}). {advice}.") from error


def refuse(where: object, faults: dict[str, bool]) -> None:
    """Raise a `DatasetError` with the first fault that applies."""
    for fault in (fault for fault, applies in faults.items() if applies):
        raise DatasetError(f"{where}: {fault}.")


@dataclass(frozen=True)
class Entry:
    """One image file: its place in the source, and the part and class named by its folders.

    `key` is the same in a zip and a folder, however deep the images lie: TRAIN/MONOCYTE/_0_1.jpeg;
    `split` is "" if the source has no TRAIN and TEST folders; `crc` is the CRC-32 of the content.
    """

    key: str
    path: str
    split: str
    label: str
    size: int
    crc: int


@dataclass(frozen=True)
class Source:
    """A zip or folder of files, listed once, read by path. Use `open_source`."""

    root: Path
    files: dict[str, tuple[int, int]]  # path -> size in bytes, and CRC-32 in a zip or else 0
    folders: set[str]
    open: Callable[[str], IO[bytes]]

    def read(self, path: str) -> bytes:
        """Return the content of a file, and not a byte more than was listed and checked."""
        kinds = zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError
        advice = "It is damaged, encrypted, gone or not yours to read: restore it, or download the set again"
        with explaining(f"{self.root}/{path}", "this file cannot be read", advice, *kinds), self.open(path) as file:
            data = file.read(size := self.files[path][0])
            if len(data) < size:
                raise EOFError(f"{len(data):,} bytes instead of {size:,}")
            return data

    def image(self, path: str) -> np.ndarray:
        """Return an image in full size. See `read` of this module."""
        return read(self.read(path), f"{self.root}/{path}")

    def find(self, name: str) -> str | None:
        """Return the path of the file called `name`, the one closest to the root, or None."""
        found = [path for path in self.files if posixpath.basename(path) == name]
        return min(found, key=lambda path: (path.count("/"), path), default=None)

    def entries(self) -> list[Entry]:
        """Return the images with the parts and classes that their folders name, sorted by key.

        Raises:
            DatasetError: a class is missing, empty, the only one, or in two places.
        """
        paths = [path.split("/") for path in self.files if _is_image(path)]
        in_part = [p for p in paths if len(p) >= 3 and p[-3].upper() in PARTS]  # .../TRAIN/CLASS/file
        found = []
        for names in in_part or [p for p in paths if len(p) >= 2]:  # .../CLASS/file
            path, part, label = "/".join(names), names[-3].upper() if in_part else "", _label(names[-2])
            found.append(Entry(f"{part}/{label}/{names[-1]}".lstrip("/"), path, part, label, *self.files[path]))
        layout = f"TRAIN/CLASS/* and TEST/CLASS/*, or CLASS/*, at any depth ({', '.join(SUFFIXES)})"
        refuse(self.root, {f"no image found. Expected {layout}": not found})
        _check_places(self.root, found)
        _check_classes(self, found)
        # A zip lists its checksums, a folder does not. Measured: threads and pathlib make this slower.
        found = [replace(entry, crc=entry.crc or zlib.crc32(self.read(entry.path))) for entry in found]
        return sorted(found, key=lambda entry: entry.key)


def open_source(path: str | os.PathLike) -> Source:
    """Open a zip or a folder.

    Args:
        path: the zip or the folder; `~` is expanded.

    Returns:
        A `Source` whose files are listed and checked, but not read yet.

    Raises:
        DatasetError: it does not exist, cannot be read, is not a zip, or has unsafe entries.
    """
    kinds = OSError, RuntimeError, ValueError, NotImplementedError, zipfile.BadZipFile
    layouts = (
        f"a folder with TRAIN and TEST, a folder of CLASS/*.jpg, a zip of them, or one of {', '.join(cards.names())}"
    )
    advice = f"Expected {layouts}. Check the spelling and your permission (chmod -R u+rX), or download it again"
    with explaining(path, "cannot be read as a folder or a whole zip", advice, *kinds):
        place = Path(path).expanduser()
        if not (place.is_dir() or place.is_file()):
            raise FileNotFoundError("no such file or folder")
        return _folder(place) if place.is_dir() else _zip(place)


def read(
    data: bytes,
    where: str,
    size: tuple[int, int] | None = None,
    expected: tuple[int, int] | None = None,
    frame: str = "slide",
) -> np.ndarray:
    """Decode an image to upright 8-bit RGB.

    Args:
        data: content of the file.
        where: its path, for messages.
        size: (height, width) to scale to, in pixels, or None. JPEG is decoded at a reduced scale where possible.
        expected: (height, width) that the image must have, as RGB, or None for any.
        frame: "slide", or "cell" to keep the `window` around the white cell only; it needs a size.

    Returns:
        Pixels uint8 (height, width, 3).

    Raises:
        DatasetError: it is damaged, too large, transparent, or in a format or colour mode that cannot be converted;
            or a window is asked for without a size.
    """
    without = "no window can be cut without a size. Give one, or frame='slide'"
    refuse(where, {"the file is empty. Restore or remove it": not data, without: frame == "cell" and not size})
    advice = f"It is damaged, or not one of {', '.join(FORMATS)}: restore or remove it"
    with explaining(where, "not an image that can be read", advice, Exception):  # Pillow lets through anything
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check(image, where, expected)
        if size and image.mode == "RGB" and frame == "slide":
            sideways = image.getexif().get(0x112, 1) > 4  # the transposition below swaps the sides
            image.draft("RGB", size if sideways else size[::-1])
        image.load()
        upright = _rgb(ImageOps.exif_transpose(image), where)
        box = window(np.asarray(upright), size) if size and frame == "cell" else None
        if size and (box or upright.size != size[::-1]):
            upright = upright.resize(size[::-1], Image.Resampling.BILINEAR, box)
        return np.asarray(upright)


def window(pixels: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the window around the white cell: of the shape of `size`, CELL of the image high, and inside the image.

    Args:
        pixels: uint8 (height, width, 3).
        size: (height, width), of which the ratio counts. A window that would be wider than the image is made smaller.

    Returns:
        Left, top, right and bottom in pixels, as Pillow takes a box; they need not be whole.
    """
    image, ratio = np.array(pixels.shape[:2]), size[1] / size[0]
    sides = min(CELL * image[0], image[1] / ratio) * np.array([1, ratio])
    first = np.minimum(cell_centre(pixels) - sides / 2, image - sides).clip(0)
    (top, left), (bottom, right) = first, np.minimum(first + sides, image)
    return float(left), float(top), float(right), float(bottom)


def cell_centre(pixels: np.ndarray) -> tuple[float, float]:
    """Return the place of the white cell: where blue exceeds green by most, averaged over the size of a nucleus.

    A nucleus takes the blue-purple dye of the stain, which absorbs green light. Red cells are bluer than green only
    a little, and platelets are small. What lies beyond the border counts as unstained, and so do black corners.

    Args:
        pixels: uint8 (height, width, 3).

    Returns:
        y and x in pixels; without any stain, as in a gray image, the image's centre.
    """
    small = Image.fromarray(pixels).reduce(max(1, max(pixels.shape) // COARSE))
    _, green, blue = np.moveaxis(np.asarray(small, np.float32), -1, 0)
    stain = ndimage.gaussian_filter(blue - green, NUCLEUS * small.height, mode="constant")
    y, x = np.argwhere(stain == stain.max()).mean(0) + 0.5
    return float(y * len(pixels) / small.height), float(x * pixels.shape[1] / small.width)


def _check(image: Image.Image, where: str, expected: tuple[int, int] | None) -> None:
    found, limit = f"{image.width}x{image.height} {image.mode}", f"{MAX_PIXELS // 10**6} megapixels"
    wanted = "{1}x{0} RGB".format(*expected) if expected else found
    pages = getattr(image, "n_frames", 1)
    faults = {
        f"{found} is more than {limit}. Crop it to the cell or scale it down": image.width * image.height > MAX_PIXELS,
        f"{found}, but this set has {wanted}. It was changed; download the set again": found != wanted,
        f"has {pages} pages. Save the one that is meant as a file of its own": pages > 1,
    }
    refuse(where, faults)


def _rgb(image: Image.Image, where: str) -> Image.Image:
    """Convert what has one correct conversion: gray, 16-bit gray, bilevel, opaque palettes and opaque alpha."""
    deep, clear = image.mode.startswith("I;16"), image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if clear and not deep:
        image = image.convert("RGBA")
    if clear and (deep or np.asarray(image)[..., 3].min() < 255):  # Pillow forgets which 16-bit gray is transparent
        raise DatasetError(f"{where}: has transparent pixels, which have no colour. Flatten it on its background.")
    if deep:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    unclear = f"colour mode {image.mode} has no conversion to RGB without a colour profile. Save it as 8-bit RGB"
    refuse(where, {unclear: image.mode not in ("RGB", "RGBA", "1", "L", "P")})
    return image.convert("RGB")


def _folder(root: Path) -> Source:
    """List the files below a folder; links to files and folders are followed."""
    source, seen = Source(root, {}, set(), lambda path: open(root / path, "rb", buffering=0)), set()

    def stop(error: OSError) -> None:
        raise error

    for folder, names, files in os.walk(root, onerror=stop, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back into the tree
            names.clear()
            continue
        seen.add(real)
        prefix = "" if folder == str(root) else f"{Path(folder).relative_to(root).as_posix()}/"
        source.folders.update(prefix + name for name in names)
        source.files.update(found for name in files if (found := _listed(os.path.join(folder, name), prefix + name)))
    return source


def _listed(place: str, path: str) -> tuple[str, tuple[int, int]] | None:
    """Return path and size of a file, or None for what is not a file."""
    if os.path.islink(place) and not os.path.exists(place) and not _is_image(path):
        return None  # a broken link, as editors leave them beside an open file
    found = os.stat(place)
    regular = stat.S_ISREG(found.st_mode)
    wrong = _is_image(path) and not (regular and found.st_size <= MAX_BYTES)
    size = f"{found.st_size:,} bytes" if regular else "a pipe, socket or device"
    refuse(place, {f"{size}, not an image file of at most {MAX_BYTES:,} bytes. Scale it down or remove it": wrong})
    return (path, (found.st_size, 0)) if regular else None


def _zip(root: Path) -> Source:
    """List the files of a zip, which is read in place."""
    archive = zipfile.ZipFile(root)
    for member in archive.infolist():
        _refuse_unsafe(root, member)
    members = [member for member in archive.infolist() if not member.is_dir()]
    (name, times), *_ = Counter(member.filename for member in members).most_common(1) or [("", 0)]
    overlap = sum(member.compress_size for member in members) > root.stat().st_size
    twice = f"it has {times} entries named {name!r}. Keep only the one that is meant"
    misnamed = _misnamed(root, archive)
    other = f"its entry {misnamed!r} has another name in its own header. It is damaged: download it again"
    bomb = "its entries overlap, as in a bomb. Use the original archive"
    refuse(root, {twice: times > 1, bomb: overlap, other: misnamed != ""})
    paths = (posixpath.dirname(name).split("/") for name in archive.namelist())
    folders = {folder for path in paths for folder in accumulate(path, posixpath.join)} - {""}
    return Source(root, {m.filename: (m.file_size, m.CRC) for m in members}, folders, archive.open)


def _misnamed(root: Path, archive: zipfile.ZipFile) -> str:
    """Return the first file to which the directory gives another name than its own header, or ""."""
    with open(root, "rb") as file:
        for member in archive.infolist():
            name = member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")
            file.seek(member.header_offset + 30)  # bytes before the name
            if file.read(len(name)) != name:
                return member.filename
    return ""


def _refuse_unsafe(root: Path, member: zipfile.ZipInfo) -> None:
    name, packed, full = member.filename.replace("\\", "/"), member.compress_size, member.file_size
    parts, most = name.split("/"), min(MAX_BYTES, max(2**20, MAX_RATIO * packed))
    faults = {
        "points outside the archive": not parts[0] or ":" in parts[0] or ".." in parts,
        "has a name that is too long for any disk": len(name) > MAX_NAME or len(parts) > MAX_DEPTH + 1,
        "is packed by an unusual method": member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        "is a link, not a file": stat.S_ISLNK(member.external_attr >> 16),
        f"would unpack from {packed:,} to {full:,} bytes, as a decompression bomb does": full > most,
    }
    advice = "Use the original archive, or pack it again with deflate"
    refuse(root, {f"its entry {name[:80]!r} {fault}. {advice}": applies for fault, applies in faults.items()})


def _is_image(path: str) -> bool:
    hidden = any(name.startswith((".", "__MACOSX")) for name in path.split("/"))
    return path.lower().endswith(SUFFIXES) and not hidden


def _label(folder: str) -> str:
    return folder.upper() if folder.upper() in CLASSES else folder


def _check_places(root: Path, entries: list[Entry]) -> None:
    """Refuse two class folders that would be taken for one, and parts that lie apart."""
    folders = {(entry.split, entry.label, posixpath.dirname(entry.path)) for entry in entries}
    tops = {posixpath.dirname(posixpath.dirname(top) if part else top) for part, _, top in folders}
    times = Counter((part, label) for part, label, _ in folders)
    apart = sorted(folder for part, label, folder in folders if times[part, label] > 1) or sorted(tops)
    both = " and ".join(place or "." for place in apart[:2])
    refuse(root, {f"images lie in two places, {both}. Give the path of the one that is meant": len(apart) > 1})


def _check_classes(source: Source, entries: list[Entry]) -> None:
    """Refuse class folders without images, parts that lack a class, and a single class."""
    labels = {entry.label for entry in entries}
    if labels & set(CLASSES) and labels not in [set(cards.get(name).classes) for name in cards.names()]:
        labels |= set(CLASSES)
    for part in sorted({"TRAIN", "TEST"} | {e.split for e in entries} if entries[0].split else {""}):
        here = {entry.label for entry in entries if entry.split == part}
        tops = {posixpath.dirname(posixpath.dirname(entry.path)) for entry in entries if entry.split == part}
        beside = {posixpath.basename(folder) for folder in source.folders if posixpath.dirname(folder) in tops}
        wanted = labels | {_label(name) for name in beside if name[0] not in "._"}
        missing, *texts = (", ".join(sorted(names)) for names in (wanted - here, wanted, here))
        fault = "{} has no images of class {}. Expected {}; found {}. Add what is missing, or remove an empty folder"
        refuse(source.root, {fault.format(part or "the folder", missing, *texts): wanted != here})
    alone = (
        f"only one class, {min(labels)}. A classifier needs at least two: give the folder that has the class folders"
    )
    refuse(source.root, {alone: len(labels) < 2})
