"""Sources: the files of a zip, a folder, a table or an array file, listed once and read by path. Nothing is unpacked.

What a file is decides whether a fault in it matters: a fault of a file that is not an image of the set is kept with its
path, and only who reads the file is told.
"""

import io
import os
import posixpath
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

from bloodcell_lib import cards, images
from bloodcell_lib.images import explaining, refuse, some

MAX_BYTES = 256 * 2**20  # of a file
MAX_NAME, MAX_DEPTH = 4096, 50  # of a path in a zip: no file system takes longer ones
UNREADABLE = zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError
COLUMNS = {  # what the columns of a table of images may be called
    **dict.fromkeys(("path", "file", "filename", "image"), "path"),
    **dict.fromkeys(("label", "class", "category"), "label"),
    **dict.fromkeys(("group", "photograph", "patient", "slide"), "group"),
    **dict.fromkeys(("split", "part"), "split"),
}


class File(NamedTuple):
    """A listed file: its size in bytes, its CRC-32 where the source lists one or else 0, why it cannot be read, and
    when it was changed last, in nanoseconds, or 0 where this is not known."""

    size: int
    crc: int = 0
    fault: str = ""
    time: int = 0


class Name(NamedTuple):
    """What a table or an array file says of an image: its label, its group and its part, or "" for none."""

    label: str
    group: str = ""
    part: str = ""


@dataclass(frozen=True)
class Source:
    """A zip, folder, table or array file. Use `open_source`.

    `named` has what a table or an array file says of its images; it is None where the folders say it. `base` is what
    the paths are below, where it is not `root`.
    """

    root: Path
    files: dict[str, File]
    folders: set[str]
    open: Callable[[str], IO[bytes]]
    named: dict[str, Name] | None = None
    base: Path | None = None

    def place(self, path: str) -> Path:
        """Return a file's place, for messages."""
        return (self.base or self.root) / path

    def read(self, path: str) -> bytes:
        """Return the content of a file, and not a byte more than was listed and checked."""
        advice = "It is damaged, encrypted, gone or not yours to read: restore it, or download the set again"
        with explaining(self.place(path), "this file cannot be read", advice, *UNREADABLE), self.open(path) as file:
            data = file.read(size := self.files[path].size)
            if len(data) < size:
                raise EOFError(f"{len(data):,} bytes instead of {size:,}")
            return data

    def image(self, path: str) -> np.ndarray:
        """Return an image in full size. See `images.read`."""
        return images.read(self.read(path), str(self.place(path)))

    def find(self, name: str) -> str | None:
        """Return the path of the file called `name`, the one closest to the root, or None."""
        found = [path for path in self.files if posixpath.basename(path) == name]
        return min(found, key=lambda path: (path.count("/"), path), default=None)


def open_source(path: str | os.PathLike) -> Source:
    """Open a zip, a folder, a table of images (.csv), or an array file as MedMNIST has them (.npz).

    Args:
        path: what is opened; `~` is expanded.

    Returns:
        A `Source` whose files are listed, but not read yet.

    Raises:
        DatasetError: it does not exist, cannot be read, is none of these, or is a damaged or malicious zip.
    """
    kinds = OSError, RuntimeError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile
    layouts = "a folder or zip of CLASS/*.jpg, or of TRAIN/CLASS and TEST/CLASS, a .csv with the columns path,label, "
    layouts += f"a MedMNIST .npz, or one of {', '.join(cards.names())}"
    advice = f"Expected {layouts}. Check the spelling and your permission (chmod -R u+rX), or download it again"
    with explaining(path, "cannot be read as a set of images", advice, *kinds):
        place = Path(path).expanduser()
        if not (place.is_dir() or place.is_file()):
            raise FileNotFoundError("no such file or folder")
        readers = {".csv": _table, ".tsv": _table, ".npz": _arrays}
        return _folder(place) if place.is_dir() else readers.get(place.suffix.lower(), _zip)(place)


def _folder(root: Path) -> Source:
    """List the files below a folder. Links are followed, unless they lead to a folder above them."""
    source = Source(root, {}, set(), lambda path: open(root / path, "rb", buffering=0))
    above: dict[str, set[str]] = {}  # the real folders above each folder, and itself

    def stop(error: OSError) -> None:
        raise error

    for folder, names, files in os.walk(root, onerror=stop, followlinks=True):
        real, parents = os.path.realpath(folder), above.get(os.path.dirname(folder), set())
        if real in parents:
            names.clear()
            continue
        above[folder] = parents | {real}
        prefix = "" if folder == str(root) else f"{Path(folder).relative_to(root).as_posix()}/"
        source.folders.update(prefix + name for name in names)
        source.files.update({prefix + name: _file(os.path.join(folder, name)) for name in files})
    return source


def _file(place: str) -> File:
    if not os.path.exists(place):
        return File(0, fault="is a link to a file that is gone")
    found = os.stat(place)
    fault = "" if stat.S_ISREG(found.st_mode) else "is a pipe, socket or device"
    return File(found.st_size, fault=fault, time=max(found.st_mtime_ns, found.st_ctime_ns))


def _zip(root: Path) -> Source:
    """List the files of a zip, which is read in place."""
    archive = zipfile.ZipFile(root)
    misnamed = _misnamed(root, archive)
    other = f"its entry {misnamed!r} has another name in its own header. It is damaged: download it again"
    overlap = sum(member.compress_size for member in archive.infolist()) > root.stat().st_size
    refuse(root, {"its entries overlap, as in a bomb. Use the original archive": overlap, other: misnamed != ""})
    named = [(_name(member), member) for member in archive.infolist()]
    members = {name: member for name, member in named if not name.endswith("/")}
    times = Counter(name for name, _ in named)
    files = {name: File(m.file_size, m.CRC, _fault(name, m, times[name])) for name, m in members.items()}
    paths = (posixpath.dirname(name).split("/") for name in times)
    folders = {folder for path in paths for folder in accumulate(path, posixpath.join)} - {""}
    return Source(root, files, folders, lambda path: archive.open(members[path]))


def _name(member: zipfile.ZipInfo) -> str:
    """Return an entry's path, also where Windows wrote backslashes, or macOS UTF-8 without saying so."""
    name = member.filename
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _misnamed(root: Path, archive: zipfile.ZipFile) -> str:
    """Return the first file to which the directory gives another name than its own header, or ""."""
    with open(root, "rb") as file:
        for member in archive.infolist():
            name = member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")
            file.seek(member.header_offset + 30)  # bytes before the name
            if file.read(len(name)) != name:
                return member.filename
    return ""


def _fault(name: str, member: zipfile.ZipInfo, times: int) -> str:
    parts = name.split("/")
    faults = {
        f"is there {times} times": times > 1,
        "has a name that is too long for any disk": len(name) > MAX_NAME or len(parts) > MAX_DEPTH + 1,
        "is packed by an unusual method": member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        "is a link, not a file": stat.S_ISLNK(member.external_attr >> 16),
    }
    return next((fault for fault, applies in faults.items() if applies), "")


def _table(root: Path) -> Source:
    """List the images that a table names, by paths that begin in the table's folder."""
    base, text = root.parent, root.read_text(encoding="utf-8-sig")
    comma = max(",;\t", key=text.partition("\n")[0].count)
    options: Any = {"dtype": str, "keep_default_na": False, "index_col": False, "skip_blank_lines": False}
    table = pd.read_csv(io.StringIO(text), sep=comma, engine="python", **options).fillna("")
    table.columns = [COLUMNS.get(name.strip().lower(), name) for name in table.columns]
    want = "a table with the columns path,label, and group,split where they are known, as UTF-8 text"
    lack = f"has the columns {','.join(table.columns) or 'none'}. Expected {want}"
    refuse(root, {lack: not {"path", "label"} <= set(table.columns) or not table.columns.is_unique})
    table = table.reindex(columns=["path", "label", "group", "split"], fill_value="").map(str.strip)
    table = table[table.any(axis=1)]
    blank = table.index[(table.path == "") | (table.label == "")] + 2  # lines, after the head
    table["path"] = table.path.str.replace("\\", "/").map(posixpath.normpath)
    files = {path: _file(os.path.join(base, path)) for path in table.path}
    gone, twice = [path for path in files if files[path].fault], table.path[table.path.duplicated()].tolist()
    refuse(root, {
        f"line {some([*map(str, blank)])} has no path or no label. Expected {want}": len(blank) > 0,
        f"names {some(twice)} more than once. Keep only the row that is meant": bool(twice),
        f"{some(gone)}: not there. Expected files by paths that begin at {base}": bool(gone),
    })  # fmt: skip
    named = {path: Name(*names) for path, *names in table.itertuples(index=False)}
    return Source(root, files, set(), lambda path: open(base / path, "rb", buffering=0), named, base)


def _arrays(root: Path) -> Source:
    """List the images of an array file, as MedMNIST has them: train_images, train_labels, and so on for val and test.

    An image is read as a file in the format PPM. The parts that were read stay in memory.
    """
    held, changed = np.load(root, allow_pickle=False), _file(str(root)).time
    parts = [name.removesuffix("_images") for name in held.files if name.endswith("_images")]
    want = "MedMNIST's arrays of bytes: train_images (N, height, width[, 3]), train_labels (N, 1), val_images and so on"
    refuse(root, {f"this .npz has {', '.join(held.files) or 'nothing'}. Expected {want}": not parts})
    named, files, array, lock = {}, {}, cache(held.__getitem__), Lock()
    for part in parts:
        (shape, kind), labels = _header(held.zip.open(f"{part}_images.npy")), held[f"{part}_labels"]
        fits = kind == np.uint8 and (len(shape) == 3 or len(shape) == 4 and shape[-1] == 3)
        wrong = f"{part}_images is {kind} {shape}, {part}_labels {labels.dtype} {labels.shape}. Expected {want}"
        refuse(root, {wrong: not fits or not labels.size == len(labels) == shape[0]})
        size = len(_ppm(np.zeros(shape[1:], np.uint8)))
        for number, label in enumerate(labels.ravel().tolist()):
            path = f"{part}_images/{number:06d}.ppm"
            named[path], files[path] = Name(str(label), part=part), File(size, time=changed)

    def read(path: str) -> IO[bytes]:
        name, _, number = path.removesuffix(".ppm").partition("/")
        with lock:  # else each thread unpacks the part
            return io.BytesIO(_ppm(array(name)[int(number)]))

    return Source(root, files, set(), read, named)


def _header(array: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array, whose content is not read."""
    np.lib.format.read_magic(array)
    return np.lib.format.read_array_header_1_0(array)[::2]  # without the order in memory


def _ppm(pixels: np.ndarray) -> bytes:
    return b"P%d %d %d 255\n" % (6 if pixels.ndim == 3 else 5, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
