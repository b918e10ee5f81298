"""Figures. Each function returns a Matplotlib figure; `show` displays it with an alternative text."""

import html
from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bloodcell_lib.dataset import Part

# For 20 classes, from seaborn's and Matplotlib's palettes. Each has a contrast of at least 3 : 1 with white, and a
# colour-blind reader can tell the first five apart.
PALETTE = sns.color_palette(
    "#0173b2 #d55e00 #029e73 #592f0d #7a21dd #717581 #964a8b #3c3c3c #591e71 #a65628 "
    "#578dff #a96b59 #832db6 #8c8c8c #023eff #bd1f01 #12711c #8c564b #656364 #006374".split()
)
WIDE, DPI = 24, 110  # inches of the widest figure, dots per inch of what is shown
PARTS = {"train": "", "validation": "val_", "test": "test_"}  # by the names that a history has
PART_COLOURS = dict(zip(PARTS, PALETTE, strict=False))
STEPS = ("convolution", "depthwise", "activation", "pooling", "join", "data", "normalisation")
STEP_COLOURS = dict(zip(STEPS, PALETTE, strict=False))


def show(figure: Figure, alt: str, display: Callable[..., object] | None = None) -> None:
    """Display a figure in a notebook with an alternative text, and close it.

    As HTML, because JupyterLab and nbconvert drop the alternative text of a plain picture. On a narrow screen the
    figure keeps a width at which its text can be read, and scrolls.

    Args:
        figure: is closed.
        alt: what it shows, in words.
        display: IPython's own, or a method of a `DisplayHandle`, which draws in the place of another figure.
    """
    from IPython import display as ipython
    from IPython.core.pylabtools import print_figure

    source = f"data:image/png;base64,{print_figure(figure, bbox_inches=None, base64=True, dpi=DPI)}"
    plt.close(figure)
    width = f"max-width: 100%; min-width: {min(640, round(DPI * figure.get_figwidth()))}px"
    tag = f'<div style="overflow-x: auto"><img alt="{html.escape(alt)}" src="{source}" style="{width}"></div>'
    (display or ipython.display)({"text/html": tag, "text/plain": alt}, raw=True)


def grid(images: np.ndarray | list[np.ndarray], titles: list[str], columns: int = 4) -> Figure:
    """Draw images in rows, a title above each. Source: the paper, figures 5 and 6.

    Args:
        images: uint8 (N, height, width, 3), or a list of such images of any sizes.
        titles: N lines.
        columns: images per row.

    Raises:
        ValueError: there are not as many titles as images.
    """
    if len(images) != len(titles):
        raise ValueError(f"{len(images)} images and {len(titles)} titles: give one title per image.")
    rows, scale = -(-len(images) // columns), min(1, WIDE / 2.6 / columns)
    figure = plt.figure(figsize=(2.6 * scale * columns, 2.25 * scale * rows), layout="constrained")
    for place, (image, title) in enumerate(zip(images, titles, strict=True), start=1):
        axis = figure.add_subplot(rows, columns, place)
        axis.axis("off")
        axis.imshow(image)
        axis.set_title(title, fontsize=max(5, 10 * scale), parse_math=False)
    return figure


def examples(part: Part, classes: tuple[str, ...]) -> Figure:
    """Draw two images of each class that the part has, the first and the last.

    Args:
        part: of a dataset.
        classes: names by label.
    """
    rows = np.transpose([np.flatnonzero(part.labels == label)[[0, -1]] for label in np.unique(part.labels)]).ravel()
    return grid(part.images[rows], [classes[label].capitalize() for label in part.labels[rows]], len(rows) // 2)


def diagram(steps: dict[str, tuple], arrows: list[tuple], size: tuple[float, float] = (11, 3)) -> Figure:
    """Draw a block of a network: its steps as boxes, what flows between them as arrows.

    Args:
        steps: name to (x, y, text, kind): the centre, in units of the caller's choice, and one of `STEP_COLOURS`.
        arrows: (from, to) or (from, to, text on the arrow), names of steps.
        size: width and height of the figure in inches.
    """
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.axis("off")
    patches = {}
    for name, (x, y, text, kind) in steps.items():
        pale = [1 - 0.25 * (1 - channel) for channel in STEP_COLOURS[kind]]
        box = {"boxstyle": "round,pad=0.5", "facecolor": pale, "edgecolor": STEP_COLOURS[kind]}
        patches[name] = axis.text(x, y, text, fontsize=9, zorder=3, bbox=box, ha="center", va="center").get_bbox_patch()
    for start, end, *text in arrows:
        tail, head = (np.array(steps[name][:2], float) for name in (start, end))
        line = {"arrowstyle": "-|>", "color": "grey", "patchA": patches[start], "patchB": patches[end]}
        axis.annotate("", tuple(head), tuple(tail), zorder=2, arrowprops=line | {"shrinkA": 1, "shrinkB": 1})
        if text:
            box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            axis.text(*(tail + head) / 2, *text, fontsize=8, zorder=4, bbox=box, ha="center", va="center")
    x, y = np.array([step[:2] for step in steps.values()], float).T
    axis.set(xlim=(x.min() - 0.7, x.max() + 0.7), ylim=(y.min() - 0.5, y.max() + 0.5))
    return figure


def network(stages: list) -> Figure:
    """Draw a whole network: its feature maps as they shrink and deepen, and each stage's share of weights and work.

    The height of a box is the square root of the map's height; its width grows with the logarithm of the channels. A
    shape is written where it changes.

    Args:
        stages: rows of `models.cost.stages`.
    """
    crowded, shapes = len(stages) >= 9, [stage.shape for stage in stages]
    figure, (axis, below) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, layout="constrained", height_ratios=(3, 2))
    heights = np.array([np.sqrt(shape[0] / shapes[0][0]) if len(shape) == 3 else 0.04 for shape in shapes])
    widths = [0.12 + 0.07 * np.log2(shape[-1]) for shape in shapes]
    colours = [PALETTE[0 if len(shape) == 3 else 4] for shape in shapes]
    maps = axis.bar(range(len(stages)), heights, widths, -heights / 2, color=colours)
    labels = pd.Series(["×".join(map(str, shape[:-1])) + f"\n{shape[-1]}" for shape in shapes])
    axis.bar_label(maps, labels.where(labels != labels.shift(), ""), padding=4, fontsize=9)
    axis.set(ylim=(-0.55, 0.95))
    axis.axis("off")
    shares = (
        pd.DataFrame(stages, columns=["stage", "shape", "parameters", "multiply-adds"]).set_index("stage").iloc[:, 1:]
    )
    (100 * shares / shares.sum()).plot.bar(ax=below, width=0.76, color=PALETTE[1:3], xlabel="", ylabel="share in %")
    below.set_xticks(range(len(stages)), shares.index, rotation=45 * crowded, ha="right" if crowded else "center")
    below.legend(frameon=False)
    sns.despine(ax=below)
    return figure


def overlay_heatmap(
    images: np.ndarray | list[np.ndarray],
    maps: np.ndarray | list[np.ndarray],
    titles: list[str],
    ends: tuple[float, float],
    label: str,
    colours: str = "RdBu_r",
    boxes: Iterable[tuple[float, ...]] = (),
    columns: int = 4,
) -> Figure:
    """Draw images in grey under heatmaps, all on one scale.

    Args:
        images: uint8 (N, height, width, 3).
        maps: (N, rows, columns) of any size; under a map of NaN an image keeps its colours.
        titles: N lines.
        ends: the values at the two ends of the scale.
        label: what the scale shows.
        colours: name of a Matplotlib colour map.
        boxes: left, top, right and bottom in pixels, drawn as a line around a part of each image.
        columns: images per row.
    """
    grey = [np.broadcast_to(image.mean(-1, keepdims=True), image.shape).astype(np.uint8) for image in images]
    below = [image if np.isnan(heat).all() else pale for image, pale, heat in zip(images, grey, maps, strict=True)]
    figure = grid(below, titles, columns)
    for ax, heat in zip(figure.axes, maps, strict=True):
        ax.imshow(heat, colours, alpha=0.6, interpolation="bilinear", extent=ax.images[0].get_extent()).set_clim(*ends)
    for axis, (left, top, right, bottom) in zip(figure.axes, boxes, strict=False):
        axis.add_patch(plt.Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, linewidth=1.5))
    figure.colorbar(figure.axes[0].images[1], ax=figure.axes, label=label, shrink=0.8, aspect=30)
    figure.draw_without_rendering()  # the first drawing sets the ticks' labels, for which the layout makes room
    return figure


def curves(history: dict[str, list[float]], best_epoch: int | None = None, epochs: int | None = None) -> Figure:
    """Draw loss and accuracy of train, validation and test by epoch. Source: the paper, figures 8 and 9.

    Args:
        history: a list with one value per epoch for loss, accuracy, val_loss and so on.
        best_epoch: counted from 1, marked where given.
        epochs: of the axis, with those still to come; None is those of the history.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    done = np.arange(1, len(history["loss"]) + 1)
    for axis, (what, top) in zip(axes, {"loss": None, "accuracy": 1.02}.items(), strict=True):
        for (part, prefix), style in zip(PARTS.items(), ("o-", "o--", "o:"), strict=True):
            if prefix + what in history:
                axis.plot(done, history[prefix + what], style, markersize=3, label=part, color=PART_COLOURS[part])
        if best_epoch:
            axis.axvline(best_epoch, color="grey", linewidth=1, label="best on validation")
        axis.set(xlabel="epoch", ylabel=what, xlim=(0.5, (epochs or len(done)) + 0.5), ylim=(0, top))
        axis.xaxis.get_major_locator().set_params(integer=True)
        sns.despine(ax=axis)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: tuple[str, ...]) -> Figure:
    """Draw confusion matrices side by side: counts, shaded by the share of the true class.

    Source: the paper, figures 8 and 9.

    Args:
        matrices: title to confusion matrix (classes, classes), rows true.
        classes: names by label.
    """
    side = max(1, len(classes) / 8)
    size = (4.6 * side * len(matrices), 3.9 * side)
    figure, axes = plt.subplots(1, len(matrices), figsize=size, layout="constrained", squeeze=False)
    pale = {"cmap": "Blues", "vmin": 0, "vmax": 1.5, "annot_kws": {"color": "black"}}  # so that black can be read
    for axis, (title, counts) in zip(axes.flat, matrices.items(), strict=True):
        matrix = pd.DataFrame(counts, *2 * [[name.capitalize() for name in classes]])
        shares = matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0)
        sns.heatmap(shares, annot=matrix, fmt="d", cbar=False, square=True, linewidths=1, ax=axis, **pale)
        axis.set(title=title, xlabel="predicted", ylabel="true")
        axis.tick_params(axis="x", rotation=30 if side == 1 else 90)
        axis.tick_params(axis="y", rotation=0)
    return figure
