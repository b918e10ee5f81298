"""What several tests need: a cache of their own, small sets of images, and the real archive where it is."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import browser  # noqa: F401  a fixture, for whoever asks for it
from PIL import Image

from bloodcell_lib import dataset
from bloodcell_lib.layouts import CLASSES

ARCHIVE = os.environ.get("BLOODCELL_DATA")
LONGEST = "notebooks", "shapes", "training", "batches", "backends", "devices", "models", "command", "contributing"


def pytest_configure(config):
    """Let no test use the archive unasked. With several processes the first one runs no test, but starts the others."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        os.environ.pop("BLOODCELL_DATA", None)


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that at the end no process waits long for another."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    """One folder for all processes, so that what one has decoded or drawn is there for the others."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def drawn_sample(session_cache) -> dataset.Index:
    """The sample as `sample.write` draws it, once for all processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOODCELL_CACHE", str(session_cache))
        return dataset.describe("sample")


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
