"""What the four networks of `keras.applications` share: preprocessing, weights and a new softmax."""

import os
from collections.abc import Callable
from pathlib import Path

import keras
from keras import KerasTensor, layers, ops

MEANS = (123.68, 116.779, 103.939)  # of ImageNet's red, green and blue


def minus_one_to_one(pixels: KerasTensor) -> KerasTensor:
    """Return pixels 0..255 as -1..1, in float32 under every dtype policy. Source: Keras' mode "tf"."""
    return layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(pixels)


def centred_bgr(pixels: KerasTensor) -> KerasTensor:
    """Return the channels in the order BGR, ImageNet's means subtracted. Source: Keras' mode "caffe"."""
    pixels = layers.Rescaling(1.0, [-mean for mean in MEANS], dtype="float32", name="preprocess")(pixels)
    return ops.flip(pixels, axis=-1)


def network(
    name: str,
    application: Callable[..., keras.Model],
    preprocess: Callable[[KerasTensor], KerasTensor],
    weights_file: str,
    inputs: KerasTensor,
    num_classes: int,
    weights: str | None,
) -> keras.Model:
    """Build one of `keras.applications` on preprocessed pixels, with average pooling and a new softmax.

    Args:
        name: the model's name.
        application: the function of `keras.applications`.
        preprocess: from pixels 0..255 to what the published weights were trained on.
        weights_file: the file that Keras downloads for `weights="imagenet"` without the top.
        inputs, num_classes, weights: see `models.build`.

    Raises:
        ValueError: the weights are not on this machine and cannot be downloaded, or their file does not fit.
    """
    body = _body(name, application, preprocess(inputs), weights_file, weights)
    x = layers.GlobalAveragePooling2D(name="pool")(body.output)
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name=name)


def _body(
    name: str, application: Callable[..., keras.Model], inputs: KerasTensor, weights_file: str, weights: str | None
) -> keras.Model:
    """Build the network without its top; a file that lies where Keras keeps it is read as it is."""
    path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / weights_file
    # As a path: where Keras knows the file by name, it downloads anew over one with another checksum, and without a
    # connection the file is lost.
    placed = weights is not None and path.exists()
    try:
        return application(include_top=False, weights=str(path) if placed else weights, input_tensor=inputs)
    except Exception as error:
        if weights is None:
            raise
        if placed:
            raise ValueError(f"{path} does not hold the ImageNet weights of {name}: replace or remove it.") from error
        raise ValueError(
            f"the ImageNet weights of {name} are missing and could not be downloaded ({error}). Place the "
            f"file {weights_file} in {path.parent}, or give weights=None."
        ) from error
