"""What a wheel holds, and that it works where there is no checkout; what an image and Binder install."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bloodcell_lib import files
from bloodcell_lib.command.notebooks import addressed, copy_notebooks
from bloodcell_lib.records import Record

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
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


def fresh(folder: Path) -> Path:
    """Make an environment that borrows its dependencies from this one, and return its Python."""
    venv.create(folder, with_pip=False)
    # The line names a folder to import from. The .pth files there, an editable install among them, are not read.
    borrowed = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of a fresh environment that has the wheel."""
    folder = tmp_path_factory.mktemp("fresh")
    python = fresh(folder)
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
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
    assert "restart the kernel" not in (tmp_path / "executed.ipynb").read_text()  # as %pip says whenever it ran
    (record,) = (tmp_path / "runs").glob("cnn-quick-*.json")
    assert Record.read(record).settings["epochs"] == 1
    assert "cnn" in run(installed / "bloodcell", "table", cwd=tmp_path)


@pytest.mark.install
def test_a_lesson_in_a_checkout_installs_the_library_where_it_is_missing(tree, tmp_path):
    (setup,) = (cell for cell in nbformat.read(tree / "notebooks/01_cnn.ipynb", 4).cells if "install -q" in cell.source)
    code = setup.source.replace(re.search(r"install -q ([^\"]+)", setup.source)[1], "..")
    code = code.partition("\nfrom bloodcell_lib")[0] + "\nimport bloodcell_lib\nprint('it is', bloodcell_lib.__file__)"
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 as in "build isolation: no"
    python = fresh(tmp_path / "bare")
    for first in (True, False):
        said = run(python, "-m", "IPython", "-c", code, cwd=tree / "notebooks", **offline)
        assert "restart the kernel" in said if first else "restart the kernel" not in said
        assert Path(said.split("it is ")[1].strip()).is_relative_to(tmp_path / "bare")


def test_in_a_checkout_what_is_shipped_lies_beside_the_library():
    assert files.shipped("notebooks") == ROOT / "notebooks" and files.shipped("data") == ROOT / "data"


def test_runs_lie_beside_the_notebooks_wherever_the_library_lies(tmp_path, monkeypatch):
    for folder in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(folder)
        assert files.out_dir() == ROOT / "runs"
    monkeypatch.chdir(copy_notebooks(tmp_path / "mine")[0].parent)
    assert files.out_dir() == tmp_path / "mine" / "runs"
    assert files.out_dir("there") == Path("there")


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


# The image


STEPS = [line.split(maxsplit=1) for line in DOCKERFILE.replace("\\\n", " ").splitlines() if re.match(r"[A-Z]+ ", line)]


def steps(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def sent(tree: Path) -> list[str]:
    """The files that Docker sends to a build: the last line of .dockerignore decides that fits a path or its folder."""
    rules = []
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        wild = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        rules.append((re.compile(f"{wild}(/.*)?"), line.startswith("!")))
    paths = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
    return [path for path in paths if [kept for rule, kept in rules if rule.fullmatch(path)][-1]]


@pytest.mark.install
def test_an_image_gets_the_lock_and_the_same_wheel(tree, wheel, tmp_path):
    context = sent(tree)
    assert {path.split("/")[0] for path in context} == {
        *("requirements.lock", "pyproject.toml", "setup.py", "README.md", "LICENSE"),
        *("bloodcell_lib", "notebooks", "data"),
    }
    assert not [path for path in context if path.endswith((".zip", ".jpeg", ".pyc")) or "checkpoint" in path]
    assert [tuple(step.split()) for step in steps("COPY")] == [("requirements.lock", "/tmp/"), (".", "/tmp/bloodcell")]
    for path in context:
        (tmp_path / "bloodcell" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / path, tmp_path / "bloodcell" / path)
    (build,) = (step for step in steps("RUN") if step.endswith(" /tmp/bloodcell"))
    options = build.removeprefix("pip install ").removesuffix(" /tmp/bloodcell").split()
    run(*PIP, "wheel", *options, "--no-index", "--wheel-dir", tmp_path, tmp_path / "bloodcell", cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    names = [sorted(zipfile.ZipFile(file).namelist()) for file in (built, wheel)]
    assert built.name == wheel.name and names[0] == names[1]


def test_an_image_installs_the_lock_with_hashes_on_a_python_that_is_tested():
    (python,) = re.findall(r"^python:(3\.\d+)-slim$", "\n".join(steps("FROM")))
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert python in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert steps("RUN")[1] == "pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock"
    locked = (ROOT / "requirements.lock").read_text()
    for wanted in map(Requirement, PYPROJECT["build-system"]["requires"]):  # as nothing is fetched to build the wheel
        assert wanted.specifier.contains(re.search(rf"^{wanted.name}==(\S+)", locked, re.MULTILINE)[1])


@pytest.mark.install
def test_an_image_opens_the_map_as_a_user_without_rights(installed, tmp_path):
    user, home = steps("USER")[-1], steps("WORKDIR")[-1]
    assert f"--create-home --uid 1000 {user}" in steps("RUN")[0] and home == f"/home/{user}"
    assert STEPS.index(["USER", user]) > STEPS.index(["RUN", steps("RUN")[-2]]), "nothing else is installed by the user"
    path = f"{installed}{os.pathsep}{os.environ['PATH']}"
    run("sh", "-c", steps("RUN")[-1], cwd=tmp_path, PATH=path)
    assert (tmp_path / "runs").is_dir()
    command = json.loads(steps("CMD")[-1])
    (url,) = (option.partition("/lab/tree/")[2] for option in command if "default_url" in option)
    assert (tmp_path / url).is_file() and command[:2] == ["jupyter", "lab"] and "--ip=0.0.0.0" in command
    (ran, *_) = re.findall(r"#   docker run (.+)", DOCKERFILE)
    assert f"-p 127.0.0.1:{steps('EXPOSE')[-1]}:{steps('EXPOSE')[-1]}" in ran and f":{home}/runs " in ran


# Binder


def test_binder_installs_the_checkout_and_not_the_image():
    """Binder would build the Dockerfile, and reads nothing but the folder .binder where there is one."""
    folder = ROOT / ".binder"
    assert {path.name for path in folder.iterdir()} == {"requirements.txt", "runtime.txt"}
    assert (folder / "requirements.txt").read_text().split() == ["-e", "."]
    (python,) = re.findall(r"^python-(3\.\d+)\n$", (folder / "runtime.txt").read_text())
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(f"{python}.0")


# An address


ADDRESS = "https://github.com/OWNER/NAME"


def test_copies_of_an_address_install_from_it_and_link_to_themselves(tmp_path):
    for _ in range(2):  # the second time nothing is left to do
        (lesson,) = (path for path in copy_notebooks(tmp_path, ADDRESS) if path.stem == "01_cnn")
        text = lesson.read_text()
        assert f'"install -q git+{ADDRESS}\\")' in text and "install -q .." not in text
        (first, *_) = nbformat.read(lesson, 4).cells
        assert first.source.endswith(
            " · [Colab](https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks/01_cnn.ipynb)"
            " · [Binder](https://mybinder.org/v2/gh/OWNER/NAME/main?urlpath=lab/tree/notebooks/01_cnn.ipynb)"
        )
        assert first.source.count("Colab") == 1
    moved = addressed(lesson.name, lesson.read_bytes(), "https://github.com/other/fork.of-it")
    assert b"OWNER" not in moved and moved.count(b"other/fork.of-it") == 3
    nbformat.validate(nbformat.reads(moved.decode(), 4))


def test_copies_that_nobody_changed_get_an_address(tmp_path):
    plain = copy_notebooks(tmp_path)
    copy_notebooks(tmp_path, ADDRESS)
    assert b"OWNER/NAME" in plain[1].read_bytes()
    with pytest.raises(ValueError, match=plain[0].name):  # other versions than those that are shipped
        copy_notebooks(tmp_path)
    plain[1].write_text("my own notes")
    with pytest.raises(ValueError, match=plain[1].name):
        copy_notebooks(tmp_path, ADDRESS)
    assert plain[1].read_text() == "my own notes"


@pytest.mark.parametrize("wrong", ["", "OWNER/NAME", "https://gitlab.com/OWNER/NAME", f"{ADDRESS}.git", f"{ADDRESS}/"])
def test_an_address_that_cannot_be_opened_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="Give https://github.com/OWNER/NAME"):
        copy_notebooks(tmp_path / "new", wrong)
    assert not (tmp_path / "new").exists()
