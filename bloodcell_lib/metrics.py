"""Metrics that say how well a classifier does, and how certain that is."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss

METHOD = "Dirichlet by class, design effect of photographs"
PRIOR = 0.3  # of a photograph, added where photographs are few; chosen, as the method was, by benchmarks/intervals.py
UNITS = {"photo": "photographs", "image": "images"}  # of intervals, in words
COVERAGE = (0.948, 0.983)  # of the 95 % interval of accuracy: lowest and highest of the benchmark's scenarios


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the confusion matrix (classes, classes): row the true class, column the predicted one."""
    return confusion_matrix(labels, np.argmax(probabilities, axis=1), labels=range(probabilities.shape[1]))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean over images of -log p(true class), in nats. Source: the paper, equation 6."""
    return float(log_loss(labels, _shares(probabilities), labels=range(probabilities.shape[1])))


def loss_and_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return cross-entropy and accuracy of probabilities (N, classes) for true classes (N,)."""
    return {"loss": cross_entropy(labels, probabilities), "accuracy": float(accuracy(confusion(labels, probabilities)))}


def one_vs_rest(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Count, for each class against all others, the correct and the wrong decisions.

    The paper's text under equation 11 swaps the names of two of them. Here a true negative (tn) is an
    image of another class that was given to another class; a false negative (fn) is a missed image of this class.

    Args:
        matrix: confusion matrix (..., classes, classes), rows true.

    Returns:
        tp, tn, fp, fn: counts (..., classes).
    """
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    fp, fn = matrix.sum(-2) - tp, matrix.sum(-1) - tp
    return {"tp": tp, "tn": matrix.sum((-2, -1))[..., None] - tp - fp - fn, "fp": fp, "fn": fn}


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, precision, recall and F1 of each class.

    Recall and F1 of a class without images, and the precision of a class that is never predicted, are not defined.
    Source: the paper, equations 8 to 11.

    Args:
        matrix: confusion matrix (..., classes, classes), rows true.

    Returns:
        accuracy, precision, recall, f1: fractions (..., classes), NaN where not defined.
    """
    tp, tn, fp, fn = one_vs_rest(matrix).values()
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp, np.nan),
        "recall": _ratio(tp, tp + fn, np.nan),
        "f1": np.where(tp + fn > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
    }


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the fraction (...,) of images on the diagonal of confusion matrices (..., classes, classes)."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def macro(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return the unweighted means (...,) of `per_class` over the classes for which it is defined."""
    return {name: np.nanmean(values, -1) for name, values in per_class(matrix).items()}


def by_photograph(
    labels: np.ndarray, predicted: np.ndarray, photos: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the predictions for the copies of each photograph.

    Args:
        labels: true class of each image (N,).
        predicted: predicted class of each image (N,).
        photos: the photograph of each image (N,); a photograph whose images have two true classes counts as two.
        classes: how many classes there are.

    Returns:
        (counts, true): images by predicted class (photographs, classes), true class (photographs,).
    """
    names, name = np.unique(photos, return_inverse=True)
    found, photo = np.unique(np.asarray(labels, np.int64) * len(names) + name, return_inverse=True)
    counts = np.zeros((len(found), classes), int)
    np.add.at(counts, (photo, predicted), 1)
    return counts, found // len(names)


def intraclass_correlation(counts: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Estimate the intraclass correlation: how far the copies of a photograph are correct or wrong together.

    Two copies disagree if one is classified correctly and the other wrongly. The correlation is 1 minus the ratio of
    two rates: how often copies of one photograph disagree, and how often copies of two photographs of the class do. A
    photograph with one copy counts in the second alone. `PRIOR` is added to the second, because the ratio is uncertain
    where nearly everything is correct.
    Source: Mak 1988, Applied Statistics 37.

    Args:
        counts, true: from `by_photograph`.

    Returns:
        Correlations, 0 to 1 (classes,). NaN where none is defined: all images of a class are correct, or all wrong, or
        no photograph of it has a second copy, or it has only one photograph.
    """
    classes, size = counts.shape[1], counts.sum(1)
    share = counts[np.arange(len(true)), true] / size
    photos, right = np.bincount(true, minlength=classes), np.bincount(true, share, classes)
    inside = 2 * share * (1 - share)
    several, pairs = np.bincount(true, size > 1, classes), photos * (photos - 1)
    among = _ratio(several * (2 * right * (photos - right) - np.bincount(true, inside, classes)), pairs)
    within = np.bincount(true, inside * _ratio(size, size - 1), classes)
    return np.clip(1 - _ratio(within, (among > 0) * (among + PRIOR), np.nan), 0, 1)


def matrices(counts: np.ndarray, true: np.ndarray, draws: int = 2000, seed: int = 0, units: int = 0) -> np.ndarray:
    """Draw confusion matrices that other photographs of the same classes could have given.

    A class of N images is worth N / (design effect) independent answers, and (n - 1) / n of that, because the
    variance is estimated from the same n photographs. Its row is drawn from the Dirichlet distribution of so many
    answers, in the observed shares, plus `PRIOR` of a correct answer and `PRIOR` of a wrong one. Where the
    correlation is not defined, a photograph counts as one answer.
    Source: Kish 1965, Survey Sampling (design effect); Brown, Cai & DasGupta 2001 (Beta intervals of proportions).

    Args:
        counts, true: from `by_photograph`.
        draws: how many matrices.
        seed: of the draws.
        units: how many are independent, where patients have cells of several classes; 0 stands for all of `counts`.

    Returns:
        Matrices (draws, classes, classes), rows true; each row adds up to the number of images of its class.
    """
    classes, size = counts.shape[1], counts.sum(1)
    matrix, photos = pooled(counts, true), np.bincount(true, minlength=classes)
    images = matrix.sum(1)
    alike = np.nan_to_num(intraclass_correlation(counts, true), nan=1)
    inflated = np.bincount(true, size * (1 + (size - 1) * alike[true]), classes)
    worth = _ratio(images**2, inflated) * _ratio(photos - 1, photos) * (units or len(true)) / len(true)
    prior = np.where(np.eye(classes, dtype=bool), PRIOR, PRIOR / (classes - 1))
    answers = matrix * _ratio(worth, images)[:, None] + prior
    drawn = np.random.default_rng(seed).standard_gamma(answers, (draws, classes, classes))
    return images[:, None] * drawn / drawn.sum(2, keepdims=True)


def pooled(counts: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of what `by_photograph` counted."""
    return np.eye(counts.shape[1], dtype=int)[true].T @ counts


def per_photo_accuracy(counts: np.ndarray, true: np.ndarray) -> float:
    """Return the per-photograph accuracy: the mean over photographs of the share of correctly classified copies."""
    return float(np.mean(counts[np.arange(len(true)), true] / counts.sum(1)))


def intervals(counts: np.ndarray, true: np.ndarray, draws: int = 2000, seed: int = 0, units: int = 0) -> dict:
    """Return a 95 % interval for every metric that follows from the confusion matrix.

    Args:
        counts, true: from `by_photograph`.
        draws, seed, units: as for `matrices`.

    Returns:
        accuracy and per_photo: lower and upper end (2,); per_class: by name (classes, 2); macro: by name (2,). An
        interval contains its metric. Where a metric is not defined, its ends are NaN.
    """
    matrix, drawn = pooled(counts, true), matrices(counts, true, draws, seed, units)
    at, over = per_class(matrix), per_class(drawn)

    def ends(figure, drawn):
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        # Rounding may pass 1 by a hair. A NaN stays one.
        return np.stack([np.minimum(low, figure), np.maximum(high, figure)], axis=-1).clip(0, 1)

    defined = {name: np.isfinite(values) for name, values in at.items()}

    return {
        "accuracy": ends(accuracy(matrix), accuracy(drawn)),
        "per_photo": ends(per_photo_accuracy(counts, true), over["recall"][:, true].mean(1)),
        "per_class": {name: ends(at[name], over[name]) for name in at},
        "macro": {name: ends(at[name][of].mean(), over[name][:, of].mean(1)) for name, of in defined.items()},
    }


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over bins of equal width,
    weighted by images.

    Source: Guo et al. 2017, equation 3.

    Args:
        labels: true classes (N,).
        probabilities: predicted (N, classes); the largest is the confidence.
        bins: how many.

    Returns:
        The error, 0 to 1.
    """
    confidence, correct = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # a bin holds its upper edge
    return float(np.abs(np.bincount(place, correct - confidence)).sum() / len(labels))


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean squared distance between predicted and true probabilities, 0 to 2. Source: Brier 1950."""
    classes = range(probabilities.shape[1])
    return float(brier_score_loss(labels, _shares(probabilities), labels=classes, scale_by_half=False))


def summary(labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, unit: str) -> dict:
    """Return every metric that a record keeps of one part.

    Args:
        labels: true classes (N,).
        probabilities: predicted (N, classes).
        clusters: the independent unit of each image, its photograph or the image itself (N,).
        unit: what a cluster is, "photo" or "image".

    Returns:
        loss, brier, calibration_error, accuracy, confusion, per_class, macro, per_photo and interval95, ready for JSON;
        None stands for a metric, and for an interval, that is not defined.
    """
    matrix, units = confusion(labels, probabilities), len(np.unique(clusters))
    counts, true = by_photograph(labels, probabilities.argmax(1), clusters, len(matrix))
    found = loss_and_accuracy(labels, probabilities) | {
        "brier": brier(labels, probabilities),
        "calibration_error": calibration_error(labels, probabilities),
        "confusion": matrix,
        "per_class": per_class(matrix),
        "macro": macro(matrix),
        "per_photo": {"accuracy": per_photo_accuracy(counts, true), "count": np.bincount(true, minlength=len(matrix))},
        "interval95": {
            **intervals(counts, true, units=units),
            "unit": unit,
            "units": units,
            "method": METHOD,
            "coverage": COVERAGE if unit == "photo" and units == len(true) else None,
        },
    }
    return json.loads(json.dumps(found, default=_plain))


def guessing(part: dict) -> bool:
    """Return whether a classifier is not told from one that guesses.

    It is where the 95 % interval of the mean recall over the classes reaches down to 1 / classes: there are both a
    random answer and always the same one. Where all classes have as many images, the mean recall is the accuracy. Only
    classes that have images count.

    Args:
        part: from `summary`.
    """
    return part["interval95"]["macro"]["recall"][0] <= 1 / sum(map(any, part["confusion"]))


def undefined(part: dict, classes: Sequence[str]) -> str:
    """Say which metrics of which classes are not defined, and so left out of the means; "" if all are.

    Args:
        part: from `summary`.
        classes: names by label.
    """
    without = [name for name, row in zip(classes, part["confusion"], strict=True) if not any(row)]
    never = [name for name, column in zip(classes, np.transpose(part["confusion"]), strict=True) if not any(column)]
    said = {
        f"{', '.join(without)}: no image in this part, so no recall and no F1.": bool(without),
        f"{', '.join(never)}: never predicted, so no precision.": bool(never),
        "A dash (–) is not 0: what is not defined is left out of the means.": bool(without or never),
    }
    return " ".join(sentence for sentence, applies in said.items() if applies)


def format_interval(share: float | None, ends: list[float] | None, digits: int = 1) -> str:
    """Write a share and its interval in percent, as 89.2 [81.4, 94.7]; without brackets where there is no interval, and
    as a dash where the share is not defined."""
    if share is None or np.isnan(share):
        return "–"
    value, *both = (f"{100 * number:.{digits}f}" for number in (share, *(ends or ())))
    return f"{value} [{', '.join(both)}]" if both else value


def most_confident(labels: np.ndarray, probabilities: np.ndarray) -> list[int | None]:
    """Find for each class the correct and the wrong prediction with the highest confidence.

    Args:
        labels: true classes (N,).
        probabilities: predicted (N, classes).

    Returns:
        2 * classes rows: correct ones by true class, then wrong ones; None where there is none.
    """
    answers = pd.DataFrame({"wrong": probabilities.argmax(1) != labels, "label": labels})
    highest = answers.assign(confidence=probabilities.max(1)).groupby(["wrong", "label"])["confidence"].idxmax()
    return [highest.get((wrong, label)) for wrong in (False, True) for label in range(probabilities.shape[1])]


def _shares(probabilities: np.ndarray) -> np.ndarray:
    exact = np.asarray(probabilities, np.float64)
    return exact / exact.sum(1, keepdims=True)


def _plain(array: np.ndarray) -> Any:
    """Return an array as lists, and None for a NaN, and for an interval of them."""
    plain = array.astype(object)
    plain[np.isnan(array)] = None
    intervals = plain.ndim == 2 and plain.shape[1] == 2 and np.isnan(array).any()
    return [None if None in ends else ends for ends in plain.tolist()] if intervals else plain.tolist()


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=whole > 0)
