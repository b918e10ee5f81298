"""The comparison: tables and figures of the records of several networks. It trains nothing."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bloodcell_lib import metrics, models, plots
from bloodcell_lib.records import Record

PARTS = {"train": "", "validation": "val_", "test": "test_"}  # and how a history's keys begin
IMAGE = ["path", "photo", "label"]
COSTS = ["million parameters", "million multiply-adds per image", "seconds per epoch", "milliseconds per image"]


# What is compared


def conditions(found: list[Record]) -> pd.DataFrame:
    """Lay out what the runs have in common, and every backend and machine that they ran on."""
    first, data = found[0], found[0].dataset
    rows = {"data": f"{data['name']}, fingerprint {data['fingerprint']}", "classes": _listed(data["classes"]).lower()}
    rows |= {"images": ", ".join(f"{number:,} {part}" for part, number in data["sizes"].items()), "seed": first.seed}
    rows |= {name.replace("_", " "): _listed(value) for name, value in first.settings.items()}
    rows["backend"] = _listed(dict.fromkeys(f"{r.backend} {r.versions.get(r.backend, '')}".strip() for r in found))
    rows["machine"] = _listed(dict.fromkeys(r.device for r in found))
    return pd.DataFrame({f"all {len(found)} runs": rows}).rename({"name": "protocol"})


def missing(found: list[Record]) -> str:
    """Name the lessons' networks that have no record here, and the command that makes one."""
    names = [name for name in models.lessons() if name not in {record.model for record in found}]
    options = f"--protocol {found[0].settings['name']} --seed {found[0].seed}"
    how = f"Not compared, because there is no record: {', '.join(names)}. Make one with `bloodcell run NAME {options}`."
    return how if names else "Every network of the lessons is here."


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
    at = {"best": lambda record: record.best_epoch - 1, "last": lambda record: -1}[epoch]
    return {record.model: {key: values[at(record)] for key, values in record.history.items()} for record in found}


def beside_paper(found: list[Record], what: str = "accuracy") -> pd.DataFrame:
    """Lay out "accuracy" or "loss" of the paper, of the best epoch and of the last.

    Returns:
        A row for each network that the paper has; columns (part, "paper", "best" or "last").
    """
    sources = {"paper": paper()} | {epoch: measured(found, epoch) for epoch in ("best", "last")}
    names = [record.model for record in found if record.model in sources["paper"]]
    keys = {(part, source): prefix + what for part, prefix in PARTS.items() for source in sources}
    return pd.DataFrame({at: [sources[at[1]][name][key] for name in names] for at, key in keys.items()}, index=names)


def bounds(rows: dict[str, dict], rounding: float = 0.0, factor: float = 1.0) -> pd.DataFrame:
    """Hold losses against the least that their error rates allow: L >= e log 2.

    Args:
        rows: from `paper` or `measured`.
        rounding: how much an accuracy may be too low.
        factor: of the bound, for another loss than the mean cross-entropy in nats.

    Returns:
        A row for each (network, part): error, least, loss, and whether the loss is possible.
    """
    columns = [
        (name, part, row[key + "accuracy"], row[key + "loss"])
        for name, row in rows.items()
        for part, key in PARTS.items()
    ]
    table = pd.DataFrame(columns, columns=["network", "part", "error", "loss"]).set_index(["network", "part"])
    table["error"] = 1 - table["error"]
    table["least"] = factor * np.log(2) * (table["error"] - rounding).clip(0)
    return table.assign(possible=table["loss"] >= table["least"] - 1e-6)


def bound_figure(panels: dict[str, pd.DataFrame]) -> Figure:
    """Draw loss against error rate and, in grey, where no point can lie.

    Args:
        panels: title to what `bounds` returns.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 4.4), sharex=True, sharey=True, layout="constrained")
    every = pd.concat(panels.values())
    error = np.linspace(1e-4, every["error"].max() + 0.03, 300)
    for axis, (title, table) in zip(axes, panels.items(), strict=True):
        for part, marker in zip(PARTS, "os^", strict=True):
            points = table.xs(part, level="part")
            axis.scatter(100 * points["error"], points["loss"], 45, plots.PART_COLOURS[part], marker, label=part)
        axis.plot(100 * error, error * np.log(2), "k", linewidth=1, label="least possible")
        axis.fill_between(100 * error, 1e-9, error * np.log(2), color="grey", alpha=0.18)
        axis.set(title=title, xlabel="wrong predictions in %", yscale="log", ylabel="mean loss")
        axis.set(ylim=(max(every["loss"].min(), 1e-6) / 1.6, 1.6 * every["loss"].max()), xlim=(-1, 100 * error[-1]))
        axis.label_outer()
    axes[0].legend(frameon=False, loc="lower right")
    return figure


# Curves and confusion matrices


def curves(found: list[Record], what: str = "accuracy") -> Figure:
    """Draw "accuracy" or "loss" by epoch, one panel per network. Source: the paper, figure 8."""
    figure, axes = _panels(len(found), 2.3)
    for axis, record in zip(axes, found, strict=True):
        for (part, colour), style in zip(plots.PART_COLOURS.items(), ("-", "--", ":"), strict=True):
            values = np.array(record.history[PARTS[part] + what])
            axis.plot(np.arange(1, len(values) + 1), values, style, color=colour, marker=".", label=part)
        axis.axvline(record.best_epoch, color="grey", linewidth=1)
        axis.set(title=record.model, xlabel="epoch", ylabel=what, yscale="log" if what == "loss" else "linear")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.label_outer()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def matrices(found: list[Record], part: str = "test") -> Figure:
    """Draw the confusion matrices of "test" or "validation", one panel per network. Source: the paper, figure 9."""
    figure, axes = _panels(len(found), 3.3)
    for axis, record in zip(axes, found, strict=True):
        counts = np.array(getattr(record, part)["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        _heatmap(axis, pd.DataFrame(100 * shares, *[_classes(record)] * 2), counts)
        axis.set(title=record.model, xlabel="predicted", ylabel="true")
        axis.label_outer()
    return figure


# Accuracy against cost


def accuracies(found: list[Record], part: str = "test") -> pd.DataFrame:
    """Return accuracy, low and high (ends of the 95 % interval) of each network, as fractions."""
    parts = {record.model: getattr(record, part) for record in found}
    rows = {name: [each["accuracy"], *each["interval95"]["accuracy"]] for name, each in parts.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=["accuracy", "low", "high"])


def costs(found: list[Record]) -> pd.DataFrame:
    """Lay out what each network costs; seconds per epoch are the median, which a slow first epoch does not move."""
    rows = [
        (r.parameters / 1e6, r.multiply_adds / 1e6, np.median(r.seconds["epochs"]), 1e3 * r.seconds["per_image"])
        for r in found
    ]
    return pd.DataFrame(rows, index=[record.model for record in found], columns=COSTS)


def front(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Return for each network whether no other is at once cheaper and at least as accurate: the Pareto front (N,)."""
    cheaper, better = np.less_equal.outer(cost, cost), np.greater_equal.outer(accuracy, accuracy)
    return ~(cheaper & better & ~(cheaper & better).T).any(0)


def against(found: list[Record], cost: str = COSTS[1]) -> Figure:
    """Draw test accuracy against a column of `costs`; areas show parameters, a line joins the Pareto front."""
    table = costs(found).join(100 * accuracies(found)).sort_values("accuracy")
    best = front(table[cost].to_numpy(), table["accuracy"].to_numpy())
    figure, axis = plt.subplots(figsize=(10, 5.5), layout="constrained")
    axis.vlines(table[cost], table["low"], table["high"], color="grey", linewidth=1)
    colours = [plots.PALETTE[0 if on else 7] for on in best]
    axis.scatter(table[cost], table["accuracy"], 40 + 25 * table["million parameters"], colours, zorder=3)
    axis.step(*table.loc[best, [cost, "accuracy"]].to_numpy().T, "--", where="post", color=plots.PALETTE[0])
    place = -np.inf
    for name, x, y in table[[cost, "accuracy"]].itertuples():
        place = max(place + 4.5, y)  # labels do not cover each other
        axis.annotate(name, (x, y), (1.12 * x, place), va="center", zorder=4)
    axis.axhline(100 / len(found[0].dataset["classes"]), color="grey", linestyle=":")
    axis.set(xscale="log", xlabel=f"{cost}, logarithmic", ylabel="test accuracy in %", ylim=(0, 105))
    axis.set_xlim(table[cost].min() / 1.5, 2.5 * table[cost].max())
    return figure


# Class by class


def per_class(found: list[Record], what: str = "recall") -> pd.DataFrame:
    """Return "recall", "precision" or "f1" on test, networks by classes, as fractions."""
    rows = {record.model: record.test["per_class"][what] for record in found}
    return pd.DataFrame.from_dict(rows, "index", columns=_classes(found[0]))


def class_figure(found: list[Record]) -> Figure:
    """Draw recall, precision and F1 of each network and class as three heat maps."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 1.4 + 0.4 * len(found)), sharey=True, layout="constrained")
    for axis, what in zip(axes, ("recall", "precision", "f1"), strict=True):
        _heatmap(axis, 100 * per_class(found, what))
        axis.set_title(f"{what.replace('f1', 'F1')} in %")
    return figure


def recalls(found: list[Record]) -> pd.DataFrame:
    """Lay out the recall of each class on test with its 95 % interval, in percent."""
    parts = {r.model: (r.test["per_class"]["recall"], r.test["interval95"]["per_class"]["recall"]) for r in found}
    rows = {name: list(map(metrics.format_interval, *both)) for name, both in parts.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=_classes(found[0]))


def confused(found: list[Record], most: int = 3) -> pd.DataFrame:
    """Lay out the most frequent confusions on test, over all networks."""
    total = sum(np.array(record.test["confusion"]) for record in found)
    table = pd.DataFrame(total, *[_classes(found[0])] * 2).rename_axis("true class").stack().rename("times")
    table = table.rename_axis(["true class", "predicted class"]).reset_index()
    table = table[table["true class"] != table["predicted class"]].sort_values("times", ascending=False)
    return table.assign(share=table["times"] / max(table["times"].sum(), 1)).head(most).reset_index(drop=True)


# Which differences can be believed


def ranking(found: list[Record]) -> Figure:
    """Draw test accuracies with their intervals, sorted; validation beside them, and what guessing gives."""
    test = 100 * accuracies(found).sort_values("accuracy", kind="stable")
    validation = 100 * accuracies(found, "validation")["accuracy"][test.index]
    figure, axis = plt.subplots(figsize=(9, 1 + 0.4 * len(found)), layout="constrained")
    axis.axvspan(*test.iloc[-1][["low", "high"]], color="grey", alpha=0.18, linewidth=0)
    axis.axvline(100 / len(found[0].dataset["classes"]), color="grey", linestyle=":", label="guessing")
    axis.hlines(test.index, test["low"], test["high"], color=plots.PART_COLOURS["test"], linewidth=2)
    axis.plot(test["accuracy"], test.index, "o", color=plots.PART_COLOURS["test"], label="test")
    axis.plot(validation, test.index, "o", color=plots.PART_COLOURS["validation"], mfc="none", label="validation")
    axis.set(xlabel="accuracy in %", xlim=(0, 102))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def overlapping(table: pd.DataFrame, name: str) -> list[str]:
    """Name the networks whose interval in `accuracies` overlaps that of `name`."""
    meets = (table["low"] <= table["high"][name]) & (table["high"] >= table["low"][name])
    return list(table.index[meets].drop(name))


def predictions(found: list[Record]) -> pd.DataFrame:
    """Return the predicted class of each test image, one column per network; the index has path, photo and label."""
    columns = {}
    for record in found:
        index = pd.MultiIndex.from_arrays([record.answers[key + "s"] for key in IMAGE], names=IMAGE)
        columns[record.model] = pd.Series(record.answers["probabilities"].argmax(1), index)
    return pd.DataFrame(columns)


def pairwise(predicted: pd.DataFrame) -> pd.DataFrame:
    """Hold each two networks against each other, photographs as units.

    Args:
        predicted: from `predictions`.

    Returns:
        A row for each pair: what `metrics.compare` says of it, and differing, the share of images on which the two
        predict different classes.
    """
    right = predicted.eq(predicted.index.get_level_values("label"), axis=0)
    tests = pd.DataFrame(metrics.compare(dict(right.items()), predicted.index.get_level_values("photo")))
    return tests.assign(differing=[predicted[a].ne(predicted[b]).mean() for a, b in tests[["a", "b"]].to_numpy()])


def pair_figure(tests: pd.DataFrame, what: str, title: str) -> Figure:
    """Draw a column of `pairwise`, in percent: "differing", or "difference", the row's network minus the column's.

    A star marks a difference whose p, corrected by Holm, is below 0.05.
    """
    names, squares = list(dict.fromkeys([*tests["a"], *tests["b"]])), tests.pivot(index="b", columns="a")
    table, p = (squares[key].reindex(index=names[1:], columns=names[:-1]) for key in (what, "p_holm"))
    table, form, options = 100 * table, "{:.0f}", {}
    if what == "difference":
        table, form, reach = -table, "{:+.0f}", max(100 * tests[what].abs().max(), 1)
        options = {"cmap": "RdBu", "vmin": -reach, "vmax": reach}
    notes = table.map(form.format) + (p.lt(0.05) & bool(options)).map({True: "*", False: ""}.get)
    figure, axis = plt.subplots(figsize=(3 + 0.65 * len(names), 2 + 0.4 * len(names)), layout="constrained")
    _heatmap(axis, table, notes, **options)
    axis.set_title(title)
    return figure


# The choice


def choices(found: list[Record]) -> pd.DataFrame:
    """Choose for each cost among the networks whose validation interval overlaps that of the best on validation.

    Test has no say in it. Seconds are left out if the runs come from several machines.

    Returns:
        A row for each wish: choice, because, its test accuracy.
    """
    best = max(found, key=lambda record: (record.validation["accuracy"], -record.validation["loss"])).model
    validation, test, table = accuracies(found, "validation"), accuracies(found), costs(found)
    rows = {"most accurate on validation": (best, f"{validation['accuracy'][best]:.1%} on validation")}
    for cost in COSTS if len({record.device for record in found}) == 1 else COSTS[:2]:
        name = table.loc[[best, *overlapping(validation, best)], cost].idxmin()
        rows[f"cheapest in {cost.removeprefix('million ')}"] = name, f"{table[cost][name]:,.3g} {cost}"
    shown = test.apply(lambda row: metrics.format_interval(row.iloc[0], list(row.iloc[1:])), axis=1)
    choices = pd.DataFrame.from_dict(rows, "index", columns=["choice", "because"])
    return choices.assign(**{"its test accuracy in %": shown[choices["choice"]].to_numpy()})


# Shared by the above


def _listed(values: object) -> str:
    """Write a setting, or several values separated by commas; "none" for None and nothing."""
    values = values if isinstance(values, (list, tuple, dict)) else [] if values is None else [values]
    return ", ".join(map(str, values)) or "none"


def _classes(record: Record) -> list[str]:
    return [name.capitalize() for name in record.dataset["classes"]]


def _panels(count: int, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels with shared axes, and those that are needed."""
    rows = -(-count // columns)
    size = (11, 0.6 + height * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat[:count])


def _heatmap(axis: Axes, table: pd.DataFrame, notes: np.ndarray | None = None, **options) -> None:
    """Draw a table of percents, or of what `options` say, each field with its number or note."""
    options = {"cmap": "Blues", "vmin": 0, "vmax": 100, "linewidths": 1, "cbar": False} | options
    sns.heatmap(table, annot=True if notes is None else notes, fmt=".0f" if notes is None else "", ax=axis, **options)
    axis.tick_params(axis="x", rotation=35)
    axis.tick_params(axis="y", rotation=0)
    axis.set(xlabel="", ylabel="")
