"""A trained network as ONNX, LiteRT or SavedModel, held against Keras on the images that its run was tested on."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bloodcell_lib import cards, dataset, files, records
from bloodcell_lib.backend import keras
from bloodcell_lib.command import modelcard
from bloodcell_lib.command.watch import brief
from bloodcell_lib.dataset import Part
from bloodcell_lib.models import saved
from bloodcell_lib.records import Record
from bloodcell_lib.training import EVALUATION_BATCH

LIMIT = 1e-3  # of the difference between a probability and Keras'
SAME = 0.01  # mean difference up to which predictions are those of the record, whatever machine computed them
ELSE = "Nothing was written. Choose another --to."
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Format:
    """A form of a network: what Keras calls it, how its files end, what writes and reads it, how it is read.

    `mend` is what must be done to a file that Keras has written.
    """

    title: str
    keras: str
    suffix: str
    packages: tuple[str, ...]
    load: Callable[[str], Predict]
    mend: Callable[[str], None] = lambda path: None


def _mend_onnx(path: str) -> None:
    """Round up the factors by which maps are resized.

    tf2onnx 1.17 rounds some down, and onnxruntime then refuses Attention-56, where 3 * 1.6666666 counts as 4.
    """
    import onnx

    model = onnx.load(path)
    factors = {node.input[2] for node in model.graph.node if node.op_type == "Resize" and len(node.input) == 3}
    for kept in model.graph.initializer:
        if kept.name in factors:
            factor = onnx.numpy_helper.to_array(kept)
            above = np.where(factor % 1, np.nextafter(factor, np.float32(np.inf)), factor)
            kept.CopyFrom(onnx.numpy_helper.from_array(above, kept.name))
    onnx.save(model, path)


def _onnx(path: str) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"pixels": images})[0]


def _litert(path: str) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path).get_signature_runner()
    return lambda images: run(pixels=images)["output_0"]


def _saved_model(path: str) -> Predict:
    import tensorflow as tf

    served = tf.saved_model.load(path)
    return lambda images: served.serve(images).numpy()


FORMATS = {
    "onnx": Format("ONNX", "onnx", ".onnx", ("tf2onnx", "onnxruntime"), _onnx, _mend_onnx),
    "litert": Format("LiteRT", "litert", ".tflite", ("ai-edge-litert",), _litert),
    "savedmodel": Format("SavedModel", "tf_saved_model", ".savedmodel", (), _saved_model),
}


def export(
    run: str, to: Sequence[str], data: str | None = None, out: str | None = None, pixels: str = "float32"
) -> dict[Path, float | None]:
    """Write a run's network in other formats, and a model card beside them: all of these files, or none.

    Args:
        run: a record (.json), a network (.keras), or the name of a run in `files.out_dir()`.
        to: names of `FORMATS`.
        data: what the run was tested on, as for `dataset.load`; None also finds the sample of a run on it.
        out: folder of the files; None is that of the run.
        pixels: type of the input, "float32" or "uint8".

    Returns:
        The files, each with the largest difference of its probabilities from Keras' on the test images; the card has
        none.

    Raises:
        ValueError: a package is missing, the backend cannot do it, or run, network and data do not belong together;
            a format cannot be written, or differs by more than `LIMIT`.
        OSError: the folder cannot be written.
    """
    to = list(dict.fromkeys(to))
    _check(to)
    record = Record.read(saved.find(run).with_suffix(".json"))
    test = _test_images(record, data)
    network = _network(record, test)
    expected = network.predict(test.images, batch_size=EVALUATION_BATCH, verbose=0)
    folder = Path(out).expanduser() if out else record.folder
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{record.name}{FORMATS[name].suffix}" for name in to}
    about, off = folder / f"{record.name}.md", {}
    with ExitStack() as stack:
        for name, path in paths.items():
            part = stack.enter_context(files.replacing(path))
            _write(network, FORMATS[name], part, pixels)
            off[name] = _difference(network, FORMATS[name], part, test.images.astype(pixels), expected)
        made = {name: (path.name, off[name]) for name, path in paths.items()}
        text = modelcard.text(record, made, pixels)
        stack.enter_context(files.replacing(about)).write_text(text, encoding="utf-8")
        for path in filter(Path.is_dir, paths.values()):
            shutil.rmtree(path)  # no folder takes the place of another
    return {paths[name]: off[name] for name in to} | {about: None}


def _check(to: Sequence[str]) -> None:
    """Refuse what cannot work, before anything is read."""
    if unknown := [name for name in to if name not in FORMATS]:
        raise ValueError(f"no format is named {', '.join(unknown)}. Choose from: {', '.join(FORMATS)}.")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"a network is exported by TensorFlow, and KERAS_BACKEND is {keras.backend.backend()}. Repeat this with "
            "KERAS_BACKEND=tensorflow, which reads the networks of every backend."
        )
    needed = dict.fromkeys(package for name in to for package in FORMATS[name].packages)
    if missing := [package for package in needed if not find_spec(package.replace("-", "_"))]:
        raise ValueError(f"--to {' '.join(to)} needs what is not installed: pip install {' '.join(missing)}")


def _test_images(record: Record, data: str | None) -> Part:
    """Return the images that a run was tested on, as it saw them."""
    if data is None and record.dataset["name"] == cards.SAMPLE.name:
        data = cards.SAMPLE.name
    height, width = record.image_size
    how = {name: record.settings[name] for name in ("split", "limit", "frame")}
    found, of = dataset.load(data, (height, width), seed=record.seed, **how), record.dataset
    if (found.fingerprint, found.sizes) != (of["fingerprint"], of["sizes"]):
        raise ValueError(
            f"{record.name} was tested on {of['name']} (fingerprint {of['fingerprint']}), and these data are "
            f"{found.name} (fingerprint {found.fingerprint}). Give its own with --data."
        )
    return found.test


def _network(record: Record, test: Part) -> keras.Model:
    """Return the network of a record, if it predicts what the record says. It then computes in float32."""
    path = record.path.with_suffix(".keras")
    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever a file raises that was cut or flipped
        raise records.RecordError(f"{path}: not a readable network ({brief(error)}). Run the model again.") from error
    found = network.predict(test.images, batch_size=EVALUATION_BATCH, verbose=0)
    if not (off := np.abs(found - record.answers["probabilities"]).mean()) <= SAME:
        raise records.RecordError(
            f"{path}: not the network of its record: on the test images a probability differs by {off:.2g} on average, "
            f"and {SAME:g} is allowed. Run the model again."
        )
    for layer in network.layers:
        if layer.compute_dtype != "float32":  # what the converters need
            layer.dtype_policy = "float32"
    network.predict_function = None  # that of the former precision
    return network


def _write(network: keras.Model, form: Format, path: Path, pixels: str) -> None:
    """Write a network that takes any number of images of such pixels."""
    signature = [keras.InputSpec(pixels, shape=network.input_shape, name="pixels")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.export(path, form.keras, verbose=False, input_signature=signature)
            form.mend(str(path))
    except Exception as error:  # of many kinds, by the converters
        raise ValueError(f"{network.name} cannot be written as {form.title} ({brief(error)}). {ELSE}") from error


def _difference(network: keras.Model, form: Format, path: Path, images: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a written network's probabilities from Keras', if it is small."""
    try:
        predict = form.load(str(path))
        cuts = range(1, len(images), EVALUATION_BATCH)  # the first alone: any number of images must do
        found = np.concatenate([predict(some) for some in np.split(images, cuts)])
    except Exception as error:  # of many kinds, by what runs it
        raise ValueError(f"{network.name} as {form.title} does not run ({brief(error)}). {ELSE}") from error
    if not (off := float(np.abs(found - expected).max())) <= LIMIT:
        raise ValueError(
            f"{network.name} as {form.title}: a probability differs from Keras' by {off:.2g}, not {LIMIT:g}. {ELSE}"
        )
    return off
