"""The comparison: tables and figures of the records of several networks. It trains nothing."""

from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from bloodcell_lib import metrics, models, plots
from bloodcell_lib.records import Record

IMAGE = ["path", "photo", "label"]
SCORES = ["recall", "precision", "F1"]
COSTS = ["million parameters", "million multiply-adds per image", "seconds per epoch", "milliseconds per image"]


# What is compared


def conditions(found: list[Record]) -> pd.DataFrame:
    """Lay out what the runs have in common, and every backend and machine that they ran on."""
    first, data = found[0], found[0].dataset
    rows = {"data": f"{data['name']}, fingerprint {data['fingerprint']}", "classes": _listed(data["classes"]).lower()}
    rows |= {"images": ", ".join(f"{n:,} {part}" for part, n in data["sizes"].items()), "seed": str(first.seed)}
    rows |= {name.replace("_", " "): _listed(value) for name, value in first.settings.items()}
    rows["backend"] = _listed(dict.fromkeys(f"{r.backend} {r.versions.get(r.backend, '')}".strip() for r in found))
    rows["machine"] = _listed(dict.fromkeys(r.device for r in found))
    return pd.DataFrame({f"all {len(found)} runs": rows}).rename({"name": "protocol"})


def missing(found: list[Record]) -> str:
    """Name the lessons' networks that have no record here, and the command that makes one."""
    names = ", ".join(name for name in models.lessons() if name not in {record.model for record in found})
    how = f"`bloodcell run NAME --protocol {found[0].settings['name']} --seed {found[0].seed}` makes one"
    return f"There is no record of {names}; {how}." if names else "No network of the lessons is missing."


# The paper's Table 1


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
        axis.axvline(record.best_epoch, color="grey", linewidth=1)
    axes[0].set_yscale("log" if what == "loss" else "linear")
    axes[0].xaxis.set_major_locator(plt.MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def matrices(found: list[Record], part: str = "test") -> plt.Figure:
    """Draw the confusion matrices of "test" or "validation", one panel per network. Source: the paper, figure 9."""
    figure, axes = _panels([record.model for record in found], 3.3, "predicted class", "true class")
    for axis, record in zip(axes, found, strict=True):
        counts = np.array(getattr(record, part)["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        _heatmap(axis, pd.DataFrame(shares, *[_classes(record)] * 2), counts, cmap="Blues", vmin=0, vmax=1)
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

    Networks whose interval contains the accuracy of guessing are left out.
    """
    table = costs(found).join(accuracies(found)).query(f"low > {1 / len(_classes(found[0]))}")
    table = table.sort_values([cost, "accuracy"], ascending=[True, False])
    return list(table.index[table["accuracy"] > table["accuracy"].cummax().shift(fill_value=0)])


def against(found: list[Record], cost: str = COSTS[1]) -> plt.Figure:
    """Draw test accuracy against a column of `costs`; areas show parameters, a line joins the Pareto front."""
    table = costs(found).join(100 * accuracies(found)).sort_values("accuracy")
    best = table.loc[front(found, cost)]
    figure, axis = plt.subplots(figsize=(10, 5.5), layout="constrained")
    axis.vlines(table[cost], table["low"], table["high"], color="grey", linewidth=1)
    axis.step(best[cost], best["accuracy"], "--", where="post", color=plots.PALETTE[3])
    sns.scatterplot(table, x=cost, y="accuracy", size=COSTS[0], sizes=(40, 400), legend=False, zorder=3, ax=axis)
    place = -np.inf
    for name, x, y in table[[cost, "accuracy"]].itertuples():
        place = max(place + 5, y + 1)  # labels do not cover each other
        axis.annotate(name, (x, y), (1.12 * x, place), zorder=4, bbox={"fc": "white", "ec": "none", "pad": 0})
    axis.axhline(100 / len(_classes(found[0])), color="grey", linestyle=":")
    limits = table[cost].min() / 1.5, 2.5 * table[cost].max()
    axis.set(xscale="log", xlim=limits, ylabel="test accuracy in %", ylim=(0, 105))
    return figure


# Class by class


def per_class(found: list[Record]) -> pd.DataFrame:
    """Return recall, precision and F1 on test as fractions, a row per network; columns (metric, class)."""
    rows = {r.model: np.concatenate([r.test["per_class"][what.lower()] for what in SCORES]) for r in found}
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


def ranking(found: list[Record]) -> plt.Figure:
    """Draw test accuracies with their intervals, sorted; validation beside them, and what guessing gives."""
    test = 100 * accuracies(found).sort_values("accuracy", kind="stable")
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.4 * len(found)), layout="constrained")
    axis.axvspan(*test.iloc[-1][["low", "high"]], color="grey", alpha=0.18, linewidth=0)
    axis.axvline(100 / len(_classes(found[0])), color="grey", linestyle=":", label="guessing")
    axis.hlines(test.index, test["low"], test["high"], color=plots.PART_COLOURS["test"], linewidth=2)
    for part, fill in (("test", None), ("validation", "none")):
        points = 100 * accuracies(found, part)["accuracy"][test.index]
        axis.plot(points, test.index, "o", color=plots.PART_COLOURS[part], markerfacecolor=fill, label=part)
    axis.set(xlabel="accuracy in %", xlim=(0, 102), ylim=(-0.6, len(found) - 0.4))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def overlapping(table: pd.DataFrame, name: str) -> list[str]:
    """Name the networks whose interval in `accuracies` overlaps that of `name`."""
    meets = (table["low"] <= table["high"][name]) & (table["high"] >= table["low"][name])
    return list(table.index[meets].drop(name))


def predictions(found: list[Record]) -> pd.DataFrame:
    """Return the predicted class of each test image, one column per network; the index has path, photo and label."""
    answers = {record.model: record.answers for record in found}
    columns = {m: pd.Series(a["probabilities"].argmax(1), [a[key + "s"] for key in IMAGE]) for m, a in answers.items()}
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
    notes = [f"{test.points:+.0f}{test.star}\n({100 * test.differing:.0f})" for test in tests.itertuples()]
    squares = tests.assign(note=notes).pivot(index="b", columns="a").reindex(index=names[1:])
    table, notes = (squares[what][names[:-1]] for what in ("points", "note"))
    figure, axis = plt.subplots(figsize=(3 + 0.75 * len(names), 2 + 0.5 * len(names)), layout="constrained")
    _heatmap(axis, table, notes, cmap="RdBu", vmin=-50, vmax=50)
    return figure


# The choice


def choices(found: list[Record]) -> pd.DataFrame:
    """Choose for each cost among the networks whose validation interval overlaps that of the best on validation.

    Test has no say in it. Seconds are left out if the runs come from several machines.

    Returns:
        A row for each wish: the choice and its test accuracy.
    """
    best = max(found, key=lambda record: (record.validation["accuracy"], -record.validation["loss"])).model
    candidates = [best, *overlapping(accuracies(found, "validation"), best)]
    wishes = COSTS if len({record.device for record in found}) == 1 else COSTS[:2]
    chosen = {"accuracy on validation": best} | costs(found).loc[candidates, wishes].idxmin().to_dict()
    shown = accuracies(found).apply(lambda row: metrics.format_interval(row.iloc[0], list(row.iloc[1:])), axis=1)
    table = pd.Series(chosen, name="choice").rename_axis("best in").to_frame()
    return table.assign(**{"its test accuracy in %": table["choice"].map(shown)})


# Shared by the above


def _listed(values: object) -> str:
    """Write a setting, or several values separated by commas; "none" for None and nothing."""
    values = values if isinstance(values, (list, tuple, dict)) else [values or "none"]
    return ", ".join(map(str, values)) or "none"


def _classes(record: Record) -> list[str]:
    return [name.capitalize() for name in record.dataset["classes"]]


def _parts(rows: dict[str, dict], what: str) -> pd.DataFrame:
    """Return accuracy or loss, networks by parts."""
    table = pd.DataFrame(rows).T[[key + what for key in plots.PARTS.values()]]
    return table.set_axis(list(plots.PARTS), axis="columns").rename_axis(index="network", columns="part")


def _panels(titles: list[str], height: float, x: str, y: str) -> tuple[plt.Figure, list[plt.Axes]]:
    """Return a figure of as many panels as titles, up to three per row, their axes shared and named."""
    grid = -(-len(titles) // 3), min(len(titles), 3)
    size = 11, 0.8 + height * grid[0]
    figure, axes = plt.subplots(*grid, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for axis in axes.flat[len(titles) :]:
        axis.set_axis_off()
    for axis, title in zip(axes.flat, titles, strict=False):
        axis.set_title(title)
    figure.supxlabel(x)
    figure.supylabel(y)
    return figure, list(axes.flat[: len(titles)])


def _heatmap(axis: plt.Axes, table: pd.DataFrame, notes: np.ndarray | pd.DataFrame, **colours) -> None:
    sns.heatmap(table, annot=notes, fmt="", linewidths=1, cbar=False, ax=axis, **colours)
    axis.tick_params(axis="x", rotation=35)
    axis.tick_params(axis="y", rotation=0)
    axis.set(xlabel="", ylabel="")
