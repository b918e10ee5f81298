"""The comparison: tables and figures of the records of several networks. It trains nothing."""

import os
import re
import shlex
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from bloodcell_lib import cards, dataset, metrics, models, plots
from bloodcell_lib.images import DatasetError
from bloodcell_lib.protocols import Protocol, written
from bloodcell_lib.records import Record

IMAGE = ["path", "photo", "label"]
MISSED = ["photograph", "true class", "most predicted", "images", "correct", "networks", "path"]
SCORES = ["recall", "precision", "F1"]
COSTS = ["million parameters", "million multiply-adds per image", "seconds per epoch", "milliseconds per image"]
DARK = 0.179  # luminance at which black and white text have the same contrast, 4.6 : 1
PAPER = "grey"  # of the paper's numbers in figures
LARGEST = 600  # area in points² of the point with the most parameters
PLACES = [(x, y) for y in (1, -1, 0) for x in (1, -1)] + [(0, 1), (0, -1)]  # of a label beside its point


# What is compared


def conditions(found: list[Record]) -> pd.DataFrame:
    """Lay out what the runs have in common, and every backend and machine that they ran on."""
    first, data = found[0], found[0].dataset
    rows = {"data": f"{data['name']}, fingerprint {data['fingerprint']}", "classes": _listed(data["classes"]).lower()}
    rows |= {"images": ", ".join(f"{n:,} {part}" for part, n in data["sizes"].items()), "seed": str(first.seed)}
    rows |= {name.replace("_", " "): _listed(value) for name, value in first.settings.items()}
    rows |= {name: "of each network's card" for name in ("epochs", "learning rate") if rows[name] == "none"}
    rows["backend"] = _listed(dict.fromkeys(f"{r.backend} {r.versions.get(r.backend, '')}".strip() for r in found))
    rows["machine"] = _listed(dict.fromkeys(r.device for r in found))
    return pd.DataFrame({f"all {len(found)} runs": rows}).rename({"name": "protocol"})


def missing(found: list[Record]) -> str:
    """Name the lessons' networks that have no record here, and the command that makes one."""
    names = [name for name in models.lessons() if name not in {record.model for record in found}]
    how = f"There is no record of {', '.join(names)}. Run: `{command(found[0], names)}`"
    return how if names else "No network of the lessons is missing."


def command(record: Record, notebooks: list[str], **changed) -> str:
    """Return the command that runs notebooks by the recipe and seed of a record, some values of the recipe replaced.

    Where a set lies is in no record: DATA stands for it, or archive.zip for the archive.
    """
    recipe = replace(Protocol(**record.settings), **changed)
    own = {knob: getattr(recipe, knob) for knob in re.findall(r"-(\w+)=", recipe.label)}
    values = [written(value) if isinstance(value, tuple) else value for value in own.values()]
    knobs = (f" --{knob.replace('_', '-')} {value}" for knob, value in zip(own, values, strict=True))
    known = {cards.ARCHIVE.name: "archive.zip", cards.SAMPLE.name: cards.SAMPLE.name}
    where = f"--data {known.get(record.dataset['name'], 'DATA')} --out {shlex.quote(str(record.folder))}"
    return f"bloodcell run {' '.join(notebooks)} --protocol {recipe.name}{''.join(knobs)} --seed {record.seed} {where}"


def seeds(found: list[Record], every: list[Record]) -> list[Record]:
    """Return the runs of the same networks, recipe and data with any seed, those found among them.

    Args:
        found: what is compared, of one seed.
        every: the records of the folder.
    """
    wanted = {record.model: (record.settings, record.dataset["fingerprint"]) for record in found}
    return [record for record in every if wanted.get(record.model) == (record.settings, record.dataset["fingerprint"])]


def paper() -> dict[str, dict]:
    """Return the paper's row of every network that it has, by name. It gives whole percents, and no epoch."""
    return {name: row for name in models.names() if (row := models.card(name).table1)}


def measured(found: list[Record], epoch: str = "best") -> dict[str, dict]:
    """Return loss and accuracy of each run, by name, as `paper` does.

    Args:
        found: the records.
        epoch: "best" on validation, or "last".
    """
    at = {record.model: record.best_epoch - 1 if epoch == "best" else -1 for record in found}
    return {r.model: {key: values[at[r.model]] for key, values in r.history.items()} for r in found}


def beside_paper(found: list[Record], what: str = "accuracy") -> pd.DataFrame:
    """Lay out "accuracy" or "loss" of the paper, of the best epoch and of the last.

    Returns:
        A row for each network that the paper has; columns (part, "paper", "best" or "last").
    """
    sources = {"paper": paper(), "best": measured(found), "last": measured(found, "last")}
    table = pd.concat({source: _parts(rows, what) for source, rows in sources.items()}, axis="columns", join="inner")
    order = pd.MultiIndex.from_product([plots.PARTS, sources])
    return table.swaplevel(axis="columns")[order].loc[[name for name in sources["best"] if name in table.index]]


def dumbbells(found: list[Record]) -> plt.Figure:
    """Draw the way from the paper's accuracy to ours, at the best epoch, on validation and on test.

    A row per network that the paper has; thin lines are our 95 % intervals, the dotted line is guessing.
    """
    shown = [record for record in found if record.model in paper()]
    size = 8, 1.6 + 0.4 * len(shown)
    figure, axes = plt.subplots(1, 2, figsize=size, sharex=True, sharey=True, layout="constrained")
    for axis, part in zip(axes, ("validation", "test"), strict=True):
        theirs = [100 * paper()[record.model][f"{plots.PARTS[part]}accuracy"] for record in shown]
        ours, rows, colour = 100 * accuracies(shown, part), range(len(shown)), plots.PART_COLOURS[part]
        axis.hlines(rows, ours["low"], ours["high"], color=colour, linewidth=1)
        axis.hlines(rows, theirs, ours["accuracy"], color=PAPER, linewidth=4, alpha=0.4)
        axis.plot(theirs, rows, "o", color=PAPER, markerfacecolor="white", label="the paper")
        axis.plot(ours["accuracy"], rows, "o", color=colour, label=f"ours, {part}")
        axis.axvline(100 / len(_classes(found[0])), color="grey", linestyle=":")
        axis.set(title=part, yticks=rows, yticklabels=ours.index, ylim=(len(shown) - 0.5, -0.5), xlim=(None, 102))
    figure.supxlabel("accuracy in %")
    handles = [handle for axis in axes for handle in axis.get_legend_handles_labels()[0]]
    figure.legend(handles=[*handles[:2], handles[3]], loc="outside upper center", ncols=3, frameon=False)
    return figure


def bounds(rows: dict[str, dict], rounding: float = 0.0, factor: float = 1.0) -> pd.DataFrame:
    """Hold losses against the least that their error rates allow: L >= e log 2.

    Args:
        rows: from `paper` or `measured`.
        rounding: how much an accuracy may be too low.
        factor: of the bound, for another loss than the mean cross-entropy in nats.

    Returns:
        A row for each (network, part): error, least, loss, and whether the loss is possible.
    """
    error, loss = 1 - _parts(rows, "accuracy").stack(), _parts(rows, "loss").stack()
    least = factor * np.log(2) * (error - rounding).clip(0)
    return pd.DataFrame({"error": error, "loss": loss, "least": least, "possible": loss >= least - 1e-6})


def bound_figure(panels: dict[str, pd.DataFrame]) -> plt.Figure:
    """Draw loss against error rate and, in grey, where no point can lie.

    Args:
        panels: title to what `bounds` returns.
    """
    every = pd.concat(panels.values())
    error, lowest = np.linspace(1e-4, every["error"].max() + 0.03, 300), max(every["loss"].min(), 1e-6) / 1.6
    figure, axes = _panels(list(panels), 4, "wrong predictions in %", "mean loss")
    for axis, table in zip(axes, panels.values(), strict=True):
        for part, marker in zip(plots.PARTS, "os^", strict=True):
            points = table.xs(part, level="part")
            axis.plot(100 * points["error"], points["loss"], marker, color=plots.PART_COLOURS[part], label=part)
        axis.plot(100 * error, error * np.log(2), "k", linewidth=1, label="least possible")
        axis.fill_between(100 * error, 1e-9, error * np.log(2), color="grey", alpha=0.18)
    axes[0].set(yscale="log", ylim=(lowest, 1.6 * every["loss"].max()), xlim=(-1, 100 * error[-1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


# Curves and confusion matrices


def curves(found: list[Record], what: str = "accuracy") -> plt.Figure:
    """Draw "accuracy" or "loss" by epoch, one panel per network. Source: the paper, figure 8."""
    figure, axes = _panels([record.model for record in found], 2.3, "epoch", what)
    for axis, record in zip(axes, found, strict=True):
        for (part, colour), style in zip(plots.PART_COLOURS.items(), ("-", "--", ":"), strict=True):
            values = np.array(record.history[plots.PARTS[part] + what])
            axis.plot(np.arange(1, len(values) + 1), values, style, color=colour, marker=".", label=part)
        axis.axvline(record.best_epoch, color="grey", linewidth=1, label="best on validation")
    axes[0].set_yscale("log" if what == "loss" else "linear")
    axes[0].xaxis.set_major_locator(plt.MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def matrices(found: list[Record], part: str = "test") -> plt.Figure:
    """Draw the confusion matrices of "test" or "validation", one panel per network, all on one scale.

    Source: the paper, figure 9.
    """
    figure, axes = _panels([record.model for record in found], 2.5, "predicted class", "true class")
    for axis, record in zip(axes, found, strict=True):
        counts = np.array(getattr(record, part)["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        _heatmap(axis, pd.DataFrame(100 * shares, *[_classes(record)] * 2), counts, cmap="Blues", vmin=0, vmax=100)
    bar = figure.colorbar(axes[0].collections[0], ax=figure.axes, shrink=0.6, pad=0.01)
    bar.set_label("share of the true class in %")
    return figure


# Accuracy against cost


def accuracies(found: list[Record], part: str = "test") -> pd.DataFrame:
    """Return accuracy, low and high (ends of the 95 % interval) of each network, as fractions."""
    rows = [(getattr(r, part)["accuracy"], *getattr(r, part)["interval95"]["accuracy"]) for r in found]
    return pd.DataFrame(rows, index=[record.model for record in found], columns=["accuracy", "low", "high"])


def costs(found: list[Record]) -> pd.DataFrame:
    """Lay out what each network costs; seconds per epoch are the median, which a slow first epoch does not move."""
    rows = [
        (r.parameters / 1e6, r.multiply_adds / 1e6, np.median(r.seconds["epochs"]), 1e3 * r.seconds["per_image"])
        for r in found
    ]
    return pd.DataFrame(rows, index=[record.model for record in found], columns=COSTS)


def front(found: list[Record], cost: str = COSTS[1]) -> list[str]:
    """Name the Pareto front: the networks for which no other is at once cheaper and at least as accurate on test.

    Networks that are guessing are left out.
    """
    able = [record for record in found if not metrics.guessing(record.test)]
    table = costs(able).join(accuracies(able)).sort_values([cost, "accuracy"], ascending=[True, False])
    return list(table.index[table["accuracy"] > table["accuracy"].cummax().shift(fill_value=0)])


def against(found: list[Record], every: list[Record] | None = None, cost: str = COSTS[1]) -> plt.Figure:
    """Draw test accuracy against a column of `costs`.

    Areas are parameters, lines 95 % intervals, small dots other seeds; a dashed line joins the Pareto front; networks
    that are guessing are hollow.

    Args:
        found: what is compared.
        every: the same networks with every seed, from `seeds`.
        cost: one of `COSTS`.
    """
    table, best = costs(found).join(100 * accuracies(found)), front(found, cost)
    area, chance = LARGEST / table[COSTS[0]].max(), 100 / len(_classes(found[0]))
    figure, axis = plt.subplots(figsize=(9, 6.5), layout="constrained")
    axis.vlines(table[cost], table["low"], table["high"], color="grey", linewidth=1, label="95 % interval")
    axis.step(*table.loc[best, [cost, "accuracy"]].to_numpy().T, "k--", where="post", linewidth=1, label="front")
    axis.axhline(chance, color="grey", linestyle=":", label="guessing")
    runs = _seeds(every or [])
    axis.plot(
        table[cost].reindex(runs.index), runs, "k.", markersize=5, zorder=4, label="each seed" if len(runs) else None
    )
    able = np.where([metrics.guessing(record.test) for record in found], 0.0, 0.7)  # hollow, or not
    blue = [(*plots.PALETTE[0], alpha) for alpha in able]
    axis.scatter(table[cost], table["accuracy"], area * table[COSTS[0]], blue, edgecolors="black", zorder=3)
    for million in (m for m in (1, 5, 20) if m <= table[COSTS[0]].max()):
        label = f"{million} million parameters"
        axis.scatter([], [], area * million, [(*plots.PALETTE[0], 0.7)], edgecolors="black", label=label)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, borderpad=1)
    limits, lowest = (table[cost].min() / 1.6, 1.9 * table[cost].max()), min(chance, table["low"].min())
    axis.set(xscale="log", xlim=limits, xlabel=cost, ylabel="test accuracy in %", ylim=(max(0, lowest - 12), 102))
    axis.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_minor_locator(plt.NullLocator())
    figure.draw_without_rendering()  # lays it out
    _name(axis, table[cost], table["accuracy"], np.sqrt(area * table[COSTS[0]]) / 2)
    return figure


# Class by class


def per_class(found: list[Record]) -> pd.DataFrame:
    """Return recall, precision and F1 on test as fractions, a row per network; columns (metric, class)."""
    rows = {r.model: np.array([r.test["per_class"][what.lower()] for what in SCORES], float).ravel() for r in found}
    return pd.DataFrame.from_dict(rows, "index", columns=pd.MultiIndex.from_product([SCORES, _classes(found[0])]))


def recalls(found: list[Record]) -> pd.DataFrame:
    """Lay out the recall of each class on test with its 95 % interval, in percent."""
    parts = {r.model: (r.test["per_class"]["recall"], r.test["interval95"]["per_class"]["recall"]) for r in found}
    rows = {name: list(map(metrics.format_interval, *both)) for name, both in parts.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=_classes(found[0]))


def confused(found: list[Record], most: int = 3) -> pd.DataFrame:
    """Lay out the most frequent confusions on test, over all networks."""
    total = np.sum([record.test["confusion"] for record in found], axis=0)
    np.fill_diagonal(total, 0)
    table = pd.DataFrame(total, *[_classes(found[0])] * 2).rename_axis(index="true class", columns="predicted class")
    table = table.stack().rename("times").sort_values(ascending=False).reset_index()
    return table.assign(share=table["times"] / max(total.sum(), 1))[table["times"] > 0].head(most)


# Which differences can be believed


def ranking(found: list[Record], every: list[Record] | None = None) -> plt.Figure:
    """Draw test accuracies with their intervals, sorted; validation beside them, and what guessing gives.

    Args:
        found: what is compared.
        every: the same networks with every seed, from `seeds`. Each is a small dot; a short line is their mean.
    """
    test = 100 * accuracies(found).sort_values("accuracy", kind="stable")
    figure, axis = plt.subplots(figsize=(8, 1.4 + 0.42 * len(found)), layout="constrained")
    axis.axvspan(*test.iloc[-1][["low", "high"]], color="grey", alpha=0.18, linewidth=0)
    axis.axvline(100 / len(_classes(found[0])), color="grey", linestyle=":", label="guessing")
    axis.hlines(test.index, test["low"], test["high"], color=plots.PART_COLOURS["test"], linewidth=2)
    for part, fill in (("test", None), ("validation", "none")):
        points = 100 * accuracies(found, part)["accuracy"][test.index]
        axis.plot(points, test.index, "o", color=plots.PART_COLOURS[part], markerfacecolor=fill, label=part)
    if len(runs := _seeds(every or [])):
        means = runs.groupby(level=0).mean()
        axis.plot(runs, runs.index, "k.", markersize=4, label="test, each seed")
        axis.plot(means, means.index, "k|", markersize=16, label="test, mean of the seeds")
    axis.set(xlabel="accuracy in %", xlim=(0, 102), ylim=(-0.6, len(found) - 0.4))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def overlapping(table: pd.DataFrame, name: str) -> list[str]:
    """Name the networks whose interval in `accuracies` overlaps that of `name`."""
    meets = (table["low"] <= table["high"][name]) & (table["high"] >= table["low"][name])
    return list(table.index[meets].drop(name))


def predictions(found: list[Record]) -> pd.DataFrame:
    """Return the predicted class of each test image, one column per network; the index has path, photo and label."""
    return chosen({record.model: record.answers for record in found})


def chosen(answers: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Return what `predictions` does of answers by name, each as a record has them."""
    columns = {n: pd.Series(a["probabilities"].argmax(1), [a[key + "s"] for key in IMAGE]) for n, a in answers.items()}
    return pd.DataFrame(columns).rename_axis(IMAGE)


def compare(right: dict[str, np.ndarray], photos: np.ndarray) -> list[dict]:
    """Test for each pair of models whether one classifies more images correctly than the other.

    If the two were equally good, each photograph's difference could as well have had the other sign. Holm's
    correction holds the chance of any false alarm over all pairs. Source: Holm 1979.

    Args:
        right: by model, whether each image was classified correctly (N,); all models on the same images in one order.
        photos: the photograph of each image (N,).

    Returns:
        A row per pair: a, b, difference (accuracy of a minus that of b), p, p_holm.

    Raises:
        ValueError: the models were not tested on the same number of images.
    """
    lengths = {name: len(values) for name, values in right.items()}
    if set(lengths.values()) - {len(photos)}:
        raise ValueError(
            f"models are compared on the same images: {len(photos)} photographs' names, but predictions of "
            f"{lengths}. Compare models that were tested on one set."
        )
    photo = np.unique(photos, return_inverse=True)[1]
    rows = []
    for a, b in combinations(right, 2):
        difference = np.bincount(photo, np.asarray(right[a], int) - np.asarray(right[b], int)).astype(int)
        rows.append({"a": a, "b": b, "difference": float(difference.sum() / len(photos)), "p": sign_flip(difference)})
    corrected = holm(np.array([row["p"] for row in rows])).tolist()
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def sign_flip(difference: np.ndarray) -> float:
    """Return the chance that random signs give a sum at least as far from 0 as the one observed.

    The differences are whole numbers, so the distribution of the sum over all signs is found by adding one
    difference after the other: exact for any number of them. Source: Pagano & Tritchler 1983.

    Args:
        difference: integers (photographs,).

    Returns:
        p, two-sided.
    """
    steps = np.abs(difference)[difference != 0]
    reach = steps.sum()
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1
    for step in steps:
        chance = (np.roll(chance, step) + np.roll(chance, -step)) / 2  # the ends are still 0 when they come round
    return float(min(1, chance[np.abs(np.arange(-reach, reach + 1)) >= abs(difference.sum())].sum()))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number (tests,). Source: Holm 1979."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def pairwise(predicted: pd.DataFrame) -> pd.DataFrame:
    """Hold each two networks against each other, photographs as units.

    Args:
        predicted: from `predictions`.

    Returns:
        A row for each pair: what `compare` says of it, and differing, the share of images on which the two
        predict different classes.
    """
    right = predicted.eq(predicted.index.get_level_values("label"), axis=0)
    tests = pd.DataFrame(compare(dict(right.items()), predicted.index.get_level_values("photo")))
    return tests.assign(differing=[predicted[a].ne(predicted[b]).mean() for a, b in tests[["a", "b"]].to_numpy()])


def pair_figure(tests: pd.DataFrame) -> plt.Figure:
    """Draw what `pairwise` returns: the difference in points, the row's network minus the column's.

    A star marks a p below 0.05 after Holm's correction; in parentheses stands `differing` in percent.
    """
    names = list(dict.fromkeys([*tests["a"], *tests["b"]]))
    tests = tests.assign(points=0 - 100 * tests["difference"], star=np.where(tests["p_holm"] < 0.05, "*", ""))
    notes = [f"{test.points:+z.0f}{test.star}\n({100 * test.differing:.0f})" for test in tests.itertuples()]
    squares = tests.assign(note=notes).pivot(index="b", columns="a").reindex(index=names[1:])
    table, notes = (squares[what][names[:-1]] for what in ("points", "note"))
    figure, axis = plt.subplots(figsize=(3 + 0.75 * len(names), 2 + 0.5 * len(names)), layout="constrained")
    _heatmap(axis, table, notes, cmap="RdBu", vmin=-50, vmax=50)
    return figure


# What all of them miss


def missed(found: list[Record], most: int = 8) -> pd.DataFrame:
    """Lay out the test photographs that none or nearly none of the networks classifies, the worst first.

    A network classifies a photograph if at least half of its images are correct; nearly none is one network in five.
    Networks that are guessing are not asked.

    Args:
        found: the records.
        most: photographs at most.

    Returns:
        A row for each: photograph, true class, most predicted (the wrong class given most often), images, correct
        (share of all predictions), networks ("0 of 9") and path (the image that fewest networks classify).
    """
    able = [record for record in found if not metrics.guessing(record.test)]
    if not able:
        return pd.DataFrame(columns=MISSED)
    return hardest(predictions(able), _classes(found[0]), len(able) // 5).head(most)


def hardest(predicted: pd.DataFrame, classes: list[str], right: int = 0) -> pd.DataFrame:
    """Lay out, as `missed` does, the photographs that so many columns of `predictions` classify, or fewer."""
    rows = []
    for (photo, label), images in predicted.groupby(["photo", "label"]):
        correct = images.eq(label)
        if (count := (correct.mean() >= 0.5).sum()) <= right:
            wrong = pd.Series(images.to_numpy()[~correct.to_numpy()]).mode()[0]
            share, path = correct.to_numpy().mean(), correct.mean(axis=1).idxmin()[0]
            told = photo, classes[label], classes[wrong], len(images), share, f"{count} of {len(images.columns)}", path
            rows.append((count, *told))
    table = pd.DataFrame(rows, columns=["order", *MISSED]).sort_values(["order", "correct"], kind="stable")
    return table.drop(columns="order").reset_index(drop=True)


def pictures(paths: pd.Series, record: Record, data: str | os.PathLike | None = None) -> list[np.ndarray]:
    """Read test images in full size, if the set that the record was tested on is at hand.

    Args:
        paths: as the predictions have them.
        record: of a run on the set.
        data: as for `dataset.load`; None is BLOODCELL_DATA, or the known set that the record names.

    Returns:
        Images uint8 (height, width, 3), or none of them if `data` is not that set, or is not found.
    """
    known, name = cards.names(), record.dataset["name"]
    data = data or os.environ.get("BLOODCELL_DATA") or (name if name in known else None)
    if data is None or str(data) in known and data != name:  # another set need not be drawn or downloaded
        return []
    try:
        index = dataset.describe(data)
    except DatasetError:
        return []
    if index.fingerprint != record.dataset["fingerprint"]:
        return []

    def place(path: str) -> str:  # a zip and its unpacked folder differ in what is above
        return max((e.path for e in index.entries), key=lambda p: len(os.path.commonprefix([p[::-1], path[::-1]])))

    return [index.source.image(place(path)) for path in paths]


# Shared by the above


def _listed(values: object) -> str:
    """Write a setting, or several values separated by commas; "none" for None and nothing."""
    values = values if isinstance(values, (list, tuple, dict)) else [values or "none"]
    return ", ".join(map(str, values)) or "none"


def _classes(record: Record) -> list[str]:
    return [name.capitalize() for name in record.dataset["classes"]]


def _seeds(every: list[Record]) -> pd.Series:
    """Return test accuracies in percent, by network, of those that were trained with several seeds."""
    runs = pd.Series([100 * r.test["accuracy"] for r in every], [r.model for r in every], dtype=float)
    return runs[runs.index.duplicated(keep=False)]


def _name(axis: plt.Axes, xs: pd.Series, ys: pd.Series, radii: pd.Series) -> None:
    """Write the names of points beside them, each where it covers the fewest other names and points.

    Args:
        axis: where the points are.
        xs, ys: their places, indexed by name.
        radii: of the points, in points of type.
    """
    scale, centres = axis.figure.dpi / 72, axis.transData.transform(np.stack([xs, ys], axis=1))
    reach = scale * radii.to_numpy()[:, None] / np.sqrt(2)  # the square in the circle
    taken = [Bbox(ends) for ends in np.stack([centres - reach, centres + reach], axis=1)]
    aligned = {"ha": {1: "left", 0: "center", -1: "right"}, "va": {1: "bottom", 0: "center", -1: "top"}}
    for name, x, y, radius in zip(xs.index, xs, ys, radii, strict=True):
        halo = [patheffects.withStroke(linewidth=3, foreground="white")]
        text = axis.annotate(name, (x, y), (0, 0), textcoords="offset points", path_effects=halo, zorder=5, fontsize=11)

        def covers(place: tuple[int, int], text=text, far=radius + 3) -> float:
            share = far / np.hypot(*place)
            text.set(
                position=(share * place[0], share * place[1]), ha=aligned["ha"][place[0]], va=aligned["va"][place[1]]
            )
            box = text.get_window_extent()
            return sum(box.overlaps(other) for other in taken) + 9 * (not axis.bbox.contains(*box.max))

        covers(min(PLACES, key=covers))
        taken.append(text.get_window_extent())


def _parts(rows: dict[str, dict], what: str) -> pd.DataFrame:
    """Return accuracy or loss, networks by parts."""
    table = pd.DataFrame(rows).T[[key + what for key in plots.PARTS.values()]]
    return table.set_axis(list(plots.PARTS), axis="columns").rename_axis(index="network", columns="part")


def _panels(titles: list[str], height: float, x: str, y: str) -> tuple[plt.Figure, list[plt.Axes]]:
    """Return a figure of as many panels as titles, up to three per row, their axes shared and named."""
    grid = -(-len(titles) // 3), min(len(titles), 3)
    size = max(6, 3 * grid[1] + 1), 0.8 + height * grid[0]
    figure, axes = plt.subplots(*grid, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for axis in axes.flat[len(titles) :]:
        axis.set_axis_off()
    for axis in axes.flat[len(titles) - grid[1] : len(titles)]:
        axis.tick_params(labelbottom=True)  # also above an empty place
    for axis, title in zip(axes.flat, titles, strict=False):
        axis.set_title(title)
    figure.supxlabel(x)
    figure.supylabel(y)
    return figure, list(axes.flat[: len(titles)])


def _heatmap(axis: plt.Axes, table: pd.DataFrame, notes: np.ndarray | pd.DataFrame, **colours) -> None:
    sns.heatmap(table, annot=notes, fmt="", linewidths=1, cbar=False, ax=axis, **colours)
    for text in axis.texts:
        column, row = np.subtract(text.get_position(), 0.5).astype(int)
        colour = axis.collections[0].to_rgba(table.iat[row, column])
        text.set_color("black" if sns.utils.relative_luminance(colour) > DARK else "white")
    axis.tick_params(axis="x", rotation=35)
    axis.tick_params(axis="y", rotation=0)
    axis.set(xlabel="", ylabel="")
