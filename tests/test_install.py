"""What a wheel holds, and that it works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from bloodcell_lib import files
from bloodcell_lib.command.notebooks import copy_notebooks
from bloodcell_lib.records import Record

ROOT = Path(__file__).parents[1]
TABLES = {"provenance.csv", "same_cell.csv"}
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
LESSON = ("-p", "DATA", "sample", "-p", "EPOCHS", "1", "-p", "LIMIT", "8", "-p", "BATCH_SIZE", "4")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command, and fail with all it said where it fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER"))}
    done = subprocess.run(
        command, cwd=cwd, env=inherited | env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the project's files, with what a folder in use also holds and a wheel must not."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    tree = tmp_path_factory.mktemp("tree")
    for file in (file for file in listed if (ROOT / file).is_file()):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tree / file)
    for stray in (
        "data/blood-cells.zip",
        "data/labels.csv",
        "data/make_tables.py",
        "data/TRAIN/MONOCYTE/_0_1.jpeg",
        "notebooks/notes.txt",
        "notebooks/.ipynb_checkpoints/01_cnn-checkpoint.ipynb",
        "bloodcell_lib/__pycache__/files.cpython-311.pyc",
        "runs/cnn-quick-seed0.json",
    ):
        (tree / stray).parent.mkdir(parents=True, exist_ok=True)
        (tree / stray).write_text("stray")
    return tree


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    """A wheel, built as pip builds it from a checkout or a repository's URL."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, tree, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of a fresh environment that has the wheel, and borrows its dependencies from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # The line names a folder to import from. The .pth files there, an editable install among them, are not read.
    borrowed = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    run(python, "-m", "ipykernel", "install", "--sys-prefix", cwd=folder)
    return python.parent


def modules(tree: Path) -> set[str]:
    library = [path for path in (tree / "bloodcell_lib").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(tree).as_posix() for path in library}


def notebooks(tree: Path) -> set[str]:
    """Notebooks and texts."""
    return {path.name for path in (tree / "notebooks").iterdir() if path.suffix in (".ipynb", ".md")}


@pytest.mark.install
def test_a_wheel_holds_library_notebooks_and_tables_and_nothing_else(tree, wheel):
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        assert file.read("bloodcell_lib/data/provenance.csv") == (tree / "data/provenance.csv").read_bytes()
    assert held == (
        modules(tree)
        | {f"bloodcell_lib/notebooks/{name}" for name in notebooks(tree)}
        | {f"bloodcell_lib/data/{name}" for name in TABLES}
    )


@pytest.mark.install
def test_a_source_archive_holds_what_a_wheel_is_built_from(tree, tmp_path):
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    name = run(sys.executable, "-c", build, tmp_path, cwd=tree).split()[-1]
    with tarfile.open(tmp_path / name) as file:
        held = {member.name.split("/", 1)[-1] for member in file if member.isfile()}
    wanted = {f"notebooks/{name}" for name in notebooks(tree)} | {f"data/{name}" for name in TABLES}
    assert modules(tree) | wanted | {"setup.py", "pyproject.toml"} <= held
    assert {name for name in held if name.startswith(("notebooks/", "data/"))} == wanted


@pytest.mark.install
def test_an_installed_library_finds_what_came_with_it(installed, tmp_path):
    ask = (
        "import bloodcell_lib; from bloodcell_lib import files;"
        "print(bloodcell_lib.__file__, files.shipped('notebooks'), files.shipped('data'), files.out_dir(), sep='\\n')"
    )
    library, notebooks, data, runs = map(Path, run(installed / "python", "-c", ask, cwd=tmp_path).splitlines())
    assert library.is_relative_to(installed.parent)
    assert notebooks == library.parent / "notebooks" and data == library.parent / "data"
    assert {path.name for path in data.glob("*.csv")} == TABLES
    assert runs == tmp_path / "runs" and not runs.exists()


@pytest.mark.install
def test_a_lesson_runs_from_an_empty_folder(installed, tmp_path, cache):
    run(installed / "bloodcell", "notebooks", ".", cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == notebooks(ROOT)
    lesson = ("-m", "papermill", "--no-progress-bar", "01_cnn.ipynb", "executed.ipynb", *LESSON)
    run(installed / "python", *lesson, "-y", "IMAGE_SIZE: [30, 40]", cwd=tmp_path, BLOODCELL_CACHE=str(cache))
    (record,) = (tmp_path / "runs").glob("cnn-quick-*.json")
    assert Record.read(record).settings["epochs"] == 1
    assert "cnn" in run(installed / "bloodcell", "table", cwd=tmp_path)


def test_in_a_checkout_what_is_shipped_lies_beside_the_library():
    assert files.shipped("notebooks") == ROOT / "notebooks" and files.shipped("data") == ROOT / "data"


def test_notebooks_are_copied_once_and_never_over_changed_ones(tmp_path):
    folder = tmp_path / "new" / "lessons"
    copies = copy_notebooks(folder)
    assert {copy.name: copy.read_bytes() for copy in copies} == {
        name: (ROOT / "notebooks" / name).read_bytes() for name in notebooks(ROOT)
    }
    copies[1].unlink()
    assert copy_notebooks(folder) == copies and copies[1].exists()

    copies[0].write_text("my own notes")
    copies[1].unlink()
    with pytest.raises(ValueError, match=copies[0].name):
        copy_notebooks(folder)
    assert copies[0].read_text() == "my own notes" and not copies[1].exists()
    with pytest.raises(ValueError, match="is a file"):
        copy_notebooks(copies[0])
