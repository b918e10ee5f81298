"""How a set is divided: by image, as the paper does, or by photograph, once or in folds."""

import re

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from bloodcell_lib.sources import DatasetError

FOLD = re.compile(r"fold:([1-9]\d*)/([1-9]\d*)")


def fold_of(split: str) -> tuple[int, int] | None:
    """Return (K, N) of "fold:K/N", or None for "image" and "photo".

    Raises:
        DatasetError: the split is none of these, or K and N do not fit together.
    """
    if split in ("image", "photo"):
        return None
    found = FOLD.fullmatch(split) if isinstance(split, str) else None
    if not found:
        raise DatasetError(f"split={split!r} is unknown. Choose 'image', 'photo' or 'fold:K/N', such as 'fold:1/5'.")
    fold, folds = map(int, found.groups())
    if folds < 3 or fold > folds:
        raise DatasetError(
            f"split={split!r} cannot be made. N is 3 at least, one fold to test on, one to validate on "
            "and one to train on, and K goes from 1 to N."
        )
    return fold, folds


def divide(
    parts: np.ndarray, labels: np.ndarray, photos: np.ndarray, scenes: np.ndarray, split: str, seed: int
) -> dict[str, np.ndarray]:
    """Divide the images of a set.

    "paper" draws a fifth of TRAIN's images, stratified by class; "grouped" a fifth of its photographs, which then
    share no scene with the others; "fold:K/N" tests on the K-th of N equal shares of all photographs and validates
    on the next. Where photographs count, images of an unknown one are not used in training and validation.

    Args:
        parts: "TRAIN", "TEST" or "TEST_SIMPLE" of each image (N,), or "" for all.
        labels: class of each image (N,).
        photos: its photograph (N,), "" where unknown.
        scenes: a name that photographs of the same cell or field share (N,).
        split: "image", "photo" or "fold:K/N".
        seed: of the draw.

    Returns:
        Rows of "train", "validation", "test" and "simple", ascending.

    Raises:
        DatasetError: a class has too few images or photographs.
    """
    simple, usable = np.flatnonzero(parts == "TEST_SIMPLE"), (photos != "") | (split == "image")
    every = np.flatnonzero(usable & (parts != "TEST_SIMPLE"))
    if fold := fold_of(split):
        place, folds = fold
        at = (_folds(every, labels, photos, scenes, folds, seed) - place + 1) % folds  # 0 tests, 1 validates
        return {"train": every[at > 1], "validation": every[at == 1], "test": every[at == 0], "simple": simple}
    if split == "image":

        def held(rows, seed):
            return _fifth_of_images(rows, labels, seed)
    else:

        def held(rows, seed):
            return _folds(rows, labels, photos, scenes, 5, seed) == 0

    if (parts == "").all():  # one folder of classes: the same TEST for every seed
        out = held(every, 0)
        rest, test = every[~out], every[out]
    else:
        rest, test = np.flatnonzero(usable & (parts == "TRAIN")), np.flatnonzero(parts == "TEST")
    out = held(rest, seed)
    return {"train": rest[~out], "validation": rest[out], "test": test, "simple": simple}


def limited(rows: np.ndarray, labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Choose at most `limit` of some rows at random, stratified by class; ascending.

    Raises:
        DatasetError: not every class could have one.
    """
    if limit is None or limit >= len(rows):
        return rows
    if limit < (classes := len(np.unique(labels[rows]))):
        raise DatasetError(f"limit={limit} leaves a class without an image. Give {classes} or more, or None for all.")
    shuffled = np.random.RandomState(seed).permutation(rows)  # a frozen stream: the same in every NumPy
    place = np.empty(len(rows))  # how far down its class a row stands, 0..1
    for label in np.unique(labels[rows]):
        of = labels[shuffled] == label
        place[of] = np.arange(of.sum()) / of.sum()
    return np.sort(shuffled[np.argsort(place, kind="stable")[:limit]])


def _fifth_of_images(rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Whether each row is drawn (N,)."""
    try:
        _, held = train_test_split(np.arange(len(rows)), test_size=0.2, random_state=seed, stratify=labels[rows])
    except ValueError as error:
        raise DatasetError(
            f"too few images to divide 80/20 by class ({error}). Each class needs two at least, and "
            "there must be one held out for each class."
        ) from error
    return np.isin(np.arange(len(rows)), held)


def _folds(
    rows: np.ndarray, labels: np.ndarray, photos: np.ndarray, scenes: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """The fold of each row (N,), from 0: photographs, not copies, are spread evenly, those of one scene together."""
    _, first, photo = np.unique(photos[rows], return_index=True, return_inverse=True)
    labels, scenes, fold = labels[rows][first], scenes[rows][first], np.zeros(len(first), int)
    few = min(len(set(scenes[labels == label])) for label in np.unique(labels)) if len(labels) else 0
    if few < folds:
        raise DatasetError(
            f"too few photographs: a class has {few} of different scenes, and each of {folds} folds "
            "needs one of every class. Use fewer folds, or split='image'."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, members) in enumerate(splitter.split(first, labels, scenes)):
        fold[members] = number
    return fold[photo]
