"""A trained network's file: Keras' own, and inside it what else its use needs."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell_lib import files, images
from bloodcell_lib.backend import keras
from bloodcell_lib.models import ood
from bloodcell_lib.models.ood import Typical

ABOUT, TYPICAL = "bloodcell.json", "bloodcell.npz"  # Keras leaves alone what it does not know


@dataclass(frozen=True)
class Saved:
    """A trained network, read from its file.

    `about` has what the run was: name, classes and settings, and under "record" the whole record, once there is one.
    `typical` tells images that are unlike the training images; it is None before the run was evaluated.
    """

    path: Path
    network: keras.Model
    about: dict[str, Any]
    typical: Typical | None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the probabilities."""
        return self.about["classes"]

    @cached_property
    def with_features(self) -> keras.Model:
        """The network with a second output: the features that `typical` judges by."""
        return keras.Model(self.network.input, [self.network.output, ood.extractor(self.network).output])

    @cached_property
    def embedding(self) -> keras.Model:
        """From images to deep features (N, d): what the last layer with weights is given, averaged over positions."""
        deep = [layer for layer in self.network.layers if layer.weights][-1].input
        return keras.Model(self.network.input, keras.ops.mean(deep, (1, 2)) if len(deep.shape) == 4 else deep)


def find(run: str) -> Path:
    """Return the file of a trained network, by itself, by that of its record, or by the name of a run.

    Raises:
        ValueError: there is none, here or in the folder of runs.
    """
    given, folder = Path(run).expanduser(), files.out_dir()
    name = f"{given.name.removesuffix('.json').removesuffix('.keras')}.keras"
    for place in (given, folder / given):
        if given.name and (place := place.with_name(name)).is_file():
            return place
    made = [path.stem for path in trained(folder)]
    advice = f"Choose one of: {images.some(made)}" if made else "Train one with: bloodcell run cnn"
    raise ValueError(f"{run or repr(run)}: no trained network is there, nor in {folder}. {advice}.")


def trained(folder: Path) -> list[Path]:
    """Return the files of the trained networks in a folder, by name; a hidden file is half written."""
    return sorted(folder.glob("[!.]*.keras"))


def save(network: keras.Model, path: Path, about: dict[str, Any]) -> None:
    """Write a network, and in its file what the run was; whole or not at all."""
    with files.replacing(path) as part:
        network.save(part)
        with zipfile.ZipFile(part, "a") as file:
            file.writestr(ABOUT, json.dumps(about))


def complete(path: Path, record: dict[str, Any], typical: Typical) -> None:
    """Add to a network's file the record of its run, and what tells unusual images."""
    with files.replacing(path) as part, zipfile.ZipFile(path) as old, zipfile.ZipFile(part, "w") as new:
        for member in old.infolist():
            if member.filename not in (ABOUT, TYPICAL):
                new.writestr(member, old.read(member))
        new.writestr(ABOUT, json.dumps(json.loads(old.read(ABOUT)) | {"record": record}))
        arrays = io.BytesIO()
        np.savez(arrays, **vars(typical))
        new.writestr(TYPICAL, arrays.getvalue())


def load(path: str | os.PathLike) -> Saved:
    """Read a trained network.

    Raises:
        ValueError: there is no such file, it is damaged, or it does not say what its classes are.
    """
    path = Path(path)
    with _opened(path) as file:
        typical = Typical(**np.load(io.BytesIO(file.read(TYPICAL)))) if TYPICAL in file.namelist() else None
        return Saved(path, keras.saving.load_model(path, compile=False), json.loads(file.read(ABOUT)), typical)


def about(path: Path) -> dict[str, Any]:
    """Read what a trained network's file says of its run, as `Saved` has it, and not the network. See `load`."""
    with _opened(path) as file:
        return json.loads(file.read(ABOUT))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as file:
            if ABOUT not in file.namelist():
                raise ValueError("it does not name its classes, because another program or an older version wrote it")
            yield file
    except Exception as error:  # whatever a file raises that was cut or flipped
        raise ValueError(f"{path}: not a trained network of `bloodcell run` ({error}). Run the model again.") from error
