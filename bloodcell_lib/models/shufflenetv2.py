"""ShuffleNet V2 1x: half of the channels pass unchanged, the others are processed, and a shuffle mixes them."""

import keras
from keras import KerasTensor, initializers, layers, ops

from bloodcell_lib.models import start
from bloodcell_lib.models.registry import Card, Expected, register, table1

STAGES = (("stage2", 116, 4), ("stage3", 232, 8), ("stage4", 464, 4))  # width, number of units


def norm(x: KerasTensor, name: str) -> KerasTensor:
    """Batch normalisation with the constants of this network."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def pointwise(x: KerasTensor, width: int, name: str) -> KerasTensor:
    """1x1 convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(width, 1, use_bias=False, kernel_initializer=start.uniform(), name=f"{name}_conv")(x)
    return layers.ReLU(name=f"{name}_relu")(norm(x, name))


def depthwise(x: KerasTensor, strides: int, name: str) -> KerasTensor:
    """3x3 depthwise convolution and batch normalisation, without an activation.

    Its fan-in is 9: Keras' rules count all channels, although each filter sees only one.
    """
    x = layers.DepthwiseConv2D(
        3,
        strides,
        "same",
        use_bias=False,
        name=f"{name}_conv",
        depthwise_initializer=initializers.RandomUniform(-1 / 3, 1 / 3),
    )(x)
    return norm(x, name)


def shuffle(x: KerasTensor, name: str) -> KerasTensor:
    """Interleave the two halves of the channels: 0, n/2, 1, n/2 + 1, ...

    Source: ShuffleNet, section 3.1 and figure 1, with two groups.
    """
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height, width, 2, channels // 2), name=f"{name}_halves")(x)
    x = layers.Permute((1, 2, 4, 3), name=f"{name}_transpose")(x)
    return layers.Reshape((height, width, channels), name=f"{name}_shuffle")(x)


def branch(x: KerasTensor, width: int, strides: int, name: str) -> KerasTensor:
    """The branch that computes: 1x1, 3x3 depthwise, 1x1."""
    x = pointwise(x, width, f"{name}_first")
    x = depthwise(x, strides, f"{name}_depthwise")
    return pointwise(x, width, f"{name}_last")


def unit(x: KerasTensor, name: str) -> KerasTensor:
    """Split the channels, process one half, concatenate and shuffle. Source: ShuffleNet V2, figure 3(c).

    Args:
        x: (batch, height, width, channels); the number of channels is even.
        name: first part of the layers' names.

    Returns:
        The shape of `x`.
    """
    rest, work = ops.split(x, 2, axis=-1)
    work = branch(work, x.shape[-1] // 2, 1, name)
    return shuffle(layers.Concatenate(name=f"{name}_concat")([rest, work]), name)


def down_unit(x: KerasTensor, width: int, name: str) -> KerasTensor:
    """Halve both sides: two branches on the whole input, concatenated and shuffled.

    Source: ShuffleNet V2, figure 3(d).

    Returns:
        (batch, height / 2 rounded up, width / 2 rounded up, `width`).
    """
    rest = pointwise(depthwise(x, 2, f"{name}_side_depthwise"), width // 2, f"{name}_side")
    work = branch(x, width // 2, 2, name)
    return shuffle(layers.Concatenate(name=f"{name}_concat")([rest, work]), name)


EXPECTED = Expected(
    parameters_1000=2_294_784,
    statistics=16_180,
    multiply_adds=0.14389e9,
    stages={
        "stem": (56, 24),
        "stage2": (28, 116),
        "stage3": (14, 232),
        "stage4": (7, 464),
        "conv5": (7, 1024),
    },
)


@register(
    Card(
        name="shufflenetv2",
        lesson=7,
        title="ShuffleNet V2 1x",
        year=2018,
        paper="N. Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018",
        idea="Speed is memory traffic too: split the channels, process one half, and shuffle both halves.",
        parameters=1_273_884,
        min_side=32,
        preprocessing="pixels / 127.5 - 1",
        notes="Widths 24, 116, 232, 464, 1024; every unit splits into equal halves. Batch-norm momentum 0.9, "
        "epsilon 1e-5; no dropout; padding 'same'. First weights as in PyTorch, uniform between ±1 / sqrt(fan-in): "
        "they are small, so Adam's steps are large beside them. Measured on 4,000 images of the archive at 75x100, "
        "Adam 1e-3, 8 epochs, one seed: validation accuracy 84.8 %, and 59.6 % with He initialisation.",
        norm_momentum=0.9,
        learning_rate=3e-3,
        table1=table1(0.94, 0.95, 0.85, 0.2830, 0.0178, 0.0263),
        expected=EXPECTED,
    )
)
def shufflenetv2(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build ShuffleNet V2 with the widths of "1x". Source: table 5. See `models.build`."""
    x = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(inputs)
    x = layers.Conv2D(24, 3, 2, "same", use_bias=False, kernel_initializer=start.uniform(), name="stem_conv")(x)
    x = layers.ReLU(name="stem_relu")(norm(x, "stem"))  # 120x160 becomes 60x80
    x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)  # 30x40
    for name, width, units in STAGES:  # then 15x20, 8x10, 4x5
        x = down_unit(x, width, f"{name}_unit1")
        for number in range(2, units + 1):
            x = unit(x, f"{name}_unit{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(pointwise(x, 1024, "conv5"))
    outputs = layers.Dense(
        num_classes, activation="softmax", kernel_initializer=start.uniform(), dtype="float32", name="probabilities"
    )(x)
    return keras.Model(inputs, outputs, name="shufflenetv2")
