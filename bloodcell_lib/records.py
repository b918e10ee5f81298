"""Records of runs: one JSON file per run and its predictions beside it, checked whenever they are read or written."""

import json
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from bloodcell_lib import files, metrics
from bloodcell_lib.protocols import KNOBS, Protocol

ARRAYS = ("probabilities", "labels", "photos", "paths")  # of the test set; of validation with a prefix
DEFAULTS = json.loads(json.dumps({knob.name: knob.default for knob in KNOBS if knob.default is not MISSING}))
SATURATED = 5.0  # a mean loss above which backends differ in where they cut off the logarithm of a probability


class RecordError(ValueError):
    """A record cannot be read or contradicts itself; the message names it and says why."""


@dataclass(frozen=True)
class Record:
    """What a run was and what it measured. `records.schema.json` describes the file.

    `protocol` is the label of the recipe and `settings` the whole recipe; `code` is a digest of the code that training
    depends on, `revision` the git revision of the checkout, where there is one. `history` has a value per epoch;
    `best_epoch` counts from 1. `train` has loss and accuracy of its network on the training images, in inference mode;
    records of older versions have none. `validation`, `test` and `test_unseen` come from `metrics.summary`;
    `test_unseen` leaves out the photographs whose scene is also behind training or validation. `predictions` names the
    file beside it.
    """

    model: str
    protocol: str
    seed: int
    settings: dict[str, Any]
    backend: str
    versions: dict[str, str]
    device: str
    code: str
    revision: str | None
    image_size: list[int]
    parameters: int
    multiply_adds: int
    dataset: dict[str, Any]
    history: dict[str, list[float]]
    seconds: dict[str, Any]
    best_epoch: int
    validation: dict[str, Any]
    test: dict[str, Any]
    test_unseen: dict[str, Any] | None
    predictions: str
    resumed: bool
    train: dict[str, float] | None = None
    folder: Path = field(default=Path(), compare=False)
    arrays: dict[str, np.ndarray] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What its files are called."""
        return files.run_name(self.model, self.protocol, self.seed)

    @property
    def path(self) -> Path:
        """The JSON file."""
        return self.folder / f"{self.name}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to count as this one: recipe, data, backend and the code of training."""
        return identity(self.settings, self.dataset["fingerprint"], self.backend, self.code)

    @property
    def answers(self) -> dict[str, np.ndarray]:
        """The predictions: probabilities, labels, photos, paths and unseen of the test set, and with the prefix
        validation_ of the validation set; read from the file beside the record, and held against the record.

        Raises:
            RecordError: they are missing, damaged or of another run.
        """
        if self.arrays is None:
            object.__setattr__(self, "arrays", self._read_answers())
        return self.arrays or {}

    def write(self) -> Path:
        """Write the predictions, then the record, which promises them.

        Returns:
            The record's path.

        Raises:
            RecordError: the record contradicts itself or its predictions, or its name its recipe; nothing is written.
        """
        if (label := Protocol(**self.settings).label) != self.protocol:
            raise RecordError(f"{self.path}: its recipe is {label}, not {self.protocol}.")
        self.check()
        _check_answers(self, self.answers)
        if other := replaced(self.path, self.identity):
            print(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.folder / self.predictions) as part:
            np.savez_compressed(part, **self.answers)  # type: ignore[arg-type]
        with files.replacing(self.path) as part:
            content = self.as_json()
            part.write_text(json.dumps(content | {"checksum": _checksum(content)}, indent=1) + "\n", encoding="utf-8")
        (self.folder / f"{self.name}.state.npz").unlink(missing_ok=True)  # the run is complete
        return self.path

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Record":
        """Read a record and check it.

        Raises:
            RecordError: it is missing, not JSON, lacks something or contradicts itself.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: not a readable record ({error}). Run the model again.") from error
        _check_schema(content, path)
        checksum, found = content.pop("checksum", None), _checksum(content)
        content["settings"] = DEFAULTS | content["settings"]  # of knobs that are newer than the record
        known = {each.name for each in fields(cls)}
        record = cls(**{"test_unseen": None} | {k: v for k, v in content.items() if k in known}, folder=path.parent)
        if record.path.name != path.name:
            raise RecordError(f"{path}: this is the record of {record.name}. Rename it, or run the model again.")
        record.check()
        if checksum not in (None, found):  # None: of a record from before there was one
            raise RecordError(f"{path}: something in it was changed, for its checksum is another. Run the model again.")
        return record

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds: no folder, no arrays, nothing that does not apply."""
        absent = {"folder", "arrays"} | {name for name in ("test_unseen", "train") if not getattr(self, name)}
        return {name: value for name, value in vars(self).items() if name not in absent}

    def check(self) -> None:
        """Hold the record against its schema and against itself: history, metrics, recipe and sizes.

        Raises:
            RecordError: it names the path and the contradiction.
        """
        _check_schema(self.as_json(), self.path)
        for wrong in (*_wrong_history(self), *_wrong_metrics(self)):
            raise RecordError(f"{self.path}: {wrong}. Run the model again.")

    def _read_answers(self) -> dict[str, np.ndarray]:
        path = self.folder / self.predictions
        try:
            _check_answers(self, answers := files.read_arrays(path))
        except Exception as error:  # whatever a file raises that was cut or flipped
            raise RecordError(f"{path}: not the predictions of {self.name} ({error}). Run the model again.") from error
        return answers


def identity(settings: dict[str, Any], fingerprint: str, backend: str, code: str) -> dict[str, Any]:
    """Return what must be equal for two runs of one name to be the same run, in the form that JSON gives back."""
    return json.loads(json.dumps({"recipe": settings, "data": fingerprint, "backend": backend, "code": code}))


def replaced(path: Path, wanted: dict[str, Any]) -> str:
    """Say which record of another run a run of this identity replaces; "" where there is none."""
    if not path.exists():
        return ""
    try:
        found = Record.read(path).identity
    except RecordError:
        return f"{path.name}: replaces a record that cannot be read."
    other = [name for name in wanted if wanted[name] != found[name]]
    return f"{path.name}: replaces the record of a run with other {', '.join(other)}." if other else ""


def read_all(folder: str | os.PathLike | None = None) -> list[Record]:
    """Read every sound record in a folder, in the order of the lessons, then protocol and seed.

    What is called like a record and is none, or is not sound, is left out and named on stderr.

    Raises:
        RecordError: there is no such folder.
    """
    from bloodcell_lib import models  # imports Keras, which checking a record does not need

    where, order = files.out_dir(folder), {name: place for place, name in enumerate(models.names())}
    if not where.is_dir():
        raise RecordError(f"{where}: no such folder. Runs are written with: bloodcell run --out {where}")
    found = []
    for path in sorted(where.glob("[!.]*-seed*.json")):
        try:
            found.append(Record.read(path))
        except RecordError as error:
            print(f"left out: {error}", file=sys.stderr)
    return sorted(found, key=lambda r: (order.get(r.model, len(order)), r.model, r.protocol, r.seed))


def comparable(folder: str | os.PathLike | None, protocol: Protocol, seed: int = 0) -> list[Record]:
    """Read the records of all networks that were trained by one protocol with one seed.

    Args:
        folder: as for `read_all`.
        protocol, seed: of the runs.

    Returns:
        Two records at least, in the order of the lessons.

    Raises:
        RecordError: fewer are there, or some differ from the first in data, split, recipe or images; it names each of
            them, and the command that makes them anew.
    """
    where = files.out_dir(folder)
    found = [record for record in read_all(where) if (record.protocol, record.seed) == (protocol.label, seed)]
    if len(found) < 2:
        names = ", ".join(record.model for record in found) or "none"
        raise RecordError(
            f"{where}: a comparison needs the records of two networks for {protocol.label}, seed {seed}, and there is "
            f"{names}. Make more with `bloodcell run NAME ...`, the same options, --seed {seed} and --out {where}."
        )
    first, *others = ((record.model, _conditions(record)) for record in found)
    wrong = [f"{model} ({key})" for model, values in others for key in values if values[key] != first[1][key]]
    if wrong:
        raise RecordError(
            f"{where}: these differ from {first[0]}: {', '.join(wrong)}. Networks are compared on the same images, "
            "split and recipe: run them again with the same options."
        )
    return found


def _conditions(record: Record) -> dict[str, Any]:
    """What must be equal for two records to be compared."""
    parts = {"validation images": "validation_paths", "test images": "paths"}
    images = {what: sorted(record.answers[name].tolist()) for what, name in parts.items()}
    return {"data": record.dataset["fingerprint"], "recipe": record.settings, **images}


def _checksum(content: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


@cache
def _schema() -> jsonschema.Draft202012Validator:
    path = Path(__file__).with_name("records.schema.json")
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def _check_schema(content: Any, path: Path) -> None:
    errors = sorted(_schema().iter_errors(content), key=lambda error: list(map(str, error.path)))
    if errors:
        where = "/".join(map(str, errors[0].path)) or "the record"
        raise RecordError(f"{path}: {where}: {errors[0].message}. Run the model again.")
    try:
        json.dumps(content, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"{path}: a number is not finite ({error}). Run the model again.") from error


def _wrong_history(record: Record) -> Iterator[str]:
    """Yield what does not fit together in the history and the recipe."""
    epochs = {len(values) for values in record.history.values()} | {len(record.seconds["epochs"])}
    if epochs != {record.settings["epochs"] or max(epochs)}:  # None leaves them to a card, which may have changed
        yield f"the history has {sorted(epochs)} epochs, and the recipe {record.settings['epochs'] or 'one number'}"
    elif record.best_epoch != best_epoch(record.history):
        yield f"epoch {record.best_epoch} is said to be the best, and in the history it is {best_epoch(record.history)}"
    else:
        for part, prefix in (("validation", "val_"), ("test", "test_")):
            if prefix + "loss" in record.history:
                yield from _wrong_epoch(record, part, prefix)


def _wrong_epoch(record: Record, part: str, prefix: str) -> Iterator[str]:
    """Yield where a part's metrics are not those of the best epoch: batch size and TF32 can move an image or two."""
    found, images = getattr(record, part), record.dataset["sizes"][part]
    then = {what: record.history[prefix + what][record.best_epoch - 1] for what in ("accuracy", "loss")}
    off = {what: abs(then[what] - found[what]) for what in then}
    if off["accuracy"] > 0.005 + 1 / images or off["loss"] > 0.05 + 0.25 * found["loss"] and then["loss"] < SATURATED:
        yield (
            f"{part}: at the best epoch the history has accuracy {then['accuracy']:.4f}, loss {then['loss']:.4f}, and "
            f"the metrics {found['accuracy']:.4f}, {found['loss']:.4f}"
        )


def _wrong_metrics(record: Record) -> Iterator[str]:
    """Yield what does not fit together in the metrics."""
    for part in ("validation", "test"):
        found = getattr(record, part)
        matrix = np.array(found["confusion"])
        if matrix.sum() != record.dataset["sizes"][part]:
            yield f"{part}: {matrix.sum()} images in the confusion matrix, {record.dataset['sizes'][part]} in the set"
        elif abs(metrics.accuracy(matrix) - found["accuracy"]) > 1e-6:
            yield f"{part}: the accuracy is not that of the confusion matrix"
        for what, values in metrics.per_class(matrix).items():
            there = np.nan_to_num(np.array(found["per_class"][what], float))  # None; 0 in records of older versions
            if there.shape != values.shape or not np.allclose(np.nan_to_num(values), there, atol=1e-6):
                yield f"{part}: the {what} of the classes is not that of the confusion matrix"


def _check_answers(record: Record, answers: dict[str, np.ndarray]) -> None:
    """Raise ValueError where predictions are not those of the record: by every image's probabilities."""
    for part, prefix in (("validation", "validation_"), ("test", "")):
        if missing := {f"{prefix}{name}" for name in ARRAYS} - answers.keys():
            raise ValueError(f"they lack {', '.join(sorted(missing))}")
        labels, probabilities = answers[f"{prefix}labels"], answers[f"{prefix}probabilities"]
        found = getattr(record, part)
        if metrics.confusion(labels, probabilities).tolist() != found["confusion"]:
            raise ValueError(f"their confusion matrix of {part} is not the record's")
        if abs(metrics.cross_entropy(labels, probabilities) - found["loss"]) > 1e-6 * (1 + found["loss"]):
            raise ValueError(f"their loss on {part} is not the record's")


def best_epoch(history: dict[str, list[float]]) -> int:
    """Return the epoch, from 1, with the highest validation accuracy. Ties are broken by the lower validation loss."""
    monitored = [(a, -loss) for a, loss in zip(history["val_accuracy"], history["val_loss"], strict=True)]
    return monitored.index(max(monitored)) + 1


def settings(protocol: Protocol) -> dict[str, Any]:
    """Return a protocol as a record holds it."""
    return json.loads(json.dumps(asdict(protocol)))
