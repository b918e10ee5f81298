"""Executed notebooks as pages that open without a server and without the internet."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from bloodcell_lib import files

INDEX = "index.ipynb"
# JupyterLab's look without its scripts, which it would fetch from the internet. Code is folded where it only draws.
TEMPLATE = """{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_css %}<style>main { max-width: 60rem; margin: auto } img { height: auto } math { font-size: 1.15em }
p:has(> math[display="block"]) { overflow: auto hidden; padding: 0.5em 0 }</style>{% endblock %}
{% block input_group %}{% if "hide-input" in cell.metadata.tags or "injected-parameters" in cell.metadata.tags %}
<details><summary style="margin-left: var(--jp-cell-prompt-width); font-family: var(--jp-ui-font-family);
font-size: var(--jp-ui-font-size1); color: var(--jp-ui-font-color2)">code</summary>{{ super() }}</details>
{% else %}{{ super() }}{% endif %}{% endblock input_group %}"""


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


def write(notebook: Path, page: Path, links: Mapping[str, str] | None = None, code: bool = True) -> None:
    """Write a notebook, with the outputs that it has, as one HTML file.

    Args:
        notebook: the .ipynb file.
        page: the file to be.
        links: from the name of a notebook to that of its page. A link to any other file becomes plain text.
        code: whether code and what it printed is shown.
    """
    content = nbformat.read(notebook, as_version=4)
    headings = (re.search(r"^# (.+)", cell.source, re.MULTILINE) for cell in content.cells)
    content.metadata["title"] = next((found[1] for found in headings if found), page.stem)
    exporter = HTMLExporter(exclude_code_cell=not code)
    exporter.raw_template = TEMPLATE
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer=Renderer(links or {})).render)
    with files.replacing(page) as part:
        part.write_text(exporter.from_notebook_node(content)[0], encoding="utf-8")


def write_all(executed: Iterable[tuple[str, Path]], folder: Path) -> Path:
    """Write a folder of pages: the index of the lessons, and each executed lesson.

    Args:
        executed: the name of each notebook and its executed copy; of several copies of one, the first that exists.
        folder: is made if need be.

    Returns:
        The page of the index.
    """
    copies = {INDEX: files.shipped("notebooks") / INDEX}
    for name, copy in executed:
        if copy.exists():
            copies.setdefault(name, copy)
    folder.mkdir(parents=True, exist_ok=True)
    links = {f"{page.stem}.ipynb": page.name for page in folder.glob("*.html")}  # of earlier batches
    links |= {name: f"{Path(name).stem}.html" for name in copies}
    for name, copy in copies.items():
        write(copy, folder / links[name], links, code=name != INDEX)  # which is not executed
    return folder / links[INDEX]
