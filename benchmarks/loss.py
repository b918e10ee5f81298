"""The mean loss over the first 1, 10 and 100 steps, of this checkout and another: does a change keep the arithmetic?

    python benchmarks/loss.py --against ../other-checkout --out runs/loss.json

Both train on the same random images from one seed. Rounding differs between two ways to compute one thing, and Adam,
which divides a gradient by its size, carries it on; so the other checkout also starts from weights that are changed by
one unit in the last place. A change of rounding alone comes about as far from the other checkout as that.
"""

import argparse
import os
import tempfile

from alternating import Baton, Contender, chosen, finish, parser, worker

STEPS, BATCH, SIZE = (1, 10, 100), 8, (75, 100)


def train(options: argparse.Namespace, baton: Baton) -> None:
    """Train by `training.fit` in an epoch that ends with the last step; hand over the losses."""
    import numpy as np
    import suite

    from bloodcell_lib import models, protocols, training
    from bloodcell_lib.backend import keras

    keras.utils.set_random_seed(0)
    data = suite.noise((BATCH * max(STEPS), 8, 8), SIZE)
    network = models.build(options.networks[0], SIZE, len(data.classes))
    if options.shifted:
        network.set_weights([np.nextafter(weight, np.inf) for weight in network.get_weights()])
    losses = {}

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict) -> None:
            if batch + 1 in STEPS:
                losses[str(batch + 1)] = float(logs["loss"])

    protocol = protocols.get("paper", image_size=SIZE, batch_size=BATCH, epochs=1)
    training.fit(network, data, protocol, callbacks=[Losses()], out=os.path.join(options.folder, str(os.getpid())))
    baton.hand_over(**losses)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", default=["cnn", "squeezenet", "resnet50"])
    options.add_argument("--against", default=".", help="a folder (default: %(default)s)")
    options.add_argument("--shifted", type=int, default=0, help=argparse.SUPPRESS)
    options.add_argument("--folder", help=argparse.SUPPRESS)
    given = options.parse_args()
    if chosen({"train": train}, given):
        return
    other, rows, measured = {"PYTHONPATH": os.path.abspath(given.against)}, [], {}
    sides = {"this": ({}, 0), "other": (other, 0), "other, weights off by one unit": (other, 1)}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            for side, (environment, shifted) in sides.items():
                command = worker(__file__, worker="train", networks=name, shifted=shifted, folder=folder)
                contender = Contender(side, command, environment=environment)
                measured[f"{name}, {side}"] = contender.receive()
                contender.close()
            for step in map(str, STEPS):
                losses = {side: f"{measured[f'{name}, {side}'][step]:.7f}" for side in sides}
                rows.append({"network": name, "steps": step} | losses)
    finish(given, rows, measured)


if __name__ == "__main__":
    main()
