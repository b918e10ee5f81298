"""The baseline: four convolutional layers and nothing else."""

import keras
from keras import layers

from bloodcell_lib.models.registry import Card, register

WIDTHS = (32, 64, 128, 256)


def conv_block(x, width: int, name: str):
    """Convolution, batch normalisation, ReLU, and pooling that halves both sides.

    Source: Ioffe & Szegedy 2015 for the order; the bias is left to the batch normalisation.
    """
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.MaxPooling2D(2, name=f"{name}_pool")(x)


@register(
    Card(
        name="cnn",
        title="A four-layer CNN",
        year=2022,
        paper="the traditional CNN of Hemodynamic Analysis and Diagnosis Based on Multi-Deep Learning Models",
        idea="Small filters, shared over the image and stacked, see ever larger patterns.",
        parameters=390_884,
        min_side=16,
        preprocessing="pixels / 255",
        notes="Widths 32, 64, 128, 256; batch-norm momentum 0.9, epsilon 1e-3; Glorot initialisation; no dropout. "
        "The paper gives the number of layers and no widths.",
    )
)
def cnn(inputs, num_classes: int, weights: None = None) -> keras.Model:
    """Build the four-layer CNN, global average pooling and softmax. See `models.build`."""
    x = layers.Rescaling(1 / 255, name="preprocess")(inputs)
    for stage, width in enumerate(WIDTHS, 1):  # each stage halves the sides: 120x160 ends at 7x10
        x = conv_block(x, width, f"block{stage}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="cnn")
