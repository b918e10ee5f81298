"""The notebooks and texts that come with the library: found by name, and copied into a folder of the user's own."""

import json
import os
import re
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from bloodcell_lib import files

TEXTS = ("glossary.md", "teaching.md")
READERS = ("comparison",)  # they read the records of the lessons, so they come last and are never skipped
OF_PHOTOGRAPHS = ("leakage",)  # they split by photograph, so they do not apply to a set that cannot be split so


def is_in_batch(cell: NotebookNode) -> bool:
    """Return whether a batch executes a cell: nbclient leaves out those with this tag, which are for a person."""
    return "skip-execution" not in cell.metadata.get("tags", [])


def find(wanted: list[str]) -> list[Path]:
    """Return the notebooks that are meant: all, or by model ("cnn"), number ("01"), name or path.

    A path, which has a folder or ends in .ipynb, means that very file. Its name says which notebook it stands for.

    Raises:
        ValueError: one is unknown or not there, or two files stand for the same.
    """
    every = sorted(files.shipped("notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not wanted:
        return every
    chosen: dict[str, Path] = {}
    for want in wanted:
        own = _own(want)
        match = [n for n in every if (own.stem == n.stem if own else want in (n.stem, n.stem[3:], n.stem[:2]))]
        if not match:
            names = ", ".join(n.stem for n in every)
            raise ValueError(f"{want!r} is not the name of a notebook. Choose from: {names}, or give none for all.")
        for shipped in match:
            meant = own if own and not own.samefile(shipped) else shipped
            if (other := chosen.setdefault(meant.stem, meant)) != meant:
                raise ValueError(f"{meant.stem} is given twice, as {other} and as {meant}. Give one of them.")
    return list(chosen.values())


def _own(want: str) -> Path | None:
    """Return the file that a path means, or None for what is no path."""
    if not os.path.dirname(want) and not want.endswith(".ipynb"):
        return None
    if not (path := Path(want).expanduser().absolute()).is_file():
        raise ValueError(f"{want}: no such notebook. Correct the path, or give only the notebook's name or number.")
    return path


def stamp(copy: Path) -> dict[str, Any] | None:
    """Return what a batch wrote into a copy that it executed to its end, or None."""
    try:
        return json.loads(copy.read_text(encoding="utf-8"))["metadata"].get("bloodcell")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # gone, or no notebook
        return None


def copy_notebooks(folder: str | os.PathLike, repository: str | None = None) -> list[Path]:
    """Copy all notebooks, the glossary and the teacher's page into a folder, which is made if need be.

    Args:
        folder: of the copies. It may be that of the notebooks themselves, to give them an address.
        repository: where this project is published, for `addressed`; None leaves the notebooks as they are.

    Returns:
        The copies, with those that were already there. Of these, one that nobody changed gets the address.

    Raises:
        ValueError: the folder is a file, or holds another version of a notebook, or the address cannot be used; then
            nothing is copied.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder to copy the notebooks into.")
    shelf = files.shipped("notebooks")
    shown = [*sorted(shelf.glob("*.ipynb")), *map(shelf.joinpath, TEXTS)]
    shipped = {folder / path.name: path.read_bytes() for path in shown}
    copies = dict(shipped)
    if repository is not None:
        copies |= {copy: addressed(copy.name, was, repository) for copy, was in shipped.items() if copy.suffix != ".md"}
    found = {copy: copy.read_bytes() for copy in copies if copy.exists()}
    if changed := [copy.name for copy, holds in found.items() if holds not in (copies[copy], shipped[copy])]:
        raise ValueError(
            f"{folder} holds other versions of {', '.join(changed)}. "
            "Nothing was copied: rename or remove them, or name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for copy in copies:
        if found.get(copy) != copies[copy]:
            with files.replacing(copy) as part:
                part.write_bytes(copies[copy])
    return list(copies)


def addressed(name: str, notebook: bytes, repository: str) -> bytes:
    """Return a notebook that installs the library from a repository, and links to itself on Colab and Binder.

    Args:
        name: of its file, which is in the repository's folder notebooks/, on the branch main.
        notebook: its bytes, with another address or none.
        repository: https://github.com/OWNER/NAME.

    Raises:
        ValueError: the address is another one; Colab opens notebooks from GitHub.
    """
    if not (path := re.fullmatch(r"https://github\.com/([\w-]+/[\w.-]+(?<!\.git))", repository)):
        raise ValueError(f"repository {repository!r} is not a page on GitHub. Give https://github.com/OWNER/NAME.")
    colab = f"https://colab.research.google.com/github/{path[1]}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{path[1]}/main?urlpath=lab/tree/notebooks/{name}"
    content = json.loads(notebook)
    for cell in content["cells"]:
        cell["source"] = [re.sub(r'"install -q .*', f'"install -q git+{repository}")', line) for line in cell["source"]]
    first, *_ = content["cells"]
    if "](index.ipynb)" in first["source"][0]:  # the way to other lessons
        way = first["source"][0].partition(" · [Colab](")[0]
        first["source"] = [f"{way} · [Colab]({colab}) · [Binder]({binder})"]
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
