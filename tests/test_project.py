"""The project's own files agree with each other."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import intervals
import numpy as np
import pandas as pd
import pytest
import yaml

from bloodcell_lib import metrics, paper, records, tables

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [wanted for extra in PROJECT["optional-dependencies"].values() for wanted in extra]
WANTED = list(dict.fromkeys(PROJECT["dependencies"] + EXTRAS))  # dev repeats what its tests need of another extra


def test_environment_lists_what_pyproject_lists():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert next(d["pip"] for d in conda if isinstance(d, dict)) == WANTED
    assert f"python{PROJECT['requires-python']}" in conda


def test_every_line_of_the_environment_gives_its_reason():
    lines = [line for line in (ROOT / "environment.yml").read_text().splitlines() if line.startswith("      - ")]
    assert len(lines) == len(WANTED)
    assert [line for line in lines if not re.search(r"  # \w{3,}", line)] == []


def test_the_lock_pins_every_dependency_once():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert all(re.match(r"[\w.\[\]-]+==", pin) for pin in pins), "a line without a pin"
    names = {re.match(r"[\w.-]+", pin).group().lower() for pin in pins}
    assert {re.match(r"[\w.-]+", wanted).group() for wanted in WANTED} <= names


def test_no_image_weight_or_long_file_is_committed():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / file for file in listed.splitlines() if (ROOT / file).exists()]
    assert not [f for f in files if f.suffix in (".jpeg", ".jpg", ".png", ".zip", ".keras", ".h5", ".npy")]
    assert not [f for f in files if f.stat().st_size > 1_000_000]


def test_make_explains_itself():
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"run", "test", "lab", ".venv"} <= {line.split(" - ")[0] for line in said.splitlines()}


def test_the_readme_shows_the_records():
    found = records.read_all(ROOT / "results")
    assert found and tables.runs(found) in (ROOT / "README.md").read_text()


def test_the_first_table_shows_the_records():
    first = (ROOT / "README.md").read_text().split("## ")[0]
    for stem, row in (
        ("paper-by-image", "its protocol, run here"),
        ("paper-by-photo", "the same, split by photograph"),
        ("grouped", "our protocol, `grouped`"),
    ):
        cells = tables.row(records.read(ROOT / "results" / f"cnn-{stem}-seed0.json"))
        assert f"| {row} | {' | '.join(cells[6:8])} |" in first
    told = paper.TABLE1["cnn"]
    assert f"| the paper | {told['val_accuracy']:.0%} | {told['test_accuracy']:.0%} |".replace("%", "") in first


def test_what_the_readme_says_of_the_same_images_follows_from_the_predictions():
    kept = [np.load(ROOT / "results" / f"cnn-paper-by-{how}-seed0.predictions.npz") for how in ("image", "photo")]
    paths, *rows = np.intersect1d(*(k["validation_paths"] for k in kept), return_indices=True)
    right = [
        (k["validation_probabilities"].argmax(1) == k["validation_labels"])[row]
        for k, row in zip(kept, rows, strict=True)
    ]
    (test,) = metrics.compare(dict(zip("ab", right, strict=True)), kept[0]["validation_photos"][rows[0]])
    said = " ".join((ROOT / "README.md").read_text().split())
    one, two = (f"{100 * answers.mean():.1f} %" for answers in right)
    assert (
        f"{len(paths)} images are in both validation sets. Of these the network that met their photographs has "
        f"{one} right, the other {two} (p = {test['p']:.1g} by photograph)"
    ) in said


def test_the_figures_follow_from_the_predictions():
    for record in records.read_all(ROOT / "results"):
        kept = np.load(ROOT / "results" / record["predictions"])
        for part, prefix in (("test", ""), ("validation", "validation_")):
            again = metrics.summary(
                kept[f"{prefix}labels"],
                kept[f"{prefix}probabilities"],
                kept[f"{prefix}photos"],
                record[part]["interval95"]["unit"],
            )
            assert rounded(again) == rounded(record[part])
        apart = [kept[name][kept["apart"]] for name in ("labels", "probabilities", "photos")]
        assert rounded(metrics.summary(*apart, record["test"]["interval95"]["unit"])) == rounded(record["test_apart"])


def rounded(figures):
    """To nine digits: the last ones differ between processors."""
    return json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 9))


def test_the_coverage_in_the_records_is_the_one_measured():
    table = pd.read_csv(ROOT / "results" / "intervals.csv")
    measured = table[(table.method == metrics.METHOD) & (table.figure == "accuracy")]
    found = [measured.coverage.min() / 100, measured.coverage.max() / 100]
    assert metrics.COVERAGE == pytest.approx(found, abs=0.0006)
    assert len(measured) == len(intervals.ACCURACIES) * len(intervals.CORRELATIONS) and measured.times.min() >= 1000
    assert intervals.condensed(table) in (ROOT / "README.md").read_text()
