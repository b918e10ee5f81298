"""What every lesson shows in the same way: library source, and sentences that read this run's own figures."""

import inspect
import textwrap

import numpy as np
import pandas as pd
from IPython.display import Markdown

from bloodcell_lib import dataset, metrics, models, paper, plots, protocols
from bloodcell_lib.backend import keras
from bloodcell_lib.models import cost as costs
from bloodcell_lib.protocols import Protocol
from bloodcell_lib.training import Run


def source(thing, start: str = "", stop: str | None = None) -> Markdown:
    """Show Python source as it stands in the library or in Keras.

    Args:
        thing: a function, a class or a module.
        start, stop: show from the first line with `start` up to, and without, the next line with `stop`.

    Raises:
        ValueError: the source has no such line.
    """
    lines = inspect.getsource(thing).splitlines()
    try:
        first = next(i for i, line in enumerate(lines) if start in line)
        last = next(i for i, line in enumerate(lines[first + 1 :], first + 1) if stop in line) if stop else len(lines)
    except StopIteration:
        raise ValueError(
            f"{thing.__name__} has no lines from {start!r} to {stop!r}: choose texts that stand in its source."
        ) from None
    code = textwrap.dedent("\n".join(lines[first:last])).rstrip()
    return Markdown(f"<div style='font-family: monospace; font-size: 85%'>\n\n```python\n{code}\n```\n\n</div>")


def about(data: dataset.Dataset) -> Markdown:
    """Say what the data set is and how it is split."""
    what = {
        "sample": "This is the sample: its images are **drawn by a program**, not photographed. They show that the "
        "lesson works. What is measured on them says nothing about blood.",
        "blood-cells": "This is the public archive *Blood Cell Images*: each image is a photograph of stained blood, "
        "flipped, turned, shifted and sheared.",
    }
    height, width = data.train.images.shape[1:3]
    return Markdown(f"""{what.get(data.name, f"This is the set *{data.name}*.")}

In use here: {len(data.train):,} images to train on, {len(data.validation):,} to validate and {len(data.test):,} to
test; {height} × {width} pixels; {len(data.classes)} classes: {", ".join(data.classes).lower()}; split
`{data.split}`.""")


def card(name: str) -> Markdown:
    """Show a network's card."""
    about = models.card(name)
    return Markdown(f"""**{about.title}** ({about.year}), {about.paper}. {about.idea}

- parameters for 4 classes: {about.parameters:,}
- smallest side of an image: {about.min_side} pixels
- preprocessing, inside the network: {about.preprocessing}
- {about.notes}""")


def full_run(network: keras.Model, protocol: Protocol, data: dataset.Dataset) -> tuple[pd.DataFrame, float]:
    """Compare this run with the full one: the protocol `paper` on four fifths of the archive's TRAIN images.

    The way back through a network costs about twice the way there, so an image costs three times its
    multiply-adds in every epoch.

    Returns:
        (table, times): a column for each run; how many times the work of this run the full one does.
    """
    full = protocols.get("paper")
    runs = {
        "full run": (full, sum(dataset.CARDS["blood-cells"]["TRAIN"]) * 4 // 5),
        "this run": (protocol, len(data.train)),
    }
    columns, work = {}, []
    for title, (recipe, images) in runs.items():
        model = (
            network
            if network.input_shape[1:3] == tuple(recipe.image_size)
            else models.build(network.name, recipe.image_size, len(data.classes))
        )
        work.append(3 * costs.multiply_adds(model) * images * recipe.epochs)
        columns[title] = {
            "image size": "{} × {}".format(*recipe.image_size),
            "training images": f"{images:,}",
            "batch size": recipe.batch_size,
            "epochs": recipe.epochs,
            "learning rate": recipe.learning_rate,
            "multiply-adds": f"{work[-1]:.1e}",
        }
    return pd.DataFrame(columns), work[0] / work[1]


def reduced(protocol: Protocol, data: dataset.Dataset, times: float) -> Markdown:
    """Say what this run has less of than the full one, `times` from `full_run`."""
    full = protocols.get("paper")
    less = {
        "smaller images": np.prod(protocol.image_size) < np.prod(full.image_size),
        "fewer images": len(data.train) < sum(dataset.CARDS["blood-cells"]["TRAIN"]) * 4 // 5,
        "fewer epochs": protocol.epochs < full.epochs,
    }
    quick = (
        (
            " The protocol `quick` is made for two cores. It takes few steps, so each is larger, and the running "
            "means of batch normalisation follow faster. The network is the same."
        )
        if protocol.name == "quick"
        else ""
    )
    return Markdown(
        f"The full run does {times:,.1f} times the work of this one. "
        f"Reduced here: {', '.join(what for what, so in less.items() if so) or 'nothing'}.{quick}"
    )


def curves(run: Run, times: float) -> Markdown:
    """Read the curves of a run: its best and its last epoch, its seconds, and those of the full run."""
    history, epochs = run.history, len(run.history["loss"])
    seconds = np.median(history["seconds"])
    best = history["val_accuracy"][run.best_epoch - 1]
    train, validation, test = (_percent(history[f"{part}accuracy"][-1]) for part in ("", "val_", "test_"))
    return Markdown(
        f"Validation was best in epoch {run.best_epoch} of {epochs}, with {_percent(best)} right. In the last epoch "
        f"the network had right {train} of the training images, {validation} of validation and {test} of test. An "
        f"epoch took {seconds:.1f} seconds. At this rate the full run takes about {seconds * epochs * times / 60:,.0f} "
        "minutes on this machine."
    )


def result(record: dict) -> Markdown:
    """State the test accuracy with its interval, and what the interval is."""
    test = record["test"]
    accuracy, low, high = map(_percent, (test["accuracy"], *test["interval95"]["accuracy"]))
    units, unit = test["interval95"]["units"], test["interval95"]["unit"]
    held = test["interval95"].get("coverage")
    counted = {
        "photo": "Copies of one photograph succeed and fail together, so photographs are counted, not images.",
        "image": "Which photograph is behind an image is not known here, so images are counted one by one. If several "
        "are copies of one photograph, the true interval is wider.",
    }
    measured = (
        (
            f" In simulations with the photographs of the archive's test set, such intervals held the truth "
            f"{100 * held[0]:.0f} to {100 * held[1]:.0f} times in 100."
        )
        if held
        else ""
    )
    return Markdown(
        f"{models.card(record['model']).title}: **test accuracy {accuracy} [{low}, {high}]**, epoch "
        f"{record['best_epoch']} of {len(record['history']['loss'])}.\n\nThe brackets hold a 95 % interval: where the "
        f"accuracy of this trained network on ever more {unit}s of these classes may lie, judged by the {units} that "
        f"were tested. {counted[unit]}{measured}"
    )


def confused(record: dict) -> Markdown:
    """Name the most frequent confusion on the test set."""
    errors = np.array(record["test"]["confusion"])
    np.fill_diagonal(errors, 0)
    true, taken = (record["dataset"]["classes"][n].lower() for n in np.unravel_index(errors.argmax(), errors.shape))
    return Markdown(
        "The diagonal is what was right. "
        + (
            f"The most frequent confusion on test: {true} taken for {taken}, {errors.max()} times."
            if errors.any()
            else "On test nothing was confused."
        )
    )


def per_class(record: dict) -> pd.DataFrame:
    """Lay out how many photographs, or images, of each class the test set has, and each figure with its interval."""
    test, ends = record["test"], record["test"]["interval95"]
    columns = {f"{ends['unit']}s": [*test["per_photo"]["count"], ends["units"]]}
    for name, shares in test["per_class"].items():
        columns[name] = [
            *map(metrics.format_interval, shares, ends["per_class"][name]),
            metrics.format_interval(np.mean(shares), ends["macro"][name]),
        ]
    classes = [name.capitalize() for name in record["dataset"]["classes"]]
    return pd.DataFrame(columns, index=[*classes, "mean"]).rename_axis(columns="in %")


def beside_paper(record: dict) -> pd.DataFrame:
    """Lay out the paper's row of Table 1 beside the best and the last epoch of a run."""
    best, last = record["best_epoch"], len(record["history"]["loss"])
    columns = {
        "paper, Table 1": paper.TABLE1[record["model"]],
        f"best epoch on validation ({best})": {k: v[best - 1] for k, v in record["history"].items()},
        f"last epoch ({last})": {k: v[-1] for k, v in record["history"].items()},
    }
    rows = {
        "train": "accuracy",
        "validation": "val_accuracy",
        "test": "test_accuracy",
        "train loss": "loss",
        "validation loss": "val_loss",
        "test loss": "test_loss",
    }
    return pd.DataFrame(
        {
            title: {
                row: f"{figures[key]:.4f}"
                if "loss" in key
                else _percent(figures[key], 0 if title.startswith("paper") else 1)
                for row, key in rows.items()
            }
            for title, figures in columns.items()
        }
    )


def comparable(record: dict, times: float) -> Markdown:
    """Say how far the paper's figures and a run's may be compared, `times` from `full_run`."""
    what = {
        "sample": "The paper's figures are of photographs, this run's of drawings. Beside each other they show how to "
        "read such a table, and nothing about which network is better.",
        "blood-cells": "The images are of the same set. But the paper states neither its batch size nor the details of "
        "its networks, so a difference of some points has many possible causes.",
    }
    return Markdown(
        what.get(record["dataset"]["name"], "The paper's figures are of another set of images.")
        + ("" if times <= 1 else " And this run is smaller than the full one.")
    )


def class_maps(network: keras.Model, data: dataset.Dataset, probabilities: np.ndarray) -> Markdown:
    """Show class activation maps over one right and one wrong test image of each class, the surest of each.

    Args:
        network: the trained network.
        data: what it was tested on.
        probabilities: its answers on the test images (N, classes).

    Returns:
        A sentence on what the figure lacks and how fine the maps are.
    """
    chosen = metrics.most_confident(data.test.labels, probabilities)
    there = [n for n in chosen if n is not None]
    said = probabilities.argmax(1)
    maps = models.class_maps(network, data.test.images[there])
    maps = {n: maps[place, ..., said[n]] for place, n in enumerate(there)}
    titles = [
        "none"
        if n is None
        else f"{data.classes[data.test.labels[n]]} as\n{data.classes[said[n]]}, {probabilities[n].max():.0%}".lower()
        for n in chosen
    ]
    blank = np.full(data.test.images.shape[1:], 235, "uint8")
    rows, columns = next(iter(maps.values())).shape
    nothing = np.full((rows, columns), np.nan)
    figure = plots.veiled(
        [blank if n is None else data.test.images[n] for n in chosen],
        [maps.get(n, nothing) for n in chosen],
        titles,
        len(data.classes),
    )
    plots.show(
        figure,
        "Class activation maps over one right, above, and one wrong test image of each class: "
        + "; ".join(titles).replace("\n", " "),
    )
    claims = [f"no {name.lower()} was classified {how}" for how in ("rightly", "wrongly") for name in data.classes]
    missing = [claim for n, claim in zip(chosen, claims, strict=True) if n is None]
    only = (
        " One place says nothing about where: take larger images to see a map."
        if rows * columns == 1
        else " and is drawn smoothly, so the veil has no sharp edge."
    )
    return Markdown(
        (f"An empty panel means: on test, {', '.join(missing)}. " if missing else "")
        + f"The map has {rows} × {columns} places"
        + (f".{only}" if rows * columns == 1 else only)
    )


def copies(record: dict, data: dataset.Dataset) -> Markdown:
    """Say how many validation images have a copy in training, and how far validation is above test."""
    share = np.isin(data.validation.photos, data.train.photos).mean()
    gap = record["validation"]["accuracy"] - record["test"]["accuracy"]
    return Markdown(
        (
            f"In this run, {_percent(share, 0)} of the validation images have a copy in the training images."
            if data.photos_known
            else "Which photograph is behind which image is not recorded for this set."
        )
        + f" At the best epoch, validation accuracy less test accuracy is {100 * gap:+.1f} points."
    )


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
