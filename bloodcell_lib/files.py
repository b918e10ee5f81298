"""Files of a run: their names, where they lie, and how they are written, whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well, and else leaves nothing.

    Args:
        path: the file or folder to be. The temporary one has the same suffix, since some writers look at it.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        if part.is_file():
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def out_dir(out: str | os.PathLike | None = None) -> Path:
    """Return the folder of runs, which need not exist: `out`, or runs/ in a checkout, else below the working folder."""
    if out is not None:
        return Path(out).expanduser()
    return (CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()) / "runs"


def run_name(model: str, label: str, seed: int) -> str:
    """Return the name that the files of a run share. `label` is `Protocol.label`."""
    return f"{model}-{label}-seed{seed}"


def shipped(what: str) -> Path:
    """Return a folder that comes with the library, "notebooks" or "data": inside it where installed, else beside it."""
    inside = Path(__file__).parent / what
    return inside if inside.is_dir() else CHECKOUT / what


def copy_notebooks(folder: str | os.PathLike) -> list[Path]:
    """Copy all notebooks into a folder, which is made if need be.

    Returns:
        The copies, with those that were already there, unchanged.

    Raises:
        ValueError: the folder is a file, or holds another version of a notebook; then nothing is copied.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to copy the notebooks into.")
    copies = {
        folder / notebook.name: notebook.read_bytes() for notebook in sorted(shipped("notebooks").glob("*.ipynb"))
    }
    missing = [copy for copy in copies if not copy.exists()]
    if changed := [copy.name for copy in copies if copy not in missing and copy.read_bytes() != copies[copy]]:
        raise ValueError(
            f"{folder} holds other versions of {', '.join(changed)}. "
            "Nothing was copied: rename or remove them, or name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for copy in missing:
        with replacing(copy) as part:
            part.write_bytes(copies[copy])
    return list(copies)
