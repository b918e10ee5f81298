"""Attention-56, a residual attention network: masks that say where to look."""

import keras
from keras import KerasTensor, layers, ops

from bloodcell_lib.models.registry import Card, Expected, register, table1

# Width, stride of the residual unit before the module, halvings in the mask branch.
STAGES = ((256, 1, 3), (512, 2, 2), (1024, 2, 1))


def norm_relu(x: KerasTensor, name: str) -> KerasTensor:
    """Batch normalisation and ReLU, before a convolution."""
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def conv(x: KerasTensor, width: int, kernel: int, name: str, strides: int = 1) -> KerasTensor:
    """Convolution without bias."""
    return layers.Conv2D(width, kernel, strides, "same", use_bias=False, name=f"{name}_conv")(x)


def unit(x: KerasTensor, width: int, name: str, strides: int = 1) -> KerasTensor:
    """Pre-activation bottleneck: 1x1, 3x3 and 1x1 convolutions, added to the input.

    Source: He et al., Identity Mappings in Deep Residual Networks, figure 4(e). Where the width changes, the
    shortcut is a 1x1 convolution of the activated input; elsewhere it is the input itself.

    Args:
        x: (batch, height, width, channels).
        width: channels out; a quarter of them inside.
        name: first part of the layers' names.
        strides: of the 3x3 convolution.
    """
    shortcut, x = x, norm_relu(x, f"{name}_1")
    if shortcut.shape[-1] != width:
        shortcut = conv(x, width, 1, f"{name}_shortcut", strides)
    x = conv(x, width // 4, 1, f"{name}_1")
    x = conv(norm_relu(x, f"{name}_2"), width // 4, 3, f"{name}_2", strides)
    x = conv(norm_relu(x, f"{name}_3"), width, 1, f"{name}_3")
    return layers.Add(name=f"{name}_add")([shortcut, x])


def hourglass(x: KerasTensor, depth: int, name: str) -> KerasTensor:
    """Go down `depth` halvings and back up to the size of `x`, a skip connection at every level between.

    Source: Residual Attention Network, section 3.2 and figure 2. Sides are rounded up on the way down; on the
    way up, a map is resized to the size that it had, so that every image size works.
    """
    height, width, channels = x.shape[1:]
    name = f"{name}{depth}"
    x = layers.MaxPooling2D(3, 2, "same", name=f"{name}_pool")(x)
    x = unit(x, channels, f"{name}_down")
    if depth > 1:
        inner = hourglass(x, depth - 1, name[:-1])
        x = layers.Add(name=f"{name}_join")([unit(x, channels, f"{name}_skip"), inner])
    x = unit(x, channels, f"{name}_up")
    # Not layers.Resizing: its call defaults to training=True, and a model called without `training` inherits that.
    return ops.image.resize(x, (height, width), interpolation="bilinear")


def attention(x: KerasTensor, depth: int, name: str) -> KerasTensor:
    """Attention module of two branches: the mask M says where the trunk T counts more, (1 + M) * T.

    Source: Residual Attention Network, section 3.1 and equation 3, with p = 1, t = 2, r = 1. M is between 0
    and 1, so M * T alone would weaken the signal from module to module.

    Args:
        x: (batch, height, width, channels).
        depth: halvings in the mask branch.
        name: first part of the layers' names.

    Returns:
        The shape of `x`.
    """
    channels = x.shape[-1]
    x = unit(x, channels, f"{name}_before")
    trunk = unit(unit(x, channels, f"{name}_trunk1"), channels, f"{name}_trunk2")
    mask = hourglass(x, depth, f"{name}_level")
    for number in (1, 2):
        mask = conv(norm_relu(mask, f"{name}_mask{number}"), channels, 1, f"{name}_mask{number}")
    mask = layers.Activation("sigmoid", name=f"{name}_mask")(mask)
    masked = layers.Multiply(name=f"{name}_masked")([mask, trunk])
    x = layers.Add(name=f"{name}_add")([trunk, masked])
    return unit(x, channels, f"{name}_after")


EXPECTED = Expected(
    parameters_1000=31_883_432,
    statistics=72_704,
    multiply_adds=6.2688e9,
    stages={
        "stem": (56, 64),
        "residual1": (56, 256),
        "attention1": (56, 256),
        "residual2": (28, 512),
        "attention2": (28, 512),
        "residual3": (14, 1024),
        "attention3": (14, 1024),
        "residual4": (7, 2048),
    },
)


@register(
    Card(
        name="attention56",
        lesson=8,
        title="Attention-56",
        year=2017,
        paper="F. Wang et al., Residual Attention Network for Image Classification, CVPR 2017",
        idea="A second branch, shaped like an hourglass, learns a mask that says where the first one counts more.",
        parameters=29_842_628,
        min_side=32,
        preprocessing="pixels / 127.5 - 1",
        notes="Pre-activation units; masks of three, two and one halvings, resized bilinearly to the map that they "
        "weight. Batch-norm momentum 0.9, epsilon 1e-5; Glorot initialisation; no dropout; padding 'same', so "
        "that odd sides are rounded up. These constants are ours: the authors' network file has none.",
        norm_momentum=0.9,
        table1=table1(0.87, 0.89, 0.83, 0.1553, 0.1405, 0.0186),
        expected=EXPECTED,
    )
)
def attention56(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build Attention-56: three pairs of a residual unit and an attention module. Source: table 2.

    See `models.build`.
    """
    x = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(inputs)
    x = norm_relu(conv(x, 64, 7, "stem", strides=2), "stem")  # 120x160 becomes 60x80
    x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)  # 30x40
    for number, (width, strides, depth) in enumerate(STAGES, 1):  # then 30x40, 15x20, 8x10
        x = unit(x, width, f"residual{number}", strides)
        x = attention(x, depth, f"attention{number}")
    for number in (1, 2, 3):  # 4x5
        x = unit(x, 2048, f"residual4_unit{number}", strides=2 if number == 1 else 1)
    x = layers.GlobalAveragePooling2D(name="pool")(norm_relu(x, "last"))
    outputs = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="attention56")
