"""Blood smears that are DRAWN, not photographed: the data set for those who have not downloaded the archive.

Four kinds of white cells are drawn with geometry and texture, as a Wright-Giemsa stain shows them, among red cells and
platelets, and stored in the layout of the "Blood Cell Images" archive, copies included. What a network learns here
says nothing about blood. It shows that the code works, and what happens if copies of a photograph are on both sides of
a split.
"""

import csv
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from scipy import ndimage

from bloodcell_lib.files import replacing

PHOTOGRAPHS = {"TRAIN": 40, "TEST": 10}  # of each class
COPIES = {"TRAIN": 6, "TEST": 4}  # of each photograph
HEIGHT, WIDTH = 480, 640
MARGIN = 180  # pixels around the frame: cells are drawn there too, so that none needs clipping

IMAGES = Path("dataset2-master/dataset2-master/images")
ORIGINALS = Path("dataset-master/dataset-master")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
PROVENANCE = ("split", "class", "file", "photograph", "mirrored", "rotation", "shear")
README = """These are NOT photographs of blood. They were DRAWN by bloodcell_lib/sample.py (seed {seed}).

Outlines, lobes, granules, red cells and platelets are geometry and noise, in colours such as a Wright-Giemsa stain
gives; lamp, focus and camera noise are computed. No patient, no slide and no photograph is behind them. The folders
imitate the public "Blood Cell Images" archive, so that the same code reads both. A result measured on them shows that
the code works, nothing more.

dataset-master/dataset-master/JPEGImages    the drawn photographs, 640 x 480
dataset-master/dataset-master/Annotations   the boxes of their cells: WBC, RBC, Platelets (Pascal VOC)
dataset2-master/dataset2-master/images      copies at 320 x 240: mirrored, turned up to 20 degrees (or 180 more),
                                            shifted up to 10 %, sheared up to 0.2, contrast stretched to 0..255;
                                            TEST_SIMPLE holds the photographs behind TEST, only halved
provenance.csv                              the photograph behind each of them, and how the copy was made
"""

# Optical densities in red, green and blue light. A dye multiplies what the lamp sends by exp(-density) (Beer-Lambert),
# so cells that overlap add up. Blue falls below zero where the camera's colours are more vivid than the dye.
HAEMOGLOBIN = np.array([0.13, 0.29, 0.22], np.float32)
CHROMATIN = np.array([0.48, 0.84, -0.04], np.float32)
LILAC = np.array([0.09, 0.27, 0.08], np.float32)
EOSIN = np.array([0.10, 0.62, 0.48], np.float32)
GREY_BLUE = np.array([0.27, 0.25, 0.06], np.float32)
LIGHT_BLUE = np.array([0.34, 0.26, -0.02], np.float32)
PLATELET = np.array([0.40, 0.48, 0.02], np.float32)


# Geometry: a shape is its signed distance in pixels, negative inside.


def plane(radius: float, angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x, y of a square patch around a centre, turned by an angle in radians."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach:reach, -reach:reach].astype(np.float32)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def wavy(x: np.ndarray, y: np.ndarray, radius: float, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """A disc whose outline has two to five waves, the slow ones strongest, as a membrane bends."""
    phase = rng.normal(0, amplitude / np.arange(5, 1, -1)) * np.exp(2j * np.pi * rng.random(4))
    away = np.hypot(x, y)
    unit = (x + 1j * y) / np.maximum(away, 1)  # its k-th power turns k times around the disc
    return away - radius * (1 + np.polyval(np.append(phase, [0, 0]).astype(np.complex64), unit).real)


def thread(x: np.ndarray, y: np.ndarray, start: ArrayLike, end: ArrayLike, width: float) -> np.ndarray:
    """A straight thread with round ends."""
    along = np.subtract(end, start)
    start = np.asarray(start)
    place = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
    return np.hypot(x - start[0] - place * along[0], y - start[1] - place * along[1]) - width


def melt(shapes: Iterable[np.ndarray], softness: float) -> np.ndarray:
    """The union of shapes with rounded joints."""
    return -softness * np.logaddexp.reduce([-shape / softness for shape in shapes])


def cover(distance: np.ndarray, softness: float = 3.0) -> np.ndarray:
    """The fraction of each pixel that a shape covers, 0..1: its edge is as soft as that of a cell."""
    return np.clip(0.5 - distance / softness, 0, 1)


def clouds(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance, with clouds about `grain` pixels wide."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), grain)
    return noise / noise.std()


def grains(shape: tuple[int, ...], spacing: int, rng: np.random.Generator) -> np.ndarray:
    """Round grains packed side by side, 1 in their middle and 0 between them."""
    rows, columns = np.mgrid[0 : shape[0] : spacing, 0 : shape[1] : spacing]
    jitter = rng.integers(0, spacing, (2, *rows.shape))
    far = np.ones(shape, bool)
    far[np.minimum(rows + jitter[0], shape[0] - 1), np.minimum(columns + jitter[1], shape[1] - 1)] = False
    return np.clip(1.25 - ndimage.distance_transform_edt(far) / (0.62 * spacing), 0, 1).astype(np.float32)


def stain(
    below: np.ndarray | float, coverage: np.ndarray, dye: np.ndarray, texture: np.ndarray | float = 1.0
) -> np.ndarray:
    """Optical density after covering what lies below with a dye."""
    return below * (1 - coverage[..., None]) + (coverage * texture)[..., None] * dye


# The four white cells. Each returns how much it covers (h, w) and its optical density (h, w, 3).


def lobes(
    x: np.ndarray, y: np.ndarray, centres: Iterable, sizes: Iterable[float], width: float, rng: np.random.Generator
) -> np.ndarray:
    """A segmented nucleus: lobes in a row, neighbours joined by a thread."""
    shapes = [wavy(x - a, y - b, size, 0.14, rng) for (a, b), size in zip(centres, sizes, strict=True)]
    shapes += [thread(x, y, *pair, width) for pair in pairwise(centres)]
    return melt(shapes, 2.0)


def eosinophil(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two lobes joined by a thread, and coarse red-orange granules."""
    x, y = plane(1.3 * radius, rng.uniform(0, 2 * np.pi))
    body = cover(wavy(x, y, radius, 0.07, rng))
    apart, lean = rng.uniform(0.43, 0.52) * radius, rng.uniform(0.0, 0.3) * radius
    centres, sizes = [(-apart, -lean), (apart, -lean)], rng.uniform(0.37, 0.45, 2) * radius
    nucleus = cover(lobes(x, y, centres, sizes, 0.08 * radius, rng))
    granules = grains(x.shape, int(rng.integers(6, 9)), rng) * (1 + 0.2 * clouds(x.shape, 4, rng))
    density = stain(0, body, rng.uniform(0.6, 1.1) * EOSIN, 0.3 + 0.7 * granules)
    texture = 1 + 0.12 * clouds(x.shape, 4, rng) - 0.15 * granules
    return body, stain(density, nucleus * body, CHROMATIN, texture)


def neutrophil(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three to five lobes linked by threads, and fine faint lilac granules."""
    x, y = plane(1.3 * radius, rng.uniform(0, 2 * np.pi))
    body = cover(wavy(x, y, radius, 0.07, rng))
    count = rng.integers(3, 6)
    turns = np.cumsum(rng.uniform(0.9, 1.15, count)) * (5.2 / (count + 0.6))  # an open ring: a C or a U
    away = rng.uniform(0.42, 0.56, count) * radius
    centres = np.stack([away * np.cos(turns), away * np.sin(turns)], axis=1)
    sizes = rng.uniform(0.85, 1.15, count) * (0.43 - 0.035 * count) * radius
    density = stain(0, body, rng.uniform(0.8, 1.3) * LILAC, 1 + 0.22 * clouds(x.shape, 1.3, rng))
    nucleus = cover(lobes(x, y, centres, sizes, 0.07 * radius, rng))
    return body, stain(density, nucleus * body, CHROMATIN, 1 + 0.14 * clouds(x.shape, 4, rng))


def monocyte(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A large folded nucleus of lacy chromatin in grey-blue cytoplasm with vacuoles."""
    x, y = plane(1.5 * radius, rng.uniform(0, 2 * np.pi))
    body = cover(wavy(x, y, radius, 0.18, rng), 6.0)
    bean = wavy(x + 0.10 * radius, y, 0.76 * radius, 0.12, rng)
    fold = wavy(x - rng.uniform(0.70, 0.85) * radius, y, rng.uniform(0.38, 0.52) * radius, 0.1, rng)
    nucleus = cover(-melt([-bean, fold], 5.0), 5.0)
    density = stain(0, body, GREY_BLUE, 1 + 0.15 * clouds(x.shape, 3, rng))
    lace = 1.0 - 0.25 * np.exp(-((clouds(x.shape, 5, rng) / 0.6) ** 2)) + 0.10 * clouds(x.shape, 9, rng)
    density = stain(density, nucleus * body, CHROMATIN, lace)
    return body, density * (1 - 0.8 * vacuoles(x, y, radius, rng)[..., None])


def vacuoles(x: np.ndarray, y: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Small empty bubbles anywhere in the cell, 0..1."""
    empty = np.zeros_like(x)
    for _ in range(rng.integers(0, 8)):
        away, turn = rng.uniform(0.3, 0.9) * radius, rng.uniform(0, 2 * np.pi)
        bubble = np.hypot(x - away * np.cos(turn), y - away * np.sin(turn)) - rng.uniform(0.03, 0.09) * radius
        empty = np.maximum(empty, cover(bubble))
    return empty


def lymphocyte(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A small round dense nucleus in a thin light-blue rim."""
    x, y = plane(1.3 * radius, rng.uniform(0, 2 * np.pi))
    body = cover(wavy(x, y, radius, 0.06, rng))
    aside = rng.uniform(0.0, 0.1) * radius
    nucleus = cover(wavy(x - aside, y, rng.uniform(0.80, 0.91) * radius, 0.05, rng), 4.0)
    density = stain(0, body, LIGHT_BLUE, 1 + 0.08 * clouds(x.shape, 3, rng))
    return body, stain(density, nucleus * body, CHROMATIN, 1.25 + 0.12 * clouds(x.shape, 6, rng))


# Each class: how it is drawn, and its radius in pixels at the usual magnification.
WHITE_CELLS = {
    "EOSINOPHIL": (eosinophil, (62, 90)),
    "LYMPHOCYTE": (lymphocyte, (48, 68)),
    "MONOCYTE": (monocyte, (78, 106)),
    "NEUTROPHIL": (neutrophil, (62, 90)),
}
CLASSES = tuple(WHITE_CELLS)
COUNTS = {part: (count * COPIES[part],) * len(CLASSES) for part, count in PHOTOGRAPHS.items()}  # images of each class
COUNTS["TEST_SIMPLE"] = (PHOTOGRAPHS["TEST"],) * len(CLASSES)


# The photograph around it: drawn alike for every class, so that only the white cell tells the class.


def red_cell(radius: float, pallor: float, rng: np.random.Generator) -> np.ndarray:
    """Thickness of a red cell, 0..1: a disc with a pale centre."""
    x, y = plane(1.3 * radius, rng.uniform(0, 2 * np.pi))
    edge = wavy(x * rng.uniform(1.0, 1.3), y, radius, 0.07, rng)
    hollow = cover(edge + rng.uniform(0.45, 0.65) * radius, rng.uniform(0.2, 0.7) * radius)
    return cover(edge) * (1 - pallor * hollow + 0.25 * cover(np.abs(edge + 2), 8.0))


def platelet(radius: float, rng: np.random.Generator) -> np.ndarray:
    """Density of a platelet, 0..1: a small granular scrap."""
    x, y = plane(2 * radius)
    return cover(wavy(x, y, radius, 0.25, rng), 5.0) * np.maximum(0.75 + 0.3 * clouds(x.shape, 2, rng), 0.35)


def around(patch: np.ndarray, centre: np.ndarray) -> tuple[slice, slice]:
    """The place of a patch on the canvas, centred on a point of the photograph."""
    left, top = (int(c) + MARGIN - patch.shape[0] // 2 for c in centre)
    return slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1])


def box(name: str, mask: np.ndarray, place: tuple[slice, slice]) -> tuple:
    """The box (name, xmin, ymin, xmax, ymax) of a shape, cut at the frame."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    top, bottom = np.clip(rows[[0, -1]] + place[0].start - MARGIN + 1, 1, HEIGHT)
    left, right = np.clip(columns[[0, -1]] + place[1].start - MARGIN + 1, 1, WIDTH)
    return name, int(left), int(top), int(right), int(bottom)


def scatter(count: int, apart: float, taken: tuple, clumping: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Centres that keep apart from each other and from the white cell, `taken` (centre, radius); some clump."""
    points: list[np.ndarray] = []
    for _ in range(30 * count):
        point = rng.uniform((-40, -40), (WIDTH + 40, HEIGHT + 40))
        if points and rng.random() < clumping:
            turn = rng.uniform(0, 2 * np.pi)
            point = points[rng.integers(len(points))] + 1.1 * apart * np.array([np.cos(turn), np.sin(turn)])
        inside = -60 < point[0] < WIDTH + 60 and -60 < point[1] < HEIGHT + 60
        free = all(np.hypot(*(point - other)) > apart for other in points)
        if inside and free and np.hypot(*(point - taken[0])) > taken[1]:
            points.append(point)
        if len(points) == count:
            break
    return points


def strew(canvas: np.ndarray, points: Sequence, shapes: Iterable[np.ndarray], name: str) -> list[tuple]:
    """Add shapes to a canvas at points; return the boxes of the visible ones."""
    boxes = []
    for point, shape in zip(points, shapes, strict=True):
        place = around(shape, point)
        canvas[place] += shape
        boxes.append(box(name, shape > 0.3 * shape.max(), place))
    return [b for b in boxes if b[3] - b[1] > 8 and b[4] - b[2] > 8]


def smear(label: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
    """Optical density of a smear with one white cell, (480, 640, 3), and its boxes."""
    paint, sizes = WHITE_CELLS[label]
    zoom = rng.uniform(0.9, 1.1)
    radius, size = zoom * rng.uniform(*sizes), zoom * rng.uniform(46, 54)
    centre = rng.uniform((140, 120), (WIDTH - 140, HEIGHT - 120))
    red, purple = np.zeros((2, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), np.float32)
    white = np.zeros((*red.shape, 3), np.float32)

    pallor, apart, clumping = rng.uniform((0.2, 0.7, 0.0), (0.8, 1.5, 0.9))
    points = scatter(int(rng.integers(16, 50)), apart * size, (centre, radius + 0.75 * size), clumping, rng)
    cells = (red_cell(size * rng.uniform(0.86, 1.14), pallor * rng.uniform(0.6, 1.2), rng) for _ in points)
    boxes = strew(red, points, cells, "RBC")
    points = scatter(int(rng.integers(0, 7)), 30.0, (centre, radius + 20), 0.0, rng)
    boxes += strew(purple, points, (platelet(zoom * rng.uniform(8, 16), rng) for _ in points), "Platelets")

    body, density = paint(radius, rng)
    place = around(body, centre)
    red[place] *= 1 - body
    purple[place] *= 1 - body
    white[place] = density
    boxes.append(box("WBC", body > 0.5, place))
    return absorb(red, purple, white, rng), boxes


def absorb(red: np.ndarray, purple: np.ndarray, white: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Optical density (480, 640, 3) of what is in the frame, with the strength and tint of one day's stain."""
    red, purple, white = (canvas[MARGIN:-MARGIN, MARGIN:-MARGIN] for canvas in (red, purple, white))
    # Overlapping red cells look darker than one, but hardly twice as dark.
    red = 1.4 * (1 - np.exp(-red / 0.8))
    pink, blue = rng.uniform(0.75, 1.25, (2, 1)) * rng.normal(1, 0.06, (2, 3))
    density = red[..., None] * np.float32(pink * HAEMOGLOBIN)
    density += purple[..., None] * np.float32(blue * PLATELET)
    return density + white * np.float32(blue)


def expose(density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photograph a smear: lamp, focus, camera noise."""
    y, x = np.linspace(-1, 1, HEIGHT)[:, None], np.linspace(-1, 1, WIDTH)
    tilt, fall = rng.normal(0, 0.025, 2), rng.uniform(0.0, 0.06)
    lamp = rng.uniform(188, 222) * (1 + tilt[0] * x + tilt[1] * y - fall * (x * x + y * y))
    light = lamp.astype(np.float32)[..., None] * np.float32(rng.normal(1, 0.02, 3)) * np.exp(-density)
    focus = rng.uniform(0.7, 2.2)
    light = ndimage.gaussian_filter(light, (focus, focus, 0), truncate=2.5)
    light += np.float32(rng.uniform(1, 4)) * rng.standard_normal(light.shape, dtype=np.float32)
    return np.clip(light, 0, 255).round().astype(np.uint8)


def draw(label: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
    """Draw a photograph of a smear with one white cell of a class.

    Args:
        label: one of CLASSES.
        rng: decides everything else.

    Returns:
        The photograph, uint8 of shape (480, 640, 3), and its boxes (name, xmin, ymin, xmax, ymax) in pixels
        counted from 1; names are WBC, RBC and Platelets.

    Raises:
        ValueError: the class is unknown.
    """
    if label not in WHITE_CELLS:
        raise ValueError(f"No white cell is called {label!r}; draw one of {', '.join(CLASSES)}.")
    density, boxes = smear(label, rng)
    return expose(density, rng), boxes


def augment(photograph: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Copy a photograph as the archive's copies were made.

    The photograph is halved, mirrored, turned, shifted and sheared about its centre; corners left empty are
    black, and the contrast is stretched to 0..255. Turning it upside down counts as mirroring it and turning
    it by 180 degrees.

    Args:
        photograph: uint8 of shape (480, 640, 3).
        rng: decides the parameters.

    Returns:
        The copy, uint8 of shape (240, 320, 3), and its parameters: mirrored (0 or 1), rotation (degrees,
        counterclockwise, -180..180) and shear (radians).
    """
    mirrored, upside_down = rng.integers(0, 2, 2)
    turn, shear = rng.uniform(-20, 20), rng.uniform(-0.2, 0.2)
    shift = rng.uniform(-0.1, 0.1, 2) * (WIDTH / 2, HEIGHT / 2)
    mirrored = int(mirrored != upside_down)
    rotation = turn + 180 * upside_down - 360 * (upside_down and turn > 0)

    # From a point of the copy back to the point of the photograph that is seen there.
    angle = np.deg2rad(rotation)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sheared = np.array([[np.cos(shear), 0], [-np.sin(shear), 1]])
    back = np.diag([1 - 2 * mirrored, 1]) @ turned
    matrix, centre = back @ sheared, np.array([WIDTH, HEIGHT]) / 4
    offset = centre + back @ shift - matrix @ centre
    affine = (*matrix[0], offset[0], *matrix[1], offset[1])
    small = halve(photograph)
    copy = small.transform(small.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    made = {"mirrored": mirrored, "rotation": round(float(rotation), 3), "shear": round(float(shear), 4)}
    return np.asarray(stretch(copy)), made


def halve(photograph: np.ndarray) -> Image.Image:
    """The photograph at half its width and height."""
    return Image.fromarray(photograph).reduce(2)


def stretch(image: Image.Image) -> Image.Image:
    """The image with its contrast stretched: darkest value 0, brightest 255, over all channels."""
    low, high = np.ravel(image.getextrema())[::2].min(), np.ravel(image.getextrema())[1::2].max()
    table = (np.arange(256) - low) * (255 / max(high - low, 1))
    return image.point(3 * table.round().clip(0, 255).astype(int).tolist())


def write(folder: str | os.PathLike, seed: int = 0) -> None:
    """Write the whole sample in the layout of the archive, or nothing.

    Args:
        folder: a folder that does not exist yet or is empty.
        seed: the same seed writes the same bytes under the same versions of NumPy, SciPy and Pillow.

    Raises:
        ValueError: the folder holds something, or its name belongs to a file.
    """
    folder = Path(folder).resolve()
    _require_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as part:
        _write(part, seed)
        _require_free(folder)
        if folder.exists():
            folder.rmdir()  # not every system renames onto an empty folder


def _require_free(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        raise ValueError(f"{folder} is not an empty folder; the sample is written into a new one. Choose another.")


def _write(folder: Path, seed: int) -> None:
    for place in (folder / IMAGES / split / label for split in ("TRAIN", "TEST", "TEST_SIMPLE") for label in CLASSES):
        place.mkdir(parents=True)
    for inner in ("JPEGImages", "Annotations"):
        (folder / ORIGINALS / inner).mkdir(parents=True)
    plan = _plan(seed)
    with ThreadPoolExecutor() as pool:
        rows = [row for rows in pool.map(lambda shot: _write_shot(folder, shot), plan) for row in rows]
    _write_csv(folder / "provenance.csv", PROVENANCE, sorted(rows))
    for outer in (IMAGES.parent, ORIGINALS):
        labels = [("", int(shot.stem[-5:]), shot.label) for shot in plan]
        _write_csv(folder / outer / "labels.csv", ("", "Image", "Category"), labels, "\r\n")
    (folder / "README.txt").write_text(README.format(seed=seed), encoding="utf-8")


class Shot(NamedTuple):
    """A photograph to draw, and the names of the files made from it in each part."""

    stem: str
    label: str
    files: dict[str, list[str]]
    stream: np.random.SeedSequence


def _plan(seed: int) -> list[Shot]:
    """All photographs in the order of their numbers, each with its own random stream."""
    count = len(CLASSES) * sum(PHOTOGRAPHS.values())
    names, *streams = np.random.SeedSequence(seed).spawn(1 + count)
    rng = np.random.default_rng(names)
    shots: list[tuple[str, dict]] = []
    for split, copies in COPIES.items():
        for label in CLASSES:
            files = [{split: row} for row in _names(PHOTOGRAPHS[split], copies, rng)]
            if split == "TEST":
                for each, simple in zip(files, _names(len(files), 1, rng), strict=True):
                    each["TEST_SIMPLE"] = simple
            shots += [(label, each) for each in files]
    order = rng.permutation(count)
    return [Shot(f"BloodImage_{n:05d}", shots[k][0], shots[k][1], streams[n]) for n, k in enumerate(order)]


def _names(photographs: int, copies: int, rng: np.random.Generator) -> list[list[str]]:
    """File names _K_R.jpeg of each photograph: K is its place in a reshuffled round, R just a random number."""
    places = rng.permuted(np.tile(np.arange(photographs), (copies, 1)), axis=1).T
    numbers = rng.choice(10_000, places.shape, replace=False)
    return [[f"_{k}_{r}.jpeg" for k, r in row] for row in np.dstack([places, numbers])]


def _write_shot(folder: Path, shot: Shot) -> list[tuple]:
    """Write a photograph, its boxes and its copies; return the rows of their provenance."""
    rng = np.random.default_rng(shot.stream)
    photograph, boxes = draw(shot.label, rng)
    Image.fromarray(photograph).save(folder / ORIGINALS / "JPEGImages" / f"{shot.stem}.jpg")
    _annotation(shot.stem, boxes).write(folder / ORIGINALS / "Annotations" / f"{shot.stem}.xml")
    rows = []
    for split, name in ((split, name) for split, names in shot.files.items() for name in names):
        if split == "TEST_SIMPLE":
            copy, made = np.asarray(halve(photograph)), {"mirrored": 0, "rotation": 0.0, "shear": 0.0}
        else:
            copy, made = augment(photograph, rng)
        Image.fromarray(copy).save(folder / IMAGES / split / shot.label / name)
        rows.append((split, shot.label, name, shot.stem, *made.values()))
    return rows


def _annotation(stem: str, boxes: Iterable[tuple]) -> ElementTree.ElementTree:
    """The boxes of a photograph in Pascal VOC format."""
    root = ElementTree.Element("annotation")
    _fill(root, {"folder": "JPEGImages", "filename": f"{stem}.jpg", "segmented": 0})
    _fill(ElementTree.SubElement(root, "size"), {"width": WIDTH, "height": HEIGHT, "depth": 3})
    for name, *corners in boxes:
        item = ElementTree.SubElement(root, "object")
        cut = corners[0] == 1 or corners[1] == 1 or corners[2] == WIDTH or corners[3] == HEIGHT
        _fill(item, {"name": name, "pose": "Unspecified", "truncated": int(cut), "difficult": 0})
        _fill(ElementTree.SubElement(item, "bndbox"), dict(zip(CORNERS, corners, strict=True)))
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _fill(element: ElementTree.Element, values: dict) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(element, tag).text = str(value)


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable], end: str = "\n") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=end).writerows([header, *rows])
