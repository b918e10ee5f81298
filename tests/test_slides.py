"""Slides are made of a lesson's own cells: what is on one, what is spoken, and what is left out."""

import shutil

import nbformat
import pytest
from bs4 import BeautifulSoup

from bloodcell_lib.command import slides

new = nbformat.v4
LONG = " ".join(["It is said and not shown."] * 20)
ANSWER = "<details><summary>Answer</summary>\n\nForty-two.\n\nReally.\n\n</details>"


def figure(name: str):
    return new.new_output("display_data", {"text/html": f'<img alt="{name}">', "text/plain": name})


@pytest.fixture
def lesson():
    cells = [
        new.new_markdown_cell("[All lessons](index.ipynb)"),
        new.new_markdown_cell("# A title\n\nOne idea."),
        new.new_markdown_cell("## Setup\n\nPlumbing."),
        new.new_code_cell("import keras"),
        new.new_markdown_cell(
            f"## The block\n\n**A lead.** See Fig. 2 of $f(x. y)$ first. {LONG}\n\n$$x = 1$$\n\n- a point\n\n{LONG}\n"
        ),
        new.new_code_cell("x = 1", outputs=[new.new_output("stream", name="stderr", text="progress")]),
        new.new_code_cell("draw()", metadata={"tags": ["hide-input"]}, outputs=[figure("one"), figure("two")]),
        new.new_markdown_cell(f"Short. Two sentences.\n\n### Deeper\n\n{LONG}"),  # nothing follows
        new.new_markdown_cell(f"## Exercises\n\n**1.** How many?\n\n{ANSWER}"),
        new.new_code_cell('answer = None\nlesson.check("01.1", answer)'),
    ]
    return new.new_notebook(cells=cells, metadata={"title": "A title"})


def shown(cells):
    """What is on each slide, and how it begins."""
    found = []
    for cell in cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        if kind in ("slide", "subslide"):
            found.append((kind, []))
        if kind != "notes":
            found[-1][1].append(cell)
    return found


def test_a_slide_is_a_heading_or_a_text_with_the_cells_that_follow(lesson):
    found = shown(slides.deck(lesson).cells)
    assert [kind for kind, _ in found] == ["slide", "slide", "subslide", "subslide", "subslide", "slide"]
    begins = [cells[0].source.splitlines()[0] for _, cells in found]
    assert begins == ["# A title", "## The block", "draw()", "Short. Two sentences.", "### Deeper", "## Exercises"]


def test_long_texts_are_shown_by_their_first_sentences_and_formulas(lesson):
    text = shown(slides.deck(lesson).cells)[1][1][0].source
    assert text.split("\n\n")[1:] == [
        "**A lead.** See Fig. 2 of $f(x. y)$ first.", "$$x = 1$$", "- a point", "It is said and not shown."
    ]  # fmt: skip


def test_the_whole_text_is_spoken(lesson):
    notes = [cell for cell in slides.deck(lesson).cells if cell.metadata.get("slideshow") == {"slide_type": "notes"}]
    assert LONG in notes[1].source and "Forty-two." in notes[-1].source and not notes[1].source.startswith("#")


def test_plumbing_answers_and_progress_are_left_out(lesson):
    text = "\n".join(str(cell) for _, cells in shown(slides.deck(lesson).cells) for cell in cells)
    assert not [word for word in ("Plumbing", "keras", "progress", "Forty-two", "Really", "check") if word in text]
    assert "How many?" in text


def test_a_second_figure_has_a_slide_of_its_own(lesson):
    cells = [cell for _, cells in shown(slides.deck(lesson).cells) for cell in cells if cell.source == "draw()"]
    assert [[output.data["text/plain"] for output in cell.outputs] for cell in cells] == [["one"], ["two"]]


def test_a_text_that_no_output_follows_may_be_longer(lesson):
    found = shown(slides.deck(lesson).cells)
    assert LONG in found[4][1][0].source and LONG not in found[1][1][0].source


@pytest.mark.parametrize("fetched", [False, True])
def test_slides_need_the_internet_only_where_reveal_is_not_beside_them(lesson, fetched, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    nbformat.write(lesson, tmp_path / "made.ipynb")
    if fetched:
        (tmp_path / "slides/reveal.js").mkdir(parents=True)
    page = slides.write_all([("made.ipynb", tmp_path / "made.ipynb")], tmp_path / "slides") / "made.html"
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    used = [tag.get("src") or tag.get("href") for tag in soup.select("script[src], link[href]")]
    where = "reveal.js/" if fetched else f"https://unpkg.com/{slides.REVEAL}/"
    assert len(used) == 4 and all(address.startswith(where) for address in used)
    assert ("from the internet" in capsys.readouterr().out) != fetched
    assert len(soup.select(".slides > section")) == 3 and soup.select("aside.notes") and soup.find("math")
    assert "x = 1" in soup.get_text() and "draw()" not in soup.get_text()
