"""Every notebook has the form that readers, papermill and git need, and runs from its first cell to its last."""

import ast
import json
import os
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from statistics import median

import nbformat
import papermill
import pytest
from traitlets.config import Config

from bloodcell_lib import models, protocols, records
from bloodcell_lib.command import notebooks as copies

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
INDEX = ROOT / "notebooks" / "index.ipynb"
NUMBERED = [path for path in NOTEBOOKS if path != INDEX]
LESSONS = [path for path in NOTEBOOKS if path.stem[3:] in models.names()]
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
    "What to remember",
    "Exercises",
]
INSTALL = """from importlib.util import find_spec

if not find_spec("bloodcell_lib"):
    get_ipython().run_line_magic("pip", \""""
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
numbered = pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def source(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path, "code"))


def parameters(path: Path) -> str:
    (cell,) = (cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", []))
    return cell.source


def test_a_lesson_has_the_number_of_its_network():
    cards = [models.card(name) for name in models.names()]
    numbered = [f"{card.lesson:02d}_{card.name}" for card in cards if card.lesson is not None]
    assert [path.stem for path in LESSONS] == sorted(numbered)


@every
def test_valid_python3_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [cell for cell in cells(path, "code") if cell.outputs or cell.execution_count]


@every
def test_no_cell_may_fail_in_silence(path):
    assert not [cell for cell in cells(path, "code") if "raises-exception" in cell.metadata.get("tags", [])]


@every
def test_one_parameters_cell_that_papermill_can_read(path):
    own, overrides = ["PROTOCOL", "DATA", "SEED", "OUT"], {knob.name.upper() for knob in protocols.KNOBS}
    names = list(papermill.inspect_notebook(str(path)))
    assert names[:4] == own and set(names[4:]) <= overrides
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(parameters(path)).body}
    assert list(values) == names and protocols.from_parameters(values) and values["SEED"] == 0
    assert all(values[name] is None for name in names if name not in ("PROTOCOL", "SEED"))


@every
def test_all_notebooks_have_the_same_parameters(path):
    assert list(papermill.inspect_notebook(str(path))) == list(papermill.inspect_notebook(str(LESSONS[0])))


@lessons
def test_lessons_begin_with_the_same_values(path):
    assert parameters(path) == parameters(LESSONS[0])


@numbered
def test_the_fields_follow_the_parameters_and_are_for_a_person(path):
    code = cells(path, "code")
    (place,) = (place for place, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", []))
    assert [cell for cell in code if not copies.is_in_batch(cell)] == [code[place + 1]]
    assert code[place + 1].source == "from bloodcell_lib.command import panel\n\npanel.show(globals())"


@every
def test_hidden_cells_are_hidden_in_lab_and_in_html(path):
    for cell in cells(path, "code"):
        in_html = "hide-input" in cell.metadata.get("tags", [])
        in_lab = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert in_html == in_lab, cell.source


@every
def test_cells_are_short_and_figures_have_a_text(path):
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells(path, "code")]
    assert median(lengths) <= 8 and max(lengths) <= 25
    assert "plt.show" not in source(path)


@every
def test_the_library_comes_before_keras(path):
    imported = [
        name.split(".")[0]
        for node in ast.walk(ast.parse(source(path)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert "keras" not in imported[: imported.index("bloodcell_lib")]


@every
def test_the_setup_installs_what_is_missing_from_the_address_of_the_project(path):
    """It is one address: that in pyproject.toml, once there is one; in a checkout the project lies above."""
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {}).get("Repository")
    (setup,) = (cell.source for cell in cells(path, "code") if "install -q" in cell.source)
    start, _, rest = setup.partition("install -q ")
    assert start == INSTALL and source(path).index("install -q") < source(path).index("from bloodcell_lib")
    if repository is None:
        assert rest.startswith('..")') and "github.com" not in source(path)
    else:
        assert copies.addressed(path.name, path.read_bytes(), repository) == path.read_bytes()


@every
def test_prose_leads(path):
    words = sum(len(cell.source.split()) for cell in cells(path, "markdown"))
    assert words >= 5 * len(source(path).splitlines())


@numbered
def test_a_lesson_has_a_length_that_people_finish(path):
    words = sum(len(cell.source.split()) for cell in cells(path, "markdown")[1:])  # without the way to other lessons
    assert len([cell for cell in cells(path, "code") if copies.is_in_batch(cell)]) <= 30 and words <= 2500


@lessons
def test_lessons_share_their_headings(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert text.count("<summary>Answer</summary>") == 3


@numbered
def test_goals_on_top_and_what_to_remember_below(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    goals, kept = (text.partition(start)[2] for start in ("After this lesson you can\n\n", "## What to remember\n\n"))
    bullets = [re.match(r"(- .+\n)+", part)[0].count("\n") for part in (goals, kept)]
    assert bullets[0] == 3 and 3 <= bullets[1] <= 6
    assert text.index("After this lesson") < text.index("## Setup") and text.index("## What") < text.index("## Exer")


@numbered
def test_exercises_with_a_number_can_be_checked(path):
    kept = [
        name for name in json.loads((ROOT / "bloodcell_lib" / "answers.json").read_text()) if name[:2] == path.stem[:2]
    ]
    typed = [cell.source for cell in cells(path, "code") if "lesson.check(" in cell.source]
    exercise = r"(from bloodcell_lib import lesson  # .+\n\n)?answer = None  # .+\nlesson\.check\(\"(.+)\", answer\)"
    assert [re.fullmatch(exercise, text)[2] for text in typed] == kept
    assert path not in LESSONS or kept[0].endswith(".1")


def lessons_of_the_map() -> dict[str, tuple[str, str]]:
    """File name to title and minutes to read, in the order of the index."""
    (table,) = (cell.source for cell in cells(INDEX, "markdown") if "## The map" in cell.source)
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|.*\| (\d+) \| \d+ \|$", table, re.MULTILINE)
    return {name: (title, minutes) for title, name, minutes in rows}


def test_the_map_names_every_lesson_in_its_order():
    present = [path.name for path in NUMBERED]
    assert [name for name in lessons_of_the_map() if name in present] == present


@numbered
def test_a_lesson_begins_with_the_way_to_its_neighbours(path):
    order, names = lessons_of_the_map(), list(lessons_of_the_map())
    place = names.index(path.name)
    assert cells(path, "markdown")[1].source.startswith(f"# {order[path.name][0]}\n")
    way = [f"[← {order[name][0]}]({name})" for name in names[max(place - 1, 0) : place]]
    way += ["[All lessons](index.ipynb)", *(f"[{order[name][0]} →]({name})" for name in names[place + 1 : place + 2])]
    assert cells(path, "markdown")[0].source.partition(" · [Colab](")[0] == " · ".join(way)


@numbered
def test_the_minutes_of_the_map_are_those_of_the_lesson(path):
    words = sum(len(cell.source.split()) for cell in cells(path, "markdown"))
    seen = [cell.source for cell in cells(path, "code") if not cell.metadata.get("jupyter", {}).get("source_hidden")]
    lines = sum(bool(line.strip()) for text in seen for line in text.splitlines())
    assert int(lessons_of_the_map()[path.name][1]) == pytest.approx(words / 130 + lines / 10, abs=5)


def test_make_lab_opens_the_map():
    (url,) = re.findall(r"default_url=/lab/tree/(\S+)", (ROOT / "Makefile").read_text())
    assert ROOT / url == INDEX and INDEX.exists()


def test_lessons_have_no_ceremony():
    """What stands alike in all lessons is setup, parameters and calls, not tables and figures made by hand."""
    alike = set.intersection(*({cell.source for cell in cells(path, "code")} for path in LESSONS))
    lines = [len(text.splitlines()) for text in alike if text != parameters(LESSONS[0])]
    assert lines and max(lines) <= 3 and len(lines) <= 10


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Where executed copies and records go: one folder, since the comparison reads what the lessons write."""
    folder = os.environ.get("BLOODCELL_EXECUTED") or tmp_path_factory.mktemp("executed")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder).resolve()


def execute(path: Path, folder: Path, **changed) -> Path:
    """Execute a notebook on a few small images for one epoch, and return the executed copy, kept also on failure."""
    side = max(models.card(name).min_side for name in models.names())  # one for all, so that they can be compared
    small = {"DATA": "sample", "IMAGE_SIZE": [side, side], "EPOCHS": 1, "LIMIT": 8, "BATCH_SIZE": 4}
    papermill.execute_notebook(
        str(path),
        str(folder / path.name),
        small | {"OUT": str(folder / "runs")} | changed,
        kernel_name="python3",
        cwd=str(path.parent),
        progress_bar=False,
        config=Config(KernelManager={"transport_encryption": "auto"}),
    )
    return folder / path.name


@pytest.fixture(scope="session")
def environment(session_cache):
    """The kernel named python3 is this environment's, whatever the user has installed elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        patch.setenv("BLOODCELL_CACHE", str(session_cache))
        patch.delenv("JPY_SESSION_NAME", raising=False)
        yield


@pytest.fixture(scope="session")
def executions(request, executed, environment):
    """The selected notebooks, executed two at a time, since tracing a network's graph keeps only one core busy."""
    asked = [item.callspec.params["path"] for item in request.session.items if "executions" in item.fixturenames]
    first = [path for path in asked if not reads_records(path)]  # the longest of them, NASNet, is the last

    def later(path: Path) -> Path:
        wait(found[lesson] for lesson in first)
        return execute(path, executed)

    pool = ThreadPoolExecutor(2)
    found = {path: pool.submit(execute, path, executed) for path in reversed(first)}
    if set(first) & set(LESSONS):
        found |= {path: pool.submit(later, path) for path in asked if reads_records(path)}
    yield found
    pool.shutdown(cancel_futures=True)


def reads_records(path: Path) -> bool:
    return "records.comparable" in source(path)


@pytest.mark.notebook
@pytest.mark.timeout(1800)  # the first one waits for those that take longest
@every
def test_runs_from_the_first_cell_to_the_last(path, executions, executed):
    if path not in executions:
        pytest.skip("reads the records of the lessons, which were not selected")
    copy = executions[path].result()
    code = [cell for cell in cells(copy, "code") if copies.is_in_batch(cell)]
    shown = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert all(cell.execution_count for cell in code if cell.source.strip())
    assert not [data for data in shown if "image/png" in data]  # a plain picture has no alternative text
    assert all('<img alt="' in html for data in shown if "<img" in (html := "".join(data.get("text/html", ""))))
    if path in LESSONS:
        assert path.stem[3:] in {record.model for record in records.read_all(executed / "runs")}


@pytest.mark.notebook
def test_a_wrong_name_in_a_notebook_fails(tmp_path, environment):
    cell = nbformat.v4.new_code_cell
    broken = nbformat.v4.new_notebook(cells=[cell("DATA = None", metadata={"tags": ["parameters"]}), cell("print(x)")])
    broken.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(broken, tmp_path / "broken.ipynb")
    (tmp_path / "copies").mkdir()
    with pytest.raises(papermill.PapermillExecutionError, match="name 'x' is not defined"):
        execute(tmp_path / "broken.ipynb", tmp_path / "copies")
    assert (tmp_path / "copies" / "broken.ipynb").exists()
