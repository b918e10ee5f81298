"""The project's own files agree with each other."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path

import intervals
import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import bloodcell_lib
from bloodcell_lib import backend, metrics, models, records
from bloodcell_lib.command import comparison, report

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
ASIDE = "cluster", "demo", "browser", "mlflow"  # many packages that neither lessons nor most tests need
EXTRAS = [wanted for extra in OPTIONAL if extra not in ASIDE for wanted in OPTIONAL[extra]]
WANTED = list(dict.fromkeys(PROJECT["dependencies"] + EXTRAS))  # dev repeats what its tests need of another extra


def test_environment_lists_what_pyproject_lists():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip", {"pip": WANTED}]


def test_the_library_imports_what_pyproject_lists():
    trees = [ast.parse(path.read_text()) for path in (ROOT / "bloodcell_lib").rglob("*.py")]
    found = [node for tree in trees for node in ast.walk(tree)]
    modules = {name.name for node in found if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in found if isinstance(node, ast.ImportFrom)}
    tops = {module.split(".")[0] for module in modules} - {"bloodcell_lib", *sys.stdlib_module_names}
    listed = {Requirement(wanted).name for wanted in WANTED + [wanted for extra in ASIDE for wanted in OPTIONAL[extra]]}
    packages = packages_distributions()
    brought = {"IPython", "jupyter_client", "traitlets", "onnx"}  # by ipykernel, and onnx by tf2onnx
    assert {top for top in tops - brought if not listed & {top, *map(str.lower, packages.get(top, []))}} == set()


def test_extras_that_want_the_same_package_want_the_same_version():
    names = [Requirement(wanted).name for wanted in WANTED]
    assert len(names) == len(set(names)), names


def test_every_line_of_the_environment_gives_its_reason():
    lines = [line for line in (ROOT / "environment.yml").read_text().splitlines() if line.startswith("      - ")]
    assert len(lines) == len(WANTED)
    assert [line for line in lines if not re.search(r"  # \w{3,}", line)] == []


def test_the_lock_pins_every_dependency_within_its_bounds():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line and not line.startswith((" ", "#"))]
    pinned = defaultdict(list)
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==", pin
        pinned[pin.name].append(exact.version)
    for wanted in map(Requirement, WANTED):
        assert pinned[wanted.name] and all(map(wanted.specifier.contains, pinned[wanted.name])), wanted


def test_the_lock_has_hashes_for_every_pin():
    locked = re.sub(r" \\\n\s+", " ", (ROOT / "requirements.lock").read_text())
    pins = [line for line in locked.splitlines() if line and not line.startswith((" ", "#"))]
    assert [pin for pin in pins if not re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", pin)] == []


def test_no_image_weight_or_long_file_is_committed():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / file for file in listed.splitlines() if (ROOT / file).exists()]
    assert not [f for f in files if f.suffix in (".jpeg", ".jpg", ".png", ".zip", ".keras", ".h5", ".npy")]
    most = {".html": 3_000_000}  # a page has its figures inside
    assert not [f for f in files if f.stat().st_size > most.get(f.suffix, 1_000_000)]


def test_make_explains_itself():
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"run", "test", "lab", ".venv"} <= {line.split(" - ")[0] for line in said.splitlines()}


def make(folder, target, programs, **env):
    """Run a target where only these programs are on the PATH: a Python of some version (None: a broken one), or uv."""
    fake = f"exec {sys.executable} -c 'import sys; sys.version_info = %s; exec(sys.argv[2])' \"$@\""
    scripts = {name: fake % (version,) if version else "exit 1" for name, version in programs.items()}
    for name, script in scripts.items() | {("echo", 'echo "$@"')}:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    for file in ("requirements.lock", "pyproject.toml", "setup.py"):
        (folder / file).touch()
    shutil.copy(ROOT / "Makefile", folder)
    command = [shutil.which("make"), "-n" if target == ".venv" else "-s", target]
    return subprocess.run(command, cwd=folder, env={"PATH": str(folder)} | env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("programs", "chosen"),
    [
        ({"python3": (3, 12, 1), "python3.11": (3, 11, 0), "uv": None}, "python3"),
        ({"python3": (3, 14, 0), "python3.13": (3, 13, 2), "python3.12": (3, 12, 0)}, "python3.13"),
        ({"python3": (3, 10, 9), "python3.12": (3, 12, 0), "uv": None}, "python3.12"),
        ({"python3": (3, 14, 0), "python3.13": None, "python3.11": (3, 11, 4)}, "python3.11"),
        ({"python3": (3, 14, 0), "uv": None}, "uv"),
        ({"uv": None}, "uv"),
    ],
)
def test_make_takes_a_python_that_fits_else_uv(tmp_path, programs, chosen):
    assert make(tmp_path, "python", programs).stdout.strip() == chosen
    steps = make(tmp_path, ".venv", programs).stdout
    assert ("uv venv " in steps) == (chosen == "uv") and (f"{chosen} -m venv .venv" in steps) == (chosen != "uv")
    assert "--require-hashes -r requirements.lock" in steps


def test_make_takes_the_python_that_is_named(tmp_path):
    programs = {"python3": (3, 12, 1), "mine": (3, 11, 7), "new": (3, 14, 0), "uv": None}
    assert make(tmp_path, "python", programs, PYTHON="mine").stdout.strip() == "mine"
    refused = make(tmp_path, "python", programs, PYTHON="new")
    assert refused.returncode and "PYTHON=new" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_make_says_in_one_line_what_to_install(tmp_path):
    refused = make(tmp_path, ".venv", {"python3": (3, 14, 0)})
    assert refused.returncode and not refused.stdout
    (line,) = refused.stderr.splitlines()
    assert "Python 3.11" in line and "uv" in line


def test_the_workflow_does_what_ci_does():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == re.findall(r"make \w+", (ROOT / ".ci/run").read_text())
    assert set(job["strategy"]["matrix"]["python"]) == {"3.11", "3.13"}
    (test,) = (step for step in job["steps"] if step.get("run") == "make test")
    (upload,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
    assert test["env"]["BLOODCELL_EXECUTED"].endswith(f"/{upload['with']['path']}")
    assert "cancelled()" in upload["if"] and "${{ matrix.python }}" in upload["with"]["name"]


def test_what_is_cited_is_this_project_and_its_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert readme.startswith(f"# {cited['title']} ")
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert cited.get("repository-code") == PROJECT.get("urls", {}).get("Repository")
    assert [f"Copyright (c) 2026 {author['name']}" for author in cited["authors"]] == re.findall(
        r"Copyright .+", (ROOT / "LICENSE").read_text()
    )
    (paper,) = cited["references"]
    assert f"*{paper['title']}* ({paper['year']})" in readme


def test_the_changelog_has_the_version():
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [version for version in versions if version != "Unreleased"]
    assert versions[0] == "Unreleased" and released == sorted(released, key=Version, reverse=True)
    assert PROJECT["version"] in released or f"become {PROJECT['version']}," in (ROOT / "CHANGELOG.md").read_text()


FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_forms_follow_the_rules_of_github():
    """Of its page "Syntax for GitHub's form schema"; a form that breaks one is not offered, without a word."""
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in FORMS}
    assert forms.pop("config") == {"blank_issues_enabled": True}
    assert len({form["name"] for form in forms.values()}) == len(forms) == 3
    for form in forms.values():
        assert set(form) == {"name", "description", "labels", "body"} and form["description"]
        fields = form["body"]
        assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
        for unique in ([field["id"] for field in fields], [field["attributes"]["label"] for field in fields]):
            assert len(set(unique)) == len(unique) and all(unique)
        assert all(re.fullmatch(r"[\w-]+", field["id"]) for field in fields)
        assert all(set(field.get("validations", {"required": True})) == {"required"} for field in fields)
        for field in fields:
            options = field["attributes"].get("options")
            assert bool(options) == (field["type"] in ("dropdown", "checkboxes"))
            labels = [option["label"] for option in options or ()] if field["type"] == "checkboxes" else options or ()
            assert all(isinstance(label, str) and label.lower() != "none" for label in labels)
            assert "render" not in field["attributes"] or field["type"] == "textarea"


def test_the_form_for_errors_asks_by_a_command_that_works():
    text = " ".join((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text().split())
    (code,) = re.findall(r'`python -c "(.+?)"`', text)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for said in (bloodcell_lib.__version__, keras.__version__, keras.backend.backend(), backend.device()):
        assert said in done.stdout


RESULTS = ROOT / "results"


def test_the_page_of_results_is_made_from_the_records():
    found = records.read_all(RESULTS)
    assert len(found) == len(list(RESULTS.glob("*.json"))) and (RESULTS / "README.md").read_text() == report.page(
        found, RESULTS
    )


def test_the_picture_of_results_is_drawn_from_the_records(tmp_path):
    """But for the last digits of its coordinates, which may differ between processors."""
    report.save_leak(records.read_all(RESULTS), tmp_path)
    number, pictures = r"-?\d+\.\d+", [(folder / "leak.svg").read_text() for folder in (RESULTS, tmp_path)]
    committed, drawn = ([*map(float, re.findall(number, picture))] for picture in pictures)
    assert re.sub(number, "", pictures[0]) == re.sub(number, "", pictures[1])
    assert committed == pytest.approx(drawn, abs=0.1)


def test_the_executed_comparison_has_every_network_of_the_paper_that_was_run():
    found = [r for r in records.read_all(RESULTS) if (r.protocol, r.seed) == ("paper-image_size=75x100", 0)]
    named = ", ".join(name for name in models.lessons() if name in {record.model for record in found})
    assert f"{len(found)} networks: {named}" in (RESULTS / "comparison.html").read_text()


def test_the_readme_begins_with_what_was_measured():
    found, first = records.read_all(RESULTS), (ROOT / "README.md").read_text().split("## ")[0]
    for said in (report.nine, report.by_photograph, report.same_images, report.grouped):
        assert said(found) in " ".join(first.split())
    assert "](results/leak.svg)" in first and (RESULTS / "leak.svg").exists()


def test_lesson_11_says_of_the_gaps_what_was_measured():
    table = report.leak(records.read_all(RESULTS)).query("protocol == 'paper'").set_index("network")
    gaps, tested = table["difference, by image"].astype(float), table["test, by image"].astype(float)
    least, most = gaps.idxmin(), gaps.idxmax()
    assert len(table) == 9 and tested.idxmin() == least
    said = (ROOT / "notebooks/11_leakage.ipynb").read_text()
    assert (
        f"that of {least}, {gaps[least]:+.1f} points, and its test accuracy is the lowest, {tested[least]:.1f} %"
        in said
    )
    assert f"that of {most}, {gaps[most]:+.1f} points" in said


def test_the_readme_keeps_to_its_length():
    assert 90 <= len((ROOT / "README.md").read_text().splitlines()) <= 110


def test_the_metrics_follow_from_the_predictions():
    for record in records.read_all(RESULTS):
        answers, unit = record.answers, record.test["interval95"]["unit"]
        test, validation = (
            [answers[prefix + name] for name in ("labels", "probabilities", "photos")] for prefix in ("", "validation_")
        )
        assert rounded(metrics.summary(*test, unit)) == rounded(record.test)
        assert rounded(metrics.summary(*validation, unit)) == rounded(record.validation)
        unseen = [values[answers["unseen"]] for values in test]
        assert rounded(metrics.summary(*unseen, unit)) == rounded(record.test_unseen)


def test_the_trials_of_recipes_follow_from_their_predictions():
    """Each trial of the sieve has a row in RECIPE.md with its accuracy, which its predictions give again."""
    table, text = pd.read_csv(RESULTS / "screening.csv"), (RESULTS / "RECIPE.md").read_text()
    classes = list(table.columns[3:])
    for trial, of in table.groupby("trial"):
        counts = of[classes].to_numpy().ravel()
        labels = np.repeat([classes.index(label) for label in of["class"]], len(classes)).repeat(counts)
        answers, photos = np.tile(np.eye(4), (len(of), 1)).repeat(counts, 0), of.photograph.repeat(4).repeat(counts)
        found = metrics.summary(labels, answers, photos.to_numpy(), "photo")
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {trial} |"))
        assert metrics.format_interval(found["accuracy"], found["interval95"]["accuracy"]) in row
        if len(of) == 277:  # of all photographs
            assert f"| {100 * found['per_class']['recall'][2]:.1f} |" in row


def test_the_differences_of_later_trials_follow_from_their_predictions():
    table, text = pd.read_csv(RESULTS / "screening.csv"), (RESULTS / "RECIPE.md").read_text()
    table["right"] = [of[of["class"]] for of in table.to_dict("records")]
    right = table.pivot(index="photograph", columns="trial", values="right")
    images = table[table.trial == "grouped, 48x48"][table.columns[3:7]].sum().sum()
    rows = [row.strip("| ").split(" | ") for row in text.split("## Tried after the freeze")[1].splitlines()]
    rows = [row for row in rows if len(row) == 6 and row[4].startswith(("+", "-", "0"))]
    assert len(rows) >= 4
    for trial, _, _, _, difference, p in rows:
        apart = (right[trial] - right["grouped, 48x48"]).to_numpy(int)
        assert difference == f"{100 * apart.sum() / images:+.1f}" and p == f"{comparison.sign_flip(apart):.2g}", trial


def test_what_the_recipe_reached_follows_from_the_records():
    found, text = records.read_all(RESULTS), " ".join((RESULTS / "RECIPE.md").read_text().split())
    for pair in report.frames(found).to_dict("records"):
        assert re.search(rf"{re.escape(pair['difference'])}( points)? for (the )?{pair['network']}\b", text), pair
    assert report.grouped(found) in text
    (paper,) = (r for r in found if r.model == "shufflenetv2" and report.follows(r, "paper"))
    assert f"recipe leaves at {100 * paper.test['accuracy']:.1f}" in text


def test_what_doubtful_labels_cost_follows_from_the_records():
    text = " ".join((RESULTS / "RECIPE.md").read_text().split("## What doubtful labels cost")[1].split())
    found = records.read_all(RESULTS)
    table = report.unsolved(found).astype({"points": float}).set_index("photograph")
    train, test = (table[table["tested on"] == part] for part in ("5 folds of TRAIN", "test"))
    for part, photo, said in ((train, 278, "278 wrong, which is {} points"), (train, 23, "every run, {} points"),
                              (test, 110, "one of four monocytes, {} points")):  # fmt: skip
        assert said.format(part["points"][f"BloodImage_{photo:05}"]) in text
        assert part is test or all(table["right in"][[f"BloodImage_{photo:05}"]].str.startswith("0 "))
    share = 100 * train["images"].sum() / 9957
    assert f"{len(train)} of TRAIN's 277 photographs are wrong in every run, {share:.1f} points" in text
    assert set(test.index) == {f"BloodImage_{photo}" for photo in ("00068", "00082", "00093", "00110")}
    most = max(test["right in"])  # such as "2 of 24 runs"
    assert f"four photographs are each right in at most {most}: 110" in text
    lost = 100 * test["images"].sum() / 2487
    assert f"are {lost:.1f} points, so a run that has all their copies wrong has {100 - lost:.1f} % at most" in text
    ours = [record for record in found if report.follows(record, "grouped") and record.model in ("cnn", "squeezenet")]
    correct = {}
    for record in ours:
        answers = record.answers
        of = answers["photos"] == "BloodImage_00110"
        correct[record.name] = (answers["probabilities"].argmax(1) == answers["labels"])[of].sum()
    (best,) = (record for record in ours if record.name == "squeezenet-grouped-seed1")
    assert len(ours) == 6 and set(correct.values()) == {0, correct[best.name]}
    assert f"has {correct[best.name]} of its 155 copies right and {100 * best.test['accuracy']:.1f} % of TEST" in text
    assert best.test["accuracy"] == max(record.test["accuracy"] for record in found if record.protocol == "grouped")
    assert best.validation["accuracy"] == min(r.validation["accuracy"] for r in ours if r.model == "squeezenet")
    assert f"validation accuracy, {100 * best.validation['accuracy']:.1f} %, is the lowest of the three seeds" in text
    assert set(train.nlargest(3, "points").index) == {f"BloodImage_{photo}" for photo in ("00083", "00127", "00278")}


def rounded(figures):
    """To nine digits: the last ones differ between processors."""
    return json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 9))


def test_the_coverage_in_the_records_is_the_one_measured():
    table = pd.read_csv(ROOT / "results" / "intervals.csv")
    measured = table[(table.method == metrics.METHOD) & (table.figure == "accuracy")]
    found = [measured.coverage.min() / 100, measured.coverage.max() / 100]
    assert metrics.COVERAGE == pytest.approx(found, abs=0.0006)
    assert len(measured) == len(intervals.ACCURACIES) * len(intervals.CORRELATIONS) and measured.times.min() >= 1000
    assert intervals.condensed(table) in (ROOT / "benchmarks/README.md").read_text()
