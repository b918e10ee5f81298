"""Pages open without a server and without the internet, and lead to each other."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import MarkdownWithMath

from bloodcell_lib.command import pages

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MARKDOWN = """# A title

See [one](01_cnn.ipynb), [its training](01_cnn.ipynb#Training), [two](02_xception.ipynb), [above](#A-title),
[the README](../README.md) and [elsewhere](https://example.org/a.ipynb). The rate $\\alpha < 1$ costs 5 $, and

$$\\theta_t = \\theta_{t-1} - \\alpha \\, \\frac{\\hat m_t}{\\sqrt{\\hat v_t} + \\varepsilon}$$
"""


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture
def page(tmp_path):
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(MARKDOWN),
        new.new_code_cell("OUT = '/home/me'", metadata={"tags": ["injected-parameters"]}),
        new.new_code_cell("print('shown')"),
        new.new_code_cell("print('drawn')", metadata={"tags": ["hide-input"]}),
    ]
    cells[-1].outputs = [new.new_output("stream", text="a picture")]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "made.ipynb")
    pages.write(tmp_path / "made.ipynb", tmp_path / "made.html", {"01_cnn.ipynb": "01_cnn.html"})
    return soup(tmp_path / "made.html")


def test_links_lead_to_pages_and_nowhere_else(page):
    hrefs = {link.text: link["href"] for link in page.find_all("a") if link.text != "¶"}
    assert hrefs == {
        "one": "01_cnn.html",
        "its training": "01_cnn.html#Training",
        "above": "#A-title",
        "elsewhere": "https://example.org/a.ipynb",
    }
    assert "See one, its training, two, above" in " ".join(page.get_text().split())


def test_formulas_are_mathml(page):
    inline, block = page.find_all("math")
    assert (inline["display"], block["display"]) == ("inline", "block") and block.find("mfrac")
    assert "\\alpha" not in page.find("main").get_text() and "costs 5 $" in page.get_text()


def test_what_cannot_be_read_stays_as_it_was_written():
    assert pages.mathml("x_1_2", "inline") == ""
    written = MarkdownWithMath(renderer=pages.Renderer({})).render("before $x_1_2$ after")
    assert "before $x_1_2$ after" in written


def test_code_that_only_draws_and_paths_of_a_machine_are_folded(page):
    folded = [fold.find(class_="jp-InputArea").get_text() for fold in page.find_all("details")]
    assert ["/home/me" in folded[0], "drawn" in folded[1]] == [True, True] and len(folded) == 2
    assert "a picture" in page.get_text() and not any(
        "a picture" in fold.get_text() for fold in page.find_all("details")
    )
    assert page.title.text == "A title"


def test_a_page_fetches_nothing(page):
    assert not page.find_all("script") and not page.find_all("link")
    assert not [tag for tag in page.find_all(src=True) if not tag["src"].startswith("data:")]
    assert not re.search(r"url\((?![\"']?(data:|#))|@import", "".join(style.text for style in page.find_all("style")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_formula_of_the_lessons_is_read(path, monkeypatch):
    seen = []
    monkeypatch.setattr(pages, "mathml", lambda formula, display: seen.append(formula) or "<math></math>")
    render = MarkdownWithMath(renderer=pages.Renderer({})).render
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            render(cell.source)
    monkeypatch.undo()
    unread = [formula for formula in seen if "\\" in (found := pages.mathml(formula, "inline")) or not found]
    assert not unread  # a command that is not known stays as it is, with its backslash
    assert seen or path.stem[:2] not in ("01", "02", "03", "04")


def test_a_folder_begins_at_its_index(tmp_path):
    first, second = NOTEBOOKS[1], tmp_path / "again.ipynb"
    second.write_text("not read")
    index = pages.write_all(
        [(first.name, first), (first.name, second), ("gone.ipynb", tmp_path / "no")], tmp_path / "p"
    )
    assert sorted(path.name for path in index.parent.iterdir()) == [f"{first.stem}.html", "index.html"]
    hrefs = {link["href"] for link in soup(index).find_all("a") if not link["href"].startswith("#")}
    assert hrefs == {f"{first.stem}.html"}
    assert "Your runs" in soup(index).get_text() and "PROTOCOL" not in soup(index).get_text()  # it was not executed
    assert "index.html" in {link["href"] for link in soup(index.with_name(f"{first.stem}.html")).find_all("a")}
    pages.write_all([(NOTEBOOKS[2].name, NOTEBOOKS[2])], index.parent)
    assert {f"{first.stem}.html", f"{NOTEBOOKS[2].stem}.html"} <= {link["href"] for link in soup(index).find_all("a")}
