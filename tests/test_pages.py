"""Pages open without a server and without the internet, and lead to each other."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import MarkdownWithMath

from bloodcell_lib import files
from bloodcell_lib.command import cli, pages

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
        new.new_code_cell("print('for a person')", metadata={"tags": ["hide-input", "skip-execution"]}),
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


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A folder in place of what is shipped: the project's notebooks, and a comparison of one figure."""
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped/notebooks").symlink_to(NOTEBOOKS[0].parent)
    (tmp_path / "shipped/results").mkdir()
    page = '<title>10. The comparison</title><body><img alt="from 72 to 77" src="data:,a"><img alt="b" src="data:,b">'
    (tmp_path / "shipped/results/comparison.html").write_text(page)
    monkeypatch.setattr(files, "shipped", lambda what: tmp_path / "shipped" / what)


def hrefs(page: Path, part: str = "main") -> set[str]:
    return {link["href"] for link in soup(page).select(f"{part} a") if not link["href"].startswith("#")}


def test_a_folder_begins_at_its_index(tmp_path, measured):
    first, second = NOTEBOOKS[1], tmp_path / "again.ipynb"
    second.write_text("not read")
    index = pages.write_all(
        [(first.name, first), (first.name, second), ("gone.ipynb", tmp_path / "no")], tmp_path / "p"
    )
    texts = {"index.html", "glossary.html", "teaching.html", "measured.html"}
    assert {path.name for path in index.parent.iterdir()} == {f"{first.stem}.html", "search.js", "site.css"} | texts
    assert hrefs(index) == {f"{first.stem}.html", "glossary.html", "teaching.html", "measured.html"}
    assert "Your runs" in soup(index).get_text() and "PROTOCOL" not in soup(index).get_text()  # it was not executed
    assert "index.html" in hrefs(index.with_name(f"{first.stem}.html"))
    pages.write_all([(NOTEBOOKS[2].name, NOTEBOOKS[2])], index.parent)
    assert {f"{first.stem}.html", f"{NOTEBOOKS[2].stem}.html"} <= hrefs(index)
    for page in index.parent.glob("*.html"):  # also those of the first batch
        names = [link["href"] for link in soup(page).select("#site nav > details > ol > li > a[href$='.html']")]
        assert names[:3] == ["index.html", f"{first.stem}.html", f"{NOTEBOOKS[2].stem}.html"] and len(names) == 6
        (here,) = soup(page).select("#site [aria-current]")
        assert here["href"] == page.name and len(soup(page).select("#site")) == 1


def test_the_front_page_begins_with_what_was_measured(tmp_path, measured):
    index = pages.write_all([], tmp_path)
    figure = soup(index).find("figure")
    assert figure.a["href"] == "measured.html" and figure.img["alt"] == "from 72 to 77"
    assert figure.find_previous("h1") and figure.find_next("h2").get_text().startswith("The map")
    assert soup(tmp_path / "measured.html").title.text == "The comparison, on blood"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site with two lessons, and each of its pages by name."""
    lessons = [(NOTEBOOKS[number].name, NOTEBOOKS[number]) for number in (0, 1, 3)]  # one has × in a heading
    folder = pages.write_all(lessons, tmp_path_factory.mktemp("site")).parent
    return folder, {page.name: soup(page) for page in folder.glob("*.html")}


def test_every_link_of_the_site_leads_somewhere(site):
    folder, found = site
    places = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in found.items()}
    for name, page in found.items():
        for link in page.find_all("a", href=True):
            path, _, place = link["href"].partition("#")
            if "://" not in path:
                assert not place or {place, unquote(place)} & places[path or name], (name, link["href"])
                assert path in ("", *places), (name, link["href"])
        local = [tag.get("src") or tag.get("href") for tag in page.select("#site script, #site link")]
        assert local == ["site.css", "search.js"] and all((folder / file).exists() for file in local)
        assert not [tag for tag in page.find_all(src=True) if not tag["src"].startswith(("data:", "search.js"))]


def test_the_sections_of_a_page_have_its_words_and_no_code(page):
    title, (section,) = pages.sections(str(page))
    assert (title, section.level, section.anchor, section.heading) == ("A title", 1, "A-title", "A title")
    assert section.text.startswith("See one, its training, two, above") and "costs 5 $" in section.text
    assert "theta" not in section.text and "shown" not in section.text


@pytest.mark.skipif(not shutil.which("node"), reason="the search runs in a browser, or in Node")
def test_the_search_finds_headings_first_and_either_spelling(site):
    stub = """const stub = new Proxy(() => stub, { get: (_, key) => (key === Symbol.iterator ? undefined : stub) });
    globalThis.document = stub; globalThis.matchMedia = stub;"""
    asked = ["stride", "Cross entropy", "batch normalization", "intraclass correlation zzz", ""]
    ask = f"""console.log(JSON.stringify({json.dumps(asked)}.map(
        query => rank(query).ranked.map(entry => `${{entry.page}}#${{entry.anchor}}`))))"""
    script = stub + (site[0] / "search.js").read_text(encoding="utf-8") + ask
    done = subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=True)
    stride, entropy, spelling, none, empty = json.loads(done.stdout)
    assert stride[0] == "glossary.html#stride" and "01_cnn.html#Equations-3-to-7-by-hand" in stride
    assert entropy[0] == "glossary.html#cross-entropy" and spelling[0] == "glossary.html#batch-normalisation"
    assert none == empty == []


def test_the_command_takes_the_newest_copies_and_executes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages.notebooks, "find", lambda wanted: NOTEBOOKS[1:3])
    for seed, age in ((0, 2), (1, 0), (2, 1)):
        copy = tmp_path / f"{NOTEBOOKS[1].stem}-quick-seed{seed}.ipynb"
        cell = nbformat.v4.new_markdown_cell(f"# Seed {seed}")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), copy)
        os.utime(copy, (1e9 - age, 1e9 - age))
    assert cli.main(["pages", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"no executed copy: {NOTEBOOKS[2].name}\n" in said and str(tmp_path / "pages/index.html") in said
    assert soup(tmp_path / f"pages/{NOTEBOOKS[1].stem}.html").title.text == "Seed 1"
    assert soup(tmp_path / f"pages/{NOTEBOOKS[2].stem}.html").title.text.startswith("2. ")


def test_a_copy_that_failed_does_not_displace_a_whole_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages.notebooks, "find", lambda wanted: NOTEBOOKS[1:3])
    names = [f"{NOTEBOOKS[1].stem}-quick-seed{seed}.ipynb" for seed in range(4)] + [f"{NOTEBOOKS[2].stem}-a.ipynb"]
    for age, name in enumerate(names):
        metadata = {"bloodcell": {"code": "0"}} if name in names[1:3] else {}
        cell = nbformat.v4.new_markdown_cell(f"# {name}")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), tmp_path / name)
        os.utime(tmp_path / name, (1e9 + age, 1e9 + age))
    assert cli.main(["pages", str(tmp_path)]) == 0
    assert f"not executed to the end, and there is no other copy: {names[4]}\n" in capsys.readouterr().out
    for shipped, name in zip(NOTEBOOKS[1:3], (names[2], names[4]), strict=True):
        assert soup(tmp_path / f"pages/{shipped.stem}.html").title.text == name


def test_a_site_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages.notebooks, "find", lambda wanted: [])
    (tmp_path / "file").touch()
    assert cli.main(["pages", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"bloodcell: {tmp_path}/file/pages: Not a directory. Check")


def test_the_site_is_published_as_make_builds_it():
    root = NOTEBOOKS[0].parents[1]
    workflow = yaml.safe_load((root / ".github/workflows/pages.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make pages", "make slides"]
    (upload,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-pages-artifact"))
    (made,) = re.findall(r"^pages:.*\n\t(.+)", (root / "Makefile").read_text(), re.MULTILINE)
    assert upload["with"]["path"] == "runs/pages" and made.endswith("/bloodcell run --data sample --pages")
    assert files.out_dir() == root / "runs" and workflow["permissions"]["pages"] == "write"
