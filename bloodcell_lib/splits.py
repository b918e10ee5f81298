"""Splits: by image, as in the paper, or by photograph, once or in folds."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from bloodcell_lib.images import DatasetError, explaining, refuse, some


def fold_of(split: str) -> tuple[str, int, int] | None:
    """Return ("fold", K, N) of "fold:K/N", ("train", K, N) of "train:K/N", or None for "image" and "photo".

    Raises:
        DatasetError: the split is none of these, or K and N do not fit together.
    """
    if split in ("image", "photo"):
        return None
    found = re.fullmatch(r"(fold|train):([1-9]\d*)/([1-9]\d*)", split) if isinstance(split, str) else None
    if not found:
        choices = "'image', 'photo', 'fold:K/N' or 'train:K/N', such as 'fold:1/5'"
        raise DatasetError(f"split={split!r} is unknown. Choose {choices}.")
    pool, fold, folds = found[1], int(found[2]), int(found[3])
    reason = "one fold each to test on, to validate on and to train on"
    impossible = f"not possible. N must be at least 3, {reason}, and K must be from 1 to N"
    refuse(f"split={split!r}", {impossible: folds < 3 or fold > folds})
    return pool, fold, folds


def split(
    parts: np.ndarray, labels: np.ndarray, photos: np.ndarray, scenes: np.ndarray, name: str, seed: int
) -> dict[str, np.ndarray]:
    """Split the images of a set into training, validation and test.

    "image" holds out a fifth of TRAIN's images for validation, stratified by class; "photo" holds out a fifth of
    TRAIN's photographs, which share no scene with the others; "fold:K/N" tests on the K-th of N equal shares of all
    photographs and validates on the next one; "train:K/N" does so with TRAIN's photographs alone, so that a recipe can
    be chosen without a look at TEST. In a split by photograph, images of unknown photographs are not used for training
    and validation. "image" and "photo" use a VALIDATION part as it is.

    Args:
        parts: "TRAIN", "VALIDATION", "TEST" or "TEST_SIMPLE" for each image (N,), or "" for all.
        labels: class of each image (N,).
        photos: photograph of each image (N,), "" if unknown.
        scenes: a name shared by photographs of the same cell or field (N,).
        name: "image", "photo", "fold:K/N" or "train:K/N".
        seed: of the random draw.

    Returns:
        Rows of "train", "validation", "test" and "simple", in ascending order.

    Raises:
        DatasetError: a class has too few images or photographs; a set without TRAIN is split by "train:K/N"; or a
            split by photograph would keep one, or a cell, that the set has on two sides.
    """
    usable = (photos != "") | (name == "image")
    every = np.flatnonzero(usable & (parts != "TEST_SIMPLE"))
    rows = {"simple": np.flatnonzero(parts == "TEST_SIMPLE")}
    if found := fold_of(name):
        pool, fold, folds = found
        if pool == "train":
            every = every[np.isin(parts[every], ("TRAIN", "VALIDATION"))]
            refuse(f"split={name!r}", {"this set has no TRAIN folder. Use split='fold:K/N'": not len(every)})
        after = (_folds(labels[every], photos[every], scenes[every], folds, seed) - fold + 1) % folds
        return rows | {"train": every[after > 1], "validation": every[after == 1], "test": every[after == 0]}

    def divided(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        of = labels[rows], photos[rows], scenes[rows]
        out = _fifth(labels[rows], seed) if name == "image" else _folds(*of, 5, seed) == 0
        return rows[~out], rows[out]

    if (parts == "").all():  # no parts of its own: the same test set for every seed
        rest, test = divided(every, 0)
    else:
        rest, test = np.flatnonzero(usable & (parts == "TRAIN")), np.flatnonzero(parts == "TEST")
    own = np.flatnonzero(usable & (parts == "VALIDATION"))
    train, validation = (rest, own) if len(own) else divided(rest, seed)
    if name == "photo":
        sides = [set(photos[side]) - {""} for side in (train, validation, test)]
        both = set().union(*(one & other for one, other in combinations(sides, 2)))
        both |= set(scenes[train]) & set(scenes[validation])  # those that TEST shares are marked as seen
        advice = "split='fold:K/N' divides the set anew, split='image' does not look at photographs"
        shared = f"{len(both):,} are on two sides of this set's own parts, or the same cell or field is, such as "
        refuse("photographs", {f"{shared}{some(sorted(both), 2)}. {advice}": bool(both)})
    return rows | {"train": train, "validation": validation, "test": test}


def subsample(rows: np.ndarray, labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Choose at most `limit` rows at random, stratified by class, each class at least once; in ascending order.

    scikit-learn's stratified splitters leave out rare classes, and refuse classes with one image.

    Raises:
        DatasetError: the limit is below the number of classes.
    """
    of = pd.Series(labels[rows], rows)
    if limit is None or limit >= len(rows):
        return rows
    few = f"leaves a class without images. Give at least {of.nunique()}, or None"
    refuse(f"limit={limit}", {few: limit < of.nunique()})
    shuffled = of.sample(frac=1, random_state=seed).groupby(of)
    rank = shuffled.cumcount() / shuffled.transform("size")  # within its class, 0..1
    return np.sort(rank.sort_values(kind="stable").index[:limit].to_numpy())


def _fifth(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return whether each image is held out (N,)."""
    every = np.arange(len(labels))
    advice = "Each class needs at least two images, and the held-out fifth at least one per class"
    with explaining("split='image'", "too few images for 80/20 by class", advice, ValueError):
        _, out = train_test_split(every, test_size=0.2, random_state=seed, stratify=labels)
    return np.isin(every, out)


def _folds(labels: np.ndarray, photos: np.ndarray, scenes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each image (N,), from 0.

    Photographs, not their copies, are spread evenly; those of one scene stay together.
    """
    names = pd.MultiIndex.from_arrays([photos, labels])  # a patient may have cells of several classes
    _, first, photo = np.unique(names.factorize(sort=True)[0], return_index=True, return_inverse=True)
    labels, scenes, fold = labels[first], scenes[first], np.zeros(len(first), int)
    few = min((len(set(scenes[labels == label])) for label in np.unique(labels)), default=0)
    advice = f"each of {folds} folds needs at least one of every class. Use fewer folds, or split='image'"
    refuse("too few photographs", {f"a class has {few} different scenes, and {advice}": few < folds})
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, members) in enumerate(splitter.split(first, labels, scenes)):
        fold[members] = number
    return fold[photo]
