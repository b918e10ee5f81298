"""Recover which photograph each image of a set is a copy of, and write the table.

    python data/make_provenance.py archive.zip --out provenance.csv

bloodcell_lib/provenance.py compares one image with one photograph; this program compares all of them.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from bloodcell_lib import dataset, files, images, provenance
from bloodcell_lib.images import DatasetError
from bloodcell_lib.layouts import Entry
from bloodcell_lib.provenance import FINE, Fit, Photograph
from bloodcell_lib.sources import Source

COLUMNS = ("split", "class", "file", "photograph", "mirrored", "rotation", "shear", "inliers", "confidence", "crc32")
CANDIDATES = 3  # photographs fitted to an image: those with most votes


def recover(data: str | os.PathLike | None = None, chosen: Callable[[Entry], bool] = bool) -> list[tuple]:
    """Find the photograph behind each image of a set.

    First every image is compared with all photographs, whatever their class. The images without a sure photograph are
    compared again, with fainter features, with each photograph that was not found behind another class or the other
    side of the split. If several of the remaining images show one scene, their photograph is not in the set: the key
    of one of them stands for it, and the columns on how the copies were made stay empty.

    Args:
        data: as for `dataset.load`.
        chosen: which images; all by default.

    Returns:
        A row in the order of COLUMNS for each image, sorted; the photograph is "" if none is sure.

    Raises:
        DatasetError: the set cannot be used or holds no photographs, or OpenCV is missing.
    """
    index = dataset.describe(data)
    entries = [entry for entry in index.entries if chosen(entry)]
    fits = first_pass(index.source, entries)
    fits |= second_pass(index.source, [entry for entry in entries if not sure(fits[entry])], fits)
    fits |= third_pass(index.source, [entry for entry in entries if not sure(fits[entry])])
    return sorted(_row(entry, fits[entry]) for entry in entries)


def sure(found: Fit | None) -> bool:
    """Return whether a fit is good enough to name the photograph."""
    return found is not None and found.confidence >= provenance.LEAST_CONFIDENCE


def first_pass(source: Source, entries: list[Entry]) -> dict[Entry, Fit | None]:
    """Compare images with all photographs: each feature votes for one, and those with the most votes are fitted."""
    photographs = provenance.load_photographs(source)
    descriptors = np.concatenate([photograph.features.descriptors for photograph in photographs])
    owner = np.repeat(np.arange(len(photographs)), [len(photograph.features.points) for photograph in photographs])

    def find(entry: Entry) -> Fit | None:
        picture = provenance.grey(source, entry.path)
        found = provenance.features(picture)
        votes = np.bincount(owner[provenance.nearest(found.descriptors, descriptors)], minlength=len(photographs))
        most = np.argsort(-votes, kind="stable")[:CANDIDATES]
        return provenance.best(provenance.fit(picture, found, photographs[k]) for k in most)

    return _each(find, entries, "First pass")


def second_pass(source: Source, entries: list[Entry], known: dict[Entry, Fit | None]) -> dict[Entry, Fit | None]:
    """Fit every photograph to images, except photographs that are known to be behind another class or side."""
    if not entries:
        return {}
    photographs = provenance.load_photographs(source, FINE)
    behind: defaultdict[str, Counter] = defaultdict(Counter)
    for entry, found in known.items():
        if found and sure(found):
            behind[found.photograph][_group(entry)] += 1
    group = {name: counts.most_common(1)[0][0] for name, counts in behind.items()}

    def find(entry: Entry) -> Fit | None:
        picture = provenance.grey(source, entry.path)
        found = provenance.features(picture, FINE)
        return provenance.best(
            provenance.fit(picture, found, photograph)
            for photograph in photographs
            if group.get(photograph.name, _group(entry)) == _group(entry)
        )

    return _each(find, entries, "Second pass")


def third_pass(source: Source, entries: list[Entry]) -> dict[Entry, Fit]:
    """Fit images to each other, for those whose photograph is missing; an image like no other is left out."""
    found: dict[Entry, Fit] = {}
    pictures = {entry: provenance.grey(source, entry.path) for entry in entries}
    seen = {entry: provenance.features(picture, FINE, mirror=True) for entry, picture in pictures.items()}
    for whole in sorted(entries, key=lambda entry: (pictures[entry] == 0).sum()):  # smallest black corners first
        if whole in found:
            continue
        scene = Photograph(whole.key, pictures[whole], seen[whole])
        alike = {
            entry: provenance.fit(pictures[entry], seen[entry], scene)
            for entry in entries
            if entry not in found and _group(entry) == _group(whole)
        }
        copies = {entry: other for entry, other in alike.items() if other and sure(other)}
        if len(copies) > 1:
            found |= copies
    return found


def same_cell_candidates(source: Source) -> list[tuple[str, str, Fit]]:
    """Fit every photograph to every later one: two that overlap may show one cell, which must be judged by eye.

    Returns:
        (photograph, other photograph, fit of the other to the first), most inliers first.
    """
    photographs = provenance.load_photographs(source, FINE, mirror=False)
    pairs = list(combinations(range(len(photographs)), 2))

    def lay(pair: tuple[int, int]) -> Fit | None:
        one, other = photographs[pair[0]], photographs[pair[1]]
        return provenance.fit(one.grey, one.features, other, shared=0.05)

    found = _each(lay, pairs, "Pairs of photographs")
    alike = [(photographs[one].name, laid.photograph, laid) for (one, _), laid in found.items() if sure(laid)]
    return sorted(alike, key=lambda pair: (-pair[2].inliers, *pair[:2]))


def _each(find: Callable, things: list, what: str) -> dict:
    with ThreadPoolExecutor(images.THREADS) as pool:
        return dict(zip(things, tqdm(pool.map(find, things), what, len(things), mininterval=0.5), strict=True))


def _group(entry: Entry) -> tuple[str, str]:
    """Return class and side of the split: TEST_SIMPLE shows the photographs of TEST."""
    return entry.label, entry.split.removesuffix("_SIMPLE")


def _row(entry: Entry, found: Fit | None) -> tuple:
    what = entry.split, entry.label, PurePosixPath(entry.path).name
    if not found or not sure(found):
        return *what, *[""] * 6, f"{entry.crc:08x}"
    mirrored, rotation, shear = provenance.parameters(found.matrix)
    made: tuple = mirrored, round(rotation, 1) + 0.0, round(shear, 2) + 0.0  # no -0.0
    if "/" in found.photograph:  # the key of an image, not a photograph
        made = "", "", ""
    return *what, found.photograph, *made, found.inliers, f"{found.confidence:.3f}", f"{entry.crc:08x}"


def main(arguments: list[str] | None = None) -> int:
    """Recover the provenance of a set and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a zip or a folder with photographs in JPEGImages, or the name of a known set")
    parser.add_argument("--out", type=Path, default="provenance.csv", help="table to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        table = pd.DataFrame(recover(options.data), columns=COLUMNS)
    except DatasetError as error:
        print(f"make_provenance: {error}", file=sys.stderr)
        return 2
    with files.replacing(options.out) as part:
        table.to_csv(part, index=False, lineterminator="\n")
    behind = table.photograph[table.photograph != ""]
    print(f"{options.out}: {len(behind):,} of {len(table):,} images assigned to {behind.nunique():,} photographs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
