"""The page of measured results: README.md and a figure beside the records, made from them alone."""

import re
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from bloodcell_lib import cards, files, images, metrics, plots, protocols, records
from bloodcell_lib.command import comparison, tables
from bloodcell_lib.records import Record

GROUPED = records.settings(protocols.get("grouped"))
PANELS = ("the same, by photograph", "our protocol, by photograph")  # behind the one by image
TABLE1 = ("accuracy", "val_accuracy", "test_accuracy")
PAGE = """# Measured results

This page is made from the records in this folder by `bloodcell table {folder} --write`. Each record is a JSON file with
the recipe, the data, the code and every metric of a run; the predictions beside it give every metric again without
training. Accuracies are in percent. Unless a column says *last*, they are those of the epoch that was best on
validation. Brackets hold 95 % intervals over photographs or images (the unit). *Unseen* is test without the photographs
whose cell or field training or validation shows too, in another photograph.

## Beside the paper

The rows of the paper's Table 1, and our runs by the same recipe: Adam at 1e-4, 20 epochs, a random split by image.

{paper}

Runs below the paper's accuracy on test:

{misses}

The same networks by our own protocol, `grouped`. Its validation set shows other photographs, so only test stands beside
the paper's.

{grouped}

## What a validation set is worth

The same network, recipe and seed, with TRAIN divided by image, as in the paper, or by photograph. By image, validation
shows copies of training photographs. The difference is validation minus test, in points, averaged over seeds. The
picture has one seed, and our own protocol beside. The paper's accuracies are the open circles; an empty row was not
run.

{leak}

{mixed}

![Validation and test accuracy by image and by photograph, with the paper's](leak.svg)

## Seeds and folds

Over seeds, mean ± standard deviation. On the same test images it is the luck of training, and of which photographs the
seed takes for validation; where it draws the test images too, in folds and with a limit, it is also that of this draw.
The brackets are the luck of the test photographs.

{seeds}

All folds together: of all photographs, TRAIN and TEST pooled, or of TRAIN's alone. Each photograph is tested once, by a
network that was trained on neither it nor another photograph of the same scene.

{folds}

{incomplete}

## The whole image, or the cell

The same network, recipe and seed on the whole image and on a window around the white cell, which is found by its stain,
without a label. The first number is that of the whole image, the second that of the window. A pair is equal in pixels,
and so nearly in cost; or in detail, pixels per micrometre, and then the window has 22 % of the pixels; or in neither.
The difference is window minus whole image, in points, with its 95 % interval; it and p are paired, with photographs as
units. They are of the networks that were trained, one seed, and p is not corrected for the number of rows. The window
also leaves out most of the black corners of turned copies, so the two inputs differ in more than the
place of the cell. *Train, last* is the mean over folds: where it is low, the network has not learned its images in so
many epochs, and the difference says how fast it learns, not what it could reach.

{frames}

## Ensembles

On each test image the mean of the members' probabilities decides, so a network with three seeds has three votes. An
ensemble of folds has no member that met the photograph or its scene.

{ensembles}

## Class by class

The recall of each class: the share of its images that is found. It rests on the photographs of this class alone, whose
numbers stand in the order of the columns, so its interval is wide.

{classes}

## What hardly any network gets right

Photographs of which at least nine runs in ten have more than half of the copies wrong, whatever their network and
recipe; *right in* counts the other runs. Runs that are not told from guessing are not asked. *Correct* is of all
predictions. *Points* is what the photograph's copies are of the test images, so what they cost when all are wrong. Such
a photograph may be hard, or wrongly labelled; its label stays as it is. The archive has it as
`JPEGImages/BloodImage_….jpg`.

{unsolved}

## Every run

Seconds per epoch are the median. Other work ran beside many of these runs, so they compare no networks.

{runs}

{machines}
"""


def write(folder: Path) -> list[Path]:
    """Write README.md and leak.svg into a folder of records, and return their paths.

    Raises:
        RecordError: there is no record, or another README.md than a page of results.
    """
    found, readme = records.read_all(folder), folder / "README.md"
    if not found:
        raise records.RecordError(f"{folder}: no record to make a page of.")
    if readme.exists() and not readme.read_text(encoding="utf-8", errors="replace").startswith(PAGE.split("{")[0]):
        raise records.RecordError(f"{readme}: is no page of results, so it is not replaced. Move it.")
    text = page(found, folder)  # before anything is replaced: a record may lack its predictions
    with files.replacing(readme) as part:
        part.write_text(text, encoding="utf-8")
    return [readme, save_leak(found, folder)]


def save_leak(found: list[Record], folder: Path) -> Path:
    """Write what `draw_leak` draws into a folder, the same for the same records, and return its path."""
    figure = draw_leak(found)
    with plt.rc_context({"svg.hashsalt": "leak"}):  # the same names of the figure's parts in every process
        with files.replacing(folder / "leak.svg") as part:
            figure.savefig(part, metadata={"Date": None})
    plt.close(figure)
    return folder / "leak.svg"


def page(found: list[Record], folder: Path) -> str:
    """Return the text of README.md."""
    made = {"paper": beside_paper, "leak": leak, "seeds": tables.seeds, "folds": tables.folds, "runs": tables.runs}
    made |= {"frames": frames, "ensembles": tables.ensembles, "classes": tables.per_class, "unsolved": unsolved}
    made |= {"grouped": partial(beside_paper, name="grouped")}
    shown = {name: tables.text(make(found)) or "*Not measured yet.*" for name, make in made.items()}
    machines = "; ".join(f"{count} on {device}" for device, count in Counter(r.device for r in found).items())
    shown["misses"] = misses(found) or "*None.*"
    shown |= {"mixed": mixed(found), "incomplete": tables.incomplete(found)}
    text = PAGE.format(**shown, folder=folder.resolve().name, machines=f"Runs by machine: {machines}.")
    return re.sub(r"\n{3,}", "\n\n", text)


def follows(record: Record, name: str, **changed: Any) -> bool:
    """Return whether a run has a protocol's recipe, some values changed, on images of any size."""
    recipe = records.settings(protocols.get(name, **changed))
    return record.settings | {"image_size": recipe["image_size"]} == recipe


def with_rows(found: list[Record], name: str = "paper") -> list[tuple[Record, dict[str, float]]]:
    """Return the runs with a protocol's recipe, each with the paper's row of its network, where it has one."""
    return [(record, row) for record in found if follows(record, name) and (row := papers_row(record))]


def papers_row(record: Record) -> dict[str, float] | None:
    """Return the paper's row of a record's network, or None where the record is of other images."""
    return comparison.paper().get(record.model) if record.dataset["name"] == cards.ARCHIVE.name else None


def beside_paper(found: list[Record], name: str = "paper") -> pd.DataFrame:
    """Return the paper's Table 1 beside the runs by a protocol, in percent: one row per network, size and seed."""
    return pd.DataFrame([{
        "network": record.model, "size": tables.size(record), "seed": record.seed,
        "paper: train / validation / test": " / ".join(f"{100 * row[key]:.0f}" for key in TABLE1),
        "train, last": f"{100 * record.history['accuracy'][-1]:.1f}",
        "validation": tables.with_interval(record.validation), "test": tables.with_interval(record.test),
        "test, unseen": f"{100 * record.test_unseen['accuracy']:.1f}" if record.test_unseen else "–",
        "best epoch": record.best_epoch,
    } for record, row in with_rows(found, name)])  # fmt: skip


def misses(found: list[Record]) -> str:
    """Say of each run by the paper's recipe that is below its row how far, why, and which other runs reach it."""
    lines = []
    for record, row in with_rows(found):
        least, (_, high) = row["test_accuracy"], record.test["interval95"]["accuracy"]
        if record.test["accuracy"] < least:
            unknown = "inside the interval; without the paper's predictions no paired test can tell more"
            verdict = unknown if least <= high else "above"
            same = [r for r in found if r.dataset["fingerprint"] == record.dataset["fingerprint"] and tables.on_test(r)]
            reached = [r for r in same if r.model == record.model and r.test["accuracy"] >= least]
            by = "; ".join(f"`{r.protocol}`, seed {r.seed}, {100 * r.test['accuracy']:.1f}" for r in reached)
            lines.append(
                f"- **{record.model}**, {tables.size(record)}, seed {record.seed}: test "
                f"{tables.with_interval(record.test)}; the paper's {100 * least:.0f} is {verdict}. {_why(record, row)} "
                f"Reached by: {by or 'no run yet'}."
            )
    return "\n".join(lines)


def _why(record: Record, row: dict[str, float]) -> str:
    """Return what a run's training and validation say about its test accuracy."""
    validation, moving = record.validation["accuracy"], record.history["accuracy"][record.best_epoch - 1]
    train = record.train["accuracy"] if record.train else moving
    said = f"train {100 * train:.1f}{' in inference mode' * bool(record.train)}, validation {100 * validation:.1f}"
    if validation >= row["val_accuracy"] - 0.02:
        return f"It recognises copies of its photographs as the paper's does, and new ones less often ({said})."
    if train < 0.9:
        return f"It has not learned its images, or its statistics of batch normalisation lag ({said})."
    if train < validation + 0.15:
        return f"It recognises copies of its photographs less often than the paper's does ({said})."
    if record.train:
        return f"It memorises its images: it fails even on copies of their photographs ({said})."
    return f"It fails even on copies of its photographs: it memorises images, or its statistics lag ({said})."


def by_grouped(record: Record) -> bool:
    """Return whether a run is by our own protocol, nothing changed."""
    return record.settings == GROUPED


def by_image(found: list[Record]) -> list[tuple[Record, Record | None]]:
    """Return the runs on whole images, split by image, each with the one by photograph that differs in nothing else."""

    def alike(record: Record) -> tuple:
        settings = {name: value for name, value in record.settings.items() if name != "split"}
        return record.model, record.seed, record.dataset["fingerprint"], str(settings)

    by_photo = {alike(record): record for record in found if record.settings["split"] == "photo"}
    shown = [r for r in found if (r.settings["split"], r.settings["frame"]) == ("image", "slide")]
    return [(record, by_photo.get(alike(record))) for record in shown]


def leak(found: list[Record]) -> pd.DataFrame:
    """Return validation less test by image, by photograph and in the paper, in points, averaged over seeds."""
    groups: dict[tuple, list[tuple]] = {}
    for one, two in by_image(found):
        same = one.model, tables.size(one), tables.label(one, "image_size"), one.dataset["fingerprint"]
        groups.setdefault(same, []).append((one, two))
    rows = ([pair for pair in runs if pair[1]] or runs for runs in groups.values())
    return pd.DataFrame([tables.data(runs[0][0], found) | _leaked(runs) for runs in rows])


def _leaked(runs: list[tuple]) -> dict:
    """Return the row of a network: the means over its runs, of those by photograph if there are any."""
    first, differences = runs[0][0], {}
    row = {"network": first.model, "size": tables.size(first), "protocol": tables.label(first, "image_size")}
    row |= {"seeds": ", ".join(str(r.seed) for r, _ in runs)}
    for how, some in (("by image", [one for one, _ in runs]), ("by photograph", [two for _, two in runs if two])):
        means = {part: 100 * np.mean([getattr(r, part)["accuracy"] for r in some]) for part in tables.PARTS if some}
        row |= {f"{part}, {how}": f"{means[part]:.1f}" if some else "–" for part in tables.PARTS}
        differences[f"difference, {how}"] = f"{means['validation'] - means['test']:+.1f}" if some else "–"
    paper = papers_row(first) if follows(first, "paper") else None
    said = f"{100 * (paper['val_accuracy'] - paper['test_accuracy']):+.0f}" if paper else "–"
    return row | differences | {"difference, the paper": said}


def mixed(found: list[Record]) -> str:
    """Say which pairs and sets that stand in one row differ in the code of training or in the backend, too."""
    sets = [[one, two] for one, two in by_image(found) if two] + [[*of.values()] for _, of in tables.fold_sets(found)]
    named = {of[0].model: of for of in sets if len({(record.code, record.backend) for record in of}) > 1}
    return f"Trained by two versions of the code, or on two backends: the runs of {', '.join(named)}." if named else ""


def pictured(found: list[Record]) -> list[tuple[Record, Record | None, Record | None]]:
    """Return each network's run by image, the same by photograph and, of that seed, by our own protocol; or None.

    They are of the images, the recipe, its size among it, and the seed that most networks have.
    """
    groups: dict[tuple, list[tuple]] = {}
    for one, two in by_image(found):
        same = one.dataset["fingerprint"], tables.label(one, "split"), one.seed
        ours = (r for r in found if (r.model, r.dataset["fingerprint"], r.seed) == (one.model, same[0], one.seed))
        groups.setdefault(same, []).append((one, two, next(filter(by_grouped, ours), None)))
    return max(groups.values(), key=len, default=[])


def draw_leak(found: list[Record]) -> plt.Figure:
    """Draw validation and test accuracy of `pictured`, a panel for each protocol; the paper's as open circles."""
    shown = pictured(found)
    size = 9, 1.5 + 0.4 * max(len(shown), 1)
    figure, axes = plt.subplots(1, 3, figsize=size, sharex=True, sharey=True, layout="constrained")
    first = shown[0][0] if shown else None
    papers = "the paper's protocol" if not first or follows(first, "paper") else tables.label(first, "image_size")
    for panel, (axis, title) in enumerate(zip(axes, (f"{papers}, by image", *PANELS), strict=True)):
        for height, runs in zip(range(len(shown), 0, -1), shown, strict=True):
            if record := runs[panel]:
                _draw_accuracy(axis, height, record)
        axis.set_title(title, fontsize="medium")
        axis.set_ylim(0.5, max(len(shown), 1) + 0.5)
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(shown), 0, -1), [one.model for one, *_ in shown])
    figure.supxlabel("accuracy in %, with 95 % intervals", fontsize="medium")
    if shown:
        guess = 100 / len(shown[0][0].dataset["classes"])
        for axis in axes:
            axis.axvline(guess, color="grey", linestyle=":", label="guessing")
        axes[0].set_xlim(min(guess, *(axis.dataLim.x0 for axis in axes)) - 2, 101)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(*zip(*{label: (handle, label) for handle, label in zip(handles, labels, strict=True)}.values(),
                           strict=True), frameon=False, loc="outside upper center", ncols=5)  # fmt: skip
    return figure


def _draw_accuracy(axis: plt.Axes, height: float, record: Record) -> None:
    """Draw a run's accuracy on validation and test with intervals, and the paper's where they are comparable.

    By our own protocol validation is other images than the paper's, and test the same.
    """
    row = papers_row(record)
    for part, shift, key in (("validation", 0.14, "val_accuracy"), ("test", -0.14, "test_accuracy")):
        share, colour = getattr(record, part), plots.PART_COLOURS[part]
        comparable = follows(record, "paper") or (part == "test" and by_grouped(record))
        low, high = share["interval95"]["accuracy"]
        axis.hlines(height + shift, 100 * low, 100 * high, color=colour, linewidth=2)
        axis.plot(100 * share["accuracy"], height + shift, "o", color=colour, label=part)
        if row and comparable:
            style = {"color": colour, "markerfacecolor": "white", "label": f"{part}, the paper"}
            axis.plot(100 * row[key], height + shift, "o", markersize=9, zorder=1.5, **style)  # around ours, if equal


def frames(found: list[Record]) -> pd.DataFrame:
    """Return accuracy on the whole image and on a window around the cell, in percent, and the paired difference.

    Returns:
        A row for each two runs, or whole sets of folds, that differ in frame and image size alone.
    """
    groups: dict[tuple, dict[str, list]] = {}
    for tested, runs in tables.tested(found):
        first, free = runs[0], ["name", "frame", "image_size"] + ["split"] * (tested != "test")
        alike = tested, first.model, first.seed, tables.recipe(first, *free)
        groups.setdefault(alike, {"slide": [], "cell": []})[first.settings["frame"]].append(runs)
    pairs = [(tested, *pair) for (tested, *_), of in groups.items() for pair in product(of["slide"], of["cell"])]
    return pd.DataFrame([tables.data(slide[0], found) | _framed(name, slide, cell) for name, slide, cell in pairs])


def _framed(tested: str, slide: list[Record], cell: list[Record]) -> dict:
    """Return the row of a pair: what was tested on the whole image, and what was on the window."""
    one, two = slide[0], cell[0]
    unit, whole, window = one.test["interval95"]["unit"], _answered(slide), _answered(cell)
    if not whole.index.equals(window.index):
        raise records.RecordError(f"{one.name} and {two.name} were tested on different images. Run one of them again.")
    right, photos = {"cell": window["right"], "slide": whole["right"]}, whole["photo"]
    (test,) = comparison.compare(right, photos)
    ends = ", ".join(f"{100 * end:+.1f}" for end in paired_interval(right["cell"], right["slide"], photos))
    return {
        "network": one.model,
        "recipe": tables.label(one, "split", "frame", "image_size"),
        "seed": one.seed,
        "tested on": tested,
        "units": f"{photos.nunique()} {metrics.UNITS[unit]}",
        "equal in": equal_in(one, two),
        "size": f"{tables.size(one)} / {tables.size(two)}",
        "pixels": " / ".join(f"{np.prod(record.image_size):,}" for record in (one, two)),
        "million multiply-adds": " / ".join(f"{record.multiply_adds / 1e6:.0f}" for record in (one, two)),
        "train, last": " / ".join(
            f"{100 * np.mean([r.history['accuracy'][-1] for r in some]):.1f}" for some in (slide, cell)
        ),
        "accuracy": " / ".join(tables.with_interval(tables.together(some)) for some in (slide, cell)),
        "difference": f"{100 * test['difference']:+.1f} [{ends}]",
        "p": f"{test['p']:.2g}",
    }


def _answered(found: list[Record]) -> pd.DataFrame:
    """Return whether each test image was classified correctly, and its photograph, by path."""
    answers = tables.pooled(found)
    right = answers["probabilities"].argmax(1) == answers["labels"]
    return pd.DataFrame({"right": right, "photo": answers["photos"]}, answers["paths"]).sort_index()


def unsolved(found: list[Record]) -> pd.DataFrame:
    """Lay out the photographs of which at most one run in ten, of those on the same test images, has half the copies.

    Sets whose photographs are unknown are left out, as are runs that are not told from guessing.
    """
    groups: dict[tuple, list[list[Record]]] = {}
    for tested, runs in tables.tested(found):
        whole = tables.together(runs)
        if whole["interval95"]["unit"] == "photo" and not metrics.guessing(whole):
            same = tested, runs[0].dataset["fingerprint"], frozenset(tables.pooled(runs)["paths"])
            groups.setdefault(same, []).append(runs)
    rows = []
    for (tested, _, paths), sets in groups.items():
        if len(sets) == 1:
            continue  # the errors of one run are in its notebook
        classes = [name.capitalize() for name in sets[0][0].dataset["classes"]]
        predicted = comparison.chosen({runs[0].name: tables.pooled(runs) for runs in sets})
        for row in comparison.hardest(predicted, classes, len(sets) // 10).to_dict("records"):
            right = {"right in": f"{row.pop('networks')} runs"}
            row |= {"correct": f"{100 * row['correct']:.0f}", "points": f"{100 * row['images'] / len(paths):.1f}"}
            rows.append({"tested on": tested, **tables.data(sets[0][0], found), **right, **row})
    return pd.DataFrame(rows).drop(columns="path", errors="ignore")


def equal_in(slide: Record, cell: Record) -> str:
    """Return what differs by 3 % at most: "pixels", "detail", which is pixels per micrometre, both, or "neither"."""
    detail = cell.image_size[0] / images.CELL / slide.image_size[0]
    ratios = {"pixels": np.prod(cell.image_size) / np.prod(slide.image_size), "detail": detail}
    return " and ".join(what for what, ratio in ratios.items() if abs(ratio - 1) <= 0.03) or "neither"


def paired_interval(a: pd.Series, b: pd.Series, photos: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of a minus that of b on the same images, photographs as units.

    The difference is a ratio of two sums over photographs: of what a gains, and of copies.
    One photograph of mean size is added that gains or loses all, so that few that differ do not give a width near 0.
    Source: Cochran 1977, Sampling Techniques, chapter 6; Student's t for as many photographs.

    Args:
        a, b: whether each image was classified correctly (N,), in one order.
        photos: the photograph of each image (N,).
    """
    gains = (a.astype(int) - b.astype(int)).groupby(photos).agg(["sum", "size"])
    count, total = len(gains), len(photos)
    difference = gains["sum"].sum() / total
    rest = gains["sum"] - difference * gains["size"]
    free = max(count - 1, 1)
    half = stats.t.ppf(0.975, free) * np.sqrt(count / free * ((rest**2).sum() + (total / count) ** 2)) / total
    return max(difference - half, -1.0), min(difference + half, 1.0)


def same_images(found: list[Record]) -> str:
    """Say what copies are worth: two networks on the validation images that both splits have in common."""
    one, two = next((one, two) for one, two in by_image(found) if one.model == "cnn" and two)
    answers = one.answers, two.answers
    both = [kept["validation_paths"] for kept in answers]
    paths, *rows = np.intersect1d(both[0], both[1], return_indices=True)
    correct = [
        (kept["validation_probabilities"].argmax(1) == kept["validation_labels"])[row]
        for kept, row in zip(answers, rows, strict=True)
    ]
    photos = answers[0]["validation_photos"][rows[0]]
    (test,) = comparison.compare(dict(zip("ab", correct, strict=True)), photos)
    met, new = (f"{100 * values.mean():.1f} %" for values in correct)
    return (
        f"{len(paths)} images of {len(set(photos))} photographs are in both validation sets. The one trained on "
        f"copies of these classifies {met} correctly, the other {new} (p = {test['p']:.1g}, by "
        "photograph)."
    )


def nine(found: list[Record]) -> str:
    """Say what the paper's protocol gives for its networks, of those in the picture."""
    runs = with_rows([one for one, *_ in pictured(found)])
    ours = {part: 100 * np.array([getattr(r, part)["accuracy"] for r, _ in runs]) for part in tables.PARTS}
    papers = 100 * np.mean([row["val_accuracy"] - row["test_accuracy"] for _, row in runs])
    ends = {record.model: record.test["interval95"]["accuracy"] for record, _ in runs}
    inside = [r.model for r, row in runs if ends[r.model][0] <= row["test_accuracy"] <= ends[r.model][1]]
    low, high = ({part: f"{end(ours[part]):.1f}" for part in ours} for end in (np.min, np.max))
    return (
        f"By the paper's protocol {len(runs)} networks have {low['validation']} to {high['validation']} % on "
        f"validation and {low['test']} to {high['test']} % on test. Validation minus test is "
        f"{np.mean(ours['validation'] - ours['test']):+.1f} points on average, and {papers:+.1f} in the paper. The "
        f"paper's test accuracy is inside our interval for {len(inside)} of them: {', '.join(inside) or 'none'}."
    )


def by_photograph(found: list[Record]) -> str:
    """Say what validation less test is by photograph, on average over those networks of the picture that have it."""
    pairs = [(one, two) for one, two, _ in pictured(found) if two]
    gaps = 100 * np.mean([[r.validation["accuracy"] - r.test["accuracy"] for r in pair] for pair in pairs], axis=0)
    return (
        f"With TRAIN split by photograph, validation minus test is {gaps[1]:+.1f} points "
        f"(mean of {', '.join(two.model for _, two in pairs)}); by image {gaps[0]:+.1f}."
    )


def grouped(found: list[Record]) -> str:
    """Say what our own protocol gives: on test with seed 0 beside the paper's rows, over seeds, over folds of all."""
    every = [(record, row) for record, row in with_rows(found, "grouped") if by_grouped(record)]
    runs = [(record, row) for record, row in every if record.seed == 0]
    more: dict[str, list[str]] = {}
    for row in tables.seeds([record for record, _ in every]).to_dict("records"):
        more.setdefault(f" Mean ± SD over the seeds {row['seeds']}: ", []).append(f"{row['model']} {row['test']}")
    sets = tables.folds([record for record in found if record.dataset["name"] == cards.ARCHIVE.name])
    for row in sets.to_dict("records"):
        if (row["recipe"], row["folds"], row["seed"]) == ("grouped", "5 of all", 0):
            start = f" Five folds of all {row['photographs']} photographs: "
            more.setdefault(start, []).append(f"{row['model']} {row['accuracy']}")
    accuracies = [100 * record.test["accuracy"] for record, _ in runs]
    below = [record.model for record, row in runs if record.test["accuracy"] < row["test_accuracy"]]
    ends = [(record.test["interval95"]["accuracy"], row["test_accuracy"]) for record, row in runs]
    inside = sum(low <= paper <= high for (low, high), paper in ends)
    proof = f" The intervals of {inside} hold the paper's, so this is no proof." * bool(inside)
    over = "".join(f"{start}{', '.join(told)}." for start, told in more.items())
    return (
        f"By our own protocol, `grouped`, {len(runs)} networks have {min(accuracies):.1f} to "
        f"{max(accuracies):.1f} % on test with seed 0. At or above the paper's accuracy: "
        f"{len(runs) - len(below)}; below it: {', '.join(below) or 'none'}.{proof}{over}"
    )
