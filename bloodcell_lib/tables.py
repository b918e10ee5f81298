"""What records say, laid out as Markdown that also reads well in a terminal."""

import json
import os
from pathlib import Path
from statistics import mean

import numpy as np

from bloodcell_lib import metrics, records, splits


def runs(found: list[dict]) -> str:
    """Lay out records, one a row.

    Accuracies are percent, of the best epoch on validation unless the column says otherwise; brackets
    hold the 95 % interval over the unit named.
    """
    head = [
        "model",
        "data",
        "protocol",
        "seed",
        "size",
        "train, last",
        "validation",
        "test",
        "test, last",
        "F1",
        "unit",
        "s/epoch",
    ]
    return _aligned([head, *map(row, found)])


def seeds(found: list[dict]) -> str:
    """Lay out how far accuracy moves with the seed: mean ± standard deviation, in percent; "" if none has two seeds.

    This is the luck of training. The brackets of `runs` are the luck of the test photographs.
    """

    def moved(figure: dict) -> str:
        return f"{100 * figure['mean']:.1f} ± {100 * figure['std']:.1f}"

    rows = [
        [
            row["model"],
            row["data"],
            row["protocol"],
            ", ".join(map(str, row["seeds"])),
            moved(row["validation"]),
            moved(row["test"]),
        ]
        for row in metrics.over_seeds(found)
        if len(row["seeds"]) > 1
    ]
    return _aligned([["model", "data", "protocol", "seeds", "validation", "test"], *rows]) if rows else ""


def folds(found: list[dict], folder: str | os.PathLike | None = None) -> str:
    """Lay out what whole sets of folds say together, in percent; "" if none is whole.

    Every photograph is tested once, by a network that has met neither it nor its scene.

    Args:
        found: records.
        folder: where their predictions are; None is `records.out_dir()`.
    """
    sets = {}
    for record in found:
        if "settings" in record and (place := splits.fold_of(record["settings"]["split"])):
            recipe = record["settings"] | {"name": "", "split": place[1]}
            alike = record["model"], record["seed"], record["dataset"]["fingerprint"], json.dumps(recipe)
            sets.setdefault(alike, {})[place[0]] = record
    rows = []
    for (model, seed, *_), parts in sets.items():
        count = splits.fold_of(parts[min(parts)]["settings"]["split"])[1]
        if len(parts) == count:
            figures, first = _together(list(parts.values()), records.out_dir(folder)), parts[1]
            ends = figures["interval95"]
            rows.append(
                [
                    model,
                    first["dataset"]["name"],
                    str(count),
                    str(seed),
                    _size(first),
                    metrics.format_interval(figures["accuracy"], ends["accuracy"]),
                    metrics.format_interval(figures["macro"]["f1"], ends["macro"]["f1"]),
                    metrics.format_interval(figures["per_photo"]["accuracy"], ends["per_photo"]),
                    str(ends["units"]),
                ]
            )
    head = ["model", "data", "folds", "seed", "size", "accuracy", "F1", "a photograph one vote", "photographs"]
    return _aligned([head, *rows]) if rows else ""


def _together(parts: list[dict], folder: Path) -> dict:
    """Return `metrics.summary` of the test sets of several records as one."""
    kept = [records.predictions(record, folder) for record in parts]
    return metrics.summary(
        *(np.concatenate([one[name] for one in kept]) for name in ("labels", "probabilities", "photos")),
        parts[0]["test"]["interval95"]["unit"],
    )


def _aligned(rows: list[list[str]]) -> str:
    """Lay out rows, the first of which is the head, as a Markdown table."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows[1] = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def row(record: dict) -> list[str]:
    """Return the cells of a record, in the columns of `runs`."""
    validation, test = (
        metrics.format_interval(record[part]["accuracy"], record[part]["interval95"]["accuracy"])
        for part in ("validation", "test")
    )
    f1 = metrics.format_interval(
        mean(record["test"]["per_class"]["f1"]), record["test"]["interval95"].get("macro", {}).get("f1")
    )
    history, seconds = record["history"], record["seconds"]["epochs"]
    last_test = f"{100 * history['test_accuracy'][-1]:.1f}" if "test_accuracy" in history else ""
    return [
        record["model"],
        record["dataset"]["name"],
        record["protocol"],
        str(record["seed"]),
        _size(record),
        f"{100 * history['accuracy'][-1]:.1f}",
        validation,
        test,
        last_test,
        f1,
        record["test"]["interval95"]["unit"],
        f"{mean(seconds):.1f}",
    ]


def _size(record: dict) -> str:
    return "x".join(map(str, record["image_size"]))
