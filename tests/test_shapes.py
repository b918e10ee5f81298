"""Sets as other people have them, in small: each goes through the lessons from its files to the comparison."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_layouts import medmnist

from bloodcell_lib import dataset
from bloodcell_lib.command import cli

PBC = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
PATIENTS = [f"fold_{n % 3}/patient_{n}" for n in range(12)]
SIDE = 32


def cell(number: int, label: int) -> Image.Image:
    """Noise that is brighter the higher the label."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(10 * label, 10 * label + 90, (SIDE, SIDE, 3), np.uint8))


def folders(root: Path, groups: list[str], classes: tuple[str, ...], each: int, suffix: str) -> Path:
    for number, (group, (label, name), n) in enumerate(product(groups, enumerate(classes), range(each))):
        (root / group / name).mkdir(parents=True, exist_ok=True)
        cell(number, label).save(root / group / name / f"{number}_{n}{suffix}")
    return root


def table(root: Path) -> Path:
    """15 classes, ten slides of each, two of each in the test part."""
    root.mkdir()
    lines = ["path;label;group;split"]
    for number, (label, slide, _) in enumerate(product(range(15), range(10), range(2))):
        cell(number, label).save(root / f"{number}.tif")
        lines.append(f"{number}.tif;type {label};slide {label}-{slide};{'test' if slide < 2 else 'train'}")
    (root / "cells.csv").write_text("\n".join(lines))
    return root / "cells.csv"


SHAPES = {
    "BloodMNIST": lambda root: (medmnist(root / "bloodmnist.npz", SIDE, each=4), 8, False),
    "PBC": lambda root: (folders(root / "PBC", ["2018", "2019"], PBC, 10, ".jpg"), 8, False),
    "C-NMC": lambda root: (
        folders(root / "C-NMC", [f"patient_{n}" for n in range(12)], ("all", "hem"), 4, ".bmp"),
        2,
        True,
    ),
    "table": lambda root: (table(root / "table"), 15, True),
}


@pytest.mark.notebook
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_set_of_any_shape_goes_through_the_lessons(tmp_path, capsys, shape):
    place, classes, by_photo = SHAPES[shape](tmp_path)
    assert len(dataset.describe(place).classes) == classes
    out = tmp_path / "out"
    few = ("--image-size", f"{SIDE}x{SIDE}", "--epochs", "1", "--jobs", "2", "--out", str(out))
    status = cli.main(["run", "00", "01", "05", "10", "11", "--data", str(place), *few])
    said = capsys.readouterr().out
    assert status == 0, said
    assert ("11_leakage       skipped  does not apply to this set" in said) != by_photo
    record = json.loads(next(out.glob("cnn-*.json")).read_text())
    assert len(record["dataset"]["classes"]) == classes
