"""Training by a protocol: Keras' own `fit`, watched, resumable, its best epoch kept."""

import csv
import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

from bloodcell_lib import backend, metrics, models, records
from bloodcell_lib.backend import keras
from bloodcell_lib.dataset import Dataset, Part
from bloodcell_lib.models import cost
from bloodcell_lib.protocols import Protocol

PACKAGES = ("keras", "numpy", "scikit-learn", "pillow")
AUGMENTATION = {
    "flip": lambda: keras.layers.RandomFlip("horizontal_and_vertical"),
    "rotate": lambda: keras.layers.RandomRotation(20 / 360, fill_mode="constant"),
}


@dataclass(frozen=True)
class Run:
    """What training left behind.

    `history`: a list of one value an epoch for loss, accuracy, val_loss, val_accuracy, test_loss,
    test_accuracy and seconds; `best_epoch` counts from 1: the highest validation
    accuracy, of equals the lowest validation loss;
    `checkpoint` is the network after that epoch.
    """

    history: dict[str, list[float]]
    best_epoch: int
    checkpoint: Path
    resumed: bool


def fit(
    network: keras.Model,
    data: Dataset,
    protocol: Protocol,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    watchers: list[keras.callbacks.Callback] | None = None,
) -> Run:
    """Train a network by a protocol, or go on with a run that was interrupted.

    Args:
        network: from `models.build`, uncompiled; it is trained in place.
        data: validation chooses the best epoch; test is evaluated each epoch for its curve, and
            chooses nothing.
        protocol: the recipe.
        seed: names the run; call `keras.utils.set_random_seed` with it before building the network.
        out: folder of the run's files; None is `records.out_dir()`.
        watchers: callbacks that show progress; None prints a line an epoch, or draws live in Lab.

    Returns:
        A `Run`.

    Raises:
        ValueError: classes and outputs do not match, or the loss grew past all numbers.
    """
    if network.output_shape[-1] != len(data.classes):
        raise ValueError(
            f"{network.name} tells {network.output_shape[-1]} classes apart and {data.name} has "
            f"{len(data.classes)}: build it with num_classes={len(data.classes)}."
        )
    backend.check_arithmetic()
    backend.start_fast()
    files = _RunFiles(
        records.out_dir(out), records.stem(network.name, protocol.name, seed), _key(network, data, protocol)
    )
    earlier = files.restart()
    if protocol.norm_momentum is not None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = protocol.norm_momentum
    trainee = for_training(network, protocol)
    trainee.compile(
        optimizer=optimizer(protocol, len(data.train)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=backend.jit(),
    )
    trainee.optimizer.build(trainee.trainable_variables)  # else TensorFlow traces the first step twice
    trainee.fit(
        data.train.images,
        data.train.labels,
        batch_size=protocol.batch_size,
        epochs=protocol.epochs,
        validation_data=(data.validation.images, data.validation.labels),
        verbose=0,
        callbacks=[
            TestCurve(data.test),
            KeepBest(network, files.checkpoint, earlier),
            keras.callbacks.CSVLogger(str(files.log), append=True),
            *(progress(protocol.epochs) if watchers is None else watchers),
            keras.callbacks.BackupAndRestore(str(files.backup), double_checkpoint=True),
        ],
    )
    history = files.history()
    files.log.unlink()
    if not np.isfinite(history["loss"][-1]):
        raise ValueError(
            f"{network.name}: the loss is no number after epoch {len(history['loss'])}. Lower "
            f"LEARNING_RATE, which is {protocol.learning_rate:g}."
        )
    merits = _merits(history)
    return Run(history, merits.index(max(merits)) + 1, files.checkpoint, resumed=bool(earlier))


def optimizer(protocol: Protocol, images: int) -> keras.optimizers.Optimizer:
    """Return Adam at the protocol's rate, held or lowered to zero along a cosine."""
    rate = protocol.learning_rate
    if protocol.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, protocol.epochs * -(-images // protocol.batch_size))
    return keras.optimizers.Adam(rate)


def for_training(network: keras.Model, protocol: Protocol) -> keras.Model:
    """Return the network with what only training has: random layers in front, auxiliary heads.

    The variables are shared, and what is kept is the network alone.
    """
    heads = models.auxiliary(network)
    if not (protocol.augmentation or heads):
        return network
    x = inputs = keras.Input(network.input_shape[1:])
    for name in protocol.augmentation:
        x = AUGMENTATION[name]()(x)
    if not heads:
        return keras.Model(inputs, network(x), name=f"augmented_{network.name}")
    return WithAuxiliary(inputs, keras.Model(network.input, [network.output, *heads])(x))


class WithAuxiliary(keras.Model):
    """A network whose further outputs add to the loss in training, and to nothing else.

    Source: Szegedy et al. 2015, section 5, for the weight.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        main, *heads = y_pred
        loss = super().compute_loss(x, y, main, sample_weight, training)
        for head in heads if training else ():
            loss += 0.3 * keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, head))
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred[0], sample_weight)


def evaluate(
    network: keras.Model, run: Run, data: Dataset, protocol: Protocol, seed: int = 0
) -> tuple[dict, dict[str, np.ndarray]]:
    """Evaluate the kept network once on validation and test, and gather the record.

    Args:
        network: loaded from `run.checkpoint`: the best epoch on validation.
        run: from `fit`.
        data: the dataset that it was trained on.
        protocol: the recipe that it was trained by.
        seed: of the run.

    Returns:
        (record, predictions): the record without its predictions' file name, ready for `records.write`. Its
            `test_apart` is the test set without the photographs whose cell or field is also behind training or
            validation; `apart` of the predictions marks what is left.
    """
    network.compile(jit_compile=backend.jit())
    unit = "photo" if data.photos_known else "image"
    predictions, figures = {}, {}
    for name in ("validation", "test"):
        part = getattr(data, name)
        start = perf_counter()
        probabilities = network.predict(part.images, batch_size=64, verbose=0)
        answering = (perf_counter() - start) / len(part)  # of test, the second: the first one also compiles
        figures[name] = metrics.summary(part.labels, probabilities, part.photos, unit)
        prefix = "" if name == "test" else f"{name}_"
        predictions |= {
            f"{prefix}probabilities": probabilities,
            f"{prefix}labels": part.labels,
            f"{prefix}photos": part.photos,
            f"{prefix}paths": part.paths,
        }
    apart = ~np.isin(data.test.scenes, np.union1d(data.train.scenes, data.validation.scenes))
    predictions["apart"] = apart
    if data.photos_known and apart.any():
        figures["test_apart"] = metrics.summary(
            data.test.labels[apart], probabilities[apart], data.test.photos[apart], unit
        )
    history = dict(run.history)
    seconds = history.pop("seconds")
    record = {
        "model": network.name,
        "protocol": protocol.name,
        "seed": seed,
        "settings": asdict(protocol),
        "backend": keras.backend.backend(),
        "device": backend.device(),
        "versions": {
            "python": platform.python_version(),
            keras.backend.backend(): version(keras.backend.backend()),
            **{name: version(name) for name in PACKAGES},
        },
        "image_size": list(protocol.image_size),
        "parameters": network.count_params(),
        "multiply_adds": cost.multiply_adds(network),
        "dataset": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "sizes": data.sizes,
        },
        "history": history,
        "seconds": {"epochs": seconds, "total": sum(seconds), "per_image": answering},
        "best_epoch": run.best_epoch,
        "figures": "best epoch on validation",
        **figures,
        "resumed": run.resumed,
    }
    return json.loads(json.dumps(record)), predictions


class TestCurve(keras.callbacks.Callback):
    """Adds the epoch's seconds, then the test set's loss and accuracy, to the logs. It decides nothing."""

    def __init__(self, test: Part):
        super().__init__()
        self.test = test

    def on_epoch_begin(self, epoch, logs=None):
        self.start = perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = perf_counter() - self.start
        self.model.stop_training |= not np.isfinite(logs["loss"])
        figures = self.model.evaluate(self.test.images, self.test.labels, batch_size=64, verbose=0, return_dict=True)
        logs["test_loss"], logs["test_accuracy"] = figures["loss"], figures["accuracy"]


class KeepBest(keras.callbacks.Callback):
    """Saves the network, without what only training needs, whenever an epoch is the best on validation.

    Unlike `ModelCheckpoint` it keeps another model than the one that is trained, replaces the file in
    one step, and remembers the best of an interrupted run.
    """

    def __init__(self, network: keras.Model, path: Path, earlier: dict[str, list[float]]):
        super().__init__()
        self.network, self.path = network, path
        self.best = max(_merits(earlier), default=(-1.0, 0.0))

    def on_epoch_end(self, epoch, logs=None):
        merit = logs["val_accuracy"], -logs["val_loss"]
        if merit > self.best:
            self.best = merit
            part = self.path.with_name(f".{self.path.stem}.part.keras")
            self.network.save(part, include_optimizer=False)
            os.replace(part, self.path)


def _merits(history: dict[str, list[float]]) -> list[tuple[float, float]]:
    """What epochs are chosen by. The loss tells equals apart: on an easy validation set the first is unsettled."""
    return [(a, -loss) for a, loss in zip(history.get("val_accuracy", []), history.get("val_loss", []), strict=True)]


class EpochLine(keras.callbacks.Callback):
    """Prints one line an epoch."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        print(
            f"epoch {epoch + 1:3d}/{self.epochs}   train {logs['accuracy']:.3f} (loss {logs['loss']:.3f})   "
            f"validation {logs['val_accuracy']:.3f} (loss {logs['val_loss']:.3f})   "
            f"{logs['seconds']:.1f} s",
            flush=True,
        )


class LiveCurves(keras.callbacks.Callback):
    """Redraws the curves after each epoch, in a notebook that somebody looks at."""

    def __init__(self):
        super().__init__()
        self.history, self.handle = {}, None

    def on_epoch_end(self, epoch, logs=None):
        from IPython.display import display
        from matplotlib import pyplot as plt

        from bloodcell_lib import plots

        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
        figure = plots.curves(self.history)
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)

    def on_train_end(self, logs=None):
        if self.handle is not None:
            from IPython.display import Markdown

            self.handle.update(Markdown("The curves of all epochs follow."))


def progress(epochs: int) -> list[keras.callbacks.Callback]:
    """Return live curves where a Jupyter server shows the notebook, else a line an epoch."""
    return [LiveCurves()] if "JPY_SESSION_NAME" in os.environ else [EpochLine(epochs)]


def _key(network: keras.Model, data: Dataset, protocol: Protocol) -> str:
    """A hash of all that must be equal for an interrupted run to be gone on with."""
    same = [network.to_json(), data.fingerprint, data.sizes, asdict(protocol), keras.backend.backend()]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()[:12]


class _RunFiles:
    """Where a run keeps its checkpoint, and what it needs to go on after an interruption."""

    def __init__(self, out: Path, stem: str, key: str):
        self.checkpoint = out / f"{stem}.keras"
        self.log = out / f".{stem}-{key}.csv"
        self.backup = out / f".{stem}-{key}.backup"

    def restart(self) -> dict[str, list[float]]:
        """Return the history so far, trimmed to the epochs whose weights were backed up; {} at a new start."""
        state = self.backup / "training_metadata.json"
        if not (state.exists() and self.log.exists() and self.checkpoint.exists()):
            self.log.unlink(missing_ok=True)
            for file in self.backup.glob("*"):
                file.unlink()
            return {}
        return self.history(json.loads(state.read_text())["epoch"])

    def history(self, epochs: int | None = None) -> dict[str, list[float]]:
        """Read the log; an epoch done twice, because its backup was lost, counts once, the later."""
        with open(self.log, newline="") as file:
            rows = {int(row.pop("epoch")): row for row in csv.DictReader(file)}
        kept = [rows[epoch] for epoch in sorted(rows)][:epochs]
        return {name: [float(row[name]) for row in kept] for name in kept[0]} if kept else {}
