"""The site: executed lessons, glossary and teacher's page, which open without a server and without the internet."""

import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from bloodcell_lib import files
from bloodcell_lib.command import notebooks

INDEX = "index.ipynb"
ASSETS = Path(__file__).parent / "site"
MEASURED = "measured.html"  # the comparison of the runs in results/, which a checkout has
CAPTION = (
    "On photographs of blood: from the accuracy that the paper reports, the open circle, to ours, the filled one. "
    f'<a href="{MEASURED}">The whole comparison</a>'
)
SLIDES = "slides"  # the folder of the slides, where they were made
FEW = 20  # headings that fit below the name of a page
HEADER = """<header id="site"><link rel="stylesheet" href="site.css"><script src="search.js" defer></script>
<a class="skip" href="#main">Skip to the text</a>
<form role="search" hidden><input type="search" aria-label="Search all pages" placeholder="Search all pages: press /"
autocomplete="off"></form><p role="status"></p><ol class="found"></ol>
<nav aria-label="Pages"><details><summary>Pages</summary><ol>{pages}</ol></details></nav>
</header><span id="main"></span>"""


class Renderer(IPythonRenderer):
    """Writes formulas as MathML, which browsers draw themselves, and links to what is a page too."""

    def __init__(self, links: Mapping[str, str]):
        super().__init__(escape=False)
        self.links = links

    def block_math(self, body: str) -> str:
        return mathml(body, "block") or super().block_math(body)

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline") or super().inline_math(body)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        path, mark, place = url.partition("#")
        if path and "://" not in path:  # a file beside the notebook, which need not be beside the page
            return super().link(text, f"{self.links[path]}{mark}{place}", title) if path in self.links else text
        return super().link(text, url, title)


def mathml(formula: str, display: str) -> str:
    """Return a TeX formula as MathML, or "" if it cannot be read.

    Args:
        formula: without the dollar signs.
        display: "inline" or "block".
    """
    try:
        return convert(formula, display=display)
    except Exception:  # whatever the converter raises on a formula of the user's own
        return ""


def read(file: Path) -> NotebookNode:
    """Read a notebook as a batch has it, or a text in Markdown as a notebook of one cell.

    Its first heading becomes its title.
    """
    if file.suffix == ".md":
        text = nbformat.v4.new_markdown_cell(file.read_text(encoding="utf-8"))
        content = nbformat.v4.new_notebook(cells=[text])
    else:
        content = nbformat.read(file, as_version=4)
        content.cells = [cell for cell in content.cells if notebooks.is_in_batch(cell)]
    headings = (re.search(r"^# (.+)", cell.source, re.MULTILINE) for cell in content.cells)
    content.metadata["title"] = next((found[1] for found in headings if found), file.stem)
    return content


def export(exporter: HTMLExporter, template: str, content: NotebookNode, links: Mapping[str, str]) -> str:
    """Return a notebook as HTML, by a template in the folder site/; `links` are as in `write`."""
    exporter.raw_template = (ASSETS / template).read_text(encoding="utf-8")
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer=Renderer(links)).render)
    return exporter.from_notebook_node(content)[0]


def write(notebook: Path | NotebookNode, page: Path, links: Mapping[str, str] | None = None, code: bool = True) -> None:
    """Write a notebook, with the outputs that it has, as one HTML file.

    Args:
        notebook: the .ipynb or .md file, or what `read` returned.
        page: the file to be.
        links: from the name of a notebook to that of its page. A link to any other file becomes plain text.
        code: whether code and what it printed is shown.
    """
    content = read(notebook) if isinstance(notebook, Path) else notebook
    text = export(HTMLExporter(exclude_code_cell=not code), "page.html.j2", content, links or {})
    _put(page, text)


def _put(file: Path, text: str) -> None:
    with files.replacing(file) as part:
        part.write_text(text, encoding="utf-8")


def executed(folder: Path) -> list[tuple[str, Path]]:
    """Return the name of each notebook with its newest executed copy in a folder of runs, or with itself.

    A copy that was executed to its end comes before one that failed.
    """
    found = []
    for notebook in notebooks.find([]):
        copies = sorted(folder.glob(f"{notebook.stem}-*.ipynb"), key=lambda copy: copy.stat().st_mtime)
        found.append((notebook.name, [notebook, *copies, *filter(notebooks.stamp, copies)][-1]))
    return found


def write_all(lessons: Iterable[tuple[str, Path]], folder: Path) -> Path:
    """Write the site: the index of the lessons, executed lessons, glossary, teacher's page, what was measured.

    Pages that are in the folder already, of lessons that are not given, remain and are part of it.

    Args:
        lessons: the name of each notebook and its executed copy; of several copies of one, the first that exists.
        folder: is made if need be.

    Returns:
        The page of the index.
    """
    shelf = files.shipped("notebooks")
    copies = {name: shelf / name for name in (INDEX, *notebooks.TEXTS)}
    for name, copy in lessons:
        if copy.exists():
            copies.setdefault(name, copy)
    folder.mkdir(parents=True, exist_ok=True)
    links = {f"{page.stem}.ipynb": page.name for page in folder.glob("*.html")}  # of earlier batches
    links |= {name: f"{Path(name).stem}.html" for name in copies}
    for name, copy in copies.items():
        content = read(copy)
        if name == INDEX and (picture := _measured(folder)):
            content.cells.insert(1, nbformat.v4.new_markdown_cell(picture))
        write(content, folder / links[name], links, code=name != INDEX)  # which is not executed
    _join(folder)
    return folder / links[INDEX]


def _measured(folder: Path) -> str:
    """Copy the executed comparison of the measured runs, and return its first figure, which leads to it."""
    source = files.shipped("results") / "comparison.html"
    if not source.exists():
        return ""
    text = source.read_text(encoding="utf-8")
    _put(folder / MEASURED, re.sub(r"(?<=<title>).*?(?=</title>)", "The comparison, on blood", text, count=1))
    (figure,) = re.findall(r"<img [^>]*>", text)[:1]
    return f'<figure style="margin: 0"><a href="{MEASURED}">{figure}</a><figcaption>{CAPTION}</figcaption></figure>'


class Section(NamedTuple):
    """A heading of a page: 1 to 3, the place that a link can name, the words, and the text below it."""

    level: int
    anchor: str
    heading: str
    text: str


def sections(page: str) -> tuple[str, list[Section]]:
    """Return the title of a page, and what its texts say under each heading. Formulas and code are left out."""
    soup = BeautifulSoup(re.sub(r' src="data:[^"]*"', "", page), "html.parser")
    for part in soup(["math", "summary", "pre"]) + soup.select(".anchor-link"):
        part.decompose()
    found: list[list] = []
    for block in soup.select(".jp-RenderedMarkdown > *"):
        words = re.sub(r" ([.,;:?!)])", r"\1", " ".join(block.get_text(" ").split()))
        if re.fullmatch("h[123]", block.name):
            found.append([int(block.name[1]), block.get("id", ""), words, ""])
        elif found:  # what comes before is the way to the neighbours
            found[-1][3] += f"{words} "
    return soup.title.get_text() if soup.title else "", [Section(*section) for section in found]


def _join(folder: Path) -> None:
    """Give all pages of a folder the way to each other, and the search over all of them."""
    texts = {page.name: page.read_text(encoding="utf-8") for page in folder.glob("*.html")}
    order = sorted(texts, key=lambda name: (name != "index.html", not name[0].isdigit(), name))
    found = {name: sections(texts[name]) for name in order}
    for name, text in texts.items():
        header = HEADER.format(pages="".join(_item(other, *found[other], other == name, folder) for other in order))
        bare = re.sub(r'<header id="site">.*?</header><span id="main"></span>', "", text, flags=re.DOTALL)
        head, body, rest = re.split(r"(<body[^>]*>)", bare, maxsplit=1)
        _put(folder / name, head + body + header + rest)
    index = [[name, title, *section[1:]] for name, (title, parts) in found.items() for section in parts]
    environment = HTMLExporter().environment
    dark = environment.loader.get_source(environment, "static/theme-dark.css")[0]
    script = (ASSETS / "search.js").read_text(encoding="utf-8")
    _put(folder / "search.js", f"const SECTIONS = {json.dumps(index, ensure_ascii=False)};\n{script}")
    style = (ASSETS / "site.css").read_text(encoding="utf-8")
    _put(folder / "site.css", f"{style}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")


def _item(name: str, title: str, parts: list[Section], here: bool, folder: Path) -> str:
    """Return a page's line in the list of pages; that of the page itself has its headings."""
    line = f'<a href="{name}"{" aria-current=page" * here}>{html.escape(title)}</a>'
    if not here:
        return f"<li>{line}</li>"
    if (folder / SLIDES / name).exists():
        line += f' · <a href="{SLIDES}/{name}">slides</a>'
    inner = [part for part in parts if part.level == 2]
    links = [f'<li><a href="#{html.escape(part.anchor)}">{html.escape(part.heading)}</a></li>' for part in inner]
    return f"<li>{line}" + f"<ol>{''.join(links)}</ol>" * (len(links) <= FEW) + "</li>"
