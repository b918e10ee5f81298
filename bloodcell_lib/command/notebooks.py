"""The notebooks and texts that come with the library: found by name, and copied into a folder of the user's own."""

import json
import os
import re
from pathlib import Path

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
