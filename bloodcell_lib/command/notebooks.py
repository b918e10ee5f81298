"""The notebooks and texts that come with the library: found by name, and copied into a folder of the user's own."""

import os
from pathlib import Path

from bloodcell_lib import files

TEXTS = ("glossary.md", "teaching.md")
READERS = ("comparison",)  # they read the records of the lessons, so they come last and are never skipped
OF_PHOTOGRAPHS = ("leakage",)  # they split by photograph, so they do not apply to a set that cannot be split so


def find(wanted: list[str]) -> list[Path]:
    """Return the notebooks that are meant: all, or by model ("cnn"), number ("01"), name or path.

    Raises:
        ValueError: one is unknown.
    """
    every = sorted(files.shipped("notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not wanted:
        return every
    chosen = []
    for want in wanted:
        stem = Path(want).name.removesuffix(".ipynb")
        match = [n for n in every if stem in (n.stem, n.stem[3:], n.stem[:2])]
        if not match:
            names = ", ".join(n.stem for n in every)
            raise ValueError(f"{want!r} is not the name of a notebook. Choose from: {names}, or give none for all.")
        chosen += match
    return list(dict.fromkeys(chosen))


def copy_notebooks(folder: str | os.PathLike) -> list[Path]:
    """Copy all notebooks, the glossary and the teacher's page into a folder, which is made if need be.

    Returns:
        The copies, with those that were already there, unchanged.

    Raises:
        ValueError: the folder is a file, or holds another version of a notebook; then nothing is copied.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to copy the notebooks into.")
    shelf = files.shipped("notebooks")
    shown = [*sorted(shelf.glob("*.ipynb")), *map(shelf.joinpath, TEXTS)]
    copies = {folder / file.name: file.read_bytes() for file in shown}
    missing = [copy for copy in copies if not copy.exists()]
    if changed := [copy.name for copy in copies if copy not in missing and copy.read_bytes() != copies[copy]]:
        raise ValueError(
            f"{folder} holds other versions of {', '.join(changed)}. "
            "Nothing was copied: rename or remove them, or name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for copy in missing:
        with files.replacing(copy) as part:
            part.write_bytes(copies[copy])
    return list(copies)
