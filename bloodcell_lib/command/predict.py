"""Images of one's own, shown to a trained network."""

import glob
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bloodcell_lib import cards, images, layouts, metrics, models, plots, sources
from bloodcell_lib.images import DatasetError
from bloodcell_lib.models.saved import Saved

BATCH = 64
SHOWN = 24  # images in a figure at most
LISTED = 50  # images listed on a terminal at most
UNUSUAL = "unlike training"
LISTS = ".zip", ".csv", ".tsv", ".npz"  # files that hold or name images
OWN = "image", "class", "probability", "distance", UNUSUAL  # columns of every answer


@dataclass(frozen=True)
class Answers:
    """What a network says of images: one row per image in `table`, and the pixels of the first `SHOWN`.

    The table has the columns `OWN`, and one per class, called as `column` says. `refused` says what is
    wrong with each image that could not be read.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    refused: list[str]


def find(wanted: Iterable[str]) -> tuple[dict[str, Callable[[], bytes]], dict[str, list[str]]]:
    """Find the images that are meant: files, folders, zips, tables, or patterns such as 'cells/*.png'.

    Returns:
        How each image is read, by its place, once also where it is meant twice; and the paths of all other files, by
            what they are.

    Raises:
        ValueError: a name or pattern fits no file, or nothing that was found is an image.
    """
    found: dict[Path, tuple[str, Callable[[], bytes]]] = {}
    unused: dict[str, list[str]] = {}

    def add(place: Path, read: Callable[[], bytes]) -> None:
        found.setdefault(place.resolve(), (str(place), read))

    for want in map(os.path.expanduser, wanted):
        places = [want] if os.path.exists(want) else sorted(glob.glob(want, recursive=True))
        if not places:
            raise ValueError(f"{want}: no such file or folder, and no file fits this pattern. Check the spelling.")
        for place in map(Path, places):
            if place.is_file() and place.suffix.lower() not in LISTS:
                add(place, place.read_bytes)
                continue
            source = sources.open_source(place)
            for path in sorted(source.files):
                if what := layouts.why_not_image(path):
                    unused.setdefault(what, []).append(path)
                else:
                    add(source.place(path), partial(source.read, path))
    if not found:
        raise ValueError(f"no image found. Not used: {layouts.told(unused)}.")
    return dict(found.values()), unused


def column(label: str) -> str:
    """Return the column of a class: its name, unless another column is called so."""
    return f"probability of {label}" if label in OWN else label


def ask(about: Saved, pixels: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return what a network says of images, as `Answers` has it.

    Args:
        about: the network.
        pixels: uint8 (N, height, width, 3), of the network's size and frame.
        names: of the images, N.
    """
    probabilities, features = about.with_features.predict(pixels, batch_size=BATCH, verbose=0)
    distance = about.typical.distance(features) if about.typical else np.full(len(pixels), np.nan)
    columns: dict[str, Any] = {
        "image": names,
        "class": [about.classes[n] for n in probabilities.argmax(1)],
        "probability": probabilities.max(1),
        **dict(zip(map(column, about.classes), probabilities.T, strict=True)),
        "distance": distance,
        UNUSUAL: distance > 1,
    }
    return pd.DataFrame(columns)


def ask_all(about: Saved, found: dict[str, Callable[[], bytes]]) -> Answers:
    """Ask a network about images as `find` found them."""
    size, frame = tuple(about.network.input_shape[1:3]), about.about["settings"].get("frame", "slide")
    tables: list[pd.DataFrame] = []
    shown: list[np.ndarray] = []
    refused: list[str] = []
    batch: dict[str, np.ndarray] = {}
    for place in tqdm(found, "Asking", unit=" images", mininterval=0.5, disable=None):
        try:
            batch[place] = images.read(found[place](), place, size, frame=frame)
        except (DatasetError, OSError) as error:
            refused.append(str(error))
        if batch and (len(batch) == BATCH or place == next(reversed(found))):
            pixels = np.array([*batch.values()])
            tables.append(ask(about, pixels, [*batch]))
            shown += [*pixels[: SHOWN - len(shown)]]
            batch = {}
    return Answers(pd.concat(tables) if tables else pd.DataFrame(), np.array(shown), refused)


def short(table: pd.DataFrame) -> pd.DataFrame:
    """Return what a terminal shows of the answers: image, class, probability in percent, and what is unusual."""
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(place)) for place in table["image"]])
    names = [os.path.relpath(place, folder) for place in table["image"]]
    percent = (100 * table["probability"]).map("{:.0f} %".format)
    note = np.where(table[UNUSUAL], UNUSUAL, "")
    return pd.DataFrame({f"in {folder}": names, "class": table["class"], "probability": percent, "note": note})


def worth(about: Saved) -> str:
    """Say what the answers of a network are worth: what its record says of new photographs, and of each class."""
    if "record" not in about.about:
        return "Its run was not evaluated, so nothing is known of its accuracy. Not for diagnosis."
    record = about.about["record"]
    test, ends, name = record["test"], record["test"]["interval95"], record["dataset"]["name"]
    accuracy, units = metrics.format_interval(test["accuracy"], ends["accuracy"]), metrics.UNITS[ends["unit"]]
    said = [
        f"Tested on {sum(map(sum, test['confusion'])):,} images of {name} ({ends['units']:,} {units}), it was right "
        f"for {accuracy} % of them; brackets: 95 % interval over {units}."
    ]
    shares = zip(about.classes, test["per_class"]["precision"], ends["per_class"]["precision"], strict=True)
    right = (f"{label} {metrics.format_interval(share, interval)}" for label, share, interval in shares)
    said.append(f"When it named a class, it was right in so many percent: {', '.join(right)}.")
    if metrics.guessing(test):
        said.append("So it is not better than guessing: its answers mean nothing.")
    if name == cards.SAMPLE.name:
        said.append("It was trained on drawings: its answers say nothing about blood.")
    said.append("Cells of other laboratories, stains and cameras were not tested. Not for diagnosis.")
    return "\n".join(said)


def unusual(about: Saved, table: pd.DataFrame) -> str:
    """Say how many images are unlike those of training, and how often that is a false alarm."""
    if about.typical is None:
        return "Whether an image is unlike those of training is not known: the run was not evaluated."
    many = int(table[UNUSUAL].sum())
    which, whose = ("This image is", "its") if len(table) == 1 else (f"{many:,} of {len(table):,} are", "their")
    alarms = f"The same is said of {100 * about.typical.false_alarms:.1f} % of the run's own test images."
    return f"{which} unlike the training images: do not trust {whose} class. {alarms}" * (many > 0)


def figure(about: Saved, answers: Answers) -> plots.Figure:
    """Draw each of the first `SHOWN` images as the network sees it, and beside it the evidence for its class."""
    table = answers.table[: len(answers.pixels)]
    maps = models.evidence(about.network, answers.pixels, np.array([*map(about.classes.index, table["class"])]))
    titles: list[str] = []
    for row in table[["image", "class", "probability", UNUSUAL]].itertuples(index=False):
        titles += Path(row.image).name[-28:], f"{row[1].lower()}, {row.probability:.0%}" + f"\n{UNUSUAL}" * row[-1]
    both = np.stack([np.full_like(maps, np.nan), maps], 1).reshape(-1, *maps.shape[1:])
    most, label = abs(maps).max(), "evidence against (−) and\nfor (+) the predicted class"
    pixels, columns = answers.pixels.repeat(2, 0), min(8, len(both))
    return plots.overlay_heatmap(pixels, both, titles, (-most, most), label, columns=columns)
