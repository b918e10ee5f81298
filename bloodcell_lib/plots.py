"""Figures. Each function returns a Matplotlib figure; `show` displays it with a text for who cannot see it."""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from bloodcell_lib.dataset import Part

PALETTE = sns.color_palette("colorblind")
PART_COLOURS = {"train": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[2]}
BOX_COLOURS = {"WBC": PALETTE[0], "RBC": PALETTE[3], "Platelets": PALETTE[2]}
STEP_COLOURS = {
    "data": PALETTE[7],
    "convolution": PALETTE[0],
    "normalisation": PALETTE[1],
    "activation": PALETTE[2],
    "pooling": PALETTE[3],
    "depthwise": PALETTE[9],
    "join": PALETTE[4],
}


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with an alternative text, and close it.

    As HTML, because JupyterLab and nbconvert drop the alternative text of a plain picture.
    """
    from IPython.display import display

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
    picture = base64.b64encode(file.getvalue()).decode()
    tag = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}" style="max-width: 100%">'
    display({"text/html": tag, "text/plain": alt}, raw=True)


def grid(images: np.ndarray, titles: list[str], columns: int = 4) -> Figure:
    """Draw images in rows, a title above each. Source: the paper, figures 5 and 6.

    Args:
        images: uint8 (N, height, width, 3), or a list of such images of any sizes.
        titles: N lines.
        columns: images a row.
    """
    if len(images) != len(titles):
        raise ValueError(f"{len(images)} images and {len(titles)} titles: give one title an image.")
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.6 * columns, 2.25 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=10)
    return figure


def examples(part: Part, classes: tuple[str, ...]) -> Figure:
    """Draw two images of each class, the first and the last.

    Args:
        part: of a dataset.
        classes: names by label.
    """
    rows = np.transpose([np.flatnonzero(part.labels == label)[[0, -1]] for label in range(len(classes))]).ravel()
    return grid(part.images[rows], [classes[label].capitalize() for label in part.labels[rows]], len(classes))


def diagram(steps: dict[str, tuple], arrows: list[tuple], size: tuple[float, float] = (11, 3)) -> Figure:
    """Draw a block of a network: its steps as boxes, what flows between them as arrows.

    Args:
        steps: name to (x, y, text, kind): the centre, in units of the caller's choice, and one of `STEP_COLOURS`.
        arrows: (from, to) or (from, to, text beside the arrow), names of steps.
        size: width and height of the figure in inches.
    """
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.axis("off")
    patches = {}
    for name, (x, y, text, kind) in steps.items():
        colour = STEP_COLOURS[kind]
        patches[name] = axis.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.5", "facecolor": [1 - 0.25 * (1 - c) for c in colour], "edgecolor": colour},
        )
    for start, end, *text in arrows:
        tail, head = (np.array(steps[name][:2], float) for name in (start, end))
        axis.annotate(
            "",
            head,
            tail,
            zorder=2,
            arrowprops={
                "arrowstyle": "-|>",
                "color": "grey",
                "shrinkA": 1,
                "shrinkB": 1,
                "patchA": patches[start].get_bbox_patch(),
                "patchB": patches[end].get_bbox_patch(),
            },
        )
        axis.text(
            *(tail + head) / 2,
            *text or [""],
            ha="center",
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"} if text else None,
        )
    x, y = np.array([step[:2] for step in steps.values()], float).T
    axis.set(xlim=(x.min() - 0.7, x.max() + 0.7), ylim=(y.min() - 0.5, y.max() + 0.5))
    return figure


def network(stages: list) -> Figure:
    """Draw a whole network: its maps as they shrink and deepen, and each stage's share of weights and work.

    A box is as tall as the root of the map's height, and widens with the logarithm of its channels.

    Args:
        stages: rows of `models.cost.stages`.
    """
    names, shapes, *counts = zip(*stages, strict=True)
    figure, (axis, below) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, layout="constrained", height_ratios=(3, 2))
    places = np.arange(len(names))
    tallest = shapes[0][0]
    for place, shape in zip(places, shapes, strict=True):
        height, channels = np.sqrt(shape[0] / tallest) if len(shape) == 3 else 0.04, shape[-1]
        wide = 0.12 + 0.07 * np.log2(channels)
        axis.add_patch(
            plt.Rectangle(
                (place - wide / 2, -height / 2),
                wide,
                height,
                alpha=0.75,
                color=PALETTE[0] if len(shape) == 3 else PALETTE[4],
            )
        )
        axis.text(
            place,
            height / 2 + 0.04,
            "×".join(map(str, shape)),
            ha="center",
            va="bottom",
            fontsize=8,
            rotation=0 if len(names) < 9 else 60,
        )
    axis.set(ylim=(-0.55, 0.95))
    axis.axis("off")
    for shift, what, values, colour in ((-0.2, "weights", counts[0], 1), (0.2, "multiply-adds", counts[1], 2)):
        below.bar(places + shift, 100 * np.array(values) / sum(values), 0.38, label=what, color=PALETTE[colour])
    below.set(ylabel="share in %", xlim=(-0.7, len(names) - 0.3))
    below.set_xticks(places, names, rotation=0 if len(names) < 9 else 45, ha="center" if len(names) < 9 else "right")
    below.legend(frameon=False)
    sns.despine(ax=below)
    return figure


def veiled(images: np.ndarray, maps: np.ndarray, titles: list[str], columns: int = 4) -> Figure:
    """Draw images that are clear where a map is high and under a grey veil where it is low.

    Args:
        images: uint8 (N, height, width, 3).
        maps: (N, rows, columns) of any size and range, each scaled by its own lowest and highest value; a map of
            numbers that are none leaves its image as it is.
        titles: N lines.
        columns: images a row.
    """
    figure = grid(images, titles, columns)
    height, width = images[0].shape[:2]
    for axis, heat in zip(figure.axes, maps, strict=False):
        veil = np.nan_to_num(0.85 * (heat.max() - heat) / max(np.ptp(heat), 1e-9))
        axis.imshow(
            np.full_like(veil, 0.45),
            cmap="gray",
            vmin=0,
            vmax=1,
            alpha=veil,
            interpolation="bilinear",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
    return figure


def boxes(photographs: list, columns: int = 2) -> Figure:
    """Draw photographs with the boxes around white cells, red cells and platelets. Source: the paper, figure 7.

    Args:
        photographs: (name, image, boxes) as `dataset.photographs` returns them.
        columns: photographs a row.
    """
    figure = grid([image for _, image, _ in photographs], [name for name, _, _ in photographs], columns)
    figure.set_size_inches(4.8 * columns, 3.9 * -(-len(photographs) // columns))
    for axis, (_, _, found) in zip(figure.axes, photographs, strict=False):
        for what, left, top, right, bottom in found:
            axis.add_patch(
                plt.Rectangle(
                    (left, top),
                    right - left,
                    bottom - top,
                    fill=False,
                    linewidth=1.6,
                    edgecolor=BOX_COLOURS.get(what, "black"),
                )
            )
    found = {what for _, _, marked in photographs for what, *_ in marked}
    figure.legend(
        handles=[plt.Line2D([], [], color=BOX_COLOURS.get(what, "black"), label=what) for what in sorted(found)],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def distributions(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Figure:
    """Draw the spread of mean red, green and blue for each class, before and after normalisation.

    Source: the paper, section 3.1, "normalisation distribution testing". Normalised: each image less
    its own mean, divided by its own standard deviation, over pixels and channels.

    Args:
        images: uint8 (N, height, width, 3).
        labels: class of each image (N,).
        classes: names by label.
    """
    means = np.array([image.mean((0, 1)) for image in images])
    spread = np.array([max(image.std(), 1e-6) for image in images])  # image by image: all at once takes gigabytes
    scaled = (means - means.mean(1, keepdims=True)) / spread[:, None]
    figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained", sharey="row")
    for row, values, what in ((axes[0], means, "pixels 0 to 255"), (axes[1], scaled, "standardised")):
        for axis, channel, name in zip(row, values.T, ("red", "green", "blue"), strict=True):
            for label, colour in zip(range(len(classes)), PALETTE, strict=False):
                sns.kdeplot(
                    channel[labels == label],
                    ax=axis,
                    color=colour,
                    label=classes[label].capitalize(),
                    warn_singular=False,
                )
            axis.set(title=f"{name}, {what}", xlabel="image mean", ylabel="density")
            axis.title.set_fontsize(9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(classes), frameon=False
    )
    return figure


def curves(history: dict[str, list[float]], best_epoch: int | None = None) -> Figure:
    """Draw loss and accuracy of train, validation and test by epoch. Source: the paper, figures 8 and 9.

    Args:
        history: a list of one value an epoch for loss, accuracy, val_loss and so on.
        best_epoch: counted from 1, marked where given.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for part, prefix, style in (("train", "", "-"), ("validation", "val_", "--"), ("test", "test_", ":")):
            if prefix + what in history:
                axis.plot(
                    epochs,
                    history[prefix + what],
                    style,
                    marker="o",
                    markersize=3,
                    label=part,
                    color=PART_COLOURS[part],
                )
        if best_epoch:
            axis.axvline(best_epoch, color="grey", linewidth=1, label="best on validation")
        axis.set(xlabel="epoch", ylabel=what)
        axis.xaxis.get_major_locator().set_params(integer=True)
        sns.despine(ax=axis)
    axes[1].set_ylim(0, 1.02)
    axes[0].set_ylim(bottom=0)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def confusions(matrices: dict[str, np.ndarray], classes: tuple[str, ...]) -> Figure:
    """Draw confusion matrices side by side: counts, shaded by the share of the true class.

    Source: the paper, figures 8 and 9.

    Args:
        matrices: title to confusion matrix (classes, classes), rows true.
        classes: names by label.
    """
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(4.6 * len(matrices), 3.9), layout="constrained", squeeze=False
    )
    short = [name.capitalize() for name in classes]
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        matrix = np.asarray(matrix)
        sns.heatmap(
            matrix / np.maximum(matrix.sum(1, keepdims=True), 1),
            annot=matrix,
            fmt="d",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            square=True,
            linewidths=1,
            xticklabels=short,
            yticklabels=short,
            ax=axis,
        )
        axis.set(title=title, xlabel="predicted", ylabel="true")
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return figure
