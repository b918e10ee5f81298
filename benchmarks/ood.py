"""How often `predict` warns of images: the run's own test images (false alarms), and images that are no such cells.

python benchmarks/ood.py --model runs/squeezenet-grouped-seed0 --data archive.zip
"""

import argparse
import io

import matplotlib.cbook
import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from bloodcell_lib import dataset, images, sources
from bloodcell_lib.command import predict, tables
from bloodcell_lib.models import saved

CROPS = 40  # of each photograph of other things
FAR = 0.25  # of the stain at the white cell: a quarter of a photograph that stays below has no white cell


def other_stains(test: np.ndarray) -> dict[str, np.ndarray]:
    """Test images as other stains, filters and cameras could give them."""

    def turned(image: np.ndarray, hue: int) -> np.ndarray:
        first, *others = Image.fromarray(image).convert("HSV").split()
        return np.asarray(Image.merge("HSV", [first.point(lambda v: (v + hue) % 256), *others]).convert("RGB"))

    found = {f"hue {degrees:+d} degrees": round(degrees * 256 / 360) for degrees in (-30, 30, 120)}
    stains = {name: np.array([turned(image, hue) for image in test]) for name, hue in found.items()}
    grey = np.repeat(test.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    blurred = ndimage.gaussian_filter(test, (0, 4, 4, 0))
    return stains | {"grey": grey, "half as bright": test // 2, "negative": 255 - test, "blurred": blurred}


def without_cell(source: sources.Source) -> list[np.ndarray]:
    """Quarters of photographs that the white cell is not in."""
    found = []
    for path in sorted(path for path in source.files if "/JPEGImages/" in f"/{path}"):
        photo = source.image(path)
        stain = ndimage.gaussian_filter(photo[..., 2].astype(np.float32) - photo[..., 1], images.NUCLEUS * len(photo))
        (height, width), below = np.array(stain.shape) // 2, stain < FAR * stain.max()
        corners = [(y, x) for y in (0, height) for x in (0, width) if below[y:, x:][:height, :width].all()]
        found += [photo[y:, x:][:height, :width] for y, x in corners[:1]]
    return found


def other_things() -> list[np.ndarray]:
    """Crops of photographs of a temple, a flower and a person."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photos = [*load_sample_images().images, np.asarray(Image.open(file))]
    rng, found = np.random.default_rng(0), []
    for photo in photos:
        for share in rng.uniform(0.3, 0.9, CROPS):
            height = int(share * min(len(photo), photo.shape[1] * 0.75))
            y, x = (rng.integers(0, most + 1) for most in (len(photo) - height, photo.shape[1] - height * 4 // 3))
            found.append(photo[y : y + height, x : x + height * 4 // 3])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run's name, .keras or .json")
    parser.add_argument("--data", help="the archive on which it was trained")
    options = parser.parse_args()
    about = saved.load(saved.find(options.model))
    settings = about.about["settings"]
    wanted = {name: settings[name] for name in ("image_size", "split", "limit", "frame")}
    data = dataset.load(options.data, seed=about.about["record"]["seed"], **wanted)

    def decoded(pictures: list[np.ndarray]) -> np.ndarray:
        files = []
        for picture in pictures:
            Image.fromarray(picture).save(file := io.BytesIO(), "PNG")
            files.append(images.read(file.getvalue(), "", tuple(wanted["image_size"]), frame=wanted["frame"]))
        return np.array(files)

    source = sources.open_source(dataset.locate(options.data))
    sets = {"the run's validation images": data.validation.images, "the run's test images": data.test.images}
    sets |= other_stains(data.test.images[:: len(data.test) // 500 + 1])
    sets |= {"no white cell": decoded(without_cell(source)), "other things": decoded(other_things())}
    rows = []
    for name, pixels in sets.items():
        table = predict.ask(about, pixels, [""] * len(pixels))
        sure = f"{100 * table.probability.median():.0f}"
        share = f"{100 * table[predict.UNUSUAL].mean():.0f}"
        rows.append(
            {"images": name, "number": len(pixels), "called unlike training, %": share, "median confidence, %": sure}
        )
    print(tables.text(tables.pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
