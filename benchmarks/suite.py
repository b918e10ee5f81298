"""What the contenders of this library share: images as a data set or a folder, and training in turns."""

from pathlib import Path

import numpy as np
from alternating import Baton
from PIL import Image

from bloodcell_lib.backend import keras
from bloodcell_lib.dataset import Dataset, Part

CLASSES = ("A", "B", "C", "D")


def noise(sizes: tuple[int, int, int], image_size: tuple[int, int]) -> Dataset:
    """Return random images, so many to train, validate and test; the rate does not depend on their content."""
    rng = np.random.default_rng(0)

    def part(count: int) -> Part:
        pixels = rng.integers(0, 256, (count, *image_size, 3), dtype=np.uint8)
        names = np.arange(count).astype(str)
        return Part(pixels, np.arange(count), rng.integers(0, len(CLASSES), count), names, names, names)

    return Dataset(*map(part, sizes), None, CLASSES, "noise", "0" * 16, "image", False)


def write_folder(folder: Path, images: int, size: tuple[int, int] = (240, 320)) -> None:
    """Write JPEGs with the smoothness of photographs: TRAIN/<class>/ and, a quarter as many, TEST/<class>/."""
    rng = np.random.default_rng(0)
    for number in range(images + images // 4):
        place = folder / ("TRAIN" if number < images else "TEST") / CLASSES[number % len(CLASSES)]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)


class Steps(keras.callbacks.Callback):
    """Hands over after so many training steps; the first steps, which compile, only make ready."""

    def __init__(self, baton: Baton, steps: int, batch_size: int, warm: int = 3):
        super().__init__()
        self.baton, self.steps, self.size, self.warm = baton, steps, batch_size, warm

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        done = batch + 1 - self.warm
        if done >= 0 and done % self.steps == 0:
            self.baton.hand_over(images=self.steps * self.size)
            self.baton.wait()


class Epochs(keras.callbacks.Callback):
    """Hands over after every whole epoch, from its beginning to the beginning of the next; the first makes ready."""

    def __init__(self, baton: Baton):
        super().__init__()
        self.baton, self.parts = baton, {}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch:
            self.baton.hand_over(**self.parts)
            self.baton.wait()
