"""Cards of the known data sets: what each one is, where it is found, and what lessons say about it."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bloodcell_lib import files, sample


@dataclass(frozen=True)
class DataCard:
    """What a data set is, how it is recognised, and where it is found when no path is given.

    A set is recognised by its classes and counts, and, where the card has `tables`, by the image keys (PART/CLASS/file
    or CLASS/file) that its provenance.csv lists. A set of which most keys are listed, but not all, is refused as
    damaged.
    """

    name: str  # loads the set: dataset.load(name)
    title: str
    classes: tuple[str, ...]  # in the order of the labels
    counts: dict[str, tuple[int, ...]]  # images per class in TRAIN, TEST, TEST_SIMPLE, or in "" if there are no parts
    about: str  # what the images are, for readers of a lesson
    comparable: str  # how results compare with the paper's
    licence: str
    size: tuple[int, int] | None = None  # height and width that every image must have, in pixels, as RGB
    brings_table: bool = False  # its provenance.csv lies beside its images
    tables: Path | None = None  # otherwise the folder of its provenance.csv and same_cell.csv
    places: tuple[str | Path, ...] = ()  # zips and folders, absolute or below data/
    kaggle: str = ""  # user/set/versions/N
    draw: Callable[[Path], None] | None = None  # writes the set into a new folder of the cache
    version: str = "1"  # of `draw`

    def listed(self, keys: set[str]) -> int | None:
        """Return how many image keys the card's table lists, or None if the card has no table."""
        return len(keys & _keys(self.tables / "provenance.csv")) if self.tables else None

    def differences(self, counts: Counter[tuple[str, str]]) -> list[str]:
        """Return what differs from `counts`, images per (part, class), in the parts that were found."""
        parts = {part for part, _ in counts}
        expected = {(p, c): n for p in parts for c, n in zip(self.classes, self.counts.get(p, ()), strict=False)}
        differ = sorted(what for what in {*expected, *counts} if expected.get(what, 0) != counts[what])
        return [f"{' '.join(what)}: {expected.get(what, 0)} expected, {counts[what]} found" for what in differ]


@cache
def _keys(table: Path) -> frozenset[str]:
    if not table.exists():
        return frozenset()
    with open(table, encoding="utf-8-sig", newline="") as file:
        return frozenset(f"{row['split']}/{row['class']}/{row['file']}" for row in csv.DictReader(file))


_CARDS: dict[str, DataCard] = {}


def register(card: DataCard) -> DataCard:
    """Add a card to the registry and return it.

    Raises:
        ValueError: the name is taken, or a part does not have one count per class.
    """
    if card.name in _CARDS:
        raise ValueError(f"a data set named {card.name!r} is already registered: choose another name.")
    if any(len(row) != len(card.classes) for row in card.counts.values()):
        raise ValueError(f"the card of {card.name!r} needs one count per class in every part, not {card.counts}.")
    _CARDS[card.name] = card
    return card


def names() -> list[str]:
    """Return the names of the known sets."""
    return list(_CARDS)


def get(name: str) -> DataCard:
    """Return the card of a known set.

    Raises:
        ValueError: no set has this name.
    """
    if name not in _CARDS:
        raise ValueError(f"no data set is named {name!r}. Choose one of: {', '.join(names())}.")
    return _CARDS[name]


ARCHIVE = register(
    DataCard(
        name="blood-cells",
        title="Blood Cell Images",
        classes=("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"),
        counts={"TRAIN": (2497, 2483, 2478, 2499), "TEST": (623, 620, 620, 624), "TEST_SIMPLE": (13, 6, 4, 48)},
        about="This is the public archive *Blood Cell Images*. Each image is a copy of a photograph of stained blood; "
        "the copy was flipped, rotated, shifted and sheared.",
        comparable="The paper used the same set of images. But it states neither its batch size nor the details of "
        "its networks, so a difference of a few points has many possible causes.",
        licence="BCCD photographs: MIT. Augmented copies: no licence found, so they are not redistributed here.",
        size=(240, 320),
        tables=files.shipped("data"),
        places=("blood-cells.zip", "archive.zip", "dataset2-master"),
        kaggle="paultimothymooney/blood-cells/versions/6",
    )
)

SAMPLE = register(
    DataCard(
        name="sample",
        title="Drawn blood smears",
        classes=sample.CLASSES,
        counts=sample.COUNTS,
        about="This is the sample. Its images are **drawn by a program**, not photographed. They show that the lesson "
        "works. Results on them say nothing about blood.",
        comparable="The paper measured on photographs, this run on drawings. Side by side, the numbers show how to "
        "read such a table. They do not show which network is better.",
        licence="MIT, as the program that draws it",
        size=(240, 320),
        brings_table=True,
        draw=sample.write,
        version=hashlib.sha256(Path(sample.__file__).read_bytes()).hexdigest()[:12],
    )
)
