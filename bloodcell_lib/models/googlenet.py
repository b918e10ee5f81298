"""GoogLeNet: filters of several sizes side by side, and two auxiliary classifiers in the middle."""

import keras
from keras import KerasTensor, layers

from bloodcell_lib.models import start
from bloodcell_lib.models.registry import Card, Expected, register, table1

# Widths: 1x1, before 3x3, 3x3, before 5x5, 5x5, after pooling; by the stages between the poolings.
STAGES = (
    (("inception3a", 64, 96, 128, 16, 32, 32), ("inception3b", 128, 128, 192, 32, 96, 64)),
    (
        ("inception4a", 192, 96, 208, 16, 48, 64),
        ("inception4b", 160, 112, 224, 24, 64, 64),
        ("inception4c", 128, 128, 256, 24, 64, 64),
        ("inception4d", 112, 144, 288, 32, 64, 64),
        ("inception4e", 256, 160, 320, 32, 128, 128),
    ),
    (("inception5a", 256, 160, 320, 32, 128, 128), ("inception5b", 384, 192, 384, 48, 128, 128)),
)
AUXILIARY = ("inception4a", "inception4d")


def conv(x: KerasTensor, width: int, kernel: int, name: str, strides: int = 1) -> KerasTensor:
    """Convolution, batch normalisation, ReLU. Source: Ioffe & Szegedy 2015; the paper itself has biases."""
    x = layers.Conv2D(
        width, kernel, strides, "same", use_bias=False, kernel_initializer=start.uniform(), name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def inception(
    x: KerasTensor, one: int, before3: int, three: int, before5: int, five: int, after_pool: int, *, name: str
) -> KerasTensor:
    """Four branches on the same input: 1x1, 3x3, 5x5 and pooling; a narrow 1x1 precedes the costly filters.

    Source: Going Deeper with Convolutions, figure 2(b).

    Args:
        x: (batch, height, width, channels).
        one, before3, three, before5, five, after_pool: widths, as in table 1.
        name: first part of the layers' names.

    Returns:
        (batch, height, width, one + three + five + after_pool).
    """
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    return layers.Concatenate(name=f"{name}_concat")(
        [
            conv(x, one, 1, f"{name}_1x1"),
            conv(conv(x, before3, 1, f"{name}_before3x3"), three, 3, f"{name}_3x3"),
            conv(conv(x, before5, 1, f"{name}_before5x5"), five, 5, f"{name}_5x5"),
            conv(pooled, after_pool, 1, f"{name}_after_pool"),
        ]
    )


def head(x: KerasTensor, num_classes: int, name: str) -> KerasTensor:
    """An auxiliary classifier: pooling to 4x4, 1x1 convolution, a hidden layer, dropout, softmax.

    Source: Going Deeper with Convolutions, section 5. The paper pools 5x5 with stride 3, which gives 4x4
    for its maps of 14x14, but another number of weights at another image size.
    """
    x = layers.AdaptiveAveragePooling2D((4, 4), name=f"{name}_pool")(x)
    x = layers.Flatten(name=f"{name}_flatten")(conv(x, 128, 1, name))
    x = layers.Dense(1024, activation="relu", kernel_initializer=start.uniform(), name=f"{name}_hidden")(x)
    x = layers.Dropout(0.7, name=f"{name}_drop")(x)
    return layers.Dense(
        num_classes,
        activation="softmax",
        kernel_initializer=start.uniform(),
        dtype="float32",
        name=f"{name}_probabilities",
    )(x)


def auxiliary(network: keras.Model) -> list[KerasTensor]:
    """Return two softmax outputs, made anew and attached to the outputs of inception 4a and 4d.

    They bring a gradient to the lower layers during training and are left out afterwards. Source: Going Deeper
    with Convolutions, section 5.
    """
    num_classes = network.output.shape[-1]
    return [
        head(network.get_layer(f"{stage}_concat").output, num_classes, f"auxiliary{number}")
        for number, stage in enumerate(AUXILIARY, 1)
    ]


EXPECTED = Expected(
    parameters_1000=7_020_392,
    statistics=14_560,
    multiply_adds=1.58165e9,
    stages={
        "conv2": (56, 192),
        "inception3a": (28, 256),
        "inception3b": (28, 480),
        "inception4a": (14, 512),
        "inception4b": (14, 512),
        "inception4c": (14, 512),
        "inception4d": (14, 528),
        "inception4e": (14, 832),
        "inception5a": (7, 832),
        "inception5b": (7, 1024),
    },
)


@register(
    Card(
        name="googlenet",
        lesson=6,
        title="GoogLeNet",
        year=2015,
        paper="C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015",
        idea="Do not choose a filter size: run 1x1, 3x3, 5x5 and pooling side by side and concatenate them.",
        parameters=5_999_492,
        min_side=32,
        preprocessing="pixels / 127.5 - 1",
        notes="Two auxiliary heads during training only, pooled to 4x4 at every image size. Deviations: batch "
        "normalisation (momentum 0.9, epsilon 1e-3) instead of biases and local response normalisation. "
        "True 5x5 filters; dropout 0.4, in the auxiliary heads 0.7; padding 'same'. First weights as in "
        "PyTorch, uniform between ±1 / sqrt(fan-in). Measured on 4,000 images of the archive at 75x100, Adam 1e-4, 6 "
        "epochs, one seed: validation accuracy 90.4 %, and 78.5 % with He initialisation. (torchvision's own start, "
        "normal and 0.01 wide: 89.8 %.)",
        norm_momentum=0.9,
        auxiliary_weight=0.3,  # section 5 of the paper
        table1=table1(0.96, 0.96, 0.86, 0.9427, 0.0419, 0.0375),
        expected=EXPECTED,
    ),
    auxiliary=auxiliary,
)
def googlenet(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build GoogLeNet with batch normalisation and without its auxiliary heads. Source: table 1.

    See `models.build`.
    """
    x = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(inputs)
    x = conv(x, 64, 7, "conv1", strides=2)  # 120x160 becomes 60x80
    x = layers.MaxPooling2D(3, 2, "same", name="conv1_pool")(x)
    x = conv(conv(x, 64, 1, "conv2_before3x3"), 192, 3, "conv2_3x3")  # 30x40
    for number, modules in enumerate(STAGES, 3):  # then 15x20, 8x10, 4x5
        x = layers.MaxPooling2D(3, 2, "same", name=f"pool{number}")(x)
        for name, *widths in modules:
            x = inception(x, *widths, name=name)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.4, name="drop")(x)
    outputs = layers.Dense(
        num_classes, activation="softmax", kernel_initializer=start.uniform(), dtype="float32", name="probabilities"
    )(x)
    return keras.Model(inputs, outputs, name="googlenet")
