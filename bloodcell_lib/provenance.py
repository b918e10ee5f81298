"""Provenance: which photograph an image is a copy of, recovered from the pixels alone.

A copy keeps the local features of its photograph, which are mirrored, rotated, shifted and sheared together. The
features are matched, an affine map is fitted to the matches and then to the grey values, and the photograph warped by
this map is compared with the image, pixel by pixel. data/make_provenance.py does this for a whole set.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from bloodcell_lib import images, layouts, sources

WIDTH, HEIGHT = 320, 240  # pixels, at which photographs and images are compared
COARSE = {"enable_precise_upscale": True}  # OpenCV's own thresholds: about 80 features per image
FINE = COARSE | {"contrastThreshold": 0.01, "edgeThreshold": 20}  # about 400, with fainter ones
REACH = 3.0  # pixels between a match and where the fit puts it
STRETCH = 0.75, 1.33  # of lengths, by a fit that can be a copy: a shear of 0.2 gives 0.90 to 1.11
SHARED = 0.5  # fraction of an image that its photograph covers at least: a copy is shifted by a tenth at most
LEAST_INLIERS, LEAST_CONFIDENCE = 6, 0.8  # to name a photograph; data/README.md has what was measured on both sides


class Features(NamedTuple):
    """Local features: places x, y in pixels, float32 (n, 2), and SIFT descriptors, whole float32 (n, 128)."""

    points: np.ndarray
    descriptors: np.ndarray


class Photograph(NamedTuple):
    """A photograph at the scale of the images: grey uint8 (240, 320), and features of it and of its mirror image."""

    name: str
    grey: np.ndarray
    features: Features


class Fit(NamedTuple):
    """A photograph laid on an image: `matrix` (2, 3) maps a point of the image to one of the photograph."""

    photograph: str
    matrix: np.ndarray
    inliers: int
    confidence: float


def grey(source: sources.Source, path: str) -> np.ndarray:
    """Read an image or photograph as grey uint8 (240, 320)."""
    image = Image.fromarray(source.image(path)).convert("L")
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def load_photographs(source: sources.Source, thresholds: dict = COARSE, mirror: bool = True) -> list[Photograph]:
    """Read every photograph in a folder JPEGImages, sorted by name, and detect its `features`.

    Raises:
        DatasetError: there is no such folder, or OpenCV is missing.
    """
    _cv2().setNumThreads(1)  # the threads are over images
    paths = sorted(path for path in source.files if layouts.why_not_image(path) == "images in folders JPEGImages")
    advice = "Add JPEGImages/*.jpg, the photographs that the images were made from, or take the whole archive"
    images.refuse(source.root, {f"no photograph found. {advice}": not paths})

    def read(path: str) -> Photograph:
        picture = grey(source, path)
        return Photograph(PurePosixPath(path).stem, picture, features(picture, thresholds, mirror))

    with ThreadPoolExecutor(images.THREADS) as pool:
        return list(pool.map(read, paths))


def features(grey: np.ndarray, thresholds: dict = COARSE, mirror: bool = False) -> Features:
    """Detect local features.

    Source: Lowe, "Distinctive image features from scale-invariant keypoints" (2004).

    Args:
        grey: uint8 (240, 320).
        thresholds: COARSE or FINE.
        mirror: also detect those of the mirror image, at their places in the image itself: a feature and its mirror
            image have different descriptors.
    """
    keypoints, descriptors = _cv2().SIFT_create(**thresholds).detectAndCompute(grey, None)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
    found = Features(points, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)
    if not mirror:
        return found
    points, descriptors = features(np.ascontiguousarray(grey[:, ::-1]), thresholds)
    points[:, 0] = WIDTH - 1 - points[:, 0]
    return Features(np.concatenate([found.points, points]), np.concatenate([found.descriptors, descriptors]))


def nearest(descriptors: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return for each descriptor the row of the closest among others, by brute force.

    Descriptors are whole numbers and about 512 long, so no sum reaches 2**24 and float32 is exact: the result is the
    same on every machine.
    """
    return np.argmax(2 * descriptors @ among.T - np.einsum("ij,ij->i", among, among), axis=1)


def matches(found: Features, of: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (n, 2), in both images, of features that are each other's closest."""
    there, back = nearest(found.descriptors, of.descriptors), nearest(of.descriptors, found.descriptors)
    mutual = back[there] == np.arange(len(there))
    return found.points[mutual], of.points[there[mutual]]


def fit(grey: np.ndarray, found: Features, photograph: Photograph, shared: float = SHARED) -> Fit | None:
    """Lay a photograph on an image by the affine map that most matched features agree on.

    Source: Fischler and Bolles, "Random sample consensus" (1981).

    Args:
        grey: the image, uint8 (240, 320).
        found: its features.
        photograph: its features detected with the same thresholds.
        shared: the fraction of the image that the photograph must cover for a confidence above 0.

    Returns:
        The fit; None if fewer than LEAST_INLIERS agree, or if the map stretches more than copies were stretched.
    """
    few = min(len(found.points), len(photograph.features.points)) < LEAST_INLIERS
    if few or len((pairs := matches(found, photograph.features))[0]) < LEAST_INLIERS:
        return None
    matrix, inliers = _cv2().estimateAffine2D(*pairs, ransacReprojThreshold=REACH, confidence=0.999)
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
    start, stop = np.float32(rough.matrix), (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-6)
    try:
        _, matrix = cv2.findTransformECC(grey, photograph.grey, start, cv2.MOTION_AFFINE, stop, None, 1)
    except cv2.error:  # it diverges where there is nothing to find
        return rough
    confidence = correlation(grey, photograph.grey, matrix, shared)
    return rough._replace(matrix=matrix, confidence=confidence) if confidence > rough.confidence else rough


def correlation(grey: np.ndarray, photograph: np.ndarray, matrix: np.ndarray, shared: float = SHARED) -> float:
    """Return the correlation of an image with the warped photograph, where both exist.

    A stretched contrast does not change it.

    Returns:
        -1..1, or 0 if the photograph covers less than the fraction `shared` of the image.
    """
    both = warp(np.full_like(photograph, 255), matrix) == 255
    one, other = grey[both].astype(float), warp(photograph, matrix)[both].astype(float)
    if both.mean() < shared or not one.std() * other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def warp(photograph: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a photograph (240, 320) as the image shows it, black outside the photograph."""
    cv2 = _cv2()
    return cv2.warpAffine(photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def parameters(matrix: np.ndarray) -> tuple[int, float, float]:
    """Return mirrored (0 or 1), rotation (degrees, counterclockwise) and shear (radians), as in `sample.augment`."""
    mirrored = int(np.linalg.det(matrix[:, :2]) < 0)
    turned = np.diag([1 - 2 * mirrored, 1]) @ matrix[:, :2]
    rotation = np.arctan2(-turned[0, 1], turned[1, 1])  # the shear leaves the second axis alone
    shear = rotation - np.arctan2(turned[1, 0], turned[0, 0])
    return mirrored, float(np.degrees(rotation)), float(np.angle(np.exp(1j * shear)))  # from -pi to pi


def best(fits: Iterable[Fit | None]) -> Fit | None:
    """Return the fit with the highest confidence, the first of several."""
    return max(filter(None, fits), key=lambda found: found.confidence, default=None)


def _cv2():
    with images.explaining("provenance", "needs OpenCV", "Install it: pip install opencv-python-headless", ImportError):
        import cv2

        return cv2
