"""Training by a protocol: Keras' own `fit`, its best epoch kept, resumable at every epoch."""

import json
import os
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bloodcell_lib import backend, codebase, files, metrics, models, progress, records
from bloodcell_lib.backend import keras
from bloodcell_lib.dataset import Dataset, Part
from bloodcell_lib.models import cost, ood, saved
from bloodcell_lib.protocols import Protocol
from bloodcell_lib.records import Record

PACKAGES = ("bloodcell", "keras", "numpy", "scikit-learn", "pillow")
AUGMENTATION = {
    "flip": lambda: keras.layers.RandomFlip("horizontal_and_vertical"),
    "rotate": lambda: keras.layers.RandomRotation(20 / 360, fill_mode="constant"),
    "turn": lambda: keras.layers.RandomRotation(1.0, fill_mode="constant"),
    "zoom": lambda: keras.layers.RandomZoom(0.2, fill_mode="constant"),
    "shift": lambda: keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant"),
    "stain": lambda: keras.layers.RandomColorJitter(
        brightness_factor=0.1, contrast_factor=0.2, saturation_factor=(0.43, 0.57), hue_factor=0.04
    ),
}
EVALUATION_BATCH = 64
EXACT = "preprocess", "pool", "probabilities"  # layers that compute in float32 whatever the precision
DONE = "BLOODCELL_DONE"  # set by a batch: the record of a run whose notebook was not executed to its end


@dataclass(frozen=True)
class Run:
    """A finished training, and all that says which one it was.

    `network` has the weights of the best epoch on validation, as has the file `checkpoint`; `fingerprint` and `sizes`
    are of the data; `code` is `codebase.digest`. `history` has a value per epoch for loss, accuracy, val_loss,
    val_accuracy, test_loss, test_accuracy and seconds; `best_epoch` counts from 1.
    """

    network: keras.Model
    protocol: Protocol
    seed: int
    fingerprint: str
    sizes: dict[str, int]
    code: str
    history: dict[str, list[float]]
    best_epoch: int
    resumed: bool
    folder: Path

    @property
    def name(self) -> str:
        """What its files are called."""
        return files.run_name(self.network.name, self.protocol.label, self.seed)

    @property
    def checkpoint(self) -> Path:
        """The file of the network of the best epoch."""
        return self.folder / f"{self.name}.keras"


def fit(
    network: keras.Model,
    data: Dataset,
    protocol: Protocol,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> Run:
    """Train a network by a protocol, or resume a run that was interrupted.

    Args:
        network: from `models.build`, uncompiled; it is trained in place and ends with the weights of its best epoch.
        data: validation chooses the best epoch; test is evaluated after each epoch for its curve, and chooses nothing.
        protocol: the recipe; its frame gives way to that of the data.
        seed: names the run and orders the images; call `keras.utils.set_random_seed` with it before building.
        out: folder of the run's files; None is `files.out_dir()`.
        callbacks: what shows progress; None is `progress.default`.

    Raises:
        ValueError: network, data, protocol and seed do not fit together, or the loss became NaN.
        BusyError: another process trains this very run in this folder.
    """
    _check(network, data, protocol, seed)
    if data.frame not in (protocol.frame, None):
        print(f"{data.name} was loaded with frame={data.frame!r}: the run is named after it.")
        protocol = replace(protocol, frame=data.frame)
    backend.start_fast()
    state = State(network, data, protocol, seed, files.out_dir(out))
    model = for_training(network, protocol)
    model.compile(
        optimizer=optimizer(network, protocol, len(data.train)),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],  # named only, its variables trace the step twice
        jit_compile=backend.jit(),
    )
    shown = progress.default() if callbacks is None else callbacks
    with files.alone(state.path, state.run.checkpoint, wait=False):
        state.restore(model)
        model.fit(
            Batches(data.train, protocol.batch_size, seed, first_epoch=state.epoch),
            validation_data=Batches(data.validation, EVALUATION_BATCH),
            initial_epoch=state.epoch,
            epochs=models.card(network.name).passes(protocol),
            shuffle=False,  # the batches are shuffled already, and in an order that a resumed run has too
            verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN(), TestCurve(data.test), *shown, state],
        )
        backend.synchronize(network, False)
        return state.finish()


def evaluate(run: Run, data: Dataset) -> Record:
    """Evaluate the network of the best epoch once on train, validation and test, and gather the record.

    Args:
        run: from `fit`.
        data: the dataset that it was trained on.

    Returns:
        The record, not yet written, with its predictions; the network's file holds the record too. `test_unseen` is
        the test set without the photographs whose cell or field is also behind training or validation; `unseen` of the
        predictions marks what is left. Of train only loss and accuracy are kept: they tell statistics of batch
        normalisation that lag from overfitting.

    Raises:
        ValueError: these are other data, or other parts of them.
    """
    if (data.fingerprint, data.sizes) != (run.fingerprint, run.sizes) or data.frame not in (run.protocol.frame, None):
        raise ValueError(f"{run.name} was trained on other data than {data.name}: evaluate it on the same.")
    _check(run.network, data, run.protocol, run.seed)
    network = parallel(run.network)
    network.compile(jit_compile=backend.jit())
    on_train = _predict(network, data.train)
    answers = _predict(network, data.validation, "validation_")
    start = perf_counter()  # of test, not the first: that one also compiles
    answers |= _predict(network, data.test)
    per_image = (perf_counter() - start) / len(data.test)
    answers["unseen"] = ~np.isin(data.test.scenes, np.union1d(data.train.scenes, data.validation.scenes))
    record = _record(run, data, on_train, answers, per_image)
    saved.complete(run.checkpoint, record.as_json(), ood.fit(run.network, data))
    return record


def for_training(network: keras.Model, protocol: Protocol) -> keras.Model:
    """Return the network with what only training has: random layers in front, auxiliary heads.

    The variables are shared; what is kept is the network alone, with the protocol's precision and momentum.
    """
    backend.synchronize(network)
    backend.fuse(network)
    for layer in network.layers:
        if protocol.precision != "float32" and layer.name not in EXACT:
            layer.dtype_policy = protocol.precision
        if protocol.norm_momentum is not None and isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = protocol.norm_momentum
    heads, weight = models.auxiliary(network)
    x = inputs = keras.Input(network.input_shape[1:])
    for name in protocol.augmentation:
        x = AUGMENTATION[name]()(x)
    if heads:
        model = WithAuxiliary(inputs, keras.Model(network.input, [network.output, *heads])(x))
        model.auxiliary_weight = weight
    elif protocol.augmentation:
        model = Parallel(inputs, network(x), name=f"augmented_{network.name}")
    else:
        model = parallel(network)
    model.smoothing = protocol.label_smoothing or 0.0
    return model


def parallel(network: keras.Model) -> "Parallel":
    """Return a model of the network's layers to compile, so that the network's own file names no optimizer."""
    return Parallel(network.input, network.output, name=network.name)


class Parallel(keras.Model):
    """A network whose batches several devices share, also those that they do not divide evenly.

    In training, a share of every label may be spread evenly over all classes. Source: Szegedy et al. 2016, Rethinking
    the Inception Architecture, section 7.
    """

    smoothing = 0.0

    def call(self, inputs, training=None, mask=None):
        return super().call(backend.shard(inputs), training=training, mask=mask)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training and self.smoothing:
            evenly = -keras.ops.mean(keras.ops.log(keras.ops.clip(y_pred, keras.config.epsilon(), 1)))
            loss = (1 - self.smoothing) * loss + self.smoothing * evenly
        return backend.weigh(loss, y)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras 3.15 learns a batch's shape from the replicas' mean batch, and raises where their sizes differ."""
        if backend.mirrored:
            self._symbolic_build(data_batch=(keras.KerasTensor(self.input_shape), keras.KerasTensor((None,), "int64")))


class WithAuxiliary(Parallel):
    """A network whose further outputs add to the loss in training, and to nothing else.

    Source: Szegedy et al. 2015, section 5.
    """

    auxiliary_weight = 0.0

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        main, *heads = y_pred
        loss = super().compute_loss(x, y, main, sample_weight, training)
        for head in heads if training else ():
            loss += self.auxiliary_weight * super().compute_loss(x, y, head, sample_weight, training)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred[0], sample_weight)


def optimizer(network: keras.Model, protocol: Protocol, images: int) -> keras.optimizers.Optimizer:
    """Return Adam at the protocol's rate, constant, or with a warm-up and then a cosine to zero over so many images.

    A warm-up raises it from zero during the first epoch, or the first sixth of the steps where this is less: without
    batch normalisation, SqueezeNet needs it at 1e-3. Kernels decay, biases and the scales and shifts of batch
    normalisation do not. Source: Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization.
    """
    rate, decay = models.card(network.name).rate(protocol), protocol.weight_decay
    if protocol.schedule != "constant":
        steps = models.card(network.name).passes(protocol) * (epoch := -(-images // protocol.batch_size))
        warm = min(epoch, steps // 6)
        rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warm, warmup_target=rate, warmup_steps=warm)
    adam = FineTuning(models.head(network), rate, decay) if protocol.weights else backend.Adam(rate, weight_decay=decay)
    adam.exclude_from_weight_decay([v for v in network.trainable_variables if len(v.shape) == 1])
    return adam


class FineTuning(backend.Adam):
    """Adam that moves published weights at a tenth of the rate of the new head, which starts at random.

    One phase, unlike a frozen body that is released later: the run is resumed as any other. Source: Howard & Ruder
    2018, Universal Language Model Fine-tuning, section 3.2 (discriminative fine-tuning).
    """

    body_rate = 0.1

    def __init__(self, head: list[keras.Variable], learning_rate: Any, weight_decay: float | None = None):
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.head = {id(variable) for variable in head}

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.fast = {place for place, variable in enumerate(variables) if id(variable) in self.head}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = 1.0 if self._get_variable_index(variable) in self.fast else self.body_rate
        super().update_step(gradient, variable, learning_rate * rate)


class Batches(keras.utils.PyDataset):
    """Images in batches: with a seed in a new order in every epoch, known from the seed and the epoch alone.

    With arrays and a seed, Keras' `fit` on TensorFlow gives every epoch the same order. For arrays whose last batch is
    full and for others, it also traces the same step anew.
    """

    def __init__(self, part: Part, batch_size: int, seed: int | None = None, first_epoch: int = 0):
        super().__init__()
        self.part, self.size, self.seed, self.epoch = part, batch_size, seed, first_epoch
        self.on_epoch_begin()

    def on_epoch_begin(self) -> None:
        rng = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        self.order = rng.permutation(len(self.part)) if rng else np.arange(len(self.part))

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __len__(self) -> int:
        return -(-len(self.part) // self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.size : (index + 1) * self.size]
        return self.part.images[rows], self.part.labels[rows]


class TestCurve(keras.callbacks.Callback):
    """Adds the epoch's seconds, then the loss and the accuracy of the test set, to the logs. It decides nothing."""

    def __init__(self, test: Part):
        super().__init__()
        self.test = test

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.start = perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["seconds"] = perf_counter() - self.start
        logs["test_loss"], logs["test_accuracy"] = self.model.evaluate(Batches(self.test, EVALUATION_BATCH), verbose=0)


class State(keras.callbacks.Callback):
    """All that a run needs to be resumed, in one file that is replaced after each epoch.

    Weights, optimizer and the seeds of random layers, the history, and the weights of the best epoch so far. Keras'
    `BackupAndRestore` keeps neither the seeds nor the history nor the best epoch.
    """

    def __init__(self, network: keras.Model, data: Dataset, protocol: Protocol, seed: int, folder: Path):
        super().__init__()
        self.network, self.epoch, self.resumed, self.classes = network, 0, False, data.classes
        self.history: dict[str, list[float]] = {}
        self.best = network.get_weights()
        code = codebase.digest(network.name)
        self.run = Run(network, protocol, seed, data.fingerprint, data.sizes, code, {}, 0, False, folder)
        self.path = folder / f"{self.run.name}.state.npz"
        shapes = [[type(layer).__name__, *(list(w.shape) for w in layer.weights)] for layer in network.layers]
        own = records.identity(records.settings(protocol), data.fingerprint, keras.backend.backend(), code)
        self.identity = json.dumps(own | {"network": shapes, "sizes": data.sizes})

    def restore(self, model: keras.Model) -> None:
        """Continue from the file if it is of this very run; say so where it is not, and start anew.

        What BLOODCELL_DONE names is the record of this run, finished and sound: nothing is left to train.
        """
        model.optimizer.build(model.trainable_variables)  # else TensorFlow traces the first step twice
        self.variables = [*model.variables, *model.optimizer.variables]
        if self.path.exists():
            self._resume()
        elif os.environ.get(DONE) == str(record := self.run.folder / f"{self.run.name}.json"):
            done = records.Record.read(record)
            self.history = done.history | {"seconds": done.seconds["epochs"]}
            self.best = keras.saving.load_model(self.run.checkpoint, compile=False).get_weights()
            self.epoch, self.resumed = len(self.history["loss"]), done.resumed
            print(f"{record.name}: trained before.")

    def _resume(self) -> None:
        try:
            kept = files.read_arrays(self.path)
            if str(kept["identity"]) != self.identity:
                raise ValueError("it is of a run with another recipe, data set, backend or code")
            history, best = json.loads(str(kept["history"])), [kept[f"best{n}"] for n in range(len(self.best))]
            values = [kept[f"variable{place}"] for place in range(len(self.variables))]
        except Exception as error:  # whatever a file raises that was cut or flipped
            print(f"{self.path.name}: cannot be resumed ({error}); training starts at the first epoch.")
            return
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        self.history, self.best, self.epoch, self.resumed = history, best, len(history["loss"]), True
        print(f"{self.path.name}: resumed after epoch {self.epoch}.")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if not np.isfinite(self.history["loss"][-1]):
            return  # the last sound state stays
        if records.best_epoch(self.history) == epoch + 1:
            self.best = self.network.get_weights()
        arrays = {f"variable{place}": keras.ops.convert_to_numpy(v) for place, v in enumerate(self.variables)}
        arrays |= {f"best{place}": value for place, value in enumerate(self.best)}
        with files.replacing(self.path) as part:
            np.savez(part, identity=self.identity, history=json.dumps(self.history), **arrays)

    def finish(self) -> Run:
        """Give the network the weights of its best epoch, save it, and return the run.

        Raises:
            ValueError: the loss became NaN.
        """
        if not np.isfinite(self.history["loss"][-1]):
            self.path.unlink(missing_ok=True)
            raise ValueError(
                f"{self.run.name}: the loss became NaN in epoch {len(self.history['loss'])}. Lower LEARNING_RATE, "
                f"which is {models.card(self.network.name).rate(self.run.protocol):g}."
            )
        self.network.set_weights(self.best)
        run = replace(self.run, history=self.history, best_epoch=records.best_epoch(self.history), resumed=self.resumed)
        about = {"name": run.name, "classes": self.classes, "settings": records.settings(run.protocol)}
        saved.save(self.network, run.checkpoint, about)
        return run


def _check(network: keras.Model, data: Dataset, protocol: Protocol, seed: int) -> None:
    """Refuse what the record would not be true of: other data than the protocol and the seed say, other classes."""
    if (has := network.output_shape[-1]) != (needed := len(data.classes)):
        raise ValueError(f"{network.name} has {has} classes, {data.name} {needed}: build it with num_classes={needed}.")
    wanted = {"split": protocol.split, "image_size": protocol.image_size, "seed": seed, "limit": protocol.limit}
    found = {"split": data.split, "image_size": data.train.images.shape[1:3], "seed": data.seed, "limit": data.limit}
    wrong = [f"{name}={has!r}, not {wanted[name]!r}" for name, has in found.items() if has not in (wanted[name], None)]
    if protocol.limit and (most := max(data.sizes.values())) > protocol.limit:
        wrong.append(f"{most} images in a part, not limit={protocol.limit}")
    if wrong:
        how = "dataset.load(DATA, seed=SEED, **protocol.data)"
        raise ValueError(f"{data.name} was loaded with {'; '.join(wrong)}. Load what the protocol says: {how}.")
    backend.check_arithmetic()


def _predict(network: keras.Model, part: Part, prefix: str = "") -> dict[str, np.ndarray]:
    found = {"labels": part.labels, "photos": part.photos, "paths": part.paths}
    found["probabilities"] = network.predict(part.images, batch_size=EVALUATION_BATCH, verbose=0)
    return {f"{prefix}{name}": values for name, values in found.items()}


def _record(
    run: Run, data: Dataset, on_train: dict[str, np.ndarray], answers: dict[str, np.ndarray], per_image: float
) -> Record:
    unit = "photo" if data.photos_known else "image"
    name, seconds = keras.backend.backend(), run.history["seconds"]

    def measured(prefix: str = "", rows: Any = slice(None)) -> dict[str, Any]:
        labels, probabilities, photos = (answers[prefix + what][rows] for what in ("labels", "probabilities", "photos"))
        return metrics.summary(labels, probabilities, photos, unit)

    return Record(
        model=run.network.name,
        protocol=run.protocol.label,
        seed=run.seed,
        settings=records.settings(run.protocol),
        backend=name,
        versions={"python": platform.python_version(), **{package: version(package) for package in (name, *PACKAGES)}},
        device=backend.device(),
        code=run.code,
        revision=codebase.revision(),
        image_size=list(run.protocol.image_size),
        parameters=run.network.count_params(),
        multiply_adds=cost.multiply_adds(run.network),
        dataset=dict(name=data.name, fingerprint=data.fingerprint, classes=list(data.classes), sizes=data.sizes),
        history={name: values for name, values in run.history.items() if name != "seconds"},
        seconds={"epochs": seconds, "total": sum(seconds), "per_image": per_image},
        best_epoch=run.best_epoch,
        train=metrics.loss_and_accuracy(on_train["labels"], on_train["probabilities"]),
        validation=measured("validation_"),
        test=measured(),
        test_unseen=measured(rows=answers["unseen"]) if data.photos_known and answers["unseen"].any() else None,
        predictions=f"{run.name}.predictions.npz",
        resumed=run.resumed,
        folder=run.folder,
        arrays=answers,
    )
