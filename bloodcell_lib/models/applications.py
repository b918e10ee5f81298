"""What the four networks of `keras.applications` share: preprocessing, weights and a new softmax."""

import os
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops

MEANS = (123.68, 116.779, 103.939)  # of ImageNet's red, green and blue


def minus_one_to_one(pixels):
    """Return pixels 0..255 as -1..1, in float32 under every dtype policy. Source: Keras' mode "tf"."""
    return layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(pixels)


def centred_bgr(pixels):
    """Return the channels in the order BGR, ImageNet's means subtracted. Source: Keras' mode "caffe"."""
    pixels = layers.Rescaling(1.0, [-mean for mean in MEANS], dtype="float32", name="preprocess")(pixels)
    return ops.flip(pixels, axis=-1)


def network(
    name: str,
    application: Callable,
    preprocess: Callable,
    weights_file: str,
    inputs,
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
        ValueError: the weights are not on this machine and cannot be downloaded.
    """
    try:
        body = application(include_top=False, weights=weights, input_tensor=preprocess(inputs))
    except Exception as error:
        folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        if weights is None or (folder / weights_file).exists():
            raise
        raise ValueError(
            f"the ImageNet weights of {name} are missing and could not be downloaded. Place the "
            f"file {weights_file} in {folder}, or give weights=None."
        ) from error
    x = layers.GlobalAveragePooling2D(name="pool")(body.output)
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name=name)
