"""How seconds and memory grow with the number of images and with their side.

    python benchmarks/scale.py --out runs/scale.json

Each point is a process of its own: a folder is loaded for the first time, loaded again, and `cnn` trained two epochs,
of which the second counts. The picture goes beside the JSON file.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from alternating import Baton, Contender, chosen, clocks, finish, parser, worker

WHAT = {"first load": "CPU s", "later load": "CPU s", "epoch": "CPU s", "peak": "MiB"}


def point(options: argparse.Namespace, baton: Baton) -> None:
    """Load twice, train two epochs, hand over the CPU seconds of each."""
    from bloodcell_lib import dataset, models, protocols, training
    from bloodcell_lib.backend import keras

    def cpu() -> float:
        return clocks()["cpu"]

    class Second(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            self.begun = cpu()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            found["epoch"] = cpu() - self.begun

    size = options.side, options.side * 4 // 3
    protocol = protocols.get("paper", image_size=size, epochs=2)
    times = [cpu()]
    for _ in range(2):
        data = dataset.load(options.folder, **protocol.data)
        times.append(cpu())
    found = dict(zip(("first load", "later load"), np.diff(times).tolist(), strict=True))
    network = models.build("cnn", size, len(data.classes))
    training.fit(network, data, protocol, callbacks=[Second()], out=os.path.join(options.folder, "../runs"))
    baton.hand_over(**found)


def measure(images: int, side: int) -> dict[str, float]:
    """Measure one point in a fresh folder."""
    import suite

    with tempfile.TemporaryDirectory() as place:
        folder = f"{place}/data"
        suite.write_folder(Path(folder), images)
        command = worker(__file__, worker="point", folder=folder, side=side)
        contender = Contender(f"{images} images", command, environment={"BLOODCELL_CACHE": f"{place}/cache"})
        found = contender.receive()
        contender.close()
    return {"images": images, "side": side} | {name: found[name] for name in WHAT}


def draw(points: dict[str, list[dict]], place: Path) -> None:
    """Draw all curves on logarithmic axes."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for axis, (name, found) in zip(axes, points.items(), strict=True):
        for what, unit in WHAT.items():
            axis.loglog([each[name] for each in found], [each[what] for each in found], "o-", label=f"{what}, {unit}")
        axis.set(xlabel=name if name == "images" else "side in pixels (height; width is 4/3)")
        axis.minorticks_off()
        axis.set_xticks(values := [each[name] for each in found], values)
    axes[0].legend(frameon=False)
    figure.savefig(place)


def exponent(found: list[dict], name: str, what: str) -> str:
    """Return the slope on logarithmic axes, and, from the last two points, where it is going."""
    x, y = (np.log([each[key] for each in found]) for key in (name, what))
    return f"{np.polyfit(x, y, 1)[0]:.2f}; at the end {(y[-1] - y[-2]) / (x[-1] - x[-2]):.2f}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, nargs="+", default=[128, 256, 512, 1024, 2048], help="at a side of 60")
    options.add_argument("--sides", type=int, nargs="+", default=[60, 120, 240, 480], help="of 128 images")
    options.add_argument("--side", type=int, help=argparse.SUPPRESS)
    options.add_argument("--folder", help=argparse.SUPPRESS)
    given = options.parse_args()
    if chosen({"point": point}, given):
        return
    points = {
        "images": [measure(images, 60) for images in given.images],
        "side": [measure(128, side) for side in given.sides],
    }
    rows = [{"what": what} | {f"by {n}": exponent(f, n, what) for n, f in points.items()} for what in WHAT]
    finish(given, rows, points)
    if given.out:
        draw(points, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
