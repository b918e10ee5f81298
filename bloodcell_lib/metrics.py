"""Figures that say how well a classifier does, and how sure that is."""

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the confusion matrix (classes, classes): row the true class, column the predicted one."""
    return confusion_matrix(labels, np.argmax(probabilities, axis=1), labels=range(probabilities.shape[1]))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean over images of -log p(true class), in nats. Source: the paper, equation 6."""
    exact = np.asarray(probabilities, np.float64)
    return float(log_loss(labels, exact / exact.sum(1, keepdims=True), labels=range(exact.shape[1])))


def outcomes(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Count, for each class against all others, what was decided rightly and wrongly.

    The paper's text under equation 11 swaps the names of two of them. Here a true negative (tn) is an
    image of another class given to another class; a false negative (fn) an image of this class missed.

    Args:
        matrix: confusion matrix (classes, classes), rows true.

    Returns:
        tp, tn, fp, fn: counts (classes,).
    """
    tp = np.diag(matrix)
    fp, fn = matrix.sum(0) - tp, matrix.sum(1) - tp
    return {"tp": tp, "tn": matrix.sum() - tp - fp - fn, "fp": fp, "fn": fn}


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, precision, recall and F1 of each class, 0 where there is nothing to divide by.

    Source: the paper, equations 8 to 11.

    Args:
        matrix: confusion matrix (classes, classes), rows true.

    Returns:
        accuracy, precision, recall, f1: fractions (classes,).
    """
    count = outcomes(matrix)
    tp, tn, fp, fn = (count[name] for name in ("tp", "tn", "fp", "fn"))
    return {"accuracy": _ratio(tp + tn, tp + tn + fp + fn), "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn), "f1": _ratio(2 * tp, 2 * tp + fp + fn)}


def accuracy(matrix: np.ndarray) -> float:
    """Return the fraction of images on the diagonal."""
    return float(np.trace(matrix) / matrix.sum())


def macro(matrix: np.ndarray) -> dict[str, float]:
    """Return the unweighted means over classes of `per_class`."""
    return {name: float(values.mean()) for name, values in per_class(matrix).items()}


def accuracy_interval(labels: np.ndarray, correct: np.ndarray, clusters: np.ndarray, level: float = 0.95,
                      resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return a percentile interval of accuracy by resampling whole clusters within each class.

    Copies of one photograph succeed and fail together, so the photograph is drawn, not the image.
    Source: Davison & Hinkley 1997, section 3.8.

    Args:
        labels: class of each image (N,).
        correct: whether each image was classified rightly (N,).
        clusters: the photograph of each image (N,).
        level: the interval's nominal coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        Lower and upper end, fractions.
    """
    _, first, cluster = np.unique(clusters, return_index=True, return_inverse=True)
    right, size = np.bincount(cluster, correct), np.bincount(cluster)
    rng, total = np.random.default_rng(seed), np.zeros((2, resamples))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[first] == label)
        drawn = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
        total += drawn @ right[members], drawn @ size[members]
    return tuple(float(end) for end in np.quantile(total[0] / total[1], [(1 - level) / 2, (1 + level) / 2]))


def summary(labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, unit: str) -> dict:
    """Return every figure that a record keeps of one part.

    Args:
        labels: true classes (N,).
        probabilities: predicted (N, classes).
        clusters: what the interval draws, one name an image (N,).
        unit: what a cluster is, "photo" or "image".

    Returns:
        loss, accuracy, confusion, per_class, macro and interval95, ready for JSON.
    """
    matrix = confusion(labels, probabilities)
    low, high = accuracy_interval(labels, probabilities.argmax(1) == labels, clusters)
    return {"loss": cross_entropy(labels, probabilities), "accuracy": accuracy(matrix),
            "confusion": matrix.tolist(),
            "per_class": {name: values.tolist() for name, values in per_class(matrix).items()},
            "macro": macro(matrix),
            "interval95": {"accuracy": [low, high], "unit": unit, "method": "percentile bootstrap",
                           "units": len(np.unique(clusters))}}


def surest(labels: np.ndarray, probabilities: np.ndarray) -> list[int | None]:
    """Find, for each class, the image that was classified rightly, and the one wrongly, with most confidence.

    Args:
        labels: true classes (N,).
        probabilities: predicted (N, classes).

    Returns:
        2 * classes rows: right ones by true class, then wrong ones; None where there is none.
    """
    said, sure = probabilities.argmax(1), probabilities.max(1)
    chosen = []
    for right in (True, False):
        for label in range(probabilities.shape[1]):
            found = np.flatnonzero((labels == label) & ((said == label) == right))
            chosen.append(int(found[sure[found].argmax()]) if len(found) else None)
    return chosen


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
