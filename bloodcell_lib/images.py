"""Images: one is read from the bytes of a file. Pixels are read here and nowhere else."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),  # also MPO, a JPEG of several pictures, as phones write it: the first
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
DECODER = 2  # a version: raise it when `read` gives other pixels, so that cached images are decoded again
THREADS = os.cpu_count() or 1
MAX_PIXELS = 50_000_000
EMPTY = 64  # of 255: 16-bit images that stay below it hold 14 bits or fewer, as cameras of 10 or 12 bits write them
COARSE = 80  # pixels on the longer side that are enough to find a white cell
NUCLEUS, CELL = 0.12, 130 / 240  # shares of an image's height: the sigma that averages a nucleus, and a cell's window


class DatasetError(ValueError):
    """The data cannot be used; the message names the culprit, what was expected and what to do. `path` is the image."""

    path = ""


@contextmanager
def explaining(where: object, what: str, advice: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of some kinds into a `DatasetError`: where it happened, what went wrong, what to do."""
    try:
        yield
    except DatasetError:
        raise
    except kinds as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(" <_io.")[0]
        raise DatasetError(f"{where}: {what} ({reason}). {advice}.") from error


def refuse(where: object, faults: dict[str, bool]) -> None:
    """Raise a `DatasetError` with the first fault that applies."""
    for fault in (fault for fault, applies in faults.items() if applies):
        raise DatasetError(f"{where}: {fault}.")


def some(names: Sequence[str], most: int = 10) -> str:
    """Write the first of several names, and how many more there are."""
    return ", ".join(names[:most]) + f" and {len(names) - most:,} more" * (len(names) > most)


def read(
    data: bytes,
    where: str,
    size: tuple[int, int] | None = None,
    expected: tuple[int, int] | None = None,
    frame: str = "slide",
) -> np.ndarray:
    """Decode an image to upright 8-bit RGB.

    Args:
        data: content of the file.
        where: its path, for messages.
        size: (height, width) to scale to, in pixels, or None. JPEG is decoded at a reduced scale where possible.
        expected: (height, width) that the image must have, as RGB, or None for any.
        frame: "slide", or "cell" to keep the `window` around the white cell only; it needs a size.

    Returns:
        Pixels uint8 (height, width, 3).

    Raises:
        DatasetError: it is damaged, too large, transparent, of 16 bits that are not used to the highest, or in a format
            or colour mode that cannot be converted; or a window is asked for without a size.
    """
    without = "no window can be cut without a size. Give one, or frame='slide'"
    refuse(where, {"the file is empty. Restore or remove it": not data, without: frame == "cell" and not size})
    advice = f"It is damaged, or not one of {', '.join(SUFFIXES)}: restore or remove it"
    with explaining(where, "not an image that can be read", advice, Exception):  # Pillow lets through anything
        image = Image.open(io.BytesIO(data), formats=tuple(SUFFIXES))
        _check(image, where, expected)
        if size and image.mode == "RGB" and frame == "slide":
            sideways = image.getexif().get(0x112, 1) > 4  # the transposition below swaps the sides
            image.draft("RGB", size if sideways else size[::-1])
        deep = ";16" in str(image.tile) or image.mode.startswith("I;16")
        image.load()
        upright = _rgb(ImageOps.exif_transpose(image), where)
        shallow = deep and np.asarray(upright).max() < EMPTY
        advice = "Its camera gave fewer. Scale them all alike to 0..65535, or save them as 8 bits"
        refuse(where, {f"its 16 bits are used up to {EMPTY * 256:,} of 65,535 at most. {advice}": shallow})
        box = window(np.asarray(upright), size) if size and frame == "cell" else None
        if size and (box or upright.size != size[::-1]):
            upright = upright.resize(size[::-1], Image.Resampling.BILINEAR, box)
        return np.asarray(upright)


def window(pixels: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the window around the white cell: of the shape of `size`, CELL of the image high, and inside the image.

    Args:
        pixels: uint8 (height, width, 3).
        size: (height, width), of which the ratio counts. A window that would be wider than the image is made smaller.

    Returns:
        Left, top, right and bottom in pixels, as Pillow takes a box; they need not be whole.
    """
    image, ratio = np.array(pixels.shape[:2]), size[1] / size[0]
    sides = min(CELL * image[0], image[1] / ratio) * np.array([1, ratio])
    first = np.minimum(cell_centre(pixels) - sides / 2, image - sides).clip(0)
    (top, left), (bottom, right) = first, np.minimum(first + sides, image)
    return float(left), float(top), float(right), float(bottom)


def cell_centre(pixels: np.ndarray) -> tuple[float, float]:
    """Return the place of the white cell: where blue exceeds green by most, averaged over the size of a nucleus.

    A nucleus takes the blue-purple dye of the stain, which absorbs green light. Red cells are bluer than green only
    a little, and platelets are small. What lies beyond the border counts as unstained, and so do black corners.

    Args:
        pixels: uint8 (height, width, 3).

    Returns:
        y and x in pixels; without any stain, as in a gray image, the image's centre.
    """
    small = Image.fromarray(pixels).reduce(max(1, max(pixels.shape) // COARSE))
    _, green, blue = np.moveaxis(np.asarray(small, np.float32), -1, 0)
    stain = ndimage.gaussian_filter(blue - green, NUCLEUS * small.height, mode="constant")
    y, x = np.argwhere(stain == stain.max()).mean(0) + 0.5
    return float(y * len(pixels) / small.height), float(x * pixels.shape[1] / small.width)


def _check(image: Image.Image, where: str, expected: tuple[int, int] | None) -> None:
    found, limit = f"{image.width}x{image.height} {image.mode}", f"{MAX_PIXELS // 10**6} megapixels"
    wanted = "{1}x{0} RGB".format(*expected) if expected else found
    pages = getattr(image, "n_frames", 1)
    faults = {
        f"{found} is more than {limit}. Crop it to the cell or scale it down": image.width * image.height > MAX_PIXELS,
        f"{found}, but this set has {wanted}. It was changed; download the set again": found != wanted,
        f"has {pages} pages. Save the one that is meant as a file of its own": pages > 1 and image.format != "MPO",
    }
    refuse(where, faults)


def _rgb(image: Image.Image, where: str) -> Image.Image:
    """Convert what has one correct conversion: gray, 16-bit gray, bilevel, opaque palettes and opaque alpha."""
    deep, clear = image.mode.startswith("I;16"), image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if clear and not deep:
        image = image.convert("RGBA")
    if clear and (deep or np.asarray(image)[..., 3].min() < 255):  # Pillow forgets which 16-bit gray is transparent
        raise DatasetError(f"{where}: has transparent pixels, which have no colour. Flatten it on its background.")
    if deep:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    unclear = f"colour mode {image.mode} has no conversion to RGB without a colour profile. Save it as 8-bit RGB"
    refuse(where, {unclear: image.mode not in ("RGB", "RGBA", "1", "L", "P")})
    return image.convert("RGB")
