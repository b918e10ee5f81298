"""Run records: one JSON file a run, whole or not at all, checked whenever it is read."""

import json
import os
import zipfile
import zlib
from pathlib import Path

import jsonschema
import numpy as np

from bloodcell_lib import LESSONS, metrics, protocols

PREDICTED = ("probabilities", "labels", "photos", "paths")  # of the test set; of validation with a prefix


class RecordError(ValueError):
    """A record cannot be read or does not hold together; the message names it and says why."""


def out_dir(out: str | os.PathLike | None = None) -> Path:
    """Return the folder of run files, made if need be: `out`, or runs/ beside the notebooks folder."""
    project = Path(__file__).parents[1]
    folder = Path(out).expanduser() if out else (project if (project / "notebooks").is_dir() else Path.cwd()) / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stem(model: str, protocol: str, seed: int) -> str:
    """Return the name that a run's files share."""
    return f"{model}-{protocol}-seed{seed}"


def write(record: dict, predictions: dict[str, np.ndarray], out: str | os.PathLike | None = None) -> Path:
    """Write a record and, beside it, the predictions that its figures can be computed from again.

    Args:
        record: from `training.evaluate`.
        predictions: from `training.evaluate`: probabilities, labels, photos and paths of the test set, and the same
            of the validation set with the prefix validation_.
        out: the folder; None is `out_dir()`.

    Returns:
        The record's path.

    Raises:
        RecordError: the record does not hold together; nothing is written.
    """
    check({"predictions": "", **record})
    name = stem(record["model"], record["protocol"], record["seed"])
    folder = out_dir(out)
    record = {**record, "predictions": f"{name}.predictions.npz"}
    with replacing(folder / record["predictions"]) as file:
        np.savez_compressed(file, **predictions)
    with replacing(folder / f"{name}.json") as file:  # last: a record promises its predictions
        file.write(json.dumps(record, indent=1).encode() + b"\n")
    return folder / f"{name}.json"


def read(path: str | os.PathLike, schema: dict | None = None) -> dict:
    """Read a record and check it, against `SCHEMA` or a stricter one.

    Raises:
        RecordError: it is missing, no JSON, lacks something or contradicts itself.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable record ({error}). Run the model again.") from error
    check(record, path, schema)
    return record


def read_all(folder: str | os.PathLike | None = None) -> list[dict]:
    """Read every record in a folder, in the order of the lessons, then protocol and seed."""
    order = {name: place for place, name in enumerate(LESSONS)}
    found = [read(path) for path in sorted(out_dir(folder).glob("*-seed*.json"))]
    return sorted(found, key=lambda r: (order.get(r["model"], len(order)), r["protocol"], r["seed"]))


def comparable(folder: str | os.PathLike | None = None, protocol: str = "quick", seed: int = 0) -> list[dict]:
    """Read the records of all lessons' networks that were trained by one protocol and seed on one split.

    Returns:
        The records, in the order of the lessons.

    Raises:
        RecordError: some are missing, or differ from the first in data, split, recipe or the images of a part; it
            names each of them, and the command that makes them anew.
    """
    where = out_dir(folder)
    name = protocols.get(protocol).name
    paths = {model: where / f"{stem(model, name, seed)}.json" for model in LESSONS}
    missing = [model for model, path in paths.items() if not path.exists()]
    if missing:
        raise RecordError(
            f"no record of {', '.join(missing)} for protocol {protocol}, seed {seed} in {where}. Make "
            f"them with: bloodcell run {' '.join(missing)} --protocol {protocol} --seed {seed} "
            f"--out {where}, and the same --data and options as the others."
        )
    found = [read(path, COMPARED) for path in paths.values()]
    for record, (model, path) in zip(found, paths.items(), strict=True):
        name = stem(record["model"], record["protocol"], record["seed"])
        if name != path.stem:
            raise RecordError(f"{path}: holds the record of {name}. Run {model} again.")
    first, *others = ((record["model"], _conditions(record, where)) for record in found)
    wrong = [f"{model} ({key})" for model, values in others for key in values if values[key] != first[1][key]]
    if wrong:
        raise RecordError(
            f"in {where} these differ from {first[0]}: {', '.join(wrong)}. Networks are compared on the "
            "same images, split and recipe: run them again with the same options."
        )
    return found


def predictions(record: dict, folder: str | os.PathLike | None = None) -> dict[str, np.ndarray]:
    """Read the predictions beside a record, and hold them against it.

    Raises:
        RecordError: they are missing, damaged or of another run.
    """
    path = out_dir(folder) / record["predictions"]
    try:
        with np.load(path) as file:
            kept = dict(file)
        if missing := {f"{prefix}{name}" for prefix in ("", "validation_") for name in PREDICTED} - kept.keys():
            raise ValueError(f"they lack {', '.join(sorted(missing))}")
        for part, prefix in (("validation", "validation_"), ("test", "")):
            matrix = metrics.confusion(kept[f"{prefix}labels"], kept[f"{prefix}probabilities"])
            if matrix.tolist() != record[part]["confusion"]:
                raise ValueError(f"their confusion matrix of {part} is not the record's")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(
            f"{path}: not the predictions of {record['model']} ({error}). Run the model again."
        ) from error
    return kept


def _conditions(record: dict, folder: Path) -> dict:
    """What must be equal for two records to be compared."""
    kept = predictions(record, folder)
    images = {
        part: sorted(kept[name].tolist())
        for part, name in (("validation images", "validation_paths"), ("test images", "paths"))
    }
    return {
        "data": record["dataset"]["fingerprint"],
        "sizes": record["dataset"]["sizes"],
        "settings": record.get("settings"),
        "image size": record["image_size"],
        **images,
    }


def check(record: dict, path: str | os.PathLike = "record", schema: dict | None = None) -> None:
    """Hold a record against the schema and against itself.

    Raises:
        RecordError: it names the path, the key and what is wrong.
    """
    found = jsonschema.Draft202012Validator(schema or SCHEMA).iter_errors(record)
    errors = sorted(found, key=lambda e: list(map(str, e.path)))
    if errors:
        where = "/".join(map(str, errors[0].path)) or "the record"
        raise RecordError(f"{path}: {where}: {errors[0].message}. Run the model again.")
    try:
        json.dumps(record, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"{path}: a figure is not a finite number. Run the model again.") from error
    epochs = {len(values) for values in record["history"].values()} | {len(record["seconds"]["epochs"])}
    if len(epochs) != 1 or record["best_epoch"] not in range(1, max(epochs) + 1):
        raise RecordError(
            f"{path}: history: {sorted(epochs)} epochs and best epoch {record['best_epoch']} do not "
            "fit together. Run the model again."
        )
    for part in ("validation", "test"):
        matrix = np.array(record[part]["confusion"])
        if (
            matrix.sum() != record["dataset"]["sizes"][part]
            or abs(metrics.accuracy(matrix) - record[part]["accuracy"]) > 1e-6
        ):
            raise RecordError(
                f"{path}: {part}: confusion, accuracy and the number of images contradict each "
                "other. Run the model again."
            )


class replacing:
    """Context: a file that takes its place when the block ends well, and leaves nothing when it does not."""

    def __init__(self, path: Path):
        self.path, self.part = path, path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self):
        self.file = open(self.part, "wb")
        return self.file

    def __exit__(self, kind, error, trace):
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.part, self.path)
        finally:
            self.part.unlink(missing_ok=True)


def _shape(optional: dict | None = None, **properties) -> dict:
    return {"type": "object", "required": list(properties), "properties": properties | (optional or {})}


_TEXT, _WHOLE, _FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_NUMBER = {"type": "number", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SHARES = {"type": "array", "items": _SHARE}
_SERIES = {"type": "array", "items": _NUMBER, "minItems": 1}
_WHOLES = {"type": "array", "items": _WHOLE}
_ENDS = {**_SHARES, "minItems": 2, "maxItems": 2}
_PART = _shape(  # what is optional stands in every new record; older ones lack it
    {"brier": _NUMBER, "calibration_error": _SHARE, "by_unit": _shape(accuracy=_SHARE, count=_WHOLES)},
    loss=_NUMBER,
    accuracy=_SHARE,
    confusion={"type": "array", "items": _WHOLES},
    per_class=_shape(precision=_SHARES, recall=_SHARES, f1=_SHARES),
    interval95=_shape(
        {
            "by_unit": _ENDS,
            "units": _WHOLE,
            "method": _TEXT,
            "coverage": {**_ENDS, "type": ["array", "null"]},
            "per_class": {"type": "object", "additionalProperties": {"type": "array", "items": _ENDS}},
            "macro": {"type": "object", "additionalProperties": _ENDS},
        },
        accuracy=_ENDS,
        unit={"enum": ["photo", "image"]},
    ),
)
SCHEMA = _shape(
    model=_TEXT,
    protocol=_TEXT,
    seed=_WHOLE,
    backend=_TEXT,
    versions={"type": "object"},
    device=_TEXT,
    image_size={"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2},
    parameters=_WHOLE,
    dataset=_shape(name=_TEXT, fingerprint=_TEXT, sizes=_shape(train=_WHOLE, validation=_WHOLE, test=_WHOLE)),
    history=_shape(loss=_SERIES, accuracy=_SERIES, val_loss=_SERIES, val_accuracy=_SERIES),
    seconds=_shape(epochs=_SERIES, total=_NUMBER),
    best_epoch={"type": "integer", "minimum": 1},
    validation=_PART,
    test=_PART,
    predictions=_TEXT,
    resumed=_FLAG,
)
COMPARED = {
    "allOf": [
        SCHEMA,
        _shape(  # what the comparison reads besides; older records lack some of it
            settings={"type": "object"},
            multiply_adds=_WHOLE,
            seconds=_shape(per_image=_NUMBER),
            dataset=_shape(classes={"type": "array", "items": _TEXT}),
            test=_shape(interval95=_shape(units=_WHOLE, per_class={"type": "object"})),
            history=_shape(test_loss=_SERIES, test_accuracy=_SERIES),
        ),
    ]
}
