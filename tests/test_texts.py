"""The glossary and the teacher's page agree with the lessons and with the map."""

import re
from itertools import accumulate, chain
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
GLOSSARY, TEACHING = ((NOTEBOOKS / name).read_text(encoding="utf-8") for name in ("glossary.md", "teaching.md"))
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
TERM_LINK = r"\[([^][]+)\]\(glossary\.md#([^)]+)\)"
TITLE = r"(?<!\*)\*(?=[^\s*])[^*\n]{30,}\*"  # of a paper
UNREAD = rf"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]+\$|^#.*?$|\]\([^)]*\)|<[^>]+>|{TITLE}"  # code, formulas, addresses


def prose(path: Path) -> str:
    """The text of a notebook or page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(path: Path) -> set[str]:
    """What a link to a heading may name."""
    return {title.strip().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)}


TERMS = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
ANCHORS = anchors(NOTEBOOKS / "glossary.md")


def test_terms_are_in_alphabetical_order_and_explained_in_one_to_three_sentences():
    assert sorted(TERMS, key=str.casefold) == TERMS and len(set(map(str.casefold, TERMS))) == len(TERMS)
    for term, text in zip(TERMS, re.split(r"^## .+$", GLOSSARY, flags=re.MULTILINE)[1:], strict=True):
        explained = re.sub(r"\[Lesson \d+\].*", "", " ".join(text.split()))
        assert 1 <= len(re.findall(r"[.?](?= |$)", explained)) <= 3 and len(explained.split()) <= 55, term


def test_every_entry_names_the_lesson_that_explains_it():
    for term, text in zip(TERMS, re.split(r"^## .+$", GLOSSARY, flags=re.MULTILINE)[1:], strict=True):
        assert re.search(r"\[[Ll]esson \d+\]\(\d\d_\w+\.ipynb", text), term


@pytest.mark.parametrize("path", [*NOTEBOOKS.glob("*.md"), *NOTEBOOKS.glob("*.ipynb")], ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(path):
    for address in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(path))):
        name, _, place = address.partition("#")
        if "://" not in name:
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), address
            assert not place or place in anchors(target), address


def test_every_term_is_linked():
    used = {term for path in (*LESSONS, NOTEBOOKS / "teaching.md") for _, term in re.findall(TERM_LINK, prose(path))}
    assert ANCHORS - {"Glossary"} - used == set()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_links_a_term_once_at_its_first_use(path):
    text = prose(path)
    links = re.findall(TERM_LINK, text)
    assert len(links) == len({term for _, term in links}) and len(links) >= 10
    for found in re.finditer(TERM_LINK, text):
        longer = [re.escape(words.rstrip("s")) for words, _ in links if found[1] in words and found[1] != words]
        before = re.sub("|".join([UNREAD, *longer]), " ", text[: found.start()], flags=re.DOTALL | re.MULTILINE)
        assert not re.search(rf"(?<![\w-]){re.escape(found[1])}(?![\w-])", before), found[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def numbers(text: str) -> list[int]:
    """The lessons that a row names or needs."""
    return [int(number) for number in re.findall(r"\b(\d+)\b(?!_)", re.sub(r"\([^)]*\)", "", text))]


MAP, COURSE = rows(prose(NOTEBOOKS / "index.ipynb"), "The map"), rows(TEACHING, "The course")
IN_ALL = {numbers(row[0])[0]: int(row[5]) for row in COURSE}
NEEDS = {numbers(row[0])[0]: numbers(row[1]) for row in COURSE}
PLANS = {"A half-day": 240, "One day": 420, "Six weeks": 180}  # most minutes: of all rows, and of each week


def test_the_course_has_the_lessons_needs_and_minutes_of_the_map():
    assert [row[:4] for row in COURSE] == [[lesson, needs, *minutes] for lesson, _, needs, *minutes in MAP]
    assert all(int(row[5]) == sum(map(int, row[2:5])) for row in COURSE)
    assert f"take {sum(IN_ALL.values())} minutes, about {sum(IN_ALL.values()) / 60:.0f} hours" in TEACHING


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_adds_up_and_comes_after_what_it_needs(plan):
    table = rows(TEACHING, plan)
    days = [[int(number) for number in re.findall(r"\((\d\d)_", row[1])] for row in table]
    assert [int(row[2]) for row in table] == [sum(IN_ALL[lesson] for lesson in day) for day in days]
    minutes = [int(row[2]) for row in table]
    assert (max(minutes) if plan == "Six weeks" else sum(minutes)) <= PLANS[plan]
    order = list(chain(*days))
    for lesson, before in zip(order, accumulate(([lesson] for lesson in order), initial=[]), strict=False):
        assert set(NEEDS[lesson]) <= set(before), (lesson, before)
    if 10 in order:  # it compares the records of two networks
        assert len({lesson for lesson in order[: order.index(10)] if 1 <= lesson <= 9}) >= 2
    assert plan != "Six weeks" or sorted(order) == sorted(IN_ALL)


def test_questions_for_an_exam_are_of_all_lessons_and_answered():
    section = TEACHING.split("\n## Questions for an exam\n")[1].split("\n## ")[0]
    questions = re.findall(r"^\*\*(\d+)\. Lessons? ([\d and]+)\.\*\* .+\n\n((?:- .+\n)+)", section, re.MULTILINE)
    assert [int(number) for number, *_ in questions] == list(range(1, len(questions) + 1))
    assert 12 <= len(questions) <= 15
    assert {number for _, of, _ in questions for number in numbers(of)} == set(IN_ALL)


def test_every_misconception_names_the_place_that_shows_the_truth():
    for said, truth, place in rows(TEACHING, "Common misconceptions"):
        assert said and truth and re.search(r"\(\d\d_\w+\.ipynb#[^)]+\)", place), said
