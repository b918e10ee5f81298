"""Files of a run: their names, where they lie, and how they are written, whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

LOCKS = ".locks"  # a folder: the files of locks stay, since a waiting process may have opened one
CHECKOUT = Path(__file__).parents[1]
INSTALLED = (Path(__file__).parent / "notebooks").is_dir()  # from a wheel, which holds notebooks and tables


class BusyError(ValueError):
    """Another process works on the same file; the message names it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well, and else leaves nothing.

    Args:
        path: the file or folder to be. The temporary one has the same suffix, since some writers look at it.

    Raises:
        OSError: it cannot be written; the error names `path` also where the system does not, as on a full disk.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        if part.is_file():
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno and error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


@contextmanager
def alone(*targets: Path, wait: bool = True) -> Iterator[None]:
    """Lock files or folders by the name of the first. What a killed process left beside them half written is removed.

    Args:
        targets: they are in one folder, which is made.
        wait: for another process that has the lock; otherwise that is an error.

    Raises:
        BusyError: another process has the lock.
    """
    folder = targets[0].parent
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / LOCKS / f"{targets[0].name}.lock", blocking=wait).acquire()
    except Timeout:
        raise BusyError(f"{targets[0]}: another process works on it. Wait for it, or use another folder.") from None
    with lock:
        for target in targets:
            for left in folder.glob(f".{escape(target.stem)}.*.part{target.suffix}"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz, every byte of which is checked, as NumPy does not.

    Raises:
        Exception: of many kinds, where the file is missing, cut or damaged.
    """
    with np.load(path) as file:
        if wrong := file.zip.testzip():
            raise ValueError(f"{wrong!r} is damaged")
        return dict(file)


def out_dir(out: str | os.PathLike | None = None) -> Path:
    """Return the folder of runs, which need not exist: `out`, or runs/ below the working folder.

    For a checkout's own notebooks/ it is the runs/ beside that folder.
    """
    home = Path.cwd().parent if Path.cwd() == (CHECKOUT / "notebooks").resolve() else Path.cwd()
    return home / "runs" if out is None else Path(out).expanduser()


def run_name(model: str, label: str, seed: int) -> str:
    """Return the name that the files of a run share. `label` is `Protocol.label`."""
    return f"{model}-{label}-seed{seed}"


def shipped(what: str) -> Path:
    """Return a folder that comes with the library, "notebooks" or "data": inside it where installed, else beside it.

    In a checkout also "results", which is not installed.
    """
    return (Path(__file__).parent if INSTALLED else CHECKOUT) / what
