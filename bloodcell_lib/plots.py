"""Figures. Each function returns a Matplotlib figure; `show` displays it with a text for who cannot see it."""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind")
PART_COLOURS = {"train": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[2]}
BOX_COLOURS = {"WBC": PALETTE[0], "RBC": PALETTE[3], "Platelets": PALETTE[2]}


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
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.25 * rows), squeeze=False,
                                layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=10)
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
            axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=1.6,
                                         edgecolor=BOX_COLOURS.get(what, "black")))
    found = {what for _, _, marked in photographs for what, *_ in marked}
    figure.legend(handles=[plt.Line2D([], [], color=BOX_COLOURS.get(what, "black"), label=what)
                           for what in sorted(found)], loc="outside lower center", ncols=3, frameon=False)
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
                sns.kdeplot(channel[labels == label], ax=axis, color=colour, label=classes[label].capitalize(),
                            warn_singular=False)
            axis.set(title=f"{name}, {what}", xlabel="image mean", ylabel="density")
            axis.title.set_fontsize(9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(classes),
                  frameon=False)
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
                axis.plot(epochs, history[prefix + what], style, marker="o", markersize=3, label=part,
                          color=PART_COLOURS[part])
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
    figure, axes = plt.subplots(1, len(matrices), figsize=(4.6 * len(matrices), 3.9), layout="constrained",
                                squeeze=False)
    short = [name.capitalize() for name in classes]
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        matrix = np.asarray(matrix)
        sns.heatmap(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), annot=matrix, fmt="d", cmap="Blues", vmin=0,
                    vmax=1, cbar=False, square=True, linewidths=1, xticklabels=short, yticklabels=short, ax=axis)
        axis.set(title=title, xlabel="predicted", ylabel="true")
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return figure
