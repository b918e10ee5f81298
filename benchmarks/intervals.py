"""Which 95 % interval of accuracy holds the truth 95 times in 100? The candidates, measured by simulation.

TEST is 71 photographs in some 2,487 copies, and copies succeed and fail together. Here photographs of exactly those
sizes are answered by imagined networks whose true accuracy is known, again and again; each candidate says its
interval, and it is counted how often the truth lies inside. The library keeps the last candidate. Run from the
project's folder:

    python benchmarks/intervals.py --table data/provenance.csv --out results/intervals.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from bloodcell_lib import metrics

CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
IMAGES, PHOTOS = (623, 620, 620, 624), (13, 6, 4, 48)
ENDS = [0.025, 0.975]
ACCURACIES = {
    "all .75": [0.75] * 4,
    "all .9": [0.9] * 4,
    "all .97": [0.97] * 4,
    "monocyte .6, others .95": [0.95, 0.95, 0.6, 0.95],
    "as cnn: .61 .86 .86 .84": [0.61, 0.86, 0.86, 0.84],
}
CORRELATIONS = {
    ".3": [0.3] * 4,
    ".6": [0.6] * 4,
    ".9": [0.9] * 4,
    "4 of 5 photographs whole": None,
    "by class .3 .6 .9 .3": [0.3, 0.6, 0.9, 0.3],
    "by class .8 .4 .6 .5": [0.8, 0.4, 0.6, 0.5],
}  # the last as the cnn of results/ shows them on TEST


def photographs(table: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of copies and the class of each photograph of TEST (71,), sizes near equal without a table."""
    if table is None:
        sizes = [
            images // photos + (np.arange(photos) < images % photos)
            for images, photos in zip(IMAGES, PHOTOS, strict=True)
        ]
        return np.concatenate(sizes), np.repeat(range(4), PHOTOS)
    rows = pd.read_csv(table).query("split == 'TEST'").groupby(["class", "photograph"]).size()
    return rows.to_numpy(), np.array([CLASSES.index(name) for name in rows.index.get_level_values("class")])


def simulate(size, true, accuracies, correlations, times, rng) -> np.ndarray:
    """Draw answers to every copy, counted by photograph and predicted class (times, photographs, 4).

    A photograph draws its own shares of answers, with the class's as their mean; its copies draw from them. With a
    correlation the shares are Dirichlet, so right answers beta-binomial; without one, four photographs in five give
    one answer to all copies and the fifth lets each copy draw for itself.
    """
    counts = np.zeros((times, len(size), 4), int)
    for photo, label in enumerate(true):
        mean = np.where(np.arange(4) == label, accuracies[label], (1 - accuracies[label]) / 3)
        if correlations is None:
            shares = np.where(rng.random((times, 1)) < 0.8, rng.multinomial(1, mean, times), mean)
        else:
            shares = rng.dirichlet(mean * (1 / correlations[label] - 1), times)
        counts[:, photo] = rng.multinomial(size[photo], shares)
    return counts


def independent(right, size, true, rng):
    """Take copies for independent images: Jeffreys' interval of one proportion."""
    k, n = right.sum(1), size.sum()
    return stats.beta.ppf(np.array(ENDS)[:, None], k + 0.5, n - k + 0.5)


def bootstraps(right, size, true, rng, draws=2000, block=50):
    """Draw photographs again within each class: percentile, BCa and studentised interval, each (2, times).

    Source: Davison & Hinkley 1997, sections 5.2.1, 5.3.1 and 5.3.2. A block of simulated tests shares its draws.
    """
    ends = {"percentile bootstrap": [], "BCa bootstrap": [], "studentised bootstrap": []}
    photos = np.bincount(true)[true]
    for some in np.array_split(right, -(-len(right) // block)):
        drawn = np.concatenate([rng.multinomial(n, np.full(n, 1 / n), draws) for n in np.bincount(true)], axis=1)
        accuracy, deviation = estimate(some, size, true, np.ones((1, len(size))))
        again, deviations = estimate(some, size, true, drawn)
        ends["percentile bootstrap"].append(np.quantile(again, ENDS, axis=0))
        with np.errstate(all="ignore"):  # where no photograph differs from another
            left_out = (some.sum(1, keepdims=True) - some) / (size.sum() - size)
            pull = (photos - 1) / photos * (accuracy[0][:, None] - left_out)
            skew = np.nan_to_num((pull**3).sum(1) / (pull**2).sum(1) ** 1.5 / 6)
            below = ((again < accuracy).mean(0) + (again <= accuracy).mean(0)) / 2
            bias = stats.norm.ppf(np.clip(below, 1e-4, 1 - 1e-4))
            z = bias + stats.norm.ppf(ENDS)[:, None]
            levels = stats.norm.cdf(bias + z / (1 - skew * z))
            t = np.where(deviations > 0, (again - accuracy) / deviations, 0)
        ends["BCa bootstrap"].append(
            [[np.quantile(again[:, n], level) for n, level in enumerate(row)] for row in levels]
        )
        ends["studentised bootstrap"].append(accuracy - deviation * np.quantile(t, ENDS[::-1], axis=0))
    return {name: np.concatenate(parts, axis=1) for name, parts in ends.items()}


def estimate(right, size, true, drawn):
    """Return accuracy and its standard error, (draws, times) each, of right answers (times, photographs)."""
    variance = 0
    for members in (np.flatnonzero(true == label) for label in range(4)):
        n, w, k, m = len(members), drawn[:, members], right[:, members].T, size[members]
        share = (w @ k) / (w @ m)[:, None]
        squares = w @ k**2 - 2 * share * (w @ (k * m[:, None])) + share**2 * (w @ m**2)[:, None]
        variance = variance + n / (n - 1) * np.maximum(squares, 0)
    return (drawn @ right.T) / (drawn @ size)[:, None], np.sqrt(variance) / (drawn @ size)[:, None]


def beta(right, size, true, rng, alike, prior=0.5, draws=2000):
    """Add Beta distributions of the classes' accuracies, with one correlation `alike`(counts) for all."""
    ends = []
    images = np.bincount(true, size)
    for k in right:
        inflated = np.bincount(true, size * (1 + (size - 1) * alike(np.stack([k, size - k], 1))))
        share, worth = np.bincount(true, k) / images, images**2 / inflated
        drawn = rng.beta(share * worth + prior, (1 - share) * worth + prior, (draws, 4)) @ images / images.sum()
        ends.append(np.quantile(drawn, ENDS))
    return np.transpose(ends)


def common(counts) -> float:
    """Return the correlation of right answers over all photographs, as if they were of one class."""
    return float(metrics.intraclass_correlation(counts, np.zeros(len(counts), int))[0])


def kept(counts, true) -> dict[str, np.ndarray]:
    """Return the library's intervals of several figures, by name (2, times)."""
    found = {}
    for seed, one in enumerate(counts):
        ends = metrics.intervals(one, true, seed=seed)
        figures = {
            "accuracy": ends["accuracy"],
            "one vote a photograph": ends["per_photo"],
            "macro F1": ends["macro"]["f1"],
        }
        figures |= {
            f"{name} of {CLASSES[label].lower()}": ends["per_class"][name][label]
            for name in ("recall", "precision", "f1")
            for label in range(4)
        }
        for name, pair in figures.items():
            found.setdefault(name, []).append(pair)
    return {name: np.transpose(pairs) for name, pairs in found.items()}


def truths(size, true, accuracies) -> dict[str, float]:
    """Return the figures that infinitely many photographs would give, the classes' images as in TEST."""
    images = np.bincount(true, size)
    rows = np.array([np.where(np.arange(4) == n, share, (1 - share) / 3) for n, share in enumerate(accuracies)])
    figures = metrics.per_class(rows * images[:, None])
    return {
        "accuracy": accuracies @ images / images.sum(),
        "macro F1": figures["f1"].mean(),
        "one vote a photograph": np.mean(np.array(accuracies)[true]),
        **{
            f"{name} of {CLASSES[label].lower()}": figures[name][label]
            for name in ("recall", "precision", "f1")
            for label in range(4)
        },
    }


def condensed(table: pd.DataFrame) -> str:
    """Lay out the coverage of accuracy over all scenarios as Markdown, a row a method."""
    lines = ["| 95 % interval of accuracy | lowest | mean | highest | mean width |", "|---|---|---|---|---|"]
    for method, rows in table[table.figure == "accuracy"].groupby("method", sort=False):
        figures = (rows.coverage.min(), rows.coverage.mean(), rows.coverage.max(), rows.width.mean())
        lines.append(f"| {method} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="provenance.csv: split, class, file, photograph")
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--times", type=int, default=2000, help="simulated test sets a scenario")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    size, true = photographs(wanted.table)
    rows = []
    for place, (name, accuracies) in enumerate(ACCURACIES.items()):
        truth = truths(size, true, np.array(accuracies))
        for other, (correlation, values) in enumerate(CORRELATIONS.items()):
            rng = np.random.default_rng([wanted.seed, place, other])
            counts = simulate(size, true, accuracies, values, wanted.times, rng)
            right = counts[:, np.arange(len(true)), true]
            ends = {("images as independent", "accuracy"): independent(right, size, true, rng)}
            ends |= {(method, "accuracy"): pairs for method, pairs in bootstraps(right, size, true, rng).items()}
            ends["Beta by class, a photograph is one answer", "accuracy"] = beta(right, size, true, rng, lambda _: 1)
            ends["Beta by class, one correlation", "accuracy"] = beta(right, size, true, rng, common)
            ends |= {(metrics.METHOD, figure): pairs for figure, pairs in kept(counts, true).items()}
            for (method, figure), (low, high) in ends.items():
                rows.append(
                    {
                        "method": method,
                        "figure": figure,
                        "accuracies": name,
                        "correlation": correlation,
                        "coverage": 100 * np.mean((low <= truth[figure]) & (truth[figure] <= high)),
                        "width": 100 * np.mean(high - low),
                        "times": wanted.times,
                    }
                )
            print(
                f"{name}, {correlation}: "
                + ", ".join(
                    f"{row['method']} {row['coverage']:.1f} ({row['width']:.1f})"
                    for row in rows[-len(ends) :]
                    if row["figure"] == "accuracy"
                ),
                flush=True,
            )
    table = pd.DataFrame(rows).round({"coverage": 2, "width": 2})
    print(condensed(table))
    kept_rows = table[table.method == metrics.METHOD].groupby("figure", sort=False)
    print(kept_rows.coverage.agg(["min", "mean", "max"]).round(1).to_string())
    if wanted.out:
        table.to_csv(wanted.out, index=False)


if __name__ == "__main__":
    main()
