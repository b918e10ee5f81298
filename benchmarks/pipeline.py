"""Whole epochs on a folder of JPEGs, in turns with what one would write with Keras alone.

    python benchmarks/pipeline.py --out runs/pipeline.json

Keras alone is `image_dataset_from_directory` and `fit` with their defaults, and the same with `.cache()`: both train
the same network by the same Adam, and evaluate validation after each epoch; this library evaluates test as well and
keeps its state. Also: seconds from nothing to all images decoded, and from a later start to the first batch.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from alternating import Baton, Contender, Turns, chosen, clocks, finish, in_turns, parser, spread, table, worker

SIZE = (120, 160)
SIDES = ("ours", "keras", "keras with cache")


def ours(options: argparse.Namespace, baton: Baton) -> None:
    """Train by `training.fit`, its test curve timed apart."""
    import suite

    from bloodcell_lib import dataset, models, protocols, training
    from bloodcell_lib.backend import keras

    class Timed(training.TestCurve):
        def on_epoch_end(self, epoch: int, logs: dict) -> None:
            start = perf_counter()
            super().on_epoch_end(epoch, logs)
            epochs.parts = {"test curve": perf_counter() - start}

    training.TestCurve, epochs = Timed, suite.Epochs(baton)
    keras.utils.set_random_seed(0)
    protocol = protocols.get("paper", image_size=SIZE, epochs=options.rounds + 2)
    data = dataset.load(options.folder, **protocol.data)
    network = models.build(options.networks[0], SIZE, len(data.classes))
    out = os.path.join(options.folder, f"../runs{os.getpid()}")
    training.fit(network, data, protocol, callbacks=[epochs], out=out)


def by_directory(folder: str, cache: bool) -> list:
    """Return the datasets of training, validation and test as Keras makes them from a folder."""
    from bloodcell_lib.backend import keras

    make, how = keras.utils.image_dataset_from_directory, {"image_size": SIZE, "verbose": False}
    sets = [*make(f"{folder}/TRAIN", validation_split=0.2, subset="both", seed=0, **how), make(f"{folder}/TEST", **how)]
    return [each.cache() for each in sets] if cache else sets


def keras_alone(options: argparse.Namespace, baton: Baton) -> None:
    """Train by Keras' `compile` and `fit`."""
    import suite

    from bloodcell_lib import models
    from bloodcell_lib.backend import keras

    keras.utils.set_random_seed(0)
    train, validation, _ = by_directory(options.folder, options.worker == "keras with cache")
    network = models.build(options.networks[0], SIZE, len(suite.CLASSES))
    network.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = [suite.Epochs(baton)]
    network.fit(train, validation_data=validation, epochs=options.rounds + 2, verbose=0, callbacks=callbacks)


def start(options: argparse.Namespace, baton: Baton) -> None:
    """Hand over when all images were decoded once, or, at a later start, when the first batch is there."""
    later = options.worker.endswith("later")
    from bloodcell_lib import dataset, training

    if options.worker.startswith("keras"):
        from bloodcell_lib.backend import keras

        keras.ops.ones(1)  # what the backend does once is no part of it
    baton.start = clocks()
    if options.worker.startswith("ours"):
        data = dataset.load(options.folder, SIZE)
        training.Batches(data.train, 32, 0)[0]
    else:
        for each in by_directory(options.folder, False):
            for _ in each:
                if later:
                    break
            if later:
                break
    baton.hand_over()
    os._exit(0)


def starts(options: argparse.Namespace, folder: str, what: str) -> Turns:
    """Measure a first or a later start in turns, each in a process of its own."""
    turns: Turns = {"ours": [], "keras": []}
    for number in range(options.rounds):
        for side in turns:
            cache = {"BLOODCELL_CACHE": f"{folder}/../cache{number if what == 'first' else 0}"}
            command = worker(__file__, worker=f"{side} {what}", folder=folder)
            contender = Contender(side, command, environment=cache)
            turns[side].append(contender.receive())
            contender.close()
    return turns


def row(name: str, what: str, turns: Turns) -> dict[str, str]:
    """Return a row: seconds of all sides, and how many times ours the others take, by CPU and by wall."""
    mine, *others = turns
    found = {"network": name, "what": what}
    for clock in ("cpu", "wall"):
        values = {side: [turn[clock] for turn in every] for side, every in turns.items()}
        found[f"ours, {clock} s"] = f"{median(values[mine]):.2f}"
        for side in SIDES[1:]:
            known = side in others
            found[f"{side}, {clock} s"] = f"{median(values[side]):.2f}" if known else ""
            found[f"{side} / ours, {clock}"] = spread(values[side], values[mine]) if known else ""
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", default=["cnn", "resnet50"])
    options.add_argument("--images", type=int, default=640, help="to train and validate on (default: %(default)s)")
    options.add_argument("--folder", help=argparse.SUPPRESS)
    given = options.parse_args()
    named = {f"{side} {what}": start for side in ("ours", "keras") for what in ("first", "later")}
    if chosen({"ours": ours} | dict.fromkeys(SIDES[1:], keras_alone) | named, given):
        return
    import suite

    with tempfile.TemporaryDirectory() as place:
        folder = f"{place}/data"
        suite.write_folder(Path(folder), given.images)
        measured = {("", f"{what} start"): starts(given, folder, what) for what in ("first", "later")}
        for name in given.networks:
            shared = {"networks": name, "folder": folder, "rounds": given.rounds}
            environment = {"BLOODCELL_CACHE": f"{place}/cache0"}
            sides = [Contender(s, worker(__file__, worker=s, **shared), environment=environment) for s in SIDES]
            measured[name, "epoch"] = in_turns(sides, given.rounds)
    finish(given, [row(*key, turns) for key, turns in measured.items()], [*measured.values()])
    memory = []
    for (name, _), turns in measured.items():
        peaks = {f"{side}, peak MiB": f"{max(turn['peak'] for turn in every):.0f}" for side, every in turns.items()}
        share = [turn["test curve"] / turn["wall"] for turn in turns["ours"] if "test curve" in turn]
        if share:
            memory.append({"network": name} | peaks | {"test curve, % of epoch": f"{100 * median(share):.1f}"})
    print(f"\n{table(memory)}")


if __name__ == "__main__":
    main()
