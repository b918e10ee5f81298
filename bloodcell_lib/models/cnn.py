"""The baseline: four convolutional layers and nothing else."""

import keras
from keras import KerasTensor, layers

from bloodcell_lib.models.registry import Card, Expected, register, table1

WIDTHS = (32, 64, 128, 256)


def conv_block(x: KerasTensor, width: int, name: str) -> KerasTensor:
    """Convolution, batch normalisation, ReLU, and pooling that halves both sides.

    Source of the order: Ioffe & Szegedy 2015. Batch normalisation makes a bias in the convolution redundant.
    """
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.MaxPooling2D(2, name=f"{name}_pool")(x)


EXPECTED = Expected(
    parameters_1000=646_856,
    statistics=960,
    multiply_adds=0.73699e9,
    stages={
        "block1": (112, 32),
        "block2": (56, 64),
        "block3": (28, 128),
        "block4": (14, 256),
    },
)


@register(
    Card(
        name="cnn",
        lesson=1,
        title="A four-layer CNN",
        year=2022,
        paper="the traditional CNN of Hemodynamic Analysis and Diagnosis Based on Multi-Deep Learning Models",
        idea="Small filters, shared over the image and stacked, see larger and larger patterns.",
        parameters=390_884,
        min_side=16,
        preprocessing="pixels / 255",
        notes="Widths 32, 64, 128, 256; batch-norm momentum 0.9, epsilon 1e-3; Glorot initialisation; no dropout. "
        "The paper gives the number of layers but not their widths.",
        norm_momentum=0.9,
        table1=table1(0.93, 0.88, 0.72, 0.0548, 0.5620, 2.0388),
        expected=EXPECTED,
    )
)
def cnn(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build the four-layer CNN, global average pooling and softmax. See `models.build`."""
    x = layers.Rescaling(1 / 255, name="preprocess")(inputs)
    for stage, width in enumerate(WIDTHS, 1):  # each stage halves the sides: 120x160 ends at 7x10
        x = conv_block(x, width, f"block{stage}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="cnn")
