"""Every notebook has the form that readers, papermill and git need."""

import ast
import re
from pathlib import Path
from statistics import median

import nbformat
import papermill
import pytest

from bloodcell_lib import LESSONS, protocols, suite

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
HEADINGS = [
    "Setup",
    "Parameters",
    "Data",
    "The block",
    "The network",
    "Shapes and cost",
    "Training",
    "Results",
    "What the network looks at",
    "Discussion",
    "Exercises",
]
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_a_lesson_bears_the_number_of_its_network():
    lessons = [path.stem for path in NOTEBOOKS if path.stem[3:] in LESSONS]
    assert lessons == [f"{number:02d}_{name}" for number, name in enumerate(LESSONS, 1)]


@every
def test_valid_python3_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [c for c in cells(path, "code") if c.outputs or c.execution_count]


@every
def test_one_parameters_cell_that_papermill_can_read(path):
    tagged = [c for c in cells(path, "code") if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert tuple(papermill.inspect_notebook(str(path))) == suite.PARAMETERS
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged[0].source).body}
    assert values["PROTOCOL"] in protocols.PROTOCOLS and values["SEED"] == 0
    assert all(values[name] is None for name in suite.PARAMETERS if name not in ("PROTOCOL", "SEED"))


@every
def test_cells_are_short_and_figures_have_a_text(path):
    lengths = [sum(bool(line.strip()) for line in c.source.splitlines()) for c in cells(path, "code")]
    assert median(lengths) <= 8 and max(lengths) <= 25
    source = "\n".join(c.source for c in cells(path, "code"))
    assert "plt.show" not in source and "plots.show(" in source
    assert source.index("bloodcell_lib") < (source.find("keras") + 1 or len(source))


@every
def test_prose_leads(path):
    words = sum(len(c.source.split()) for c in cells(path, "markdown"))
    lines = sum(len(c.source.splitlines()) for c in cells(path, "code"))
    assert words >= 5 * lines


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem[3:] in LESSONS], ids=lambda path: path.stem)
def test_lessons_share_their_headings(path):
    text = "\n".join(c.source for c in cells(path, "markdown"))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert text.count("<details>") == 3
