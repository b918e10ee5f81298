"""Lessons as slides, made by rule from their own cells.

A heading begins a slide, and so does each text below it, and each figure or table that is not the first output of its
cell. A slide has the text, a long one by the first sentence of each paragraph, with all formulas, lists and tables, and
then the cells that follow: code where the lesson shows it, and what it gave. The whole text is the speaker's notes.
Setup, parameters, answers, progress, calls of `lesson` and the cells that check an exercise are left out.
"""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from bloodcell_lib import files
from bloodcell_lib.command import pages

REVEAL = "reveal.js@5.2.1"  # the script that shows the slides; MIT
NEEDED = ("package/dist/", "package/plugin/notes/", "package/LICENSE")
PLUMBING = ("Setup", "Parameters")
SPOKEN = re.compile(r"(?<!\bFig)(?<!\bFigs)(?<!\bvs)[.?!](?= |$)")  # ends a sentence
WHOLE = {True: 60, False: 150}  # the most words of a text that is shown whole, above the output of cells and alone


def write_all(lessons: Iterable[tuple[str, Path]], folder: Path) -> Path:
    """Write slides of notebooks into a folder, and return it.

    Args:
        lessons: the name of each notebook, and its executed copy or the notebook itself.
        folder: is made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exporter = SlidesExporter(reveal_url_prefix=reveal(folder), reveal_theme="white")
    for name, copy in lessons:
        text = pages.export(exporter, "slides.html.j2", deck(pages.read(copy)), {})
        with files.replacing(folder / f"{Path(name).stem}.html") as part:
            part.write_text(text, encoding="utf-8")
    return folder


def reveal(folder: Path) -> str:
    """Return where slides in a folder find reveal.js: in it, if npm is there to fetch it, else on the internet."""
    home, npm = folder / "reveal.js", shutil.which("npm")
    if npm and not home.exists():
        with TemporaryDirectory() as place:
            done = subprocess.run([npm, "pack", REVEAL], cwd=place, capture_output=True, text=True)
            for archive in Path(place).glob("*.tgz"):
                with tarfile.open(archive) as file, files.replacing(home) as part:
                    wanted = [member for member in file if member.name.startswith(NEEDED)]
                    file.extractall(place, wanted, filter="data")
                    shutil.move(Path(place) / "package", part)
        if not home.exists():
            print(f"npm did not fetch {REVEAL}: {done.stderr.strip().splitlines()[-1:]}")
    if home.exists():
        return home.name
    print(f"To show the slides, a browser will fetch {REVEAL} from the internet. With npm installed, it need not.")
    return f"https://unpkg.com/{REVEAL}"


def deck(lesson: NotebookNode) -> NotebookNode:
    """Return a lesson as a notebook whose cells say which slide they are on."""
    cells, section = [], ""
    for cell, after in pairwise([*lesson.cells[1:], None]):  # before them, the way to the neighbours
        if cell.cell_type == "markdown":
            parts = [part for part in re.split(r"^(?=#{1,3} )", cell.source, flags=re.MULTILINE) if part.strip()]
            for part in parts:
                heading = re.match(r"##? (.+)", part)
                section = heading[1] if heading else section
                if section not in PLUMBING:
                    above = part is parts[-1] and after is not None and after.cell_type == "code"
                    cells += _slide(part, "slide" if heading else "subslide", WHOLE[above])
        elif section not in PLUMBING and "lesson.check(" not in cell.source:
            cells += _results(cell)
    lesson.cells = cells
    return lesson


def _results(cell: NotebookNode) -> list[NotebookNode]:
    """Return a code cell, and a further one, on a slide of its own, for each figure or table behind other outputs."""
    tags = cell.metadata.get("tags", []) + ["hide-input"] * bool(re.match(r"(display\()?lesson\.", cell.source))
    groups: list[list] = [[]]
    for output in cell.outputs:
        if output.get("name") == "stderr":
            continue
        shown = [kept for kept in groups[-1] if {"text/html", "text/markdown"} & kept.get("data", {}).keys()]
        if "text/html" in output.get("data", {}) and shown:
            groups.append([])
        groups[-1].append(output)
    first = new_code_cell(cell.source, metadata={"tags": tags}, outputs=groups[0])
    more = {"tags": ["hide-input"], "slideshow": {"slide_type": "subslide"}}
    return [first, *(new_code_cell(cell.source, metadata=more, outputs=outputs) for outputs in groups[1:])]


def _slide(text: str, kind: str, most: int) -> list[NotebookNode]:
    """Return what a slide shows of a text, and the text as the speaker's notes."""
    blocks = [block for block in _blocks(text) if not block.startswith("<details>")]
    if sum(len(block.split()) for block in blocks) > most:
        blocks = [_begun(block) for block in blocks]
    shown = new_markdown_cell("\n\n".join(blocks))
    notes = new_markdown_cell(re.sub(r"^#.*\n", "", text))
    shown.metadata["slideshow"], notes.metadata["slideshow"] = {"slide_type": kind}, {"slide_type": "notes"}
    return [shown, notes]


def _blocks(text: str) -> list[str]:
    """Return the blocks of a text, which are parted by empty lines; an answer is one block."""
    return re.split(r"\n{2,}(?!(?:(?!<details>).)*</details>)", text.strip(), flags=re.DOTALL)


def _begun(block: str) -> str:
    """Return the first sentence of a paragraph, behind a lead in bold; any other block as it is."""
    if re.match(r"#|[-|>]|\d\. |\$\$|```|!\[", block):
        return block
    lead = re.match(r"\*\*.+?\*\* ?", block)
    for end in SPOKEN.finditer(block, lead.end() + 1 if lead else 0):
        said = block[: end.end()]
        if said.count("$") % 2 == said.count("`") % 2 == 0 and said.count("(") == said.count(")"):
            return said
    return block
