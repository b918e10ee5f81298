"""What several tests need: a cache of their own, small sets of images, and the real archive where it is."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell_lib import metrics, protocols, records
from bloodcell_lib.images import CLASSES

ARCHIVE = os.environ.pop("BLOODCELL_DATA", None)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    """Decoded images go to a folder of the tests' own."""
    monkeypatch.setenv("BLOODCELL_CACHE", str(session_cache))
    return session_cache


@pytest.fixture
def archive():
    if not ARCHIVE:
        pytest.skip("BLOODCELL_DATA does not name the archive")
    return ARCHIVE


def picture(seed: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (3, 4, 3), np.uint8)).resize(size)


def make_set(folder: Path, splits=("TRAIN", "TEST"), classes=CLASSES, each: int = 10, suffix: str = "jpg") -> Path:
    """Write a small set in the archive's layout, or CLASS/file where `splits` is ("",)."""
    for place, split in enumerate(splits):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(each):
                picture(1000 * place + 100 * label + i).save(folder / split / name / f"cell {i}.{suffix}")
    return folder


def zipped(folder: Path, path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for item in sorted(folder.rglob("*")):
            file.write(item, item.relative_to(folder))
    return path


@pytest.fixture
def own_folder(tmp_path):
    return make_set(tmp_path / "own")


LABELS = np.array([0, 1, 2, 3] * 5)
PROBABILITIES = np.eye(4)[np.where(np.arange(20) < 4, 0, LABELS)] * 0.9 + 0.025  # 17 of 20 correct


def hand_made(folder: Path, model: str = "cnn", protocol: str = "quick", seed: int = 0, **overrides) -> records.Record:
    """Return a sound record of a run that never was: 17 of 20 images of validation and of test are correct."""
    recipe = protocols.get(protocol, **{"epochs": 3, **overrides})
    part = metrics.summary(LABELS, PROBABILITIES, np.arange(20), "image")
    epochs = {"loss": [0.9, part["loss"], 0.6], "accuracy": [0.6, part["accuracy"], 0.7]}
    answers = {"unseen": np.ones(20, bool)}
    for prefix, first in (("", 0), ("validation_", 20)):
        names = np.arange(first, first + 20).astype(str)
        answers |= {f"{prefix}probabilities": PROBABILITIES, f"{prefix}labels": LABELS}
        answers |= {f"{prefix}paths": names, f"{prefix}photos": names}
    return records.Record(
        model=model,
        protocol=recipe.label,
        seed=seed,
        settings=records.settings(recipe),
        backend="tensorflow",
        versions={"keras": "3"},
        device="a processor",
        code="c0de",
        revision=None,
        image_size=list(recipe.image_size),
        parameters=10,
        multiply_adds=5,
        dataset={
            "name": "sample",
            "fingerprint": "0",
            "classes": list(CLASSES),
            "sizes": {"train": 80, "validation": 20, "test": 20},
        },
        history={f"{prefix}{what}": values for prefix in ("", "val_", "test_") for what, values in epochs.items()},
        seconds={"epochs": [1.0, 0.5, 0.5], "total": 2.0, "per_image": 0.1},
        best_epoch=2,
        validation=part,
        test=part,
        test_unseen=None,
        predictions=f"{model}-{recipe.label}-seed{seed}.predictions.npz",
        resumed=False,
        folder=folder,
        arrays=answers,
    )
