"""Tables of records as pandas frames, and frames as Markdown that also reads well in a terminal."""

import json
import re
from collections import Counter

import numpy as np
import pandas as pd

from bloodcell_lib import metrics, splits
from bloodcell_lib.records import ARRAYS, Record

PARTS = ("validation", "test")
POOLS = {"fold": "all", "train": "TRAIN"}  # whose photographs are divided into folds


def runs(found: list[Record]) -> pd.DataFrame:
    """Lay out records, one per row.

    Accuracies are percent, of the best epoch on validation unless the column says otherwise; brackets hold the 95 %
    interval over the unit named. Seconds per epoch are the median.
    """
    return pd.DataFrame([_run(record) for record in found])


def seeds(found: list[Record]) -> pd.DataFrame:
    """Lay out how far accuracy moves with the seed: mean ± standard deviation (n - 1), in percent.

    This is the luck of training, and of the photographs taken for validation, where the test images are the same; the
    brackets of `runs` are the luck of the test photographs. In folds and with a limit the seed draws the test
    images, and the two mix.

    Returns:
        One row for each model, data and settings that were trained with two seeds at least.
    """
    rows = [
        _who(r)
        | {"test images": "the same" if on_test(r) and not r.settings["limit"] else "drawn by the seed"}
        | {"seeds": r.seed, "recipe": recipe(r)}
        | {p: 100 * getattr(r, p)["accuracy"] for p in PARTS}
        for r in found
    ]
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows).sort_values("seeds", kind="stable")
    groups = frame.groupby(["model", "data", "protocol", "test images", "recipe"], sort=False)
    several = groups["seeds"].nunique() > 1
    table = groups["seeds"].agg(lambda column: ", ".join(map(str, column))).to_frame()
    for part in PARTS:
        table[part] = groups[part].mean().map("{:.1f}".format) + " ± " + groups[part].std().map("{:.1f}".format)
    return table[several].reset_index().drop(columns="recipe")


def folds(found: list[Record]) -> pd.DataFrame:
    """Lay out what whole sets of folds say together, in percent.

    Every photograph, of all or of TRAIN's, is tested once, by a network that has met neither it nor its scene.

    Returns:
        One row for each set of folds that is whole: a limit leaves out photographs, so none of them is.
    """
    return pd.DataFrame([_folded(parts, pool) for pool, parts in fold_sets(found)])


def fold_sets(found: list[Record]) -> list[tuple[str, dict[int, Record]]]:
    """Return the sets of folds that are whole: the pool, "fold" or "train", and the records by fold."""
    return [(pool, parts) for (pool, count, *_), parts in _by_fold(found).items() if len(parts) == count]


def incomplete(found: list[Record]) -> str:
    """Say which sets lack folds, so that they are not put together; "" if none does."""
    told = [
        f"{next(iter(parts.values())).model}, seed {seed}, {len(parts)} of {count} folds of {POOLS[pool]}"
        for (pool, count, _, seed, _), parts in _by_fold(found).items()
        if len(parts) < count
    ]
    return f"Not put together, for folds are missing: {'; '.join(told)}." if told else ""


def _by_fold(found: list[Record]) -> dict[tuple, dict[int, Record]]:
    """Return the records of folds, those with a limit left out, by set and fold."""
    sets: dict[tuple, dict[int, Record]] = {}
    for record in found:
        if (fold := splits.fold_of(record.settings["split"])) and not record.settings["limit"]:
            pool, place, count = fold
            alike = pool, count, record.model, record.seed, recipe(record, "name", "split")
            sets.setdefault(alike, {})[place] = record
    return sets


def tested(found: list[Record]) -> list[tuple[str, list[Record]]]:
    """Return what answers for a whole test set, and its name: "test" and one run, or "5 folds of TRAIN" and five."""
    whole = [("test", [record]) for record in found if on_test(record)]
    return whole + [(f"{len(parts)} folds of {POOLS[pool]}", [*parts.values()]) for pool, parts in fold_sets(found)]


def per_class(found: list[Record]) -> pd.DataFrame:
    """Lay out the recall of each class in percent, and the number of photographs or images that it rests on.

    Returns:
        One row for each run on the set's own test part, and for each whole set of folds; one column for each class.
    """
    rows = []
    for name, some in tested(found):
        part, answers = together(some), pooled(some)
        shown = map(metrics.format_interval, part["per_class"]["recall"], part["interval95"]["per_class"]["recall"])
        classes, unit = some[0].dataset["classes"], part["interval95"]["unit"]
        units = pd.Series(answers[unit + "s" if unit == "photo" else "paths"]).groupby(answers["labels"]).nunique()
        counts = " / ".join(str(units.get(number, 0)) for number in range(len(classes)))
        recipe = label(some[0], *["split"] * (name != "test"))
        who = {"tested on": name, "model": some[0].model} | data(some[0], found)
        row = who | {"recipe": recipe, "seed": str(some[0].seed), metrics.UNITS[unit]: counts}
        rows.append(row | dict(zip(map(str.capitalize, classes), shown, strict=True)))
    return pd.DataFrame(rows).fillna("–")


def data(record: Record, found: list[Record]) -> dict[str, str]:
    """Return the column that tells data sets apart, for a row of this record; none where all records are of one."""
    return {"data": record.dataset["name"]} if len({r.dataset["name"] for r in found}) > 1 else {}


def pooled(found: list[Record]) -> dict[str, np.ndarray]:
    """Return the predictions of several test sets as one: labels, probabilities, photos and paths."""
    return {name: np.concatenate([record.answers[name] for record in found]) for name in ARRAYS}


def together(found: list[Record]) -> dict:
    """Return the metrics of several test sets as one, as a record has them of its own."""
    if len(found) == 1:
        return found[0].test
    answers, unit = pooled(found), found[0].test["interval95"]["unit"]
    return metrics.summary(answers["labels"], answers["probabilities"], answers["photos"], unit)


def ensembles(found: list[Record]) -> pd.DataFrame:
    """Lay out what networks say together: on each test image, the mean of their probabilities decides. In percent.

    Returns:
        One row for the seeds of each network, and one for all networks, that share data, recipe and test images.
    """
    groups: dict[tuple, list[list[Record]]] = {}
    for name, some in tested(found):
        alike = name, recipe(some[0], *["name", "split"] * (name != "test")), frozenset(pooled(some)["paths"])
        for members in (some[0].model, "all"):
            groups.setdefault((*alike, members), []).append(some)
    several = [
        (name, sets)
        for (name, *_, who), sets in groups.items()
        if len({some[0].model if who == "all" else some[0].seed for some in sets}) > 1
    ]
    return pd.DataFrame([_averaged(*ensemble) for ensemble in several])


def everything(found: list[Record]) -> str:
    """Return the tables of runs, seeds and folds as text, those that have rows."""
    parts = {
        "": runs(found),
        "Over seeds, mean ± standard deviation of the accuracy in %:\n\n": seeds(found),
        "All folds together, each photograph tested once:\n\n": folds(found),
    }
    shown = [title + text(frame) for title, frame in parts.items() if len(frame)]
    return "\n\n".join(filter(None, [*shown, incomplete(found)]))


def text(frame: pd.DataFrame) -> str:
    """Return a frame's columns as an aligned Markdown table; "" if it has no row."""
    rows = [list(map(str, frame.columns)), *frame.astype(str).to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = ("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)
    return "\n".join(lines) if len(frame) else ""


def _run(record: Record) -> dict:
    history, ends = record.history, record.test["interval95"]
    return {
        **_who(record),
        "seed": record.seed,
        "size": size(record),
        "train, last": f"{100 * history['accuracy'][-1]:.1f}",
        "validation": with_interval(record.validation),
        "test": with_interval(record.test),
        "test, last": "".join(f"{100 * value:.1f}" for value in history.get("test_accuracy", [])[-1:]),
        "F1": metrics.format_interval(record.test["macro"]["f1"], ends["macro"]["f1"]),
        "unit": metrics.UNITS[ends["unit"]],
        "s/epoch": f"{np.median(record.seconds['epochs']):.1f}",
    }


def _folded(parts: dict[int, Record], pool: str) -> dict:
    """Return the row of a whole set of folds: the metrics of their test sets as one."""
    first = parts[1]
    return {
        "model": first.model,
        "data": first.dataset["name"],
        "recipe": label(first, "split"),
        "folds": f"{len(parts)} of {POOLS[pool]}",
        "seed": first.seed,
        "size": size(first),
        **_columns(together(list(parts.values()))),
    }


def _averaged(name: str, members: list[list[Record]]) -> dict:
    """Return the row of an ensemble: the metrics of the mean of its members' probabilities, each a run or its folds."""
    answers, first = [pooled(some) for some in members], members[0][0]
    orders = [np.argsort(kept["paths"]) for kept in answers]
    probabilities = [kept["probabilities"][order] for kept, order in zip(answers, orders, strict=True)]
    labels, photos = (answers[0][what][orders[0]] for what in ("labels", "photos"))
    counts = Counter(some[0].model for some in members)
    return {
        "tested on": name,
        "members": ", ".join(f"{model} × {n}" if n > 1 else model for model, n in counts.items()),
        "data": first.dataset["name"],
        "recipe": label(first, *["split"] * (name != "test")),
        **_columns(metrics.summary(labels, np.mean(probabilities, 0), photos, first.test["interval95"]["unit"])),
    }


def _columns(found: dict) -> dict:
    """Return the columns that say how good answers are."""
    ends = found["interval95"]
    return {
        "accuracy": with_interval(found),
        "F1": metrics.format_interval(found["macro"]["f1"], ends["macro"]["f1"]),
        "per-photograph accuracy": metrics.format_interval(found["per_photo"]["accuracy"], ends["per_photo"]),
        "photographs": ends["units"],
    }


def _who(record: Record) -> dict:
    return {"model": record.model, "data": record.dataset["name"], "protocol": record.protocol}


def on_test(record: Record) -> bool:
    """Return whether a run was tested on the set's own test part, and not on a fold."""
    return not splits.fold_of(record.settings["split"])


def recipe(record: Record, *without: str) -> str:
    """Return what must be equal for records to be put together, data and settings, as one text."""
    settings = {name: value for name, value in record.settings.items() if name not in without}
    return json.dumps([record.dataset["fingerprint"], settings], sort_keys=True)


def label(record: Record, *without: str) -> str:
    """Return the label of a record's protocol without some settings, a fold's being that of `grouped`."""
    named = re.sub(r"^fold\d+of\d+", "grouped", record.protocol)
    return re.sub(rf"-({'|'.join(without)})=\w+", "", named)


def size(record: Record) -> str:
    """Return the image size as 120x160."""
    return "x".join(map(str, record.image_size))


def with_interval(part: dict) -> str:
    """Return the accuracy of a part of a record in percent, with its interval."""
    return metrics.format_interval(part["accuracy"], part["interval95"]["accuracy"])
