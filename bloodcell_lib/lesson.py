"""What every lesson shows in the same way: library source, and tables, figures and sentences computed from a run."""

import hashlib
import inspect
import json
import textwrap
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from bloodcell_lib import images, metrics, models, plots, protocols
from bloodcell_lib.backend import keras
from bloodcell_lib.dataset import Dataset
from bloodcell_lib.models import cost as costs
from bloodcell_lib.protocols import Protocol
from bloodcell_lib.records import Record
from bloodcell_lib.training import Run

PAPER_IMAGES = 7965  # that the paper trains on: four fifths of the archive's TRAIN
GAP = 0.1  # between two accuracies, above which a lesson explains it
SOME = 64  # test images on which evidence is measured
COUNTED = {
    "photo": "The copies of one photograph tend to be classified alike, so photographs are counted, not images.",
    "image": "Photographs are unknown here, so images are counted one by one. With copies, the true interval is wider.",
}


def check(exercise: str, answer: Any) -> None:
    """Say whether the answer to an exercise is correct. The correct answer is kept as a digest only.

    Args:
        exercise: lesson and number, such as "05.1".
        answer: a number, or several in their order, compared to two decimal places; None is not answered yet.

    Raises:
        ValueError: the exercise has no number to check, or the answer is not of numbers.
    """
    known = json.loads(Path(__file__).with_name("answers.json").read_text(encoding="utf-8"))
    if exercise not in known:
        raise ValueError(f"no answer to exercise {exercise!r} can be checked. Choose from: {', '.join(known)}.")
    right = answer is not None and answer_digest(exercise, answer) == known[exercise]
    _say(f"Exercise {exercise}: {'not answered yet' if answer is None else '**correct**' if right else 'not yet'}.")


def answer_digest(exercise: str, answer: Any) -> str:
    """Return what is kept of an answer: a digest of the exercise and the numbers."""
    try:
        numbers = " ".join(f"{float(number):.2f}" for number in np.ravel(answer))
    except (TypeError, ValueError):
        raise ValueError(f"answer={answer!r} cannot be checked. Give a number, such as 46 or 1_000.") from None
    return hashlib.sha256(f"{exercise}: {numbers}".encode()).hexdigest()[:16]


def source(thing: Any, start: str = "", stop: str | None = None) -> Markdown:
    """Return Python source as it is in the library or in Keras, to be shown.

    Args:
        thing: a function, a class or a module.
        start, stop: show from the first line that contains `start` up to, and without, the next that contains `stop`.

    Raises:
        ValueError: the source has no such line.
    """
    lines = inspect.getsource(thing).splitlines()
    first = next((i for i, line in enumerate(lines) if start in line), None)
    later = range(len(lines) if first is None else first + 1, len(lines))
    last = next((i for i in later if stop in lines[i]), None) if stop else len(lines)
    if first is None or last is None:
        raise ValueError(f"{thing.__name__} has no lines from {start!r} to {stop!r}: choose texts from its source.")
    code = textwrap.dedent("\n".join(lines[first:last])).rstrip()
    return Markdown(f"<div style='font-family: monospace; font-size: 85%'>\n\n```python\n{code}\n```\n\n</div>")


def about(data: Dataset) -> None:
    """Say what the data set is and how it is split, and show two training images of each class."""
    height, width = data.train.images.shape[1:3]
    classes, around = ", ".join(data.classes).lower(), " around the white cell" if data.frame == "cell" else ""
    _say(f"""{data.card.about if data.card else f"This is the set *{data.name}*."}

In use here: {len(data.train):,} images to train on, {len(data.validation):,} to validate and {len(data.test):,} to
test; {height} × {width} pixels{around}; {len(data.classes)} classes: {classes}; split `{data.split}`.
{" ".join(data.notes)}""")
    plots.show(plots.examples(data.train, data.classes), f"Two training images of each class: {classes}.")


def card(name: str) -> None:
    """Show a network's card."""
    about = models.card(name)
    _say(f"""**{about.title}** ({about.year}), {about.paper}. {about.idea}

- parameters for 4 classes: {about.parameters:,}
- smallest side of an image: {about.min_side} pixels
- preprocessing, inside the network: {about.preprocessing}
- {about.notes}""")


def network(network: keras.Model) -> None:
    """Draw a network from its own layers, and tabulate shape, parameters and multiply-adds of each stage."""
    stages = costs.stages(network)
    shapes = ", ".join(f"{stage.name} {'×'.join(map(str, stage.shape))}" for stage in stages)
    alt = f"{network.name}: feature maps of {shapes}. Below, each stage's share of parameters and multiply-adds."
    plots.show(plots.network(stages), alt)
    display(costs.table(network))


def cost(network: keras.Model, protocol: Protocol, data: Dataset) -> None:
    """Compare a run with the full one, the protocol `paper` on the paper's images, and say what is reduced.

    The backward pass costs about twice the forward pass, so an image costs three times its multiply-adds per epoch.
    """
    full, images, work = protocols.get("paper"), len(data.train), _work(network, protocol, len(data.train))
    card = models.card(network.name)
    rows = {
        "image size": ["{} × {}".format(*recipe.image_size) for recipe in (full, protocol)],
        "training images": [f"{PAPER_IMAGES:,}", f"{images:,}"],
        "batch size": [full.batch_size, protocol.batch_size],
        "epochs": [card.passes(recipe) for recipe in (full, protocol)],
        "learning rate": [f"{card.rate(recipe):g}" for recipe in (full, protocol)],
        "billion multiply-adds": [f"{each / 1e9:,.0f}" for each in work],
    }
    display(pd.DataFrame.from_dict(rows, "index", columns=["full run", "this run"]))
    less = {
        "smaller images": np.prod(protocol.image_size) < np.prod(full.image_size),
        "fewer images": images < PAPER_IMAGES,
        "fewer epochs": card.passes(protocol) < card.passes(full),
    }
    reduced = ", ".join(what for what, so in less.items() if so) or "nothing"
    _say(f"The full run does {work[0] / work[1]:,.1f} times the work of this run. Reduced here: {reduced}.")


def training(run: Run) -> None:
    """Draw the curves of a run and read them: its best and its last epoch, its seconds, and those of the full run."""
    history, epochs = run.history, len(run.history["loss"])
    alt = f"Loss and accuracy of train, validation and test over {epochs} epochs; the best is {run.best_epoch}."
    plots.show(plots.curves(history, run.best_epoch), alt)
    seconds, best = np.median(history["seconds"]), history["val_accuracy"][run.best_epoch - 1]
    train, validation, test = (_percent(history[f"{part}accuracy"][-1]) for part in ("", "val_", "test_"))
    full, own = _work(run.network, run.protocol, run.sizes["train"])
    hours = seconds * epochs * full / own / 3600
    size, unit = (hours / 24, "days") if hours > 48 else (hours, "hours") if hours > 2 else (60 * hours, "minutes")
    _say(
        f"Validation accuracy was best in epoch {run.best_epoch} of {epochs}: {_percent(best)}. After the last epoch, "
        f"accuracy was {train} on train, {validation} on validation and {test} on test. An epoch took {seconds:.1f} "
        f"seconds. At this rate the full run takes about {size:,.0f} {unit} on this machine."
    )


def report(record: Record, data: Dataset) -> None:
    """Show what a run achieved: test accuracy, confusions and metrics per class if it learned, the paper's row."""
    result(record)
    if not metrics.guessing(record.test):
        confusions(record)
        display(per_class(record))
        if dashes := metrics.undefined(record.test, record.dataset["classes"]):
            _say(f"On test, {dashes}")
    beside_paper(record, data)
    copies(record, data)


def result(record: Record) -> None:
    """State the test accuracy with its interval, what the interval is, and whether the network only guesses."""
    test, ends, title = record.test, record.test["interval95"], models.card(record.model).title
    accuracy, low, high, *covered = map(_percent, (test["accuracy"], *ends["accuracy"], *(ends.get("coverage") or ())))
    tried = (
        " In simulations with the photographs of the archive's test set, for accuracies up to 97 %, such an interval "
        f"contained the true value in {' to '.join(covered)} of the cases."
    )
    _say(
        f"{title}: **test accuracy {accuracy} [{low}, {high}]**, after epoch {record.best_epoch} of "
        f"{len(record.history['loss'])}.\n\nThe brackets give a 95 % confidence interval for this trained network's "
        f"accuracy on all {metrics.UNITS[ends['unit']]} of this kind, estimated from the {ends['units']} that were "
        f"tested. {COUNTED[ends['unit']]}{tried if covered else ''}{_on_train(record)}"
    )
    if metrics.guessing(record.test):
        found = metrics.format_interval(record.test["macro"]["recall"], ends["macro"]["recall"])
        _say(
            f"**In this run, {title} is not better than guessing.** On average it finds {found} % of the images of a "
            f"class; guessing finds {_percent(1 / len(record.dataset['classes']))}. Its confusions and its class maps "
            "mean nothing yet. Train longer (`EPOCHS`), with more images (`LIMIT`), or with another `SEED`."
        )


def _on_train(record: Record) -> str:
    """Say the training accuracy in inference mode, and what it tells: lagging statistics, overfitting, or nothing."""
    if not record.train:
        return ""
    moving, still = record.history["accuracy"][record.best_epoch - 1], record.train["accuracy"]
    told = f"\n\nOn its training images, this network has accuracy {_percent(still)} in inference mode, as it is used."
    if moving - still > GAP:
        lag = "the statistics of batch normalisation lag behind the weights, so validation and test are too low"
        return (
            f"{told} In training mode, the same epoch had {_percent(moving)}: {lag}. More training steps correct this."
        )
    if still - record.validation["accuracy"] > GAP:
        return f"{told} That is far above validation: it overfits. More epochs do not correct this; more images do."
    return told


def confusions(record: Record) -> None:
    """Draw the confusion matrices of validation and test, and name the most frequent confusion on test.

    Those of a network that guesses are left out.
    """
    if _left_out(record, "confusion matrices"):
        return
    matrices = {part: np.array(getattr(record, part)["confusion"]) for part in ("validation", "test")}
    correct = "; ".join(f"{part}: {np.trace(matrix)} of {matrix.sum()} correct" for part, matrix in matrices.items())
    plots.show(plots.confusions(matrices, record.dataset["classes"]), f"Confusion matrices. {correct}.")
    errors = matrices["test"] * (1 - np.eye(len(matrices["test"]), dtype=int))
    true, predicted = (record.dataset["classes"][n].lower() for n in np.unravel_index(errors.argmax(), errors.shape))
    most = f"The most frequent confusion on test: {true} predicted as {predicted} (images: {errors.max()})."
    _say(f"Correct predictions are on the diagonal. {most if errors.any() else 'Nothing is confused on test.'}")


def per_class(record: Record) -> pd.DataFrame:
    """Return how many photographs, or images, of each class the test set has, and each metric with its interval."""
    test, ends = record.test, record.test["interval95"]
    columns = {metrics.UNITS[ends["unit"]]: [*test["per_photo"]["count"], f"{ends['units']} in all"]}
    for name, shares in test["per_class"].items():
        each = map(metrics.format_interval, shares, ends["per_class"][name])
        columns[name.replace("f1", "F1")] = [*each, metrics.format_interval(test["macro"][name], ends["macro"][name])]
    return pd.DataFrame(columns, [*map(str.capitalize, record.dataset["classes"]), "mean"]).rename_axis(columns="in %")


def beside_paper(record: Record, data: Dataset) -> None:
    """Show the network's row of the paper's Table 1 beside the best and the last epoch, and say how they compare."""
    if (row := models.card(record.model).table1) is None:
        return
    epochs = {"best epoch on validation": record.best_epoch, "last epoch": len(record.history["loss"])}
    table = pd.DataFrame({"paper, Table 1": row})
    for title, epoch in epochs.items():
        table[f"{title} ({epoch})"] = {name: values[epoch - 1] for name, values in record.history.items()}
    names = {f"{key}{what}": f"{part} {what}" for what in ("accuracy", "loss") for part, key in plots.PARTS.items()}
    display(table.loc[list(names)].rename(names).map(lambda value: str(round(value, 4))))
    _say(data.card.comparable if data.card else "The paper's metrics are of another set of images.")


def copies(record: Record, data: Dataset) -> None:
    """Say how many validation images have a copy in training, and how far validation is above test."""
    share = np.isin(data.validation.photos, data.train.photos).mean()
    gap = 100 * (record.validation["accuracy"] - record.test["accuracy"])
    known = f"In this run, {_percent(share, 0)} of the validation images have a copy in the training images."
    unknown = "Which photograph is behind which image is not recorded for this set."
    difference = f"At the best epoch, validation accuracy minus test accuracy is {gap:+.1f} points."
    _say(f"{known if data.photos_known else unknown} {difference}")


def class_maps(run: Run, record: Record, data: Dataset) -> None:
    """Show class activation maps over the most confident correct and wrong prediction of each class on test.

    Those of a network that guesses are left out.
    """
    if _left_out(record, "class activation maps"):
        return
    probabilities, names = record.answers["probabilities"], [name.lower() for name in data.classes]
    predicted, chosen = probabilities.argmax(1), metrics.most_confident(data.test.labels, probabilities)
    rows, missing = (np.array(column) for column in zip(*((n or 0, n is None) for n in chosen), strict=True))
    maps, boxes, inside = _evidence(run.network, data, rows, predicted)
    framed = data.frame != "cell"  # else the image is the window
    titles = [
        f"no {name}\nclassified {how}"
        if n is None
        else f"{name} as\n{names[predicted[n]]}, {probabilities[n].max():.0%}" + f"\n{share:.0%} inside" * framed
        for n, share, (how, name) in zip(chosen, inside, product(("correctly", "wrongly"), names), strict=True)
    ]
    pictures = np.where(missing[:, None, None, None], np.uint8(255), data.test.images[rows])
    maps[missing], boxes[missing], most = np.nan, np.nan, abs(maps[~missing]).max()
    label = "evidence against (−) and for (+) the predicted class"
    figure = plots.overlay_heatmap(pictures, maps, titles, (-most, most), label, boxes=boxes, columns=len(names))
    told = "; ".join(titles).replace("\n", " ")
    plots.show(figure, f"Class activation maps over test images. Top, correct; bottom, wrong predictions: {told}.")
    shares, (_, rows, columns) = _inside(run.network, data, predicted) if framed else "", maps.shape
    smooth = f"A map has {rows} × {columns} places and is drawn smoothly, so an edge in it is no outline."
    _say(shares + (smooth if rows * columns > 1 else "A map has one place: it shows how much evidence, and not where."))


def _inside(network: keras.Model, data: Dataset, predicted: np.ndarray) -> str:
    """Say how much of the evidence for the predicted class is inside the window around the white cell."""
    some = np.random.default_rng(0).permutation(len(data.test))[:SOME]
    _, boxes, inside = _evidence(network, data, some, predicted)
    covered = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean() / np.prod(data.test.images.shape[1:3])
    return (
        f"The line is the window around the white cell, which is found by its violet stain. Over {len(some)} test "
        f"images, on average {_percent(inside.mean(), 0)} of the evidence for the predicted class is inside it. "
        f"Evidence that is spread evenly has {_percent(covered, 0)} there. "
    )


def _evidence(
    network: keras.Model, data: Dataset, rows: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evidence for the predicted class on test images, the window around the white cell, and the share inside."""
    pictures = data.test.images[rows]
    whole, maps = (0, 0, *pictures.shape[2:0:-1]), models.evidence(network, pictures, predicted[rows])
    boxes = np.array([whole if data.frame == "cell" else images.window(each, (1, 1)) for each in pictures], float)
    return maps, boxes, models.share_inside(maps, boxes, pictures.shape[1:3])


def _left_out(record: Record, what: str) -> bool:
    if guesses := metrics.guessing(record.test):
        _say(f"The {what} are left out: the network is not better than guessing, so they would show only chance.")
    return guesses


def _say(text: str) -> None:
    display(Markdown(text))


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _work(network: keras.Model, protocol: Protocol, images: int) -> list[int]:
    """Multiply-adds of the full training run, and of a run."""
    runs, card = ((protocols.get("paper"), PAPER_IMAGES), (protocol, images)), models.card(network.name)
    return [3 * many * card.passes(recipe) * _multiply_adds(network, tuple(recipe.image_size)) for recipe, many in runs]


@lru_cache
def _multiply_adds(network: keras.Model, size: tuple[int, int]) -> int:
    alike = tuple(network.input_shape[1:3]) == size
    return costs.multiply_adds(network if alike else models.build(network.name, size, network.output_shape[-1]))
