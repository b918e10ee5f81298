"""Provenance: which photograph each image of a set is a copy of, recovered from the pixels alone.

A copy keeps the local features of its photograph: mirrored, turned, shifted and sheared together. Features are
matched, an affine map is fitted to the matches and then to the grey values, and the photograph warped by it is
compared with the image, pixel by pixel.
"""

import argparse
import csv
import io
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from bloodcell_lib import dataset, records
from bloodcell_lib.sources import DatasetError, Entry, Source

COLUMNS = ("split", "class", "file", "photograph", "mirrored", "rotation", "shear", "inliers", "confidence", "crc32")
WIDTH, HEIGHT = 320, 240  # pixels, at which photographs and images are compared
COARSE = {"enable_precise_upscale": True}  # OpenCV's own thresholds: about 80 features an image
FINE = COARSE | {"contrastThreshold": 0.01, "edgeThreshold": 20}  # about 400: fainter ones, too
CANDIDATES = 3  # photographs fitted to an image, of those with most votes
REACH = 3.0  # pixels between a match and where the fit puts it
STRETCH = 0.75, 1.33  # of lengths, by a fit that can be a copy: a shear of 0.2 gives 0.90 to 1.11
SHARED = 0.5  # of an image, that its photograph covers at least: a copy is shifted by a tenth at most
LEAST_INLIERS, LEAST_CONFIDENCE = 6, 0.8  # of a row; data/README.md has what was measured on both sides


class Features(NamedTuple):
    """Local features: places x, y in pixels, float32 (n, 2), and SIFT descriptors, whole float32 (n, 128)."""

    points: np.ndarray
    descriptors: np.ndarray


class Photograph(NamedTuple):
    """A photograph at the scale of the images: grey uint8 (240, 320), features of it and of its mirror image."""

    name: str
    grey: np.ndarray
    features: Features


class Fit(NamedTuple):
    """A photograph laid on an image: `matrix` (2, 3) leads from a point of the image to one of the photograph."""

    photograph: str
    matrix: np.ndarray
    inliers: int
    confidence: float


# One image, one photograph


def features(grey: np.ndarray, thresholds: dict = COARSE, mirror: bool = False) -> Features:
    """Detect local features.

    Source: Lowe, "Distinctive image features from scale-invariant keypoints" (2004).

    Args:
        grey: uint8 (240, 320).
        thresholds: COARSE or FINE.
        mirror: also those of the mirror image, at their places in the image itself: a feature does not look like
            its own mirror image.
    """
    keypoints, descriptors = _cv2().SIFT_create(**thresholds).detectAndCompute(grey, None)
    points = np.float32([keypoint.pt for keypoint in keypoints]).reshape(-1, 2)
    found = Features(points, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)
    if not mirror:
        return found
    points, descriptors = features(np.ascontiguousarray(grey[:, ::-1]), thresholds)
    points[:, 0] = WIDTH - 1 - points[:, 0]
    return Features(np.concatenate([found.points, points]), np.concatenate([found.descriptors, descriptors]))


def nearest(descriptors: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return for each descriptor the row of the closest among others, by brute force.

    Descriptors are whole numbers and about 512 long, so no sum reaches 2**24 and float32 is exact: every machine
    finds the same.
    """
    return np.argmax(2 * descriptors @ among.T - np.einsum("ij,ij->i", among, among), axis=1)


def matches(found: Features, of: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (n, 2) of features that are each other's closest, in the one image and in the other."""
    there, back = nearest(found.descriptors, of.descriptors), nearest(of.descriptors, found.descriptors)
    mutual = back[there] == np.arange(len(there))
    return found.points[mutual], of.points[there[mutual]]


def fit(grey: np.ndarray, found: Features, photograph: Photograph, shared: float = SHARED) -> Fit | None:
    """Lay a photograph on an image by the affine map that most matched features agree on.

    Source: Fischler and Bolles, "Random sample consensus" (1981).

    Args:
        grey: the image, uint8 (240, 320).
        found: its features.
        photograph: with features by the same thresholds.
        shared: the least part of the image that the photograph must cover, for a confidence above 0.

    Returns:
        The fit; None where fewer than LEAST_INLIERS agree, or the map stretches as no copy is stretched.
    """
    if min(len(found.points), len(photograph.features.points)) < LEAST_INLIERS:
        return None
    matrix, inliers = _cv2().estimateAffine2D(
        *matches(found, photograph.features), ransacReprojThreshold=REACH, confidence=0.999
    )
    if matrix is None or inliers.sum() < LEAST_INLIERS:
        return None
    longest, shortest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if not STRETCH[0] < shortest <= longest < STRETCH[1]:
        return None
    rough = Fit(photograph.name, matrix, int(inliers.sum()), correlation(grey, photograph.grey, matrix, shared))
    return refined(grey, photograph, rough, shared)


def refined(grey: np.ndarray, photograph: Photograph, rough: Fit, shared: float = SHARED) -> Fit:
    """Move a fit by fractions of a pixel to where the grey values correlate best.

    Source: Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation coefficient
    maximization" (2008).
    """
    cv2 = _cv2()
    stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-6
    try:
        _, matrix = cv2.findTransformECC(
            grey, photograph.grey, np.float32(rough.matrix), cv2.MOTION_AFFINE, stop, None, 1
        )
    except cv2.error:  # it strays where there is nothing to find
        return rough
    confidence = correlation(grey, photograph.grey, matrix, shared)
    return rough._replace(matrix=matrix, confidence=confidence) if confidence > rough.confidence else rough


def correlation(grey: np.ndarray, photograph: np.ndarray, matrix: np.ndarray, shared: float = SHARED) -> float:
    """Return how well an image correlates with the warped photograph, where both exist.

    Stretching the contrast does not change it.

    Returns:
        -1..1, or 0 where the photograph covers less than the part `shared` of the image.
    """
    both = warp(np.full_like(photograph, 255), matrix) == 255
    one, other = grey[both].astype(float), warp(photograph, matrix)[both].astype(float)
    if both.mean() < shared or not one.std() * other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def warp(photograph: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a photograph (240, 320) as the image shows it, black where it does not reach."""
    cv2 = _cv2()
    return cv2.warpAffine(photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def parameters(matrix: np.ndarray) -> tuple[int, float, float]:
    """Return mirrored (0 or 1), rotation (degrees, anticlockwise) and shear (radians), as in `sample.augment`."""
    mirrored = int(np.linalg.det(matrix[:, :2]) < 0)
    turned = np.diag([1 - 2 * mirrored, 1]) @ matrix[:, :2]
    rotation = np.arctan2(-turned[0, 1], turned[1, 1])  # the shear leaves the second axis alone
    cosine, sine = np.cos(rotation), np.sin(rotation)
    sheared = np.array([[cosine, sine], [-sine, cosine]]) @ turned[:, 0]
    return mirrored, float(np.degrees(rotation)), float(np.arctan2(-sheared[1], sheared[0]))


# All images, all photographs


def grey(source: Source, path: str) -> np.ndarray:
    """Read an image or photograph as grey uint8 (240, 320)."""
    image = dataset.open_image(source.read(path), f"{source.root}/{path}").convert("L")
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def album(source: Source, thresholds: dict = COARSE, mirror: bool = True) -> list[Photograph]:
    """Read every photograph in a folder JPEGImages, sorted by name, and detect its `features`.

    Raises:
        DatasetError: there is no such folder, or OpenCV is missing.
    """
    _cv2().setNumThreads(1)  # the threads are over images
    paths = sorted(p for p in source.files if PurePosixPath(p).parent.name == "JPEGImages")
    if not paths:
        raise DatasetError(
            f"{source.root}: no photograph found. Expected JPEGImages/*.jpg, the photographs that the "
            "images were made from, at any depth. Add them, or take the whole archive."
        )

    def read(path: str) -> Photograph:
        picture = grey(source, path)
        return Photograph(PurePosixPath(path).stem, picture, features(picture, thresholds, mirror))

    with ThreadPoolExecutor(dataset.THREADS) as pool:
        return list(pool.map(read, paths))


def recover(data: str | os.PathLike | None = None, chosen: Callable[[Entry], bool] = bool) -> list[tuple]:
    """Find the photograph behind each image of a set.

    First every image is compared with all photographs, whatever their class. What that leaves open is compared
    again, by fainter features, with each photograph that was not found behind another class or the other side of
    the split. Where images still open show one scene, their photograph is not in the set: the key of one of them
    stands for it, and how the copies were made is left empty.

    Args:
        data: as for `dataset.load`.
        chosen: which images; all by default.

    Returns:
        A row in the order of COLUMNS for each image, sorted; the photograph is "" where none is sure.

    Raises:
        DatasetError: the set cannot be used or holds no photographs, or OpenCV is missing.
    """
    catalogue = dataset.describe(data)
    entries = [entry for entry in catalogue.entries if chosen(entry)]
    fits = first_pass(catalogue.source, entries)
    fits |= second_pass(catalogue.source, [entry for entry in entries if not sure(fits[entry])], fits)
    fits |= third_pass(catalogue.source, [entry for entry in entries if not sure(fits[entry])])
    return sorted(_row(entry, fits[entry]) for entry in entries)


def sure(found: Fit | None) -> bool:
    """Whether a fit is good enough to name the photograph."""
    return found is not None and found.confidence >= LEAST_CONFIDENCE


def first_pass(source: Source, entries: list[Entry]) -> dict[Entry, Fit | None]:
    """Compare images with all photographs: each feature votes for one, those with most votes are fitted."""
    photographs = album(source)
    descriptors = np.concatenate([photograph.features.descriptors for photograph in photographs])
    owner = np.repeat(np.arange(len(photographs)), [len(photograph.features.points) for photograph in photographs])

    def find(entry: Entry) -> Fit | None:
        picture = grey(source, entry.path)
        found = features(picture)
        votes = np.bincount(owner[nearest(found.descriptors, descriptors)], minlength=len(photographs))
        most = np.argsort(-votes, kind="stable")[:CANDIDATES]
        return best(fit(picture, found, photographs[k]) for k in most)

    return _each(find, entries, "First pass")


def second_pass(source: Source, entries: list[Entry], known: dict[Entry, Fit | None]) -> dict[Entry, Fit | None]:
    """Fit every photograph to images, except those known to be behind another class or side."""
    if not entries:
        return {}
    photographs = album(source, FINE)
    behind = defaultdict(Counter)
    for entry, found in known.items():
        if sure(found):
            behind[found.photograph][_group(entry)] += 1
    group = {name: counts.most_common(1)[0][0] for name, counts in behind.items()}

    def find(entry: Entry) -> Fit | None:
        picture = grey(source, entry.path)
        found = features(picture, FINE)
        return best(
            fit(picture, found, photograph)
            for photograph in photographs
            if group.get(photograph.name, _group(entry)) == _group(entry)
        )

    return _each(find, entries, "Second pass")


def third_pass(source: Source, entries: list[Entry]) -> dict[Entry, Fit]:
    """Fit images to each other, for those whose photograph is missing; one of a kind is left out."""
    found = {}
    pictures = {entry: grey(source, entry.path) for entry in entries}
    seen = {entry: features(picture, FINE, mirror=True) for entry, picture in pictures.items()}
    for whole in sorted(entries, key=lambda entry: (pictures[entry] == 0).sum()):  # least cut by black corners first
        if whole in found:
            continue
        scene = Photograph(whole.key, pictures[whole], seen[whole])
        alike = {
            entry: fit(pictures[entry], seen[entry], scene)
            for entry in entries
            if entry not in found and _group(entry) == _group(whole)
        }
        alike = {entry: other for entry, other in alike.items() if sure(other)}
        if len(alike) > 1:
            found |= alike
    return found


def best(fits: Iterable[Fit | None]) -> Fit | None:
    """Return the fit with the highest confidence, the first of several."""
    return max(filter(None, fits), key=lambda found: found.confidence, default=None)


def same_cell_candidates(source: Source) -> list[tuple[str, str, Fit]]:
    """Fit every photograph to every later one: two that overlap may show one cell. That is to be judged by eye.

    Returns:
        (photograph, other photograph, fit of the other to the first), most inliers first.
    """
    photographs = album(source, FINE, mirror=False)
    pairs = list(combinations(range(len(photographs)), 2))

    def lay(pair: tuple[int, int]) -> Fit | None:
        one, other = photographs[pair[0]], photographs[pair[1]]
        return fit(one.grey, one.features, other, shared=0.05)

    found = _each(lay, pairs, "Pairs of photographs")
    alike = [(photographs[one].name, laid.photograph, laid) for (one, _), laid in found.items() if sure(laid)]
    return sorted(alike, key=lambda pair: (-pair[2].inliers, *pair[:2]))


def write(rows: list[tuple], path: str | os.PathLike) -> None:
    """Write rows of `recover` as a table, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    with records.replacing(Path(path)) as file:
        file.write(text.getvalue().encode())


def _each(find: Callable, things: list, what: str) -> dict:
    with ThreadPoolExecutor(dataset.THREADS) as pool:
        return dict(zip(things, tqdm(pool.map(find, things), what, len(things), mininterval=0.5), strict=True))


def _group(entry: Entry) -> tuple[str, str]:
    """Class, and side of the split: TEST_SIMPLE shows the photographs of TEST."""
    return entry.label, entry.split.removesuffix("_SIMPLE")


def _row(entry: Entry, found: Fit | None) -> tuple:
    what = entry.split, entry.label, PurePosixPath(entry.path).name
    if not sure(found):
        return *what, *[""] * 6, f"{entry.crc:08x}"
    mirrored, rotation, shear = parameters(found.matrix)
    made = mirrored, round(rotation, 1) + 0.0, round(shear, 2) + 0.0  # no -0.0
    made = ("", "", "") if "/" in found.photograph else made  # from an image, not from a photograph
    return *what, found.photograph, *made, found.inliers, f"{found.confidence:.3f}", f"{entry.crc:08x}"


def _cv2():
    try:
        import cv2
    except ImportError as error:
        raise DatasetError(
            "provenance needs OpenCV, which is not installed. Install it: pip install opencv-python-headless."
        ) from error
    return cv2


def main(arguments: list[str] | None = None) -> int:
    """Recover the provenance of a set and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bloodcell_lib.provenance", description=__doc__.split("\n")[0])
    parser.add_argument("data", help='a zip or a folder with photographs in JPEGImages, "kaggle" or "sample"')
    parser.add_argument("--out", default="provenance.csv", help="the table to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        rows = recover(options.data)
        write(rows, options.out)
    except DatasetError as error:
        print(f"provenance: {error}", file=sys.stderr)
        return 2
    assigned = sum(bool(row[3]) for row in rows)
    print(
        f"{options.out}: {assigned:,} of {len(rows):,} images assigned to "
        f"{len({row[3] for row in rows} - {''}):,} photographs"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
