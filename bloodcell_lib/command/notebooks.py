"""`bloodcell notebooks DIR`: the notebooks, copied to where they can be read, run and changed."""

import os
import shutil
from pathlib import Path

from bloodcell_lib import files


def copy_notebooks(folder: str | os.PathLike) -> list[Path]:
    """Copy all notebooks into a folder, which is made if need be.

    Returns:
        The copies. A copy that was already there, unchanged, is left as it is and counts as one.

    Raises:
        ValueError: the folder is a file, or holds a changed notebook of the same name; then nothing is copied.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder for the notebooks.")
    copies = {folder / notebook.name: notebook for notebook in sorted(files.shipped("notebooks").glob("*.ipynb"))}
    missing = [copy for copy in copies if not copy.exists()]
    if changed := [c.name for c in copies if c not in missing and c.read_bytes() != copies[c].read_bytes()]:
        raise ValueError(
            f"{folder} holds other versions of {', '.join(changed)}. Nothing was copied: rename or remove them, "
            "or name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for copy in missing:
        with files.replacing(copy) as part:
            shutil.copyfile(copies[copy], part)
    return list(copies)
